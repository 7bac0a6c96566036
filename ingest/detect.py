"""Which format is this? Magic bytes, then the first records; what no reader claims is quarantined, not guessed."""

import csv
import io
from collections.abc import Sequence
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tracemill.errors import ConfigError
from tracemill.ingest.documents import Record, loads, scan
from tracemill.ingest.reader import HEAD_BYTES, Head, Reader, Stream
from tracemill.ingest.zipped import is_zip, names_in

_NAMES, _NAME_CHARS = 12, 60
"""How many keys or columns a reason names, and how long a name is at most."""
_SAMPLE = 50
_BINARY = {
    b"SQLite format 3": "an SQLite database",
    b"\x89PNG": "an image",
    b"%PDF": "a PDF document",
    b"\x7fELF": "a program",
}


def look(stream: Stream) -> Head:
    """Decodes the beginning of a stream. Never raises on content."""
    data = stream.head
    if data.startswith(b"PAR1"):
        return Head(name=stream.name, data=data, shape="parquet", records=(), columns=_parquet_columns(stream))
    if is_zip(data):
        return Head(name=stream.name, data=data, shape="zip", records=(), columns=names_in(data))
    if data[:3] == b"\xef\xbb\xbf":
        data = data[3:]
    text = data.lstrip()
    if text[:1] in (b"{", b"["):
        return _json_head(stream, data)
    given = [line for line in data.split(b"\n")[: 4 * _SAMPLE] if line.strip()]
    lines = [loaded for loaded in map(_try, given) if isinstance(loaded, dict | list)]
    if lines and (len(lines) * 2 > len(given) or not _is_binary(data)):
        return Head(name=stream.name, data=data, shape="jsonl", records=_flat(lines))
    if columns := _csv_columns(data):
        return Head(name=stream.name, data=data, shape="csv", records=(), columns=columns)
    return Head(name=stream.name, data=data, shape="binary", records=())


def choose(head: Head, readers: Sequence[Reader], wanted: str = "auto") -> tuple[Reader | None, str]:
    """The reader and the reason for it; None with the reason why nobody reads this.

    With `wanted` other than "auto" that reader is taken unasked. Raises ConfigError on an unknown name.
    """
    if wanted != "auto":
        for reader in readers:
            if reader.name == wanted:
                return reader, "named by --format"
        raise ConfigError(f"unknown format {wanted!r}; known: auto, {', '.join(r.name for r in readers)}")
    if not head.data.strip():
        return None, "the file is empty"
    for reader in readers:
        reason = reader.sniff(head)
        if reason is not None:
            return reader, reason
    for magic, what in _BINARY.items():
        if head.data.startswith(magic):
            return None, f"unknown format: {what}"
    if head.shape == "binary":
        return None, "unknown format: neither JSON nor protobuf nor a table"
    if head.shape == "zip":
        return None, f"unknown format: a zip archive of {_named(head.columns) or 'nothing that is known'}"
    if head.columns:
        return None, f"unknown format: a table with the columns {_named(head.columns)}"
    keys = next((_named(list(r)) for r in head.records if isinstance(r, dict)), None)
    if keys is None:
        return None, "unknown format: no JSON record could be read"
    return None, f"unknown format: JSON records with the keys {keys}"


def _named(names: Sequence[str]) -> str:
    """The first of the names. A long one is told by its length: cut, half of a secret would pass redaction."""
    shown = [name if len(name) <= _NAME_CHARS else f"(one of {len(name)} characters)" for name in names[:_NAMES]]
    return ", ".join([*shown, "…"] if len(names) > _NAMES else shown)


def _json_head(stream: Stream, data: bytes) -> Head:
    lines = [line for line in data.split(b"\n")[: 4 * _SAMPLE] if line.strip()]
    whole = len(stream.head) < HEAD_BYTES
    if not whole and len(lines) > 1:
        lines = lines[:-1]
    loaded = [value for value in map(_try, lines) if isinstance(value, dict | list)]
    first = _try(lines[0]) if lines else None
    one_line = len(lines) == 1 and (whole or b"\n" not in data)
    if isinstance(first, dict | list) and not (one_line and isinstance(first, list)):
        return Head(name=stream.name, data=data, shape="jsonl", records=_flat(loaded))
    if len(loaded) * 2 > len(lines):
        return Head(name=stream.name, data=data, shape="jsonl", records=_flat(loaded))
    whole_data = stream.keep()
    document = _try(whole_data)
    if document is None and loaded and b"\n" in data.strip():
        return Head(name=stream.name, data=data, shape="jsonl", records=_flat(loaded))
    if document is None:
        document = _torn(whole_data.lstrip(b"\xef\xbb\xbf"))
    return Head(name=stream.name, data=data, shape="json", records=_flat([document]))


def _torn(data: bytes) -> Any:
    """What can still be read of a torn document, up to the sample size."""
    found = [record for record in islice(scan(data, 1, 0), _SAMPLE) if isinstance(record, Record)]
    if data.lstrip()[:1] == b"{":
        return {record.key: _try(record.raw) for record in found}
    return [value for record in found if (value := _try(record.raw)) is not None]


def _flat(values: Sequence[Any]) -> list[Any]:
    flat: list[Any] = []
    for value in values:
        if isinstance(value, list):
            flat.extend(value[:_SAMPLE])
        elif value is not None:
            flat.append(value)
    return flat[:_SAMPLE]


def _try(raw: bytes) -> Any:
    try:
        return loads(raw.strip())
    except ValueError:
        return None


def _is_binary(data: bytes) -> bool:
    return b"\x00" in data[:4096]


def _csv_columns(data: bytes) -> list[str]:
    if _is_binary(data):
        return []
    try:
        first = data.split(b"\n", 1)[0].decode("utf-8").strip()
    except UnicodeDecodeError:
        return []
    try:
        columns = next(csv.reader(io.StringIO(first)), []) if first else []
    except csv.Error:  # a line longer than the names of columns ever are
        return []
    plain = all(column.strip().replace("_", "").replace(".", "").isalnum() for column in columns)
    return [column.strip() for column in columns] if len(columns) > 1 and plain else []


def _parquet_columns(stream: Stream) -> list[str]:
    try:
        return list(pq.read_schema(io.BytesIO(stream.keep())).names)
    except (pa.ArrowException, OSError):
        return []
