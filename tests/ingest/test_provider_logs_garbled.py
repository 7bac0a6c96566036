"""Provider and gateway logs with strange values anywhere: nothing raises, and no good neighbour is lost."""

import io
import json
from typing import Any

import pytest
from grafting import paths, planted
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemill import ingest
from tracemill.ingest.detect import look
from tracemill.ingest.reader import BadRecord, Done, RawSpan, Stream

CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
MESSAGES = [
    {"role": "system", "content": "s"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "r"}]},
]
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 0}}
CHOICES = [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "x"}}]
COMPLETION = {"id": "c", "object": "chat.completion", "created": 5, "model": "m", "choices": CHOICES, "usage": USAGE}
ITEMS = [
    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "x"}]},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "x", "annotations": [1]}]},
    {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "x"}]},
    {"type": "web_search_call", "id": "w", "action": {"query": "x"}},
]
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 5,
    "status": "incomplete",
    "incomplete_details": {"reason": "x"},
    "output": ITEMS,
    "usage": {"input_tokens": 1, "output_tokens": 2, "output_tokens_details": {"reasoning_tokens": 1}},
    "reasoning": {"effort": "low"},
    "metadata": {"user_id": "u"},
}
BLOCKS = [
    {"type": "text", "text": "x"},
    {"type": "thinking", "thinking": "x"},
    {"type": "tool_use", "id": "t", "name": "f", "input": {}},
    {"type": "server_tool_use", "id": "s", "name": "g", "input": {}},
    {"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"url": "x"}]},
]
ASKED = [
    {"role": "user", "content": [{"type": "image", "source": {"type": "base64", "media_type": "x", "data": "y"}}]},
    {"role": "assistant", "content": BLOCKS[:3]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": BLOCKS[:1]}]},
]
ANSWER = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "content": BLOCKS,
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 1, "cache_read_input_tokens": 1, "output_tokens": 1},
}
SHAPES: dict[str, list[Any]] = {
    "openai-responses": [
        {"request": {"model": "m", "input": ITEMS, "instructions": "s", "tools": [{}]}, "response": RESPONSE},
        {"type": "response.created", "sequence_number": 0, "response": {**RESPONSE, "output": []}},
        {"type": "response.output_item.added", "sequence_number": 1, "output_index": 0, "item": ITEMS[1]},
        {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "x"},
    ],
    "openai-chunks": [
        COMPLETION
        | {
            "object": "chat.completion.chunk",
            "choices": [{"index": 0, "delta": {"content": "x", "tool_calls": [{"index": 0, **CALL}]}}],
        }
    ],
    "openai-pages": [
        {"object": "list", "data": [COMPLETION | {"metadata": {"a": "b"}, "messages": MESSAGES}]},
        {"object": "list", "data": [{"id": "c-0", "role": "user", "content": "x"}]},
        {"object": "list", "data": [RESPONSE]},
        {"object": "list", "data": ITEMS},
    ],
    "openai-batch": [
        {"id": "b", "custom_id": "c", "response": {"status_code": 200, "body": COMPLETION}, "error": None},
        {"id": "b", "custom_id": "c", "response": {"status_code": 200, "body": RESPONSE}, "error": None},
        {"custom_id": "c", "method": "POST", "url": "/v1", "body": {"model": "m", "messages": MESSAGES, "tools": []}},
    ],
    "anthropic": [
        {"request": {"model": "m", "system": BLOCKS[:1], "messages": ASKED, "tools": [{}]}, "response": ANSWER},
        {"type": "message_start", "message": {**ANSWER, "content": []}},
        {"type": "content_block_start", "index": 0, "content_block": BLOCKS[0]},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
        {"type": "message_delta", "delta": {"stop_reason": "x"}, "usage": {"output_tokens": 1}},
    ],
    "anthropic-batch": [
        {"custom_id": "c", "result": {"type": "succeeded", "message": ANSWER}},
        {"custom_id": "c", "result": {"type": "errored", "error": {"type": "error", "error": {"type": "x"}}}},
        {"requests": [{"custom_id": "c", "params": {"model": "m", "messages": ASKED, "tools": [{"name": "f"}]}}]},
    ],
    "litellm": [
        {
            "id": "c",
            "trace_id": "t",
            "call_type": "acompletion",
            "response_cost": 1.0,
            "model_map_information": {},
            "startTime": 5.5,
            "endTime": 6.5,
            "prompt_tokens": 1,
            "completion_tokens": 2,
            "messages": MESSAGES,
            "response": response,
            "model_parameters": {"tools": [{}]},
            "metadata": {"usage_object": USAGE},
            "error_information": {"error_class": "x"},
            "guardrail_information": [{"guardrail_name": "g", "guardrail_status": "success", "start_time": 1.0}],
            "status": status,
        }
        for response, status in ((COMPLETION, "success"), (RESPONSE, "success"), (ANSWER, "success"), ({}, "failure"))
    ],
    "fine-tuning": [
        {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y", "weight": 0}]}
    ],
    "preferences": [
        {"input": {"messages": MESSAGES, "tools": []}, "preferred_output": CHOICES, "non_preferred_output": CHOICES},
        {"prompt": "x", "chosen": [MESSAGES[1]], "rejected": "y", "score_chosen": 1.0},
    ],
}
STRANGE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
) | st.sampled_from(
    [MESSAGES, ITEMS, BLOCKS, {"type": []}, {"role": 1, "content": {}}, [[]], "[{", "data: {}", "x" * 99]
)
READERS = {reader.name: reader for reader in ingest.FORMATS}


def read(name: str, lines: list[Any]) -> list[Any]:
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    stream = Stream(name="log.jsonl", file=io.BytesIO(data))
    stream.start()
    head = look(stream)
    for reader in READERS.values():
        if reader.name in SHAPES:
            reader.sniff(head)
    return list(READERS[name].read(stream, head))


@pytest.mark.parametrize("name", sorted(SHAPES))
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_value_anywhere_never_raises_and_every_record_is_accounted_for(name: str, data: st.DataObject) -> None:
    shapes = SHAPES[name]
    at = data.draw(st.integers(0, len(shapes) - 1))
    where = data.draw(st.sampled_from(paths(shapes[at])[1:]))
    strange = planted(shapes[at], where, data.draw(STRANGE))
    lines = [shapes[0], *shapes[:at], strange, *shapes[at + 1 :]]
    items = read(name, lines)
    assert sum(item.count for item in items if isinstance(item, Done)) == len(lines)
    ids = {(item.trace_id, item.span_id) for item in items if isinstance(item, RawSpan)}
    assert all(isinstance(known, str) and known for pair in ids for known in pair)
    if name != "openai-chunks":  # there, lines with one id are one call
        first = [item for item in read(name, shapes[:1]) if isinstance(item, RawSpan)]
        assert {(span.trace_id, span.span_id) for span in first} <= ids


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_the_shapes_themselves_are_read_without_a_bad_record(name: str) -> None:
    items = read(name, SHAPES[name])
    if name != "preferences":
        assert [item.reason for item in items if isinstance(item, BadRecord)] == []
    assert any(isinstance(item, RawSpan) for item in items)
