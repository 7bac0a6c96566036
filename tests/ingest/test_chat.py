"""Canonical parts and OpenAI messages are two spellings of one thing."""

import json

from hypothesis import given
from hypothesis import strategies as st

from tracemill.chat import canonical_role, from_openai, text_of, to_openai, tools_from_openai

_TEXT = st.text()
_NAME = st.one_of(st.none(), st.text(min_size=1))


@given(role=st.sampled_from(["system", "user", "assistant"]), name=_NAME, content=st.one_of(st.none(), _TEXT))
def test_a_text_message_comes_back_byte_for_byte(role: str, name: str | None, content: str | None) -> None:
    message = {"role": role, "content": content} | ({} if name is None else {"name": name})
    assert to_openai(*from_openai(message)) == message


@given(
    content=st.one_of(st.none(), _TEXT),
    calls=st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1), _TEXT), min_size=1, max_size=4),
)
def test_tool_calls_keep_the_very_arguments_the_model_wrote(
    content: str | None, calls: list[tuple[str, str, str]]
) -> None:
    message = {
        "role": "assistant",
        "content": content,
        "tool_calls": [{"id": i, "type": "function", "function": {"name": n, "arguments": a}} for i, n, a in calls],
    }
    assert to_openai(*from_openai(message)) == message


@given(call_id=st.text(min_size=1), result=_TEXT)
def test_a_tool_result_comes_back(call_id: str, result: str) -> None:
    message = {"role": "tool", "tool_call_id": call_id, "content": result}
    assert to_openai(*from_openai(message)) == message


def test_decoded_arguments_become_a_json_string() -> None:
    part = {"type": "tool_call", "id": "c1", "name": "find", "arguments": {"city": "Köln"}}
    call = to_openai("assistant", None, [part])["tool_calls"][0]
    assert json.loads(call["function"]["arguments"]) == {"city": "Köln"}


def test_text_items_of_a_content_list_are_text_and_an_image_stays_an_image() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}}
    role, name, parts = from_openai({"role": "user", "content": [{"type": "text", "text": "what is this?"}, image]})
    assert text_of(parts) == "what is this?"
    assert to_openai(role, name, parts)["content"] == [{"type": "text", "text": "what is this?"}, image]


def test_old_spellings_of_roles_and_calls_are_understood() -> None:
    assert canonical_role("developer") == "system"
    role, _, parts = from_openai(
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}
    )
    assert role == "assistant"
    assert parts == [{"type": "tool_call", "id": None, "name": "f", "arguments": "{}"}]


def test_flat_and_nested_tool_definitions_are_one_shape() -> None:
    nested = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    flat = {"type": "function", "name": "f", "parameters": {"type": "object"}}
    anthropic = {"name": "f", "input_schema": {"type": "object"}}
    assert tools_from_openai([nested]) == tools_from_openai([flat]) == tools_from_openai([anthropic]) == [nested]
