"""One file or object that holds logs: what is known of it before it is read, and its bytes."""

import gzip
import hashlib
import io
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import IO, Any, cast

import zstandard

from tracemill.errors import SourceError
from tracemill.ingest.source import remote

CHUNK = 1 << 20
SPOOL_BYTES = 16 * CHUNK
"""What is downloaded or unpacked is held in memory up to here, in a nameless temporary file beyond."""

BROKEN = (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError)
"""What a torn or garbled compressed file raises while it is read."""


@dataclass(frozen=True, kw_only=True)
class SourceObject:
    """One file or object that holds logs. `content_hash` is of the bytes as stored, and reads them once."""

    uri: str
    size_bytes: int
    unreadable: str | None = None
    """Why it cannot be read, where that is known already; reading it raises SourceError."""
    version: str | None = None
    """What its store says of its state, without reading it: other bytes, another version. None: it does not say."""
    settled_ns: int = 0
    """Until then (UTC nanoseconds) its bytes may still change without another `version`: its clock is coarse."""
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """What its fsspec file system is made with."""
    held: IO[bytes] | None = field(default=None, repr=False, compare=False)
    """Its bytes, where they were fetched already; see `at_hand`."""
    digest: str | None = field(default=None, repr=False, compare=False)
    """The content hash, where it was taken already."""

    @property
    def content_hash(self) -> str:
        """SHA-256 (hex). Raises SourceError where the object cannot be read any more."""
        return self._hashed[0]

    @property
    def hashed_bytes(self) -> int:
        """How many bytes `content_hash` is of: a file that is being written has more by then than it was found with."""
        return self._hashed[1]

    @cached_property
    def _hashed(self) -> tuple[str, int]:
        if self.digest is not None:
            return self.digest, self.size_bytes
        digest, size = hashlib.sha256(), 0
        with self.open() as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                size += len(chunk)
        return digest.hexdigest(), size

    def beginnings(self, sizes: Iterable[int]) -> dict[int, str]:
        """The content hashes of its first so many bytes, of those sizes that it has."""
        found: dict[int, str] = {}
        digest, at = hashlib.sha256(), 0
        with self.open() as file:
            for size in sorted(set(sizes)):
                while at < size and (chunk := file.read(min(CHUNK, size - at))):
                    digest.update(chunk)
                    at += len(chunk)
                if at < size:
                    break
                found[size] = digest.hexdigest()
        return found

    @property
    def name(self) -> str:
        return self.uri.rsplit("/", 1)[-1]

    @contextmanager
    def at_hand(self) -> Iterator["SourceObject"]:
        """This object where its bytes can be read again and again: what lies behind a URL is downloaded, once.

        Raises SourceError where that fails; nothing of it was given out then.
        """
        if self.held is not None or self.unreadable is not None or "://" not in self.uri:
            yield self
            return
        with spooled() as spool:
            with self.open() as file:
                size, digest = copied(file, spool)
            yield replace(self, held=spool, size_bytes=size, digest=digest)

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """The bytes as stored, from the beginning. What goes wrong comes out as SourceError that names the object."""
        if self.unreadable is not None:
            raise SourceError(self.uri, self.unreadable)
        if self.held is not None:
            self.held.seek(0)
            yield self.held
            return
        try:
            with remote.open(self.uri, self.options) if "://" in self.uri else open(self.uri, "rb") as file:
                yield file
        except BROKEN:
            raise
        except remote.failures() as error:
            raise SourceError(self.uri, remote.reason(error)) from error

    @contextmanager
    def decompressed(self) -> Iterator[IO[bytes]]:
        """The bytes after gzip or zstd, told by their magic, not by the file's name."""
        with self.open() as file:
            buffered = io.BufferedReader(cast(io.RawIOBase, _Raw(file)), CHUNK)
            magic = buffered.peek(4)[:4]
            if magic[:2] == b"\x1f\x8b":
                with gzip.GzipFile(fileobj=buffered) as plain:
                    yield cast(IO[bytes], plain)
            elif magic == b"\x28\xb5\x2f\xfd":
                reader = zstandard.ZstdDecompressor().stream_reader(buffered, read_across_frames=True)
                yield cast(IO[bytes], io.BufferedReader(cast(io.RawIOBase, reader), CHUNK))
            else:
                yield cast(IO[bytes], buffered)


class _Raw(io.RawIOBase):
    """Any readable as a raw stream, so that one buffer with `peek` fits all file systems; closing is the owner's."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


@contextmanager
def spooled() -> Iterator[IO[bytes]]:
    """A place for bytes that leaves nothing behind."""
    with tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES) as spool:
        yield cast(IO[bytes], spool)


def copied(file: IO[bytes], into: IO[bytes]) -> tuple[int, str]:
    """Copies to the end; the number of bytes and their SHA-256 (hex)."""
    digest, size = hashlib.sha256(), 0
    while chunk := file.read(CHUNK):
        digest.update(chunk)
        into.write(chunk)
        size += len(chunk)
    return size, digest.hexdigest()
