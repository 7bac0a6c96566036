"""Jaeger's JSON: tags, references, processes, microseconds."""

import json
from typing import Any

TRACE = "0af7651916cd43dd8448eb211c80319c"
MESSAGES = '[{"role":"user","parts":[{"type":"text","content":"Weather?"}]}]'


def tag(key: str, value: Any, kind: str | None = None) -> dict[str, Any]:
    kinds = {bool: "bool", int: "int64", float: "float64"}
    return {"key": key, "type": kind or kinds.get(type(value), "string"), "value": value}


def span(span_id: str, *tags: dict[str, Any], parent: str | None = None, **fields: Any) -> dict[str, Any]:
    references = [{"refType": "CHILD_OF", "traceID": TRACE, "spanID": parent}] if parent else []
    found = {"traceID": TRACE, "spanID": span_id, "operationName": "chat", "references": references}
    times = {"startTime": 1_700_000_000_000_001, "duration": 2500}
    return found | times | {"tags": list(tags), "logs": [], "processID": "p1"} | fields


def export(*spans: dict[str, Any], trace: str = TRACE) -> dict[str, Any]:
    process = {"serviceName": "desk", "tags": [tag("host.name", "h1")]}
    return {"data": [{"traceID": trace, "spans": list(spans), "processes": {"p1": process}}], "total": 0}


CALL = (
    tag("gen_ai.operation.name", "chat"),
    tag("gen_ai.input.messages", MESSAGES),
    tag("gen_ai.usage.input_tokens", "9", "int64"),
    tag("otel.scope.name", "my.scope"),
)


def test_tags_references_processes_and_logs_become_a_span(take: Any) -> None:
    log = {"timestamp": 1_700_000_000_000_002, "fields": [tag("event", "retry"), tag("attempt", 2)]}
    taken = take(export(span("00000000000000b1", *CALL, parent="00000000000000a1", logs=[log])))
    (call,) = taken.spans
    assert (call["trace_id"], call["span_id"], call["parent_span_id"]) == (
        TRACE,
        "00000000000000b1",
        "00000000000000a1",
    )
    assert (call["start_ns"], call["end_ns"]) == (1_700_000_000_000_001_000, 1_700_000_000_002_501_000)
    assert (call["kind"], call["service"], call["tokens_in"]) == ("llm", "desk", 9)
    assert taken.texts(call["input_ids"]) == ["Weather?"]
    attributes = json.loads(call["attributes"])
    assert attributes["otel.scope.name"] == "my.scope"
    assert attributes["resource"] == {"host.name": "h1"}
    assert attributes["events"] == [
        {"name": "retry", "time_unix_nano": 1_700_000_000_000_002_000, "attributes": {"attempt": 2}}
    ]
    assert taken.ledger[0]["source_format"] == "jaeger"


def test_an_error_tag_and_a_status_tag_are_the_status(take: Any) -> None:
    spans = (
        span("00000000000000a1", tag("error", True), tag("otel.status_description", "boom")),
        span("00000000000000a2", tag("otel.status_code", "ERROR"), tag("error", True)),
        span("00000000000000a3", tag("otel.status_code", "OK")),
        span("00000000000000a4", tag("error", "true", "bool")),
        span("00000000000000a5"),
    )
    taken = take(export(*spans))
    assert [s["status"] for s in taken.spans] == ["error", "error", "ok", "error", "unset"]
    assert taken.spans[0]["error_message"] == "boom"


def test_ids_whose_leading_zeros_jaeger_drops_are_the_same_ids(take: Any) -> None:
    short = span("b1", parent="a1", traceID="7651916cd43dd844")
    short["references"][0]["traceID"] = "7651916cd43dd844"
    (found,) = take(export(short, trace="7651916cd43dd844")).spans
    assert found["trace_id"] == "00000000000000007651916cd43dd844"
    assert (found["span_id"], found["parent_span_id"]) == ("00000000000000b1", "00000000000000a1")


def test_a_reference_that_is_no_parent_is_a_link(take: Any) -> None:
    other = {"refType": "FOLLOWS_FROM", "traceID": TRACE, "spanID": "00000000000000c1"}
    foreign = {"refType": "CHILD_OF", "traceID": "1" * 32, "spanID": "00000000000000d1"}
    (found,) = take(export(span("00000000000000b1", references=[other, foreign]))).spans
    assert found["parent_span_id"] is None
    links = json.loads(found["attributes"])["links"]
    assert [link["spanId"] for link in links] == ["00000000000000c1", "00000000000000d1"]


def test_one_bad_span_costs_only_itself_and_traces_may_come_line_by_line(take: Any) -> None:
    bad = {"traceID": TRACE, "spanID": "00000000000000b2"}
    zero = span("0000000000000000")
    trace = export(span("00000000000000b1"), bad, zero)["data"][0]
    taken = take(lines=[trace, export(span("00000000000000b3"))["data"][0]])
    assert [s["span_id"] for s in taken.spans] == ["00000000000000b1", "00000000000000b3"]
    assert [row["reason"] for row in taken.quarantine] == [
        "no Jaeger span: spanID or operationName is missing",
        "the span has no valid span id",
    ]
    assert taken.ledger[0]["n_records"] == 2


def test_what_is_no_object_is_refused_and_not_dropped(take: Any) -> None:
    odd = span("00000000000000b1", processID={"a": 1}, tags="none", logs=7, references=[3])
    taken = take({"data": [7, {"spans": [odd, "x"]}, {"traceID": TRACE}]})
    assert [s["span_id"] for s in taken.spans] == ["00000000000000b1"]
    assert len(taken.quarantine) == 3


def test_double_instrumentation_in_jaeger_is_a_call_and_its_wrapper(take: Any) -> None:
    """What kagent's traces look like: ADK's call_llm and OpenLLMetry's openai.chat log the same call."""
    usage = (tag("gen_ai.usage.input_tokens", 1822), tag("gen_ai.usage.output_tokens", 43))
    adk = (tag("gen_ai.system", "gcp.vertex.agent"), tag("gcp.vertex.agent.llm_request", "{}"), *usage)
    openai = (
        tag("llm.request.type", "chat"),
        tag("gen_ai.usage.prompt_tokens", 1822),
        tag("gen_ai.usage.completion_tokens", 43),
        tag("gen_ai.prompt.0.role", "user"),
        tag("gen_ai.prompt.0.content", "hi"),
    )
    outer = span("00000000000000a1", *adk, operationName="call_llm")
    inner = span("00000000000000b1", *openai, parent="00000000000000a1", operationName="openai.chat")
    taken = take(export(inner, outer))
    assert [(s["dialect"], s["kind"], s["tokens_in"], s["tokens_out"]) for s in taken.spans] == [
        ("openllmetry", "llm", 1822, 43),
        ("google-adk", "llm", 1822, 43),
    ]
