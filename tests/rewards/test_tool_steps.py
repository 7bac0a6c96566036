"""Step rewards from what tools made of an agent's calls: what counts as what, where it lands, and that totals stay."""

import json
from typing import Any

import pytest
from few_examples import some
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracemill.errors import ConfigError
from tracemill.rewards.tool_steps import ToolSteps

DEFINITIONS = [
    {
        "type": "function",
        "function": {
            "name": "refund",
            "parameters": {
                "type": "object",
                "properties": {"order": {"type": "string"}, "amount": {"type": "number"}},
                "required": ["order"],
                "additionalProperties": False,
            },
        },
    },
    {"type": "function", "function": {"name": "look_up"}},
]


def call(name: str, arguments: Any, call_id: str = "c1") -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"role": "assistant", "tool_calls": [{"id": call_id, "type": "function", "function": function}]}


def judged(lake: Any, model: ToolSteps | None = None) -> dict[str, tuple[float | None, list[str]]]:
    """Value and the judgements of the calls, by step."""
    rows = (model or ToolSteps()).score(lake.con, now_ns=1).to_pylist()
    return {row["target_id"]: (row["value"], [c["is"] for c in evidence(row)["calls"]]) for row in rows}


def evidence(row: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(row["evidence"])
    return found


def offer(lake: Any, trajectory: str, *outputs: Any, tools: Any = DEFINITIONS) -> None:
    """A trajectory whose calls were given tool definitions."""
    definitions_id = f"tools-{trajectory}"
    lake.add("messages", {"message_id": definitions_id, "role": "tools", "parts": json.dumps(tools)})
    lake.trajectory(trajectory, *outputs)
    for row in lake._waiting["transitions"]:
        if row["trajectory_id"] == trajectory:
            row["tool_definitions_id"] = definitions_id


def ran(lake: Any, trajectory: str, after: float, tool: str = "refund", **more: Any) -> None:
    """A tool span that ran after the step of that number."""
    row = {"trace_id": trajectory, "span_id": f"{trajectory}-ran-{after}-{tool}", "kind": "tool", "tool_name": tool}
    lake.add("spans", {**row, "start_ns": None, "seq": None, "status": "ok", **more})


@pytest.mark.parametrize(
    ("arguments", "tool", "judgement"),
    [
        ('{"order": "A1", "amount": 3}', "refund", "ok"),
        ('{"order": "A1", "amount": "three"}', "refund", "invalid"),
        ("{}", "refund", "invalid"),
        ('{"order": "A1", "why": "x"}', "refund", "invalid"),
        ('{"order": "A1"', "refund", "malformed"),
        ("A1", "refund", "malformed"),
        ('["A1"]', "refund", "invalid"),
        ({"order": "A1"}, "refund", "ok"),
        ("", "look_up", "ok"),
        ("{}", "pay_out", "invalid"),
    ],
)
def test_calls_are_held_to_the_definitions_that_were_offered(
    lake: Any, arguments: Any, tool: str, judgement: str
) -> None:
    offer(lake, "t", call(tool, arguments))
    ran(lake, "t", 0, tool, tool_call_id="c1")
    values = {"ok": 1.0, "invalid": 0.1, "malformed": 0.0}
    assert judged(lake) == {"t/0": (values[judgement], [judgement])}


def test_a_faulty_call_is_punished_though_it_never_ran_and_others_are_not_known(lake: Any) -> None:
    offer(lake, "bad", call("refund", "{}"))
    offer(lake, "unknown", call("refund", '{"order": "A1"}'))
    offer(lake, "nameless", call("", "{}"))
    assert judged(lake) == {"bad/0": (0.1, ["invalid"]), "nameless/0": (0.1, ["invalid"])}


def test_strangers_definitions_never_judge_what_they_cannot(lake: Any) -> None:
    broken = {"type": "function", "function": {"name": "refund", "parameters": {"type": "objekt"}}}
    distant = {"type": "function", "function": {"name": "refund", "parameters": {"$ref": "http://127.0.0.1:1/x"}}}
    for place, tools in enumerate(([broken], [distant], [{"type": "web_search"}], "nonsense", [1])):
        offer(lake, f"t{place}", call("refund", "{}"), tools=tools)
        ran(lake, f"t{place}", 0, tool_call_id="c1")
    assert judged(lake) == {f"t{place}/0": (1.0, ["ok"]) for place in range(5)}


def test_without_definitions_only_broken_json_is_malformed(lake: Any) -> None:
    lake.trajectory("react", call("search", "Berlin"))
    lake.trajectory("broken", call("search", '{"q": '))
    ran(lake, "react", 0, "search", tool_call_id="c1")
    lake.trajectory("lines", call("search", '\n{\n  "q": '))
    ran(lake, "broken", 0, "search", tool_call_id="c1")
    ran(lake, "lines", 0, "search", tool_call_id="c1")
    assert judged(lake) == {
        "react/0": (1.0, ["ok"]),
        "broken/0": (0.0, ["malformed"]),
        "lines/0": (0.0, ["malformed"]),
    }


def test_errors_timeouts_repetition_and_recovery(lake: Any) -> None:
    outputs = [call("refund", json.dumps({"order": order}), f"c{i}") for i, order in enumerate("AABBC")]
    lake.trajectory("t", *outputs)
    failing = {"status": "error", "error_type": "ValueError", "error_message": "no such order"}
    late = {"status": "error", "error_type": "TimeoutError", "error_message": "gave up after 30 s"}
    for i, how in enumerate((failing, failing, late, {}, {"status": "unset", "tool_result": "Error: locked"})):
        ran(lake, "t", i, tool_call_id=f"c{i}", **how)
    assert judged(lake) == {
        "t/0": (0.25, ["error"]),
        "t/1": (0.0, ["repeated"]),
        "t/2": (0.4, ["timeout"]),
        "t/3": (1.0, ["recovered"]),
        "t/4": (0.25, ["error"]),
    }
    assert judged(lake, ToolSteps(values={"repeated": 0.2}))["t/1"] == (0.2, ["repeated"])


def test_the_same_error_with_other_arguments_is_a_repetition_too(lake: Any) -> None:
    lake.trajectory("t", *(call("refund", json.dumps({"order": i}), f"c{i}") for i in range(2)))
    for i in range(2):
        ran(lake, "t", i, tool_call_id=f"c{i}", status="error", error_message="locked")
    assert [value for value, _ in judged(lake).values()] == [0.25, 0.0]


def test_tools_without_ids_are_found_by_tree_and_by_order(lake: Any) -> None:
    lake.trajectory("tree", call("refund", "{}", ""), call("refund", "{}", ""))
    ran(lake, "tree", 9, parent_span_id="tree-0", status="error", seq=9)
    lake.trajectory("order", "a", "b")
    ran(lake, "order", 0, seq=0, span_id="order-0x", status="error")
    assert judged(lake) == {"tree/0": (0.25, ["error"]), "order/0": (0.25, ["error"])}


def test_an_id_that_is_used_again_means_the_call_before_the_tool(lake: Any) -> None:
    lake.trajectory("t", call("refund", "{}", "call_0"), "x", call("refund", "{}", "call_0"))
    ran(lake, "t", 0, seq=0, span_id="t-0z", tool_call_id="call_0", status="error")
    ran(lake, "t", 2, seq=2, span_id="t-2z", tool_call_id="call_0")
    assert judged(lake) == {"t/0": (0.25, ["error"]), "t/2": (1.0, ["recovered"])}


def test_a_step_is_worth_its_worst_call(lake: Any) -> None:
    both = call("refund", '{"order": "A"}', "a")
    both["tool_calls"] += call("refund", '{"order": "B"}', "b")["tool_calls"]
    lake.trajectory("t", both)
    ran(lake, "t", 0, span_id="one", tool_call_id="b", status="error")
    ran(lake, "t", 0, span_id="two", tool_call_id="a")
    (row,) = ToolSteps().score(lake.con, now_ns=1).to_pylist()
    assert [(c["span_id"], c["is"]) for c in evidence(row)["calls"]] == [("two", "ok"), ("one", "error")]
    assert (row["value"], row["target_kind"], row["family"]) == (0.25, "step", "tools")


@settings(max_examples=some(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["ok", "error", "late", "none"]), min_size=1, max_size=8))
def test_shaped_rewards_of_an_episode_add_up_to_nothing(new_lake: Any, run: list[str]) -> None:
    lake = new_lake()
    lake.trajectory("t", *(call("refund", "{}", f"c{i}") for i in range(len(run))))
    for i, how in enumerate(run):
        if how != "none":
            more = {"status": "ok" if how == "ok" else "error", "error_type": "Timeout" if how == "late" else None}
            ran(lake, "t", i, tool_call_id=f"c{i}", **more)
    rows = ToolSteps().score(lake.con, now_ns=1).to_pylist()
    assert len(rows) == sum(how != "none" for how in run)
    assert sum(evidence(row)["shaped"] for row in rows) == pytest.approx(0, abs=1e-12)


