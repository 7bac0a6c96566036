"""Rung zero of the evaluation ladder: what is wrong with an artifact, seen without asking any model."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tracemill.ids import PSEUDONYM, canonical_json
from tracemill.optimize.artifact import PRODUCTION_SOURCE, pool_of, slots_of
from tracemill.optimize.components import MOST_CHARS, descriptions
from tracemill.records import Artifact, Case

_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_SECRET = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|\bsk-[A-Za-z0-9_-]{16,}|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}|\bAKIA[0-9A-Z]{16}\b"
    r"|\bxox[abprs]-[A-Za-z0-9-]{10,}|\bAIza[\w-]{30,}|\bglpat-[\w-]{16,}|\bhf_[A-Za-z0-9]{20,}"
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}"
    r"|(?i:\b(?:api[_-]?key|secret|password|passwd|access[_-]?token)\b\s*[=:]\s*['\"]?[^\s'\"]{8,})"
)
_CARD = re.compile(r"\b[2-6]\d(?:[ -]?\d){11,17}\b")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
_PHONE = re.compile(r"(?<![\w+])\+\d(?:[ ()./-]{0,2}\d){7,14}\b")


def _luhn(number: str) -> bool:
    digits = [int(one) for one in number if one.isdigit()]
    return sum(sum(divmod(one * (1 + place % 2), 10)) for place, one in enumerate(reversed(digits))) % 10 == 0


def _mod97(account: str) -> bool:
    text = account.replace(" ", "")
    return int("".join(str(int(one, 36)) for one in text[4:] + text[:4])) % 97 == 1


def _any(found: str) -> bool:
    return True


_PRIVATE: tuple[tuple[str, re.Pattern[str], Callable[[str], bool]], ...] = (
    ("a pseudonym", PSEUDONYM, _any),
    ("an e-mail address", _EMAIL, _any),
    ("a secret", _SECRET, _any),
    # Order numbers look alike, and do not add up.
    ("a card number", _CARD, _luhn),
    ("a bank account", _IBAN, _mod97),
    ("a telephone number", _PHONE, _any),
)
_URL = re.compile(
    r"(?:\b[a-z][a-z0-9+.-]{1,20}://|\bwww\.|\b(?:[a-z0-9-]{1,63}\.){1,5}[a-z]{2,24}/)[^\s)>\]\"']*", re.IGNORECASE
)
_GRADER = re.compile(
    r"\b(?:grad(?:er|ers|ing)|graded|scor(?:e|es|ed|er|ing)|rewards?|rewarded|judges?|judged|evaluat(?:e|ed|or|ion)s?"
    r"|benchmarks?|test[ -]?cases?|ground[ -]truth|metrics?|points for)\b",
    re.IGNORECASE,
)
_INJECTION = re.compile(
    r"\b(?:ignore|disregard|forget)\b[^.\n]{0,40}\b(?:previous|prior|above|earlier)\b[^.\n]{0,40}"
    r"\b(?:instructions?|prompts?|rules?)\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"\w+")
_COPIED_WORDS = 12
_FORM = ("response_format", "tool_choice", "parallel_tool_calls")
"""Parameters of a call that whoever reads its answers relies on."""
TokenCount = Callable[[str], int]
"""Tokens of a text, by the model's own tokenizer."""


def lint(
    artifact: Artifact,
    *,
    baseline: Artifact,
    cases: Sequence[Case] = (),
    max_chars: int = 48_000,
    max_tokens: int = 12_000,
    count: TokenCount | None = None,
) -> list[str]:
    """Objections, one sentence each; [] where there is none. Pure: equal arguments, equal answer.

    Of instructions only what differs from the baseline is objected to, except that personal data and secrets are
    objected to wherever they are constant text. `cases` are the logs that instructions must not copy from;
    demonstrations are copies by nature, so they must say which trajectory they come from. Tools may be described in
    other words, though not in none or too many; their names and parameters are production's. The prompt with its
    longest demonstrations, slot values not counted, has at most `max_tokens` tokens by `count`, or `max_chars`
    characters where no tokenizer is known.
    """
    return [
        *_shape(artifact, baseline),
        *_descriptions_of_tools(artifact, baseline),
        *_private(artifact),
        *_added(artifact, baseline),
        *_copied(artifact, baseline, cases),
        *_demonstrations(artifact, baseline),
        *(_size(artifact, baseline, max_chars) if count is None else _tokens(artifact, baseline, max_tokens, count)),
    ]


