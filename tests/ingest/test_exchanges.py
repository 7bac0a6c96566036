"""What a model was asked and answered, in the shapes that frameworks log it in."""

from typing import Any

import pytest

from tracemill.ingest.content.exchanges import answered, answered_text, asked, asked_text, beside, tools_of
from tracemill.ingest.content.messages import canonical
from tracemill.ingest.providers.chunks import merged
from tracemill.ingest.reader import Message


def text(role: str, content: str) -> Message:
    return role, None, [{"type": "text", "content": content}]


def call(id: str | None = "c-1", arguments: Any = None) -> dict[str, Any]:
    return {"type": "tool_call", "id": id, "name": "look", "arguments": {"a": 1} if arguments is None else arguments}


def result(id: str | None = "c-1", response: Any = "found", **more: Any) -> Message:
    return "tool", None, [{"type": "tool_call_response", "id": id, "response": response, **more}]


USER = {"role": "user", "content": "hi"}

ASKED: list[tuple[str, Any, list[Message]]] = [
    ("openai", {"model": "m", "messages": [USER]}, [text("user", "hi")]),
    ("anthropic", {"system": "Be brief.", "messages": [USER]}, [text("system", "Be brief."), text("user", "hi")]),
    ("langchain batch", {"messages": [[{"type": "human", "content": "hi"}]]}, [text("user", "hi")]),
    ("langchain dump", [{"type": "human", "data": {"content": "hi"}}], [text("user", "hi")]),
    ("langchain prompts", {"prompts": ["hi"]}, [text("user", "hi")]),
    (
        "gemini",
        {
            "contents": [
                {"role": "user", "parts": [{"text": "hi"}]},
                {"role": "model", "parts": [{"function_call": {"name": "look", "args": {"a": 1}}}]},
                {"role": "user", "parts": [{"function_response": {"name": "look", "response": {"b": 2}}}]},
            ],
            "config": {"system_instruction": "Be brief.", "temperature": 0.5},
        },
        [
            text("system", "Be brief."),
            text("user", "hi"),
            ("assistant", None, [call(None)]),
            result(None, {"b": 2}, name="look"),
        ],
    ),
    (
        "gemini in camel case",
        {
            "systemInstruction": {"parts": [{"text": "Be brief."}]},
            "contents": [{"role": "user", "parts": [{"inlineData": {"mimeType": "image/png", "data": "AA=="}}]}],
        },
        [
            text("system", "Be brief."),
            ("user", None, [{"type": "blob", "modality": "image", "mime_type": "image/png", "content": "AA=="}]),
        ],
    ),
    ("google adk", {"user_id": "u", "new_message": {"role": "user", "parts": [{"text": "hi"}]}}, [text("user", "hi")]),
    (
        "responses",
        {
            "model": "m",
            "instructions": "Be brief.",
            "input": [
                USER,
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
                {"type": "function_call", "call_id": "c-1", "name": "look", "arguments": '{"a": 1}'},
                {"type": "function_call_output", "call_id": "c-1", "output": "found"},
            ],
        },
        [
            text("system", "Be brief."),
            text("user", "hi"),
            ("assistant", None, [{"type": "reasoning", "content": "hm"}, call(arguments='{"a": 1}')]),
            result(),
        ],
    ),
    (
        "vercel",
        [
            {"role": "user", "content": [{"type": "text", "text": "hi"}]},
            {"role": "assistant", "content": [
                {"type": "tool-call", "toolCallId": "c-1", "toolName": "look", "input": {"a": 1}}]},
            {"role": "tool", "content": [
                {"type": "tool-result", "toolCallId": "c-1", "toolName": "look",
                 "output": {"type": "error-text", "value": "found"}}]},
        ],
        [text("user", "hi"), ("assistant", None, [call()]), result(is_error=True)],
    ),
    (
        "bedrock",
        {"messages": [
            {"role": "assistant", "content": [{"toolUse": {"toolUseId": "c-1", "name": "look", "input": {"a": 1}}}]},
            {"role": "user", "content": [{"toolResult": {"toolUseId": "c-1", "content": [{"text": "found"}]}}]},
        ]},
        [("assistant", None, [call()]), result()],
    ),
    ("a traced function", {"args": [[USER]], "kwargs": {}}, [text("user", "hi")]),
    ("named arguments", {"args": [], "kwargs": {"messages": [USER]}}, [text("user", "hi")]),
    ("prompt and system", {"prompt": "hi", "system": "Be brief."}, [text("system", "Be brief."), text("user", "hi")]),
]  # fmt: skip


@pytest.mark.parametrize(("value", "messages"), [case[1:] for case in ASKED], ids=[case[0] for case in ASKED])
def test_prompts_of_every_framework(value: Any, messages: list[Message]) -> None:
    found = asked(value)
    assert found is not None
    assert found.messages == messages


