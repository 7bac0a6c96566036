"""Source objects into batches: bounded groups of rows, each written to the lake in one transaction."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from tracemill.errors import ConfigError, FormatError
from tracemill.ingest.building import Building
from tracemill.ingest.detect import choose, look
from tracemill.ingest.formats import FORMATS
from tracemill.ingest.reader import BadRecord, Done, Item, Stream
from tracemill.ingest.source import SourceObject
from tracemill.records import Batch

MIB = 1024 * 1024


def never(uri: str, content_hash: str) -> bool:
    """Nothing was taken in before."""
    return False


def batches(
    objects: Iterable[SourceObject],
    *,
    key: bytes,
    now_ns: int,
    seen: Callable[[str, str], bool] = never,
    format: str = "auto",
    max_bytes: int = 64 * MIB,
) -> Iterator[Batch]:
    """Batches of about `max_bytes`, in the order of the objects; what `seen` knows is left out.

    An object that holds more comes in several batches; its ledger row stands in the last one, so that a stopped run
    takes it in again (rows are known by their keys). What nobody can read is a quarantine row, not an exception.
    `key` is the lake's secret; `now_ns` the time of taking in.

    Raises ConfigError on an unknown `format`, FormatError where a source holds nothing of an explicit `format`,
    SourceError where an object has become unreadable.
    """
    if format != "auto" and format not in {reader.name for reader in FORMATS}:
        known = ", ".join(reader.name for reader in FORMATS)
        raise ConfigError(f"unknown format {format!r}; known: auto, {known}")
    building = Building(key=key, now_ns=now_ns)
    for source in objects:
        if seen(source.uri, source.content_hash):
            continue
        building.begin(source, part=0)
        part = 0
        for item in items(source, building, format):
            building.add(item)
            if isinstance(item, Done) and building.size >= max_bytes:
                yield building.finish()
                part += 1
                building = building.successor(part)
        building.end(source)
        if max(building.size, building.bytes_in) >= max_bytes:
            yield building.finish()
            building = Building(key=key, now_ns=now_ns)
    if not building.empty:
        yield building.finish()


def items(source: SourceObject, building: Building, format: str = "auto") -> Iterator[Item | Done]:
    """Everything in one object; tells `building` which format it is.

    A wrong explicit format raises FormatError before anything of the object is given.
    """
    with source.decompressed() as file:
        stream = Stream(name=source.name, file=file)
        stream.start()
        head = look(stream)
        reader, reason = choose(head, FORMATS, format)
        building.recognised(None if reader is None else reader.name, reason)
        if stream.broken is not None and not stream.head:
            yield BadRecord(reason=stream.broken)
            return
        if reader is None or not head.data.strip():
            yield BadRecord(
                reason=reason if head.data.strip() else "the file is empty",
                excerpt="" if head.shape in ("binary", "parquet") else head.data[:2000].decode("utf-8", "replace"),
            )
            return
        found = reader.read(stream, head)
        if format != "auto" and reader.sniff(head) is None:
            found = _checked(found, source, format)
        yield from found
        if stream.broken is not None:
            yield BadRecord(reason=stream.broken)


def _checked(found: Iterator[Item | Done], source: SourceObject, format: str) -> Iterator[Item | Done]:
    """The items, if the first hundred hold a good one."""
    first: list[Item | Done] = []
    for item in found:
        first.append(item)
        if not isinstance(item, BadRecord | Done):
            return chain(first, found)
        if len(first) >= 100:
            break
    why = next((item.reason for item in first if isinstance(item, BadRecord)), "it holds no record")
    raise FormatError(source.uri, f"this is not {format}: {why}; leave --format away to have the format detected")
