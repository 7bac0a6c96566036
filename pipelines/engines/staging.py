"""Where workers lay down batches until they are committed: Parquet files in the lake's own storage.

Nobody refers to these files. What a killed run leaves there is an orphan of the lake, which upkeep deletes a day later
and `forget` at once.
"""

import posixpath
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tracemill.pipelines.engines.work import Held, LostError, Parcel
from tracemill.records import Batch
from tracemill.schema import TABLES

SMALL_BYTES = 256 * 1024
"""A table up to here is sent as it is: a file would cost more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Staging:
    """A folder, or a prefix of an object store, that one run stages its batches in."""

    url: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """What the fsspec file system of a URL is made with."""
    small_bytes: int = SMALL_BYTES

    def open(self) -> None:
        """Makes the folder, with a mark by which a worker on another machine knows that it sees the same one."""
        fs, path = _place(self.url, self.options)
        fs.makedirs(path, exist_ok=True)
        fs.pipe_file(posixpath.join(path, _MARK), b"")

    def reached(self) -> bool:
        """Whether this machine sees the folder that was opened."""
        fs, path = _place(self.url, self.options)
        fs.invalidate_cache()
        return bool(fs.exists(posixpath.join(path, _MARK)))

    def close(self) -> None:
        """Removes the folder with all that is in it."""
        fs, path = _place(self.url, self.options)
        fs.invalidate_cache()  # others have written there
        with suppress(FileNotFoundError):
            fs.rm(path, recursive=True)

    def pack(self, batch: Batch) -> Parcel:
        """A parcel of the batch: its large tables in files, the small ones with it."""
        small = {name: table for name, table in batch.tables.items() if table.nbytes <= self.small_bytes}
        if len(small) == len(batch.tables):
            return Held(batch=batch)
        fs, path = _place(self.url, self.options)
        files = {}
        for name, table in batch.tables.items():
            if name not in small:
                files[name] = posixpath.join(path, f"{uuid.uuid4().hex}-{name}.parquet")
                with fs.open(files[name], "wb") as file:
                    # Read once and soon: dictionaries and statistics would cost more than they save.
                    pq.write_table(table, file, compression="lz4", use_dictionary=False, write_statistics=False)
        rest = replace(batch, tables=small)
        return _Staged(at=self, rest=rest, files=files, names=tuple(batch.tables))


_MARK = "in-use"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Staged:
    at: Staging
    rest: Batch
    files: Mapping[str, str]
    names: tuple[str, ...]

    def load(self) -> Batch:
        tables = dict(self.rest.tables)
        fs, _ = _place(self.at.url, self.at.options)
        for name, path in self.files.items():
            try:
                with fs.open(path, "rb") as file:
                    tables[name] = pq.read_table(file, schema=TABLES[name].schema)
            except (FileNotFoundError, pa.ArrowInvalid) as error:
                raise LostError(f"the staged file {path} is gone") from error
        return replace(self.rest, tables={name: tables[name] for name in self.names})

    def discard(self) -> None:
        fs, _ = _place(self.at.url, self.at.options)
        for path in self.files.values():
            with suppress(FileNotFoundError):
                fs.rm_file(path)


def _place(url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    """The file system and the path on it."""
    from fsspec.core import url_to_fs

    fs, path = url_to_fs(url, **options)
    return fs, path
