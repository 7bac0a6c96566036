"""Spans as objects and rows: what the SDKs print, Phoenix, Monocle, JavaScript, tables."""

import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from opentelemetry.trace import StatusCode

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "00000000000000b1"
CALL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "m",
    "gen_ai.usage.input_tokens": 9,
    "gen_ai.input.messages": '[{"role":"user","parts":[{"type":"text","content":"hi"}]}]',
}
TIMES = {"start_time": "2023-11-14T22:13:20.000001Z", "end_time": "2023-11-14T22:13:21Z"}
START = 1_700_000_000_000_001_000

ROWS: dict[str, dict[str, Any]] = {
    "Python SDK": {
        "name": "chat",
        "context": {"trace_id": f"0x{TRACE}", "span_id": f"0x{SPAN}", "trace_state": "[]"},
        "kind": "SpanKind.CLIENT",
        "parent_id": "0x00000000000000a1",
        "status": {"status_code": "ERROR", "description": "boom"},
        "attributes": CALL,
        "events": [],
        "links": [],
        "resource": {"attributes": {"service.name": "desk"}, "schema_url": ""},
        **TIMES,
    },
    "JavaScript": {
        "name": "chat",
        "spanContext": {"traceId": TRACE, "spanId": SPAN},
        "parentSpanContext": {"traceId": TRACE, "spanId": "00000000000000a1"},
        "startTime": [1_700_000_000, 1000],
        "endTime": [1_700_000_001, 0],
        "status": {"code": 2, "message": "boom"},
        "attributes": CALL,
        "resource": {"_attributes": {"service.name": "desk"}},
        "instrumentationScope": {"name": ""},
    },
    "Phoenix REST": {
        "id": "U3Bhbjox",
        "name": "chat",
        "context": {"trace_id": TRACE, "span_id": SPAN},
        "parent_id": "00000000000000a1",
        "status_code": "ERROR",
        "status_message": "boom",
        "attributes": CALL,
        "service_name": "desk",
        **TIMES,
    },
    "flat row": {
        "trace_id": TRACE,
        "span_id": SPAN,
        "parent_span_id": "00000000000000a1",
        "name": "chat",
        "status": "ERROR",
        "status_message": "boom",
        "start_time_unix_nano": START,
        "end_time_unix_nano": 1_700_000_001_000_000_000,
        "attributes": json.dumps(CALL),
        "resource": {"service.name": "desk"},
    },
    "Logfire row": {
        "trace_id": TRACE,
        "span_id": SPAN,
        "parent_span_id": "00000000000000a1",
        "span_name": "chat",
        "start_timestamp": TIMES["start_time"],
        "end_timestamp": TIMES["end_time"],
        "otel_status_code": "ERROR",
        "otel_status_message": "boom",
        "attributes": CALL,
        "service_name": "desk",
    },
    "row of attributes": {
        "trace_id": TRACE,
        "span_id": SPAN,
        "parent_id": "00000000000000a1",
        "name": "chat",
        "status_code": "STATUS_CODE_ERROR",
        "status_message": "boom",
        "service.name": "desk",
        **TIMES,
        **CALL,
    },
    "data frame row": {
        "context.trace_id": TRACE,
        "context.span_id": SPAN,
        "parent_id": "00000000000000a1",
        "name": "chat",
        "status_code": "ERROR",
        "status_message": "boom",
        "service_name": "desk",
        **TIMES,
        **{f"attributes.{name}": value for name, value in CALL.items()},
    },
}
COMPARED = (
    "trace_id",
    "span_id",
    "parent_span_id",
    "name",
    "kind",
    "start_ns",
    "end_ns",
    "status",
    "error_message",
    "service",
    "model_requested",
    "tokens_in",
    "input_ids",
    "dialect",
)


@pytest.mark.parametrize("shape", sorted(ROWS))
@pytest.mark.parametrize("container", ["line", "array", "pretty"])
def test_every_shape_of_a_span_is_the_same_row(take: Any, shape: str, container: str) -> None:
    row = ROWS[shape]
    written = {"line": json.dumps(row) + "\n", "array": json.dumps([row]), "pretty": json.dumps(row, indent=4)}
    taken = take(written[container])
    assert taken.quarantine == []
    (span,) = taken.spans
    expected = (TRACE, SPAN, "00000000000000a1", "chat", "llm", START, 1_700_000_001_000_000_000, "error", "boom")
    assert tuple(span[name] for name in COMPARED[:9]) == expected
    assert (span["service"], span["model_requested"], span["tokens_in"]) == ("desk", "m", 9)
    assert (span["dialect"], taken.texts(span["input_ids"])) == ("otel-genai", ["hi"])
    assert taken.ledger[0]["source_format"] == "otel-spans"


