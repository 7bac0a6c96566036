"""Zip archives entry by entry: bounded in memory, and still readable up to the tear where the end is missing."""

import io
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, cast

import zstandard

from tracemill.ingest.reader import Stream

MAGIC = b"PK\x03\x04"
_EMPTY = b"PK\x05\x06"
_LOCAL = struct.Struct("<4s5H3L2H")
_SPOOL_BYTES = 16 * 1024 * 1024
_CHUNK = 1 << 20
_TAIL_BYTES = 66_000
"""Where a directory's end stands, with the longest comment after it."""
_SETTING = " ([limits] record_mib)"
_DIRECTORY_BYTES = 32 * 1024 * 1024
"""The directory is held in memory; so large are those of some 300,000 entries."""
_MOST_WALKED = 300_000
_STORED, _DEFLATED, _ZSTD = 0, 8, 93
_ENCRYPTED, _UTF8 = 0x1, 0x800
_WIDE = 0xFFFFFFFF


class EntryError(ValueError):
    """An archive or an entry of it that cannot be read; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file in the archive, as its directory or its own header declares it."""

    name: str
    method: int
    flags: int
    offset: int
    """Where its header begins."""
    packed: int
    crc: int
    size: int
    """As declared: the data may hold more."""


class Archive:
    """The entries of an archive by name, the later of two that have one name."""

    def __init__(self, file: IO[bytes], entries: dict[str, Entry], torn: str | None) -> None:
        self._file = file
        self.entries = entries
        self.torn = torn
        """Why the directory at the end could not be read; the entries were then found one after the other."""

    def read(self, name: str, limit: int) -> bytes:
        """The entry's bytes. Raises EntryError where it is damaged, in no known packing or larger than `limit`."""
        entry = self.entries[name]
        if entry.flags & _ENCRYPTED:
            raise EntryError("the entry is encrypted")
        size = max(entry.size, entry.packed - _CHUNK)
        if size > limit:
            raise EntryError(f"the entry holds {size:,} bytes, more than the {limit:,} that are read{_SETTING}")
        self._to_data(entry)
        try:
            data = _unpacked(entry.method, self._pieces(entry.packed), limit)
        except (zlib.error, zstandard.ZstdError, EOFError) as error:
            raise EntryError(f"the entry's data is torn or broken: {error}") from error
        if len(data) > limit:
            raise EntryError(f"the entry holds more than the {limit:,} bytes that are read{_SETTING}")
        if zlib.crc32(data) != entry.crc:
            raise EntryError("the entry's data is torn or broken: its checksum is wrong")
        return data

    def chunks(self, name: str) -> Iterator[bytes]:
        """The entry's bytes piece by piece, however many they are. Raises EntryError where it is damaged."""
        entry = self.entries[name]
        if entry.flags & _ENCRYPTED:
            raise EntryError("the entry is encrypted")
        self._to_data(entry)
        crc = 0
        try:
            for data in _inflated(entry.method, self._pieces(entry.packed)):
                crc = zlib.crc32(data, crc)
                yield data
        except (zlib.error, zstandard.ZstdError, EOFError) as error:
            raise EntryError(f"the entry's data is torn or broken: {error}") from error
        if crc != entry.crc:
            raise EntryError("the entry's data is torn or broken: its checksum is wrong")

    def _to_data(self, entry: Entry) -> None:
        self._file.seek(entry.offset)
        header = self._file.read(_LOCAL.size)
        if len(header) < _LOCAL.size or header[:4] != MAGIC:
            raise EntryError("the entry's header is missing")
        names = _LOCAL.unpack(header)
        self._file.seek(names[9] + names[10], 1)

    def _pieces(self, size: int) -> Iterator[bytes]:
        while size > 0:
            piece = self._file.read(min(size, _CHUNK))
            if not piece:
                raise EOFError("it ends in the middle")
            size -= len(piece)
            yield piece


@contextmanager
def unzipped(stream: Stream) -> Iterator[Archive]:
    """The stream as an archive, spooled to a temporary file as a zip's directory stands at its end.

    Raises EntryError where it is none.
    """
    with tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES) as file:
        for chunk in stream.chunks():
            file.write(chunk)
        yield archive_in(file)


def archive_in(file: IO[bytes]) -> Archive:
    """The archive that a file, in which one can go back, holds. Raises EntryError where it is none."""
    if (size := directory_bytes(file)) > _DIRECTORY_BYTES:
        raise EntryError(f"the archive's directory holds {size:,} bytes, more than {_DIRECTORY_BYTES:,}")
    file.seek(0)
    try:
        with zipfile.ZipFile(file) as found:
            entries, torn = {info.filename: _declared(info) for info in found.infolist()}, None
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, struct.error) as error:
        entries, torn = _walk(file), f"the archive's directory is torn or broken: {error}"
        if len(entries) == _MOST_WALKED:
            torn += f"; only its first {_MOST_WALKED:,} entries are read"
    if not entries and torn is not None:
        raise EntryError(torn)
    return Archive(file, entries, torn)


