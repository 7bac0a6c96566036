"""OTLP log records: GenAI events whose content belongs to a span, and everything else as events of the trace."""

from collections.abc import Iterator
from typing import Any

from tracemill.ids import content_id
from tracemill.ingest.dialects import Origin
from tracemill.ingest.dialects.genai import evaluation, late_messages
from tracemill.ingest.reader import Item, LateContent, RawSpan

SAYS_NOTHING = "neither a span nor a log record of a trace is in the request"
"""Why a request is refused that makes no row."""


def log_items(
    *,
    trace_id: str | None,
    span_id: str | None,
    name: str | None,
    time_ns: int | None,
    body: Any,
    attributes: dict[str, Any],
    origin: Origin,
    line: int | None,
) -> Iterator[Item]:
    """Messages for the span that the record names, a judgement of it or of a response, or an event of its own.

    Records without a trace belong to no agent's episode; only judgements among them give anything.
    """
    name = name or str(attributes.pop("event.name", None) or "log")
    if name == "gen_ai.evaluation.result" and (span_id is not None or attributes.get("gen_ai.response.id")):
        yield evaluation({**(body if isinstance(body, dict) else {}), **attributes}, span_id, time_ns)
        return
    if trace_id is None:
        return
    if span_id is not None:
        said = dict(attributes)
        if body is not None:
            said["body"] = body
            if isinstance(body, dict):
                said = {**body, **said}
        prompt, answer = late_messages(name, said)
        if prompt or answer:
            yield LateContent(trace_id=trace_id, span_id=span_id, input=prompt, output=answer, at=time_ns, line=line)
            return
    if body is not None:
        attributes["body"] = body
    yield RawSpan(
        trace_id=trace_id,
        span_id=content_id("log", trace_id, span_id, name, time_ns, str(body), str(sorted(attributes)))[:16],
        parent_span_id=span_id,
        kind="event",
        name=name,
        start_ns=time_ns,
        end_ns=time_ns,
        service=origin.service,
        attributes=attributes,
        resource=origin.resource or None,
        line=line,
        dialect="otel-log",
    )
