"""What a night read can be asked for as it was."""

import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from tracemill.errors import QueryError
from tracemill.warehouse import Lake, sql

DAY = 86_400 * 10**9
COUNT = "SELECT count(*) FROM tasks"


@pytest.fixture
def stage(lake: Lake, rows_of: Callable[..., pa.Table]) -> Callable[..., int]:
    """Writes a task and then a stage's row; gives the snapshot between, which the row names by default."""

    def write(night: str, name: str, at: int, **columns: Any) -> int:
        with lake.transaction("task") as tx:
            tx.insert("tasks", rows_of("tasks", [{"task_key": f"{night} {name} {at}"}]))
        read = lake.snapshot_id()
        row = {
            "night_id": night,
            "stage": name,
            "started_ns": at,
            "ended_ns": at + 1,
            "status": "ok",
            "snapshot_id": read,
            **columns,
        }
        with lake.transaction("stage") as tx:
            tx.insert("runs", rows_of("runs", [row]))
        return read

    return write


def test_a_night_is_what_its_branches_learned_from(lake: Lake, stage: Callable[..., int]) -> None:
    stage("2026-11-22T02", "ingest", 1)
    read = stage("2026-11-22T02", "optimize", 2)
    stage("2026-11-22T02", "train", 2, snapshot_id=read)
    stage("2026-11-22T02", "gate", 4, snapshot_id=read)
    stage("2026-11-22T02", "upkeep", 5)
    stage("2026-11-23T02", "ingest", 6)
    last = stage("2026-11-23T02", "mine", 7, status="failed")

    assert sql.query(lake, "SELECT night_id, status, stages, snapshot_id FROM nights ORDER BY 1").to_pylist() == [
        {
            "night_id": "2026-11-22T02",
            "status": "ok",
            "stages": ["ingest", "optimize", "train", "gate", "upkeep"],
            "snapshot_id": read,
        },
        {"night_id": "2026-11-23T02", "status": "failed", "stages": ["ingest", "mine"], "snapshot_id": last},
    ]
    assert sql.night_snapshot(lake, "2026-11-22") == read
    assert sql.night_snapshot(lake, "last") == sql.night_snapshot(lake, "2026-11-23T02") == last
    then = sql.query(lake, COUNT, snapshot=sql.night_snapshot(lake, "2026-11-22T02"))
    assert then.column(0).to_pylist() == [2]
    assert sql.query(lake, COUNT).column(0).to_pylist() == [7]


def test_a_name_that_is_no_night_or_several_is_told(lake: Lake, stage: Callable[..., int]) -> None:
    with pytest.raises(QueryError, match="there was no night last"):
        sql.night_snapshot(lake, "last")
    first = stage("n-1", "mine", 1)
    stage("n-12", "mine", 2)
    stage("old", "mine", 3, snapshot_id=None)
    with pytest.raises(QueryError, match="n- means 2 nights, from n-1 to n-12"):
        sql.night_snapshot(lake, "n-")
    assert sql.night_snapshot(lake, "n-1") == first, "a whole name is no beginning"
    with pytest.raises(QueryError, match="old does not tell"):
        sql.night_snapshot(lake, "old")
    with pytest.raises(QueryError, match="no night tomorrow"):
        sql.night_snapshot(lake, "tomorrow")


def test_upkeep_keeps_what_a_night_within_retention_read(lake: Lake, stage: Callable[..., int]) -> None:
    now = time.time_ns()
    later = now + 100 * DAY  # all snapshots made here are 100 days old by then
    long_ago = stage("long ago", "mine", now)
    lately = stage("lately", "mine", later - 89 * DAY)
    assert lake.checkpoint(now_ns=later).expired > 0
    lake.close()
    assert sql.query(lake, COUNT, snapshot=sql.night_snapshot(lake, "lately")).column(0).to_pylist() == [2]
    assert sql.night_snapshot(lake, "lately") == lately
    with pytest.raises(QueryError, match=f"was snapshot {long_ago}, which can no longer be read: it has expired"):
        sql.night_snapshot(lake, "long ago")


def test_what_candidates_and_verdicts_of_retained_nights_name_is_kept_too(
    lake: Lake, stage: Callable[..., int], rows_of: Callable[..., pa.Table]
) -> None:
    now = time.time_ns()
    later = now + 100 * DAY
    named = [stage(f"n{number}", "mine", now, snapshot_id=None) for number in range(4)]
    with lake.transaction("judged") as tx:
        for table, read in (("candidates", named[0]), ("verdicts", named[2])):
            key = {"candidate_id": table} | ({"verdict_id": table} if table == "verdicts" else {})
            tx.insert(table, rows_of(table, [{**key, "snapshot_id": read, "at": later - DAY}]))
    lake.checkpoint(now_ns=later)
    lake.close()
    left = sql.query(lake, "SELECT snapshot_id FROM lake.snapshots()").column(0).to_pylist()
    assert [read in left for read in named] == [True, False, True, False]


def test_after_somebody_was_forgotten_no_earlier_night_can_be_asked(
    lake: Lake, stage: Callable[..., int], rows_of: Callable[..., pa.Table]
) -> None:
    stage("n", "mine", 1)
    receipt = {"receipt_id": "r", "action": "forget", "scope": "trace", "snapshot_id": lake.snapshot_id()}
    with lake.transaction("forget") as tx:
        tx.erase("trace", "t", names=None, receipt_id="r")
        tx.insert("receipts", rows_of("receipts", [receipt]))
    lake.purge()
    with pytest.raises(QueryError, match="somebody was forgotten since"):
        sql.night_snapshot(lake, "n")
    after = stage("m", "mine", 2)
    assert sql.night_snapshot(lake, "last") == after