def directory_bytes(file: IO[bytes]) -> int:
    """How large the directory at the end says that it is; all of it is held in memory. 0 where there is none."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _TAIL_BYTES))
    tail = file.read(_TAIL_BYTES)
    at, wide = tail.rfind(_EMPTY), tail.rfind(b"PK\x06\x06")
    found = 0
    if at >= 0 and len(tail) >= at + 16:
        found = int(struct.unpack_from("<L", tail, at + 12)[0])
    if wide >= 0 and len(tail) >= wide + 48:
        found = max(0 if found == _WIDE else found, int(struct.unpack_from("<Q", tail, wide + 40)[0]))
    return min(found, size)


def names_in(data: bytes) -> list[str]:
    """The names of the entries that begin in `data`, the first bytes of an archive."""
    names = []
    at = data.find(MAGIC)
    while at >= 0 and len(data) - at >= _LOCAL.size:
        header = _LOCAL.unpack_from(data, at)
        name = data[at + _LOCAL.size : at + _LOCAL.size + header[9]]
        if len(name) == header[9] and name and name.isascii() and name.decode("ascii").isprintable():
            names.append(name.decode("ascii"))
        at = data.find(MAGIC, at + 4)
    return names


def is_zip(data: bytes) -> bool:
    return data[:4] in (MAGIC, _EMPTY)


def _declared(info: zipfile.ZipInfo) -> Entry:
    return Entry(
        name=info.filename,
        method=info.compress_type,
        flags=info.flag_bits,
        offset=info.header_offset,
        packed=info.compress_size,
        crc=info.CRC,
        size=info.file_size,
    )


def _walk(file: IO[bytes]) -> dict[str, Entry]:
    """The entries up to the tear, by their own headers; writers that can seek leave the sizes there."""
    entries: dict[str, Entry] = {}
    at = 0
    while len(entries) < _MOST_WALKED:
        file.seek(at)
        header = file.read(_LOCAL.size)
        if len(header) < _LOCAL.size or header[:4] != MAGIC:
            return entries
        _, _, flags, method, _, _, crc, packed, size, name_length, extra_length = _LOCAL.unpack(header)
        raw, extra = file.read(name_length), file.read(extra_length)
        if _WIDE in (packed, size):
            packed, size = _wide(extra, packed, size)
        try:
            name = raw.decode("utf-8" if flags & _UTF8 else "cp437")
        except UnicodeDecodeError:
            return entries
        entries[name] = Entry(name=name, method=method, flags=flags, offset=at, packed=packed, crc=crc, size=size)
        at += _LOCAL.size + name_length + extra_length + packed
    return entries


def _wide(extra: bytes, packed: int, size: int) -> tuple[int, int]:
    """The sizes of a zip64 entry, which stand apart."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1 and length >= 16 and at + 20 <= len(extra):
            size, packed = struct.unpack_from("<2Q", extra, at + 4)
        at += 4 + length
    return packed, size


def _unpacked(method: int, pieces: Iterator[bytes], limit: int) -> bytes:
    """The data, at most one byte more than `limit`."""
    if method == _ZSTD:
        with zstandard.ZstdDecompressor().stream_reader(b"".join(pieces), read_across_frames=True) as reader:
            return reader.read(limit + 1)
    if method == _DEFLATED:
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        found, size = [], 0
        for piece in pieces:
            data = inflate.decompress(piece, limit - size + 1)
            size += len(data)
            found.append(data)
            if size > limit:
                break
        return b"".join(found)
    if method == _STORED:
        return b"".join(pieces)
    raise EntryError(f"the entry is packed by method {method}, which is not read")


def _inflated(method: int, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The data, of which no more than a few pieces are in memory."""
    if method == _STORED:
        yield from pieces
    elif method == _DEFLATED:
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        for piece in pieces:
            while piece:
                yield inflate.decompress(piece, _CHUNK)
                piece = inflate.unconsumed_tail
        while rest := inflate.decompress(inflate.unconsumed_tail, _CHUNK):
            yield rest
        if not inflate.eof:
            raise EOFError("it ends in the middle")
    elif method == _ZSTD:
        with zstandard.ZstdDecompressor().stream_reader(
            cast(IO[bytes], _Joined(pieces)), read_across_frames=True
        ) as reader:
            while data := reader.read(_CHUNK):
                yield data
    else:
        raise EntryError(f"the entry is packed by method {method}, which is not read")


class _Joined(io.RawIOBase):
    """Pieces as a file to read from."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        super().__init__()
        self._pieces = pieces
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            self._rest = memoryview(next(self._pieces, b""))
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
