"""Jaeger's JSON: what its UI downloads and its API answers, `data[].spans[]` with tags, references and processes."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from tracemill.ingest.attributes import as_float, as_int
from tracemill.ingest.dialects import Origin
from tracemill.ingest.dialects.event import Event
from tracemill.ingest.documents import Record, guarded, loads, records, shown
from tracemill.ingest.otel.envelope import NoSpanError, origin_of, own_id, spoken
from tracemill.ingest.reader import About, BadRecord, Done, Head, Item, Stream

_SCOPES = ("otel.scope.name", "otel.library.name")
_INTERNAL = frozenset(("internal.span.format", "otel.scope.version", "otel.library.version"))


class Jaeger:
    """Reader of Jaeger's JSON."""

    name = "jaeger"
    about = About(
        title="Jaeger JSON",
        files="`data[].spans[]` as the Jaeger UI downloads it, or one trace or span a line",
        maps="As OTLP/JSON; tags are attributes, logs are events, process tags are the resource",
        lacks="Structured attributes: Jaeger keeps them as JSON text",
    )

    def sniff(self, head: Head) -> str | None:
        for record in head.records:
            if isinstance(record, dict) and any(_is_span(span) for span, _ in _spans(record)):
                return "spans with operationName and references (Jaeger)"
        return None

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        for record in records(stream, head):
            if isinstance(record, BadRecord):
                yield record
            else:
                yield from _record(record)
            yield Done()


def _record(record: Record) -> Iterator[Item]:
    try:
        found = loads(record.raw)
    except ValueError as error:
        yield record.bad(str(error))
        return
    spans = list(_spans(found)) if isinstance(found, Mapping) else []
    if not spans and not (isinstance(found, Mapping) and found.get("data") == []):
        yield record.bad("no Jaeger trace: neither data nor spans")
    origins: dict[int, Origin] = {}
    for raw, process in spans:
        if not _is_span(raw):
            yield _bad(record, raw, "no Jaeger span: spanID or operationName is missing")
            continue
        yield from guarded(_span(raw, process, origins, record), partial(_bad, record, raw))


def _bad(record: Record, raw: Any, reason: str) -> BadRecord:
    return BadRecord(reason=reason, line=record.line, offset=record.offset, excerpt=shown(raw))


def _spans(found: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Each span with its process."""
    data = found.get("data")
    for trace in data if isinstance(data, list) else [found]:
        listed = trace.get("spans") if isinstance(trace, Mapping) else None
        if not isinstance(listed, list):
            if isinstance(data, list) or _is_span(trace):
                yield trace, trace.get("process") if isinstance(trace, Mapping) else None
            continue
        processes = trace.get("processes")
        known = processes if isinstance(processes, Mapping) else {}
        for span in listed:
            if isinstance(span, Mapping):
                yield span, span.get("process") or known.get(str(span.get("processID")))
            else:
                yield span, None


def _is_span(value: Any) -> bool:
    return isinstance(value, Mapping) and all(name in value for name in ("traceID", "spanID", "operationName"))


def _span(raw: Mapping[str, Any], process: Any, origins: dict[int, Origin], record: Record) -> Iterator[Item]:
    attributes = _tags(raw.get("tags"))
    scope = next((str(attributes[name]) for name in _SCOPES if attributes.get(name)), None)
    for name in (*_SCOPES, *_INTERNAL):
        attributes.pop(name, None)
    status = attributes.pop("otel.status_code", None)
    failed = attributes.pop("error", None)
    if status is None and str(failed).lower() == "true":
        status = "ERROR"
    elif failed is not None and str(failed).lower() not in ("true", "false"):
        attributes["error"] = failed
    message = attributes.pop("otel.status_description", None)
    start, duration = as_int(raw.get("startTime")), as_int(raw.get("duration"))
    if raw.get("warnings"):
        attributes["jaeger.warnings"] = raw["warnings"]
    parent, links = _parent(raw)
    try:
        yield from spoken(
            trace_id=raw["traceID"],
            span_id=raw["spanID"],
            parent_id=parent,
            name=None if raw["operationName"] is None else str(raw["operationName"]),
            start_ns=None if start is None else start * 1000,
            end_ns=None if start is None or duration is None else (start + duration) * 1000,
            status=status,
            message=None if message is None else str(message),
            attributes=attributes,
            events=_logs(raw.get("logs")),
            links=links,
            origin=_origin(process, scope, origins),
            line=record.line,
            foreign_ids=True,
        )
    except NoSpanError as error:
        yield _bad(record, raw, str(error))


def _parent(raw: Mapping[str, Any]) -> tuple[Any, list[dict[str, Any]]]:
    """The parent, and the other spans that this one refers to."""
    parent = raw.get("parentSpanID") or None
    links: list[dict[str, Any]] = []
    references = raw.get("references")
    for reference in references if isinstance(references, list) else ():
        if not isinstance(reference, Mapping):
            continue
        same = own_id(reference.get("traceID"), 16) == own_id(raw.get("traceID"), 16)
        if reference.get("refType") == "CHILD_OF" and same and parent is None:
            parent = reference.get("spanID")
        elif reference.get("spanID") != parent:
            links.append({"traceId": reference.get("traceID"), "spanId": reference.get("spanID")})
    return parent, links


def _origin(process: Any, scope: str | None, origins: dict[int, Origin]) -> Origin:
    if not isinstance(process, Mapping):
        return origin_of({}, scope)
    known = origins.get(id(process))
    if known is None or known.scope != scope:
        resource = _tags(process.get("tags"))
        if process.get("serviceName"):
            resource["service.name"] = process["serviceName"]
        known = origins[id(process)] = origin_of(resource, scope)
    return known


def _logs(logs: Any) -> Sequence[Event]:
    events = []
    for log in logs if isinstance(logs, list) else ():
        if isinstance(log, Mapping):
            fields = _tags(log.get("fields"))
            name = fields.pop("event", None) or fields.pop("name", None) or fields.get("message") or "log"
            micros = as_int(log.get("timestamp"))
            time_ns = None if micros is None else micros * 1000
            events.append(Event(name=str(name), attributes=fields, time_ns=time_ns))
    return events


def _tags(tags: Any) -> dict[str, Any]:
    """Tags as attributes, numbers and truth values as such."""
    if isinstance(tags, Mapping):
        return dict(tags)
    return {
        str(tag["key"]): _value(tag.get("type"), tag.get("value"))
        for tag in (tags if isinstance(tags, list) else ())
        if isinstance(tag, Mapping) and "key" in tag
    }


def _value(kind: Any, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if kind == "int64":
        number = as_int(value)
        return value if number is None else number
    if kind == "float64":
        real = as_float(value)
        return value if real is None else real
    return value.lower() == "true" if kind == "bool" else value
