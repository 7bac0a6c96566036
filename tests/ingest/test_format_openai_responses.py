"""The OpenAI Responses API: items, chains, server-side history, streams."""

import json
from pathlib import Path
from typing import Any

import pytest

from tracemill import ingest

KEYED = "0123456789abcdef"
CALL = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "find", "arguments": '{"q": 1}'}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "found"}


def says(text: str) -> dict[str, Any]:
    content = [{"type": "output_text", "annotations": [], "text": text}]
    return {"type": "message", "id": f"msg_{text}", "status": "completed", "role": "assistant", "content": content}


def response(number: int, *output: dict[str, Any], before: int | None = None, **more: Any) -> dict[str, Any]:
    found = {
        "id": f"resp_{KEYED}{number:034x}",
        "object": "response",
        "created_at": 1_700_000_000 + number,
        "status": "completed",
        "model": "m-1",
        "output": list(output),
        "instructions": None,
        "temperature": 1.0,
        "tools": [{"type": "function", "name": "find", "parameters": {"type": "object"}}],
        "previous_response_id": None if before is None else f"resp_{KEYED}{before:034x}",
        "usage": {
            "input_tokens": 10,
            "input_tokens_details": {"cached_tokens": 6},
            "output_tokens": 4,
            "output_tokens_details": {"reasoning_tokens": 3},
            "total_tokens": 14,
        },
    }
    return found | more


def record(request: dict[str, Any], answer: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    return {"request": {"model": "m", **request}, "response": answer, **more}


def test_a_call_has_its_prompt_answer_usage_parameters_and_tools(take: Any) -> None:
    thought = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]}
    answer = response(1, thought, says("Let me look."), CALL, temperature=0.5)
    taken = take(lines=[record({"instructions": "Be brief.", "input": "hi", "max_output_tokens": 9}, answer)])
    span = taken.span
    assert taken.said(taken.prompt(span)) == [
        ("system", [{"type": "text", "content": "Be brief."}]),
        ("user", [{"type": "text", "content": "hi"}]),
    ]
    assert taken.said(span["output_ids"]) == [
        (
            "assistant",
            [
                {"type": "reasoning", "content": "Hm."},
                {"type": "text", "content": "Let me look."},
                {"type": "tool_call", "id": "c1", "name": "find", "arguments": '{"q": 1}'},
            ],
        )
    ]
    assert (span["tokens_in"], span["tokens_cache_read"], span["tokens_out"], span["tokens_reasoning"]) == (10, 6, 4, 3)
    assert (span["model_requested"], span["model"], span["status"]) == ("m", "m-1", "ok")
    assert json.loads(span["params"]) == {"temperature": 0.5, "max_output_tokens": 9}
    assert (span["start_ns"], span["flags"]) == (1_700_000_001_000_000_000, [])
    assert span["tool_definitions_id"] is not None


def test_history_repeated_as_items_is_stored_once(take: Any) -> None:
    said: list[dict[str, Any]] = []
    calls = []
    for turn in range(6):
        said = [*said, {"role": "user", "content": f"question {turn}"}]
        answer = [says(f"looking {turn}"), {**CALL, "call_id": f"c{turn}"}]
        calls.append(record({"input": said, "instructions": "Be brief."}, response(turn, *answer)))
        said = [*said, *answer, {**RESULT, "call_id": f"c{turn}", "output": f"found {turn}"}]
    taken = take(lines=calls)
    assert len({span["trace_id"] for span in taken.spans}) == 1
    assert sum(len(taken.prompt(span)) for span in taken.kind("llm")) == sum(2 + 3 * turn for turn in range(6))
    assert len([row for row in taken.rows("messages") if row["role"] != "tools"]) == 1 + 6 + 6 + 5
    assert [span["tool_result"] for span in taken.kind("tool")] == [f"found {turn}" for turn in range(5)]
    assert {span["tool_name"] for span in taken.kind("tool")} == {"find"}


