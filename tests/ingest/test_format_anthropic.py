"""The Anthropic Messages API: blocks, usage, wrappers, event streams."""

import json
from typing import Any

USAGE = {
    "input_tokens": 10,
    "cache_creation_input_tokens": 200,
    "cache_read_input_tokens": 3000,
    "output_tokens": 7,
    "service_tier": "standard",
}
TOOL = {"name": "find", "description": "Finds.", "input_schema": {"type": "object"}, "cache_control": {"type": "x"}}
USE = {"type": "tool_use", "id": "toolu_1", "name": "find", "input": {"q": 1}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "found"}]}


def message(number: int, *blocks: dict[str, Any], **more: Any) -> dict[str, Any]:
    base = {"id": f"msg_{number}", "type": "message", "role": "assistant", "model": "claude-m-1"}
    return base | {"content": list(blocks), "stop_reason": "end_turn", "stop_sequence": None, "usage": USAGE} | more


def says(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": blocks[0] if isinstance(blocks[0], str) else list(blocks)}


def request(*said: dict[str, Any], **more: Any) -> dict[str, Any]:
    system = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    base = {"model": "claude-m", "max_tokens": 99, "system": system, "tools": [TOOL], "messages": list(said)}
    return base | {"metadata": {"user_id": "bob-4711"}} | more


def test_input_tokens_count_what_was_read_from_and_written_to_the_cache(take: Any) -> None:
    span = take(lines=[{"request": request(user("hi")), "response": message(1, says("yo"))}]).span
    assert (span["tokens_in"], span["tokens_out"]) == (3210, 7)
    assert (span["tokens_cache_read"], span["tokens_cache_write"], span["tokens_reasoning"]) == (3000, 200, None)


def test_a_call_has_prompt_answer_model_parameters_tools_and_user(take: Any) -> None:
    taken = take(lines=[{"request": request(user("hi"), temperature=0.5), "response": message(1, says("yo"), USE)}])
    span = taken.span
    assert taken.said(taken.prompt(span)) == [
        ("system", [{"type": "text", "content": "Be brief."}]),
        ("user", [{"type": "text", "content": "hi"}]),
    ]
    assert taken.said(span["output_ids"])[0][1] == [
        {"type": "text", "content": "yo"},
        {"type": "tool_call", "id": "toolu_1", "name": "find", "arguments": {"q": 1}},
    ]
    assert (span["model_requested"], span["model"], span["provider"]) == ("claude-m", "claude-m-1", "anthropic")
    assert (span["finish_reasons"], json.loads(span["params"])) == (
        ["end_turn"],
        {"max_tokens": 99, "temperature": 0.5},
    )
    tools = taken.said([span["tool_definitions_id"]])[0][1]
    function = {"name": "find", "description": "Finds.", "parameters": {"type": "object"}}
    assert tools == [{"type": "function", "function": function}]
    assert span["user_key"] is not None
    assert "bob-4711" not in taken.everything()


def test_system_text_and_system_blocks_are_the_same_prompt(take: Any) -> None:
    calls = [{"request": request(user("hi"), system=s), "response": message(1, says("yo"))} for s in ("Be brief.",)]
    calls.append({"request": request(user(says("hi"))), "response": message(1, says("yo"))})
    assert len(take(lines=calls).spans) == 1


def test_history_repeated_in_every_call_is_stored_once_with_its_tool_results(take: Any) -> None:
    said: list[dict[str, Any]] = [user("question")]
    calls = []
    for turn in range(5):
        use = {**USE, "id": f"toolu_{turn}", "input": {"q": turn}}
        blocks = [{"type": "thinking", "thinking": f"Hm {turn}.", "signature": "abc"}, use]
        calls.append({"request": request(*said), "response": message(turn, *blocks)})
        result = {**RESULT, "tool_use_id": use["id"], "content": f"found {turn}"}
        said = [*said, {"role": "assistant", "content": blocks}, user(result)]
    taken = take(lines=calls)
    assert len({span["trace_id"] for span in taken.spans}) == 1
    assert sum(len(taken.prompt(span)) for span in taken.kind("llm")) == sum(2 + 2 * turn for turn in range(5))
    assert len([row for row in taken.rows("messages") if row["role"] != "tools"]) == 1 + 1 + 5 + 4
    assert [(span["tool_name"], span["tool_result"]) for span in taken.kind("tool")] == [
        ("find", f"found {turn}") for turn in range(4)
    ]


def test_tool_results_in_the_user_role_are_messages_of_tools(take: Any) -> None:
    said = [user("hi"), {"role": "assistant", "content": [USE]}, user({**RESULT, "is_error": True}, says("and?"))]
    taken = take(lines=[{"request": request(*said), "response": message(1, says("done"))}])
    (call,), (tool,) = taken.kind("llm"), taken.kind("tool")
    assert [role for role, _ in taken.said(taken.prompt(call))] == ["system", "user", "assistant", "tool", "user"]
    assert (tool["status"], tool["tool_result"], json.loads(tool["tool_args"])) == ("error", "found", {"q": 1})


def test_thinking_images_documents_and_redacted_thinking_are_kept(take: Any) -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
    linked = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
    file = {"type": "document", "title": "T", "source": {"type": "file", "file_id": "f1"}}
    hidden = {"type": "redacted_thinking", "data": "xyz"}
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "abc"}
    call = {"request": request(user(image, linked, file)), "response": message(1, hidden, thought, says("yo"))}
    taken = take(lines=[call])
    assert taken.said(taken.span["input_ids"])[0][1] == [
        {"type": "blob", "modality": "image", "mime_type": "image/png", "content": "aGk="},
        {"type": "uri", "modality": "image", "uri": "https://example.com/a.png"},
        {"type": "file", "modality": "document", "file_id": "f1", "title": "T"},
    ]
    assert [part["type"] for part in taken.said(taken.span["output_ids"])[0][1]] == [
        "redacted_thinking",
        "reasoning",
        "text",
    ]


