"""What a project takes out: kinds, own patterns, what stays, a detector of names; compiled once, named by content."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import re2  # type: ignore[import-untyped]

from tracemill.ids import PSEUDONYM, content_id
from tracemill.ingest.redact import contacts, national, network, numbers, secrets
from tracemill.ingest.redact.detectors import Detector, detector
from tracemill.ingest.redact.rules import Rule, Span, any_of, compiled, options

REVISION = 1
"""Raised when a check or the way of writing pseudonyms changes; patterns count by themselves."""

KINDS: Mapping[str, tuple[Rule, ...]] = {
    "secret": secrets.RULES,
    "iban": numbers.IBAN,
    "card": numbers.CARD,
    "email": contacts.EMAIL,
    "national_id": national.NATIONAL_ID,
    "phone": contacts.PHONE,
    "ip": network.IP,
}
"""What can be taken out by pattern. Where two find the same, the first gives its name."""

KEEP = "KEEP"
_GIVEN = Rule(kind=KEEP, pattern=PSEUDONYM.pattern.replace("(", "(?:"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Redaction:
    """What is taken out of logs before anything is written. The default is every kind."""

    kinds: tuple[str, ...] = tuple(KINDS)
    extra: Mapping[str, str] = field(default_factory=dict)
    """Name -> pattern (RE2 syntax) of what else must go; its pseudonyms are `[X_NAME_…]`. Group 1, where there is
    one, is what goes."""
    keep: tuple[str, ...] = ()
    """Texts that stay although a pattern finds them, such as the address of one's own support desk."""
    names: str | None = None
    """A detector of people's names: "presidio", "gliner", or "module:Class" of one's own."""
    names_options: Mapping[str, Any] = field(default_factory=dict)
    keep_landing: bool = False
    """Whether files of the collector stay where they landed, as they came, after they were taken in."""

    def __post_init__(self) -> None:
        """Raises ValueError on an unknown kind and on a pattern that cannot be used."""
        unknown = sorted(set(self.kinds) - set(KINDS))
        if unknown:
            raise ValueError(f"kinds: unknown {', '.join(unknown)}; known: {', '.join(KINDS)}")
        for name, pattern in self.extra.items():
            _own(name, pattern)


class Ruleset:
    """A Redaction made ready: compiled patterns and the detector. Immutable, and costly to make: make one per run.

    Raises ConfigError where the detector of names cannot be made, MissingExtraError where it is not installed.
    """

    def __init__(self, redaction: Redaction | None = None) -> None:
        redaction = redaction or Redaction()
        ours = [rule for kind, rules in KINDS.items() if kind in redaction.kinds for rule in rules]
        self.kinds = frozenset(redaction.kinds)
        self.keep = frozenset(text.lower() for text in redaction.keep)
        self.detector: Detector | None = (
            None if redaction.names is None else detector(redaction.names, redaction.names_options)
        )
        self._ours = tuple((rule, compiled(rule.pattern)) for rule in (_GIVEN, *ours))
        self.own = tuple(_own(name, pattern) for name, pattern in sorted(redaction.extra.items()))
        """The project's own rules."""
        self.version = content_id(
            "redaction",
            REVISION,
            [[rule.kind, rule.pattern] for rule, _ in (*self._ours, *self.own)],
            sorted(self.kinds),
            sorted(self.keep),
            None if self.detector is None else self.detector.version,
        )
        """Content id of all of it: batches with the same version were redacted alike."""
        self._set = re2.Set.SearchSet(options())
        self._set.Add(b"")  # always found: a set that ran out of memory finds nothing, not even this
        for rule, _ in self._ours:
            self._set.Add((rule.sign or rule.pattern).encode("latin-1"))
        self._set.Compile()
        self._anywhere = any_of(rule.sign or rule.pattern for rule, _ in self._ours)

    @property
    def by_pattern(self) -> bool:
        """Whether rules of ours find all that is found: nothing that is a project's own looks too."""
        return not self.own and self.detector is None

    def places(self, data: bytes) -> Iterator[Span]:
        """Where a rule of ours may find something: each finding in a text overlaps a place in it.

        Holds too for texts that stand between others, apart by line breaks: no pattern asks for the end of a text, and
        a word ends at a line break as it does there.
        """
        return (match.span() for match in self._anywhere.finditer(data))

    def matching(self, data: bytes) -> Iterator[tuple[int, Rule, Any]]:
        """Rank, rule and compiled pattern of what may occur in a text: one pass for all rules of ours."""
        found = self._set.Match(data)
        for rank in sorted(at - 1 for at in found if at) if found else range(len(self._ours)):
            yield rank, *self._ours[rank]
        for rank, (rule, pattern) in enumerate(self.own, start=len(self._ours)):
            yield rank, rule, pattern


def _own(name: str, pattern: str) -> tuple[Rule, Any]:
    """A project's own rule; its pattern reads characters where ours read bytes."""
    label = name.upper().replace("-", "_")
    if PSEUDONYM.fullmatch(f"[X_{label}_00000000]") is None:
        raise ValueError(f"extra: {name!r}: a name is 1 to 24 letters, digits and _")
    reads = re2.Options()
    reads.log_errors = False
    reads.max_mem = 64 << 20
    try:
        made = re2.compile(pattern.encode(), reads)
    except re2.error as error:
        reason = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
        raise ValueError(
            f"extra: {name} = {pattern!r}: {reason}; patterns are RE2's: no look-around, no back-references"
        ) from error
    if made.search(b"") is not None:
        raise ValueError(f"extra: {name} = {pattern!r}: it matches the empty text, and so everywhere")
    return Rule(kind=f"X_{label}", pattern=pattern), made
