"""Preference pairs: one prompt, an answer that was preferred and one that was not (OpenAI DPO, TRL).

Each answer is a trajectory of its own with a score "preference", 1 or 0; the prompt makes both one task. The same
answer in two pairs is one trajectory with two scores.
"""

from collections.abc import Iterator
from typing import Any

from tracemill.ids import content_id
from tracemill.ingest.attributes import as_float, written
from tracemill.ingest.content.conversation import conversation
from tracemill.ingest.documents import unwrap
from tracemill.ingest.providers.calls import mapping
from tracemill.ingest.reader import About, Done, Head, Item, RawScore, Stream
from tracemill.ingest.tables import bad_row, each_row

_OPENAI = ("preferred_output", "non_preferred_output")
_TRL = ("chosen", "rejected")
_MAPPED = frozenset(("input", "prompt", "tools", *_OPENAI, *_TRL))


class Preferences:
    """Reader of preference pairs."""

    name = "preferences"
    about = About(
        title="Preference pairs (OpenAI DPO, TRL)",
        files="JSON lines or Parquet with `input`, `preferred_output`, `non_preferred_output`, or with `chosen`, "
        "`rejected` and mostly `prompt` (texts or messages)",
        maps="Each answer a trajectory with a score `preference` of 1 or 0; `score_chosen` and `score_rejected` as "
        "scores `score`",
        lacks="No times, tokens, cost or models; who preferred it: the source of the score is `human`",
    )

    def sniff(self, head: Head) -> str | None:
        for columns in (head.columns, *(record for record in head.records if isinstance(record, dict))):
            if set(_OPENAI) <= set(columns) and "input" in columns:
                return "preference pairs of the OpenAI API"
            if set(_TRL) <= set(columns) and head.shape != "csv":
                return "preference pairs of TRL"
        return None

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        yield from each_row(stream, head, _pair)


def _pair(line: int, row: dict[str, Any]) -> Iterator[Item]:
    names = _OPENAI if _OPENAI[0] in row else _TRL
    asked = unwrap(row.get("input"))
    asked = asked if isinstance(asked, dict) else {}
    prompt = _said(asked.get("messages", row.get("prompt")), "user")
    answers = [_said(row.get(name), "assistant") for name in names]
    if not prompt:  # TRL's implicit prompt: what both conversations begin with
        shared = 0
        while all(shared < len(a) - 1 for a in answers) and answers[0][shared] == answers[1][shared]:
            shared += 1
        prompt, answers = answers[0][:shared], [answer[shared:] for answer in answers]
    answers = [answer[len(prompt) :] if answer[: len(prompt)] == prompt else answer for answer in answers]
    if not all(any(message["role"] == "assistant" for message in answer) for answer in answers):
        yield bad_row(line, row, "no pair: an answer is missing")
        return
    pair = content_id("preference-pair", written([prompt, answers]))
    tools = asked.get("tools") or unwrap(row.get("tools"))
    rest = {name: value for name, value in row.items() if name not in _MAPPED}
    for name, answer, value in zip(names, answers, (1.0, 0.0), strict=True):
        trace_id = content_id("preference", written([prompt, answer]))
        base = {"dialect": "openai", "line": line, "flags": ["lossy"]}
        for span in conversation([*prompt, *answer], trace_id=trace_id, root_id=None, base=base):
            if (span.seq or 0) >= len(prompt):  # what is said before is the prompt of both
                span.tools = tools if span.kind == "llm" and isinstance(tools, list) else None
                span.attributes = {"pair": pair, **rest}
                yield span
        where: dict[str, Any] = {"target_kind": "trajectory", "target_id": trace_id, "source": "human"}
        yield RawScore(name="preference", value=value, evidence={"pair": pair}, **where)
        given = as_float(row.get(f"score_{name}"))
        if given is not None:
            yield RawScore(name="score", value=given, **where)


def _said(value: Any, role: str) -> list[dict[str, Any]]:
    """Messages of a list of messages, of one message, or of a text."""
    value = unwrap(value)
    if isinstance(value, str):
        return [{"role": role, "content": value}] if value else []
    listed = value if isinstance(value, list) else [value] if mapping(value) else []
    return [message for message in listed if isinstance(message, dict) and isinstance(message.get("role"), str)]
