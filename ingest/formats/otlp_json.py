"""OTLP as JSON: one request, JSON lines of requests (the Collector's file exporter), or an array of them.

Takes camelCase and snake_case names, ids as hex or base64 (protobuf's own JSON), enums as numbers or names, nanoseconds
as text or numbers, traces and logs, and Tempo's `batches` and `trace`.
"""

import re
from collections.abc import Iterator
from operator import attrgetter as _of
from typing import Any

import msgspec

from tracemill.ingest.attributes import as_float, as_int, hex_id
from tracemill.ingest.dialects.event import Event
from tracemill.ingest.documents import MALFORMED, Record, guarded, loads, records, told
from tracemill.ingest.formats.otlp_logs import SAYS_NOTHING, log_items
from tracemill.ingest.otel.envelope import NoSpanError, origin_of, spoken
from tracemill.ingest.reader import About, BadRecord, Bundle, Done, Head, Heard, Item, Origin, Stream
from tracemill.ingest.redact import encodable


class _Array(msgspec.Struct, gc=False):
    values: "list[_Any | None]" = []


class _Kv(msgspec.Struct, gc=False):
    key: str
    value: "_Any | None" = None


class _Kvs(msgspec.Struct, gc=False):
    values: list[_Kv] = []


class _Any(msgspec.Struct, gc=False):
    stringValue: str | None = None  # noqa: N815
    intValue: str | int | float | None = None  # noqa: N815
    doubleValue: float | str | None = None  # noqa: N815
    boolValue: bool | None = None  # noqa: N815
    arrayValue: _Array | None = None  # noqa: N815
    kvlistValue: _Kvs | None = None  # noqa: N815
    bytesValue: str | None = None  # noqa: N815


class _Status(msgspec.Struct, gc=False):
    code: int | str | None = None
    message: str | None = None


class _Event(msgspec.Struct, gc=False):
    name: str = ""
    timeUnixNano: str | int | None = None  # noqa: N815
    attributes: list[_Kv] | None = None


class _Span(msgspec.Struct, gc=False):
    traceId: str = ""  # noqa: N815
    spanId: str = ""  # noqa: N815
    parentSpanId: str | None = None  # noqa: N815
    name: str | None = None
    startTimeUnixNano: str | int | None = None  # noqa: N815
    endTimeUnixNano: str | int | None = None  # noqa: N815
    attributes: list[_Kv] | None = None
    events: list[_Event] | None = None
    status: _Status | None = None
    links: list[Any] | None = None
    droppedAttributesCount: int | None = None  # noqa: N815
    droppedEventsCount: int | None = None  # noqa: N815


class _Log(msgspec.Struct, gc=False):
    timeUnixNano: str | int | None = None  # noqa: N815
    observedTimeUnixNano: str | int | None = None  # noqa: N815
    severityText: str | None = None  # noqa: N815
    eventName: str | None = None  # noqa: N815
    body: _Any | None = None
    attributes: list[_Kv] | None = None
    traceId: str | None = None  # noqa: N815
    spanId: str | None = None  # noqa: N815


class _Scope(msgspec.Struct, gc=False):
    name: str | None = None


class _Scoped(msgspec.Struct, gc=False):
    scope: _Scope | None = None
    instrumentationLibrary: _Scope | None = None  # noqa: N815
    spans: list[msgspec.Raw] | None = None
    logRecords: list[msgspec.Raw] | None = None  # noqa: N815


class _Resource(msgspec.Struct, gc=False):
    attributes: list[_Kv] | None = None


class _Resourced(msgspec.Struct, gc=False):
    resource: _Resource | None = None
    scopeSpans: list[_Scoped] | None = None  # noqa: N815
    instrumentationLibrarySpans: list[_Scoped] | None = None  # noqa: N815
    scopeLogs: list[_Scoped] | None = None  # noqa: N815


class _Request(msgspec.Struct, gc=False):
    resourceSpans: list[_Resourced] | None = None  # noqa: N815
    batches: list[_Resourced] | None = None
    resourceLogs: list[_Resourced] | None = None  # noqa: N815
    trace: "_Request | None" = None
    """The whole, in answers of Tempo's newer API."""


class _WholeScoped(msgspec.Struct, gc=False):
    scope: _Scope | None = None
    instrumentationLibrary: msgspec.Raw | None = None  # noqa: N815
    spans: list[_Span] = []


class _WholeResourced(msgspec.Struct, gc=False):
    scopeSpans: list[_WholeScoped]  # noqa: N815
    resource: _Resource | None = None
    instrumentationLibrarySpans: msgspec.Raw | None = None  # noqa: N815
    scopeLogs: msgspec.Raw | None = None  # noqa: N815


