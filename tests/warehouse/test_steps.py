"""What a step is: whose call it was, what it asked for, and why nothing is learned from it."""

from collections.abc import Callable
from typing import Any

import pytest

from tracemill.warehouse import Lake

SECOND = 1_000_000_000
Build = Callable[..., Any]


def land(lake: Lake, made: Any) -> None:
    with lake.transaction("rebuild") as tx:
        tx.rebuild(tx.take(made.batch()).trace_ids)


def rows(lake: Lake, statement: str) -> list[tuple[Any, ...]]:
    with lake.reader() as con:
        return con.execute(statement).fetchall()


AGENTS = "SELECT span_id, agent_name FROM transitions ORDER BY span_id"


def test_a_call_belongs_to_the_nearest_agent_above_it(lake: Lake, build: Build) -> None:
    made = build()
    made.span("a", "root", kind="agent", agent_name="triage")
    made.call("a", "c1", [("user", "x")], "1", parent_span_id="root")
    made.span("a", "hand", kind="tool", tool_name="ask billing", parent_span_id="root")
    made.span("a", "sub", kind="agent", agent_name="billing", parent_span_id="hand")
    made.span("a", "turn", kind="chain", parent_span_id="sub")
    made.call("a", "c2", [("user", "y")], "2", parent_span_id="turn")
    made.call("a", "c3", [("user", "z")], "3", parent_span_id="turn", agent_name="auditor")
    made.call("a", "c4", [("user", "z")], "4", parent_span_id="never came", start_ns=made.at + 90 * SECOND)
    land(lake, made)
    assert rows(lake, AGENTS) == [("c1", "triage"), ("c2", "billing"), ("c3", "auditor"), ("c4", None)]


def test_the_only_agent_of_a_trace_made_its_calls(lake: Lake, build: Build) -> None:
    made = build()
    made.span("a", "root", kind="agent", agent_name="triage")
    made.call("a", "c1", [("user", "x")], "1", parent_span_id="never came", start_ns=made.at + 90 * SECOND)
    land(lake, made)
    assert rows(lake, AGENTS) == [("c1", "triage")]


def test_a_call_beside_the_agents_is_that_ones_which_was_at_work(lake: Lake, build: Build) -> None:
    made = build()
    made.span("a", "root", kind="chain")
    for name, begins, ends in (("long", 0, 60), ("short", 10, 20), ("later", 30, 40)):
        times = {"start_ns": made.at + begins * SECOND, "end_ns": made.at + ends * SECOND}
        made.span("a", name, kind="agent", agent_name=name, parent_span_id="root", **times)
    for span_id, begins in (("c1", 5), ("c2", 12), ("c3", 59), ("c4", 70)):
        times = {"start_ns": made.at + begins * SECOND, "end_ns": made.at + begins * SECOND + SECOND}
        made.call("a", span_id, [("user", "x")], span_id, parent_span_id="root", **times)
    land(lake, made)
    assert rows(lake, AGENTS) == [("c1", "long"), ("c2", "short"), ("c3", "long"), ("c4", None)]


def test_a_ring_of_parents_ends(lake: Lake, build: Build) -> None:
    made = build()
    for span_id, parent in (("x", "y"), ("y", "z"), ("z", "x")):
        made.span("a", span_id, parent_span_id=parent)
    made.call("a", "c1", [("user", "x")], "1", parent_span_id="z")
    made.call("a", "c2", [("user", "x")], "1", parent_span_id="c2")
    land(lake, made)
    assert rows(lake, AGENTS) == [("c1", None), ("c2", None)]


