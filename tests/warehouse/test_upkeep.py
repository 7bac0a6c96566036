"""Many small ingests with a night's upkeep now and then: few files, the same rows, and no history lost."""

import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from writer import write

from tracemill.schema import TABLES
from tracemill.warehouse import Lake, engine, layout, sparingly, upkeep

DAY_NS = 86_400 * 10**9
NIGHTS, INGESTS = 3, 5
READ = (*TABLES, "llm_calls", "conversations", "costs_daily", "trace_spans")


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """What was there before a night's upkeep, what it did, and what it left."""

    snapshot: int
    rows: Mapping[str, list[Any]]
    done: upkeep.Checkpoint
    files: int
    on_disk: int


def contents(lake: Lake, snapshot: int | None = None) -> dict[str, list[Any]]:
    with lake.reader(snapshot) as con:
        return {name: con.execute(f"SELECT * FROM {name} ORDER BY ALL").fetchall() for name in READ}


def data_files(lake: Lake) -> int:
    """Those that hold the lake as it is now."""
    with lake.reader() as con:
        row = con.execute("SELECT sum(file_count) FROM ducklake_table_info('lake')").fetchone()
    assert row is not None
    return int(row[0])


def ingest(lake: Lake, build: Callable[..., Any], number: int) -> None:
    """One object with a few traces on one of three days, and now and then more of an older trace."""
    made = build(uri=f"file:///logs/{number}.jsonl", content=str(number), at=number)
    start = 1_760_000_000_000_000_000 + number % 3 * DAY_NS
    for trace in range(3 if number % 2 else 1):  # few rows stay in the catalog, more become a file at once
        made.episode(f"t{number}-{trace}", f"refund {number} {trace}", start_ns=start, session_id=f"s{number % 5}")
    if number >= 3:
        made.span(f"t{number - 3}-0", f"late{number}", kind="tool", parent_span_id="root", start_ns=start)
    made.score(f"t{number}-0", 0.5)
    write(lake, made.batch())


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory, build: Callable[..., Any]) -> Iterator[tuple[Lake, list[Night]]]:
    """A lake after some nights, each a day after the other."""
    nights = []
    with Lake.create(tmp_path_factory.mktemp("upkeep") / "lake") as lake:
        for night in range(NIGHTS):
            for number in range(night * INGESTS, (night + 1) * INGESTS):
                ingest(lake, build, number)
            snapshot, rows = lake.snapshot_id(), contents(lake)
            done = lake.checkpoint(now_ns=time.time_ns() + night * 2 * DAY_NS)
            nights.append(
                Night(
                    snapshot=snapshot,
                    rows=rows,
                    done=done,
                    files=data_files(lake),
                    on_disk=sum(1 for _ in (lake.root / "data").rglob("*.parquet")),
                )
            )
            assert contents(lake) == rows
        yield lake, nights


def test_files_do_not_pile_up_and_a_night_costs_what_it_brought(lived: tuple[Lake, list[Night]]) -> None:
    lake, nights = lived
    with lake.reader() as con:
        tables = con.execute("SELECT count(*) FROM ducklake_table_info('lake') WHERE file_count > 0").fetchone()
    assert tables is not None
    assert [night.files for night in nights] == [night.done.files for night in nights]
    # One file a table, one a day of those that lie by day, and one where too few rows were deleted to rewrite it.
    assert all(night.files <= tables[0] + 2 * 3 + 2 for night in nights)
    # The first night had nothing from before to merge with.
    assert nights[0].done.merged > INGESTS // 2
    assert nights[-1].done.merged <= nights[1].done.merged + 2


def test_every_night_is_read_as_it_was(lived: tuple[Lake, list[Night]]) -> None:
    lake, nights = lived
    for night in nights:
        assert contents(lake, night.snapshot) == night.rows


def test_files_that_no_snapshot_needs_leave_the_disk(lived: tuple[Lake, list[Night]]) -> None:
    lake, nights = lived
    assert nights[-1].on_disk > nights[-1].files
    keep = [nights[1].snapshot]
    for days in (100, 102):  # what nothing needs any more is deleted a day later
        lake.checkpoint(now_ns=time.time_ns() + days * DAY_NS, keep=keep)
    lake.close()
    assert contents(lake, nights[1].snapshot) == nights[1].rows
    assert contents(lake) == nights[-1].rows
    assert sum(1 for _ in (lake.root / "data").rglob("*.parquet")) < nights[-1].on_disk


def test_what_a_killed_writer_left_goes_a_day_later(lake: Lake) -> None:
    left = lake.root / "data" / "main" / "spans" / "ducklake-left.parquet"
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_bytes(b"PAR1")
    lake.checkpoint(now_ns=time.time_ns())
    assert left.exists()
    lake.checkpoint(now_ns=time.time_ns() + 2 * DAY_NS)
    assert not left.exists()


def tasks(first: int, count: int, table: Callable[..., pa.Table]) -> pa.Table:
    return table("tasks", [{"task_key": f"{number:06}"} for number in range(first, first + count)])


def file_names(lake: Lake) -> set[str]:
    with lake.reader() as con:
        return {
            Path(row[0]).name
            for row in con.execute("SELECT data_file FROM ducklake_list_files('lake', 'tasks')").fetchall()
        }


