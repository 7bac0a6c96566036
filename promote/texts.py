"""What a prompt artifact says, and what must not be said: secrets, personal data, unbound pseudonyms, logged sentences.

The patterns are a light second look at what is about to leave the house. Redaction at ingest is the first, and
thorough, one; what is found here was made up, memorised, or typed into a prompt by hand.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from tracemill.ids import PSEUDONYM

SENSITIVE: Mapping[str, re.Pattern[str]] = {
    "e-mail address": re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}\b"),
    "private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "AWS key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "API key": re.compile(r"\bsk-[A-Za-z0-9_-]{20,}"),
    "Google key": re.compile(r"\bAIza[0-9A-Za-z_-]{35}"),
    "GitHub token": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,})"),
    "Slack token": re.compile(r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"),
    "JSON web token": re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"),
    "bearer token": re.compile(r"\b[Bb]earer\s+[A-Za-z0-9._~+/-]{20,}"),
    "password in a URL": re.compile(r"\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@]{1,64}:[^\s/@]{3,64}@"),
}
_WORD = re.compile(r"\w+")


def sensitive(text: str) -> dict[str, str]:
    """What looks like a secret or an e-mail address in `text`: the finding -> its kind."""
    return {match: kind for kind, pattern in SENSITIVE.items() for match in pattern.findall(text)}


def strings(value: Any) -> Iterator[str]:
    """Every string inside a JSON value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key)
            yield from strings(inner)
    elif isinstance(value, Iterable):
        for inner in value:
            yield from strings(inner)


def pseudonyms(prompts: Sequence[Mapping[str, Any]], *, kept: Collection[str] = ()) -> list[str]:
    """Pseudonyms that prompt artifacts carry as constant text, less those the operator has `kept` by rule."""
    found = {match.group() for text in strings(prompts) for match in PSEUDONYM.finditer(text)}
    return sorted(found - set(kept))


def instructions(prompt: Mapping[str, Any]) -> list[str]:
    """The constant text of each message of a prompt artifact; its pool of demonstrations is not part of it."""
    found = []
    for item in prompt["messages"]:
        content = item.get("content")
        pieces = [content] if isinstance(content, str) else content or []
        found.append("\n".join(piece for piece in pieces if isinstance(piece, str)))
    return [text for text in found if text]


def demonstrations(prompt: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list((prompt.get("demonstrations") or {}).get("pool", []))


def word_runs(text: str, length: int) -> Iterator[str]:
    """Every run of `length` words, lower case and without punctuation."""
    words = _WORD.findall(text.lower())
    for start in range(len(words) - length + 1):
        yield " ".join(words[start : start + length])


def copied(runs: Collection[str], logged_texts: Sequence[str], *, length: int, common_from: int) -> set[str]:
    """Those of `runs` that occur in a logged text, but in fewer than `common_from` distinct ones.

    What many logged texts say is a common phrase or a form; what one or two say is somebody's own words.
    """
    if not runs:
        return set()
    wanted, seen = set(runs), dict.fromkeys(runs, 0)
    for text in set(logged_texts):
        for run in wanted & set(word_runs(text, length)):
            seen[run] += 1
    return {run for run, count in seen.items() if 0 < count < common_from}
