"""OpenHands V0: completions repeated by every event, running totals, old pairs, delegates."""

import json
from typing import Any

import pytest


def stamp(at: int) -> str:
    return f"2025-04-30T16:45:{at:02}.500000"


def completion(id: str, *calls: str) -> dict[str, Any]:
    tool_calls = [
        {"id": f"{id}-{name}", "type": "function", "function": {"name": name, "arguments": '{"command": "ls"}'}}
        for name in calls
    ]
    message = {"role": "assistant", "content": f"Thinking of {id}.", "tool_calls": tool_calls}
    usage = {"prompt_tokens": 100, "completion_tokens": 9, "prompt_tokens_details": {"cached_tokens": 40}}
    return {
        "id": id, "model": "lab/maverick", "object": "chat.completion", "usage": usage,
        "choices": [{"finish_reason": "stop", "index": 0, "message": message}],
    }  # fmt: skip


def metadata(response: dict[str, Any], name: str) -> dict[str, Any]:
    total = len(response["choices"][0]["message"]["tool_calls"])
    return {
        "function_name": name, "tool_call_id": f"{response['id']}-{name}", "model_response": response,
        "total_calls_in_response": total,
    }  # fmt: skip


ONE = completion("r1", "execute_bash", "think")
TWO = completion("r2", "finish")
HISTORY: list[dict[str, Any]] = [
    {"id": 0, "timestamp": stamp(0), "source": "agent", "action": "system", "message": "You are OpenHands.",
     "args": {"content": "You are OpenHands.", "tools": [{"type": "function", "function": {"name": "execute_bash"}}],
              "openhands_version": "0.35.0", "agent_class": "CodeActAgent"}},
    {"id": 1, "timestamp": stamp(1), "source": "user", "action": "message", "args": {"content": "Fix it."}},
    {"id": 3, "timestamp": stamp(2), "source": "environment", "observation": "agent_state_changed", "content": ""},
    {"id": 5, "timestamp": stamp(4), "source": "agent", "action": "run", "args": {"command": "ls", "thought": "t"},
     "tool_call_metadata": metadata(ONE, "execute_bash"), "llm_metrics": {"accumulated_cost": 0.5}},
    {"id": 6, "timestamp": stamp(4), "source": "agent", "action": "think", "args": {"thought": "hm"},
     "tool_call_metadata": metadata(ONE, "think"), "llm_metrics": {"accumulated_cost": 0.5}},
    {"id": 7, "timestamp": stamp(6), "source": "agent", "observation": "run", "content": "no such file", "cause": 5,
     "tool_call_metadata": metadata(ONE, "execute_bash"), "extras": {"metadata": {"exit_code": 2}}, "success": False},
    {"id": 8, "timestamp": stamp(6), "source": "agent", "observation": "think", "content": "noted", "cause": 6,
     "tool_call_metadata": metadata(ONE, "think"), "extras": {}},
    {"id": 9, "timestamp": stamp(7), "source": "agent", "observation": "error", "content": "bad call", "extras": {}},
    {"id": 10, "timestamp": stamp(9), "source": "agent", "action": "finish", "args": {"final_thought": "done"},
     "tool_call_metadata": metadata(TWO, "finish"), "llm_metrics": {"accumulated_cost": 0.75}},
]  # fmt: skip
RUN: dict[str, Any] = {
    "instance_id": "ponylang__ponyc-1",
    "test_result": {"git_patch": "diff", "report": {"resolved": True}},
    "instruction": "Fix it.",
    "metadata": {"agent_class": "CodeActAgent", "llm_config": {"model": "openai/maverick", "temperature": 0.0}},
    "history": HISTORY,
    "metrics": {
        "accumulated_cost": 0.75,
        "response_latencies": [{"response_id": "r1", "latency": 1.5}, {"response_id": "r2", "latency": 2.0}],
    },
    "error": None,
}