class _Whole(msgspec.Struct, gc=False):
    """A request as exporters of today write it: decoded in one go. Any other is taken piece by piece."""

    resourceSpans: list[_WholeResourced]  # noqa: N815
    resourceLogs: msgspec.Raw | None = None  # noqa: N815
    batches: msgspec.Raw | None = None
    trace: msgspec.Raw | None = None


_WHOLE = msgspec.json.Decoder(_Whole)
_TRACES = re.compile(r"(?:[0-9a-f]{32}:)*").fullmatch
_SPANS = re.compile(r"(?:[0-9a-f]{16}:)*").fullmatch
_PARENTS = re.compile(r"(?:(?:[0-9a-f]{16})?:)*").fullmatch
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16
_REQUEST = msgspec.json.Decoder(_Request)
_SPAN = msgspec.json.Decoder(_Span)
_LOG = msgspec.json.Decoder(_Log)
_KEYS = ("resourceSpans", "resource_spans", "resourceLogs", "resource_logs")


class OtlpJson:
    """Reader of OTLP/JSON."""

    name = "otlp-json"
    about = About(
        title="OpenTelemetry OTLP/JSON",
        files="`resourceSpans` or `resourceLogs`, one document or one request a line; gzip, zstd",
        maps="Every span in the dialect it speaks, span by span; messages in events or log records join it",
        lacks="Whatever the instrumentation leaves out: message content is off by default in OpenTelemetry GenAI",
    )

    def sniff(self, head: Head) -> str | None:
        for record in head.records:
            if isinstance(record, dict):
                record = record["trace"] if isinstance(record.get("trace"), dict) else record
                for key in _KEYS:
                    if isinstance(record.get(key), list):
                        return f"JSON with {key}"
                batches = record.get("batches")
                if isinstance(batches, list) and batches and isinstance(batches[0], dict) and "resource" in batches[0]:
                    return "JSON with batches of resources (Tempo)"
        return None

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        for record in records(stream, head):
            if isinstance(record, BadRecord):
                yield record
            else:
                yield from told(_request(record), record.bad, SAYS_NOTHING)
            yield Done()


def _request(record: Record) -> Iterator[Item]:
    if whole := _bundles(record):
        yield from whole
        return
    try:
        found = _held(_REQUEST.decode(record.raw))
        if found is None:
            found = _held(_REQUEST.decode(_camel(record.raw)))
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError):
        try:
            found = _held(_REQUEST.decode(_camel(record.raw)))
        except (msgspec.MsgspecError, ValueError) as error:
            yield record.bad(str(error) if isinstance(error, ValueError) else f"no OTLP request: {error}")
            return
    if found is None:
        yield record.bad("no OTLP request: neither resourceSpans nor resourceLogs")
        return
    for resourced in found:
        resource = _attributes(resourced.resource.attributes) if resourced.resource else {}
        for scoped in [
            *(resourced.scopeSpans or []),
            *(resourced.instrumentationLibrarySpans or []),
            *(resourced.scopeLogs or []),
        ]:
            scope = scoped.scope or scoped.instrumentationLibrary
            origin = origin_of(resource, scope.name if scope else None)
            for raw in scoped.spans or []:
                yield from guarded(_span(bytes(raw), origin, record), record.bad)
            for raw in scoped.logRecords or []:
                yield from guarded(_log(bytes(raw), origin, record), record.bad)


def _bundles(record: Record) -> list[Bundle]:
    """The spans of a request as exporters of today write it; none where anything in it is otherwise or not in order."""
    try:
        request = _WHOLE.decode(record.raw)
        if request.resourceLogs or request.batches or request.trace:
            return []
        found = []
        for resourced in request.resourceSpans:
            if resourced.instrumentationLibrarySpans or resourced.scopeLogs:
                return []
            resource = _attributes(resourced.resource.attributes) if resourced.resource else {}
            for scoped in resourced.scopeSpans:
                if scoped.instrumentationLibrary:
                    return []
                origin = origin_of(resource, scoped.scope.name if scoped.scope else None)
                heard = _heard(scoped.spans)
                if heard:
                    found.append(Bundle(heard, origin, record.line, record.bad))
        return found
    except (msgspec.MsgspecError, *MALFORMED):
        return []


