"""Batch APIs of OpenAI and Anthropic: answers, requests, and how they find each other."""

import json
from pathlib import Path
from typing import Any

import pytest

from tracemill import ingest

KEY = b"k" * 32
USAGE = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}


def asked(custom_id: str, text: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]
    tools = [{"type": "function", "function": {"name": "find"}}]
    body = {"model": "m", "messages": messages, "temperature": 0.5, "tools": tools, "user": "bob-4711", **more}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}


def answered(custom_id: str, text: str, number: int, **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    choices = [{"index": 0, "finish_reason": "stop", "message": message}]
    body = {"id": f"chatcmpl-{number}", "object": "chat.completion", "created": 1_700_000_000, "model": "m-1"}
    response = {"status_code": 200, "request_id": f"r{number}", "body": body | {"choices": choices, "usage": USAGE}}
    return {"id": f"batch_req_{number}", "custom_id": custom_id, "response": response, "error": None} | more


@pytest.fixture
def together(tmp_path: Path) -> Any:
    """Takes in several files at once: path to lines."""

    def run(**files: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
        for name, lines in files.items():
            path = tmp_path / name.replace("__", "/")
            path.parent.mkdir(exist_ok=True)
            path.with_suffix(".jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (batch,) = ingest.batches(ingest.find([tmp_path]), key=KEY, now_ns=1)
        return {name: table.to_pylist() for name, table in batch.tables.items()}

    return run


def texts(rows: dict[str, list[dict[str, Any]]], span: dict[str, Any]) -> list[str]:
    known = {row["message_id"]: row["text"] for row in rows["messages"]}
    return [known[i] for i in [*(span["system_ids"] or ()), *(span["input_ids"] or ()), *(span["output_ids"] or ())]]


def test_an_output_line_alone_is_a_call_without_its_prompt(take: Any) -> None:
    span = take(lines=[answered("request-1", "yo", 1)]).span
    assert (span["kind"], span["tokens_in"], span["tokens_out"], span["model"]) == ("llm", 10, 4, "m-1")
    assert (span["input_ids"], span["flags"], span["status"]) == (None, ["lossy"], "ok")
    assert json.loads(span["attributes"])["custom_id"] == "request-1"
    assert span["task_key"] is None


def test_requests_and_answers_taken_in_together_are_whole_calls_in_any_order(together: Any) -> None:
    rows = together(
        a_output=[answered("request-2", "two", 2), answered("request-1", "one", 1)],
        b_input=[asked("request-1", "first"), asked("request-2", "second"), asked("request-3", "third")],
    )
    calls = [span for span in rows["spans"] if span["kind"] == "llm"]
    assert sorted(texts(rows, span) for span in calls) == [
        ["Be brief.", "first", "one"],
        ["Be brief.", "second", "two"],
    ]
    for span in calls:
        assert (span["model_requested"], json.loads(span["params"]), span["flags"]) == ("m", {"temperature": 0.5}, [])
        assert span["tool_definitions_id"] is not None
        assert span["user_key"] is not None
        days = {row["message_id"] for row in rows["messages"] if row["day"] == span["day"]}
        assert set(span["input_ids"]) <= days
    (waiting,) = [span for span in rows["spans"] if span["kind"] == "event"]
    assert (waiting["name"], waiting["flags"]) == ("batch request", ["unanswered"])
    assert texts(rows, waiting) == ["Be brief.", "third"]
    ledger = {
        row["source_uri"].rsplit("/", 1)[-1]: (row["n_records"], row["n_duplicates"]) for row in rows["ingest_log"]
    }
    assert ledger == {"a_output.jsonl": (2, 0), "b_input.jsonl": (3, 2)}


def test_the_same_custom_ids_in_two_batches_are_kept_apart_by_their_folders(together: Any) -> None:
    rows = together(
        monday__input=[asked("request-1", "first")],
        monday__output=[answered("request-1", "one", 1)],
        tuesday__input=[asked("request-1", "second")],
        tuesday__output=[answered("request-1", "two", 2)],
    )
    assert sorted(texts(rows, span) for span in rows["spans"]) == [
        ["Be brief.", "first", "one"],
        ["Be brief.", "second", "two"],
    ]


def test_where_a_custom_id_is_in_doubt_nothing_is_joined(together: Any) -> None:
    rows = together(
        a_input=[asked("request-1", "first")],
        b_input=[asked("request-1", "second")],
        c_output=[answered("request-1", "one", 1), answered("request-1", "two", 2)],
    )
    assert sorted(texts(rows, span) for span in rows["spans"]) == [
        ["Be brief.", "first"],
        ["Be brief.", "second"],
        ["one"],
        ["two"],
    ]


def test_failed_lines_are_errors_without_usage(take: Any) -> None:
    refused = {"error": {"message": "bad model", "type": "invalid_request_error"}}
    lines = [
        answered("a", "x", 1, response={"status_code": 400, "request_id": "r", "body": refused}),
        answered("b", "x", 2, response=None, error={"code": "batch_expired", "message": "too late"}),
    ]
    first, second = take(lines=lines).spans
    assert (first["status"], first["error_type"], first["tokens_in"]) == ("error", "invalid_request_error", None)
    assert (second["status"], second["error_type"], second["output_ids"]) == ("error", "batch_expired", [])


def test_a_batch_of_the_responses_api(together: Any) -> None:
    item = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "yo"}]}
    usage = {"input_tokens": 3, "output_tokens": 2}
    body = {"id": "resp_1", "object": "response", "status": "completed", "output": [item], "usage": usage}
    body |= {"instructions": "Be brief.", "model": "m-1"}
    line = {"id": "batch_req_1", "custom_id": "a", "response": {"status_code": 200, "body": body}, "error": None}
    request = {"model": "m", "input": "hi", "instructions": "Be brief."}
    rows = together(
        input=[{"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": request}], output=[line]
    )
    (span,) = rows["spans"]
    assert texts(rows, span) == ["Be brief.", "hi", "yo"]
    assert (span["tokens_in"], span["flags"]) == (3, [])


