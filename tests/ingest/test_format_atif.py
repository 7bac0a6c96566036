"""ATIF trajectories of every version, as other programs write them."""

import json
from typing import Any

import pytest


def document(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    numbered = [{"step_id": at, **step} for at, step in enumerate(steps, start=1)]
    agent = {"name": "desk", "version": "2.1", "model_name": "gpt-4o"}
    return {"schema_version": "ATIF-v1.8", "trajectory_id": "t1", "agent": agent, "steps": numbered, **more}


SYSTEM = {"source": "system", "message": "You are an operator.", "timestamp": "2026-01-01T00:00:00Z"}
USER = {"source": "user", "message": "List the files.", "timestamp": "2026-01-01T00:00:01Z"}
CALL = {"tool_call_id": "c1", "function_name": "shell", "arguments": {"cmd": "ls"}}
ASKING = {
    "source": "agent",
    "message": "",
    "timestamp": "2026-01-01T00:00:02Z",
    "reasoning_content": "Look first.",
    "tool_calls": [CALL],
    "observation": {"results": [{"source_call_id": "c1", "content": "a.txt"}]},
    "metrics": {
        "prompt_tokens": 120,
        "completion_tokens": 18,
        "cached_tokens": 100,
        "cost_usd": 0.01,
        "prompt_token_ids": [1, 2],
        "completion_token_ids": [3, 4],
        "logprobs": [-0.5, -0.25],
        "extra": {"reasoning_tokens": 7, "cache_creation_input_tokens": 5},
    },
}
DONE = {"source": "agent", "message": "There is a.txt.", "model_name": "gpt-4o-mini", "reasoning_effort": "high"}


def test_steps_are_calls_and_results_are_tool_spans(take: Any) -> None:
    taken = take(document(SYSTEM, USER, ASKING, DONE, session_id="run-1"), name="t.json")
    root, first, tool, second = taken.spans
    assert taken.ledger[0]["format_reason"] == "ATIF-v1.8 documents"
    assert [span["kind"] for span in taken.spans] == ["agent", "llm", "tool", "llm"]
    assert [span["parent_span_id"] for span in taken.spans[1:]] == [root["span_id"]] * 3
    assert [span["seq"] for span in taken.spans] == [0, 1, 2, 3]
    assert {span["session_id"] for span in taken.spans} == {"run-1"}
    assert (root["name"], root["agent_version"], root["end_ns"] - root["start_ns"]) == ("desk", "2.1", 2_000_000_000)
    assert taken.texts(taken.prompt(first)) == ["You are an operator.", "List the files."]
    assert taken.said(first["output_ids"]) == [
        (
            "assistant",
            [
                {"type": "reasoning", "content": "Look first."},
                {"type": "tool_call", "id": "c1", "name": "shell", "arguments": {"cmd": "ls"}},
            ],
        )
    ]
    assert first["flags"] == ["lossy"]
    assert (first["model"], second["model"], json.loads(second["params"])) == (
        "gpt-4o",
        "gpt-4o-mini",
        {"reasoning_effort": "high"},
    )
    assert (tool["tool_name"], tool["tool_call_id"], tool["tool_args"], tool["tool_result"]) == (
        "shell",
        "c1",
        '{"cmd": "ls"}',
        "a.txt",
    )
    assert taken.said(second["input_ids"])[-1] == (
        "tool",
        [{"type": "tool_call_response", "id": "c1", "response": "a.txt"}],
    )


def test_tokens_ids_and_logprobs_come_with_each_step_and_totals_are_not_added(take: Any) -> None:
    totals = {"total_prompt_tokens": 120, "total_completion_tokens": 18, "total_cost_usd": 0.01}
    taken = take(document(USER, ASKING, DONE, final_metrics=totals), name="t.json")
    root, first, _, second = taken.spans
    assert (first["tokens_in"], first["tokens_out"], first["tokens_cache_read"], first["tokens_cache_write"]) == (
        120,
        18,
        100,
        5,
    )
    assert (first["tokens_reasoning"], first["cost_usd"]) == (7, 0.01)
    assert (first["input_token_ids"], first["output_token_ids"], first["output_logprobs"]) == (
        [1, 2],
        [3, 4],
        [-0.5, -0.25],
    )
    assert (root["tokens_in"], second["tokens_in"]) == (None, None)
    assert json.loads(root["attributes"])["final_metrics"] == totals


def test_totals_stand_at_the_root_where_no_step_tells_its_own(take: Any) -> None:
    totals = {
        "total_prompt_tokens": 120,
        "total_completion_tokens": 18,
        "total_cached_tokens": 0,
        "total_cost_usd": 0.01,
    }
    root = take(document(USER, DONE, final_metrics=totals), name="t.json").spans[0]
    names = ("tokens_in", "tokens_out", "tokens_cache_read", "cost_usd")
    assert [root[name] for name in names] == [120, 18, None, 0.01]


def test_copied_context_is_flagged_and_its_tokens_count_where_it_was_said(take: Any) -> None:
    copied = {**ASKING, "is_copied_context": True}
    taken = take(document(USER, copied, DONE), name="t.json")
    _, first, tool, second = taken.spans
    assert (first["flags"], tool["flags"], second["flags"]) == (["lossy", "copied"], ["copied"], ["lossy"])
    assert (first["tokens_in"], first["cost_usd"]) == (None, None)
    assert json.loads(first["attributes"])["metrics"]["prompt_tokens"] == 120


def test_a_continuation_is_another_trajectory_of_the_same_session(take: Any) -> None:
    early = {"schema_version": "ATIF-v1.5", "trajectory_id": None, "session_id": "run-1"}
    whole = document(SYSTEM, USER, ASKING, **early, continued_trajectory_ref="t.cont-1.json")
    again = document({**SYSTEM, "is_copied_context": True}, {**USER, "message": "Summary so far."}, DONE, **early)
    taken = take(lines=[whole, again])
    roots = taken.kind("agent")
    assert len({root["trace_id"] for root in roots}) == 2
    assert {root["session_id"] for root in roots} == {"run-1"}
    assert json.loads(roots[0]["attributes"])["continued_trajectory_ref"] == "t.cont-1.json"


def test_a_growing_document_stays_the_same_trajectory(take: Any) -> None:
    early = {"schema_version": "ATIF-v1.4", "trajectory_id": None, "session_id": "run-1"}
    one = take(document(USER, ASKING, **early), name="a.json").spans
    more = take(document(USER, ASKING, DONE, **early), name="b.json").spans
    assert [span["span_id"] for span in one] == [span["span_id"] for span in more[:3]]
    assert {span["trace_id"] for span in one + more} == {one[0]["trace_id"]}


def test_steps_without_a_model_are_not_calls_of_one(take: Any) -> None:
    greeting = {"source": "agent", "message": "Hello, this is the desk.", "llm_call_count": 0}
    _, first, second = take(document(greeting, USER, DONE), name="t.json").spans
    assert (first["flags"], second["flags"]) == (["lossy", "synthetic"], ["lossy"])


def test_results_without_a_call_id_answer_the_only_call_or_are_events(take: Any) -> None:
    bare = {"observation": {"results": [{"content": "a.txt"}]}}
    (tool,) = take(document(USER, {**ASKING, **bare}), name="t.json").kind("tool")
    assert (tool["tool_call_id"], tool["tool_name"]) == ("c1", "shell")
    screen = {"source": "agent", "message": "ls", **bare}
    taken = take(document(USER, screen, DONE), name="t.json")
    _, _, event, second = taken.spans
    assert (event["kind"], event["name"], event["tool_result"]) == ("event", "observation", "a.txt")
    assert taken.said(second["input_ids"])[-1] == ("user", [{"type": "text", "content": "a.txt"}])


def test_embedded_sub_agents_are_sub_trees_below_the_call_that_refers_to_them(take: Any) -> None:
    below = document(USER, DONE, trajectory_id="sub", agent={"name": "helper", "version": "1"})
    lost = document(USER, DONE, trajectory_id="lost", agent={"name": "other", "version": "1"})
    refers = {"source_call_id": "c1", "subagent_trajectory_ref": [{"trajectory_id": "sub"}]}
    taken = take(
        document(USER, {**ASKING, "observation": {"results": [refers]}}, DONE, subagent_trajectories=[lost, below]),
        name="t.json",
    )
    root, first, tool, helper, called, last, other, _ = taken.spans
    assert len({span["trace_id"] for span in taken.spans}) == 1
    assert [span["seq"] for span in taken.spans] == list(range(8))
    assert (helper["kind"], helper["name"], helper["parent_span_id"]) == ("agent", "helper", tool["span_id"])
    assert (called["agent_name"], called["parent_span_id"], called["model"]) == (
        "helper",
        helper["span_id"],
        "gpt-4o-mini",
    )
    assert (other["name"], other["parent_span_id"]) == ("other", root["span_id"])
    assert tool["tool_result"] is None
    assert (first["agent_name"], last["agent_name"]) == ("desk", "desk")


def test_sub_agents_in_files_of_their_own_stay_references(take: Any) -> None:
    refers = {"source_call_id": "c1", "subagent_trajectory_ref": [{"session_id": "run-2", "trajectory_path": "s.json"}]}
    taken = take(document(USER, {**ASKING, "observation": {"results": [refers]}}), name="t.json")
    (tool,) = taken.kind("tool")
    assert json.loads(tool["attributes"]) == {"subagent_trajectory_ref": refers["subagent_trajectory_ref"]}


def test_images_and_sounds_are_parts(take: Any) -> None:
    content = [
        {"type": "text", "text": "Look."},
        {"type": "image", "source": {"media_type": "image/png", "path": "a.png"}},
        {"type": "audio", "source": {"media_type": "audio/wav", "path": "a.wav", "duration_sec": 1.5}},
    ]
    taken = take(document({"source": "user", "message": content}, DONE), name="t.json")
    (call,) = taken.kind("llm")
    assert taken.said(call["input_ids"]) == [
        (
            "user",
            [
                {"type": "text", "content": "Look."},
                {"type": "uri", "modality": "image", "uri": "a.png", "mime_type": "image/png"},
                {"type": "uri", "modality": "audio", "uri": "a.wav", "mime_type": "audio/wav", "duration_sec": 1.5},
            ],
        )
    ]


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({"reward": 1}, [("reward", 1.0, "env")]),
        ({"rewards": {"reward": 0.5, "style": True}}, [("reward", 0.5, "env"), ("style", 1.0, "env")]),
        (
            {"scores": [{"name": "helpful", "value": 0.2, "source": "llm", "label": "poor"}]},
            [("helpful", 0.2, "llm")],
        ),
        ({"scores": {"a": 1.0}}, [("a", 1.0, "env")]),
        ({"reward": None}, []),
    ],
)
def test_rewards_stand_in_extra(take: Any, extra: dict[str, Any], expected: list[Any]) -> None:
    taken = take(document(USER, DONE, extra={**extra, "task_id": "fix-7"}), name="t.json")
    assert [(row["name"], row["value"], row["source"]) for row in taken.scores] == expected
    assert {row["target_id"] for row in taken.scores} <= {taken.spans[0]["trace_id"]}
    assert taken.spans[0]["task_key"] == "fix-7"


def test_a_bad_document_is_quarantined_and_the_others_land(take: Any) -> None:
    worse = document(USER, {**DONE, "metrics": {"prompt_tokens": "many"}}, trajectory_id="t2")
    taken = take(lines=[document(USER, DONE), {"schema_version": "ATIF-v1.8", "steps": 3}, worse])
    assert len(taken.kind("agent")) == 2
    assert [row["line"] for row in taken.quarantine] == [2]
    assert taken.kind("llm")[1]["tokens_in"] is None


def test_a_bad_step_is_quarantined_and_the_others_land(take: Any) -> None:
    bad = {**DONE, "extra": {"scores": [{"name": "x", "value": "very"}]}}
    taken = take(document(USER, ASKING, bad, DONE), name="t.json")
    assert [span["kind"] for span in taken.spans] == ["agent", "llm", "tool", "llm"]
    assert [row["reason"].split(":")[0] for row in taken.quarantine] == ["step 3 of the trajectory"]
