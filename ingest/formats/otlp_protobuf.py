"""OTLP as protobuf: one request, or a file of requests each led by its length (as `tracemill collect` writes them)."""

from collections.abc import Iterator
from functools import partial
from itertools import chain
from typing import Any

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tracemill.ingest.attributes import hex_id
from tracemill.ingest.dialects import Origin
from tracemill.ingest.dialects.event import Event
from tracemill.ingest.documents import guarded, told
from tracemill.ingest.formats.otlp_logs import SAYS_NOTHING, log_items
from tracemill.ingest.otel.envelope import NoSpanError, origin_of, spoken
from tracemill.ingest.reader import About, BadRecord, Bundle, Done, Head, Heard, Item, Stream

MAX_FRAME_BYTES = 256 * 1024 * 1024
_RESOURCE_FIELD = 0x0A  # field 1, length-delimited: resource_spans, and inside it resource
_SCOPE_FIELD = 0x12  # field 2, length-delimited: scope_spans
_EMPTY = "requests without a byte: {}"


class OtlpProtobuf:
    """Reader of OTLP/protobuf."""

    name = "otlp-protobuf"
    about = About(
        title="OpenTelemetry OTLP protobuf",
        files="ExportTraceServiceRequest or ExportLogsServiceRequest, bare or length-prefixed; gzip, zstd",
        maps="As OTLP/JSON",
        lacks="As OTLP/JSON",
    )

    def sniff(self, head: Head) -> str | None:
        if _is_request(head.data, 0, len(head.data)):
            return "protobuf with resource spans"
        if _is_framed(head.data):
            return "length-delimited protobuf with resource spans"
        return None

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        if _is_request(head.data, 0, len(head.data)) or not _is_framed(head.data):
            yield from _told(stream.read(), None, 0)
            yield Done()
            return
        for number, (offset, frame) in enumerate(_frames(stream), start=1):
            if isinstance(frame, str):
                yield BadRecord(reason=frame, line=number, offset=offset)
            else:
                yield from _told(frame, number, offset)
            yield Done()


def _varint(data: bytes, at: int) -> tuple[int, int] | None:
    """A number and the position after it; None where it is cut off or too long."""
    value = 0
    for index in range(10):
        if at + index >= len(data):
            return None
        byte = data[at + index]
        value |= (byte & 0x7F) << (7 * index)
        if not byte & 0x80:
            return value, at + index + 1
    return None


def _is_request(data: bytes, at: int, end: int) -> bool:
    """Whether a request (field 1 holding a resource or scope) begins here and its parts stay inside `end`."""
    if at >= min(end, len(data)) or data[at] != _RESOURCE_FIELD:
        return False
    outer = _varint(data, at + 1)
    if outer is None or outer[0] < 2 or outer[1] >= len(data):
        return False
    length, inside = outer
    if data[inside] not in (_RESOURCE_FIELD, _SCOPE_FIELD):
        return False
    inner = _varint(data, inside + 1)
    if inner is None or inner[1] + inner[0] > inside + length:
        return False
    following = inside + length
    if following < min(end, len(data)):
        return data[following] == _RESOURCE_FIELD
    return True


def _is_framed(data: bytes) -> bool:
    first = _varint(data, 0)
    return first is not None and 2 < first[0] <= MAX_FRAME_BYTES and _is_request(data, first[1], first[1] + first[0])


def _frames(stream: Stream) -> Iterator[tuple[int, bytes | str]]:
    """Offset and bytes of each frame; instead of the bytes a reason, where it or the rest cannot be read."""
    most = stream.limits.record_bytes
    offset, pending = 0, bytearray()
    passing = 0  # bytes still to come of a frame that is too large
    empty, empty_at = 0, 0  # frames without a byte that came last: what a crash leaves is a file that ends in zeros
    for chunk in stream.chunks():
        passed = min(passing, len(chunk))
        passing -= passed
        offset += passed
        pending += chunk[passed:]
        at = 0
        while at < len(pending):
            head = _varint(bytes(pending[at : at + 10]), 0)
            if head is None and len(pending) - at < 10:
                break
            if head is None or head[0] > max(MAX_FRAME_BYTES, most):
                yield offset + at, "no frame length here; the rest of the file cannot be read"
                return
            size, skip = head
            if size == 0:
                empty_at = empty_at if empty else offset + at
                empty += 1
                at += skip
                continue
            if empty:
                yield empty_at, _EMPTY.format(empty)
                empty = 0
            if size > most:
                yield offset + at, stream.limits.record_too_large(size)
                passing = max(0, at + skip + size - len(pending))
                at = min(len(pending), at + skip + size)
                continue
            if len(pending) - at - skip < size:
                break
            yield offset + at, bytes(pending[at + skip : at + skip + size])
            at += skip + size
        offset += at
        del pending[:at]
    if empty:
        yield empty_at, _EMPTY.format(empty)
    if pending:
        yield offset, f"the last frame is torn: {len(pending)} bytes of it are here"
    elif passing:
        yield offset, f"the last frame is torn: {passing} bytes of it are missing"


