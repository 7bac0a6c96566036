"""Spans as objects with an attributes object: what the SDKs print, Phoenix, Monocle, Logfire, and rows of tables.

JavaScript's `ReadableSpan` loses its parent in JSON. In a file where no span names one, all spans of a trace hang below
one synthetic root, the same in every file.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from tracemill.ids import content_id
from tracemill.ingest.documents import Record, guarded, loads, records, shown
from tracemill.ingest.otel import rows as otel_rows
from tracemill.ingest.otel.envelope import own_id
from tracemill.ingest.reader import About, BadRecord, Done, Head, Item, RawSpan, Stream
from tracemill.ingest.tables import each_row

_TRACE_COLUMNS = ("trace_id", "traceId", "context.trace_id")
_SPAN_COLUMNS = ("span_id", "spanId", "context.span_id")


class OtelSpans:
    """Reader of spans as objects or rows."""

    name = "otel-spans"
    about = About(
        title="OpenTelemetry spans as objects or rows",
        files="Console exporter and `ReadableSpan.to_json()`, JavaScript `ReadableSpan`, Phoenix (REST, data frame, "
        "Parquet), Monocle, Logfire rows; JSON, JSON lines, CSV, Parquet",
        maps="As OTLP/JSON: every span in the dialect it speaks; fields of no known name stay in the attributes",
        lacks="The scope, and in JavaScript the parent, where the SDK does not write them",
    )

    def sniff(self, head: Head) -> str | None:
        if head.columns and head.shape in ("csv", "parquet"):
            return _columns(head.columns)
        found = [(record, list(_members(record))) for record in head.records if isinstance(record, dict)]
        spans = [row for _, members in found for row in members if otel_rows.is_row(row)]
        claimed = [members for _, members in found if any(otel_rows.is_row(row) for row in members)]
        if not spans or 2 * len(claimed) < len(head.records):
            return None
        return otel_rows.why(spans[0])

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        if head.shape in ("csv", "parquet"):
            typed = head.shape == "parquet"
            yield from each_row(
                stream, head, lambda line, row: _items(otel_rows.without_nulls(row) if typed else row, line, None)
            )
            return
        roots = _Roots() if _parentless(head) else None
        for record in records(stream, head):
            if isinstance(record, BadRecord):
                yield record
            else:
                yield from _record(record, roots)
            yield Done()


class _Roots:
    """The synthetic root of each trace, given once."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def above(self, row: Mapping[str, Any]) -> str | None:
        trace = own_id(otel_rows.ids_of(row).trace_id, 16)
        return None if trace is None else content_id("javascript-root", trace)[:16]

    def new(self, span: RawSpan) -> RawSpan | None:
        """The root, if it is the trace's first span; it begins with that span."""
        if span.trace_id in self._known:
            return None
        self._known.add(span.trace_id)
        return RawSpan(
            trace_id=span.trace_id,
            span_id=str(span.parent_span_id),
            kind="chain",
            name="trace",
            seq=-1,
            start_ns=span.start_ns,
            service=span.service,
            session_id=span.session_id,
            resource=span.resource,
            line=span.line,
            dialect="plain",
            flags=["synthetic"],
        )


def _record(record: Record, roots: _Roots | None) -> Iterator[Item]:
    try:
        found = loads(record.raw)
    except ValueError as error:
        yield record.bad(str(error))
        return
    members = list(_members(found)) if isinstance(found, dict) else []
    if not members:
        if not (isinstance(found, dict) and any(found.get(name) == [] for name in ("spans", "data"))):
            yield record.bad("no span: no object with trace id, span id and attributes")
        return
    for row in members:
        bad = record.bad if row is found else partial(_bad_row, record.line, row, offset=record.offset)
        if not isinstance(row, Mapping) or not otel_rows.is_named(row):
            yield bad("no span: trace id or span id is missing")
            continue
        yield from guarded(_items(row, record.line, roots), bad)


def _items(row: Mapping[str, Any], line: int, roots: _Roots | None) -> Iterator[Item]:
    ids = otel_rows.ids_of(row)
    above = None if roots is None or not ids.javascript or ids.names_parent else roots.above(row)
    items = otel_rows.row_items(row, line=line, parent_id=above)
    if roots is not None and above is not None and isinstance(items[0], RawSpan):
        root = roots.new(items[0])
        if root is not None:
            yield root
    yield from items


def _members(found: Any) -> Iterator[Any]:
    """The spans in a record: itself, its `spans` or `data`, or lists of them under names of the writer's own."""
    if not isinstance(found, Mapping):
        return
    if otel_rows.is_row(found):
        yield found
        return
    for name in ("spans", "data"):
        if isinstance(found.get(name), list) and (not found[name] or any(map(otel_rows.is_row, found[name]))):
            yield from found[name]
            return
    held: Sequence[Any] = list(found.values())
    if held and all(isinstance(value, list) and any(map(otel_rows.is_row, value)) for value in held):
        for value in held:
            yield from value
        return
    if otel_rows.is_named(found) and "attributes" in found:
        yield found


def _parentless(head: Head) -> bool:
    spans = [row for record in head.records for row in _members(record) if otel_rows.is_row(row)]
    ids = [otel_rows.ids_of(row) for row in spans]
    return any(found.javascript for found in ids) and not any(found.names_parent for found in ids)


def _columns(columns: Sequence[str]) -> str | None:
    attributes = [name for name in columns if name == "attributes" or name.startswith("attributes.")]
    named = any(name in columns for name in _TRACE_COLUMNS) and any(name in columns for name in _SPAN_COLUMNS)
    return f"a table of spans with {attributes[0]}" if attributes and named else None


def _bad_row(line: int, row: Any, reason: str, *, offset: int | None = None) -> BadRecord:
    return BadRecord(reason=reason, line=line, offset=offset, excerpt=shown(row))
