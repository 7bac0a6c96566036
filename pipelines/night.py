"""One run of the pipeline as its stages see it: who it is, what is configured, what time it is, whom to tell."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from filelock import FileLock, Timeout

from tracemill.errors import BusyError
from tracemill.pipelines.config import Config
from tracemill.pipelines.progress import Tell, tell_nobody
from tracemill.schema import TABLES
from tracemill.warehouse import Lake, Later, ReplayCache

_UNSEALED = (Path(__file__).parent / "sql" / "unsealed_scores.sql").read_text(encoding="utf-8")


@contextmanager
def only_one(config: Config) -> Iterator[None]:
    """The project's only nightly run while it lasts. BusyError where another is going."""
    lock = FileLock(config.path(".tracemill/nightly.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise BusyError(f"another nightly run of {config.root} is going; wait for it to end") from error
    try:
        yield
    finally:
        lock.release()


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """One run. Both branches hold it at once; the lake may be shared by threads."""

    night_id: str
    config: Config
    lake: Lake
    clock: Callable[[], int]
    """Now, in UTC nanoseconds; the app's clock, or a test's."""
    tell: Tell = tell_nobody
    environment: Mapping[str, str] = field(default_factory=dict)
    """Where keys of model endpoints are looked up."""
    replays: ReplayCache | None = field(default=None, repr=False)
    """Answers to replayed calls, of a stage that puts writing off (`putting_off`)."""
    later: Later | None = field(default=None, repr=False)
    """What such a stage writes a little later, in one transaction with the answers that it rests on."""

    @contextmanager
    def putting_off(self) -> Iterator["Night"]:
        """This night for a stage that replays: what it puts off is written each second, and all of it on leaving."""
        with Later(self.lake, f"{self.night_id}: replays") as later:
            yield replace(self, later=later, replays=ReplayCache(self.lake, later))

    @property
    def answers(self) -> ReplayCache:
        """Where answers of models are kept and looked up: durable when a batch is answered, or put off."""
        return self.replays if self.replays is not None else ReplayCache(self.lake)

    def select(self, statement: str, *params: object, snapshot: int | None = None) -> pa.Table:
        """Rows of the lake as they are now, or as of a snapshot."""
        with self.lake.reader(snapshot) as con:
            return con.execute(statement, list(params)).to_arrow_table()

    @contextmanager
    def learner(self, snapshot: int | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """A reader for everything that learns: nothing in it shows what `[combined] sealed` reward models say."""
        with self.lake.reader(snapshot) as con:
            if self.config.combined.sealed:
                names = [list(self.config.combined.sealed)]
                con.execute("CREATE TEMP TABLE sealed AS SELECT unnest(?::VARCHAR[]) AS name", names)
                (catalog,) = con.sql("SELECT current_database()").fetchone() or ("",)
                # By bare name a temporary view is found before the lake's table, also by the lake's own views.
                con.execute(_UNSEALED.format(catalog=catalog))
            yield con

    def judge(self, name: str, snapshot: int | None = None) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """What the reward model of that name reads: a sealed one everything, for it must know its own rows."""
        return self.lake.reader(snapshot) if name in self.config.combined.sealed else self.learner(snapshot)

    @contextmanager
    def stage(self, name: str, *, snapshot: int | None = None) -> Iterator[dict[str, Any]]:
        """Records a row of `runs` for what happens inside; the yielded dict becomes its detail.

        `snapshot` is what the stage reads; where it is not given, the newest when the stage begins.
        """
        read = self.lake.snapshot_id() if snapshot is None else snapshot
        started = self.clock()
        detail: dict[str, Any] = {}
        status = "failed"
        try:
            yield detail
            status = str(detail.pop("status", "ok"))
        except BaseException as error:
            detail["error"] = f"{type(error).__name__}: {error}"
            raise
        finally:
            row = {
                "night_id": self.night_id,
                "stage": name,
                "started_ns": started,
                "ended_ns": self.clock(),
                "status": status,
                "detail": json.dumps(detail, default=str),
                "snapshot_id": read,
            }
            with self.lake.transaction(f"{self.night_id}: {name} {status}") as tx:
                tx.insert("runs", rows("runs", [row]))


def rows(table: str, values: list[dict[str, Any]]) -> pa.Table:
    """Rows of one of the lake's tables; columns that a row leaves out are NULL."""
    return pa.Table.from_pylist(values, schema=TABLES[table].schema)
