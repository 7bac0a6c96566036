"""Takes secrets and e-mail addresses out of text before anything is written, leaving consistent pseudonyms.

A pseudonym (`tracemill.ids.PSEUDONYM`) is a keyed hash: equal values look equal all over the lake, and nobody without
the lake's key can guess a value from it. JSON escapes (`bob\\u0040example.org`, `https:\\/\\/…`) are seen through, also
in JSON inside strings, however often it was encoded.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from tracemill.ids import keyed_id

_CACHE_NAMES = 10_000
_CACHE_CHARS = 32_000_000
"""The cache of redacted strings is emptied when it holds this many characters."""

# A token may follow an escaped control character in JSON text (`\nsk-…`): the escape's letter is no part of it.
_START = r"(?:(?<=\\[nrtbf])|(?<![A-Za-z0-9_\\]))"
_KNOWN = r"(?!\[(?:EMAIL|SECRET|USER)_[0-9a-f]{8}\])"
_SECRET_NAME = (
    r"(?:pass(?:word|wd|phrase)|pwd|secret(?:[_-]?(?:access[_-]?)?key)?|client[_-]?secret|api[_-]?key|x-api-key|"
    r"private[_-]?key|(?:access|auth|refresh|session|id|api|bearer)[_-]?token|authorization|account[_-]?key)"
)


@dataclass(frozen=True, slots=True)
class _Rule:
    """What to look for. A text is searched only if it holds one of `signs` and one of `markers` (lower case)."""

    kind: str
    signs: str
    markers: tuple[str, ...]
    pattern: re.Pattern[str]
    """Group 1 stays, group 2 becomes a pseudonym."""


def _rule(kind: str, signs: str, markers: str, pattern: str, flags: int = 0) -> _Rule:
    return _Rule(kind, signs, tuple(markers.split("|")), re.compile(pattern, flags))


_RULES = (
    _rule(
        "SECRET",
        "-",
        "-----begin",
        r"()(-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----[\s\S]*?"
        r"(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\Z))",
    ),
    _rule("SECRET", ".", "eyj", r"()(eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*)"),
    _rule("SECRET", "-", "sk-|pk-|rk-", rf"()({_START}(?:sk|pk|rk)-(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{{16,}})"),
    _rule(
        "SECRET",
        "_",
        "sk_live|sk_test|rk_live|rk_test|whsec_",
        r"()((?:(?:sk|rk)_(?:live|test)|whsec)_[A-Za-z0-9]{10,})",
    ),
    _rule("SECRET", "_", "gh|github_pat_", r"()(gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})"),
    _rule("SECRET", "", "akia|asia", rf"()({_START}(?:AKIA|ASIA)[A-Z0-9]{{16}}(?![A-Za-z0-9]))"),
    _rule("SECRET", "", "aiza|ya29.", r"()(AIza[A-Za-z0-9_-]{30,}|ya29\.[A-Za-z0-9_-]{20,})"),
    _rule("SECRET", "-", "xox|xapp-", r"()((?:xox[abeoprs]|xapp)-[A-Za-z0-9-]{10,})"),
    _rule(
        "SECRET",
        "_",
        "hf_|gsk_|npm_|dop_v1_|shpat_|lsv2_|r8_",
        rf"()({_START}(?:(?:hf|gsk|npm|dop_v1|shpat|r8)_[A-Za-z0-9]{{20,}}|lsv2_(?:pt|sk)_[A-Za-z0-9_]{{20,}}))",
    ),
    _rule(
        "SECRET",
        "-",
        "glpat-|pypi-|pplx-|tvly-|xai-|sq0",
        rf"()({_START}(?:(?:glpat|pypi|pplx|tvly|xai)-[A-Za-z0-9_-]{{16,}}|sq0[a-z]{{3}}-[A-Za-z0-9_-]{{20,}}))",
    ),
    _rule("SECRET", ".", "sg.", rf"()({_START}SG\.[A-Za-z0-9_-]{{16,}}\.[A-Za-z0-9_-]{{16,}})"),
    _rule("SECRET", "@", "://", rf"([A-Za-z][A-Za-z0-9+.-]*://[^\s/@:\"'<>]*:){_KNOWN}([^\s/@\"'<>]+)(?=@)"),
    _rule(
        "SECRET",
        "",
        "bearer|basic",
        rf"((?:(?<=\\[nrtbf])|\b)(?:bearer|basic)\s+){_KNOWN}([A-Za-z0-9._~+/=-]{{12,}})",
        re.IGNORECASE,
    ),
    _rule(
        "SECRET",
        ":=",
        "pass|pwd|secret|key|token|authorization",
        rf"({_SECRET_NAME}(?:\\*[\"'])?\s*(?::=|=>|[:=])\s*(?:\\*[\"'])?)"
        rf"{_KNOWN}(?!(?:bearer|basic)\s)([^\s\"'\\,;&<>{{}}()\[\]]{{4,}})",
        re.IGNORECASE,
    ),
    _rule(
        "EMAIL",
        "@",
        "@",
        r"()((?:(?<=\\[nrtbf])|(?<![A-Za-z0-9._%+\\-]))[A-Za-z0-9_%+](?:[A-Za-z0-9._%+-]{0,62}[A-Za-z0-9_%+-])?"
        r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,24})",
    ),
)

_SIGNS = "".join(sorted({sign for rule in _RULES for sign in rule.signs}))
_SENSITIVE_KEY = re.compile(rf"(?:^|[^a-z]){_SECRET_NAME}$", re.IGNORECASE)
_LONE = re.compile("[\ud800-\udfff]")
_ESCAPE = re.compile(r"\\+u00([2-7][0-9a-fA-F])|\\+(/)")


def _unescape(match: re.Match[str]) -> str:
    if match.group(2):
        return "/"
    char = chr(int(match.group(1), 16))
    return match.group(0) if char in '"\\\x7f' else char


class Redactor:
    """Redacts strings and JSON-like values under one key. Holds a cache, so make one per batch, not one per string."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._cache: dict[str, str] = {}
        self._cached_chars = 0
        self._names: dict[Any, bool] = {}
        self.hits = 0
        """How many strings came out changed so far; compare before and after to know whether a row was touched."""

    def text(self, text: str) -> str:
        """The text without secrets and addresses, and always encodable as UTF-8."""
        if len(text) < 6:
            return text if text.isascii() else encodable(text)
        found = self._cache.get(text)
        if found is None:
            found = self._redact(encodable(text))
            self._cached_chars += len(text)
            if self._cached_chars > _CACHE_CHARS:
                self._cache.clear()
                self._cached_chars = len(text)
            self._cache[text] = found
        if found is not text and found != text:
            self.hits += 1
        return found

    def maybe(self, text: str | None) -> str | None:
        return None if text is None else self.text(text)

    def value(self, value: Any) -> Any:
        """A JSON-like value with every string in it redacted, keys too; what is no JSON becomes text."""
        if isinstance(value, str):
            return self.text(value)
        if value is None or isinstance(value, bool | int):
            return value
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

    def user_key(self, user: Any) -> str | None:
        """The pseudonym of a user id; the id itself is never written."""
        return None if user is None or user == "" else keyed_id(self._key, "user", str(user))

    def _keyed(self, key: Any, value: Any) -> Any:
        if isinstance(value, str) and len(value) >= 4 and self._telling(key):
            self.hits += 1
            inner = self._redact(encodable(value))
            return inner if inner != value else self._pseudonym("SECRET", value)
        return self.value(value)

    def _telling(self, key: Any) -> bool:
        """Whether a name says that its value is a secret."""
        known = self._names.get(key)
        if known is None:
            if len(self._names) > _CACHE_NAMES:
                self._names.clear()
            known = self._names[key] = _SENSITIVE_KEY.search(str(key)) is not None
        return known

    def _redact(self, text: str) -> str:
        plain = text
        if "\\" in text:
            plain = _ESCAPE.sub(_unescape, text)
        low = plain.lower()
        out = plain
        signs = {sign: sign in plain for sign in _SIGNS}
        for rule in _RULES:
            if rule.signs and not any(signs[sign] for sign in rule.signs):
                continue
            for marker in rule.markers:
                if marker in low:
                    out = rule.pattern.sub(self._replace(rule.kind), out)
                    break
        return text if out == plain else out

    def _replace(self, kind: str) -> Callable[[re.Match[str]], str]:
        return lambda match: match.group(1) + self._pseudonym(kind, match.group(2))

    def _pseudonym(self, kind: str, value: str) -> str:
        if kind == "EMAIL":
            value = value.lower()
        return f"[{kind}_{keyed_id(self._key, kind, value)[:8]}]"


def encodable(text: str) -> str:
    """Lone surrogates, which no file can hold, become U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return _LONE.sub("�", text)
    return text