def demonstration_sources(artifact: Artifact) -> list[str]:
    """Where each demonstration was copied from, for the reader of a diff."""
    return [
        f"demonstration {number} is {'production’s own' if source == PRODUCTION_SOURCE else f'a copy of {source}'}"
        for number, source in enumerate((demo.get("source") for demo in pool_of(artifact)), start=1)
    ]


def _shape(artifact: Artifact, baseline: Artifact) -> Iterator[str]:
    have, need = _slots(artifact), _slots(baseline)
    for slot in sorted(need - have):
        yield f"slot {slot!r} of production's prompt is gone"
    for slot in sorted(have - need):
        yield f"slot {slot!r} is new: production gives it no value"
    items = artifact.prompt["messages"]
    if pool_of(artifact) and sum(bool(item.get("demonstrations")) for item in items) != 1:
        yield "demonstrations are carried but have not exactly one place in the prompt"
    if _undescribed(artifact.prompt.get("tools") or None) != _undescribed(baseline.prompt.get("tools") or None):
        yield "the tool definitions differ from production's in more than their descriptions"
    asked, before = artifact.prompt.get("params") or {}, baseline.prompt.get("params") or {}
    for name in _FORM:
        if asked.get(name) != before.get(name):
            yield f"{name} differs from production's: whoever reads the answers relies on it"


def _descriptions_of_tools(artifact: Artifact, baseline: Artifact) -> Iterator[str]:
    before, slots = descriptions(baseline), _slots(baseline)
    for name, text in descriptions(artifact).items():
        own = before.get(name, "")
        if text == own:
            continue
        if not text.strip():
            yield f"the description of {name} is gone"
        if len(text) > max(MOST_CHARS, len(own)):
            most = max(MOST_CHARS, len(own))
            yield f"the description of {name} has {len(text)} characters; at most {most} may be"
        for slot in sorted(slots):
            if f"{{{{{slot}}}}}" in text and f"{{{{{slot}}}}}" not in own:
                yield f"the description of {name} holds the slot {slot!r}, which nobody fills there"


def _private(artifact: Artifact) -> Iterator[str]:
    for where, text in [*_constant(artifact), *_shown(artifact)]:
        for what, pattern, real in _PRIVATE:
            match = next((one for one in pattern.finditer(text) if real(one[0])), None)
            if match:
                # The secret itself must not travel into logs and reports with the objection.
                found = f": {match[0]}" if pattern is PSEUDONYM else ""
                yield f"{where} holds {what}{found}"


def _added(artifact: Artifact, baseline: Artifact) -> Iterator[str]:
    before = "\n".join(text for _, text in _constant(baseline)).lower()
    for where, text in _constant(artifact):
        for url in dict.fromkeys(_URL.findall(text)):
            if url.lower() not in before:
                yield f"{where} adds the address {url}"
        words = dict.fromkeys(match[0].lower() for match in _GRADER.finditer(text))
        added = [word for word in words if not re.search(rf"\b{re.escape(word)}\b", before)]
        if added:
            yield f"{where} speaks of how answers are judged: {', '.join(added)}"
        match = _INJECTION.search(text)
        if match and match[0].lower() not in before:
            yield f"{where} adds an instruction to override others: {match[0]!r}"


def _copied(artifact: Artifact, baseline: Artifact, cases: Sequence[Case]) -> Iterator[str]:
    known = {gram for _, text in _constant(baseline) for gram in _grams(text)}
    written = {gram: where for where, text in _constant(artifact) for gram in _grams(text) if gram not in known}
    if not written:
        return
    told: set[str] = set()
    for case in cases:
        for text in _logged(case):
            gram = next((gram for gram in _grams(text) if gram in written), None)
            if gram is not None and written[gram] not in told:
                told.add(written[gram])
                yield f"{written[gram]} copies from trajectory {case.trajectory_id}: “{' '.join(gram)}”"


