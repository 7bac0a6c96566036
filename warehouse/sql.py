"""SQL of users: one statement that reads the lake, and can do nothing else.

Three fences, each enough for most attacks alone: only what DuckDB's own parser types as SELECT (or EXPLAIN of one)
runs; it may name only the lake's tables and views and functions that touch nothing else (readonly.py), because
`sqlite_scan` and others open files past DuckDB's file rules; and it runs on a connection of its own with the lake
read-only, no file access but to the lake's data, and locked settings. It uses at most half of what the machine has of
memory and of free disk, stops on Ctrl-C, and after a time where one is given.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import duckdb
import pyarrow as pa

from tracemill.errors import QueryError, StoreError
from tracemill.warehouse import engine, layout, lighter, readonly
from tracemill.warehouse.lake import Lake
from tracemill.warehouse.place import Place, located

_BATCH_ROWS = 10_000
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The rows of a query as they come; what is not taken is never computed."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]
    """May raise QueryError."""


def query(
    lake: Lake,
    statement: str,
    *,
    snapshot: int | None = None,
    limit: int | None = None,
    timeout_s: float | None = None,
) -> pa.Table:
    """The rows of one reading statement, as of `snapshot` where given, at most `limit` of them.

    Raises QueryError for everything that is not one SELECT (or EXPLAIN of one), where the statement fails, and where it
    takes longer than `timeout_s`.
    """
    rows = _BATCH_ROWS if limit is None else min(max(1, limit), _BATCH_ROWS)
    with stream(lake, statement, snapshot=snapshot, timeout_s=timeout_s, batch_rows=rows) as answer:
        batches, left = [], limit
        while (left is None or left > 0) and (batch := next(answer.batches, None)) is not None:
            batches.append(batch if left is None else batch.slice(0, left))
            left = None if left is None else left - batches[-1].num_rows
        return pa.Table.from_batches(batches, schema=answer.schema)


@contextmanager
def stream(
    lake: Lake,
    statement: str,
    *,
    snapshot: int | None = None,
    timeout_s: float | None = None,
    batch_rows: int = _BATCH_ROWS,
) -> Iterator[Answer]:
    """As `query`, batch by batch, so that an answer may be larger than memory."""
    with _Worker(timeout_s) as worker:
        con = worker.run(lambda: fenced(lake, snapshot=snapshot))
        try:
            worker.interrupt = con.interrupt
            text = worker.run(lambda: prepared(con, statement))
            reader = worker.run(lambda: con.execute(text).to_arrow_reader(batch_rows))
            yield Answer(schema=reader.schema, batches=_batches(worker, reader))
        finally:
            con.close()


def fenced(lake: Lake, *, snapshot: int | None = None) -> duckdb.DuckDBPyConnection:
    """What `query` runs on: an instance of its own, with the lake read-only and everything else out of reach."""
    con = _attached(lake.place, snapshot)
    try:
        with engine.translated(lake.place):
            _fence(con, lake.place)
    except BaseException:
        con.close()
        raise
    return con


def prepared(con: duckdb.DuckDBPyConnection, statement: str) -> str:
    """What to run next on `con`, of `fenced`, for a statement. Raises QueryError where it might do more than read.

    It runs in a transaction that begins here and lasts until the next statement is prepared or `con` is closed, and on
    one thread where it reads one trace: its dozen small queries of the catalog cost half as much again on two.
    """
    # Outside of one, each look at the lake's tables reads the catalog anew: 5 ms.
    with suppress(duckdb.TransactionException):
        con.execute("ROLLBACK")
    con.execute("SET threads = 1")
    con.execute("BEGIN")
    text = readonly.checked(con, statement)
    if lighter.is_of_one_trace(con, text):
        return lighter.lighten(con, text)
    con.execute("SET threads = getvariable('usual_threads')")
    return lighter.lighten(con, text)


def _attached(place: Place, snapshot: int | None) -> duckdb.DuckDBPyConnection:
    with engine.translated(place):
        try:
            return engine.connect(place, read_only=True, snapshot=snapshot)
        except duckdb.Error as error:
            if snapshot is None or "snapshot" not in str(error).lower():
                raise
            raise StoreError(f"the lake {place} has no snapshot {snapshot}: it never had, or it has expired") from error


def _batches(worker: "_Worker", reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    while (batch := worker.run(lambda: next(reader, None))) is not None:
        yield batch


def connect(where: Place | Path | str, *, snapshot: int | None = None) -> duckdb.DuckDBPyConnection:
    """A DuckDB of the caller's own with the lake in the folder `where` attached read-only, and in use.

    For programs that read beside tracemill: polars, Ray, notebooks. It needs no network and never waits for writers.
    With `snapshot`, the lake as it was. Raises StoreError where there is no lake. Not fenced: for SQL of one's own.
    """
    place = located(Path(where) if isinstance(where, str) else where)
    if place.database is None and not place.sqlite.is_file():
        raise StoreError(f"there is no lake in {place.root}: give the folder that holds catalog.sqlite")
    return _attached(place, snapshot)


def attachment(lake: Lake, *, snapshot: int | None = None) -> str:
    """What any DuckDB client runs to have the lake before it, read-only; at a fixed snapshot where one is given."""
    wanted = " ".join(f"INSTALL {name.removesuffix('_scanner')};" for name in reversed(engine.extensions(lake.place)))
    return (
        f"{wanted}\n"
        f"{engine.attachment(lake.place, engine.CATALOG, read_only=True, snapshot=snapshot)};\n"
        f"USE {engine.CATALOG};\n"
    )


def night_snapshot(lake: Lake, night: str) -> int:
    """The snapshot that holds what a night learned from. `night` is its name, how its name begins, or `last`.

    Raises QueryError where that is no night or several, and where its snapshot can no longer be read.
    """
    with engine.translated(lake.place), lake.reader() as con:
        found = con.execute(layout.statement("night_snapshots"), {"night": night}).fetchall()
        known = {int(row[0]) for row in con.execute(f"SELECT snapshot_id FROM {engine.CATALOG}.snapshots()").fetchall()}
        forgotten = con.execute("SELECT max(snapshot_id) FROM receipts").fetchone()
    if not found:
        raise QueryError(f"there was no night {night}: SELECT night_id FROM nights lists those that were")
    if len(found) > 1 and night != "last":
        raise QueryError(
            f"{night} means {len(found)} nights, from {found[-1][0]} to {found[0][0]}: give more of the name"
        )
    name, snapshot = found[0]
    if snapshot is None:
        raise QueryError(f"the night {name} does not tell which snapshot it read: an earlier tracemill ran it")
    if snapshot not in known:
        ended = forgotten is not None and forgotten[0] is not None and forgotten[0] >= snapshot
        why = "somebody was forgotten since, which ends all history before it" if ended else "it has expired"
        raise QueryError(f"what the night {name} read was snapshot {snapshot}, which can no longer be read: {why}")
    return int(snapshot)


def _fence(con: duckdb.DuckDBPyConnection, place: Place) -> None:
    """No files but the lake's data, no extensions to load, no settings to change, for as long as `con` lives.

    In an object store `..` leads out of the lake's data to other objects that the same keys open: that no text may name
    a file (readonly.py) is what stands before it there.
    """
    row = con.execute(
        "SELECT data_path, parse_formatted_bytes(current_setting('memory_limit')) "
        f"FROM ducklake_settings('{engine.CATALOG}')"
    ).fetchone()
    data, memory = (str(row[0]), int(row[1])) if row else (place.data_url, 0)
    con.execute("SET VARIABLE usual_threads = current_setting('threads')")
    for setting in (
        # DuckDB's own limit is 80 % of what the machine or the container has.
        f"memory_limit = '{memory * 5 // 8} bytes'",
        f"max_temp_directory_size = '{shutil.disk_usage(place.root).free // 2} bytes'",
        f"allowed_directories = [{engine.quoted(data)}]",
        "python_enable_replacements = false",
        "allow_community_extensions = false",
        "allowed_configs = ['threads']",  # which `prepared` sets
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        con.execute(f"SET {setting}")


class _Worker:
    """Runs the steps of one query in a thread of its own, so that Ctrl-C and the deadline are heard meanwhile."""

    def __init__(self, timeout_s: float | None) -> None:
        self._timeout_s = timeout_s
        self._deadline = None if timeout_s is None else time.monotonic() + timeout_s
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="query")
        self.interrupt: Callable[[], None] = lambda: None
        """Ends what the thread is doing."""

    def __enter__(self) -> "_Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def run(self, step: Callable[[], _Result]) -> _Result:
        """The step's result. Raises QueryError where it fails or is too late."""
        future = self._pool.submit(step)
        try:
            return future.result(None if self._deadline is None else max(0.0, self._deadline - time.monotonic()))
        except TimeoutError as error:
            self._stop(future)
            raise QueryError(
                f"the query took longer than {self._timeout_s:g} s and was stopped: "
                "ask for less, for one day for instance, or allow it more time"
            ) from error
        except (duckdb.Error, pa.ArrowException) as error:
            raise QueryError(f"the query failed: {readonly.told(error)}") from error
        except BaseException:
            self._stop(future)
            raise

    def _stop(self, future: "Future[_Result]") -> None:
        # An interrupt that comes before the statement has begun is lost.
        while not future.done():
            self.interrupt()
            wait([future], timeout=0.05)
