"""One kind of thing to take out of text: a pattern in linear time, and a check of what it finds.

Patterns are RE2 syntax over UTF-8 bytes, so none can be made slow by what a log says; what a look-around or a checksum
would say is the check's work, which looks at a bounded piece around the candidate.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import re2  # type: ignore[import-untyped]

Span = tuple[int, int]
Check = Callable[[bytes, int, int], Span | None]
"""(text, start, end) of a candidate -> the span to take out; None where the candidate is something else."""

SEPARATOR = r"(?:[ .-]|%20|\xc2\xa0|\xe2\x80[\x80-\x95\xaf])"
"""What people put between the groups of a number: blanks and dashes of all sorts, in UTF-8."""


RETRIES = 64
"""A refused candidate longer than this is left as a whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What to look for. The first group that took part in a match, else all of it, becomes a pseudonym.

    After a refused candidate the pattern is tried again one byte further on; after a long one, behind it, so that no
    text is read more often than `RETRIES` times.
    """

    kind: str
    """What the pseudonym is called: `ids.PSEUDONYM`."""
    pattern: str
    check: Check | None = None
    whole: bool = False
    """After a refused candidate the pattern is tried again behind it, not inside it."""
    sign: str | None = None
    """A cheaper pattern that every match holds; looked for first. Default: the pattern itself."""


def options() -> Any:
    """How patterns of ours are compiled: bytes, no message on stderr, room for the automaton."""
    found = re2.Options()
    found.encoding = re2.Options.Encoding.LATIN1
    found.log_errors = False
    found.max_mem = 64 << 20
    return found


def any_of(patterns: Iterable[str]) -> Any:
    """One pattern over bytes that finds something wherever one of these does."""
    found = options()
    found.never_capture = True
    return re2.compile("|".join(f"(?:{pattern})" for pattern in patterns).encode("latin-1"), found)


def compiled(pattern: str) -> Any:
    """A pattern over bytes. Raises re2.error."""
    return re2.compile(pattern.encode("latin-1"), options())


def spans(rule: Rule, pattern: Any, data: bytes) -> Iterator[Span]:
    """Where a rule says that something must go, in order, not overlapping."""
    groups = range(1, pattern.groups + 1)
    if rule.check is None:
        for match in pattern.finditer(data):
            yield _span(match, groups)
        return
    at = 0
    while at < len(data) and (match := pattern.search(data, at)) is not None:
        start, end = _span(match, groups)
        found = rule.check(data, start, end)
        if found is None:
            at = max(start + 1, match.start() + 1) if end - start <= RETRIES and not rule.whole else max(end, start + 1)
        else:
            yield found
            at = max(found[1], match.start() + 1)


def _span(match: Any, groups: range) -> Span:
    for group in groups:
        start, end = match.span(group)
        if start >= 0:
            return start, end
    start, end = match.span()
    return start, end


def digits(data: bytes) -> str:
    """The decimal digits of a piece of text; the digits of a percent escape are none of them."""
    return "".join(map(chr, filter(_is_digit, data.replace(b"%20", b" "))))


def _is_digit(byte: int) -> bool:
    return 48 <= byte <= 57


def alone(data: bytes, start: int, end: int, *, joints: bytes = b".-/:") -> bool:
    """Whether a number stands by itself: it does not go on, over a joint, with another digit on either side."""
    before = data[max(0, start - 2) : start]
    after = data[end : end + 2]
    if before[-1:].isalnum() or after[:1].isalnum():
        return False
    if before[-1:] == b"-" and not before[:-1].isalnum() and data[start:end].isdigit():
        return False  # a negative number
    if before[-1:] and before[-1:] in joints and before[:1].isdigit():
        return False
    return not (after[:1] and after[:1] in joints and after[1:].isdigit())