def test_what_the_real_console_exporter_prints_is_read_document_by_document(take: Any) -> None:
    printed = io.StringIO()
    provider = TracerProvider(resource=Resource({"service.name": "desk"}))
    provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=printed)))
    tracer = provider.get_tracer("my.scope")
    with (
        tracer.start_as_current_span("invoke_agent desk", attributes={"gen_ai.operation.name": "invoke_agent"}),
        tracer.start_as_current_span("chat m", attributes=CALL) as call,
    ):
        call.add_event("gen_ai.choice", {"message": '{"role":"assistant","content":"yo"}', "finish_reason": "stop"})
        call.set_status(StatusCode.ERROR, "boom")
    text = printed.getvalue()
    assert text.count("\n}\n") == 2
    taken = take(text)
    assert taken.quarantine == []
    call_row, agent = taken.spans
    assert (agent["kind"], agent["parent_span_id"], agent["service"]) == ("agent", None, "desk")
    assert (call_row["parent_span_id"], call_row["trace_id"]) == (agent["span_id"], agent["trace_id"])
    assert (call_row["kind"], call_row["status"], call_row["error_message"]) == ("llm", "error", "boom")
    assert (taken.texts(call_row["output_ids"]), call_row["finish_reasons"]) == (["yo"], ["stop"])
    assert [span["source_line"] for span in taken.spans] == [1, text.split("\n}\n")[0].count("\n") + 3]


def test_a_torn_document_costs_only_itself_among_printed_spans(take: Any) -> None:
    rows = [ROWS["Python SDK"] | {"context": {"trace_id": TRACE, "span_id": f"{n:016x}"}} for n in (1, 2, 3)]
    texts = [json.dumps(row, indent=4) for row in rows]
    texts[1] = texts[1].replace('"parent_id":', "oops")
    taken = take("\n".join(texts))
    assert [span["span_id"] for span in taken.spans] == [f"{n:016x}" for n in (1, 3)]
    (bad,) = taken.quarantine
    assert (bad["line"], bad["reason"].startswith("not valid JSON")) == (1 + texts[0].count("\n") + 1, True)


def javascript(name: str, span_id: str, **fields: Any) -> dict[str, Any]:
    return {
        "name": name,
        "spanContext": {"traceId": TRACE, "spanId": span_id},
        "startTime": [1_700_000_000, 5],
        "endTime": [1_700_000_001, 0],
        "attributes": {},
        "status": {"code": 0},
        **fields,
    }


def test_spans_that_lost_their_parents_hang_below_one_synthetic_root(take: Any) -> None:
    spans = [javascript("inner", "00000000000000b1"), javascript("outer", "00000000000000a1")]
    root, inner, outer = take(spans).spans
    assert (root["kind"], root["flags"], root["parent_span_id"]) == ("chain", ["synthetic"], None)
    assert root["start_ns"] == 1_700_000_000_000_000_005
    for span in (inner, outer):
        assert span["parent_span_id"] == root["span_id"]
        assert "orphan" in span["flags"]
    other, alone = take([javascript("outer", "00000000000000a1")], name="other.json").spans
    assert other["span_id"] == root["span_id"], "the same root in every file"
    assert alone["parent_span_id"] == root["span_id"]
    by_operation = take({"a": [spans[0]], "b": [spans[1]]}).spans
    assert {span["span_id"] for span in by_operation} == {root["span_id"], inner["span_id"], outer["span_id"]}


def test_where_spans_name_parents_one_without_is_the_root(take: Any) -> None:
    spans = [
        javascript("inner", "00000000000000b1", parentSpanId="00000000000000a1"),
        javascript("outer", "00000000000000a1"),
    ]
    inner, outer = take(spans).spans
    assert (inner["parent_span_id"], outer["parent_span_id"]) == ("00000000000000a1", None)
    assert (inner["flags"], outer["flags"]) == ([], [])


def test_a_parent_that_is_the_text_none_is_no_parent(take: Any) -> None:
    for nothing in ("None", "null", "", None, "0000000000000000"):
        (span,) = take(ROWS["flat row"] | {"parent_span_id": nothing}).spans
        assert span["parent_span_id"] is None, nothing


def test_ids_that_are_no_otel_ids_are_hashed_and_kept(take: Any) -> None:
    row = ROWS["flat row"] | {"trace_id": "run-7", "span_id": "step-1", "parent_span_id": "step-0"}
    child = row | {"span_id": "step-2", "parent_span_id": "step-1"}
    first, second = take([row, child]).spans
    assert (len(first["trace_id"]), len(first["span_id"])) == (32, 16)
    assert second["parent_span_id"] == first["span_id"]
    assert first["trace_id"] == second["trace_id"]
    ids = json.loads(first["attributes"])["source_ids"]
    assert ids == {"trace_id": "run-7", "span_id": "step-1", "parent_id": "step-0"}


