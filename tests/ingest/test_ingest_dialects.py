"""Span vocabularies: the same call, said in different words, is the same row."""

import json
from collections.abc import Callable
from typing import Any

import pytest

Make = Callable[..., dict[str, Any]]
ASKED = [
    {"role": "system", "parts": [{"type": "text", "content": "Help."}]},
    {"role": "user", "parts": [{"type": "text", "content": "Weather?"}]},
    {
        "role": "assistant",
        "parts": [{"type": "tool_call", "id": "c1", "name": "weather", "arguments": {"city": "Paris"}}],
    },
    {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "rain"}]},
]
ANSWER = [{"role": "assistant", "parts": [{"type": "text", "content": "Rain."}], "finish_reason": "stop"}]
USAGE = {"gen_ai.usage.input_tokens": 9, "gen_ai.usage.output_tokens": 3}
BASE = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.response.model": "m-1", **USAGE}
FINISH = {"gen_ai.response.finish_reasons": ["stop"]}

SPELLINGS: dict[str, dict[str, Any]] = {
    "structured": BASE | {"gen_ai.input.messages": ASKED, "gen_ai.output.messages": ANSWER},
    "JSON": BASE | {"gen_ai.input.messages": json.dumps(ASKED), "gen_ai.output.messages": json.dumps(ANSWER)},
    "JSON in JSON": BASE
    | {"gen_ai.input.messages": json.dumps(json.dumps(ASKED)), "gen_ai.output.messages": json.dumps(ANSWER)},
    "system apart": BASE
    | {
        "gen_ai.system_instructions": json.dumps(ASKED[0]["parts"]),
        "gen_ai.input.messages": json.dumps(ASKED[1:]),
        "gen_ai.output.messages": json.dumps(ANSWER),
    },
    "result instead of response": BASE
    | {
        "gen_ai.input.messages": json.dumps(ASKED).replace('"response"', '"result"'),
        "gen_ai.output.messages": json.dumps(ANSWER),
    },
    "old prompt": {
        "gen_ai.system": "openai",
        "llm.request.type": "chat",
        "gen_ai.request.model": "m",
        "gen_ai.response.model": "m-1",
        "gen_ai.usage.prompt_tokens": 9,
        "gen_ai.usage.completion_tokens": 3,
        "gen_ai.prompt": json.dumps(ASKED),
        "gen_ai.completion": '{"text": "Rain.", "finish_reason": "stop"}',
    },
    "OpenInference": {
        "openinference.span.kind": "LLM",
        "llm.model_name": "m-1",
        "llm.invocation_parameters": '{"model": "m"}',
        "llm.token_count.prompt": 9,
        "llm.token_count.completion": 3,
        "llm.finish_reason": "stop",
        "llm.input_messages.0.message.role": "system",
        "llm.input_messages.0.message.content": "Help.",
        "llm.input_messages.1.message.role": "user",
        "llm.input_messages.1.message.contents.0.message_content.type": "text",
        "llm.input_messages.1.message.contents.0.message_content.text": "Weather?",
        "llm.input_messages.2.message.role": "assistant",
        "llm.input_messages.2.message.tool_calls.0.tool_call.id": "c1",
        "llm.input_messages.2.message.tool_calls.0.tool_call.function.name": "weather",
        "llm.input_messages.2.message.tool_calls.0.tool_call.function.arguments": '{"city": "Paris"}',
        "llm.input_messages.3.message.role": "tool",
        "llm.input_messages.3.message.content": "rain",
        "llm.input_messages.3.message.tool_call_id": "c1",
        "llm.output_messages.0.message.role": "assistant",
        "llm.output_messages.0.message.content": "Rain.",
        "input.value": "{}",
    },
}
COMPARED = (
    "kind",
    "model",
    "model_requested",
    "tokens_in",
    "tokens_out",
    "finish_reasons",
    "input_ids",
    "output_ids",
    "system_ids",
)


@pytest.mark.parametrize("spelling", sorted(set(SPELLINGS) - {"structured"}))
def test_every_spelling_of_a_call_is_the_same_row(take: Any, otlp: Make, request_of: Make, spelling: str) -> None:
    expected = take(request_of(otlp(attributes=SPELLINGS["structured"]))).span
    taken = take(request_of(otlp(attributes=SPELLINGS[spelling])))
    assert {name: taken.span[name] for name in COMPARED} == {name: expected[name] for name in COMPARED}
    assert taken.said(taken.prompt(taken.span)) == [(message["role"], message["parts"]) for message in ASKED]


