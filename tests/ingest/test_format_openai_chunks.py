"""Streams of chat completion chunks, and stored completions with their messages."""

import json
from pathlib import Path
from typing import Any

import pytest

from tracemill import ingest

USAGE = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17, "prompt_tokens_details": {"cached_tokens": 8}}


def chunk(name: str, delta: dict[str, Any] | None, *, finish: str | None = None, index: int = 0, **more: Any) -> Any:
    choices = [] if delta is None else [{"index": index, "delta": delta, "finish_reason": finish}]
    base = {"id": name, "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "m-1"}
    return base | {"choices": choices} | more


def tool(index: int, arguments: str, **more: Any) -> dict[str, Any]:
    function = {"arguments": arguments} | ({"name": more.pop("name")} if "name" in more else {})
    return {"tool_calls": [{"index": index, "function": function, **more}]}


def sse(chunks: list[Any]) -> str:
    return "".join(f"data: {json.dumps(piece)}\n\n" for piece in chunks) + "data: [DONE]\n\n"


HELLO = [
    chunk("a", {"role": "assistant", "content": ""}),
    chunk("a", {"content": "Hel"}),
    chunk("a", {"content": "lo"}),
    chunk("a", {}, finish="stop"),
    chunk("a", None, usage=USAGE),
]


def test_a_stream_is_one_call_with_the_usage_of_its_last_chunk(take: Any) -> None:
    taken = take(sse(HELLO), name="stream.txt")
    span = taken.span
    assert taken.said(span["output_ids"]) == [("assistant", [{"type": "text", "content": "Hello"}])]
    assert (span["tokens_in"], span["tokens_out"], span["tokens_cache_read"]) == (12, 5, 8)
    assert (span["model"], span["status"], span["finish_reasons"]) == ("m-1", "ok", ["stop"])
    assert (span["input_ids"], span["flags"], span["start_ns"]) == (None, ["lossy"], 1_700_000_000_000_000_000)
    assert [row["n_records"] for row in taken.ledger] == [5]


def test_a_stream_is_the_same_call_as_the_completion_that_it_streamed(take: Any) -> None:
    message = {"role": "assistant", "content": "Hello"}
    whole = HELLO[0] | {"object": "chat.completion", "usage": USAGE}
    whole["choices"] = [{"index": 0, "message": message, "finish_reason": "stop"}]
    streamed, plain = take(lines=HELLO).span, take(whole, name="whole.json").span
    for column in ("trace_id", "span_id", "output_ids", "tokens_in", "tokens_out", "model", "start_ns"):
        assert streamed[column] == plain[column], column


def test_usage_that_was_not_asked_for_is_missing_and_not_zero(take: Any) -> None:
    span = take(lines=HELLO[:-1]).span
    assert (span["tokens_in"], span["tokens_out"], span["tokens_cache_read"]) == (None, None, None)


def test_tool_calls_are_put_together_by_their_index(take: Any) -> None:
    pieces = [
        chunk("a", {"role": "assistant", "content": None}),
        chunk("a", tool(0, "", id="c0", type="function", name="find")),
        chunk("a", tool(0, '{"q"')),
        chunk("a", tool(1, '{"r": 2', id="c1", type="function", name="look")),
        chunk("a", tool(0, ": 1}")),
        chunk("a", tool(1, "}")),
        chunk("a", {}, finish="tool_calls"),
    ]
    taken = take(lines=pieces)
    assert taken.said(taken.span["output_ids"])[0][1] == [
        {"type": "tool_call", "id": "c0", "name": "find", "arguments": '{"q": 1}'},
        {"type": "tool_call", "id": "c1", "name": "look", "arguments": '{"r": 2}'},
    ]


def test_interleaved_streams_and_several_choices_are_told_apart(take: Any) -> None:
    other = [chunk("b", {"content": "x"}), chunk("b", {"content": "y"}, index=1), chunk("b", {}, finish="stop")]
    mixed = [HELLO[0], other[0], HELLO[1], other[1], HELLO[2], other[2], *HELLO[3:]]
    first, second = take(lines=mixed).spans
    taken = take(lines=mixed)
    assert taken.texts(first["output_ids"]) == ["Hello"]
    assert taken.texts(second["output_ids"]) == ["x", "y"]
    assert (first["tokens_in"], second["tokens_in"]) == (12, None)


def test_a_stream_without_its_end_is_truncated_and_bad_lines_are_refused(take: Any) -> None:
    taken = take(lines=[*HELLO[:2], {"object": "other"}, HELLO[2], '{"torn'])
    assert taken.texts(taken.span["output_ids"]) == ["Hello"]
    assert (taken.span["status"], taken.span["flags"]) == ("unset", ["lossy", "truncated"])
    assert sorted(row["line"] for row in taken.quarantine) == [3, 5]
    assert [(row["n_records"], row["n_quarantined"]) for row in taken.ledger] == [(5, 2)]


def test_reasoning_and_logprobs_are_kept(take: Any) -> None:
    pieces = [
        chunk("a", {"role": "assistant", "reasoning_content": "Hm"}),
        chunk("a", {"reasoning_content": "."}),
        chunk("a", {"content": "yo"}, finish="stop"),
    ]
    pieces[-1]["choices"][0] |= {"token_ids": [3], "logprobs": {"content": [{"token": "yo", "logprob": -0.25}]}}
    taken = take(lines=pieces)
    assert [part["content"] for part in taken.said(taken.span["output_ids"])[0][1]] == ["Hm.", "yo"]
    assert (taken.span["output_token_ids"], taken.span["output_logprobs"]) == ([3], [-0.25])


def test_hundreds_of_calls_in_one_file_are_all_there(take: Any) -> None:
    listed = [chunk(f"c{n}", {"content": f"answer {n}"}, finish="stop") for n in range(600)]
    taken = take(lines=[*listed, chunk("c599", None, usage=USAGE)])
    assert len({span["span_id"] for span in taken.spans}) == 600
    assert [span["tokens_in"] for span in taken.spans if span["tokens_in"] is not None] == [12]
    assert [row["n_records"] for row in taken.ledger] == [601]


def test_a_call_record_may_hold_its_answer_as_chunks_or_as_the_text_of_a_stream(take: Any) -> None:
    request = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    taken = take(lines=[{"request": request, "response": HELLO}, {"request": request, "response": sse(HELLO)}])
    assert taken.texts(taken.prompt(taken.span)) == ["hi"]  # both are one call
    assert taken.texts(taken.span["output_ids"]) == ["Hello"]
    assert taken.span["tokens_in"] == 12


STORED = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_700_000_000,
    "model": "m-1",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "yo"}, "finish_reason": "stop"}],
    "usage": USAGE,
    "metadata": {"topic": "greeting", "session_id": "s1"},
    "temperature": 0.5,
    "tools": None,
}
SAID = [{"id": "chatcmpl-1-0", "role": "system", "content": "Be brief."}, {"id": "chatcmpl-1-1", "role": "user"}]
SAID[1]["content"] = "hi"


