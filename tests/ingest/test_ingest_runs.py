"""Benchmark runs with rewards: tau-bench and InterCode."""

import json
from typing import Any

import pytest


def tau(task: int, trial: int, reward: float = 1.0) -> dict[str, Any]:
    traj = [
        {"role": "system", "content": "Policy."},
        {"role": "user", "content": f"book {task}"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "book", "arguments": '{"n": 1}'}}],
        },
        {"role": "tool", "tool_call_id": "c1", "name": "book", "content": "booked"},
        {"role": "assistant", "content": "Done."},
        {"role": "user", "content": "###STOP###"},
    ]
    return {"task_id": task, "trial": trial, "reward": reward, "info": {"user_cost": 0.1}, "traj": traj}


def test_a_tau_run_is_an_agent_span_with_calls_tools_and_a_reward(take: Any) -> None:
    taken = take([tau(3, 0), tau(3, 1, 0.0)], name="gpt-4o-airline.json")
    runs = taken.kind("agent")
    assert [(run["task_key"], run["agent_name"]) for run in runs] == [("tau-bench:3", "tau-bench/gpt-4o-airline")] * 2
    assert len({run["trace_id"] for run in runs}) == 2
    first = [span for span in taken.spans if span["trace_id"] == runs[0]["trace_id"]]
    assert [span["kind"] for span in first] == ["agent", "llm", "tool", "llm"]
    assert [taken.texts(taken.prompt(span)) for span in first if span["kind"] == "llm"] == [
        ["Policy.", "book 3"],
        ["Policy.", "book 3", "", "booked"],
    ]
    tool = first[2]
    assert (tool["tool_name"], json.loads(tool["tool_args"]), tool["tool_result"]) == ("book", {"n": 1}, "booked")
    assert [(s["target_id"], s["name"], s["value"], s["source"]) for s in taken.scores] == [
        (runs[0]["trace_id"], "reward", 1.0, "env"),
        (runs[1]["trace_id"], "reward", 0.0, "env"),
    ]
    assert {(span["day"], span["start_ns"]) for span in taken.spans} == {(None, None)}
    assert sorted(span["seq"] for span in first) == [span["seq"] for span in first]


def test_the_same_run_has_the_same_ids_again_and_a_bad_one_costs_only_itself(take: Any) -> None:
    first = take([tau(1, 0), tau(2, 0)], name="runs.json").spans
    again = take(lines=[tau(2, 0), {"task_id": 9, "reward": 1, "traj": "gone"}, tau(1, 0)], name="runs.json")
    assert {span["span_id"] for span in again.spans} == {span["span_id"] for span in first}
    assert len(again.quarantine) == 1


def intercode(task: int, *, turns_max: int | None = None, **history: Any) -> dict[str, Any]:
    turns = {
        "actions": ["SELECT 1", "SELECT 2"],
        "observations": ["Error executing query: no", "[(2,)]"],
        "rewards": [0.0, 0.5],
        "valid_action": [False, True],
    }
    summary = {"max_reward": 0.5} | ({} if turns_max is None else {"turns_max": turns_max, "turns_taken": 2})
    return {
        "environment": "ic_sql",
        "task_id": task,
        "query": f"question {task}",
        "turn_history": turns | history,
        "summary": summary,
        "hardness": "easy",
    }


@pytest.mark.parametrize(
    ("file", "run", "agent", "leaks"),
    [
        ("ic_sql_1_turns.json", intercode(1, turns_max=1), "multiturn-1", False),
        ("ic_sql_1_turns_handicap.json", intercode(1, turns_max=1), "multiturn-1-handicap", False),
        ("ic_sql_10_turns.json", intercode(1, turns_max=10), "multiturn-10", True),
        ("ic_sql_10_turns_handicap.json", intercode(1, turns_max=10), "multiturn-10-handicap", True),
        ("ic_sql_x.json", intercode(1, steps=["look", "ask"]), "plan-solve", False),
        ("ic_sql_y.json", intercode(1, turns_max=10, thoughts=["hm", "ah"]), "react", False),
    ],
)
def test_the_six_intercode_variants_are_told_apart(
    take: Any, file: str, run: dict[str, Any], agent: str, leaks: bool
) -> None:
    document = {"meta": {"env": "sql"}, "logs": {"1": run}} if "steps" in run["turn_history"] else {"1": run}
    taken = take(document, name=file)
    assert {span["agent_name"] for span in taken.spans} == {f"intercode-sql/{agent}"}
    assert all(("reward_leak" in span["flags"]) is leaks for span in taken.spans)
    assert all("lossy" in span["flags"] for span in taken.spans)


def test_an_intercode_run_has_turns_executions_and_its_own_reward(take: Any) -> None:
    taken = take({"7": intercode(7, turns_max=10, thoughts=["hm", "ah"])}, name="react.json")
    root, *turns = taken.spans
    assert (root["kind"], root["task_key"]) == ("agent", "intercode:7")
    assert [span["kind"] for span in turns] == ["llm", "tool", "llm", "tool"]
    assert taken.texts(turns[0]["input_ids"]) == ["question 7"]
    assert taken.texts(turns[0]["output_ids"]) == ["hm\nSELECT 1"]
    assert taken.texts(turns[2]["input_ids"]) == ["question 7", "hm\nSELECT 1", "Error executing query: no"]
    assert [(span["status"], span["tool_result"]) for span in turns if span["kind"] == "tool"] == [
        ("error", "Error executing query: no"),
        ("ok", "[(2,)]"),
    ]
    (score,) = taken.scores
    assert (score["target_kind"], score["target_id"], score["value"]) == ("trajectory", root["trace_id"], 0.5)
    assert json.loads(root["attributes"])["rewards"] == [0.0, 0.5]
    assert {span["start_ns"] for span in taken.spans} == {None}


def test_a_plan_step_is_asked_for_and_not_said_by_the_model(take: Any) -> None:
    taken = take({"7": intercode(7, steps=["look", "ask"])}, name="plan.json")
    first, second = taken.kind("llm")
    assert taken.texts(first["output_ids"]) == ["SELECT 1"]
    assert taken.texts(second["input_ids"]) == ["question 7", "look", "SELECT 1", "Error executing query: no", "ask"]


def test_a_torn_intercode_file_keeps_the_runs_before_the_tear(take: Any) -> None:
    text = json.dumps({str(n): intercode(n, turns_max=1) for n in range(5)}, indent=1)
    taken = take(text[: text.index("question 3")], name="runs.json")
    assert [span["task_key"] for span in taken.kind("agent")] == [f"intercode:{task}" for task in (0, 1, 2)]
    assert len(taken.quarantine) == 1
    strange = {"1": intercode(1), "2": {"query": 5}, "3": 7, "4": intercode(4)}
    taken = take(strange, name="runs.json")
    assert [span["task_key"] for span in taken.kind("agent")] == ["intercode:1", "intercode:4"]
    assert len(taken.quarantine) == 2
