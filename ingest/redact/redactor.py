"""The redactor: strings and JSON-like values without what the rules find, under one key.

JSON escapes (`bob\\u0040example.org`, `https:\\/\\/…`) are seen through, also in JSON inside strings, however often it
was encoded. All rules look at the text as it came; where their findings overlap, one pseudonym stands for all of them.
"""

import math
import re
from bisect import bisect_right
from collections.abc import Collection, Iterable
from functools import lru_cache
from itertools import accumulate
from typing import Any

import msgspec

from tracemill.errors import ConfigError
from tracemill.ids import PSEUDONYM, keyed_id
from tracemill.ingest.redact.contacts import TELLING_PHONE
from tracemill.ingest.redact.escapes import blanked, unescaped
from tracemill.ingest.redact.national import TELLING_ID
from tracemill.ingest.redact.network import canonical as canonical_address
from tracemill.ingest.redact.numbers import TELLING_CARD
from tracemill.ingest.redact.policy import KEEP, Ruleset
from tracemill.ingest.redact.rules import digits, spans
from tracemill.ingest.redact.secrets import LEAST_RANDOM, SCHEME, TELLING, is_no_value, looks_random, loosely_telling
from tracemill.ingest.redact.uris import unsigned

_CACHE_NAMES = 10_000
_CACHE_CHARS = 32_000_000
"""The cache of redacted strings is emptied when it holds this many characters, each string's own weight included."""
_STRING_WEIGHT = 150
_LEAST_NUMBER = 10**10
HARD, FLOATS = 1, 2
"""What `Redactor.gather` says of a value."""
_SHORT = 64
"""Texts up to this length are known again as clean: names and ids that many rows share."""
_SHORTEST = 6
"""No rule of ours finds anything in less."""
MAX_TEXT = 32 * 1024 * 1024

_LONE = re.compile("[\ud800-\udfff]")
_LONG_RUN = re.compile(r"[A-Za-z0-9+/_-]{20,}+={0,2}")
_PHONE_LIKE = re.compile(r"\+?[0-9 ()./-]{7,24}")
_ID_LIKE = re.compile(r"[A-Za-z0-9 ./-]{5,24}")
_PIN = re.compile(r"(?:pass(?:word|code|wd)|pwd|pin(?:[_-]?code)?|cvv2?|cvc2?)$", re.IGNORECASE)
_Found = tuple[int, int, int, str]
"""Start, end, rank (the smaller gives its name), kind."""


@lru_cache(maxsize=1)
def standard() -> Ruleset:
    """The rules of a project that settles nothing."""
    return Ruleset()


