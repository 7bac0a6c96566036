"""Traces of the OpenAI Agents SDK: `trace` and `trace.span` objects, one a line or in the batches it exports.

Spans are exported when they end, so children stand before their parents. Source: openai-agents 0.24, tracing.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from tracemill.chat import as_text
from tracemill.ids import content_id
from tracemill.ingest.attributes import as_name, as_ns
from tracemill.ingest.content.exchanges import answered_text, asked_text
from tracemill.ingest.content.usage import fill_usage
from tracemill.ingest.documents import guarded, unwrap
from tracemill.ingest.reader import About, Done, Head, Item, RawSpan, Stream
from tracemill.ingest.tables import bad_row, each_row

_KINDS = {
    "agent": "agent",
    "generation": "llm",
    "response": "llm",
    "transcription": "llm",
    "speech": "llm",
    "function": "tool",
    "guardrail": "guardrail",
}
_OBJECTS = ("trace", "trace.span")


class OpenAIAgents:
    """Reader of OpenAI Agents SDK traces."""

    name = "openai-agents"
    about = About(
        title="OpenAI Agents SDK traces",
        files='Objects `"object": "trace"` and `"trace.span"`, one a line, or batches `{"data": […]}` of them',
        maps="The trace as root span, its group as session; agents, generations, functions, guardrails, hand-offs, "
        "tasks and turns as spans; errors",
        lacks="Response spans name the response and its tokens, not what was said; tool spans do not name their call",
    )

    def sniff(self, head: Head) -> str | None:
        for record in head.records:
            for item in _objects(record)[:1]:
                if _is_object(item):
                    return f"OpenAI Agents SDK: {item['object']} objects"
        return None

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        yield from each_row(stream, head, partial(_record, rooted=set()))


def _record(line: int, row: Mapping[str, Any], rooted: set[str]) -> Iterator[Item]:
    for item in sorted(_objects(row), key=_spans_last):
        yield from guarded(_item(line, item, rooted), partial(bad_row, line, item))


def _objects(record: Any) -> list[Any]:
    if isinstance(record, Mapping) and "object" not in record and isinstance(record.get("data"), list):
        return list(record["data"])
    return [record]


def _is_object(item: Any) -> bool:
    if not isinstance(item, Mapping) or item.get("object") not in _OBJECTS or not isinstance(item.get("id"), str):
        return False
    return item["object"] == "trace" or isinstance(item.get("span_data"), Mapping)


def _spans_last(item: Any) -> bool:
    return isinstance(item, Mapping) and item.get("object") == "trace.span"


def _root_id(trace_id: str) -> str:
    return content_id("openai-agents-trace", trace_id)[:16]


def _item(line: int, item: Any, rooted: set[str]) -> Iterator[Item]:
    if not _is_object(item):
        yield bad_row(line, item, "neither a trace nor a trace.span with its id and data")
    elif item["object"] == "trace":
        rooted.add(item["id"])
        yield _trace(line, item)
    elif not isinstance(item.get("trace_id"), str):
        yield bad_row(line, item, "a span without trace_id")
    else:
        trace_id = item["trace_id"]
        if item.get("parent_id") is None and trace_id not in rooted:
            # Its trace stands in another file, or was never exported; the span is not left without a root.
            rooted.add(trace_id)
            root = RawSpan(trace_id=trace_id, span_id=_root_id(trace_id), kind="chain", seq=-1, line=line)
            root.dialect, root.partial = "openai-agents", True
            yield root
        yield _span(line, item)


def _trace(line: int, trace: Mapping[str, Any]) -> RawSpan:
    metadata = unwrap(trace.get("metadata"))
    metadata = dict(metadata) if isinstance(metadata, Mapping) else {}
    user = metadata.pop("user_id", None)
    group = trace.get("group_id")
    rest = {k: v for k, v in trace.items() if k not in _TRACE and v is not None}
    return RawSpan(
        trace_id=trace["id"],
        span_id=_root_id(trace["id"]),
        kind="chain",
        seq=-1,
        name=as_name(trace.get("workflow_name")),
        session_id=None if group is None else str(group),
        user=None if user is None else str(user),
        attributes={**rest, "metadata": metadata} if metadata else rest,
        line=line,
        dialect="openai-agents",
    )


_TRACE = frozenset(("object", "id", "workflow_name", "group_id", "metadata"))


def _span(line: int, item: Mapping[str, Any]) -> RawSpan:
    data = dict(item["span_data"])
    kind = str(data.pop("type", "custom"))
    if kind == "custom":  # tasks and turns of the newer SDKs go out as custom spans
        inner = unwrap(data.get("data"))
        if isinstance(inner, Mapping) and isinstance(inner.get("sdk_span_type"), str):
            kind = inner["sdk_span_type"]
            data = {**{k: v for k, v in data.items() if k != "data"}, **inner}
            data.pop("sdk_span_type", None)
    error = item.get("error")
    span = RawSpan(
        trace_id=item["trace_id"],
        span_id=item["id"],
        parent_span_id=as_name(item.get("parent_id")) or _root_id(item["trace_id"]),
        kind=_KINDS.get(kind, "chain"),
        name=as_name(data.get("name")) or kind,
        start_ns=as_ns(item.get("started_at")),
        end_ns=as_ns(item.get("ended_at")),
        status="error" if error else "ok" if item.get("ended_at") else "unset",
        error_message=None if not error else as_text(error.get("message") if isinstance(error, Mapping) else error),
        line=line,
        dialect="openai-agents",
    )
    if isinstance(error, Mapping) and error.get("data"):
        data["error_data"] = error["data"]
    agent = as_name(data.get("name")) if kind == "agent" else as_name(data.get("agent_name"))
    span.agent_name = agent
    if span.kind == "llm":
        _call(span, data)
    elif span.kind == "tool":
        span.tool_name = as_name(data.pop("name", None))
        span.tool_args, span.tool_result = unwrap(data.pop("input", None)), data.pop("output", None)
    elif kind == "handoff" and data.get("to_agent"):
        span.name = f"handoff to {data['to_agent']}"
    data.pop("name", None)
    metadata = item.get("metadata")
    if metadata:
        data["metadata"] = metadata
    span.attributes = {"span_type": kind, **{k: v for k, v in data.items() if v is not None}}
    return span


def _call(span: RawSpan, data: dict[str, Any]) -> None:
    prompt, answer = asked_text(data.pop("input", None)), answered_text(data.pop("output", None))
    held = answered_text(data.pop("response", None))  # of processors that add what the SDK's exporter leaves out
    answer = answer or held
    if prompt is None and answer is None:
        span.flags = ["lossy"]
    if prompt is not None:
        span.input = prompt.messages
    if answer is not None:
        span.output, span.system = answer.messages, answer.system if prompt is not None else None
        span.tools, span.finish_reasons = answer.tools or None, answer.finish_reasons or None
    span.model = as_name(data.pop("model", None)) or (answer.model if answer else None)
    span.model_requested = span.model
    config = unwrap(data.pop("model_config", None))
    if isinstance(config, Mapping):
        span.params = {name: value for name, value in config.items() if value is not None} or None
    span.response_id = as_name(data.get("response_id")) or (answer.response_id if answer else None)
    fill_usage(span, unwrap(data.pop("usage", None)))