def test_a_completion_repeated_for_parallel_calls_is_one_call(take: Any) -> None:
    taken = take(lines=[RUN], name="output.jsonl")
    assert taken.ledger[0]["source_format"] == "openhands"
    first, second = taken.kind("llm")
    assert (first["tokens_in"], first["tokens_out"], first["tokens_cache_read"]) == (100, 9, 40)
    assert (first["model_requested"], first["model"], first["agent_name"]) == (
        "openai/maverick",
        "lab/maverick",
        "CodeActAgent",
    )
    assert first["end_ns"] - first["start_ns"] == 1_500_000_000
    (answer,) = taken.said(first["output_ids"])
    assert [part.get("name") for part in answer[1]] == [None, "execute_bash", "think"]
    assert first["tool_definitions_id"] is not None
    assert taken.texts(first["system_ids"]) == ["You are OpenHands."]
    assert [role for role, _ in taken.said(second["input_ids"])] == ["user", "assistant", "tool", "tool", "user"]


def test_observations_are_tools_under_their_cause(take: Any) -> None:
    taken = take(lines=[RUN], name="output.jsonl")
    ran, thought = taken.kind("tool")
    assert (ran["tool_name"], ran["tool_call_id"], ran["status"]) == ("execute_bash", "r1-execute_bash", "error")
    assert (ran["error_message"], json.loads(ran["tool_args"])) == ("no such file", {"command": "ls"})
    assert ran["end_ns"] - ran["start_ns"] == 2_000_000_000
    assert (thought["tool_name"], thought["status"]) == ("think", "unset")
    (failed,) = taken.kind("event")
    assert (failed["name"], failed["status"], failed["error_message"]) == ("error", "error", "bad call")


def test_running_totals_are_differenced(take: Any) -> None:
    assert [span["cost_usd"] for span in take(lines=[RUN], name="o.jsonl").kind("llm")] == [0.5, 0.25]
    totals = [(100, 9), (250, 19)]
    history = json.loads(json.dumps([HISTORY[1], HISTORY[3], HISTORY[8]]))
    for event, (asked, said) in zip(history[1:], totals, strict=True):
        event["tool_call_metadata"]["model_response"]["usage"] = None
        usage = {"prompt_tokens": asked, "completion_tokens": said, "cache_read_tokens": 0, "cache_write_tokens": 0}
        event["llm_metrics"] = {"accumulated_cost": 0.0, "accumulated_token_usage": usage}
    taken = take(lines=[{**RUN, "history": history, "metrics": {"accumulated_cost": 0.0}}], name="o.jsonl")
    assert [(s["tokens_in"], s["tokens_out"], s["cost_usd"]) for s in taken.kind("llm")] == [
        (100, 9, None),
        (150, 10, None),
    ]


def test_what_the_harness_says_of_the_run(take: Any) -> None:
    taken = take(lines=[RUN, {**RUN, "instance_id": "b", "error": "RuntimeError: limit"}], name="output.jsonl")
    first, second = taken.kind("agent")
    assert (first["task_key"], first["status"], first["agent_version"]) == (
        "openhands:ponylang__ponyc-1",
        "ok",
        "0.35.0",
    )
    assert (second["status"], second["error_message"]) == ("error", "RuntimeError: limit")
    assert [(s["name"], s["value"], s["source"]) for s in taken.scores] == [("reward", 1.0, "env")] * 2


def test_times_without_a_zone_are_flagged(take: Any) -> None:
    assert all("clock" in span["flags"] for span in take(lines=[RUN], name="output.jsonl").spans)


OLD = {
    "issue": {"owner": "o", "repo": "r", "number": 5, "title": "Add"},
    "history": [
        {"content": "Please fix.", "action": "message"},
        {"command": "touch x", "thought": "I begin.", "action": "run", "keep_prompt": True},
        {"content": "", "command": "touch x", "exit_code": 0, "observation": "run"},
        {"outputs": {}, "thought": "It is done.", "action": "finish"},
    ],
    "metrics": {"accumulated_cost": 0.75, "costs": [0.5, 0.25]},
    "success": True,
    "result_explanation": "It works.",
    "error": None,
}