def test_every_reason_why_a_call_teaches_nothing(lake: Lake, build: Build) -> None:
    made = build()
    expected = {
        name: name
        for name in (
            *("reward_leak", "partial", "unanswered", "external", "truncated", "history_external"),
            *("cache_hit", "weight_0", "branch"),
        )
    }
    for name in expected:
        made.call("a", name, [("user", "x")], "y", flags=[name])
    made.span("a", "judgement", kind="evaluator")
    made.span("a", "within", kind="chain", parent_span_id="judgement")
    made.call("a", "judge", [("user", "x")], "y", parent_span_id="within")
    made.call("a", "error", [("user", "x")], "y", status="error")
    made.call("a", "no_output", [("user", "x")], None)
    for name, said in {
        "no_input": {"input_ids": None},
        "instructions": {"input_ids": None, "system_ids": [made.say("system", "s")]},
        "nothing": {"input_ids": []},
        "system alone": {"input_ids": [], "system_ids": [made.say("system", "s")]},
    }.items():
        made.call("a", name, [], "y", **said)
    # A pseudonym that the model read is one thing, one that it said another.
    made.call("a", "read", [("user", "I am [EMAIL_0123abcd]")], "Hello.", flags=["redacted"])
    made.call("a", "redacted", [("user", "x")], "Hello [NAME_0123abcd]!", flags=["redacted"])
    made.call("a", "quoted", [("user", "x")], "Write [NAME] or [NAME_].", flags=["redacted"])
    for flag in ("wrapper", "synthetic", "copied"):
        made.call("a", flag, [("user", "x")], "y", flags=[flag])
    land(lake, made)
    found = dict(rows(lake, "SELECT span_id, untrainable_reason FROM transitions"))
    expected |= {name: name for name in ("judge", "error", "no_output", "no_input", "redacted")}
    expected |= {"instructions": "no_input", "nothing": "no_input"}
    assert found == {**expected, "read": None, "quoted": None, "system alone": None}
    assert rows(lake, "SELECT count(*) FROM transitions WHERE trainable <> (untrainable_reason IS NULL)") == [(0,)]


def test_a_call_logged_side_by_side_is_the_span_that_says_more(lake: Lake, build: Build) -> None:
    made = build()
    common: dict[str, Any] = {"response_id": "chatcmpl-1"}
    made.call("a", "bare", [("user", "x")], None, tokens_in=None, tokens_out=None, **common)
    made.call("a", "full", [("user", "x")], "y", start_ns=made.at + SECOND, **common)
    # Another usage, and another prompt with another answer, are other calls under an id that was drawn twice.
    made.call("a", "other usage", [("user", "x")], "y", tokens_out=99, start_ns=made.at + 2 * SECOND, **common)
    made.call("a", "other words", [("user", "v")], "w", start_ns=made.at + 3 * SECOND, **common)
    # An answer out of a cache is the agent's next step all the same.
    made.call("a", "cached", [("user", "x")], "y", start_ns=made.at + 4 * SECOND, flags=["cache_hit"], **common)
    land(lake, made)
    assert [row[0] for row in rows(lake, "SELECT span_id FROM transitions ORDER BY step")] == [
        "full", "other usage", "other words", "cached",
    ]  # fmt: skip
    assert rows(lake, "SELECT n_llm_calls, tokens_out FROM trajectories") == [(4, 2 + 99 + 2 + 2)]


def test_tools_are_at_the_step_that_asked_for_them(lake: Lake, build: Build) -> None:
    made = build()

    def asks(span_id: str, at: int, *call_ids: str, **columns: Any) -> None:
        made.call("a", span_id, [("user", "x")], span_id, start_ns=made.at + at * SECOND, **columns)
        parts = ",".join(f'{{"type":"tool_call","id":"{name}","name":"f","arguments":"{{}}"}}' for name in call_ids)
        made.rows["messages"][-1] |= {"parts": f"[{parts}]"}

    def tool(span_id: str, at: int, call_id: str | None = None, parent: str | None = None) -> None:
        made.span("a", span_id, kind="tool", tool_name="f", tool_call_id=call_id, parent_span_id=parent,
                  start_ns=made.at + at * SECOND)  # fmt: skip

    tool("too early", 0)
    asks("c0", 1, "k0", "k1")
    asks("c1", 2, "k0", parent_span_id="sub")
    tool("second of c0", 4, "k1")
    tool("again", 5, "k0")  # an id used twice: the last call that used it
    tool("below c0", 6, parent="c0")
    tool("in order", 7, parent="sub")
    asks("c2", 8)
    tool("late", 9, "unheard of")
    tool("in sub", 10, parent="sub")
    land(lake, made)
    assert rows(
        lake, "SELECT span_id, asked_step, known_by, place FROM tool_results ORDER BY asked_step NULLS FIRST, place"
    ) == [
        ("too early", None, None, 0),
        ("second of c0", 0, "id", 0),
        ("below c0", 0, "parent", 1),
        ("again", 1, "id", 0),
        ("in order", 1, "order", 1),
        ("in sub", 1, "order", 2),
        ("late", 2, "order", 0),
    ]


