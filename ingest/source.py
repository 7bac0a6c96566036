"""Where logs come from: files, folders, globs and URLs become source objects, read as decompressed byte streams."""

import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from glob import glob, has_magic
from pathlib import Path
from typing import IO, Any, cast

import fsspec
import zstandard

from tracemill.errors import SourceError

_CHUNK = 1 << 20
_UNFINISHED = ".part"
"""Files that the collector still writes; they are renamed when they are whole."""

BROKEN = (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError)
"""What a torn or garbled compressed file raises while it is read."""


@dataclass(frozen=True, kw_only=True)
class SourceObject:
    """One file or object that holds logs. `content_hash` is of the bytes as stored, and reads them once."""

    uri: str
    size_bytes: int
    unreadable: str | None = None
    """Why it cannot be read, where that is known already; reading it raises SourceError."""

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 (hex). Raises SourceError where the object cannot be read any more."""
        digest = hashlib.sha256()
        with self.open() as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
        return digest.hexdigest()

    @property
    def name(self) -> str:
        return self.uri.rsplit("/", 1)[-1]

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """The bytes as stored. OS errors come out as SourceError that names the object."""
        if self.unreadable is not None:
            raise SourceError(self.uri, self.unreadable)
        try:
            with _open(self.uri) as file:
                yield file
        except OSError as error:
            if isinstance(error, BROKEN):
                raise
            raise SourceError(self.uri, _reason(error)) from error

    @contextmanager
    def decompressed(self) -> Iterator[IO[bytes]]:
        """The bytes after gzip or zstd, told by their magic, not by the file's name."""
        with self.open() as file:
            buffered = io.BufferedReader(cast(io.RawIOBase, _Raw(file)), _CHUNK)
            magic = buffered.peek(4)[:4]
            if magic[:2] == b"\x1f\x8b":
                with gzip.GzipFile(fileobj=buffered) as plain:
                    yield cast(IO[bytes], plain)
            elif magic == b"\x28\xb5\x2f\xfd":
                reader = zstandard.ZstdDecompressor().stream_reader(buffered, read_across_frames=True)
                yield cast(IO[bytes], io.BufferedReader(cast(io.RawIOBase, reader), _CHUNK))
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


def find(sources: Sequence[str | Path], *, exclude: Sequence[str] = ()) -> list[SourceObject]:
    """Every source object that `sources` name, each once, in a stable order.

    A source is a file, a folder (searched recursively), a glob, or an fsspec URL (s3://…, memory://…). `exclude` are
    globs on the URI or the file name. In folders and globs, hidden files and unfinished landing files (*.part) are left
    out. A missing path or an empty glob raises SourceError with its name; a file or folder that may not be read is an
    object that says why (`unreadable`), so that it costs only itself.
    """
    found: dict[str, SourceObject] = {}
    for source in sources:
        text = str(source)
        for item in _remote(text) if "://" in text else _local(text):
            name = item.uri.rsplit("/", 1)[-1]
            if not any(fnmatch(item.uri, pattern) or fnmatch(name, pattern) for pattern in exclude):
                found.setdefault(item.uri, item)
    return list(found.values())


def _local(source: str) -> Iterator[SourceObject]:
    path = Path(source).expanduser()
    try:
        if has_magic(source) and not path.exists():
            matches = sorted(glob(str(path), recursive=True))
            if not matches:
                raise SourceError(source, "the pattern matches no file")
            for match in matches:
                if Path(match).is_file() and _wanted(Path(match).name):
                    yield _local_file(Path(match))
        elif path.is_dir():
            shut: list[SourceObject] = []
            for folder, folders, files in os.walk(path, onerror=lambda error: shut.append(_shut(error, path))):
                folders[:] = sorted(name for name in folders if not name.startswith("."))
                for name in sorted(files):
                    if _wanted(name):
                        yield _local_file(Path(folder) / name)
            yield from shut
        elif path.exists():
            if path.name.endswith(_UNFINISHED):
                raise SourceError(str(path), "the collector still writes this file; take in the finished ones")
            yield _local_file(path)
        else:
            raise SourceError(source, "there is no such file or folder")
    except OSError as error:
        raise SourceError(str(error.filename or source), _reason(error)) from error


def _local_file(path: Path) -> SourceObject:
    path = Path(os.path.abspath(path))
    try:
        with path.open("rb"):  # permissions are checked now, before anything is taken in
            return SourceObject(uri=str(path), size_bytes=path.stat().st_size)
    except OSError as error:
        return _shut(error, path)


def _shut(error: OSError, path: Path) -> SourceObject:
    uri = os.path.abspath(error.filename or path)
    return SourceObject(uri=uri, size_bytes=0, unreadable=_reason(error))


def _remote(source: str) -> Iterator[SourceObject]:
    try:
        fs, path = fsspec.core.url_to_fs(source)
        if has_magic(path):
            matches = sorted(fs.glob(path))
        elif fs.isdir(path):
            matches = sorted(fs.find(path))
        elif fs.exists(path):
            matches = [path]
        else:
            raise SourceError(source, "there is no such object")
        if not matches:
            raise SourceError(source, "no object matches")
        for match in matches:
            if _wanted(match.rsplit("/", 1)[-1]) and fs.isfile(match):
                yield SourceObject(uri=fs.unstrip_protocol(match), size_bytes=int(fs.size(match) or 0))
    except ImportError as error:
        scheme = source.split("://", 1)[0]
        raise SourceError(source, f"reading {scheme}:// needs another package: {error}") from error
    except (OSError, ValueError) as error:
        raise SourceError(source, _reason(error)) from error


def _open(uri: str) -> Any:
    if "://" in uri:
        fs, path = fsspec.core.url_to_fs(uri)
        return fs.open(path, "rb")
    return open(uri, "rb")


def _wanted(name: str) -> bool:
    return not name.startswith(".") and not name.endswith(_UNFINISHED)


def _reason(error: Exception) -> str:
    if isinstance(error, PermissionError):
        return "permission denied; make it readable for this user"
    if isinstance(error, FileNotFoundError):
        return "there is no such file or folder"
    return str(getattr(error, "strerror", None) or error)
