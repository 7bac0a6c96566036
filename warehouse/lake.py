"""The lake: create, open, write one transaction at a time, read beside the writers.

root/catalog.sqlite   SQL catalog (SQLite, WAL)      root/data/   Parquet files
root/key              32 secret bytes, mode 0600     root/lock    queues the writers of all processes

Of a shared lake (place.py) each machine has a folder with the key and a lock; catalog and data are elsewhere.
"""

import os
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import TracebackType

import duckdb

from tracemill.errors import StoreError
from tracemill.ids import keyed_id
from tracemill.schema import TABLES
from tracemill.warehouse import engine, erasing, layout, upkeep
from tracemill.warehouse.place import Place, located
from tracemill.warehouse.queue import Queue
from tracemill.warehouse.transaction import Transaction

_KEY_BYTES = 32


class Lake:
    """An open lake. One object may be shared by the threads of a process; processes open their own.

    Never open or read `catalog.sqlite` by other means inside a process that has a Lake open: closing any handle on
    the file drops the POSIX locks that SQLite holds on it.
    """

    def __init__(self, place: Place, key: bytes) -> None:
        self.place = place
        self.key = key
        """The lake's secret: keys message ids, pseudonyms and the split into pools."""
        self._guard = threading.Lock()
        self._reading: duckdb.DuckDBPyConnection | None = None
        self._writing: duckdb.DuckDBPyConnection | None = None
        self._pinned: set[int] = set()
        self._queue = Queue(place)

    @property
    def root(self) -> Path:
        """The lake's folder on this machine."""
        return self.place.root

    @classmethod
    def create(cls, where: Path | Place, *, exist_ok: bool = False) -> "Lake":
        """A new, empty lake; its folder is made where it is missing. Interrupted, it can be called again.

        With `exist_ok` the one that another process was faster to make. Raises StoreError where there already is a
        lake, or none can be written.
        """
        place = located(where)
        for folder in (place.root, place.local_data):
            try:
                if folder is not None:
                    folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreError(f"no lake can be made in {folder}: {error.strerror}; choose another folder") from error
        queue = Queue(place)
        with engine.translated(place), closing(queue), queue.turn(120):
            con = engine.connect(place, read_only=False)
            try:
                if layout.found(con) is not None:
                    if exist_ok:
                        return cls(place, _read_key(place))
                    raise StoreError(f"there is already a lake in {place}: open it, or choose another folder")
                key = _make_key(place.root)
                layout.create(con)
                if place.catalog is not None:
                    con.execute("CREATE OR REPLACE TABLE lake_key (digest VARCHAR)")
                    con.execute("INSERT INTO lake_key VALUES (?)", [_digest(key)])
            finally:
                con.close()
        return cls(place, key)

    @classmethod
    def there(cls, where: Path | Place) -> bool:
        """Whether a lake was made there. Raises StoreError where a shared catalog does not answer."""
        place = located(where)
        if place.catalog is None:
            # A folder that is still empty is one that a process is about to make a lake in.
            data = place.local_data
            return place.sqlite.is_file() or (data is not None and data.is_dir() and any(data.iterdir()))
        place.root.mkdir(parents=True, exist_ok=True)
        with engine.translated(place):
            try:
                with engine.connect(place, read_only=True) as con:
                    return layout.found(con) is not None
            except duckdb.Error as error:
                if "existing ducklake" in str(error).lower() or "does not exist" in str(error).lower():
                    return False
                raise

    @classmethod
    def open(cls, where: Path | Place) -> "Lake":
        """The lake, brought to this version's layout where an earlier tracemill made it.

        Raises StoreError where it is missing, damaged, of a later layout, or of another key.
        """
        place = located(where)
        try:
            return cls._opened(place)
        except StoreError:
            if place.catalog is not None or not place.root.is_dir():
                raise
            with closing(Queue(place)) as queue, queue.turn(120):
                pass  # somebody may be making it at this moment
            return cls._opened(place)

    @classmethod
    def _opened(cls, place: Place) -> "Lake":
        if place.catalog is None:
            if not place.sqlite.is_file():
                raise StoreError(f"there is no lake in {place}: create one with tracemill init")
            if place.sqlite.stat().st_size == 0:
                raise StoreError(f"the lake {place} is damaged: its catalog is empty; restore the folder from a backup")
        with engine.translated(place):
            lake = cls(place, _read_key(place))
            try:
                with lake.reader() as con:
                    old = layout.found(con)
                if old is not None and old[0] < layout.VERSION:
                    lake._upgrade()
                with lake.reader() as con:
                    layout.check(con, str(place))
                    if place.catalog is not None:
                        _check_key(con, place, lake.key)
            except BaseException:
                lake.close()
                raise
        return lake

    def __enter__(self) -> "Lake":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection, readers that were handed out included. The lake may be used again afterwards."""
        self._close_connections()
        self._queue.close()

    def _close_connections(self) -> None:
        with self._guard:
            for con in (self._reading, self._writing):
                if con is not None:
                    con.close()
            self._reading = self._writing = None
            self._pinned.clear()

    @contextmanager
    def transaction(self, message: str, *, wait_s: float = 120) -> Iterator[Transaction]:
        """One write to all tables: committed on leaving, undone by any exception. `message` names it in the history.

        Raises BusyError where other writers hold the lake longer than `wait_s`. Prepare rows before entering:
        everybody else waits meanwhile.
        """
        with self._queue.turn(wait_s):
            with engine.translated(self.place):
                con = self._writer()
            try:
                with engine.translated(self.place):
                    empty = frozenset(TABLES) - layout.filled(con)
                    con.execute("BEGIN")
                    layout.refresh_views(con, layout.check(con, str(self.place)))
                # Outside of `translated`: what the caller's own code raises in between stays what it is.
                yield Transaction(con, self.place, empty)
                self._queue.check()
                with engine.translated(self.place):
                    con.execute(f"CALL {engine.CATALOG}.set_commit_message('tracemill', {engine.quoted(message)})")
                    con.execute("COMMIT")
            except BaseException as error:
                self._undo(con)
                self._sweep(error)
                raise
            con.close()

    def reader(self, snapshot: int | None = None) -> duckdb.DuckDBPyConnection:
        """A read-only connection with tables and views by bare name; close it after use. Never waits for writers.

        Each statement sees the newest snapshot; BEGIN … COMMIT holds one. With `snapshot` all statements see that one.
        Raises StoreError where the snapshot does not exist or has expired.
        """
        with self._guard, engine.translated(self.place):
            if self._reading is None:
                self._reading = engine.connect(self.place, read_only=True)
            if snapshot is None:
                return engine.cursor(self._reading)
            name = f"{engine.CATALOG}_{int(snapshot)}"
            if snapshot not in self._pinned:
                try:
                    engine.attach(self._reading, self.place, name, read_only=True, snapshot=snapshot)
                except duckdb.Error as error:
                    if "snapshot" not in str(error).lower():
                        raise
                    raise StoreError(
                        f"the lake {self.place} has no snapshot {snapshot}: it never had, or it has expired"
                    ) from error
                self._pinned.add(snapshot)
            return engine.cursor(self._reading, name)

    def snapshot_id(self) -> int:
        """The newest snapshot: what `reader(snapshot)` takes to see the lake as it is now."""
        with engine.translated(self.place), self.reader() as con:
            row = con.execute(f"SELECT id FROM {engine.CATALOG}.current_snapshot()").fetchone()
        if row is None:
            raise StoreError(f"the lake {self.place} is damaged: it has no snapshot; restore it from a backup")
        return int(row[0])

    def checkpoint(
        self, *, now_ns: int, keep_days: int = 90, keep: Sequence[int] = (), wait_s: float = 120
    ) -> upkeep.Checkpoint:
        """Merge small files, forget old snapshots, delete files that nothing needs any more.

        Kept are the snapshots of the last `keep_days`, those in `keep` and those that a release names. Files are
        deleted a day after nothing refers to them, so readers at work are not disturbed.
        """
        with self._queue.turn(wait_s), engine.translated(self.place):
            con = self._writer()
            try:
                done = upkeep.checkpoint(con, now_ns=now_ns, keep_days=keep_days, keep=keep)
            except BaseException as error:
                self._undo(con)
                self._sweep(error)
                raise
            con.close()
        return done

    def purge(self, *, wait_s: float = 120) -> None:
        """Take deleted rows off the disk: files are rewritten, history before now ends, the catalog is scrubbed.

        Earlier snapshots can no longer be read, those that releases name included. Readers at work may fail; readers
        that this object handed out are closed.
        """
        with self._queue.turn(wait_s), engine.translated(self.place):
            con = self._writer()
            try:
                erasing.purge(con)
            finally:
                con.close()
            try:
                if self.place.database is None:
                    self._close_connections()  # SQLite's locks are the process's: no other handle may be open
                    erasing.scrub(self.place.sqlite)
                else:
                    erasing.scrub_shared(self.place)
            except (sqlite3.Error, duckdb.Error) as error:
                raise StoreError(
                    f"the catalog of the lake {self.place} still holds traces of what was erased "
                    f"({engine.told(error)}): close what reads it and run the same command again"
                ) from error

    def _upgrade(self) -> None:
        with self._queue.turn(120):
            con = self._writer()
            try:
                con.execute("BEGIN")
                layout.upgrade(con)
                layout.refresh_views(con, layout.check(con, str(self.place)))
                con.execute(f"CALL {engine.CATALOG}.set_commit_message('tracemill', 'layout {layout.VERSION}')")
                con.execute("COMMIT")
            except BaseException:
                self._undo(con)
                raise
            con.close()
        self._close_connections()  # readers made before it know the tables as they were

    def _writer(self) -> duckdb.DuckDBPyConnection:
        with self._guard:
            if self._writing is None:
                self._writing = engine.connect(self.place, read_only=False)
            return engine.cursor(self._writing)

    def _undo(self, con: duckdb.DuckDBPyConnection) -> None:
        """Roll back, and start the next transaction from a fresh instance: a failed commit may leave this one odd."""
        try:
            con.execute("ROLLBACK")
        except duckdb.Error:
            pass  # no transaction is open: BEGIN or COMMIT itself failed, and that is the error to tell
        finally:
            con.close()
            with self._guard:
                if self._writing is not None:
                    self._writing.close()
                self._writing = None

    def _sweep(self, error: BaseException) -> None:
        """Where there was no room for a write, give back what it took; the caller holds the lock."""
        data = self.place.local_data
        if data is None or not engine.is_full(error):
            return
        # Upkeep does it otherwise: what is to be told is the error.
        with suppress(duckdb.Error, OSError), engine.connect(self.place, read_only=False) as con:
            upkeep.sweep(con, data)


def _digest(key: bytes) -> str:
    """By which a shared lake knows its key."""
    return keyed_id(key, "the key of this lake")


def _check_key(con: duckdb.DuckDBPyConnection, place: Place, key: bytes) -> None:
    found = con.execute("SELECT digest FROM lake_key").fetchone()
    if found is None or found[0] != _digest(key):
        raise StoreError(
            f"the key {place.root / 'key'} is not that of the lake {place}: "
            "copy the file from the machine that made the lake"
        )


def _make_key(root: Path) -> bytes:
    """Write the key once; whoever finds one keeps it, because ids already made depend on it."""
    path = root / "key"
    if path.exists():
        return _read_key(Place(root=root))
    fresh = root / "key.new"
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(secrets.token_bytes(_KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)
    return _read_key(Place(root=root))


def _read_key(place: Place) -> bytes:
    path = place.root / "key"
    try:
        key = path.read_bytes()
    except FileNotFoundError as error:
        if place.catalog is not None:
            raise StoreError(f"the key of the lake {place} is not on this machine: copy it to {path} first") from error
        raise StoreError(f"the lake {place} has lost its key: restore {path} from a backup") from error
    if len(key) != _KEY_BYTES:
        raise StoreError(f"the key {path} has {len(key)} bytes instead of {_KEY_BYTES}: restore it from a backup")
    return key
