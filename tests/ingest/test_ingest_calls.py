"""Chat-completions logs: calls, bare responses, bare conversations."""

import json
from typing import Any

SYSTEM = {"role": "system", "content": "Be brief."}
HELLO = {"role": "user", "content": [{"type": "text", "text": "hi"}]}
TOOL_CALL = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"q": 1}'}}
ASKS = {"role": "assistant", "content": "Let me look.", "tool_calls": [TOOL_CALL]}
RESULT = {"role": "tool", "tool_call_id": "c1", "name": "find", "content": [{"type": "text", "text": "found"}]}
TOOLS = [{"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}]


def call(messages: list[dict[str, Any]], answer: dict[str, Any] | None, number: int = 0, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": "stop", "message": answer}
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 4,
        "prompt_tokens_details": {"cached_tokens": 6},
        "completion_tokens_details": {"reasoning_tokens": 1},
        "cache_creation_input_tokens": 0,
    }
    response = {"id": f"r{number}", "object": "chat.completion", "model": "m-1", "choices": [choice], "usage": usage}
    base = {"messages": messages, "tools": TOOLS, "response": response, "cost": 0.5, "timestamp": 1_700_000_010.5}
    return base | {"kwargs": {"temperature": 0.0, "tools": TOOLS}, "latency_sec": 2.5} | more


def test_a_call_has_model_usage_cost_times_and_parameters(take: Any) -> None:
    taken = take(lines=[call([SYSTEM, HELLO], {"role": "assistant", "content": "yo"})])
    span = taken.span
    assert taken.texts(taken.prompt(span)) == ["Be brief.", "hi"]
    assert taken.texts(span["system_ids"]) == ["Be brief."]
    assert taken.texts(span["output_ids"]) == ["yo"]
    assert (span["tokens_in"], span["tokens_out"], span["tokens_cache_read"], span["tokens_reasoning"]) == (10, 4, 6, 1)
    assert (span["tokens_cache_write"], span["cost_usd"], span["model"]) == (0, 0.5, "m-1")
    assert (span["start_ns"], span["end_ns"]) == (1_700_000_008_000_000_000, 1_700_000_010_500_000_000)
    assert (span["status"], span["finish_reasons"]) == ("ok", ["stop"])
    assert json.loads(span["params"]) == {"temperature": 0.0}
    assert span["tool_definitions_id"] is not None


def test_calls_that_extend_one_another_are_one_trace_whatever_file_they_are_in(take: Any) -> None:
    first = call([SYSTEM, HELLO], ASKS, 1)
    second = call([SYSTEM, HELLO, ASKS, RESULT], {"role": "assistant", "content": "done"}, 2)
    other = call([SYSTEM, {"role": "user", "content": "bye"}], {"role": "assistant", "content": "bye"}, 3)
    together = take(lines=[first, second, other])
    apart = [take(one, name=f"{n}.json").spans for n, one in enumerate((second, first))]
    calls = together.kind("llm")
    assert calls[0]["trace_id"] == calls[1]["trace_id"] != calls[2]["trace_id"]
    assert [span["seq"] for span in calls] == [2, 4, 2]
    assert {span["span_id"] for spans in apart for span in spans} < {span["span_id"] for span in together.spans}
    (tool,) = together.kind("tool")
    assert (tool["tool_name"], tool["tool_call_id"], tool["tool_result"]) == ("find", "c1", "found")
    assert json.loads(tool["tool_args"]) == {"q": 1}
    assert tool["trace_id"] == calls[0]["trace_id"]


def test_the_same_first_words_in_another_session_are_another_trace(take: Any) -> None:
    calls = [call([SYSTEM, HELLO], ASKS, n, session_id=f"s{n}") for n in range(2)]
    first, second = take(lines=calls).spans
    assert (first["session_id"], second["session_id"]) == ("s0", "s1")
    assert first["trace_id"] != second["trace_id"]


def test_history_repeated_in_every_call_is_stored_once(take: Any) -> None:
    said: list[dict[str, Any]] = [SYSTEM]
    calls = []
    for turn in range(10):
        said = [*said, {"role": "user", "content": f"question {turn}"}]
        answer = {"role": "assistant", "content": f"answer {turn}"}
        calls.append(call(said, answer, turn))
        said = [*said, answer]
    taken = take(lines=calls)
    assert sum(len(taken.prompt(span)) for span in taken.spans) == 110
    assert len([row for row in taken.rows("messages") if row["role"] != "tools"]) == 21


def test_request_and_response_pairs(take: Any) -> None:
    request = {"model": "m", "messages": [SYSTEM, HELLO], "temperature": 0.5, "user": "bob-4711"}
    record = {"request": request, "response": call([], ASKS)["response"], "start_time": "2023-11-14T22:13:20Z"}
    taken = take(lines=[record, record | {"response": json.dumps(record["response"])}])
    span = taken.spans[0]
    assert (span["model_requested"], span["model"], span["start_ns"]) == ("m", "m-1", 1_700_000_000_000_000_000)
    assert json.loads(span["params"]) == {"temperature": 0.5}
    assert span["user_key"] is not None
    assert "bob-4711" not in taken.everything()
    assert len(taken.spans) == 1  # the second is the same call, its response written as text


def test_a_bare_response_has_an_answer_and_no_prompt(take: Any) -> None:
    taken = take(call([], {"role": "assistant", "content": "yo"})["response"])
    assert (taken.span["input_ids"], taken.span["flags"]) == (None, ["lossy"])
    assert taken.texts(taken.span["output_ids"]) == ["yo"]


def test_a_failed_call_is_an_error_and_not_an_empty_answer(take: Any) -> None:
    failed = {"messages": [HELLO], "response": None, "error": {"type": "rate_limit", "message": "slow down"}}
    span = take(lines=[failed]).span
    assert (span["status"], span["error_type"], span["error_message"]) == ("error", "rate_limit", "slow down")
    assert (span["output_ids"], span["tokens_in"], span["cost_usd"], span["start_ns"]) == ([], None, None, None)


def test_token_ids_and_logprobs_of_a_server_that_returns_them(take: Any) -> None:
    record = call([HELLO], {"role": "assistant", "content": "yo"})
    record["response"]["prompt_token_ids"] = [1, 2]
    record["response"]["choices"][0] |= {"token_ids": [3], "logprobs": {"content": [{"token": "yo", "logprob": -0.25}]}}
    span = take(lines=[record]).span
    assert (span["input_token_ids"], span["output_token_ids"], span["output_logprobs"]) == ([1, 2], [3], [-0.25])


def test_a_list_of_messages_is_one_conversation_of_llm_and_tool_spans(take: Any) -> None:
    messages = [SYSTEM, HELLO, ASKS, RESULT, {"role": "assistant", "content": "done"}]
    taken = take(json.dumps(messages, indent=1), name="chat.json")
    root, first, tool, last = taken.spans
    assert [span["kind"] for span in taken.spans] == ["agent", "llm", "tool", "llm"]
    assert {span["parent_span_id"] for span in (first, tool, last)} == {root["span_id"]}
    assert [len(taken.prompt(span)) for span in (first, last)] == [2, 4]
    assert taken.texts(last["output_ids"]) == ["done"]
    assert "synthetic" in root["flags"]
    lines = take(lines=messages, name="chat.jsonl")
    assert [span["span_id"] for span in lines.spans] == [span["span_id"] for span in taken.spans]
    two = take(lines=[messages, [SYSTEM, HELLO, messages[-1]]], name="two.jsonl")
    assert len({span["trace_id"] for span in two.spans}) == 2


def test_where_a_model_without_tools_was_asked_its_own_words_are_the_output(take: Any) -> None:
    raw = call([HELLO], {"role": "assistant", "content": "<function=find>"})["response"]
    taken = take(lines=[call([HELLO], ASKS, raw_messages=[HELLO], raw_response=raw)])
    assert taken.texts(taken.span["output_ids"]) == ["<function=find>"]
    assert "lossy" in taken.span["flags"]