def test_a_chain_in_one_file_is_one_trace_with_its_prompts_put_together(take: Any) -> None:
    first = record({"instructions": "Old.", "input": "hi"}, response(1, CALL))
    second = record({"instructions": "New.", "input": [RESULT]}, response(2, says("done"), before=1))
    third = record({"input": "more"}, response(3, says("end"), before=2))
    taken = take(lines=[first, second, third])
    calls = taken.kind("llm")
    assert len({span["trace_id"] for span in taken.spans}) == 1
    assert [len(taken.prompt(span)) for span in calls] == [2, 4, 5]
    assert taken.texts(calls[1]["system_ids"]) == ["New."]
    assert calls[2]["system_ids"] is None
    assert calls[2]["input_ids"] == [*calls[1]["input_ids"], *calls[1]["output_ids"], calls[2]["input_ids"][-1]]
    assert all("history_external" not in span["flags"] for span in calls)
    (tool,) = taken.kind("tool")
    assert (tool["tool_name"], tool["tool_result"]) == ("find", "found")


def test_history_that_only_the_server_keeps_is_flagged_and_the_trace_is_still_the_same(take: Any) -> None:
    answers = [response(1, says("a")), response(2, says("b"), before=1), response(3, says("c"), before=2)]
    spans = [take(lines=[record({"input": "x"}, answer)], name=f"{n}.jsonl").span for n, answer in enumerate(answers)]
    assert len({span["trace_id"] for span in spans}) == 1
    assert [span["flags"] for span in spans] == [[], ["history_external"], ["history_external"]]


def test_foreign_ids_are_chained_by_what_the_file_holds(take: Any) -> None:
    one = response(1, says("a"), id="resp_one")
    two = response(2, says("b"), id="resp_two", previous_response_id="resp_one")
    three = response(3, says("c"), id="resp_three", previous_response_id="resp_two")
    together = take(lines=[record({"input": "x"}, answer) for answer in (one, two, three)])
    assert len({span["trace_id"] for span in together.spans}) == 1
    alone = take(lines=[record({"input": "x"}, two)], name="two.jsonl").span
    assert alone["trace_id"] == together.spans[0]["trace_id"]
    assert alone["span_id"] == together.spans[1]["span_id"]


def test_a_conversation_is_a_session_and_one_trace_with_external_history(take: Any) -> None:
    held = {"conversation": {"id": f"conv_{'1' * 32}{KEYED}"}}
    taken = take(lines=[record({"input": "x"}, response(n, says("a"), **held)) for n in (1, 2)])
    assert {span["session_id"] for span in taken.spans} == {held["conversation"]["id"]}
    assert len({span["trace_id"] for span in taken.spans}) == 1
    assert all(span["flags"] == ["history_external"] for span in taken.spans)
    assert taken.spans[0]["trace_id"] == take(response(3, says("b")), name="3.json").span["trace_id"]


def test_bare_responses_have_instructions_and_no_prompt(take: Any) -> None:
    taken = take(response(1, says("a"), instructions="Be brief."))
    assert (taken.span["input_ids"], taken.span["flags"]) == (None, ["lossy"])
    assert taken.texts(taken.span["system_ids"]) == ["Be brief."]


def test_tools_that_the_provider_ran_are_tool_spans_below_the_call(take: Any) -> None:
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"query": "rain"}}
    mcp = {"type": "mcp_call", "id": "mcp_1", "name": "roll", "arguments": "{}", "output": "4", "error": None}
    taken = take(response(1, search, mcp, says("It rains.")))
    (call,) = taken.kind("llm")
    first, second = taken.kind("tool")
    assert first["parent_span_id"] == second["parent_span_id"] == call["span_id"]
    assert (first["tool_name"], json.loads(first["tool_args"])) == ("web_search", {"query": "rain"})
    assert (second["tool_name"], second["tool_result"]) == ("roll", "4")
    assert [part["type"] for part in taken.said(call["output_ids"])[0][1]] == [
        "server_tool_call",
        "server_tool_call",
        "text",
    ]


def test_a_failed_call_is_an_error_without_usage(take: Any) -> None:
    error = {"code": "server_error", "message": "try again"}
    broken = response(1, status="failed", error=error, usage=None)
    refused = record({"input": "hi"}, None, error={"type": "rate_limit", "message": "slow down"})
    first, second = take(lines=[record({"input": "hi"}, broken), refused]).spans
    assert (first["status"], first["error_type"], first["error_message"]) == ("error", "server_error", "try again")
    assert (first["tokens_in"], first["tokens_out"], first["output_ids"]) == (None, None, [])
    assert (second["status"], second["error_type"], second["tokens_in"]) == ("error", "rate_limit", None)


