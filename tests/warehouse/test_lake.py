"""The lake as a folder: made, opened, refused with a clear sentence, written by one at a time."""

import shutil
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from tracemill.errors import BusyError, StoreError
from tracemill.schema import TABLES
from tracemill.warehouse import Lake, ReplayCache, engine, layout


def count(lake: Lake, table: str, snapshot: int | None = None) -> int:
    with lake.reader(snapshot) as con:
        row = con.execute(f"SELECT count(*) FROM {table}").fetchone()
    assert row is not None
    return int(row[0])


def task(key: str, attributes: str | None = None) -> dict[str, str | None]:
    return {"task_key": key, "attributes": attributes}


def test_a_new_lake_has_every_table_and_view_and_a_secret_key(empty_lake: Path) -> None:
    with Lake.open(empty_lake) as lake, lake.reader() as con:
        for table in TABLES.values():
            found = con.execute(f"SELECT * FROM {table.name} LIMIT 0").to_arrow_table().schema
            assert [(field.name, field.type) for field in found] == [(field.name, field.type) for field in table.schema]
        for view in layout.views():
            assert con.execute(f"SELECT count(*) FROM {view}").fetchone() == (0,)
        assert len(lake.key) == 32
    assert stat.S_IMODE((empty_lake / "key").stat().st_mode) == 0o600


def test_a_lake_is_not_created_twice_and_keeps_its_key(empty_lake: Path) -> None:
    key = (empty_lake / "key").read_bytes()
    with pytest.raises(StoreError, match="there is already a lake"):
        Lake.create(empty_lake)
    assert (empty_lake / "key").read_bytes() == key


def test_an_interrupted_creation_is_refused_by_open_and_finished_by_create(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(con: duckdb.DuckDBPyConnection, digest: str) -> None:
        raise KeyboardInterrupt

    root = tmp_path / "lake"
    with monkeypatch.context() as patch:
        patch.setattr(layout, "refresh_views", broken)
        with pytest.raises(KeyboardInterrupt):
            Lake.create(root)
    with pytest.raises(StoreError, match="never finished"):
        Lake.open(root)
    with Lake.create(root) as lake:
        assert count(lake, "spans") == 0


def test_a_missing_lake_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"there is no lake in .*tracemill init"):
        Lake.open(tmp_path / "nowhere")


def test_a_lake_of_another_layout_is_refused(lake: Lake) -> None:
    con = engine.connect(lake.root, read_only=False)
    con.execute("UPDATE lake_layout SET version = 99")
    con.close()
    with pytest.raises(StoreError, match="has layout 99, this tracemill reads layout "):
        Lake.open(lake.root)


@pytest.mark.parametrize("content", [b"", b"this is not a database, whatever its name says. " * 100])
def test_a_damaged_catalog_is_refused(tmp_path: Path, empty_lake: Path, content: bytes) -> None:
    root = tmp_path / "lake"
    shutil.copytree(empty_lake, root, ignore=shutil.ignore_patterns("*-wal", "*-shm"))
    (root / "catalog.sqlite").write_bytes(content)
    with pytest.raises(StoreError, match=r"the lake .* is damaged"):
        Lake.open(root)


def test_a_lost_or_cut_key_is_refused(tmp_path: Path, empty_lake: Path) -> None:
    root = tmp_path / "lake"
    shutil.copytree(empty_lake, root)
    (root / "key").write_bytes(b"short")
    with pytest.raises(StoreError, match="5 bytes instead of 32"):
        Lake.open(root)
    (root / "key").unlink()
    with pytest.raises(StoreError, match="lost its key"):
        Lake.open(root)


def test_a_place_where_no_folder_can_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"no lake can be made in .*choose another folder"):
        Lake.create(tmp_path / "file" / "lake")


@pytest.mark.parametrize(
    ("foreign", "sentence"),
    [
        (OSError(28, "No space left on device"), "is full or failing; nothing was written"),
        (PermissionError(13, "Permission denied"), "cannot be written: check the owner and mode"),
        (duckdb.IOException("attempt to write a readonly database"), "cannot be written: check the owner and mode"),
        (duckdb.TransactionException("Failed to commit: database is locked"), "another program holds the catalog"),
        (duckdb.InvalidInputException("No magic bytes found at end of file"), "is damaged: restore the folder"),
        (duckdb.BinderException("something else"), "refused: something else"),
    ],
)
def test_foreign_errors_become_sentences(tmp_path: Path, foreign: Exception, sentence: str) -> None:
    told = engine.explained(foreign, tmp_path)
    assert sentence in str(told)
    assert told.transient == ("holds the catalog" in sentence)


