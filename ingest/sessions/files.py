"""Reading a file of sessions: records are handed to what one format makes of them, then come the spans."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, Protocol

from tracemill.ids import content_id
from tracemill.ingest.attributes import written
from tracemill.ingest.documents import MALFORMED, Record, loads, records, shown, why
from tracemill.ingest.reader import BadRecord, Done, Head, Item, Stream
from tracemill.ingest.sessions.session import Spans


class Keys:
    """Names records: by their own id where they have one, else by content and how often it was there before."""

    def __init__(self) -> None:
        self._times: dict[str, int] = {}

    def of(self, value: Mapping[str, Any], own: Any = None) -> str:
        if isinstance(own, str) and own:
            return own
        key = content_id(written(value))
        times = self._times[key] = self._times.get(key, 0) + 1
        return key if times == 1 else f"{key}/{times}"


def named(file: str) -> str | None:
    """The session that a file is called after, where its records do not name one."""
    name = PurePosixPath(file).name
    return name.removesuffix(".gz").removesuffix(".zst").removesuffix(".jsonl") or None


class Reading(Protocol):
    """What one format makes of a file: takes the records one after the other, then gives the sessions."""

    def add(self, value: dict[str, Any], record: Record) -> Iterable[BadRecord]:
        """Takes one record; gives what of it cannot be used, where it holds several messages.

        Raises ValueError, or what malformed records raise, where the record cannot be used at all.
        """
        ...

    def sessions(self) -> Iterable[Spans]: ...


def read(stream: Stream, head: Head, reading: Reading) -> Iterator[Item | Done]:
    """Everything in a file of sessions: bad records at once, spans when all records are known.

    All records are held until then, so a file is as large as a document may be.
    """
    good, size = 0, 0
    for record in records(stream, head):
        if isinstance(record, BadRecord):
            yield record
            yield Done()
            continue
        size += len(record.raw)
        if size > (most := stream.limits.document_bytes):
            reason = f"the session holds more than the {most:,} bytes that are read at once ([limits] document_mib)"
            yield record.bad(f"{reason}; what comes after is not read")
            yield Done()
            break
        try:
            value = loads(record.raw)
            if not isinstance(value, dict):
                raise ValueError("no record of a session: not a JSON object")
            yield from reading.add(value, record)
        except MALFORMED as error:
            yield record.bad(why(error))
            yield Done()
        else:
            good += 1
    for item in _emitted(reading):
        if isinstance(item, Done):
            item.count = 1 if good > 0 else 0
            good -= 1
        yield item
    if good > 0:
        yield Done(count=good)


def each(values: Any, record: Record, take: Callable[[Any, int], None]) -> Iterator[BadRecord]:
    """Hands over the messages of one record; those that `take` cannot use are bad, the others stay."""
    for value in values if isinstance(values, list) else []:
        try:
            if not isinstance(value, dict):
                raise ValueError("no record of a session: not a JSON object")
            take(value, record.line)
        except MALFORMED as error:
            yield BadRecord(reason=why(error), line=record.line, offset=record.offset, excerpt=shown(value))


def _emitted(reading: Reading) -> Iterator[Item | Done]:
    try:
        for spans in reading.sessions():
            for _, found in spans:
                yield from found
                yield Done()
    except MALFORMED as error:
        yield BadRecord(reason=f"malformed session: {type(error).__name__}: {error}")