def test_indexed_messages_are_sorted_by_number_and_a_gap_is_flagged(take: Any, otlp: Make, request_of: Make) -> None:
    attributes = {"llm.request.type": "chat"}
    for number in range(12):
        attributes[f"gen_ai.prompt.{number}.role"] = "user"
        attributes[f"gen_ai.prompt.{number}.content"] = str(number)
    attributes |= {
        "gen_ai.completion.0.role": "assistant",
        "gen_ai.completion.0.content": "None",
        "gen_ai.completion.0.finish_reason": "tool_calls",
        "gen_ai.completion.0.tool_calls.0.id": "c1",
        "gen_ai.completion.0.tool_calls.0.name": "find",
        "gen_ai.completion.0.tool_calls.0.arguments": "{}",
        "llm.request.functions.0.name": "find",
        "llm.request.functions.0.parameters": '{"type":"object"}',
    }
    taken = take(request_of(otlp(attributes=attributes)))
    span = taken.span
    assert taken.texts(span["input_ids"]) == [str(number) for number in range(12)]
    assert taken.said(span["output_ids"]) == [
        ("assistant", [{"type": "tool_call", "id": "c1", "name": "find", "arguments": "{}"}])
    ]
    assert span["finish_reasons"] == ["tool_calls"]
    assert span["flags"] == []
    ((role, parts),) = taken.said([span["tool_definitions_id"]])
    assert (role, parts[0]["function"]["name"]) == ("tools", "find")
    for name in ("role", "content"):
        del attributes[f"gen_ai.prompt.5.{name}"]
    assert take(request_of(otlp(attributes=attributes))).span["flags"] == ["truncated"]


def test_content_in_span_events(take: Any, otlp: Make, request_of: Make) -> None:
    old = [
        ("gen_ai.system.message", {"content": "Help."}),
        ("gen_ai.user.message", {"content": "Weather?"}),
        (
            "gen_ai.choice",
            {"index": 0, "finish_reason": "stop", "message": '{"role": "assistant", "content": "Rain."}'},
        ),
    ]
    older = [
        (
            "gen_ai.content.prompt",
            {"gen_ai.prompt": '[{"role":"system","content":"Help."},{"role":"user","content":"Weather?"}]'},
        ),
        ("gen_ai.content.completion", {"gen_ai.completion": '[{"role":"assistant","content":"Rain."}]'}),
    ]
    new = [
        (
            "gen_ai.client.inference.operation.details",
            {"gen_ai.input.messages": ASKED[:2], "gen_ai.output.messages": ANSWER},
        )
    ]
    for events in (old, older, new):
        taken = take(request_of(otlp(attributes=BASE, events=events)))
        assert taken.texts(taken.prompt(taken.span)) == ["Help.", "Weather?"]
        assert taken.texts(taken.span["output_ids"]) == ["Rain."]
        assert taken.texts(taken.span["system_ids"]) == ["Help."]


def test_a_tool_span_has_name_call_arguments_and_result(take: Any, otlp: Make, request_of: Make) -> None:
    genai = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "weather",
        "gen_ai.tool.call.id": "c1",
        "gen_ai.tool.call.arguments": '{"city": "Paris"}',
        "gen_ai.tool.call.result": "rain",
        "error.type": "Timeout",
    }
    inference = {
        "openinference.span.kind": "TOOL",
        "tool.name": "weather",
        "tool_call.id": "c1",
        "input.value": '{"city": "Paris"}',
        "output.value": "rain",
        "error.type": "Timeout",
    }
    for attributes in (genai, inference):
        span = take(request_of(otlp(attributes=attributes))).span
        assert (span["kind"], span["tool_name"], span["tool_call_id"]) == ("tool", "weather", "c1")
        assert (json.loads(span["tool_args"]), span["tool_result"]) == ({"city": "Paris"}, "rain")
        assert (span["status"], span["error_type"]) == ("error", "Timeout")


def test_dialects_are_told_apart_span_by_span(take: Any, otlp: Make, request_of: Make) -> None:
    spans = [otlp("a", attributes=SPELLINGS["JSON"]), otlp("b", attributes=SPELLINGS["OpenInference"]), otlp("c")]
    assert [span["dialect"] for span in take(request_of(*spans)).spans] == ["otel-genai", "openinference", "plain"]


def test_tool_definitions_flat_or_nested_are_one_message(take: Any, otlp: Make, request_of: Make) -> None:
    flat = [{"type": "function", "name": "f", "parameters": {"type": "object"}}]
    nested = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    spans = [
        otlp(name, attributes=BASE | {"gen_ai.tool.definitions": json.dumps(t)})
        for name, t in (("a", flat), ("b", nested))
    ]
    first, second = take(request_of(*spans)).spans
    assert first["tool_definitions_id"] == second["tool_definitions_id"] is not None


def test_annotations_in_a_span_are_scores_of_it(take: Any, otlp: Make, request_of: Make) -> None:
    attributes = {
        "openinference.span.kind": "LLM",
        "annotations.0.annotation.name": "helpful",
        "annotations.0.annotation.score": 1,
        "annotations.0.annotation.annotator_kind": "HUMAN",
    }
    taken = take(request_of(otlp(attributes=attributes)))
    (score,) = taken.scores
    assert (score["name"], score["value"], score["source"]) == ("helpful", 1.0, "human")
    assert score["target_id"] == taken.span["span_id"]


def test_an_exception_event_is_the_error(take: Any, otlp: Make, request_of: Make) -> None:
    raised = {"exception.type": "KeyError", "exception.message": "'x'", "exception.stacktrace": "…"}
    span = take(request_of(otlp(events=[("exception", raised)], status={"code": 2}))).span
    assert (span["status"], span["error_type"], span["error_message"]) == ("error", "KeyError", "'x'")