@pytest.mark.parametrize(
    ("trace", "span"),
    [
        (TRACE.upper(), SPAN.upper()),
        (f"0x{TRACE}", f"0x{SPAN}"),
        (f"{TRACE[:8]}-{TRACE[8:12]}-{TRACE[12:16]}-{TRACE[16:20]}-{TRACE[20:]}", SPAN),
        ("CvdlGRbNQ92ESOshHIAxnA==", "AAAAAAAAALE="),
    ],
)
def test_ids_in_hex_with_0x_dashed_or_base64_are_the_same_ids(take: Any, trace: str, span: str) -> None:
    (found,) = take(ROWS["flat row"] | {"trace_id": trace, "span_id": span}).spans
    assert (found["trace_id"], found["span_id"]) == (TRACE, SPAN)
    assert "source_ids" not in json.loads(found["attributes"] or "{}")


def test_a_phoenix_data_frame_as_parquet_has_its_messages_tools_and_documents(take: Any, tmp_path: Any) -> None:
    call = {
        "name": "ChatCompletion",
        "span_kind": "LLM",
        "parent_id": None,
        "status_code": "OK",
        "context.trace_id": TRACE,
        "context.span_id": SPAN,
        "attributes.llm.model_name": "m",
        "attributes.llm.token_count.prompt": 9.0,
        "attributes.llm.input_messages": [
            {"message.role": "user", "message.content": "hi", "message.tool_calls": None},
            {
                "message.role": "assistant",
                "message.content": None,
                "message.tool_calls": [
                    {"tool_call.id": "c1", "tool_call.function.name": "f", "tool_call.function.arguments": '{"a":1}'}
                ],
            },
        ],
        "attributes.retrieval.documents": None,
    }
    found = call | {
        "name": "retrieve",
        "span_kind": "RETRIEVER",
        "parent_id": SPAN,
        "context.span_id": "00000000000000b2",
        "attributes.llm.input_messages": None,
        "attributes.llm.model_name": None,
        "attributes.llm.token_count.prompt": None,
        "attributes.retrieval.documents": [{"document.id": "d1", "document.score": 0.5, "document.content": "rain"}],
    }
    path = tmp_path / "spans.parquet"
    pq.write_table(pa.Table.from_pylist([call, found]), path)
    taken = take(path.read_bytes(), name="spans.parquet")
    assert taken.ledger[0]["format_reason"].startswith("a table of spans with attributes.")
    first, second = taken.spans
    assert (first["kind"], first["tokens_in"], first["model"], first["dialect"]) == ("llm", 9, "m", "openinference")
    assert taken.said(first["input_ids"]) == [
        ("user", [{"type": "text", "content": "hi"}]),
        ("assistant", [{"type": "tool_call", "id": "c1", "name": "f", "arguments": {"a": 1}}]),
    ]
    assert (second["kind"], second["parent_span_id"]) == ("retriever", SPAN)
    assert json.loads(second["tool_result"]) == [{"content": "rain", "id": "d1", "score": 0.5}]


def test_an_answer_of_phoenix_and_a_monocle_trace_are_lists_of_spans(take: Any) -> None:
    spans = [ROWS["Phoenix REST"], ROWS["Phoenix REST"] | {"context": {"trace_id": TRACE, "span_id": "b2".zfill(16)}}]
    assert len(take({"data": spans, "next_cursor": None}).spans) == 2
    monocle = {"trace_id": TRACE, "duration_ms": 3, "spans": [ROWS["flat row"], {"trace_id": TRACE}, "x"]}
    taken = take(monocle)
    assert len(taken.spans) == 1
    assert [row["reason"] for row in taken.quarantine] == ["no span: trace id or span id is missing"] * 2


def test_fields_of_no_known_name_stay_with_the_span(take: Any) -> None:
    (span,) = take(ROWS["flat row"] | {"team": "billing", "cumulative_error_count": 0, "empty": None}).spans
    assert json.loads(span["attributes"])["row"] == {"team": "billing", "cumulative_error_count": 0}


def test_other_formats_rows_are_not_claimed(take: Any) -> None:
    feedback = {"trace_id": TRACE, "span_id": SPAN, "value": 1, "name": "good"}
    observation = {"id": "o1", "traceId": "t1", "type": "GENERATION", "parentObservationId": None}
    for row in (feedback, observation):
        assert take(row).ledger[0]["source_format"] != "otel-spans"


def test_a_comma_separated_table_of_spans(take: Any) -> None:
    quoted = json.dumps(CALL).replace('"', '""')
    text = f'trace_id,span_id,name,attributes\n{TRACE},{SPAN},chat,"{quoted}"\n'
    taken = take(text, name="spans.csv")
    assert (taken.span["kind"], taken.texts(taken.span["input_ids"])) == ("llm", ["hi"])
