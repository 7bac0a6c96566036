"""Trajectories and transitions are made from spans; what was assigned to them stays."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from tracemill.errors import StoreError
from tracemill.warehouse import Lake


def rebuild(lake: Lake, made: Any) -> list[dict[str, Any]]:
    with lake.transaction("rebuild") as tx:
        return list(tx.rebuild(tx.take(made.batch()).trace_ids).to_pylist())


def dicts(lake: Lake, statement: str) -> list[dict[str, Any]]:
    with lake.reader() as con:
        return list(con.execute(statement).to_arrow_table().to_pylist())


def groups(*rows: tuple[str, str, str]) -> pa.Table:
    names = ("trajectory_id", "task_group", "pool")
    return pa.table({name: [row[place] for row in rows] for place, name in enumerate(names)})


def sites(*rows: tuple[str, int, str, str]) -> pa.Table:
    names = ("trajectory_id", "step", "site_id", "site_version")
    return pa.table({name: [row[place] for row in rows] for place, name in enumerate(names)})


def test_a_trajectory_sums_its_real_calls_and_takes_its_name_from_the_root(
    lake: Lake, build: Callable[..., Any]
) -> None:
    made = build()
    made.episode("a", session_id="s1", task_key="k1", status="error", flags=["redacted"])
    made.call("a", "wrapped", [("user", "x")], "y", flags=["wrapper"], cost_usd=100.0, parent_span_id="root")
    # A gateway's call span around the provider's: one call, paid once.
    made.call("a", "outer", [("user", "x")], "y", parent_span_id="root", start_ns=made.at + 4 * 10**9)
    made.call("a", "inner", [("user", "x")], "y", parent_span_id="outer", start_ns=made.at + 4 * 10**9)
    assert rebuild(lake, made) == [{"trajectory_id": "a", "task_key": "k1", "task_text": "refund please"}]
    (found,) = dicts(lake, "SELECT * FROM trajectories")
    expected = {
        "agent_name": "triage", "session_id": "s1", "task_key": "k1", "outcome": "error", "n_spans": 7,
        "n_llm_calls": 3, "n_tool_calls": 1, "n_errors": 2, "tokens_in": 30, "tokens_out": 6, "cost_usd": 1.5,
        "start_ns": made.at, "end_ns": made.at + 5 * 10**9, "flags": ["redacted", "wrapper"], "pool": None,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected
    steps = dicts(lake, "SELECT step, span_id, agent_name, finish_reason FROM transitions ORDER BY step")
    assert [step["span_id"] for step in steps] == ["c1", "c2", "inner"]
    assert {step["agent_name"] for step in steps} == {"triage"}


def test_what_is_not_known_is_null_not_zero(lake: Lake, build: Callable[..., Any]) -> None:
    made = build()
    made.call("a", "c", [("user", "x")], "y", tokens_in=None, tokens_out=None, cost_usd=None, start_ns=None)
    rebuild(lake, made)
    (found,) = dicts(lake, "SELECT tokens_in, tokens_out, cost_usd, day, start_ns, end_ns, flags FROM trajectories")
    assert set(found.values()) == {None}


def test_without_times_the_source_order_decides(lake: Lake, build: Callable[..., Any]) -> None:
    made = build()
    for seq, span_id in ((5, "late"), (1, "early")):
        made.call("a", span_id, [("user", span_id)], "y", start_ns=None, seq=seq)
    assert rebuild(lake, made)[0]["task_text"] == "early"
    assert dicts(lake, "SELECT span_id FROM transitions ORDER BY step") == [{"span_id": "early"}, {"span_id": "late"}]


def test_untrainable_calls_say_why(lake: Lake, build: Callable[..., Any]) -> None:
    made = build()
    cases: list[tuple[str | None, dict[str, Any]]] = [
        ("fine", {}),
        ("lossy", {"flags": ["lossy"]}),
        ("leak", {"flags": ["lossy", "reward_leak"]}),
        ("cut", {"flags": ["truncated"]}),
        ("failed", {"status": "error"}),
        (None, {}),
    ]
    for number, (output, columns) in enumerate(cases):
        made.call("a", f"c{number}", [("user", "x")], output, start_ns=made.at + number, **columns)
    rebuild(lake, made)
    found = dicts(lake, "SELECT trainable, untrainable_reason FROM transitions ORDER BY step")
    assert [row["untrainable_reason"] for row in found] == [
        None, None, "reward_leak", "truncated", "error", "no_output",
    ]  # fmt: skip
    assert [row["trainable"] for row in found] == [True, True, False, False, False, False]


def test_the_task_is_the_last_user_message_of_the_first_call(lake: Lake, build: Callable[..., Any]) -> None:
    made = build()
    made.call("a", "c1", [("system", "s"), ("user", "demo"), ("assistant", "answer"), ("user", "the real one")], "y")
    made.call("a", "c2", [("user", "later")], "z", start_ns=made.at + 5)
    made.span("b", "root", kind="tool", tool_args='{"order": 7}')
    found = {row["trajectory_id"]: row["task_text"] for row in rebuild(lake, made)}
    assert found == {"a": "the real one", "b": '{"order": 7}'}


def test_a_message_said_on_an_earlier_day_is_found(lake: Lake, build: Callable[..., Any]) -> None:
    made = build()
    made.call("a", "c", [("user", "said before")], "y")
    made.rows["messages"] = [{**row, "day": row["day"].replace(day=1)} for row in made.rows["messages"]]
    assert rebuild(lake, made)[0]["task_text"] == "said before"
    assert dicts(lake, "SELECT input_text FROM llm_calls") == [{"input_text": "user: said before"}]


def test_only_the_named_traces_are_touched_and_rebuilding_twice_is_the_same(
    lake: Lake, build: Callable[..., Any]
) -> None:
    made = build()
    for name in "abc":
        made.episode(name)
    rebuild(lake, made)
    before = dicts(lake, "SELECT * FROM trajectories ORDER BY trajectory_id")
    with lake.transaction("again") as tx:
        assert tx.rebuild(["b", "b", "nobody"]).num_rows == 1
        assert tx.rebuild([]).num_rows == 0
    assert dicts(lake, "SELECT * FROM trajectories ORDER BY trajectory_id") == before
    assert dicts(lake, "SELECT count(*) AS n FROM transitions") == [{"n": 6}]


def test_groups_pools_and_sites_survive_a_rebuild_with_late_spans(lake: Lake, build: Callable[..., Any]) -> None:
    made = build(content="1")
    made.episode("a")
    with lake.transaction("night") as tx:
        tx.rebuild(tx.take(made.batch()).trace_ids)
        assert tx.assign_groups(groups(("a", "g1", "gate")), pa.table(
            {"task_group": ["g1"], "pool": ["gate"], "digest": ["d"], "signature": [[1, 4294967295]], "first_seen": [1]}
        )) == 1  # fmt: skip
        assert tx.assign_sites(sites(("a", 0, "s", "v"), ("a", 1, "s", "v"), ("nobody", 0, "s", "v"))) == 2
    made.content = "2"
    made.call("a", "c0", [("user", "before all")], "first", start_ns=made.at)  # shifts every step by one
    made.rows["spans"][3]["input_ids"] = made.rows["spans"][1]["input_ids"]  # c2 was asked something else after all
    assert rebuild(lake, made) == []
    assert dicts(lake, "SELECT task_group, pool FROM trajectories") == [{"task_group": "g1", "pool": "gate"}]
    found = dicts(lake, "SELECT span_id, site_id FROM transitions ORDER BY step")
    assert found == [
        {"span_id": "c0", "site_id": None},
        {"span_id": "c1", "site_id": "s"},
        {"span_id": "c2", "site_id": None},
    ]


def test_a_group_once_given_stays_and_lies_in_one_pool(
    lake: Lake, build: Callable[..., Any], rows_of: Callable[..., pa.Table]
) -> None:
    made = build()
    made.episode("a")
    made.episode("b")
    rebuild(lake, made)
    none = rows_of("task_groups", [])
    with lake.transaction("assign") as tx:
        assert tx.assign_groups(groups(("a", "g1", "learn"), ("nobody", "g1", "learn")), none) == 1
        assert tx.assign_groups(groups(("a", "g2", "gate")), none) == 0
    with (
        pytest.raises(StoreError, match="task group g1 would lie in the pools gate and learn"),
        lake.transaction("torn") as tx,
    ):
        tx.assign_groups(groups(("b", "g1", "gate")), none)
    known = {"task_group": "g1", "pool": "gate", "digest": "d", "first_seen": 1}
    with (
        pytest.raises(StoreError, match="task group g1 would lie in the pools gate and learn"),
        lake.transaction("torn by an input that is told of with another group") as tx,
    ):
        tx.assign_groups(groups(("b", "g2", "gate")), rows_of("task_groups", [known]))
    with lake.transaction("inputs alone") as tx:
        tx.assign_groups(groups(), rows_of("task_groups", [{**known, "task_group": "g3"}]))
    with (
        pytest.raises(StoreError, match="task group g3 would lie in the pools gate and learn"),
        lake.transaction("torn from an input of before") as tx,
    ):
        tx.assign_groups(groups(("b", "g3", "learn")), none)
    assert dicts(lake, "SELECT trajectory_id, pool FROM trajectories ORDER BY ALL") == [
        {"trajectory_id": "a", "pool": "learn"},
        {"trajectory_id": "b", "pool": None},
    ]
