"""Source objects into batches: bounded groups of rows, each written to the lake in one transaction."""

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from itertools import chain

import pyarrow as pa

from tracemill.errors import ConfigError, FormatError, SourceError
from tracemill.ids import content_id
from tracemill.ingest import archives
from tracemill.ingest.archives import Unpacking
from tracemill.ingest.building import TOGETHER, Building
from tracemill.ingest.detect import choose, look
from tracemill.ingest.formats import FORMATS
from tracemill.ingest.limits import Limits, TooLargeError
from tracemill.ingest.reader import BadRecord, Done, Item, Reader, Stream
from tracemill.ingest.redact import Ruleset
from tracemill.ingest.source import SourceObject
from tracemill.records import Batch

BATCH_BYTES = 16 * 1024 * 1024
"""About what one batch holds; an object may end in several."""
_SPAN_BYTES = 40_000
"""So much of a batch is one span that waits for others, at the most: what waits is little beside it."""
_OBJECTS = 200_000
"""How many more objects there may be before Python looks for cycles."""


def never(uri: str, content_hash: str) -> bool:
    """Nothing was taken in before."""
    return False


def unknown(fingerprint: str) -> bool:
    """No object was seen in this state before."""
    return False


def unheeded(uri: str, content_hash: str, fingerprint: str) -> None:
    """Nobody wants to know."""


def nothing(uri: str, content_hash: str) -> int:
    """No object was taken in in part."""
    return 0


def none(uri: str) -> Mapping[str, int]:
    """Nothing was refused before."""
    return {}


def readers(format: str = "auto", extra: Sequence[Reader] = ()) -> str:
    """Names the readers that look at sources: others may understand what these refused."""
    looking = [[reader.name, reader.about.maps] for reader in (*extra, *FORMATS)]
    return content_id(version("tracemill"), format, looking)


