"""MLflow traces of both versions, written by hand after mlflow 3.17's own exports."""

import base64
import csv
import io
import json
from typing import Any

USER = "somebody-known"
TRACE = "3666b3a379e45f9a0d0feecce925a79e"


def b64(text: str) -> str:
    return base64.b64encode(bytes.fromhex(text)).decode()


def span(number: int, parent: int | None = None, **fields: Any) -> dict[str, Any]:
    attributes = fields.pop("attributes", {})
    return {
        "trace_id": b64(TRACE),
        "span_id": b64(f"{number:016x}"),
        "parent_span_id": None if parent is None else b64(f"{parent:016x}"),
        "name": f"span {number}",
        "start_time_unix_nano": 1_767_225_600_000_000_000 + number,
        "end_time_unix_nano": 1_767_225_600_812_000_000,
        "events": [],
        "status": {"code": "STATUS_CODE_OK", "message": ""},
        "attributes": {name: json.dumps(value) for name, value in attributes.items()},
        "links": [],
    } | fields


INFO = {
    "trace_id": f"tr-{TRACE}",
    "client_request_id": "req-1",
    "trace_location": {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "1"}},
    "request_time": "2026-01-01T00:00:00Z",
    "execution_duration_ms": 812,
    "state": "OK",
    "trace_metadata": {
        "mlflow.trace.session": "s-1",
        "mlflow.trace.user": USER,
        "mlflow.user": USER,
        "mlflow.trace.tokenUsage": '{"input_tokens": 12, "output_tokens": 3, "total_tokens": 15}',
    },
    "tags": {"mlflow.traceName": "desk", "mlflow.linkedPrompts": '[{"name": "greet", "version": "2"}]'},
}
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
CALLS = [{"id": "c-1", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}}]
SPANS = [
    span(1, attributes={"mlflow.spanType": "AGENT", "mlflow.spanInputs": {"q": "hi"}, "mlflow.spanOutputs": "done"}),
    span(2, 1, attributes={
        "mlflow.spanType": "CHAT_MODEL",
        "mlflow.spanInputs": {"model": "gpt-4o", "temperature": 0.2, "messages": MESSAGES},
        "mlflow.spanOutputs": {
            "id": "chatcmpl-1", "model": "gpt-4o-2024",
            "choices": [{"finish_reason": "tool_calls",
                         "message": {"role": "assistant", "content": None, "tool_calls": CALLS}}],
        },
        "mlflow.chat.tools": [{"type": "function", "function": {"name": "look", "parameters": {}}}],
        "mlflow.chat.tokenUsage": {"input_tokens": 12, "output_tokens": 3, "total_tokens": 15},
    }),
    span(3, 1, name="look", status={"code": "STATUS_CODE_ERROR", "message": "ValueError: no"},
         attributes={"mlflow.spanType": "TOOL", "mlflow.spanInputs": {"a": 1}},
         events=[{"name": "exception", "time_unix_nano": 1, "attributes": {"exception.type": "ValueError"}}]),
]  # fmt: skip


def trace(spans: Any = SPANS, **info: Any) -> dict[str, Any]:
    return {"info": INFO | info, "data": {"spans": spans}}


def test_a_trace_is_read_with_its_session_and_user(take: Any) -> None:
    taken = take(trace(), name="trace.json")
    root, call, tool = taken.spans
    assert [(s["trace_id"], s["span_id"]) for s in taken.spans] == [(TRACE, f"{n:016x}") for n in (1, 2, 3)]
    assert (root["kind"], root["parent_span_id"], call["parent_span_id"]) == ("agent", None, f"{1:016x}")
    assert {s["session_id"] for s in taken.spans} == {"s-1"}
    assert len({s["user_key"] for s in taken.spans}) == 1
    assert USER not in taken.everything()
    assert (root["prompt_name"], root["prompt_version"], root["status"]) == ("greet", "2", "ok")
    assert (call["start_ns"], call["end_ns"]) == (1_767_225_600_000_000_002, 1_767_225_600_812_000_000)
    assert (tool["tool_name"], json.loads(tool["tool_args"]), tool["status"]) == ("look", {"a": 1}, "error")
    assert tool["error_type"] == "ValueError"
    assert json.loads(root["attributes"])["mlflow.info"]["client_request_id"] == "req-1"
    assert taken.quarantine == []


