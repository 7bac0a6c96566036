"""mini-swe-agent: a list of messages with fenced commands, or an object whose answers carry their completions."""

import json
from typing import Any

LIST = [
    {"role": "system", "content": "Answer with one ```mswea_bash_command``` block."},
    {"role": "user", "content": "Please solve this issue: x"},
    {"role": "assistant", "content": "I look.\n\n```mswea_bash_command\nls -la\n```"},
    {"role": "user", "content": "<returncode>2</returncode>\n<output>\nno\n</output>"},
    {"role": "assistant", "content": "I forgot the block."},
    {"role": "user", "content": "Please give exactly one command."},
    {"role": "assistant", "content": "Done.\n\n```mswea_bash_command\necho COMPLETE\n```"},
    {"role": "user", "content": ""},
]


def answer(at: int, *commands: str, **extra: Any) -> dict[str, Any]:
    calls = [
        {"id": f"c{at}{n}", "type": "function", "function": {"name": "bash", "arguments": json.dumps({"command": c})}}
        for n, c in enumerate(commands)
    ]
    message = {"role": "assistant", "content": f"Step {at}.", "tool_calls": calls}
    usage = {"prompt_tokens": 1000 + at, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 960}}
    response = {
        "id": f"r{at}", "created": 1780680340 + at, "model": "deepseek-v4", "object": "chat.completion",
        "choices": [{"finish_reason": "tool_calls", "index": 0, "message": message}], "usage": usage,
    }  # fmt: skip
    return {**message, "extra": {"response": response, "cost": 0.01, "timestamp": 1780680342.5 + at, **extra}}


def result(id: str, content: str, code: int, at: float) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id, "content": content, "extra": {"returncode": code, "timestamp": at}}


RUN: dict[str, Any] = {
    "info": {
        "model_stats": {"instance_cost": 0.02, "api_calls": 2},
        "config": {"model": {"model_name": "deepseek/deepseek-chat", "model_kwargs": {"temperature": 0.0}}},
        "mini_version": "2.3.0",
        "exit_status": "Submitted",
        "submission": "--- a/x",
    },
    "messages": [
        {"role": "system", "content": "You can run commands."},
        {"role": "user", "content": "Fix it."},
        answer(0, "ls", "pwd"),
        result("c00", "<returncode>0</returncode>\n<output>\na\n</output>", 0, 1780680343.0),
        result("c01", "<returncode>1</returncode>", 1, 1780680343.5),
        answer(5, "echo COMPLETE"),
        {"role": "exit", "content": "--- a/x", "extra": {"exit_status": "Submitted"}},
    ],
    "trajectory_format": "mini-swe-agent-1.1",
    "instance_id": "astropy__astropy-12907",
}


def test_a_bare_list_is_one_run_with_its_commands(take: Any) -> None:
    taken = take(json.dumps(LIST, indent=1), name="x.traj.json")
    assert taken.ledger[0]["source_format"] == "mini-swe-agent"
    assert [span["seq"] for span in taken.kind("llm")] == [2, 4, 6]
    first, last = taken.kind("tool")
    assert (first["tool_args"], first["status"], first["error_message"]) == ("ls -la", "error", "return code 2")
    assert (last["tool_args"], last["status"]) == ("echo COMPLETE", "unset")
    third = taken.kind("llm")[-1]
    assert len(taken.prompt(third)) == 6
    assert (third["tokens_in"], third["start_ns"], third["model"], third["flags"]) == (None, None, None, [])


def test_answers_carry_their_usage_cost_and_times(take: Any) -> None:
    taken = take(RUN, name="y.traj.json")
    run = taken.kind("agent")[0]
    assert (run["task_key"], run["status"], run["agent_version"]) == (
        "mini-swe-agent:astropy__astropy-12907",
        "ok",
        "2.3.0",
    )
    assert run["cost_usd"] is None, "the calls tell it"
    assert json.loads(run["attributes"])["info"]["submission"] == "--- a/x"
    first, second = taken.kind("llm")
    assert (first["tokens_in"], first["tokens_out"], first["tokens_cache_read"], first["cost_usd"]) == (
        1000,
        10,
        960,
        0.01,
    )
    assert (first["provider"], first["model_requested"], first["model"]) == ("deepseek", "deepseek-chat", "deepseek-v4")
    assert (first["start_ns"], first["end_ns"]) == (1780680340_000000000, 1780680342_500000000)
    assert [role for role, _ in taken.said(second["input_ids"])] == ["user", "assistant", "tool", "tool"]


def test_parallel_commands_are_a_tool_span_each(take: Any) -> None:
    listed, where = take(RUN, name="y.traj.json").kind("tool")
    assert [json.loads(span["tool_args"]) for span in (listed, where)] == [{"command": "ls"}, {"command": "pwd"}]
    assert [(span["tool_call_id"], span["status"]) for span in (listed, where)] == [("c00", "ok"), ("c01", "error")]


def test_a_total_stands_at_the_root_only_where_no_call_tells_its_cost(take: Any) -> None:
    bare = [{k: v for k, v in m.items() if k != "extra"} for m in RUN["messages"]]
    assert take({**RUN, "messages": bare}, name="z.json").kind("agent")[0]["cost_usd"] == 0.02
    unpriced = {**RUN["info"], "model_stats": {"instance_cost": 0.0, "api_calls": 2}}
    assert take({**RUN, "messages": bare, "info": unpriced}, name="z.json").kind("agent")[0]["cost_usd"] is None


def test_a_run_that_ran_out_is_an_error(take: Any) -> None:
    run = take({**RUN, "info": {**RUN["info"], "exit_status": "LimitsExceeded"}}, name="y.json").kind("agent")[0]
    assert (run["status"], run["error_type"]) == ("error", "LimitsExceeded")


def test_other_lists_of_messages_are_not_claimed(take: Any) -> None:
    other = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "```bash\nls\n```"}]
    assert take(other, name="chat.json").ledger[0]["source_format"] == "openai-chat"


def test_a_run_without_an_answer_is_quarantined(take: Any) -> None:
    taken = take(lines=[RUN, {**RUN, "messages": []}], name="runs.jsonl")
    assert len(taken.kind("agent")) == 1
    assert taken.quarantine[0]["reason"] == "the trajectory holds no answer of a model"