def page(*entries: Any) -> dict[str, Any]:
    return {"object": "list", "data": list(entries), "first_id": "x", "last_id": "y", "has_more": False}


def test_stored_completions_keep_metadata_and_parameters(take: Any) -> None:
    span = take(page(STORED), name="page.json").span
    assert (span["session_id"], span["tokens_in"], span["flags"]) == ("s1", 12, ["lossy"])
    assert json.loads(span["params"]) == {"temperature": 0.5}
    assert json.loads(span["attributes"])["metadata"]["topic"] == "greeting"


def test_the_messages_page_of_a_stored_completion_becomes_its_prompt(take: Any) -> None:
    taken = take(lines=[page(STORED), page(*reversed(SAID))])
    assert taken.texts(taken.prompt(taken.span)) == ["Be brief.", "hi"]
    assert taken.texts(taken.span["output_ids"]) == ["yo"]


def test_messages_that_were_merged_into_a_completion_are_its_prompt(take: Any) -> None:
    taken = take(lines=[STORED | {"messages": SAID}])
    assert taken.texts(taken.prompt(taken.span)) == ["Be brief.", "hi"]
    assert taken.span["flags"] == []


def test_a_page_of_conversation_items_is_a_conversation(take: Any) -> None:
    user = {"id": "msg_1", "type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}
    call = {"id": "fc_1", "type": "function_call", "call_id": "c1", "name": "find", "arguments": "{}"}
    result = {"id": "fo_1", "type": "function_call_output", "call_id": "c1", "output": "found"}
    taken = take(page(user, call, result), name="items.json")
    assert [span["kind"] for span in taken.spans] == ["agent", "llm", "tool"]
    assert taken.spans[2]["tool_name"] == "find"


@pytest.mark.data
def test_the_real_stream_has_the_providers_usage(data: Path) -> None:
    path = data / "ms-agent-framework" / "ChatCompletions"
    (batch,) = ingest.batches(ingest.find([path]), key=b"k" * 32, now_ns=1)
    spans = [span for span in batch.tables["spans"].to_pylist() if span["tokens_in"] is not None]
    streamed = [span for span in spans if span["source_format"] == "openai-chunks"]
    assert [(span["tokens_in"], span["tokens_out"]) for span in streamed] == [(12, 12)]
    truth = []
    for file in path.glob("*/response.json"):
        usage = json.loads(file.read_text())["usage"]
        truth.append((usage["prompt_tokens"], usage["completion_tokens"]))
    plain = [(span["tokens_in"], span["tokens_out"]) for span in spans if span["source_format"] == "openai-chat"]
    assert sorted(plain) == sorted(truth)
