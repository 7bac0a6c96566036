"""OpenAI Agents SDK traces, written by hand after openai-agents 0.24's own exports."""

import json
from typing import Any

import pytest

USER = "somebody-known"
TRACE = "trace_b01c5bc0d9834ceaaa414d9e06c0e19e"
HEAD = {
    "object": "trace",
    "id": TRACE,
    "workflow_name": "Support",
    "group_id": "thread-1",
    "metadata": {"user_id": USER, "plan": "pro"},
}


def span(name: str, parent: str | None, data: dict[str, Any], error: Any = None) -> dict[str, Any]:
    return {
        "object": "trace.span",
        "id": f"span_{name}",
        "trace_id": TRACE,
        "parent_id": None if parent is None else f"span_{parent}",
        "started_at": "2026-01-01T00:00:00.000001+00:00",
        "ended_at": "2026-01-01T00:00:01+00:00",
        "span_data": data,
        "error": error,
    }


CALLS = [{"id": "c-1", "type": "function", "function": {"name": "look", "arguments": "{}"}}]
SPANS = [
    span("call", "agent", {
        "type": "generation", "model": "gpt-4.1", "model_config": {"temperature": 0.1, "tool_choice": None},
        "input": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
        "output": [{"role": "assistant", "content": None, "tool_calls": CALLS}],
        "usage": {"input_tokens": 10, "output_tokens": 4},
    }),
    span("tool", "agent", {"type": "function", "name": "look", "input": '{"a": 1}', "output": "found"},
         {"message": "boom", "data": {"x": 1}}),
    span("response", "agent", {
        "type": "response", "response_id": "resp_1",
        "usage": {"input_tokens": 20, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 8}},
    }),
    span("handoff", "agent", {"type": "handoff", "from_agent": "Triage", "to_agent": "Billing"}),
    span("guard", "agent", {"type": "guardrail", "name": "pii", "triggered": True}),
    span("turn", "task", {"type": "custom", "name": "turn",
                          "data": {"sdk_span_type": "turn", "turn": 1, "agent_name": "Triage",
                                   "usage": {"input_tokens": 30, "output_tokens": 9}}}),
    span("task", "agent", {"type": "custom", "name": "task", "data": {"sdk_span_type": "task", "name": "Support"}}),
    span("mine", "agent", {"type": "custom", "name": "mine", "data": {"k": 1}}),
    span("agent", None, {"type": "agent", "name": "Triage", "handoffs": ["Billing"], "tools": ["look"]}),
]  # fmt: skip


@pytest.fixture
def taken(take: Any) -> Any:
    return take(lines=[HEAD, *SPANS])


@pytest.fixture
def spans(taken: Any) -> dict[str, dict[str, Any]]:
    return {found["span_id"].removeprefix("span_"): found for found in taken.rows("spans")}


def test_children_before_their_parents_make_one_tree(taken: Any, spans: Any) -> None:
    root = next(found for found in taken.spans if found["parent_span_id"] is None)
    assert (root["name"], root["session_id"], root["kind"]) == ("Support", "thread-1", "chain")
    assert root["user_key"] is not None
    assert USER not in taken.everything()
    assert spans["agent"]["parent_span_id"] == root["span_id"]
    assert {found["trace_id"] for found in taken.spans} == {TRACE}
    assert [found["flags"] for found in taken.spans if "orphan" in found["flags"]] == []
    assert {name: found["kind"] for name, found in spans.items() if name != root["span_id"]} == {
        "call": "llm",
        "tool": "tool",
        "response": "llm",
        "handoff": "chain",
        "guard": "guardrail",
        "turn": "chain",
        "task": "chain",
        "mine": "chain",
        "agent": "agent",
    }


def test_calls_and_tools(taken: Any, spans: Any) -> None:
    call, tool = spans["call"], spans["tool"]
    assert taken.texts(taken.prompt(call)) == ["Be brief.", "hi"]
    assert taken.said(call["output_ids"]) == [
        ("assistant", [{"type": "tool_call", "id": "c-1", "name": "look", "arguments": "{}"}])
    ]
    assert (call["model"], json.loads(call["params"])) == ("gpt-4.1", {"temperature": 0.1})
    assert (call["tokens_in"], call["tokens_out"], call["status"]) == (10, 4, "ok")
    assert (call["start_ns"], call["end_ns"]) == (1_767_225_600_000_001_000, 1_767_225_601_000_000_000)
    assert (tool["tool_name"], json.loads(tool["tool_args"]), tool["tool_result"]) == ("look", {"a": 1}, "found")
    assert (tool["status"], tool["error_message"]) == ("error", "boom")


def test_a_response_span_has_tokens_but_no_content(spans: Any) -> None:
    found = spans["response"]
    assert (found["tokens_in"], found["tokens_cache_read"], found["tokens_out"]) == (20, 8, 5)
    assert (found["input_ids"], found["output_ids"], found["flags"]) == (None, None, ["lossy"])


def test_usage_of_a_turn_is_no_call(spans: Any) -> None:
    turn = spans["turn"]
    assert (turn["tokens_in"], turn["agent_name"]) == (None, "Triage")
    assert json.loads(turn["attributes"])["usage"] == {"input_tokens": 30, "output_tokens": 9}


def test_handoffs_and_guardrails_say_what_happened(spans: Any) -> None:
    assert spans["handoff"]["name"] == "handoff to Billing"
    assert json.loads(spans["guard"]["attributes"])["triggered"] is True
    assert spans["agent"]["agent_name"] == "Triage"
    assert json.loads(spans["mine"]["attributes"])["data"] == {"k": 1}


def test_batches_of_the_exporter_are_read(take: Any) -> None:
    taken = take({"data": [*SPANS, HEAD]}, name="batch.json")
    assert len(taken.spans) == 10
    assert [found["flags"] for found in taken.spans if "partial" in found["flags"]] == []


def test_a_trace_in_another_file_becomes_the_root_of_its_spans(take: Any) -> None:
    alone, head = take(lines=SPANS, name="spans.jsonl"), take(lines=[HEAD], name="head.jsonl")
    (root,) = [found for found in alone.spans if "partial" in found["flags"]]
    whole = type(alone)([*alone.batches, *head.batches])
    (found,) = [found for found in whole.spans if found["span_id"] == root["span_id"]]
    assert (root["name"], found["name"], found["session_id"], found["flags"]) == (None, "Support", "thread-1", [])


def test_what_is_no_object_of_a_trace_is_quarantined(take: Any) -> None:
    taken = take(lines=[HEAD, {"object": "trace.span", "id": "x"}, {"data": [SPANS[0], {"object": "trace"}]}, "{"])
    assert len(taken.spans) == 2
    assert [row["line"] for row in taken.quarantine] == [2, 3, 4]