ANSWERED: list[tuple[str, Any, list[Message]]] = [
    ("openai", {"choices": [{"message": {"role": "assistant", "content": "yes"}}]}, [text("assistant", "yes")]),
    ("completion", {"choices": [{"text": "yes"}]}, [text("assistant", "yes")]),
    ("anthropic", {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "yes"}]},
     [text("assistant", "yes")]),
    ("gemini", {"candidates": [{"content": {"role": "model", "parts": [{"text": "yes"}]}}]},
     [text("assistant", "yes")]),
    ("google adk", {"content": {"role": "model", "parts": [{"text": "yes"}]}}, [text("assistant", "yes")]),
    ("genai event", {"index": 0, "message": {"role": "assistant", "content": "yes"}}, [text("assistant", "yes")]),
    ("vercel calls", [{"toolCallId": "c-1", "toolName": "look", "input": {"a": 1}}], [("assistant", None, [call()])]),
    ("vercel", {"text": "yes", "toolCalls": [{"toolCallId": "c-1", "toolName": "look", "args": {"a": 1}}]},
     [("assistant", None, [{"type": "text", "content": "yes"}, call()])]),
    ("content blocks", [{"type": "text", "text": "yes"}, {"type": "tool_use", "id": "c-1", "name": "look",
                                                          "input": {"a": 1}}],
     [("assistant", None, [{"type": "text", "content": "yes"}, call()])]),
    ("a function's output", {"output": {"role": "assistant", "content": "yes"}}, [text("assistant", "yes")]),
    ("responses", {"object": "response", "output": [
        {"type": "reasoning", "summary": []},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "yes"}]},
        {"type": "function_call", "call_id": "c-1", "name": "look", "arguments": '{"a": 1}'}]},
     [("assistant", None, [{"type": "text", "content": "yes"}, call(arguments='{"a": 1}')])]),
]  # fmt: skip


@pytest.mark.parametrize(("value", "messages"), [case[1:] for case in ANSWERED], ids=[case[0] for case in ANSWERED])
def test_answers_of_every_framework(value: Any, messages: list[Message]) -> None:
    found = answered(value)
    assert found is not None
    assert found.messages == messages


@pytest.mark.parametrize("value", [None, "", {}, [], 3, "hi", {"x": 1}, [{"x": 1}], {"messages": [1]}, {"output": [2]}])
def test_what_is_no_message_is_not_taken_for_one(value: Any) -> None:
    assert (asked(value), answered(value)) == (None, None)


def test_a_model_call_takes_the_rest_as_text() -> None:
    assert [found.messages if found else None for found in (asked_text("hi"), asked_text({"args": ["hi"]}))] == [
        [text("user", "hi")],
        [text("user", "hi")],
    ]
    assert (asked_text(""), asked_text({}), answered_text(None)) == (None, None, None)
    answer = answered_text('{"answer": 42}')
    assert answer is not None
    assert answer.messages == [text("assistant", '{"answer": 42}')]


def test_what_stands_beside_the_messages() -> None:
    request = asked({"model": "m", "messages": [USER], "tools": [{"name": "look"}], "top_p": 1, "stream": None})
    assert request is not None
    assert (request.model, request.params, request.tools) == ("m", {"top_p": 1}, [{"name": "look"}])
    response = {
        "object": "response", "id": "r-1", "model": "m-2", "status": "incomplete", "instructions": "Be brief.",
        "incomplete_details": {"reason": "max_output_tokens"}, "tools": [{"type": "function", "name": "look"}],
        "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "y"}]}],
        "usage": {"input_tokens": 3},
    }  # fmt: skip
    found = answered(response)
    assert found is not None
    assert (found.model, found.response_id, found.finish_reasons) == ("m-2", "r-1", ["max_output_tokens"])
    assert (found.system, found.usage) == ([text("system", "Be brief.")], {"input_tokens": 3})
    assert [tool["name"] for tool in found.tools] == ["look"]
    assert beside({"messages": [USER], "step": 2, "user_id": "u", "empty": []}) == {"step": 2}


def test_tool_definitions_among_the_messages_are_no_messages() -> None:
    tool = {"type": "function", "function": {"name": "look"}}
    found = asked([USER, {"role": "tool", "content": tool}])
    assert found is not None
    assert (found.messages, found.tools) == ([text("user", "hi")], [tool])
    declared = [{"function_declarations": [{"name": "look"}]}, '{"name": "see"}', 3]
    assert tools_of(declared) == [{"name": "look"}, {"name": "see"}]


def test_a_call_that_langchain_tells_twice_is_one_call() -> None:
    content = [{"type": "text", "text": "y"}, {"type": "tool_use", "id": "c-1", "name": "look", "input": {"a": 1}}]
    told = [{"name": "look", "args": {"a": 1}, "id": "c-1", "type": "tool_call"}]
    message = {"type": "ai", "content": content, "additional_kwargs": {}, "tool_calls": told}
    assert canonical(message) == [("assistant", None, [{"type": "text", "content": "y"}, call()])]


def test_chunks_of_several_choices_stay_apart() -> None:
    chunks = [
        {"id": "x", "choices": [{"index": 1, "delta": {"role": "assistant", "content": "b"}}]},
        {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]},
        {"choices": [], "usage": {"prompt_tokens": 3}},
    ]
    whole = merged(chunks)
    assert [choice["message"]["content"] for choice in whole["choices"]] == ["a", "b"]
    assert (whole["id"], whole["usage"]) == ("x", {"prompt_tokens": 3})
    assert merged([{"choices": [{"delta": {}}]}])["choices"] == [{"index": 0, "message": {}}]
