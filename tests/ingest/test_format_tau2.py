"""tau2 results: two sides that talk, call models and tools; rewards with their parts."""

import json
from typing import Any


def call(at: int, role: str, content: str | None = None, **more: Any) -> dict[str, Any]:
    usage = {"prompt_tokens": 100 + at, "completion_tokens": at}
    raw = {"id": f"chatcmpl-{at}", "model": "small-1-0614", "choices": [{"finish_reason": "stop"}]}
    raw["usage"] = {**usage, "prompt_tokens_details": {"cached_tokens": 64}}
    found = {"role": role, "content": content, "turn_idx": at, "timestamp": f"2026-05-31T10:00:{at:02}.500000"}
    return {**found, "cost": 0.25, "usage": usage, "raw_data": raw, **more}


def canned(at: int, role: str, content: str | None, **more: Any) -> dict[str, Any]:
    return {**call(at, role, content), "cost": 0.0, "usage": None, "raw_data": None, **more}


def tool(at: int, id: str, requestor: str, content: str, error: bool = False) -> dict[str, Any]:
    stamp = f"2026-05-31T10:00:{at:02}.500000"
    return {
        "id": id, "role": "tool", "content": content, "requestor": requestor, "error": error, "turn_idx": at,
        "timestamp": stamp,
    }  # fmt: skip


def asks(id: str, name: str, requestor: str) -> list[dict[str, Any]]:
    return [{"id": id, "name": name, "arguments": {"of": "u1"}, "requestor": requestor}]


RESULTS: dict[str, Any] = {
    "timestamp": "2026-05-31T10:00:00",
    "info": {
        "user_info": {"llm": "lab/user-1", "global_simulation_guidelines": "You are the customer."},
        "agent_info": {"llm": "lab/small-1", "llm_args": {"temperature": 0.0}},
        "environment_info": {"domain_name": "mock", "policy": "Be kind."},
    },
    "tasks": [{"id": "t1", "ticket": "close it"}, {"id": "t2"}],
    "simulations": [
        {
            "id": "3c9867de-8a85-40b0-a088-e103b5369ef0",
            "task_id": "t1",
            "trial": 0,
            "start_time": "2026-05-31T10:00:00",
            "end_time": "2026-05-31T10:00:09",
            "agent_cost": 0.75,
            "user_cost": 0.5,
            "reward_info": {
                "reward": 0.5,
                "db_check": {"db_match": False, "db_reward": 0.0},
                "action_checks": [{"action": {"name": "close"}, "action_match": True, "action_reward": 1.0}],
                "nl_assertions": None,
                "communicate_checks": [{"info": "bye", "met": "False"}],
                "reward_breakdown": {"DB": 0.0, "COMMUNICATE": 1.0},
            },
            "messages": [
                canned(0, "assistant", "Hi! How can I help you?"),
                call(1, "user", None, tool_calls=asks("c1", "look", "user")),
                tool(2, "c1", "user", "a notice"),
                call(3, "user", "Please close it."),
                call(4, "assistant", None, tool_calls=asks("c2", "close", "assistant"), generation_time_seconds=0.5),
                tool(5, "c2", "assistant", "no such task", error=True),
                call(6, "assistant", "That did not work."),
            ],
        },
        {"id": "x", "task_id": "t2", "messages": "lost", "reward_info": None},
    ],
}


def test_the_agents_calls_are_calls_and_the_simulated_users_are_the_environments(take: Any) -> None:
    taken = take(RESULTS, name="results.json")
    assert taken.ledger[0]["source_format"] == "tau2"
    run, user = taken.kind("agent")
    assert (run["trace_id"], run["task_key"], run["agent_name"]) == (
        "3c9867de8a8540b0a088e103b5369ef0",
        "tau2:mock/t1",
        "tau2/mock",
    )
    assert json.loads(run["attributes"])["task"] == {"id": "t1", "ticket": "close it"}
    assert user["parent_span_id"] == run["span_id"]
    calls = taken.kind("llm")
    assert [(span["seq"], span["parent_span_id"]) for span in calls] == [(4, run["span_id"]), (6, run["span_id"])]
    assert [span["seq"] for span in taken.kind("evaluator")] == [1, 3]
    assert {span["parent_span_id"] for span in taken.kind("evaluator")} == {user["span_id"]}
    first = calls[0]
    assert (first["provider"], first["model_requested"], first["model"]) == ("lab", "small-1", "small-1-0614")
    assert (first["tokens_in"], first["tokens_out"], first["tokens_cache_read"], first["cost_usd"]) == (
        104,
        4,
        64,
        0.25,
    )
    assert first["end_ns"] - first["start_ns"] == 500_000_000
    assert (first["finish_reasons"], json.loads(first["params"])) == (["stop"], {"temperature": 0.0})