def test_an_incomplete_answer_says_why(take: Any) -> None:
    details = {"incomplete_details": {"reason": "max_output_tokens"}}
    span = take(response(1, says("a"), status="incomplete", **details)).span
    assert (span["status"], span["finish_reasons"]) == ("ok", ["max_output_tokens"])


def events(number: int, *pieces: str) -> list[dict[str, Any]]:
    item = {"type": "message", "id": f"msg_{number}", "role": "assistant", "content": []}
    opened = response(number, status="in_progress", usage=None)
    listed: list[dict[str, Any]] = [
        {"type": "response.created", "response": opened},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
    ]
    for piece in pieces:
        where = {"item_id": item["id"], "output_index": 0, "content_index": 0}
        listed.append({"type": "response.output_text.delta", **where, "delta": piece})
    whole = response(number, says("".join(pieces)))
    listed.append({"type": "response.completed", "response": whole})
    return [{**event, "sequence_number": at} for at, event in enumerate(listed)]


def stream(listed: list[dict[str, Any]]) -> str:
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in listed)


def test_event_streams_are_the_response_that_they_stream(take: Any) -> None:
    taken = take(stream(events(1, "Hel", "lo")), name="response.txt")
    whole = take(response(1, says("Hello")), name="whole.json")
    assert {k: v for k, v in taken.span.items() if not k.startswith("source")} == {
        k: v for k, v in whole.span.items() if not k.startswith("source")
    }
    assert [row["n_records"] for row in taken.ledger] == [5]


def test_interleaved_streams_in_json_lines_are_told_apart(take: Any) -> None:
    one, two = events(1, "a", "b"), events(2, "c", "d")
    mixed = [event for pair in zip(one, two, strict=True) for event in pair]
    taken = take(lines=mixed)
    assert [taken.texts(span["output_ids"]) for span in taken.spans] == [["ab"], ["cd"]]
    assert [span["tokens_in"] for span in taken.spans] == [10, 10]


def test_a_torn_stream_gives_what_was_said_and_no_usage(take: Any) -> None:
    taken = take(stream(events(1, "Hel", "lo")[:-1]) + "data: {torn", name="response.txt")
    span = taken.span
    assert taken.texts(span["output_ids"]) == ["Hello"]
    assert (span["tokens_in"], span["tokens_out"], span["status"]) == (None, None, "unset")
    assert span["flags"] == ["lossy", "truncated"]
    assert [row["line"] for row in taken.quarantine] == [13]


def test_a_stream_kept_as_text_in_a_record_is_read(take: Any) -> None:
    taken = take(lines=[record({"input": "hi"}, None) | {"response": stream(events(1, "Hel", "lo"))}])
    assert taken.texts(taken.span["output_ids"]) == ["Hello"]
    assert taken.texts(taken.prompt(taken.span)) == ["hi"]


def test_records_that_are_no_calls_are_refused_with_their_line(take: Any) -> None:
    taken = take(lines=[response(1, says("a")), {"object": "list"}, "[]torn", response(2, says("b"))])
    assert len(taken.spans) == 2
    assert [row["line"] for row in taken.quarantine] == [2, 3]


@pytest.mark.data
def test_real_responses_and_their_streams_have_the_providers_usage(data: Path) -> None:
    found = {}
    for name in ("Responses", "Conversations"):
        sources = ingest.find([data / "ms-agent-framework" / name])
        for batch in ingest.batches(sources, key=b"k" * 32, now_ns=1):
            for span in batch.tables["spans"].to_pylist():
                if span["source_format"] == "openai-responses":
                    found[span["source_uri"].split("ms-agent-framework/")[1]] = span
    truth = {}
    for path, span in found.items():
        text = (data / "ms-agent-framework" / path).read_text()
        last = json.loads(text.strip().rsplit("data: ", 1)[-1]) if path.endswith(".txt") else json.loads(text)
        usage = last.get("response", last)["usage"]
        truth[path] = (usage["input_tokens"], usage["output_tokens"])
        assert (span["tokens_in"], span["tokens_out"]) == truth[path], path
        assert span["status"] == "ok"
        assert span["output_ids"]
    assert len(truth) == 21
    pair = [found[f"Conversations/basic/{name}_message_response.json"] for name in ("first", "second")]
    assert pair[0]["trace_id"] == pair[1]["trace_id"]