@pytest.mark.parametrize("pairs", [False, True])
def test_old_histories_of_actions_and_observations_or_pairs_of_them(take: Any, pairs: bool) -> None:
    history = OLD["history"]
    if pairs:
        history = [[history[0], {"observation": "null", "content": ""}], [history[1], history[2]], [history[3]]]  # type: ignore[index]
    taken = take(lines=[{**OLD, "history": history}], name="output.jsonl")
    first, last = taken.kind("llm")
    assert taken.said(first["output_ids"]) == [
        (
            "assistant",
            [
                {"type": "text", "content": "I begin."},
                {"type": "tool_call", "id": None, "name": "run", "arguments": {"command": "touch x"}},
            ],
        )
    ]
    assert taken.texts(last["output_ids"]) == ["It is done."]
    (ran,) = taken.kind("tool")
    assert (ran["tool_name"], ran["status"], json.loads(ran["tool_args"])) == ("run", "ok", {"command": "touch x"})
    assert [span["cost_usd"] for span in (first, last)] == [0.5, 0.25]
    assert (first["start_ns"], first["tokens_in"], first["flags"]) == (None, None, ["lossy"])
    assert taken.kind("agent")[0]["task_key"] == "openhands:o/r#5"
    assert [(s["name"], s["value"], s["source"]) for s in taken.scores] == [("success", 1.0, "llm")]


def test_a_list_of_events_is_a_run_that_can_grow(take: Any) -> None:
    short = take(HISTORY[:6], name="replay.json")
    whole = take(HISTORY, name="replay.json")
    assert short.kind("agent")[0]["task_key"] is None
    assert {span["span_id"] for span in short.spans} < {span["span_id"] for span in whole.spans}
    assert whole.ledger[0]["n_records"] == len(HISTORY)


def test_a_delegates_events_are_a_sub_tree(take: Any) -> None:
    history = [
        *HISTORY[:2],
        {"id": 20, "timestamp": stamp(10), "source": "agent", "action": "delegate",
         "args": {"agent": "BrowsingAgent", "inputs": {"task": "look"}}},
        {"id": 21, "timestamp": stamp(11), "source": "agent", "action": "message", "args": {"content": "I browse."}},
        {"id": 22, "timestamp": stamp(12), "source": "agent", "observation": "delegate", "content": "found",
         "cause": 20},
        {"id": 23, "timestamp": stamp(13), "source": "agent", "action": "message", "args": {"content": "It says so."}},
    ]  # fmt: skip
    taken = take(lines=[{**RUN, "history": history}], name="output.jsonl")
    run, browsing = taken.kind("agent")
    assert (browsing["name"], browsing["parent_span_id"]) == ("BrowsingAgent", run["span_id"])
    asked, inner, after = taken.kind("llm")
    assert (inner["parent_span_id"], inner["agent_name"]) == (browsing["span_id"], "BrowsingAgent")
    assert (asked["parent_span_id"], after["parent_span_id"]) == (run["span_id"], run["span_id"])
    assert (after["agent_name"], taken.kind("tool")[0]["tool_result"]) == ("CodeActAgent", "found")


def test_a_broken_record_costs_only_itself(take: Any) -> None:
    taken = take(lines=[RUN, {**RUN, "history": []}, {**RUN, "history": [{"id": 1}]}, "{"], name="output.jsonl")
    assert len(taken.kind("agent")) == 1
    assert [bad["line"] for bad in taken.quarantine] == [2, 3, 4]


def test_an_event_of_impossible_shape_costs_only_itself(take: Any) -> None:
    strange = {"id": [1], "timestamp": stamp(8), "source": "agent", "action": "run", "args": {"command": "x"}}
    taken = take(lines=[{**RUN, "history": [*HISTORY[:8], strange, HISTORY[8]]}], name="output.jsonl")
    assert [span["attributes"] is not None for span in taken.kind("llm")] == [True, True]
    (bad,) = taken.quarantine
    assert bad["reason"].startswith("malformed record: TypeError")
    assert json.loads(bad["excerpt"])["id"] == [1]