def _heard(spans: list[_Span]) -> list[Heard]:
    """Raises ValueError where an id is none."""
    traces, own, parents = (list(map(_of(name), spans)) for name in ("traceId", "spanId", "parentSpanId"))
    parents = [parent or "" for parent in parents]
    for ids, written, zero in ((traces, _TRACES, _NO_TRACE), (own, _SPANS, _NO_SPAN), (parents, _PARENTS, None)):
        joined = ":".join(ids) + ":"
        if not written(joined) or joined.count(":") != len(ids) or zero in ids:
            raise ValueError("ids in another writing")
    starts, ends = (_times(list(map(_of(name), spans))) for name in ("startTimeUnixNano", "endTimeUnixNano"))
    return [
        Heard(
            trace_id,
            span_id,
            None if not parent_id or parent_id == _NO_SPAN else parent_id,
            span.name,
            start,
            end,
            None if (status := span.status) is None else status.code,
            None if status is None else status.message,
            tuple([pair.key for pair in span.attributes or ()]),
            [
                text if (value := pair.value) is not None and (text := value.stringValue) is not None else _value(value)
                for pair in span.attributes or ()
            ],
            _events(span.events) if span.events else [],
            span.links,
            ["truncated"] if span.droppedAttributesCount or span.droppedEventsCount else [],
        )
        for span, trace_id, span_id, parent_id, start, end in zip(
            spans, traces, own, parents, starts, ends, strict=True
        )
    ]


def _times(values: list[Any]) -> list[int | None]:
    try:
        return list(map(int, values))
    except (TypeError, ValueError):
        return list(map(as_int, values))


def _events(events: list[_Event] | None) -> list[Event]:
    return [
        Event(name=e.name, attributes=_attributes(e.attributes), time_ns=as_int(e.timeUnixNano)) for e in events or ()
    ]


def _held(request: _Request) -> list[_Resourced] | None:
    """The resources with their spans and logs; None where this is no request."""
    request = request.trace or request
    lists = (request.resourceSpans, request.batches, request.resourceLogs)
    return None if all(held is None for held in lists) else [item for held in lists for item in held or ()]


def _span(raw: bytes, origin: Origin, record: Record) -> Iterator[Item]:
    try:
        try:
            found = _SPAN.decode(raw)
            if not found.traceId:
                found = _SPAN.decode(_camel(raw))
        except (msgspec.DecodeError, UnicodeDecodeError):
            found = _SPAN.decode(_camel(raw))
    except (msgspec.MsgspecError, ValueError) as error:
        yield _bad(record, raw, f"no OTLP span: {error}")
        return
    status = found.status or _Status()
    try:
        yield from spoken(
            trace_id=found.traceId,
            span_id=found.spanId,
            parent_id=found.parentSpanId,
            name=found.name,
            start_ns=as_int(found.startTimeUnixNano),
            end_ns=as_int(found.endTimeUnixNano),
            status=status.code,
            message=status.message,
            attributes=_attributes(found.attributes),
            events=_events(found.events),
            links=found.links,
            origin=origin,
            line=record.line,
            flags=["truncated"] if found.droppedAttributesCount or found.droppedEventsCount else [],
        )
    except NoSpanError as error:
        yield _bad(record, raw, str(error))


def _log(raw: bytes, origin: Origin, record: Record) -> Iterator[Item]:
    try:
        try:
            found = _LOG.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            found = _LOG.decode(_camel(raw))
    except (msgspec.MsgspecError, ValueError) as error:
        yield _bad(record, raw, f"no OTLP log record: {error}")
        return
    yield from log_items(
        trace_id=hex_id(found.traceId, 16),
        span_id=hex_id(found.spanId, 8),
        name=found.eventName,
        time_ns=as_int(found.timeUnixNano) or as_int(found.observedTimeUnixNano),
        body=_value(found.body),
        attributes=_attributes(found.attributes),
        origin=origin,
        line=record.line,
    )


def _bad(record: Record, raw: bytes, reason: str) -> BadRecord:
    return msgspec.structs.replace(record.bad(reason), excerpt=raw[:2000].decode("utf-8", "replace"))


def _attributes(pairs: list[_Kv] | None) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs} if pairs else {}


def _value(value: _Any | None) -> Any:
    if value is None:
        return None
    if value.stringValue is not None:
        return value.stringValue
    if value.intValue is not None:
        whole = as_int(value.intValue)
        return value.intValue if whole is None else whole
    if value.doubleValue is not None:
        number = as_float(value.doubleValue)
        return str(value.doubleValue) if number is None else number
    if value.boolValue is not None:
        return value.boolValue
    if value.arrayValue is not None:
        return [_value(item) for item in value.arrayValue.values]
    if value.kvlistValue is not None:
        return _attributes(value.kvlistValue.values)
    return value.bytesValue


def _camel(raw: bytes) -> bytes:
    """The same document with camelCase names and without what strict JSON refuses; the slow way, for odd writers."""
    return msgspec.json.encode(_renamed(loads(raw)))


def _renamed(value: Any) -> Any:
    if isinstance(value, dict):
        return {_name(key): _renamed(below) for key, below in value.items()}
    if isinstance(value, list):
        return [_renamed(item) for item in value]
    return encodable(value) if isinstance(value, str) else value


def _name(key: str) -> str:
    first, *rest = key.split("_")
    return first + "".join(word.capitalize() for word in rest)