def test_a_lost_data_file_is_told(tmp_path: Path, lake: Lake, rows_of: Callable[..., pa.Table]) -> None:
    with lake.transaction("write") as tx:
        tx.insert("tasks", rows_of("tasks", [task(str(number)) for number in range(50)]))
    for path in (lake.root / "data").rglob("*.parquet"):
        path.unlink()
    with pytest.raises(StoreError, match="is damaged: restore the folder"), lake.transaction("again") as tx:
        tx.insert("tasks", rows_of("tasks", [task("x")]))


def test_views_of_an_older_version_are_replaced_by_the_next_transaction(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = layout.views()
    del views["failures"]
    monkeypatch.setattr(layout, "views", lambda: {**views, "brand_new": "-- New.\nSELECT count(*) AS n FROM spans"})
    with lake.transaction("anything"):
        pass
    assert count(lake, "brand_new") == 1
    with pytest.raises(duckdb.CatalogException):
        count(lake, "failures")


def test_an_exception_undoes_everything_and_is_not_renamed(lake: Lake, rows_of: Callable[..., pa.Table]) -> None:
    with pytest.raises(FileNotFoundError, match="mine"), lake.transaction("fails") as tx:  # noqa: PT012
        assert tx.insert("tasks", rows_of("tasks", [task("a")])) == 1
        raise FileNotFoundError("mine")
    assert count(lake, "tasks") == 0
    with lake.transaction("works") as tx:
        tx.insert("tasks", rows_of("tasks", [task("b")]))
    assert count(lake, "tasks") == 1


def test_insert_keeps_the_first_row_of_a_key_and_replace_the_last(lake: Lake, rows_of: Callable[..., pa.Table]) -> None:
    with lake.transaction("write") as tx:
        assert tx.insert("tasks", rows_of("tasks", [task("a", "1"), task("a", "2"), task("b")])) == 2
        assert tx.insert("tasks", rows_of("tasks", [task("a", "3"), task("c")])) == 1
        assert tx.replace("tasks", rows_of("tasks", [task("a", "4"), task("a", "5"), task("b")])) == 1
        assert tx.con.execute("SELECT task_key, attributes FROM tasks ORDER BY ALL").fetchall() == [
            ("a", "5"),
            ("b", None),
            ("c", None),
        ]
        with pytest.raises(StoreError, match="only ever added to: use insert"):
            tx.replace("scores", rows_of("scores", []))
        with pytest.raises(StoreError, match=r"written by rebuild\(trace_ids\) only"):
            tx.insert("trajectories", rows_of("trajectories", []))
        with pytest.raises(StoreError, match="no table 'task'; it has: spans"):
            tx.insert("task", rows_of("tasks", []))
        with pytest.raises(StoreError, match="column attributes is not string"):
            tx.insert("tasks", pa.table({"task_key": ["x"], "task_group": ["g"], "attributes": [[1]]}))


def test_a_refilled_table_holds_what_it_was_given_and_nothing_else(
    lake: Lake, rows_of: Callable[..., pa.Table]
) -> None:
    with lake.transaction("first") as tx:
        assert tx.refill("tasks", rows_of("tasks", [task("a", "1"), task("b", "1"), task("c", "1")])) == 3
    with lake.transaction("second") as tx:
        assert tx.refill("tasks", rows_of("tasks", [task("a", "1"), task("b", "2"), task("d", "1")])) == 3
        left = tx.con.execute("SELECT task_key, attributes FROM tasks ORDER BY ALL").fetchall()
        assert left == [("a", "1"), ("b", "2"), ("d", "1")]
        with pytest.raises(StoreError, match="only ever added to: use insert"):
            tx.refill("scores", rows_of("scores", []))
        assert tx.refill("tasks", rows_of("tasks", [])) == 3
    assert count(lake, "tasks") == 0


def test_a_reader_of_a_snapshot_sees_the_lake_as_it_was(lake: Lake, rows_of: Callable[..., pa.Table]) -> None:
    snapshots = []
    for key in "abc":
        with lake.transaction(f"write {key}") as tx:
            tx.insert("tasks", rows_of("tasks", [task(key)]))
        snapshots.append(lake.snapshot_id())
    assert [count(lake, "tasks", snapshot) for snapshot in snapshots] == [1, 2, 3]
    with lake.reader() as con:
        told = con.execute("SELECT commit_message FROM lake.snapshots() ORDER BY snapshot_id DESC LIMIT 3").fetchall()
        with pytest.raises(duckdb.Error, match="read-only"):
            con.execute("DELETE FROM tasks")
    assert told == [("write c",), ("write b",), ("write a",)]
    with pytest.raises(StoreError, match="no snapshot 4711"):
        lake.reader(4711)


def test_a_reader_is_not_blocked_by_an_open_transaction(lake: Lake, rows_of: Callable[..., pa.Table]) -> None:
    with lake.transaction("open") as tx:
        tx.insert("tasks", rows_of("tasks", [task("a")]))
        assert count(lake, "tasks") == 0
    assert count(lake, "tasks") == 1


def test_a_second_writer_waits_its_turn_or_gives_up(lake: Lake, rows_of: Callable[..., pa.Table]) -> None:
    def write(key: str) -> None:
        with lake.transaction(key) as tx:
            tx.insert("tasks", rows_of("tasks", [task(key)]))

    waiting = threading.Thread(target=write, args=["second"])
    refused: list[BaseException] = []

    def impatient() -> None:
        try:
            with lake.transaction("impatient", wait_s=0.05):
                pass
        except BusyError as error:
            refused.append(error)

    with lake.transaction("first") as tx:
        waiting.start()
        tx.insert("tasks", rows_of("tasks", [task("first")]))
        third = threading.Thread(target=impatient)
        third.start()
        third.join()
        assert waiting.is_alive()
    waiting.join()
    assert "has been writing to the lake" in str(refused[0])
    assert count(lake, "tasks") == 2


def test_a_transaction_inside_a_transaction_is_refused(lake: Lake) -> None:
    with (
        lake.transaction("outer"),
        pytest.raises(StoreError, match="already has a transaction open"),
        lake.transaction("inner"),
    ):
        pass


def test_checkpoint_forgets_old_snapshots_but_not_those_that_are_named(
    lake: Lake, rows_of: Callable[..., pa.Table]
) -> None:
    snapshots = []
    for number in range(5):
        with lake.transaction("write") as tx:
            tx.insert("tasks", rows_of("tasks", [task(f"{number}-{row}") for row in range(20)]))
        snapshots.append(lake.snapshot_id())
    with lake.transaction("release") as tx:
        tx.insert("releases", rows_of("releases", [{"release_id": "r", "snapshot_id": snapshots[1]}]))
    later = time.time_ns() + 91 * 86_400 * 10**9
    assert lake.checkpoint(now_ns=time.time_ns()).expired == 0
    done = lake.checkpoint(now_ns=later, keep=[snapshots[3]])
    assert done.expired > 0
    assert count(lake, "tasks") == 100
    lake.close()
    assert [count(lake, "tasks", snapshot) for snapshot in (snapshots[1], snapshots[3])] == [40, 80]
    with pytest.raises(StoreError, match=f"no snapshot {snapshots[0]}"):
        lake.reader(snapshots[0])
    lake.checkpoint(now_ns=later + 2 * 86_400 * 10**9, keep=[snapshots[3]])
    assert count(lake, "tasks") == 100


def test_threads_may_share_a_lake(lake: Lake) -> None:
    failed: list[Exception] = []

    def work(name: str) -> None:
        cache = ReplayCache(lake)
        try:
            for number in range(3):
                cache.put({f"{name}-{number}": "{}"}, "m", 1, {})
                cache.settle()
                with lake.reader(lake.snapshot_id()) as con:
                    found = con.execute("SELECT count(*) FROM replays WHERE starts_with(replay_key, ?)", [name])
                    assert found.fetchone() == (number + 1,)
        except (AssertionError, StoreError, duckdb.Error) as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=[name]) for name in ("one", "two", "three")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert count(lake, "replays") == 9