def test_lines_that_are_none_of_a_batch_are_refused(take: Any) -> None:
    taken = take(lines=[answered("a", "x", 1), {"custom_id": "b"}, "{torn"])
    assert len(taken.spans) == 1
    assert [row["line"] for row in taken.quarantine] == [2, 3]


def result(custom_id: str, kind: str, **more: Any) -> dict[str, Any]:
    return {"custom_id": custom_id, "result": {"type": kind, **more}}


def test_results_of_an_anthropic_batch(together: Any) -> None:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-m", "stop_reason": "end_turn"}
    message["content"] = [{"type": "text", "text": "yo"}]
    message["usage"] = {"input_tokens": 3, "cache_read_input_tokens": 20, "output_tokens": 2}
    error = {"type": "error", "error": {"type": "invalid_request_error", "message": "max_tokens: required"}}
    params = {"model": "claude-m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    requests = [{"custom_id": name, "params": params} for name in ("a", "b")]
    rows = together(
        requests=[{"requests": requests}],
        results=[
            result("a", "succeeded", message=message),
            result("b", "errored", error=error),
            result("c", "canceled"),
            result("d", "expired"),
        ],
    )
    spans = {json.loads(span["attributes"])["custom_id"]: span for span in rows["spans"]}
    assert texts(rows, spans["a"]) == ["hi", "yo"]
    assert (spans["a"]["tokens_in"], spans["a"]["status"], spans["a"]["flags"]) == (23, "ok", [])
    assert json.loads(spans["a"]["params"]) == {"max_tokens": 9}
    assert {k: (span["status"], span["error_type"], span["tokens_in"]) for k, span in spans.items() if k != "a"} == {
        "b": ("error", "invalid_request_error", None),
        "c": ("error", "canceled", None),
        "d": ("error", "expired", None),
    }
    assert texts(rows, spans["b"]) == ["hi"]