def test_what_has_grown_is_merged_only_when_there_is_much_of_it(
    lake: Lake, rows_of: Callable[..., pa.Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "SMALL", 1500)
    monkeypatch.setattr(upkeep, "MANY", 4)
    nights = 6
    names: list[set[str]] = []
    for night in range(nights):
        for part in range(2):
            with lake.transaction("write") as tx:
                tx.insert("tasks", tasks(night * 10_000 + part * 1000, 1000, rows_of))
        lake.checkpoint(now_ns=time.time_ns())
        names.append(file_names(lake))
    assert max(len(night) for night in names) <= upkeep.MANY
    assert any(one & two & three for one, two, three in zip(names, names[1:], names[2:], strict=False))
    assert any(len(two) < len(one) for one, two in pairwise(names))
    with lake.reader() as con:
        found = con.execute("SELECT count(*), count(DISTINCT task_key) FROM tasks").fetchall()
    assert found == [(nights * 2000, nights * 2000)]


def test_small_files_with_a_deleted_row_each_do_not_pile_up(lake: Lake, rows_of: Callable[..., pa.Table]) -> None:
    for part in range(upkeep.MANY + 2):
        with lake.transaction("write") as tx:
            tx.insert("tasks", tasks(part * 100, 50, rows_of))
    with lake.transaction("change one row of each") as tx:
        changed = [{"task_key": f"{part * 100:06}", "attributes": "{}"} for part in range(upkeep.MANY + 2)]
        tx.replace("tasks", rows_of("tasks", changed))
    before = lake.snapshot_id()
    lake.checkpoint(now_ns=time.time_ns())
    assert len(file_names(lake)) <= 2
    for snapshot in (None, before):
        with lake.reader(snapshot) as con:
            assert con.execute("SELECT count(*), count(attributes) FROM tasks").fetchall() == [(500, 10)]


def in_the_catalog(lake: Lake) -> dict[str, int]:
    """DuckLake's tables for rows and deletions that are in no file yet, and how many are in there, by SQLite itself."""
    with closing(sqlite3.connect(lake.place.sqlite)) as con:
        tables = con.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'ducklake_inlined_d%'")
        names = [row[0] for row in tables if row[0] != "ducklake_inlined_data_tables"]
        counts = {name: con.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in names}
    return {name: count for name, count in counts.items() if count}


def test_nothing_stays_in_the_catalog(lake: Lake, rows_of: Callable[..., pa.Table]) -> None:
    for count in (500, 5):
        with lake.transaction("rows for a file, and a few") as tx:
            tx.insert("tasks", tasks(count, count, rows_of))
    with lake.transaction("deleted from the file and from the few") as tx:
        changed = [{"task_key": f"{number:06}", "attributes": "{}"} for number in (7, 700)]
        tx.replace("tasks", rows_of("tasks", changed))
    with engine.connect(lake.place, read_only=False) as con:
        con.execute("ALTER TABLE tasks ADD COLUMN later INTEGER")
        con.execute("INSERT INTO tasks (task_key, later) VALUES ('later', 1)")
        con.execute("CREATE TABLE gone AS SELECT 1 AS one")
        con.execute("DROP TABLE gone")
        kinds = Counter(name.split("_")[2] for name in in_the_catalog(lake))
        assert kinds["delete"] == 1
        assert kinds["data"] >= 4  # two layouts of tasks, what was dropped, and the lake's own
        before = lake.snapshot_id(), con.execute("SELECT task_key, attributes FROM tasks ORDER BY ALL").fetchall()
    lake.checkpoint(now_ns=time.time_ns())
    left = in_the_catalog(lake)
    lake.checkpoint(now_ns=time.time_ns())
    with engine.connect(lake.place, read_only=False) as con:
        con.execute("CALL ducklake_flush_inlined_data('lake')")  # DuckLake itself, over every table
        assert in_the_catalog(lake) == left
        assert con.execute("SELECT count(*), sum(later) FROM tasks").fetchall() == [(506, 1)]
    lake.close()  # a reader from before an upgrade of the lake looks for rows where they no longer are
    for snapshot in (None, before[0]):
        with lake.reader(snapshot) as con:
            assert con.execute("SELECT task_key, attributes FROM tasks ORDER BY ALL").fetchall() == before[1]


def test_upkeep_takes_more_memory_where_little_is_not_enough(
    lake: Lake, rows_of: Callable[..., pa.Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in range(6):
        with lake.transaction("write") as tx:
            tx.insert("tasks", tasks(part * 2000, 2000, rows_of))
    monkeypatch.setattr("tracemill.warehouse.engine._LITTLE", ("16MiB", "32MiB"))
    with lake.reader() as con:
        settings = "SELECT current_setting('memory_limit'), current_setting('threads')"
        before = con.execute(settings).fetchall()
        tried = []

        def work() -> int:
            tried.append(con.execute(settings).fetchall()[0])
            if len(tried) < 3:
                raise duckdb.OutOfMemoryException("what a sort says")
            return len(con.execute("SELECT task_key FROM tasks ORDER BY task_key").fetchall())

        assert sparingly(con, work) == 12_000
        assert tried == [("16.0 MiB", 1), ("32.0 MiB", 1), before[0]]
        assert con.execute(settings).fetchall() == before
    monkeypatch.setattr("tracemill.warehouse.engine._LITTLE", ("1KiB", "2KiB"))  # not even what the catalog takes
    assert lake.checkpoint(now_ns=time.time_ns()).merged == 6
    assert len(file_names(lake)) == 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_thousand_small_ingests_leave_few_files(lake: Lake, build: Callable[..., Any]) -> None:
    most = 0
    for number in range(1000):
        ingest(lake, build, number)
        if number % 100 == 99:
            rows = contents(lake)
            done = lake.checkpoint(now_ns=time.time_ns() + number * DAY_NS // 50)
            assert contents(lake) == rows
            most = max(most, done.files)
    assert most <= len(TABLES) + len(layout.views())
    with lake.reader() as con:
        assert con.execute("SELECT count(*) FROM ingest_log").fetchone() == (1000,)
        assert con.execute("SELECT count(*) FROM trajectories").fetchone() == (2000,)