def test_the_step_that_fails_loses_and_the_one_that_mends_gains(lake: Any) -> None:
    lake.trajectory("t", *(call("refund", "{}", f"c{i}") for i in range(3)))
    for i, status in enumerate(("ok", "error", "ok")):
        ran(lake, "t", i, tool_call_id=f"c{i}", status=status)
    rows = ToolSteps().score(lake.con, now_ns=1).to_pylist()
    assert [evidence(row)["shaped"] for row in rows] == [0.0, -0.75, 0.75]


def test_a_tool_that_comes_later_is_judged_again_with_the_steps_that_it_changes(lake: Any) -> None:
    lake.trajectory("t", call("refund", "{}", "c0"), call("refund", "{}", "c1"))
    lake.trajectory("u", call("refund", "{}", "c0"))
    ran(lake, "t", 0, tool_call_id="c0")
    ran(lake, "u", 0, tool_call_id="c0")
    assert lake.run(ToolSteps()) == {"t/0": 1.0, "u/0": 1.0}
    ran(lake, "t", 1, tool_call_id="c1", status="error")
    assert lake.run(ToolSteps(), now=2) == {"t/0": 1.0, "t/1": 0.25}
    assert lake.run(ToolSteps(), now=3) == {}


def test_values_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="values of fine; known: ok, recovered"):
        ToolSteps(values={"fine": 1})
    with pytest.raises(ConfigError, match="not in"):
        ToolSteps(values={"ok": 2})