def _told(data: bytes, number: int | None, offset: int) -> Iterator[Item]:
    bad = partial(_bad, number, offset)
    yield from told(_request(data, number, offset), bad, SAYS_NOTHING)


def _bad(number: int | None, offset: int, reason: str) -> BadRecord:
    return BadRecord(reason=reason, line=number, offset=offset)


def _request(data: bytes, number: int | None, offset: int) -> Iterator[Item]:
    try:
        traces = ExportTraceServiceRequest.FromString(data)
    except (DecodeError, ValueError):
        traces = None
    spans = chain.from_iterable(scope.spans for r in traces.resource_spans for scope in r.scope_spans) if traces else ()
    if traces is not None and any(len(span.trace_id) == 16 for span in spans):
        for resourced in traces.resource_spans:
            for scoped in resourced.scope_spans:
                origin = _origin(resourced, scoped)
                heard = _heard(scoped.spans)
                if heard:
                    yield Bundle(heard, origin, number, partial(_bad, number, offset))
                    continue
                for span in scoped.spans:
                    yield from guarded(_span(span, origin, number, offset), partial(_bad, number, offset))
        return
    try:
        logs = ExportLogsServiceRequest.FromString(data)
    except (DecodeError, ValueError):
        yield _bad(number, offset, "no OTLP protobuf request")
        return
    if _has_spans(traces) and not any(
        record.time_unix_nano for r in logs.resource_logs for s in r.scope_logs for record in s.log_records
    ):
        yield _bad(number, offset, "no span has a valid trace id")
        return
    for resourced in logs.resource_logs:
        for scoped in resourced.scope_logs:
            origin = _origin(resourced, scoped)
            for record in scoped.log_records:
                yield from log_items(
                    trace_id=hex_id(record.trace_id, 16),
                    span_id=hex_id(record.span_id, 8),
                    name=record.event_name or None,
                    time_ns=record.time_unix_nano or record.observed_time_unix_nano or None,
                    body=_value(record.body) if record.HasField("body") else None,
                    attributes=_attributes(record.attributes),
                    origin=origin,
                    line=number,
                )


def _has_spans(traces: Any) -> bool:
    return traces is not None and any(scope.spans for r in traces.resource_spans for scope in r.scope_spans)


def _origin(resourced: Any, scoped: Any) -> Origin:
    return origin_of(_attributes(resourced.resource.attributes), scoped.scope.name)


def _heard(spans: Any) -> list[Heard]:
    """The spans of a scope, to be understood together; none where one of them has no valid id."""
    found = []
    for span in spans:
        trace_id, span_id, parent_id = span.trace_id, span.span_id, span.parent_span_id
        if len(trace_id) != 16 or len(span_id) != 8 or not any(trace_id) or not any(span_id):
            return []
        pairs = span.attributes
        values = [pair.value for pair in pairs]
        found.append(
            Heard(
                trace_id.hex(),
                span_id.hex(),
                hex_id(parent_id, 8) if parent_id else None,
                span.name,
                span.start_time_unix_nano,
                span.end_time_unix_nano,
                span.status.code,
                span.status.message,
                tuple([pair.key for pair in pairs]),
                [value.string_value or _value(value) for value in values],
                _events(span.events) if span.events else [],
                _links(span.links) if span.links else None,
                ["truncated"] if span.dropped_attributes_count or span.dropped_events_count else [],
            )
        )
    return found


def _events(events: Any) -> list[Event]:
    return [
        Event(name=event.name, attributes=_attributes(event.attributes), time_ns=event.time_unix_nano or None)
        for event in events
    ]


def _links(links: Any) -> list[dict[str, Any]]:
    return [
        {"traceId": link.trace_id.hex(), "spanId": link.span_id.hex(), "attributes": _attributes(link.attributes)}
        for link in links
    ]


def _span(found: Any, origin: Origin, number: int | None, offset: int) -> Iterator[Item]:
    try:
        yield from spoken(
            trace_id=found.trace_id,
            span_id=found.span_id,
            parent_id=found.parent_span_id,
            name=found.name,
            start_ns=found.start_time_unix_nano,
            end_ns=found.end_time_unix_nano,
            status=found.status.code,
            message=found.status.message,
            attributes=_attributes(found.attributes),
            events=_events(found.events),
            links=_links(found.links),
            origin=origin,
            line=number,
            flags=["truncated"] if found.dropped_attributes_count or found.dropped_events_count else [],
        )
    except NoSpanError as error:
        yield BadRecord(reason=str(error), line=number, offset=offset, excerpt=str(found.name))


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    return getattr(value, kind)
