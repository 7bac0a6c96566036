"""One conversation in OpenAI messages as spans: an LLM span for each answer, a tool span for each tool result."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tracemill.chat import Part
from tracemill.ids import content_id
from tracemill.ingest.content.messages import canonical
from tracemill.ingest.documents import unwrap
from tracemill.ingest.reader import Message, RawSpan


def conversation(
    messages: Sequence[Mapping[str, Any]], *, trace_id: str, root_id: str | None, base: Mapping[str, Any]
) -> Iterator[RawSpan]:
    """Spans in the order of the messages, below `root_id`; `base` are fields that all of them share.

    The input of an answer is every message before it. A tool result finds its call by id.
    """
    said: list[Message] = []
    calls: dict[str, Part] = {}
    for index, raw in enumerate(messages):
        for message in canonical(raw):
            role, name, parts = message
            if role == "assistant":
                yield RawSpan(
                    trace_id=trace_id,
                    span_id=content_id(trace_id, "llm", index)[:16],
                    parent_span_id=root_id,
                    seq=index,
                    kind="llm",
                    name="chat",
                    input=list(said),
                    output=[message],
                    **base,
                )
                calls.update(tool_calls(parts))
            elif role == "tool":
                yield tool_span(
                    parts[0], name, calls, trace_id=trace_id, key=index, parent=root_id, seq=index, base=base
                )
            said.append(message)


def tool_calls(parts: Sequence[Part]) -> dict[str, Part]:
    return {str(part["id"]): part for part in parts if part.get("type") == "tool_call" and part.get("id") is not None}


def tool_span(
    part: Part,
    name: str | None,
    calls: Mapping[str, Part],
    *,
    trace_id: str,
    key: int | str,
    parent: str | None,
    seq: int,
    base: Mapping[str, Any],
) -> RawSpan:
    """The span of one tool result; what was asked of the tool stands in the call with the same id."""
    call_id = part.get("id")
    call = calls.get(str(call_id), {})
    tool = call.get("name") or name
    return RawSpan(
        trace_id=trace_id,
        span_id=content_id(trace_id, "tool", key)[:16],
        parent_span_id=parent,
        seq=seq,
        kind="tool",
        name=None if tool is None else str(tool),
        status="error" if part.get("is_error") else "unset",
        tool_name=None if tool is None else str(tool),
        tool_call_id=None if call_id is None else str(call_id),
        tool_args=unwrap(call.get("arguments")),
        tool_result=part.get("response"),
        **base,
    )