def test_every_attribute_is_decoded_and_usage_of_the_trace_counts_once(take: Any) -> None:
    taken = take(trace(), name="trace.json")
    root, call, _ = taken.spans
    assert [role for role, _ in taken.said(taken.prompt(call))] == ["system", "user"]
    assert taken.said(call["output_ids"]) == [
        ("assistant", [{"type": "tool_call", "id": "c-1", "name": "look", "arguments": '{"a": 1}'}])
    ]
    assert (call["model_requested"], call["model"], json.loads(call["params"])) == (
        "gpt-4o",
        "gpt-4o-2024",
        {"temperature": 0.2},
    )
    assert (call["tokens_in"], call["tokens_out"], root["tokens_in"]) == (12, 3, None)
    ((_, tools),) = taken.said([call["tool_definitions_id"]])
    assert [tool["function"]["name"] for tool in tools] == ["look"]


def test_version_2_is_read(take: Any) -> None:
    old = {
        "name": "agent",
        "context": {"span_id": "0x00000000000000aa", "trace_id": "0x" + "b" * 32},
        "parent_id": None,
        "start_time": 1_767_225_600_000_000_000,
        "end_time": 1_767_225_601_000_000_000,
        "status_code": "ERROR",
        "status_message": "no",
        "attributes": {"mlflow.spanType": '"CHAIN"', "mlflow.spanInputs": '{"q": "hi"}'},
        "events": [{"name": "exception", "timestamp": 1, "attributes": {"exception.type": "KeyError"}}],
    }
    info = {"request_id": f"tr-{TRACE}", "timestamp_ms": 1_767_225_600_000, "execution_time_ms": 5, "status": "ERROR"}
    info["request_metadata"] = [{"key": "mlflow.trace.session", "value": "s-2"}]
    found = take({"info": info, "data": {"spans": [old]}}, name="trace.json").span
    assert (found["trace_id"], found["span_id"], found["session_id"]) == (TRACE, "00000000000000aa", "s-2")
    assert (found["status"], found["error_message"], found["error_type"]) == ("error", "no", "KeyError")


def test_chunk_events_are_the_answer(take: Any) -> None:
    events = [
        {"name": f"mlflow.chunk.item.{at}", "time_unix_nano": at + 1,
         "attributes": {"mlflow.chunk.value": json.dumps(json.dumps({"choices": [{"delta": {"content": text}}]}))}}
        for at, text in ((1, "lo"), (0, "hel"))
    ]  # fmt: skip
    words = [
        dict(event, attributes={"mlflow.chunk.value": json.dumps(text)})
        for event, text in zip(events, ("lo", "hel"), strict=True)
    ]
    rows = [span(n, attributes={"mlflow.spanType": "LLM"}, events=given) for n, given in ((1, events), (2, words))]
    taken = take(trace(rows), name="trace.json")
    assert [taken.texts(found["output_ids"]) for found in taken.spans] == [["hello"], ["hello"]]


ASSESSMENT = {"trace_id": f"tr-{TRACE}", "create_time": "2026-01-02T00:00:00Z", "valid": True}
HUMAN, JUDGE = {"source_type": "HUMAN", "source_id": "bob"}, {"source_type": "LLM_JUDGE", "source_id": "gpt"}


