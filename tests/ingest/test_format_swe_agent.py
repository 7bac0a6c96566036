"""SWE-agent trajectories, old and version 1; demonstrations are prompt, replays are copies."""

import json
from typing import Any

OLD: dict[str, Any] = {
    "environment": "swe_main",
    "trajectory": [
        {
            "action": "open x.py\n",
            "observation": "[File: x.py]",
            "response": "I open.\n```\nopen x.py\n```",
            "state": "{}",
        },
        {"action": "submit\n", "observation": "diff", "response": "I submit.\n```\nsubmit\n```", "state": "{}"},
    ],
    "history": [
        {"role": "system", "content": "SETTING", "agent": "primary"},
        {"role": "user", "content": "Here is a demonstration.", "agent": "primary", "is_demo": True},
        {"role": "assistant", "content": "A shown answer.", "agent": "primary", "is_demo": True},
        {"role": "user", "content": "ISSUE: x", "agent": "primary"},
        {"role": "assistant", "content": "I open.\n```\nopen x.py\n```", "action": "open x.py", "agent": "primary"},
        {"role": "user", "content": "[File: x.py]\nbash-$", "agent": "primary"},
        {"role": "assistant", "content": "I submit.\n```\nsubmit\n```", "action": "submit", "agent": "primary"},
    ],
    "info": {
        "exit_status": "submitted",
        "submission": "diff",
        "model_stats": {"instance_cost": 0.5, "tokens_sent": 5000, "tokens_received": 30, "api_calls": 2},
    },
}
CALL = [{"id": "call_1", "type": "function", "function": {"name": "find_file", "arguments": '{"file_name":"x.py"}'}}]
NEW: dict[str, Any] = {
    "environment": "main",
    "trajectory": [
        {
            "action": "find_file x.py",
            "observation": "Found 1",
            "response": "I search.",
            "thought": "I search.",
            "execution_time": 0.25,
            "state": {"open_file": "n/a"},
            "query": [
                {"role": "system", "content": "SETTING", "agent": "main", "message_type": "system_prompt"},
                {"role": "user", "content": "ISSUE: y", "agent": "main", "message_type": "observation"},
            ],
        },
        {"action": "submit", "observation": "diff", "response": "I submit.", "execution_time": 0.1, "state": {}},
    ],
    "history": [
        {"role": "system", "content": "SETTING", "agent": "main", "message_type": "system_prompt"},
        {"role": "user", "content": "ISSUE: y", "agent": "main", "message_type": "observation"},
        {"role": "assistant", "content": "I search.", "agent": "main", "tool_calls": CALL, "message_type": "action"},
        {"role": "tool", "content": "Found 1\nbash-$", "agent": "main", "tool_call_ids": ["call_1"]},
    ],
    "info": {"exit_status": "exit_cost", "model_stats": {"instance_cost": 0, "tokens_sent": 0, "api_calls": 2}},
    "replay_config": json.dumps(
        {"agent": {"model": {"name": "gpt-4o", "temperature": 1.0}}, "problem_statement": {"id": "repo__y-1"}}
    ),
}


def test_an_old_trajectory_has_its_steps_as_calls_and_tools(take: Any) -> None:
    taken = take(OLD, name="pydicom__pydicom-1458.traj")
    assert taken.ledger[0]["source_format"] == "swe-agent"
    run = taken.kind("agent")[0]
    assert (run["task_key"], run["status"]) == ("swe-agent:pydicom__pydicom-1458", "ok")
    assert (run["tokens_in"], run["tokens_out"], run["cost_usd"]) == (5000, 30, 0.5)
    first, second = taken.kind("llm")
    assert taken.texts(first["output_ids"]) == ["I open.\n```\nopen x.py\n```"]
    assert (first["tokens_in"], first["cost_usd"], first["flags"]) == (None, None, ["lossy"])
    assert len(second["input_ids"]) == len(first["input_ids"]) + 2
    opened = taken.kind("tool")[0]
    assert (opened["tool_name"], opened["tool_args"], opened["tool_result"]) == ("bash", "open x.py\n", "[File: x.py]")


def test_demonstrations_stay_in_the_prompt_and_are_never_answers(take: Any) -> None:
    taken = take(OLD, name="a.traj")
    outputs = [text for span in taken.kind("llm") for text in taken.texts(span["output_ids"])]
    assert "A shown answer." not in outputs
    assert "A shown answer." in taken.texts(taken.kind("llm")[0]["input_ids"])


def test_a_step_of_version_1_knows_its_query_and_its_tool_call(take: Any) -> None:
    taken = take(NEW, name="whatever.traj")
    run = taken.kind("agent")[0]
    assert (run["task_key"], run["status"], run["error_type"]) == ("swe-agent:repo__y-1", "error", "exit_cost")
    assert (run["tokens_in"], run["cost_usd"]) == (None, None), "a total of 0 is a total that nobody counted"
    first, second = taken.kind("llm")
    assert (first["model_requested"], json.loads(first["params"]), first["flags"]) == (
        "gpt-4o",
        {"temperature": 1.0},
        [],
    )
    assert taken.texts(taken.prompt(first)) == ["SETTING", "ISSUE: y"]
    found, submitted = taken.kind("tool")
    assert (found["tool_name"], found["tool_call_id"], json.loads(found["tool_args"])) == (
        "find_file",
        "call_1",
        {"file_name": "x.py"},
    )
    assert json.loads(found["attributes"])["execution_time"] == 0.25
    assert second["flags"] == ["lossy"], "its answer is not in the history"
    assert [role for role, _ in taken.said(second["input_ids"])] == ["user", "assistant", "tool"]
    assert (submitted["tool_name"], submitted["tool_args"]) == ("bash", "submit")


def test_messages_of_a_step_end_before_its_answer(take: Any) -> None:
    step = {**NEW["trajectory"][0], "messages": NEW["history"]}
    del step["query"]
    taken = take({**NEW, "trajectory": [step]}, name="x.traj")
    assert taken.texts(taken.prompt(taken.kind("llm")[0])) == ["SETTING", "ISSUE: y"]
    assert taken.kind("llm")[0]["flags"] == ["lossy"]


def test_replays_and_demonstrations_are_copies(take: Any) -> None:
    nothing = {
        **OLD["info"],
        "model_stats": {"instance_cost": 0, "tokens_sent": 0, "tokens_received": 0, "api_calls": 0},
    }
    assert "copied" in take({**OLD, "info": nothing}, name="a.traj").kind("llm")[0]["flags"]
    replay = json.dumps({"agent": {"model": {"name": "replay"}}})
    replayed = take({**NEW, "replay_config": replay}, name="b.traj").kind("llm")[0]
    assert "copied" in replayed["flags"]
    assert replayed["model_requested"] is None
    shown = take({"history": NEW["history"]}, name="c.traj")
    assert [span["flags"] for span in shown.kind("llm")] == [["copied", "lossy"]]
    assert shown.kind("tool")[0]["tool_result"] == "Found 1\nbash-$"


def test_a_trajectory_without_steps_is_quarantined(take: Any) -> None:
    taken = take({**OLD, "trajectory": [], "history": []}, name="a.traj")
    assert taken.spans == []
    assert taken.quarantine[0]["reason"] == "no SWE-agent trajectory: it has no steps"


def test_the_same_run_under_another_name_is_the_same_spans(take: Any) -> None:
    assert take(OLD, name="a.traj").spans[1]["span_id"] == take(OLD, name="b.traj").spans[1]["span_id"]
