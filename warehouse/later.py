"""Rows that are written a little later, many in one transaction, beside the work that makes them."""

import threading
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from tracemill.schema import TABLES
from tracemill.warehouse.lake import Lake

_Key = tuple[Any, ...]
_Row = Mapping[str, Any]
_Rows = dict[str, dict[_Key, _Row]]
"""By table and key, in the order that they came in."""


class Later:
    """Takes rows at once and writes them within `every_s`; a transaction costs more than some hundred rows.

    All that wait are one transaction: a killed process loses what came in last, from every table alike. An error of a
    write is raised by the next call; the rows wait on, and `flush` tries again. Use as a context: left with everything
    written, errors included. Safe to call from several threads.
    """

    def __init__(self, lake: Lake, message: str, *, every_s: float = 1.0) -> None:
        self._lake = lake
        self._message = message
        self._every_s = every_s
        self._lock = threading.Condition()
        self._turn = threading.Lock()
        self._waiting: _Rows = {}
        self._under_way: _Rows = {}
        self._thread: threading.Thread | None = None
        self._failed: Exception | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()

    def insert(self, name: str, rows: Iterable[_Row]) -> None:
        """Rows to add to a table where their key is new; of equal keys the first. What a row leaves out is NULL."""
        self.insert_all({name: rows})

    def insert_all(self, tables: Mapping[str, Iterable[_Row]]) -> None:
        """Rows of several tables that no transaction parts. They are taken, also where an earlier error is raised."""
        keyed = {
            name: [(tuple(row[column] for column in TABLES[name].key), row) for row in rows]
            for name, rows in tables.items()
        }
        if not any(keyed.values()):
            return
        with self._lock:
            for name, rows in keyed.items():
                waiting = self._waiting.setdefault(name, {})
                for key, row in rows:
                    waiting.setdefault(key, row)
            if self._thread is None:
                self._thread = threading.Thread(target=self._soon, name="later", daemon=True)
                self._thread.start()
            self._tell()

    def find(self, name: str, *key: Any) -> Mapping[str, Any] | None:
        """The row of that key, where it is still to be written."""
        with self._lock:
            found = self._under_way.get(name, {}).get(key)
            return found if found is not None else self._waiting.get(name, {}).get(key)

    def check(self) -> None:
        """Raises what the last write raised, unless it was told already."""
        with self._lock:
            self._tell()

    def flush(self) -> None:
        """Everything that was inserted is durable when it returns."""
        failed = self._write()
        with self._lock:
            self._failed = None
        if failed is not None:
            raise failed

    def _tell(self) -> None:
        failed, self._failed = self._failed, None
        if failed is not None:
            raise failed

    def _soon(self) -> None:
        with self._lock:
            self._lock.wait_for(lambda: not self._waiting, timeout=self._every_s)
            self._thread = None  # whatever comes from now on is for the next one
        self._write()

    def _write(self) -> Exception | None:
        with self._turn:
            with self._lock:
                rows, self._waiting = self._waiting, {}
                self._under_way = rows
                self._lock.notify_all()
            failed: Exception | None = None
            done = False
            try:
                if rows:
                    self._commit(rows)
                done = True
            except Exception as error:  # noqa: BLE001 - raised in the thread of the next call
                failed = error
            finally:
                with self._lock:
                    self._under_way = {}
                    self._failed = failed
                    if not done:
                        self._waiting = _first(rows, self._waiting)
        return failed

    def _commit(self, rows: _Rows) -> None:
        tables = {
            name: pa.Table.from_pylist(list(known.values()), schema=TABLES[name].schema) for name, known in rows.items()
        }
        with self._lake.transaction(self._message) as tx:
            for name, table in tables.items():
                tx.insert(name, table)


def _first(rows: _Rows, more: _Rows) -> _Rows:
    """Both, of equal keys those of the first."""
    return {name: {**rows.get(name, {}), **_new(more.get(name, {}), rows.get(name, {}))} for name in {**rows, **more}}


def _new(some: dict[_Key, _Row], known: dict[_Key, _Row]) -> dict[_Key, _Row]:
    return {key: row for key, row in some.items() if key not in known}