class Redactor:
    """Redacts strings and JSON-like values under one key. Holds a cache, so make one per batch, not one per string."""

    def __init__(self, key: bytes, rules: Ruleset | None = None, *, max_text: int = MAX_TEXT) -> None:
        self._key = key
        self._rules = rules or standard()
        self._max_text = max_text
        self._shortest = 1 if self._rules.own else _SHORTEST
        self._cache: dict[str, str] = {}
        self._cached_chars = 0
        self._names: dict[Any, str | None] = {}
        self._clean: set[str] = set()
        self.hits = 0
        """How many strings came out changed so far; compare before and after to know whether a row was touched."""

    @property
    def version(self) -> str:
        """Names the rules: Ruleset.version."""
        return self._rules.version

    def text(self, text: str) -> str:
        """The text without what the rules find, and always encodable as UTF-8.

        Raises ValueError on a text longer than the limit.
        """
        if len(text) < self._shortest:
            return text if text.isascii() else encodable(text)
        found = self._cache.get(text)
        if found is None:
            if len(text) > self._max_text:
                raise ValueError(f"a text of {len(text)} characters is longer than the limit of {self._max_text}")
            found = self._redact(encodable(text))
            self._cached_chars += len(text) + _STRING_WEIGHT
            if self._cached_chars > _CACHE_CHARS:
                self._cache.clear()
                self._cached_chars = len(text)
            self._cache[text] = found
        if found is not text and found != text:
            self.hits += 1
        return found

    def changed(self, texts: Iterable[str]) -> set[str]:
        """Those of the texts that `text` would not leave as they are; nothing counts as a hit.

        All of them are looked at in one pass, so that many texts cost little more than their length.
        """
        unknown = {text for text in texts if len(text) >= self._shortest or not text.isascii()} - self._clean
        before = self.hits
        found = {text for text in self._unsure(unknown) if self.text(text) != text}
        self.hits = before
        if len(self._clean) > _CACHE_NAMES:
            self._clean.clear()
        self._clean.update(text for text in unknown - found if len(text) <= _SHORT)
        return found

    def _unsure(self, texts: Collection[str]) -> Collection[str]:
        """The texts that the rules have to look at one by one."""
        if not self._rules.by_pattern:
            return texts
        listed = list(texts)
        try:
            pieces = [blanked(unescaped(text).encode()) if "\\" in text else text.encode() for text in listed]
        except UnicodeEncodeError:
            return texts
        ends = list(accumulate(len(piece) + 1 for piece in pieces))
        found: dict[str, None] = {}
        last = -1
        for start, end in self._rules.places(b"\n".join(pieces)):
            at = bisect_right(ends, start)
            while at < len(ends) and (ends[at - 1] if at else 0) < end:
                if at > last:
                    found[listed[at]] = None
                    last = at
                at += 1
        found.update(dict.fromkeys(text for text in listed if len(text) > self._max_text))
        return found

    def gather(self, value: Any, texts: list[str]) -> int:
        """Adds the texts that decide whether `value` would change a value, keys too.

        Returns bits: HARD where more than these texts decides, FLOATS where there are numbers with a fraction.
        """
        kind = type(value)
        if kind is str:
            texts.append(value)
            return 0
        if kind is dict:
            found = 0
            for name, inner in value.items():
                texts.append(name)
                found |= self.gather_keyed(name, inner, texts)
            return found
        if kind is list:
            found = 0
            for inner in value:
                found |= self.gather(inner, texts)
            return found
        if kind is int:
            return HARD if value >= _LEAST_NUMBER else 0
        if kind is float:
            return FLOATS if math.isfinite(value) else HARD
        return 0 if value is None or kind is bool else HARD

    def gather_keyed(self, name: str, value: Any, texts: list[str]) -> int:
        """As `gather`, for a value that has a name; the name itself is not added."""
        kind = type(value)
        if kind is str or kind is int:
            telling = self._names[name] if name in self._names else self._telling(name)
            if telling is not None and (telling != "RANDOM" or len(str(value)) >= LEAST_RANDOM):
                return HARD
            if kind is str:
                texts.append(value)
                return 0
        return self.gather(value, texts)

    def tells(self, name: Any) -> bool:
        """Whether a name may tell that its value has to go; if not, the value is judged by itself."""
        return (self._names[name] if name in self._names else self._telling(name)) is not None

    def maybe(self, text: str | None) -> str | None:
        return None if text is None else self.text(text)

    def value(self, value: Any) -> Any:
        """A JSON-like value with every string in it redacted, keys too; what is no JSON becomes text."""
        if isinstance(value, str):
            return self.text(value)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return self._number(value)
        if isinstance(value, float):
            return value if math.isfinite(value) else str(value)
        if isinstance(value, dict):
            return {self.text(str(k)): self._keyed(k, v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        if isinstance(value, bytes):
            return self.text(value.hex())
        return self.text(str(value))

    def json(self, value: Any) -> str | None:
        """The JSON text of a value, redacted; None for None."""
        return None if value is None else msgspec.json.encode(self.value(value)).decode()

    def excerpt(self, text: str) -> str:
        """A piece of something that could not be read, without long runs that look drawn at random either.

        A secret in it may have lost what tells it elsewhere: its first line, or its name.
        """
        found = self.text(text)
        if "secret" not in self._rules.kinds:
            return found
        return _LONG_RUN.sub(
            lambda match: self._pseudonym("SECRET", match[0]) if looks_random(match[0].encode()) else match[0], found
        )

    def uri(self, uri: str) -> str:
        """A source's URI as it is written: without the parameters that sign it, otherwise redacted like any text."""
        return self.text(unsigned(uri))

    def identifier(self, text: str) -> str:
        """An id of the source: itself, or where it holds something private a keyed hash that no other id shares."""
        before = self.hits
        found = self.text(text)
        self.hits = before  # nothing was taken away that anyone reads
        return text if found == text else keyed_id(self._key, "id", text)

    def target(self, kind: str, text: str) -> str:
        """What a score of this kind is about, named as the rows that it is about are."""
        if kind in ("session", "response"):
            return self.text(text)
        if kind == "step":
            trace, slash, step = text.rpartition("/")
            return self.identifier(trace) + slash + step if slash and step.isdigit() else self.identifier(text)
        return self.identifier(text) if kind in ("span", "trajectory") else self.text(text)

    def user_key(self, user: Any) -> str | None:
        """The pseudonym of a user id; the id itself is never written."""
        return None if user is None or user == "" else keyed_id(self._key, "user", str(user))

    def _number(self, value: int) -> int | str:
        """Numbers long enough to be a card's or a person's go like their digits would."""
        if not _LEAST_NUMBER <= value < 10**19:
            return value
        text = str(value)
        found = self.text(text)
        return value if found == text else found

    def _keyed(self, key: Any, value: Any) -> Any:
        if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
            telling = self._telling(key)
            if telling is not None and (found := self._told(telling, str(value))) is not None:
                self.hits += 1
                return found
        return self.value(value)

    def _told(self, telling: str, text: str) -> str | None:
        """What becomes of a value because its name tells what it is; None where it is judged like any other."""
        text = encodable(text)
        if PSEUDONYM.fullmatch(text):
            return None
        number = digits(text.encode())
        if telling == "PIN":
            return self._pseudonym("SECRET", text) if len(text) >= 3 and not is_no_value(text) else None
        if telling == "SECRET":
            scheme = SCHEME.match(text)
            opening, rest = (scheme.group(), text[scheme.end() :]) if scheme else ("", text)
            if len(rest) < 4 or rest.isdigit() or is_no_value(rest) or PSEUDONYM.fullmatch(rest):
                return None
            return opening + self._pseudonym("SECRET", rest)
        if telling == "RANDOM":
            return self._pseudonym("SECRET", text) if looks_random(text.encode()) else None
        if telling == "PHONE":
            ok = 7 <= len(number) <= 15 and _PHONE_LIKE.fullmatch(text)
        elif telling == "CARD":
            ok = 12 <= len(number) <= 19 and _PHONE_LIKE.fullmatch(text)
        else:
            ok = len(number) >= 5 and _ID_LIKE.fullmatch(text)
        return self._pseudonym(telling, text) if ok else None

    def _telling(self, key: Any) -> str | None:
        """What a name says that its value is."""
        if key in self._names:
            return self._names[key]
        if len(self._names) > _CACHE_NAMES:
            self._names.clear()
        name, kinds, known = str(key)[-100:], self._rules.kinds, None
        if "secret" in kinds and TELLING.search(name):
            known = "PIN" if _PIN.search(name) else "SECRET"
        elif "secret" in kinds and loosely_telling(name):
            known = "RANDOM"
        elif "phone" in kinds and TELLING_PHONE.search(name):
            known = "PHONE"
        elif "card" in kinds and TELLING_CARD.search(name):
            known = "CARD"
        elif "national_id" in kinds and TELLING_ID.search(name):
            known = "ID"
        self._names[key] = known
        return known

    def _redact(self, text: str) -> str:
        plain = unescaped(text)
        data = plain.encode()
        seen = blanked(data)
        found: list[_Found] = []
        for rank, rule, pattern in self._rules.matching(seen):
            found.extend((start, end, rank, rule.kind) for start, end in spans(rule, pattern, seen))
        if self._rules.detector is not None and " " in plain:
            found.extend(self._detected(plain))
        if not found:
            return text
        out, at = [], 0
        for start, end, _, kind in _resolved(found):
            value = data[start:end].decode("utf-8", "replace")
            if kind == KEEP or value.lower() in self._rules.keep:
                continue
            out += [data[at:start], _written(data, start, end, self._pseudonym(kind, value).encode())]
            at = end
        if not at:
            return text
        return b"".join([*out, data[at:]]).decode("utf-8", "replace")

    def _detected(self, plain: str) -> list[_Found]:
        """What the detector finds, in bytes."""
        detector = self._rules.detector
        assert detector is not None
        found = []
        for start, end, kind in detector.find(plain):
            if PSEUDONYM.fullmatch(f"[{kind}_00000000]") is None:
                raise ConfigError(f"the detector {detector.version} names a kind {kind!r}; known: NAME, X_…")
            if not plain.isascii():
                end = len(plain[:end].encode())
                start = len(plain[:start].encode())
            found.append((start, end, 1_000_000, kind))
        return found

    def _pseudonym(self, kind: str, value: str) -> str:
        return f"[{kind}_{keyed_id(self._key, kind, _normal(kind, value))[:8]}]"


def _resolved(found: list[_Found]) -> list[_Found]:
    """Findings that do not overlap, in order: those that did are one, named by the first of their rules."""
    found.sort(key=lambda item: (item[0], item[2]))
    kept: list[_Found] = []
    for item in found:
        if not kept or item[0] >= kept[-1][1]:
            kept.append(item)
            continue
        last = kept[-1]
        if item[1] <= last[1] and (last[3] == KEEP or item[2] >= last[2]):
            continue
        if item[3] == "EMAIL" and last[3] == "SECRET":
            continue  # the "address" is a password and the host behind it
        first = min((x for x in (last, item) if x[3] != KEEP), key=lambda x: x[2])
        kept[-1] = (last[0], max(last[1], item[1]), first[2], first[3])
    return kept


def _written(data: bytes, start: int, end: int, pseudonym: bytes) -> bytes:
    """A pseudonym that takes the place of a bare number in JSON text is a string there, or the JSON would be broken."""
    if not data[start:end].isdigit():
        return pseudonym
    before = data[max(0, start - 256) : start]
    opening, after = before.rstrip()[-1:], data[end : end + 16].lstrip()[:1]
    member = opening == b":" and before.rstrip()[:-1].rstrip().endswith(b'"') and after in (b",", b"}", b"\\", b"")
    element = opening in (b",", b"[") and after in (b",", b"]") and data[:64].lstrip()[:1] in (b"[", b"{", b'"')
    if not member and not element:
        return pseudonym
    at = before.rfind(b'"')
    # Escaped as often as the nearest quote: that of the member's name, or of the array's.
    quote = before[len(before[:at].rstrip(b"\\")) : at + 1] if at >= 0 else b'"'
    return quote + pseudonym + quote


def _normal(kind: str, value: str) -> str:
    """The writing by which equal values are known as equal."""
    if kind == "EMAIL":
        plain = value.lower().replace("%2e", ".").replace("%40", "@")
        return plain.replace("&#64;", "@").replace("&#x40;", "@")
    if kind == "PHONE":
        number = digits(value.encode())
        return "+" + number if value.startswith(("+", "%2")) else number
    if kind in ("CARD", "IBAN", "ID"):
        return re.sub(r"%20|[^A-Za-z0-9]", "", value).upper()
    return canonical_address(value) if kind == "IP" else value


def encodable(text: str) -> str:
    """Lone surrogates, which no file can hold, become U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return _LONE.sub("�", text)
    return text
