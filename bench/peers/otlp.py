"""OTLP/JSON lines as OTLP protobuf requests: what the Collector's OTLP exporter would send of the same spans."""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


def requests_of(lines: Iterable[bytes], *, joined: int = 1) -> Iterator[tuple[int, bytes]]:
    """Spans and bytes of each request, `joined` lines in one: protobuf messages set end to end are merged."""
    spans, parts = 0, []
    for line in lines:
        request = _request(msgspec.json.decode(line))
        spans += sum(len(scoped.spans) for one in request.resource_spans for scoped in one.scope_spans)
        parts.append(request.SerializeToString())
        if len(parts) == joined:
            yield spans, b"".join(parts)
            spans, parts = 0, []
    if parts:
        yield spans, b"".join(parts)


def _request(document: dict[str, Any]) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    for resourced in document["resourceSpans"]:
        target = request.resource_spans.add(schema_url=resourced["schemaUrl"])
        _attributes(target.resource.attributes, resourced["resource"]["attributes"])
        for scoped in resourced["scopeSpans"]:
            scope = target.scope_spans.add()
            scope.scope.name, scope.scope.version = scoped["scope"]["name"], scoped["scope"]["version"]
            for span in scoped["spans"]:
                _span(scope.spans.add(), span)
    return request


def _span(target: Any, span: dict[str, Any]) -> None:
    target.trace_id = bytes.fromhex(span["traceId"])
    target.span_id = bytes.fromhex(span["spanId"])
    target.parent_span_id = bytes.fromhex(span["parentSpanId"])
    target.flags = span["flags"]
    target.name = span["name"]
    target.kind = span["kind"]
    target.start_time_unix_nano = int(span["startTimeUnixNano"])
    target.end_time_unix_nano = int(span["endTimeUnixNano"])
    _attributes(target.attributes, span["attributes"])
    for event in span.get("events", ()):
        told = target.events.add(time_unix_nano=int(event["timeUnixNano"]), name=event["name"])
        _attributes(told.attributes, event["attributes"])
    target.status.code = span["status"].get("code", 0)
    target.status.message = span["status"].get("message", "")


def _attributes(target: Any, pairs: list[dict[str, Any]]) -> None:
    for pair in pairs:
        _value(target.add(key=pair["key"]).value, pair["value"])


def _value(target: Any, value: dict[str, Any]) -> None:
    if "stringValue" in value:
        target.string_value = value["stringValue"]
    elif "intValue" in value:
        target.int_value = int(value["intValue"])
    elif "doubleValue" in value:
        target.double_value = value["doubleValue"]
    elif "boolValue" in value:
        target.bool_value = value["boolValue"]
    else:
        for item in value["arrayValue"]["values"]:
            _value(target.array_value.values.add(), item)
