"""A span as one object, whatever its fields are called: the SDKs' own JSON, Phoenix, Logfire, flat rows of tables."""

from collections.abc import Mapping
from typing import Any

import msgspec

from tracemill.ingest.documents import unwrap
from tracemill.ingest.otel.envelope import events_of, origin_of, own_id, spoken, time_of
from tracemill.ingest.reader import Item, Origin, RawSpan

_TRACE = ("trace_id", "traceId", "traceID", "trace.id")
_SPAN = ("span_id", "spanId", "spanID", "span.id")
_PARENT = ("parent_id", "parentId", "parent_span_id", "parentSpanId", "parentSpanID", "parent.id")
_PARENT_CONTEXT = ("parent", "parentSpanContext", "parent_span_context")
_CONTEXT = ("context", "spanContext", "span_context", "_spanContext")
_NAME = ("name", "span_name", "operation_name", "operationName")
_START = (
    *("start_time", "startTime", "start_time_unix_nano", "startTimeUnixNano", "start_timestamp", "start_ns"),
    *("start", "timestamp"),
)
_END = ("end_time", "endTime", "end_time_unix_nano", "endTimeUnixNano", "end_timestamp", "end_ns", "end")
_STATUS = ("status_code", "statusCode", "otel_status_code", "status.code", "status.status_code")
_MESSAGE = ("status_message", "statusMessage", "otel_status_message", "status.message", "status.description")
_SCOPE = ("instrumentationScope", "instrumentation_scope", "instrumentationLibrary", "scope")
_SCOPE_NAME = ("otel_scope_name", "scope_name", "scope.name", "instrumentation_scope.name")
_RESOURCE = ("resource", "otel_resource_attributes", "resource_attributes")
_EVENTS = ("events", "otel_events", "span_events")
_LINKS = ("links", "otel_links")
_ATTRIBUTES = ("attributes", "span_attributes", "span.attributes")
_OWN_WORDS = ("gen_ai.", "llm.", "openinference.", "ai.", "traceloop.", "langfuse.", "mlflow.", "gcp.vertex.agent.")
_PHOENIX = frozenset(
    (
        *("LLM", "TOOL", "AGENT", "CHAIN", "RETRIEVER", "EMBEDDING", "RERANKER", "GUARDRAIL", "EVALUATOR", "PROMPT"),
        *("DECISION", "UNKNOWN"),
    )
)
_MICROSECONDS = 1000


class Ids(msgspec.Struct, kw_only=True):
    """The ids as the row has them, and whether it can name a parent at all."""

    trace_id: Any
    span_id: Any
    parent_id: Any
    names_parent: bool
    javascript: bool


def is_row(row: Any) -> bool:
    """Whether an object is a span with attributes beyond doubt."""
    return isinstance(row, Mapping) and _has_attributes(row) and _is_named(ids_of(row))


def why(row: Mapping[str, Any]) -> str:
    """What it is that makes the row a span, in a few words for users."""
    if "spanContext" in row or "_spanContext" in row:
        return "JavaScript ReadableSpan objects"
    if any(name.startswith("attributes.") for name in row):
        return "a table of spans with attributes.* columns"
    context = row.get("context")
    if isinstance(context, Mapping):
        hexed = str(context.get("trace_id", "")).startswith("0x")
        return "spans of the OpenTelemetry SDK (to_json)" if hexed else "span objects with context and attributes"
    return "rows of spans with attributes"


def is_named(row: Mapping[str, Any]) -> bool:
    return _is_named(ids_of(row))


def _is_named(ids: Ids) -> bool:
    return own_id(ids.trace_id, 16) is not None and own_id(ids.span_id, 8) is not None


def _has_attributes(row: Mapping[str, Any]) -> bool:
    for name in _ATTRIBUTES:
        if name in row:
            value = row[name]
            return value is None or isinstance(unwrap(value), Mapping)
    return any(isinstance(name, str) and name.startswith(("attributes.", *_OWN_WORDS)) for name in row)


def ids_of(row: Mapping[str, Any]) -> Ids:
    context = _held(row, _CONTEXT)
    context = context if isinstance(context, Mapping) else {}
    parent = _first(row, _PARENT)
    named = any(name in row for name in (*_PARENT, *_PARENT_CONTEXT))
    if parent is None:
        above = _held(row, _PARENT_CONTEXT)
        parent = _first(above, _SPAN) if isinstance(above, Mapping) else above
    trace = _first(context, _TRACE) or _first(row, _TRACE) or row.get("context.trace_id")
    span = _first(context, _SPAN) or _first(row, _SPAN) or row.get("context.span_id")
    return Ids(
        trace_id=trace,
        span_id=row.get("id") if span is None else span,
        parent_id=parent,
        names_parent=named,
        javascript="spanContext" in row or "_spanContext" in row or isinstance(row.get("startTime"), list),
    )


