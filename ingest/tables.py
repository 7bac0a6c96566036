"""Rows of JSON lines, CSV and Parquet files, one by one, each with the line it stands on."""

import csv
import io
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tracemill.ingest.documents import guarded, loads, records, shown, told
from tracemill.ingest.reader import BadRecord, Done, Head, Item, Stream

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


def each_row(
    stream: Stream, head: Head, items: Callable[[int, dict[str, Any]], Iterator[Item]]
) -> Iterator[Item | Done]:
    """The items of every row, which `items` makes of line and cells; what goes wrong with one costs only that one."""
    for found in rows(stream, head):
        if isinstance(found, BadRecord):
            yield found
        else:
            bad = partial(bad_row, *found)
            yield from told(guarded(items(*found), bad), bad)
        yield Done()


def bad_row(line: int, row: Any, reason: str) -> BadRecord:
    return BadRecord(reason=reason, line=line, excerpt=shown(row))


def _parquet(stream: Stream) -> Iterator[Row | BadRecord]:
    try:
        number = 0
        data = stream.read()
        file = pq.ParquetFile(io.BytesIO(data))
        if file.metadata.num_rows > (most := stream.limits.ratio * max(len(data), 4096)):
            yield BadRecord(reason=f"the Parquet file claims {file.metadata.num_rows:,} rows, more than {most:,}")
            return
        for batch in file.iter_batches(batch_size=_batch_rows(file.metadata, stream.limits.document_bytes)):
            for row in batch.to_pylist():
                number += 1
                yield number, {name: _plain(value) for name, value in row.items() if value is not None}
    except (pa.ArrowException, OSError) as error:
        yield BadRecord(reason=f"no readable Parquet file: {error}")


def _batch_rows(metadata: pq.FileMetaData, budget: int) -> int:
    """How many rows can be unpacked at once, if each of them holds all that its column has in a dictionary."""
    largest = max(
        (
            group.column(column).total_uncompressed_size
            for group in map(metadata.row_group, range(metadata.num_row_groups))
            for column in range(group.num_columns)
        ),
        default=0,
    )
    return max(1, min(4096, budget // max(1, largest)))


def _plain(value: Any) -> Any:
    if isinstance(value, date):  # a datetime is one too
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    return value.hex() if isinstance(value, bytes) else value


def _csv(stream: Stream) -> Iterator[Row | BadRecord]:
    """Line by line, so that a bad line costs only itself; a quoted cell may hold line breaks."""
    # The module's own limit of 128 KiB refuses prompts; rows are bounded by `record_bytes` below.
    csv.field_size_limit(max(csv.field_size_limit(), stream.limits.record_bytes))
    columns: list[str] | None = None
    held: list[str] = []
    size, begin, offset = 0, 0, 0
    open_quote = False
    for line in stream.lines():
        text = line.raw.decode("utf-8-sig" if line.line == 1 else "utf-8", "replace").rstrip("\r")
        if not held:
            size, begin, offset = 0, line.line, line.offset
        held.append(text)
        size += line.size or len(text) + 1
        open_quote ^= bool(text.count('"') % 2)
        if size > stream.limits.record_bytes:
            reason = stream.limits.record_too_large(size)
            yield BadRecord(reason=reason, line=begin, offset=offset, excerpt="\n".join(held[:100])[:2000])
            held, open_quote = [], False
            continue
        if open_quote and line.complete:
            continue
        text, held, open_quote = "\n".join(held), [], False
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
        excerpt = "\n".join(held[:100])[:2000]
        yield BadRecord(reason="an open quote at the end", line=begin, offset=offset, excerpt=excerpt)