def test_tools_that_the_provider_ran_are_tool_spans_below_the_call(take: Any) -> None:
    search = {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"query": "rain"}}
    hits = [{"type": "web_search_result", "url": "https://example.com", "title": "Rain"}]
    found = {"type": "web_search_tool_result", "tool_use_id": "srv_1", "content": hits}
    failed = {"type": "web_search_tool_result_error", "error_code": "max_uses_exceeded"}
    broken = [search | {"id": "srv_2"}, found | {"tool_use_id": "srv_2", "content": failed}]
    taken = take(message(1, search, found, *broken, says("It rains.")))
    (call,) = taken.kind("llm")
    first, second = taken.kind("tool")
    assert first["parent_span_id"] == call["span_id"]
    assert (first["tool_name"], json.loads(first["tool_args"])) == ("web_search", {"query": "rain"})
    assert json.loads(first["tool_result"]) == hits
    assert (second["status"], second["error_type"]) == ("error", "max_uses_exceeded")
    assert [role for role, _ in taken.said(call["output_ids"])] == ["assistant"]


def test_the_wrappers_of_gateways_and_http_logs_hold_the_same_call(take: Any) -> None:
    asked, answer = request(user("hi")), message(1, says("yo"))
    wrapped = [
        {"request": asked, "response": answer},
        {**asked, "response": json.dumps(answer)},
        {"request": {"body": asked, "url": "/v1/messages"}, "response": {"status_code": 200, "body": answer}},
        {"request": {"body": asked}, "response": {"status_code": 200, "body_raw": sse(events(answer, ["yo"]))}},
    ]
    spans = [take(lines=[record], name=f"{n}.jsonl").span for n, record in enumerate(wrapped)]
    assert len({(span["trace_id"], span["span_id"]) for span in spans}) == 1
    assert [span["tokens_in"] for span in spans] == [3210] * 4
    assert len({(str(span["output_ids"]), span["params"]) for span in spans}) == 1


def test_times_of_an_http_log(take: Any) -> None:
    record = {
        "request": {"timestamp": 1_700_000_000.5, "body": request(user("hi"))},
        "response": {"timestamp": 1_700_000_002.5, "status_code": 200, "body": message(1, says("yo"))},
    }
    span = take(lines=[record]).span
    assert (span["start_ns"], span["end_ns"]) == (1_700_000_000_500_000_000, 1_700_000_002_500_000_000)


