"""The lake as a folder: create, open, write one transaction at a time, read beside the writers.

root/catalog.sqlite   SQL catalog (SQLite, WAL)      root/data/   Parquet files
root/key              32 secret bytes, mode 0600     root/lock    queues the writers of all processes
"""

import os
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import duckdb
from filelock import FileLock, Timeout

from tracemill.errors import BusyError, StoreError
from tracemill.warehouse import engine, erasing, layout, upkeep
from tracemill.warehouse.transaction import Transaction

_KEY_BYTES = 32


class Lake:
    """An open lake. One object may be shared by the threads of a process; processes open their own.

    Never open or read `catalog.sqlite` by other means inside a process that has a Lake open: closing any handle on
    the file drops the POSIX locks that SQLite holds on it.
    """

    def __init__(self, root: Path, key: bytes) -> None:
        self.root = root
        self.key = key
        """The lake's secret: keys message ids, pseudonyms and the split into pools."""
        self._guard = threading.Lock()
        self._reading: duckdb.DuckDBPyConnection | None = None
        self._writing: duckdb.DuckDBPyConnection | None = None
        self._pinned: set[int] = set()
        self._owner: int | None = None  # the thread that holds the writer lock through this object

    @classmethod
    def create(cls, root: Path) -> "Lake":
        """A new, empty lake in `root`, which is made where it is missing. Interrupted, it can be called again.

        Raises StoreError where `root` already holds a lake or cannot be written.
        """
        root = Path(root).absolute()
        try:
            (root / "data").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"no lake can be made in {root}: {error.strerror}; choose another folder") from error
        with engine.translated(root), _locked(root, wait_s=120):
            key = _make_key(root)
            con = engine.connect(root, read_only=False)
            try:
                if layout.found(con) is not None:
                    raise StoreError(f"there is already a lake in {root}: open it, or choose another folder")
                layout.create(con)
            finally:
                con.close()
        return cls(root, key)

    @classmethod
    def open(cls, root: Path) -> "Lake":
        """The lake in `root`, brought to this version's layout where an earlier tracemill made it.

        Raises StoreError where it is missing, damaged or of a later layout.
        """
        root = Path(root).absolute()
        if not (root / "catalog.sqlite").is_file():
            raise StoreError(f"there is no lake in {root}: create one with tracemill init")
        if (root / "catalog.sqlite").stat().st_size == 0:
            raise StoreError(f"the lake {root} is damaged: its catalog is empty; restore the folder from a backup")
        with engine.translated(root):
            lake = cls(root, _read_key(root))
            try:
                with lake.reader() as con:
                    old = layout.found(con)
                if old is not None and old[0] < layout.VERSION:
                    lake._upgrade()
                with lake.reader() as con:
                    layout.check(con, root)
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
        with self._alone(wait_s):
            with engine.translated(self.root):
                con = self._writer()
            try:
                with engine.translated(self.root):
                    con.execute("BEGIN")
                    layout.refresh_views(con, layout.check(con, self.root))
                # Outside of `translated`: what the caller's own code raises in between stays what it is.
                yield Transaction(con, self.root)
                with engine.translated(self.root):
                    con.execute(f"CALL {engine.CATALOG}.set_commit_message('tracemill', {engine.quoted(message)})")
                    con.execute("COMMIT")
            except BaseException:
                self._undo(con)
                raise
            con.close()

    def reader(self, snapshot: int | None = None) -> duckdb.DuckDBPyConnection:
        """A read-only connection with tables and views by bare name; close it after use. Never waits for writers.

        Each statement sees the newest snapshot; BEGIN … COMMIT holds one. With `snapshot` all statements see that one.
        Raises StoreError where the snapshot does not exist or has expired.
        """
        with self._guard, engine.translated(self.root):
            if self._reading is None:
                self._reading = engine.connect(self.root, read_only=True)
            if snapshot is None:
                return engine.cursor(self._reading)
            name = f"{engine.CATALOG}_{int(snapshot)}"
            if snapshot not in self._pinned:
                try:
                    engine.attach(self._reading, self.root, name, read_only=True, snapshot=snapshot)
                except duckdb.Error as error:
                    if "snapshot" not in str(error).lower():
                        raise
                    raise StoreError(
                        f"the lake {self.root} has no snapshot {snapshot}: it never had, or it has expired"
                    ) from error
                self._pinned.add(snapshot)
            return engine.cursor(self._reading, name)

    def snapshot_id(self) -> int:
        """The newest snapshot: what `reader(snapshot)` takes to see the lake as it is now."""
        with engine.translated(self.root), self.reader() as con:
            row = con.execute(f"SELECT id FROM {engine.CATALOG}.current_snapshot()").fetchone()
        if row is None:
            raise StoreError(f"the lake {self.root} is damaged: it has no snapshot; restore it from a backup")
        return int(row[0])

    def checkpoint(
        self, *, now_ns: int, keep_days: int = 90, keep: Sequence[int] = (), wait_s: float = 120
    ) -> upkeep.Checkpoint:
        """Merge small files, forget old snapshots, delete files that nothing needs any more.

        Kept are the snapshots of the last `keep_days`, those in `keep` and those that a release names. Files are
        deleted a day after nothing refers to them, so readers at work are not disturbed.
        """
        with self._alone(wait_s), engine.translated(self.root):
            con = self._writer()
            try:
                done = upkeep.checkpoint(con, now_ns=now_ns, keep_days=keep_days, keep=keep)
            except BaseException:
                self._undo(con)
                raise
            con.close()
        return done

    def purge(self, *, wait_s: float = 120) -> None:
        """Take deleted rows off the disk: files are rewritten, history before now ends, the catalog is scrubbed.

        Earlier snapshots can no longer be read, those that releases name included. Readers at work may fail; readers
        that this object handed out are closed.
        """
        with self._alone(wait_s), engine.translated(self.root):
            con = self._writer()
            try:
                erasing.purge(con)
            finally:
                con.close()
            self.close()  # SQLite's locks are the process's: no other handle may be open
            try:
                erasing.scrub(self.root / "catalog.sqlite")
            except sqlite3.Error as error:
                raise StoreError(
                    f"the catalog of the lake {self.root} still holds traces of what was erased ({error}): "
                    "close what reads it and run the same command again"
                ) from error

    def _upgrade(self) -> None:
        with self._alone(120):
            con = self._writer()
            try:
                con.execute("BEGIN")
                layout.upgrade(con)
                layout.refresh_views(con, layout.check(con, self.root))
                con.execute(f"CALL {engine.CATALOG}.set_commit_message('tracemill', 'layout {layout.VERSION}')")
                con.execute("COMMIT")
            except BaseException:
                self._undo(con)
                raise
            con.close()
        self.close()  # readers made before it know the tables as they were

    @contextmanager
    def _alone(self, wait_s: float) -> Iterator[None]:
        """The writer lock; asked for twice by one thread it would wait for itself."""
        me = threading.get_ident()
        if self._owner == me:
            raise StoreError("this thread already has a transaction open: finish it first")
        with _locked(self.root, wait_s=wait_s):
            self._owner = me
            try:
                yield
            finally:
                self._owner = None

    def _writer(self) -> duckdb.DuckDBPyConnection:
        with self._guard:
            if self._writing is None:
                self._writing = engine.connect(self.root, read_only=False)
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


