"""Taking a batch: every row once, however often its source comes by."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from tracemill.errors import StoreError
from tracemill.records import Batch
from tracemill.warehouse import Lake, Taken


def take(lake: Lake, batch: Batch) -> Taken:
    with lake.transaction("take") as tx:
        return tx.take(batch)


def rows(lake: Lake, statement: str) -> list[tuple[Any, ...]]:
    with lake.reader() as con:
        return con.execute(statement).fetchall()


def test_a_batch_is_counted_row_by_row(lake: Lake, build: Callable[..., Any]) -> None:
    made = build()
    made.episode("a")
    made.episode("b", "close my account")
    made.score("a", 1.0)
    made.refuse(7, "torn line")
    taken = take(lake, made.batch())
    assert taken == Taken(
        items=10, spans=8, merged=0, messages=7, scores=1, duplicates=0, quarantined=1, files=1, trace_ids=["a", "b"]
    )
    assert rows(lake, "SELECT count(*) FROM spans") == [(8,)]


def test_taking_the_same_batch_again_changes_nothing(lake: Lake, build: Callable[..., Any]) -> None:
    made = build()
    made.episode("a")
    made.episode("undated", start_ns=None)
    made.score("a", None)
    made.refuse(7, "torn line")
    take(lake, made.batch())
    before = lake.snapshot_id()
    again = take(lake, made.batch())
    assert again == Taken(
        items=10, spans=0, merged=0, messages=0, scores=0, duplicates=10, quarantined=0, files=0, trace_ids=[]
    )
    assert lake.snapshot_id() == before


def test_messages_are_stored_once_although_spans_repeat_them(lake: Lake, build: Callable[..., Any]) -> None:
    first, second = build(uri="file:///1"), build(uri="file:///2")
    for number in range(20):
        first.episode(f"a{number}")
        second.episode(f"b{number}")
    take(lake, first.batch())
    assert take(lake, second.batch()).messages == 20  # only the answers that name their trace
    assert rows(lake, "SELECT count(*), count(DISTINCT message_id) FROM messages") == [(44, 44)]
    assert rows(lake, "SELECT sum(len(input_ids) + len(output_ids)) FROM spans WHERE kind = 'llm'") == [(320,)]


def test_a_span_in_two_source_objects_is_one_row(lake: Lake, build: Callable[..., Any]) -> None:
    for uri in ("file:///1", "file:///2"):
        made = build(uri=uri)
        made.episode("a")
        taken = take(lake, made.batch())
    assert (taken.spans, taken.duplicates, taken.files) == (0, 4, 1)
    assert rows(lake, "SELECT count(*) FROM spans") == [(4,)]


def test_a_span_that_comes_again_with_other_content_replaces_the_older_one(
    lake: Lake, build: Callable[..., Any]
) -> None:
    made = build(uri="file:///1")
    made.span("a", "s", name="started", status="unset")
    take(lake, made.batch())
    later = build(uri="file:///2", at=made.at + 1)
    later.span("a", "s", name="finished")
    taken = take(lake, later.batch())
    assert (taken.spans, taken.trace_ids) == (1, ["a"])
    assert rows(lake, "SELECT name, status FROM spans") == [("finished", "ok")]


def test_a_span_older_than_the_one_in_the_lake_is_a_duplicate(lake: Lake, build: Callable[..., Any]) -> None:
    made = build(uri="file:///1", at=100)
    made.span("a", "s", name="finished")
    take(lake, made.batch())
    earlier = build(uri="file:///2", at=99)
    earlier.span("a", "s", name="started")
    assert take(lake, earlier.batch()).duplicates == 1
    assert rows(lake, "SELECT name FROM spans") == [("finished",)]


def test_of_one_span_twice_in_a_batch_the_last_wins(lake: Lake, build: Callable[..., Any]) -> None:
    made = build()
    made.span("a", "s", name="first")
    made.span("a", "s", name="last")
    taken = take(lake, made.batch())
    assert (taken.spans, taken.duplicates) == (1, 1)
    assert rows(lake, "SELECT name FROM spans") == [("last",)]


def test_a_grown_source_object_adds_only_what_is_new(lake: Lake, build: Callable[..., Any]) -> None:
    made = build(content="1")
    made.episode("a")
    take(lake, made.batch())
    made.content = "2"
    made.episode("b")
    taken = take(lake, made.batch())
    assert (taken.spans, taken.duplicates, taken.files, taken.trace_ids) == (4, 4, 1, ["b"])


def test_a_batch_of_known_and_new_objects_skips_the_known_one(lake: Lake, build: Callable[..., Any]) -> None:
    known, new = build(uri="file:///1"), build(uri="file:///2")
    known.span("a", "s", name="as logged")
    take(lake, known.batch())
    # The known object's rows, decoded differently: the ledger has it, so they are not looked at.
    known.rows["spans"][0]["name"] = "decoded otherwise"
    new.span("b", "s")
    both = {
        name: pa.concat_tables([known.batch().tables[name], new.batch().tables[name]]) for name in known.batch().tables
    }
    taken = take(lake, Batch(batch_id="both", tables=both))
    assert (taken.spans, taken.files, taken.trace_ids) == (1, 1, ["b"])
    assert rows(lake, "SELECT name FROM spans WHERE trace_id = 'a'") == [("as logged",)]


def test_rows_without_a_day_are_found_again(lake: Lake, build: Callable[..., Any]) -> None:
    for content in ("1", "2"):
        made = build(content=content)
        made.episode("undated", start_ns=None)
        take(lake, made.batch())
    assert rows(lake, "SELECT count(*), count(day) FROM spans") == [(4, 0)]
    assert rows(lake, "SELECT count(*) FROM messages") == [(5,)]


def test_a_span_that_moves_to_another_day_stays_one_row(lake: Lake, build: Callable[..., Any]) -> None:
    day_ns = 86_400_000_000_000
    for number, content in enumerate(("1", "2")):
        made = build(content=content, at=number)
        made.span("a", "s", start_ns=made.at * day_ns + 5)
        take(lake, made.batch())
    assert rows(lake, "SELECT trace_id, start_ns FROM spans") == [("a", day_ns + 5)]


def test_declared_tasks_are_replaced_by_their_newest_text(
    lake: Lake, build: Callable[..., Any], rows_of: Callable[..., pa.Table]
) -> None:
    for content, gold in (("1", "42"), ("2", "43")):
        batch = build(content=content).batch()
        tasks = rows_of("tasks", [{"task_key": "k", "attributes": gold}])
        take(lake, Batch(batch_id=content, tables={**batch.tables, "tasks": tasks}))
    assert rows(lake, "SELECT task_key, attributes FROM tasks") == [("k", "43")]


def test_rows_that_do_not_fit_are_refused_and_nothing_is_written(lake: Lake, build: Callable[..., Any]) -> None:
    made = build()
    made.episode("a")
    batch = made.batch()
    bad = batch.tables["messages"].drop_columns(["text"])
    with pytest.raises(StoreError, match=r"messages do not fit: missing columns \['text'\]"):
        take(lake, Batch(batch_id="bad", tables={**batch.tables, "messages": bad}))
    assert rows(lake, "SELECT count(*) FROM spans") == [(0,)]


def test_a_span_without_an_id_is_refused(lake: Lake, build: Callable[..., Any]) -> None:
    made = build()
    made.span("a", "s")
    made.rows["spans"][0]["span_id"] = None
    with pytest.raises(StoreError, match="1 rows have no span_id"):
        take(lake, made.batch())


def test_a_batch_may_not_bring_other_tables(lake: Lake, rows_of: Callable[..., pa.Table]) -> None:
    with pytest.raises(StoreError, match="a batch may have: spans"):
        take(lake, Batch(batch_id="x", tables={"sites": rows_of("sites", [])}))
