"""What users say that tells how an answer went: patterns for DuckDB out of the phrases of `words.toml`."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tracemill.errors import ConfigError

SPOKEN = ("correction", "gave_up", "escalation", "acceptance")
_EDGE = r"[^\pL\pN]"


def languages() -> Mapping[str, Mapping[str, Any]]:
    """The phrases by language and signal."""
    return tomllib.loads((Path(__file__).parent / "words.toml").read_text(encoding="utf-8"))


def patterns(chosen: Sequence[str] = (), extra: Mapping[str, Sequence[str]] | None = None) -> dict[str, str]:
    """RE2 patterns by signal of the chosen languages, all where none is.

    `extra` are phrases of the operator's own. Raises ConfigError for an unknown language or signal.
    """
    known = languages()
    if wrong := sorted(set(chosen) - set(known)):
        raise ConfigError(f"unknown language {', '.join(wrong)}; known: {', '.join(known)}")
    if wrong := sorted(set(extra or {}) - set(SPOKEN)):
        raise ConfigError(f"words of {', '.join(wrong)}; known: {', '.join(SPOKEN)}")
    return {signal: _pattern(signal, [known[one] for one in chosen or known], extra or {}) for signal in SPOKEN}


def _pattern(signal: str, chosen: Sequence[Mapping[str, Any]], extra: Mapping[str, Sequence[str]]) -> str:
    whole = [one for one in chosen if one.get("whole", True)]
    bounded = _either([phrase for one in whole for phrase in one.get(signal, ())] + list(extra.get(signal, ())))
    start = _either([phrase for one in whole for phrase in one.get(f"{signal}_start", ())])
    free = _either([phrase for one in chosen if one not in whole for phrase in one.get(signal, ())])
    ways = [rf"(?:^|{_EDGE})(?:{bounded})(?:$|{_EDGE})"] if bounded else []
    ways += [rf"^\W*(?:{start})(?:$|{_EDGE})"] if start else []
    ways += [f"(?:{free})"] if free else []
    return "(?i)" + "|".join(ways)


def _either(phrases: Sequence[str]) -> str:
    return "|".join(_phrase(phrase) for phrase in sorted(set(phrases), key=lambda one: (-len(one), one)))


def _phrase(phrase: str) -> str:
    escaped = r"\s+".join(re.escape(word) for word in phrase.split())
    return escaped.replace("'", "['’´]?")