def test_assessments_are_scores(take: Any) -> None:
    given = [
        {"assessment_name": "good", "source": HUMAN, "feedback": {"value": True}, "rationale": "why"},
        {"assessment_name": "relevant", "source": JUDGE, "feedback": {"value": "no"}, "span_id": b64(f"{2:016x}")},
        {"assessment_name": "grade", "source": JUDGE, "feedback": {"value": 7}},
        {"assessment_name": "tone", "source": {"source_type": "CODE"}, "feedback": {"value": "warm"}},
        {"assessment_name": "broken", "source": JUDGE, "feedback": {"error": {"error_code": "TIMEOUT"}}},
        {"assessment_name": "expected_response", "source": HUMAN, "expectation": {"value": "Hello"}},
        {"assessment_name": "replaced", "source": HUMAN, "feedback": {"value": 0}, "valid": False},
        {"assessment_name": "empty", "source": HUMAN},
    ]
    taken = take(trace(assessments=[ASSESSMENT | one for one in given]), name="trace.json")
    scores = taken.scores
    assert [(s["target_kind"], s["name"], s["value"], s["label"], s["source"], s["version"]) for s in scores] == [
        ("trajectory", "good", 1.0, None, "human", None),
        ("span", "relevant", 0.0, "no", "llm", "gpt"),
        ("trajectory", "grade", 7.0, None, "llm", "gpt"),
        ("trajectory", "tone", None, "warm", "code", None),
        ("trajectory", "broken", None, None, "llm", "gpt"),
        ("trajectory", "correction", None, "Hello", "human", None),
    ]
    assert [s["target_id"] for s in scores][:2] == [TRACE, f"{2:016x}"]
    assert (scores[0]["user_key"] is not None, scores[0]["at"]) == (True, 1_767_312_000_000_000_000)
    assert json.loads(scores[0]["evidence"])["rationale"] == "why"
    assert [row["reason"] for row in taken.quarantine] == [
        "an assessment without name, or with neither feedback nor expectation"
    ]


def test_a_trace_whose_spans_are_elsewhere_is_its_previews(take: Any) -> None:
    found = take(trace([], request_preview="q" * 1000, response_preview="short"), name="trace.json").span
    assert (found["name"], found["status"], found["session_id"]) == ("desk", "ok", "s-1")
    assert (found["start_ns"], found["end_ns"]) == (1_767_225_600_000_000_000, 1_767_225_600_812_000_000)
    assert found["flags"] == ["lossy", "truncated"]


def test_tables_of_search_traces_are_read(take: Any) -> None:
    columns = {name: json.dumps(value) for name, value in INFO.items()} | {"spans": json.dumps(SPANS)}
    columns["trace_id"] = str(INFO["trace_id"])
    out = io.StringIO()
    writer = csv.DictWriter(out, columns)
    writer.writeheader()
    writer.writerow(columns)
    for content, name in ((out.getvalue(), "t.csv"), (json.dumps([columns]), "t.json")):
        taken = take(content, name=name)
        assert taken.ledger[0]["source_format"] == "mlflow"
        assert [s["kind"] for s in taken.spans] == ["agent", "llm", "tool"]
        assert {s["session_id"] for s in taken.spans} == {"s-1"}
    whole = columns | {"trace": json.dumps(trace())}
    assert [s["kind"] for s in take([whole], name="t.json").spans] == ["agent", "llm", "tool"]


def test_bad_spans_and_traces_keep_to_themselves(take: Any) -> None:
    nameless = {"name": "no id", "attributes": {}}
    taken = take(lines=[trace([SPANS[0], nameless]), {"info": {"x": 1}, "data": {}}, trace(trace_id="tr-" + "1" * 32)])
    assert len(taken.spans) == 4
    assert [(row["line"], row["reason"]) for row in taken.quarantine] == [
        (1, "the span has no valid span id"),
        (2, "no MLflow trace: info is missing or has no trace_id"),
    ]


def test_an_assessment_that_is_none_is_refused_and_not_dropped(take: Any) -> None:
    taken = take(lines=[trace(assessments=["junk"])])
    assert [(row["reason"], row["excerpt"]) for row in taken.quarantine] == [
        ("an assessment that is no JSON object", "junk")
    ]