def test_the_session_that_claude_code_writes_into_the_user_id(take: Any) -> None:
    session = "0f8fad5b-d9cb-469f-a165-70867728950e"
    meta = {"user_id": f"user_abc_account__session_{session}"}
    span = take(lines=[{"request": request(user("hi"), metadata=meta), "response": message(1, says("yo"))}]).span
    assert span["session_id"] == session


def test_a_refused_request_is_an_error_without_usage(take: Any) -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    span = take(lines=[{"request": request(user("hi")), "response": error}]).span
    assert (span["status"], span["error_type"], span["error_message"]) == ("error", "overloaded_error", "Overloaded")
    assert (span["tokens_in"], span["tokens_out"], span["output_ids"]) == (None, None, [])


def test_a_bare_message_has_an_answer_and_no_prompt(take: Any) -> None:
    taken = take(message(1, says("yo")))
    assert (taken.span["input_ids"], taken.span["flags"], taken.span["tokens_in"]) == (None, ["lossy"], 3210)


def events(answer: dict[str, Any], texts: list[str]) -> list[dict[str, Any]]:
    opened = {**answer, "content": [], "stop_reason": None, "usage": {**USAGE, "output_tokens": 1}}
    listed: list[dict[str, Any]] = [
        {"type": "message_start", "message": opened},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
    ]
    for text in texts:
        listed.append({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}})
    listed.append({"type": "content_block_stop", "index": 0})
    for index, block in enumerate(answer["content"][1:], start=1):
        listed.append({"type": "content_block_start", "index": index, "content_block": {**block, "input": {}}})
        text = json.dumps(block["input"])
        for piece in (text[:3], text[3:]):
            delta = {"type": "input_json_delta", "partial_json": piece}
            listed.append({"type": "content_block_delta", "index": index, "delta": delta})
        listed.append({"type": "content_block_stop", "index": index})
    delta = {"stop_reason": answer["stop_reason"], "stop_sequence": None}
    listed.append({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 4}})
    listed.append({"type": "message_delta", "delta": {}, "usage": {"output_tokens": 7}})
    return [*listed, {"type": "message_stop"}]


def sse(listed: list[dict[str, Any]]) -> str:
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in listed)


def test_an_event_stream_is_the_message_that_it_streamed_usage_counted_once(take: Any) -> None:
    answer = message(1, says("Hello"), USE)
    streamed = take(sse(events(answer, ["Hel", "lo"])), name="stream.txt")
    whole = take(answer, name="whole.json")
    columns = ("trace_id", "span_id", "output_ids", "tokens_in", "tokens_out", "finish_reasons", "model", "flags")
    assert {c: streamed.span[c] for c in columns} == {c: whole.span[c] for c in columns}
    assert streamed.span["tokens_out"] == 7


def test_streams_that_follow_one_another_are_calls_of_their_own(take: Any) -> None:
    first, second = message(1, says("one")), message(2, says("two"))
    taken = take(lines=[*events(first, ["one"]), *events(second, ["t", "wo"])])
    assert [taken.texts(span["output_ids"]) for span in taken.spans] == [["one"], ["two"]]
    assert sum(row["n_records"] for row in taken.ledger) == len(events(first, ["x"])) + len(events(second, ["x", "y"]))


def test_a_torn_stream_is_truncated_and_its_first_count_of_output_is_none(take: Any) -> None:
    torn = events(message(1, says("Hello")), ["Hel", "lo"])[:-4]
    taken = take(sse(torn), name="stream.txt")
    assert taken.texts(taken.span["output_ids"]) == ["Hello"]
    assert (taken.span["tokens_in"], taken.span["tokens_out"]) == (3210, None)
    assert (taken.span["status"], taken.span["flags"]) == ("unset", ["lossy", "truncated"])


def test_records_that_are_no_calls_are_refused_with_their_line(take: Any) -> None:
    taken = take(lines=[message(1, says("yo")), {"type": "user"}, "{torn", message(2, says("yo"))])
    assert len(taken.spans) == 2
    assert [row["line"] for row in taken.quarantine] == [2, 3]
