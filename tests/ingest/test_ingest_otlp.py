"""OTLP envelopes, JSON and protobuf, and what their spans become."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.json_format import MessageToJson, ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tracemill.ingest.limits import Limits

TRACE = "0af7651916cd43dd8448eb211c80319c"
Make = Callable[..., dict[str, Any]]
CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "gpt-4",
    "gen_ai.input.messages": '[{"role":"user","parts":[{"type":"text","content":"Weather in Paris?"}]}]',
    "gen_ai.output.messages": '[{"role":"assistant","finish_reason":"stop","parts":[{"type":"text","content":"Wet"}]}]',
    "gen_ai.usage.input_tokens": 97,
    "custom": {"nested": [1, 2.5, True]},
}
VARIES = ("source_uri", "source_line", "source_format", "ingested_at")


def same(span: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in span.items() if name not in VARIES}


@pytest.fixture
def request_json(otlp: Make, request_of: Make) -> dict[str, Any]:
    failed = {"status": {"code": 2, "message": "boom"}}
    return request_of(otlp("a"), otlp("b", parent="a", attributes=CHAT, **failed))


def protobuf(request: dict[str, Any]) -> ExportTraceServiceRequest:
    text = json.dumps(request)
    for span_id in ("0000000000000061", "0000000000000062", TRACE):
        text = text.replace(span_id, base64.b64encode(bytes.fromhex(span_id)).decode())
    return ParseDict(json.loads(text), ExportTraceServiceRequest())


def framed(*messages: bytes) -> bytes:
    out = b""
    for message in messages:
        size, head = len(message), b""
        while size > 0x7F:
            head, size = head + bytes([size & 0x7F | 0x80]), size >> 7
        out += head + bytes([size]) + message
    return out


def test_a_request_becomes_spans_with_times_service_status_and_messages(
    take: Any, request_json: dict[str, Any]
) -> None:
    taken = take(request_json)
    root, call = taken.spans
    assert (root["trace_id"], root["span_id"], root["parent_span_id"]) == (TRACE, "0000000000000061", None)
    assert (root["kind"], root["service"], root["dialect"]) == ("chain", "desk", "plain")
    assert (str(root["day"]), root["start_ns"]) == ("2023-11-14", 1_700_000_000_000_000_000)
    assert (call["kind"], call["status"], call["error_message"]) == ("llm", "error", "boom")
    assert (call["parent_span_id"], call["model_requested"], call["tokens_in"]) == (root["span_id"], "gpt-4", 97)
    assert (call["tokens_out"], call["finish_reasons"]) == (None, ["stop"])
    assert taken.texts(call["input_ids"]) == ["Weather in Paris?"]
    assert taken.texts(call["output_ids"]) == ["Wet"]
    assert json.loads(call["attributes"])["custom"] == {"nested": [1, 2.5, True]}
    assert taken.ledger[0]["format_reason"] == "JSON with resourceSpans"


def test_all_spellings_of_a_request_are_one(
    take: Any, request_json: dict[str, Any], otlp: Make, request_of: Make
) -> None:
    message = protobuf(request_json)
    expected = [same(span) for span in take(request_json).spans]
    snake = MessageToJson(message, preserving_proto_field_name=True)
    legacy = json.dumps(request_json).replace("scopeSpans", "instrumentationLibrarySpans")
    tempo = json.dumps(request_json).replace("resourceSpans", "batches")
    numbers = json.dumps(request_json).replace('"1700000000000000000"', "1700000000000000000")
    spellings = {
        "JSON lines": json.dumps(request_json) + "\n",
        "pretty": json.dumps(request_json, indent=2),
        "array": json.dumps([request_json]),
        "byte order mark": b"\xef\xbb\xbf" + json.dumps(request_json).encode(),
        "CRLF": json.dumps(request_json, indent=2).replace("\n", "\r\n"),
        "protobuf's own JSON: base64 ids, enum names": MessageToJson(message),
        "snake_case": snake,
        "legacy": legacy,
        "Tempo": tempo,
        "numbers": numbers,
        "protobuf": message.SerializeToString(),
        "framed protobuf": framed(message.SerializeToString()),
    }
    assert '"STATUS_CODE_ERROR"' in snake
    for name, text in spellings.items():
        taken = take(text)
        assert taken.quarantine == [], name
        assert [same(span) for span in taken.spans] == expected, name


def test_framed_protobuf_keeps_the_frames_before_a_tear(take: Any, otlp: Make, request_of: Make) -> None:
    frames = [protobuf(request_of(otlp(name))).SerializeToString() for name in ("a", "b")]
    whole = framed(*frames)
    taken = take(whole + framed(frames[0])[:30])
    assert [span["name"] for span in taken.spans] == ["a", "b"]
    (row,) = taken.quarantine
    assert (row["line"], row["offset_bytes"]) == (3, len(whole))
    assert "torn" in row["reason"]
    middle = framed(frames[0], b"\x0a\xff\xff", frames[1])
    taken = take(middle)
    assert [span["name"] for span in taken.spans] == ["a", "b"]
    assert len(taken.quarantine) == 1


def test_protobuf_requests_that_say_nothing_are_told_of(take: Any, otlp: Make, request_of: Make) -> None:
    frame = protobuf(request_of(otlp("a"))).SerializeToString()
    unknown = b"\xfa\x01\x02hi"  # field 31, which no request has
    begin = framed(frame, unknown)
    taken = take(begin + bytes(300) + framed(frame) + bytes(2_000_000))
    assert [span["name"] for span in taken.spans] == ["a"]
    assert [(row["offset_bytes"], row["reason"]) for row in taken.quarantine] == [
        (len(framed(frame)), "neither a span nor a log record of a trace is in the request"),
        (len(begin), "requests without a byte: 300"),
        (len(begin) + 300 + len(framed(frame)), "requests without a byte: 2000000"),
    ]


def test_json_requests_that_say_nothing_are_told_of(take: Any, otlp: Make, request_of: Make) -> None:
    empty = {"resourceSpans": [{"scopeSpans": [{"scope": {"name": "x"}}]}]}
    elsewhere = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": "no trace"}}]}]}]}
    taken = take(lines=[request_of(otlp("a")), empty, elsewhere, request_of(otlp("b"))])
    assert [span["name"] for span in taken.spans] == ["a", "b"]
    reason = "neither a span nor a log record of a trace is in the request"
    assert [(row["line"], row["reason"]) for row in taken.quarantine] == [(2, reason), (3, reason)]


@pytest.mark.parametrize("last", [False, True])
def test_a_protobuf_request_beyond_the_limit_costs_no_other(
    take: Any, otlp: Make, request_of: Make, last: bool
) -> None:
    small = [protobuf(request_of(otlp(name))).SerializeToString() for name in ("a", "b")]
    large = framed(protobuf(request_of(otlp("x" * 3 * 1024 * 1024))).SerializeToString())
    rest = large[:-1] if last else large + framed(small[1])
    taken = take(framed(small[0]) + rest, limits=Limits(record_mib=1))
    assert [span["name"] for span in taken.spans] == (["a"] if last else ["a", "b"])
    first, *others = taken.quarantine
    assert first["offset_bytes"] == len(framed(small[0]))
    assert "more than the 1,048,576 that are read ([limits] record_mib)" in first["reason"]
    assert [row["reason"] for row in others] == (["the last frame is torn: 1 bytes of it are missing"] if last else [])


@pytest.mark.parametrize("spot", range(0, 400, 23))
def test_garbled_protobuf_never_raises(take: Any, request_json: dict[str, Any], spot: int) -> None:
    data = bytearray(framed(*[protobuf(request_json).SerializeToString()] * 2))
    data[spot] ^= 0xFF
    taken = take(bytes(data))
    assert len(taken.ledger) == 1
    cut = take(bytes(data[: spot + 1]))
    assert len(cut.ledger) == 1


def test_one_bad_span_costs_only_itself(take: Any, otlp: Make, request_of: Make) -> None:
    bad = [otlp("x", spanId="nothex"), otlp("y", traceId=None), otlp("z", attributes=None) | {"attributes": 7}]
    taken = take(request_of(otlp("a"), *bad, otlp("b")))
    assert [span["name"] for span in taken.spans] == ["a", "b"]
    assert [row["line"] for row in taken.quarantine] == [1, 1, 1]
    assert "valid span id" in taken.quarantine[0]["reason"]


def test_lone_surrogates_and_nan_are_taken_as_they_come(take: Any, otlp: Make, request_of: Make) -> None:
    text = json.dumps(request_of(otlp("a", attributes={"x": "SUR", "y": 1.5})))
    taken = take(text.replace("SUR", "\\ud83d").replace("1.5", "NaN"))
    assert json.loads(taken.span["attributes"])["x"] == "�"


def test_tokens_and_logprobs_of_the_agent_lightning_names_are_typed_columns(
    take: Any, otlp: Make, request_of: Make
) -> None:
    plain = {"prompt_token_ids": [1, 2], "response_token_ids": [3, 4], "response_logprobs": [-0.5, -1.0]}
    prefixed = {
        "gen_ai.prompt_token_ids": "[1, 2]",
        "gen_ai.response_token_ids": "[3, 4]",
        "gen_ai.response_logprobs": "[-0.5, -1]",
    }
    for attributes in (plain, prefixed):
        span = take(request_of(otlp(attributes=CHAT | attributes))).span
        assert (span["input_token_ids"], span["output_token_ids"]) == ([1, 2], [3, 4])
        assert span["output_logprobs"] == [-0.5, -1.0]
    short = take(request_of(otlp(attributes=CHAT | plain | {"response_logprobs": [-0.5]}))).span
    assert (short["output_token_ids"], short["output_logprobs"]) == ([3, 4], None)


def test_session_user_and_task(take: Any, otlp: Make, request_of: Make) -> None:
    attributes = {"session.id": "s1", "user.id": "bob-4711", "tracemill.task_key": "t7", "gen_ai.agent.name": "desk"}
    taken = take(request_of(otlp(attributes=attributes), otlp("b", attributes={"enduser.id": "bob-4711"}), otlp("c")))
    first, second, third = taken.spans
    assert (first["session_id"], first["task_key"], first["agent_name"]) == ("s1", "t7", "desk")
    assert first["user_key"] == second["user_key"] is not None
    assert (third["user_key"], third["session_id"], third["task_key"]) == (None, None, None)
    assert "bob-4711" not in taken.everything()


def test_genai_log_records_give_their_span_its_messages(take: Any, otlp: Make, request_of: Make) -> None:
    call = otlp("a", attributes={"gen_ai.operation.name": "chat"})
    ids = {"traceId": TRACE, "spanId": call["spanId"], "timeUnixNano": "5"}
    details = {"eventName": "gen_ai.client.inference.operation.details", **ids}
    details["attributes"] = otlp(
        attributes={"gen_ai.input.messages": [{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]}
    )["attributes"]
    choice = {"eventName": "gen_ai.choice", **ids}
    choice["body"] = otlp(attributes={"x": {"index": 0, "message": {"role": "assistant", "content": "yo"}}})[
        "attributes"
    ][0]["value"]
    other = {"eventName": "cache.miss", **ids, "body": {"stringValue": "cold"}}
    homeless = {"eventName": "started", "body": {"stringValue": "x"}}
    logs = {"resourceLogs": [{"scopeLogs": [{"logRecords": [details, choice, other, homeless]}]}]}
    taken = take(lines=[logs, request_of(call)])
    (span,) = taken.kind("llm")
    assert taken.texts(span["input_ids"]) == ["hi"]
    assert taken.texts(span["output_ids"]) == ["yo"]
    (event,) = taken.kind("event")
    assert (event["name"], event["parent_span_id"]) == ("cache.miss", span["span_id"])
    assert taken.quarantine == []


def test_evaluation_events_are_scores(take: Any, otlp: Make, request_of: Make) -> None:
    judged = {
        "gen_ai.evaluation.name": "relevance",
        "gen_ai.evaluation.score.value": 0.25,
        "gen_ai.evaluation.score.label": "poor",
    }
    (score,) = take(request_of(otlp(attributes=CHAT, events=[("gen_ai.evaluation.result", judged)]))).scores
    assert (score["target_kind"], score["name"], score["value"], score["label"]) == ("span", "relevance", 0.25, "poor")
