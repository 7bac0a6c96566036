"""Rows of JSON lines, CSV and Parquet files, one by one, each with the line it stands on."""

import csv
import io
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tracemill.ingest.documents import loads, records
from tracemill.ingest.reader import BadRecord, Head, Stream

Row = tuple[int, dict[str, Any]]
"""1-based line (in Parquet: row) and the row. Empty CSV cells are left out: not known is not ''."""


def rows(stream: Stream, head: Head) -> Iterator[Row | BadRecord]:
    if head.shape == "parquet":
        yield from _parquet(stream)
    elif head.shape == "csv":
        yield from _csv(stream)
    else:
        for record in records(stream, head):
            if isinstance(record, BadRecord):
                yield record
                continue
            try:
                row = loads(record.raw)
            except ValueError as error:
                yield record.bad(str(error))
                continue
            yield (record.line, row) if isinstance(row, dict) else record.bad("no row: not a JSON object")


def _parquet(stream: Stream) -> Iterator[Row | BadRecord]:
    try:
        number = 0
        for batch in pq.ParquetFile(io.BytesIO(stream.read())).iter_batches(batch_size=4096):
            for row in batch.to_pylist():
                number += 1
                yield number, {name: _plain(value) for name, value in row.items() if value is not None}
    except (pa.ArrowException, OSError) as error:
        yield BadRecord(reason=f"no readable Parquet file: {error}")


def _plain(value: Any) -> Any:
    if isinstance(value, date):  # a datetime is one too
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    return value.hex() if isinstance(value, bytes) else value


def _csv(stream: Stream) -> Iterator[Row | BadRecord]:
    """Line by line, so that a bad line costs only itself; a quoted cell may hold line breaks."""
    columns: list[str] | None = None
    held, begin, offset = "", 0, 0
    for line in stream.lines():
        text = line.raw.decode("utf-8-sig" if line.line == 1 else "utf-8", "replace").rstrip("\r")
        if not held:
            begin, offset = line.line, line.offset
        held = f"{held}\n{text}" if held else text
        if held.count('"') % 2 and line.complete:
            continue
        text, held = held, ""
        if not text.strip():
            continue
        try:
            (cells,) = csv.reader(io.StringIO(text), strict=True)
        except (csv.Error, ValueError) as error:
            yield BadRecord(reason=f"no CSV row: {error}", line=begin, offset=offset, excerpt=text[:2000])
            continue
        if columns is None:
            columns = [cell.strip() for cell in cells]
        elif len(cells) != len(columns):
            reason = f"{len(cells)} cells under {len(columns)} columns"
            yield BadRecord(reason=reason, line=begin, offset=offset, excerpt=text[:2000])
        else:
            yield begin, {name: cell for name, cell in zip(columns, cells, strict=True) if cell != ""}
    if held:
        yield BadRecord(reason="an open quote at the end", line=begin, offset=offset, excerpt=held[:2000])
