"""What a transaction knows without asking the lake (empty tables, traces that are new) is true at each step."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa

from tracemill.warehouse import Lake


def dicts(lake: Lake, statement: str) -> list[dict[str, Any]]:
    with lake.reader() as con:
        return list(con.execute(statement).to_arrow_table().to_pylist())


def made_rows(lake: Lake) -> list[list[dict[str, Any]]]:
    return [
        dicts(lake, "SELECT * FROM trajectories ORDER BY trajectory_id"),
        dicts(lake, "SELECT * FROM transitions ORDER BY trajectory_id, step"),
    ]


def test_batches_taken_in_one_transaction_are_as_if_each_had_its_own(lake: Lake, build: Callable[..., Any]) -> None:
    def one(uri: str, name: str) -> Any:
        made = build(uri)
        made.episode("a", question=name)
        return made

    with lake.transaction("both") as tx:
        first = tx.take(one("x", "first").batch())
        again = tx.take(one("x", "first").batch())
        second = tx.take(one("y", "second").batch())
    assert (first.spans, again.spans, again.duplicates) == (4, 0, 4)
    # Only what differs is written: the spans that say another question.
    assert (second.spans, second.duplicates) == (2, 2)
    assert len(dicts(lake, "SELECT * FROM spans")) == 4
    assert len(dicts(lake, "SELECT * FROM trace_days")) == 1
    assert len(dicts(lake, "SELECT * FROM ingest_log")) == 2


def test_trajectories_are_the_same_whether_made_with_their_batch_or_later(
    lake: Lake, build: Callable[..., Any]
) -> None:
    for number, question in enumerate(("one", "two", "three")):
        made = build(f"file:///{number}")
        made.episode(f"t{number}", question=question)
        made.call("late", f"c{number}", [("user", question)], "an answer", start_ns=made.at + number * 10**9)
        with lake.transaction("ingest") as tx:
            taken = tx.take(made.batch())
            ungrouped = tx.rebuild(taken.trace_ids)
            assert ungrouped.column("task_text").to_pylist() == ["one", question]
            # What was made once is there now, and is replaced.
            assert tx.rebuild(taken.trace_ids).equals(ungrouped)
    at_once = made_rows(lake)
    with lake.transaction("later") as tx:
        tx.rebuild(["t0", "t1", "t2", "late"])
    assert made_rows(lake) == at_once
    assert [row["trajectory_id"] for row in at_once[0]] == ["late", "t0", "t1", "t2"]


def test_what_was_erased_in_the_transaction_does_not_come_back_with_its_next_batch(
    lake: Lake, build: Callable[..., Any]
) -> None:
    made = build()
    made.episode("a")
    made.episode("b")
    other = build("file:///other")
    other.episode("a")
    with lake.transaction("all") as tx:
        tx.take(made.batch())
        tx.erase("trace", "a", names=None, receipt_id="r")
        taken = tx.take(other.batch())
        assert (taken.spans, taken.duplicates) == (0, 4)
        # Not the traces of the last batch: the lake is asked.
        tx.rebuild(["a", "b"])
    assert {row["trajectory_id"] for row in dicts(lake, "SELECT trajectory_id FROM trajectories")} == {"b"}


def test_refusals_and_judgements_written_before_in_the_transaction_are_seen(
    lake: Lake, build: Callable[..., Any], rows_of: Callable[..., pa.Table]
) -> None:
    made = build()
    made.call("a", "c", [("user", "x")], "y", response_id="r1")
    judged = {"score_id": "s", "target_kind": "response", "target_id": "r1", "name": "useful", "value": 1.0}
    refused = {"source_uri": made.uri, "content_hash": "older", "line": 1, "reason": "torn"}
    with lake.transaction("all") as tx:
        tx.insert("quarantine", rows_of("quarantine", [refused]))
        tx.insert("scores", rows_of("scores", [judged]))
        taken = tx.take(made.batch())
    assert (taken.spans, taken.quarantined) == (1, 0)
    assert dicts(lake, "SELECT target_kind, target_id FROM scores ORDER BY target_kind") == [
        {"target_kind": "response", "target_id": "r1"},
        {"target_kind": "span", "target_id": "c"},
    ]