def test_the_answer_that_asked_for_a_tool_is_found_on_whatever_day_it_is_stored(lake: Lake, build: Build) -> None:
    made = build()
    for trace in ("a", "b", "none"):
        for step in (0, 1):
            made.call(trace, f"{trace}{step}", [("user", "x")], f"{trace}{step}", start_ns=made.at + step * SECOND)
            if trace != "none":  # the same id in every call of every trace
                made.rows["messages"][-1] |= {"parts": f'[{{"type":"tool_call","id":"k{step}","name":"f"}}]'}
    moved = next(row for row in made.rows["messages"] if row["text"] == "a0")
    moved["day"] = moved["day"].replace(day=2)
    for trace, undated in (("a", False), ("b", True)):
        for step in (1, 0):
            start = None if undated else made.at + (5 - step) * SECOND
            made.span(trace, f"{trace} tool {step}", kind="tool", tool_call_id=f"k{step}", start_ns=start)
    land(lake, made)
    columns = "SELECT span_id, asked_step, known_by FROM tool_results"
    told = rows(lake, f"{columns} ORDER BY trajectory_id, span_id")
    assert told == [(f"{trace} tool {step}", step, "id") for trace in ("a", "b") for step in (0, 1)]
    for trace in ("a", "b", "none"):
        some = rows(lake, f"{columns} WHERE trajectory_id = '{trace}' ORDER BY span_id")
        assert some == [row for row in told if row[0].startswith(trace)]


def attempt(build: Build, number: int, *, session: str = "rollout", content: str = "") -> Any:
    made = build(content=content or f"{session}{number}")
    start = made.at + number * 100 * SECOND
    of = '{"agentlightning.attempt_id":"at-' + str(9 - number) + '"}'
    made.episode(f"{session}-{number}", start_ns=start, session_id=session, attributes=of)
    return made


STATES = "SELECT trajectory_id, list_contains(flags, 'superseded') FROM trajectories ORDER BY 1"


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 3, 1)])
def test_of_several_attempts_the_last_counts_in_whatever_order_they_come(
    lake: Lake, build: Build, order: tuple[int, ...]
) -> None:
    for number in order:
        land(lake, attempt(build, number))
    land(lake, attempt(build, 1, session="another"))
    assert rows(lake, STATES) == [
        ("another-1", False), ("rollout-1", True), ("rollout-2", True), ("rollout-3", False),
    ]  # fmt: skip
    assert rows(
        lake, "SELECT trajectory_id, untrainable_reason, count(*) FROM transitions GROUP BY ALL ORDER BY ALL"
    ) == [
        ("another-1", None, 2), ("rollout-1", "superseded", 2), ("rollout-2", "superseded", 2), ("rollout-3", None, 2),
    ]  # fmt: skip


def test_episodes_of_a_session_are_not_attempts(lake: Lake, build: Build) -> None:
    made = build()
    for name in "ab":
        made.episode(name, session_id="s")
    land(lake, made)
    assert rows(lake, "SELECT count(*) FROM transitions WHERE NOT trainable") == [(0,)]
    assert rows(lake, "SELECT trajectory_ids FROM sessions") == [(["a", "b"],)]
