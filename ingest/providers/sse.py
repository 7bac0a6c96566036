"""Server-sent events: what a streaming endpoint answered, kept as text; its `data:` payloads as records."""

import re
from collections.abc import Iterator
from typing import Any

from tracemill.ingest.documents import Record, loads, records, unwrap
from tracemill.ingest.limits import Limits
from tracemill.ingest.reader import BadRecord, Head, Line, Stream

_FIELD = re.compile(rb"(event|data|id|retry)?:")
_SAMPLE = 50


def is_events(data: bytes) -> bool:
    """Whether the bytes begin as an event stream whose first payload is a JSON object."""
    for line in data[:65536].split(b"\n")[:20]:
        found = _FIELD.match(line)
        if line.strip() and found is None:
            return False
        if found and found.group(1) == b"data":
            return line[5:].strip()[:1] == b"{"
    return False


def delivered(stream: Stream, head: Head) -> Iterator[Record | BadRecord]:
    """The records of a file of events: payloads of server-sent events, or JSON as `records` reads it."""
    if is_events(head.data):
        yield from _payloads(stream.lines(), stream.limits)
    else:
        yield from records(stream, head)


def decoded(stream: Stream, head: Head) -> Iterator[tuple[Record, Any] | BadRecord]:
    """As `delivered`, each record with its value; what is no JSON is refused."""
    for record in delivered(stream, head):
        if isinstance(record, BadRecord):
            yield record
            continue
        try:
            yield record, unwrap(loads(record.raw))
        except ValueError as error:
            yield record.bad(str(error))


def sampled(head: Head) -> list[Any]:
    """Up to 50 decoded records of the head, payloads of server-sent events included."""
    if not is_events(head.data):
        return list(head.records)
    return list(said(head.data))[:_SAMPLE]


def said(data: bytes) -> Iterator[Any]:
    """The decoded payloads of an event stream that is whole in memory; broken ones are left out."""
    lines = (Line(line=n, offset=0, raw=raw, complete=True) for n, raw in enumerate(data.split(b"\n"), start=1))
    for record in _payloads(lines):
        if isinstance(record, Record):
            try:
                yield loads(record.raw)
            except ValueError:
                continue


def _payloads(lines: Iterator[Line], limits: Limits | None = None) -> Iterator[Record | BadRecord]:
    """A payload of several `data:` lines is one record at its first line. The end marker [DONE] is none."""
    held: list[bytes] = []
    size = 0
    at: Line | None = None
    for line in lines:
        raw = line.raw.rstrip(b"\r")
        if raw.startswith(b"data:"):
            size = (size if held else 0) + (line.size or len(raw))
            at = at or line
            held.append(raw[5:].removeprefix(b" "))
            if limits is not None and size > limits.record_bytes:
                yield BadRecord(reason=limits.record_too_large(size), line=at.line, offset=at.offset)
                held, at = [], None
        elif not raw.strip():
            yield from _record(held, at)
            held, at = [], None
        elif not _FIELD.match(raw):
            yield BadRecord(
                reason="not a line of an event stream",
                line=line.line,
                offset=line.offset,
                excerpt=raw[:2000].decode("utf-8", "replace"),
            )
        elif raw.startswith(b"event:") and held:  # the blank line between two events is missing
            yield from _record(held, at)
            held, at = [], None
    yield from _record(held, at)


def _record(held: list[bytes], at: Line | None) -> Iterator[Record]:
    payload = b"\n".join(held).strip()
    if at is not None and payload and payload != b"[DONE]":
        yield Record(raw=payload, line=at.line, offset=at.offset)