@contextmanager
def _locked(root: Path, *, wait_s: float) -> Iterator[None]:
    """Hold the lake's writer lock; the kernel releases it when the process dies, however it dies."""
    if not root.is_dir():
        raise StoreError(f"there is no lake in {root}: create one with tracemill init")
    lock = FileLock(root / "lock", poll_interval=0.01)
    with engine.translated(root):
        try:
            lock.acquire(timeout=wait_s)
        except Timeout as error:
            raise BusyError(
                f"another process has been writing to the lake {root} for {wait_s:g} s: wait for it to finish"
            ) from error
    try:
        yield
    finally:
        lock.release()


def _make_key(root: Path) -> bytes:
    """Write the key once; whoever finds one keeps it, because ids already made depend on it."""
    path = root / "key"
    if path.exists():
        return _read_key(root)
    fresh = root / "key.new"
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(secrets.token_bytes(_KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)
    return _read_key(root)


def _read_key(root: Path) -> bytes:
    path = root / "key"
    try:
        key = path.read_bytes()
    except FileNotFoundError as error:
        raise StoreError(f"the lake {root} has lost its key: restore {path} from a backup") from error
    if len(key) != _KEY_BYTES:
        raise StoreError(f"the key {path} has {len(key)} bytes instead of {_KEY_BYTES}: restore it from a backup")
    return key
