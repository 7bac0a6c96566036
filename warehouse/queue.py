"""The queue of writers: a lock file for the processes of one machine, and an advisory lock in a shared catalog."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import duckdb
from filelock import FileLock, Timeout

from tracemill.errors import BusyError, ConflictError, StoreError
from tracemill.warehouse import engine
from tracemill.warehouse.place import Place

_LOCK = 0x74726163656D696C
"""The advisory lock's number: "tracemil"."""
_SLICE_S = 5.0
"""How long the database is waited for at once: meanwhile Ctrl-C is not heard."""
_NOT_YET = "lock timeout"
# A machine that vanished is noticed after a minute, not after two hours.
_KEEPALIVE = "SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3"


class Queue:
    """Lets one writer at a time to a lake. What it holds is released when the process dies, however it dies."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._owner: int | None = None  # the thread that holds the lock through this object
        self._con: duckdb.DuckDBPyConnection | None = None

    @contextmanager
    def turn(self, wait_s: float) -> Iterator[None]:
        """Holds the writers' lock. Raises BusyError where it cannot be had in time."""
        me = threading.get_ident()
        if self._owner == me:
            # Asked for twice it would wait for itself.
            raise StoreError("this thread already has a transaction open: finish it first")
        until = time.monotonic() + wait_s
        with self._machine(wait_s):
            self._owner = me
            try:
                with self._database(until):
                    yield
            finally:
                self._owner = None

    def check(self) -> None:
        """Raises ConflictError where the lock was lost on the way: the database has closed its connection."""
        if self._con is None:
            return
        try:
            self._ask("SELECT 1")
        except duckdb.Error as error:
            raise ConflictError(f"the lake {self._place} lost its turn to write: {engine.told(error)}") from error

    def close(self) -> None:
        if self._con is not None:
            self._con.close()
        self._con = None

    @contextmanager
    def _machine(self, wait_s: float) -> Iterator[None]:
        root = self._place.root
        if not root.is_dir():
            raise StoreError(f"there is no lake in {root}: create one with tracemill init")
        lock = FileLock(root / "lock", poll_interval=0.01)
        with engine.translated(self._place):
            try:
                lock.acquire(timeout=wait_s)
            except Timeout as error:
                raise self._busy(wait_s, "process") from error
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _database(self, until: float) -> Iterator[None]:
        if self._place.database is None:
            yield
            return
        began = time.monotonic()
        try:
            while not self._taken(min(_SLICE_S, max(0.05, until - time.monotonic()))):
                if time.monotonic() > until:
                    raise self._busy(time.monotonic() - began, "machine")
            yield
        finally:
            self._release()

    def _taken(self, wait_s: float) -> bool:
        with engine.translated(self._place):
            try:
                if self._con is None:
                    self._con = engine.database(self._place)
                self._con.execute("BEGIN")
                self._run(f"{_KEEPALIVE}; SET LOCAL lock_timeout = '{int(wait_s * 1000)}ms'")
                self._ask(f"SELECT pg_advisory_xact_lock({_LOCK})::text")
            except duckdb.Error as error:
                self._release()
                if _NOT_YET in str(error):
                    return False
                self.close()  # its connection may be dead
                raise
        return True

    def _release(self) -> None:
        if self._con is not None:
            with suppress(duckdb.Error):
                self._con.execute("ROLLBACK")

    def _run(self, statement: str) -> None:
        assert self._con is not None
        self._con.execute("CALL postgres_execute(?, ?)", [engine.DATABASE, statement])

    def _ask(self, statement: str) -> None:
        assert self._con is not None
        self._con.execute("FROM postgres_query(?, ?)", [engine.DATABASE, statement]).fetchall()

    def _busy(self, wait_s: float, who: str) -> BusyError:
        return BusyError(
            f"another {who} has been writing to the lake {self._place} for {wait_s:.3g} s: wait for it to finish"
        )