def batches(
    objects: Iterable[SourceObject],
    *,
    key: bytes,
    now_ns: int,
    known: Callable[[str], bool] = unknown,
    seen: Callable[[str, str], bool] = never,
    same: Callable[[str, str, str], None] = unheeded,
    position: Callable[[str, str], int] = nothing,
    refused: Callable[[str], Mapping[str, int]] = none,
    format: str = "auto",
    extra: Sequence[Reader] = (),
    rules: Ruleset | None = None,
    limits: Limits | None = None,
    max_bytes: int = BATCH_BYTES,
) -> Iterator[Batch]:
    """Batches of about `max_bytes`, in the order of the objects; what `known` or `seen` knows is left out.

    `known` is asked first, for the fingerprint that the ledger keeps of an object's state as its store tells it: what
    it knows is not even opened. `seen` is asked for the object and its content hash, after a reading of all its bytes;
    `same` is told where `seen` knows an object whose state is new.

    An object that holds more comes in several batches: its ledger row stands in the last one, each earlier one has a
    row of `ingest_progress` that says after how many source records it ends. A stopped run is continued there: that
    number is what `position` answers. What nobody can read is a quarantine row, not an exception; a file that cannot
    be opened or fails on the way gets no ledger row, so that it is tried again.
    `refused` answers for a URI with the states (content hash, bytes) that records were refused of: what an object has
    grown out of is said in its batch (`outgrown`).
    `key` is the lake's secret; `now_ns` a time not after `objects` were found; `extra` are readers asked before the
    built-in ones. `rules` say what is redacted (default: every kind), `limits` what is too large to be read. `seen` and
    `position` are asked for URIs as they are written: without what signs them, redacted.

    Raises ConfigError on an unknown `format`, FormatError where a source holds nothing of an explicit `format`.
    """
    if format != "auto" and format not in {reader.name for reader in (*extra, *FORMATS)}:
        names = ", ".join(reader.name for reader in (*extra, *FORMATS))
        raise ConfigError(f"unknown format {format!r}; known: auto, {names}")
    make = partial(
        Building,
        key=key,
        now_ns=now_ns,
        readers=readers(format, extra),
        rules=rules,
        limits=limits,
        together=max(1, min(TOGETHER, max_bytes // _SPAN_BYTES)),
    )
    making = _Making(
        make,
        seen=seen,
        same=same,
        position=position,
        refused=refused,
        format=format,
        extra=extra,
        max_bytes=max_bytes,
    )
    with _few_collections():
        for source in objects:
            fingerprint = making.building.fingerprint(source)
            if fingerprint is None or not known(fingerprint):
                yield from making.take(source, fingerprint if source.settled_ns <= now_ns else None)
        if not making.building.empty:
            yield making.building.finish()


@contextmanager
def _few_collections() -> Iterator[None]:
    """What is decoded here is freed by counting, without cycles: looking for them at the usual pace costs a fifth."""
    usual = gc.get_threshold()
    gc.set_threshold(max(usual[0], _OBJECTS), *usual[1:])
    try:
        yield
    finally:
        gc.set_threshold(*usual)


class _Making:
    """The batch that is being put together, and what it is put together from."""

    def __init__(
        self,
        make: Callable[[], Building],
        *,
        seen: Callable[[str, str], bool],
        same: Callable[[str, str, str], None],
        position: Callable[[str, str], int],
        refused: Callable[[str], Mapping[str, int]],
        format: str,
        extra: Sequence[Reader],
        max_bytes: int,
    ) -> None:
        self._make = make
        self.building = make()
        self._seen = seen
        self._same = same
        self._position = position
        self._refused = refused
        self._format = format
        self._extra = extra
        self._asked = tuple(reader for reader in (*extra, *FORMATS) if format in ("auto", reader.name))
        self._max_bytes = max_bytes

    def take(
        self, source: SourceObject, fingerprint: str | None, within: Unpacking | None = None, depth: int = 0
    ) -> Iterator[Batch]:
        """Takes in an object unless it was before, of an archive each of its files; gives the batches that are full.

        `within` is what the archives around it may still unpack to, `depth` how many they are.
        """
        uri = self.building.written(source.uri)
        begun = False
        try:
            with source.at_hand() as near:
                digest = near.content_hash
                if self._seen(uri, digest):
                    if fingerprint is not None:
                        self._same(uri, digest, fingerprint)
                    return
                kind = archives.kind_of(near, self._asked, self.building.limits)
                if kind is not None:
                    yield from self._unpack(near, kind, fingerprint, within, depth)
                    return
                begun = True
                self.building.begin(
                    near, content_hash=digest, position=self._position(uri, digest), fingerprint=fingerprint
                )
                self._outgrow(near, digest, self._refused(uri))
                yield from self._read(near)
        except FormatError as error:
            if within is None:
                raise
            self.building.add(BadRecord(reason=error.reason))
            self.building.end()
        except SourceError as error:
            if not begun:
                self.building.begin(source)
            self.building.fail(error.reason)
        if max(self.building.size, self.building.bytes_in) >= self._max_bytes:
            yield self._finished(self._make())

    def _unpack(
        self, near: SourceObject, kind: archives.Kind, fingerprint: str | None, within: Unpacking | None, depth: int
    ) -> Iterator[Batch]:
        """The files of an archive; its own ledger row stands after theirs, so that a stopped run comes back to them."""
        unpacking = within or Unpacking(self.building.limits, near.size_bytes)
        count, refused = 0, []
        if depth == archives.DEEPEST:
            refused.append(BadRecord(reason=f"more than {archives.DEEPEST} archives lie in each other"))
        else:
            for member in archives.members(near, kind, unpacking):
                if isinstance(member, BadRecord):
                    refused.append(member)
                else:
                    count += 1
                    yield from self.take(member, None, unpacking, depth + 1)
        self.building.begin(near, content_hash=near.content_hash, fingerprint=fingerprint)
        self.building.recognised(archives.FORMAT, f"a {kind} archive")
        for bad in refused:
            self.building.add(bad)
        self.building.add(Done(count=count))
        self.building.end()

    def _outgrow(self, near: SourceObject, digest: str, refused: Mapping[str, int]) -> None:
        """Says which of those states the object that was begun has grown out of."""
        smaller = {old: size for old, size in refused.items() if old != digest and size <= near.hashed_bytes}
        found = near.beginnings(smaller.values()) if smaller else {}
        for old, size in smaller.items():
            if found.get(size) == old:
                self.building.outgrow(old)

    def _finished(self, following: Building) -> Batch:
        """The batch that is full. What it was made with is let go before anyone works on it: that is as large again."""
        pa.default_memory_pool().release_unused()  # what the batches before this one were made of
        batch = self.building.finish()
        self.building = following
        return batch

    def _read(self, near: SourceObject) -> Iterator[Batch]:
        """The object that was begun, to its end."""
        for item in items(near, self.building, self._format, self._extra):
            self.building.add(item)
            if isinstance(item, Done) and self.building.size >= self._max_bytes and self.building.at_new:
                yield self._finished(self.building.successor())
        self.building.end()


def items(
    source: SourceObject, building: Building, format: str = "auto", extra: Sequence[Reader] = ()
) -> Iterator[Item | Done]:
    """Everything in one object; tells `building` which format it is.

    A wrong explicit format raises FormatError before anything of the object is given.
    """
    with source.decompressed() as file:
        stream = Stream(name=source.name, file=file, limits=building.limits, stored=source.size_bytes)
        stream.start()
        try:
            head = look(stream)
        except TooLargeError as error:
            yield BadRecord(reason=str(error))
            return
        reader, reason = choose(head, (*extra, *FORMATS), format)
        building.recognised(None if reader is None else reader.name, reason)
        if stream.broken is not None and not stream.head:
            yield BadRecord(reason=stream.broken)
            return
        if reader is None or not head.data.strip():
            yield BadRecord(
                reason=reason if head.data.strip() else "the file is empty",
                excerpt=""
                if head.shape in ("binary", "parquet", "zip")
                else head.data[:2000].decode("utf-8", "replace"),
            )
            return
        found = reader.read(stream, head)
        if format != "auto" and reader.sniff(head) is None:
            found = _checked(found, source, format, building)
        said = False
        try:
            for item in found:
                said = said or not isinstance(item, Done)
                yield item
        except TooLargeError as error:
            yield BadRecord(reason=str(error))
        if stream.broken is not None:
            yield BadRecord(reason=stream.broken)
        elif not said:
            yield BadRecord(reason=f"no record of it says anything that {reader.name} makes a row of")


def _checked(
    found: Iterator[Item | Done], source: SourceObject, format: str, building: Building
) -> Iterator[Item | Done]:
    """The items, if the first hundred hold a good one."""
    first: list[Item | Done] = []
    for item in found:
        first.append(item)
        if not isinstance(item, BadRecord | Done):
            return chain(first, found)
        if len(first) >= 100:
            break
    why = next((item.reason for item in first if isinstance(item, BadRecord)), "it holds no record")
    why = building.shown(why)
    raise FormatError(source.uri, f"this is not {format}: {why}; leave --format away to have the format detected")