def _demonstrations(artifact: Artifact, baseline: Artifact) -> Iterator[str]:
    own = {canonical_json(demo["messages"]) for demo in pool_of(baseline)}
    for number, demo in enumerate(pool_of(artifact), start=1):
        if not demo.get("source") or (
            demo["source"] == PRODUCTION_SOURCE and canonical_json(demo["messages"]) not in own
        ):
            yield f"demonstration {number} does not say which trajectory it comes from"
        if not demo.get("messages") or demo["messages"][-1].get("role") != "assistant":
            yield f"demonstration {number} does not end with an answer"


def _size(artifact: Artifact, baseline: Artifact, max_chars: int) -> Iterator[str]:
    size, before = _chars(artifact), _chars(baseline)
    if size > max(max_chars, before):
        yield f"the prompt has {size} characters before its slots are filled; at most {max(max_chars, before)} may be"


def _tokens(artifact: Artifact, baseline: Artifact, most: int, count: TokenCount) -> Iterator[str]:
    if sum(len(text.encode()) for text in _sent(artifact)) <= most:
        return  # a token is a byte at least
    size = sum(count(text) for text in _sent(artifact))
    most = max(most, sum(count(text) for text in _sent(baseline)))
    if size > most:
        yield f"the prompt has {size} tokens before its slots are filled; at most {most} may be"


def _undescribed(schema: Any) -> Any:
    """Tool definitions or a JSON schema without what is written for the model to read."""
    if isinstance(schema, Mapping):
        return {
            # A parameter may itself be called so; then it is a schema and no text.
            key: _undescribed(value)
            for key, value in schema.items()
            if key != "description" or not isinstance(value, str | None)
        }
    return [_undescribed(one) for one in schema] if isinstance(schema, list | tuple) else schema


def _descriptions(schema: Any) -> Iterator[str]:
    if isinstance(schema, Mapping):
        for key, value in schema.items():
            if key == "description" and isinstance(value, str):
                yield value
            else:
                yield from _descriptions(value)
    elif isinstance(schema, list | tuple):
        for one in schema:
            yield from _descriptions(one)


def _slots(artifact: Artifact) -> set[str]:
    items = artifact.prompt["messages"]
    conversation = {"conversation"} if any(item.get("conversation") for item in items) else set()
    return conversation.union(*(slots_of(item) for item in items))


def _constant(artifact: Artifact) -> list[tuple[str, str]]:
    """(where, text) of the prompt's constant text, demonstrations not included."""
    texts = []
    for item in artifact.prompt["messages"]:
        text = "\n".join(piece for piece in item.get("content") or () if isinstance(piece, str))
        if text:
            texts.append((f"the {item['role']} text", text))
    for tool in artifact.prompt.get("tools") or ():
        described = "\n".join(_descriptions(tool))
        if described:
            texts.append((f"the description of {(tool.get('function') or {}).get('name')}", described))
    return texts


def _shown(artifact: Artifact) -> list[tuple[str, str]]:
    return [
        (f"demonstration {number}", f"{_text_of(demo['messages'])}\n{demo.get('text', '')}")
        for number, demo in enumerate(pool_of(artifact), start=1)
    ]


def _text_of(messages: Sequence[Mapping[str, Any]]) -> str:
    parts = []
    for message in messages:
        content = message.get("content")
        parts.append(content if isinstance(content, str) else canonical_json(content))
        parts += [canonical_json(value) for key, value in message.items() if key not in ("role", "content")]
    return "\n".join(parts)


def _logged(case: Case) -> Iterator[str]:
    for value in case.values.values():
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            yield _text_of(value)
    yield case.logged_output
    if case.correction is not None:
        yield case.correction


def _grams(text: str) -> Iterator[tuple[str, ...]]:
    words = _WORD.findall(text.lower())
    return (tuple(words[start : start + _COPIED_WORDS]) for start in range(len(words) - _COPIED_WORDS + 1))


def _chars(artifact: Artifact) -> int:
    return sum(len(text) for text in _sent(artifact))


def _sent(artifact: Artifact) -> list[str]:
    """What of the prompt one call sends whatever its slots hold, at its longest."""
    pool = [_text_of(demo["messages"]) for demo in pool_of(artifact)]
    demos = artifact.prompt.get("demonstrations") or {}
    shown = sorted(pool, key=len, reverse=True)[: int(demos["k"])] if demos.get("select") == "nearest" else pool
    return [*(text for _, text in _constant(artifact)), *shown]