def test_the_agent_never_reads_the_users_tools(take: Any) -> None:
    taken = take(RESULTS, name="results.json")
    first, second = taken.kind("llm")
    assert taken.texts(first["system_ids"]) == ["Be kind."]
    assert taken.said(first["input_ids"]) == [
        ("assistant", [{"type": "text", "content": "Hi! How can I help you?"}]),
        ("user", [{"type": "text", "content": "Please close it."}]),
    ]
    assert [role for role, _ in taken.said(second["input_ids"])] == ["assistant", "user", "assistant", "tool"]
    asked = taken.kind("evaluator")[1]
    assert taken.said(asked["input_ids"])[0] == ("user", [{"type": "text", "content": "Hi! How can I help you?"}])
    assert [role for role, _ in taken.said(asked["input_ids"])] == ["user", "assistant", "tool"]


def test_tools_of_both_sides_hang_below_their_side(take: Any) -> None:
    taken = take(RESULTS, name="results.json")
    mine, theirs = sorted(taken.kind("tool"), key=lambda span: -span["seq"])
    run, user = taken.kind("agent")
    assert (mine["tool_name"], mine["status"], mine["error_message"]) == ("close", "error", "no such task")
    assert (mine["parent_span_id"], theirs["parent_span_id"]) == (run["span_id"], user["span_id"])
    assert (theirs["tool_name"], theirs["status"], json.loads(theirs["tool_args"])) == ("look", "ok", {"of": "u1"})


def test_the_greeting_is_a_canned_turn_and_no_call(take: Any) -> None:
    (greeting,) = take(RESULTS, name="results.json").kind("event")
    assert greeting["flags"] == ["synthetic", "clock"]
    assert (greeting["seq"], greeting["cost_usd"], greeting["tokens_in"]) == (0, None, None)


def test_a_given_history_is_canned_with_its_tools(take: Any) -> None:
    history = [
        canned(0, "user", "Make a task."),
        canned(1, "assistant", None, tool_calls=asks("c0", "make", "assistant")),
        tool(2, "c0", "assistant", "made"),
        canned(3, "assistant", "Made."),
        call(4, "user", "Thanks."),
        call(5, "assistant", "Bye."),
    ]
    simulation = {**RESULTS["simulations"][0], "messages": history}
    taken = take({**RESULTS, "simulations": [simulation]}, name="results.json")
    assert [span["seq"] for span in taken.kind("llm")] == [5]
    assert [span["seq"] for span in taken.kind("event")] == [1, 3]
    assert taken.kind("tool")[0]["flags"] == ["synthetic", "clock"]
    assert len(taken.kind("llm")[0]["input_ids"]) == 5


def test_local_times_without_a_zone_are_flagged_and_the_order_is_that_of_the_turns(take: Any) -> None:
    simulation = json.loads(json.dumps(RESULTS["simulations"][0]))
    simulation["messages"][6]["timestamp"] = "2026-05-31T09:00:00"
    taken = take({**RESULTS, "simulations": [simulation]}, name="results.json")
    assert all("clock" in span["flags"] for span in taken.spans)
    assert [span["seq"] for span in taken.kind("llm")] == [4, 6]


def test_the_reward_its_parts_and_every_check_are_scores_by_type(take: Any) -> None:
    taken = take(RESULTS, name="results.json")
    assert {(s["name"], s["value"], s["source"]) for s in taken.scores} == {
        ("reward", 0.5, "env"),
        ("reward/db", 0.0, "env"),
        ("reward/communicate", 1.0, "env"),
        ("db_match", 0.0, "env"),
        ("action_check", 1.0, "env"),
        ("communicate_check", 0.0, "env"),
    }


def test_a_broken_simulation_costs_only_itself(take: Any) -> None:
    taken = take(RESULTS, name="results.json")
    (bad,) = taken.quarantine
    assert bad["reason"] == "no tau2 simulation: messages are missing"
    assert taken.ledger[0]["n_records"] == 2


def test_a_torn_file_is_quarantined_and_not_guessed(take: Any) -> None:
    text = json.dumps(RESULTS)
    taken = take(text[: text.index('"id": "x"')], name="results.json")
    assert taken.spans == []
    assert "unknown format: JSON records with the keys timestamp, info, tasks" in taken.quarantine[0]["reason"]


def test_the_same_simulation_in_another_file_is_the_same_spans(take: Any) -> None:
    one, two = take(RESULTS, name="a.json"), take({**RESULTS, "timestamp": "x"}, name="b.json")
    assert [span["span_id"] for span in one.spans] == [span["span_id"] for span in two.spans]


def test_results_without_simulations_are_quarantined(take: Any) -> None:
    assert take({**RESULTS, "simulations": []}, name="r.json").quarantine[0]["reason"] == (
        "no tau2 results: there are no simulations"
    )
