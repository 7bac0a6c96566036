"""Archives of logs: each file in a zip or a tar becomes a source object of its own, `logs.zip!/agent/run.jsonl`.

Nothing is unpacked to a place that has a name, whatever the members are called. What all members hold together is
bounded like one compressed file (limits.py), archives in archives included.
"""

import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import IO, Literal, cast

from tracemill.ingest.detect import look
from tracemill.ingest.limits import Limits, TooLargeError
from tracemill.ingest.reader import BadRecord, Reader, Stream
from tracemill.ingest.source import BROKEN, SourceObject
from tracemill.ingest.source.local import wanted
from tracemill.ingest.source.objects import CHUNK, spooled
from tracemill.ingest.zipped import EntryError, archive_in, is_zip

Kind = Literal["zip", "tar"]
FORMAT = "archive"
"""What the ledger calls an archive that was taken in file by file."""
DEEPEST = 4
"""So many archives may lie in each other."""
_MOST_MEMBERS = 200_000
_TAR_BLOCK = 512
_PIECE = 32 * 1024
"""How much is read at once: where a compressed archive is torn, what was asked for last is lost."""
_NO_LOGS = ("[Content_Types].xml", "META-INF/MANIFEST.MF", "mimetype")
"""Where a zip holds one of these it is a document or a program, not logs."""


class Unpacking:
    """What may still come out of one archive and those in it."""

    def __init__(self, limits: Limits, stored: int) -> None:
        self._most = limits.source_bytes(stored)
        self._left = self._most

    def take(self, size: int) -> None:
        """Raises TooLargeError when it is more than the limits allow."""
        self._left -= size
        if self._left < 0:
            raise TooLargeError(
                f"the archive unpacks to more than {self._most:,} bytes ([limits] source_gib and ratio); "
                "what comes after is not read"
            )


def kind_of(source: SourceObject, readers: tuple[Reader, ...], limits: Limits) -> Kind | None:
    """What archive of logs this is. None where it is none, or a zip that is one log of a format (Inspect's `.eval`)."""
    try:
        with source.decompressed() as file:
            begin = file.read(_TAR_BLOCK)
            if not is_zip(begin):
                return "tar" if _is_tar(begin) else None
        with source.decompressed() as file:
            stream = Stream(name=source.name, file=file, limits=limits, stored=source.size_bytes)
            stream.start()
            head = look(stream)
    except BROKEN:
        return None
    if any(name in _NO_LOGS for name in head.columns) or any(reader.sniff(head) for reader in readers):
        return None
    return "zip"


def members(source: SourceObject, kind: Kind, unpacking: Unpacking) -> Iterator[SourceObject | BadRecord]:
    """The files in an archive, each at hand until the next is asked for; and what could not be read of it.

    Of a torn member, what comes before the tear is given.
    """
    try:
        yield from _zipped(source, unpacking) if kind == "zip" else _tarred(source, unpacking)
    except (TooLargeError, EntryError) as error:
        yield BadRecord(reason=str(error))
    except (tarfile.TarError, *BROKEN) as error:
        yield BadRecord(reason=f"the archive is torn or broken: {error}")


def _zipped(source: SourceObject, unpacking: Unpacking) -> Iterator[SourceObject | BadRecord]:
    with _seekable(source, unpacking) as file:
        archive = archive_in(file)
        if archive.torn is not None:
            yield BadRecord(reason=archive.torn)
        for name in archive.entries:
            if _wanted(name):
                yield from _member(source, name, archive.chunks(name), unpacking)


def _tarred(source: SourceObject, unpacking: Unpacking) -> Iterator[SourceObject | BadRecord]:
    with source.decompressed() as file:
        forward = _Forward(file, unpacking)
        count = 0
        with tarfile.TarFile(fileobj=cast(IO[bytes], forward)) as archive:
            while (info := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # it would remember them all
                count += 1
                if count > _MOST_MEMBERS:
                    raise TooLargeError(f"the archive has more than {_MOST_MEMBERS:,} members; the rest is not read")
                if not info.isreg() or not _wanted(info.name):
                    continue  # a link is another member, or lies outside
                content = archive.extractfile(info)
                if content is not None:
                    # What a sparse member leaves out takes no byte of the archive.
                    yield from _member(source, info.name, _pieces(content), unpacking)
        if not forward.ended_well:
            yield BadRecord(reason="the archive is torn or broken: its end is missing")


def _member(
    source: SourceObject, name: str, pieces: Iterator[bytes], unpacking: Unpacking
) -> Iterator[SourceObject | BadRecord]:
    uri = f"{source.uri}!/{''.join(letter if letter.isprintable() else '�' for letter in name)}"
    torn: Exception | None = None
    digest, size = sha256(), 0
    with spooled() as spool:
        try:
            for piece in pieces:
                unpacking.take(len(piece))
                digest.update(piece)
                spool.write(piece)
                size += len(piece)
        except TooLargeError as error:
            raise TooLargeError(f"{name}: {error}") from error
        except (EntryError, tarfile.TarError, *BROKEN) as error:
            torn = error
        if size or torn is None:
            yield replace(
                source, uri=uri, size_bytes=size, version=None, settled_ns=0, held=spool, digest=digest.hexdigest()
            )
    if isinstance(torn, EntryError):
        yield BadRecord(reason=f"{name}: {torn}")
    elif torn is not None:
        raise torn


@contextmanager
def _seekable(source: SourceObject, unpacking: Unpacking) -> Iterator[IO[bytes]]:
    with source.open() as file:
        if is_zip(file.read(4)) and file.seekable():
            yield file
            return
    with source.decompressed() as packed, spooled() as spool:
        for piece in _pieces(packed):
            unpacking.take(len(piece))
            spool.write(piece)
        yield spool


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(_PIECE):
        yield piece


def _is_tar(begin: bytes) -> bool:
    """A first header with a right checksum; formats without one begin otherwise."""
    try:
        tarfile.TarInfo.frombuf(begin, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _wanted(name: str) -> bool:
    steps = [step for step in name.split("/") if step not in (".", "..")]
    return bool(steps[-1:] and steps[-1]) and all(map(wanted, steps)) and steps[0] != "__MACOSX"


@dataclass(slots=True)
class _Forward:
    """A stream as tarfile wants a file: it only ever goes on, and no more is read at once than a header may be long."""

    file: IO[bytes]
    unpacking: Unpacking
    position: int = 0
    ended_well: bool = False
    """Whether the blocks of zeros at the end were there."""

    def read(self, size: int) -> bytes:
        if size > CHUNK:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        data = self._exactly(size)
        if size == _TAR_BLOCK and not data.strip(b"\x00"):
            self.ended_well = len(data) == size
        return data

    def seek(self, position: int, whence: int = 0) -> int:
        if whence != 0 or position < self.position:
            raise tarfile.ReadError("the archive goes back in itself")
        while position > self.position:
            step = min(CHUNK, position - self.position)
            if len(self._exactly(step)) < step:
                break
        return self.position

    def tell(self) -> int:
        return self.position

    def _exactly(self, size: int) -> bytes:
        found: list[bytes] = []
        while size > 0 and (data := self.file.read(size)):
            found.append(data)
            size -= len(data)
            self.position += len(data)
        return found[0] if len(found) == 1 else b"".join(found)