def row_items(row: Mapping[str, Any], *, line: int | None, parent_id: str | None = None) -> list[Item]:
    """The span of one row. `parent_id` stands in where the row names none. Raises NoSpanError."""
    ids = ids_of(row)
    rest = dict(row)
    for name in (*_TRACE, *_SPAN, *_PARENT, *_PARENT_CONTEXT, *_CONTEXT, "context.trace_id", "context.span_id"):
        rest.pop(name, None)
    if _first(row, (*_SPAN, "context.span_id")) is None and _held(row, _CONTEXT) is None:
        rest.pop("id", None)
    attributes = _attributes(rest)
    name = _pop(rest, _NAME)
    start, end = _times(rest)
    status, message = _status(rest)
    phoenix = rest.pop("span_kind", rest.pop("kind", None))
    if isinstance(phoenix, str) and phoenix in _PHOENIX:
        attributes.setdefault("openinference.span.kind", phoenix)
    events, links = events_of(_pop(rest, _EVENTS)), unwrap(_pop(rest, _LINKS))
    origin = _origin(rest)
    if leftover := {key: value for key, value in rest.items() if value not in (None, "", [], {})}:
        attributes["row"] = leftover
    items = spoken(
        trace_id=ids.trace_id,
        span_id=ids.span_id,
        parent_id=ids.parent_id,
        name=None if name is None else str(name),
        start_ns=start,
        end_ns=end,
        status=status,
        message=None if message is None else str(message),
        attributes=attributes,
        events=events,
        links=links if isinstance(links, list) else None,
        origin=origin,
        line=line,
        foreign_ids=True,
    )
    if parent_id is not None and isinstance(items[0], RawSpan):
        items[0].parent_span_id = parent_id
        items[0].flags.append("orphan")
    return items


def without_nulls(value: Any) -> Any:
    """A value of a typed table, whose objects hold a null for every field that another row has."""
    if isinstance(value, Mapping):
        return {name: without_nulls(inner) for name, inner in value.items() if inner is not None}
    return [without_nulls(inner) for inner in value] if isinstance(value, list) else value


def _attributes(rest: dict[str, Any]) -> dict[str, Any]:
    """Attributes as an object, as JSON text, or as columns of their own."""
    found: dict[str, Any] = {}
    for name in _ATTRIBUTES:
        value = unwrap(rest.pop(name, None))
        if isinstance(value, Mapping):
            found.update(value)
    for name in [name for name in rest if isinstance(name, str) and name.startswith("attributes.")]:
        found[name.removeprefix("attributes.")] = rest.pop(name)
    if not found:
        for name in [name for name in rest if isinstance(name, str) and name.startswith(_OWN_WORDS)]:
            found[name] = rest.pop(name)
    return {name: value for name, value in found.items() if value is not None}


def _times(rest: dict[str, Any]) -> tuple[int | None, int | None]:
    start, end = time_of(_pop(rest, _START)), time_of(_pop(rest, _END))
    duration = rest.pop("duration", None)
    milliseconds = rest.pop("duration_ms", None)
    if end is None and start is not None:
        if isinstance(duration, list) and len(duration) == 2 and all(type(v) is int for v in duration):
            end = start + duration[0] * 1_000_000_000 + duration[1]
        elif type(duration) is int:  # JavaScript's console exporter counts microseconds
            end = start + duration * _MICROSECONDS
        elif isinstance(milliseconds, int | float) and milliseconds == milliseconds:
            end = start + int(milliseconds * 1_000_000)
    return start, end


def _status(rest: dict[str, Any]) -> tuple[Any, Any]:
    code, message = _pop(rest, _STATUS), _pop(rest, _MESSAGE)
    status = rest.pop("status", None)
    if isinstance(status, Mapping):
        inner = _first(status, ("status_code", "code"))
        code = inner if code is None else code
        message = _first(status, ("description", "message", "status_message")) if message is None else message
    elif status is not None and code is None:
        code = status
    return code, message


def _origin(rest: dict[str, Any]) -> Origin:
    scope = _pop(rest, _SCOPE_NAME)
    held = _pop(rest, _SCOPE)
    if scope is None and isinstance(held, Mapping):
        scope = held.get("name")
    elif scope is None and isinstance(held, str):
        scope = held
    resource: dict[str, Any] = {}
    for name in _RESOURCE:
        value = unwrap(rest.pop(name, None))
        if isinstance(value, Mapping):
            inner = value.get("attributes", value.get("_attributes"))
            resource.update(inner if isinstance(inner, Mapping) else value)
    service = rest.pop("service_name", rest.pop("service.name", None))
    if service is not None:
        resource.setdefault("service.name", service)
    return origin_of(resource, None if scope is None else str(scope))


def _first(row: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((row[name] for name in names if row.get(name) not in (None, "")), None)


def _held(row: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _pop(rest: dict[str, Any], names: tuple[str, ...]) -> Any:
    """Takes out every spelling of a field and gives the first that has a value."""
    found = [rest.pop(name) for name in names if name in rest]
    return next((value for value in found if value not in (None, "")), None)
