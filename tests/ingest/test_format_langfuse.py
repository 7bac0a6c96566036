"""Langfuse exports, written by hand after its API definition: documents, tables, and what is odd in them."""

import csv
import gzip
import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from langfuse_exports import CALL, ROOT, TRACE, below, observation, settled, snake, text, together, trace


def test_a_document_is_a_trace_with_its_observations_below_it(take: Any) -> None:
    taken = take({"trace": trace(), "observations": [CALL]}, name="export.json")
    root, call = taken.kind("chain")[0], taken.kind("llm")[0]
    assert (root["span_id"], root["parent_span_id"], root["name"]) == (ROOT, None, "desk")
    assert root["session_id"] == call["session_id"] == "s-1"
    assert root["user_key"] == call["user_key"] is not None
    assert "ann@example.com" not in taken.everything()
    assert (root["agent_version"], root["start_ns"], root["end_ns"]) == ("r7", 1_759_223_041_000_000_000, None)
    assert (call["trace_id"], call["span_id"], call["parent_span_id"]) == (TRACE, "0" * 14 + "61", ROOT)
    assert (call["start_ns"], call["end_ns"]) == (1_759_223_041_001_000_000, 1_759_223_042_500_000_000)
    assert taken.said(taken.prompt(call)) == [text("system", "Be brief."), text("user", "hi")]
    assert taken.said(call["output_ids"]) == [text("assistant", "hello")]
    assert (call["model"], json.loads(call["params"])) == ("gpt-4o-2024", {"temperature": "0.2"})
    assert (call["tokens_in"], call["tokens_out"], call["tokens_cache_read"], call["cost_usd"]) == (9, 2, None, 0.3)
    assert (call["prompt_name"], call["prompt_version"], call["prompt_label"]) == ("greet", "3", "production")
    assert (call["agent_version"], call["dialect"], call["revised_ns"]) == (
        "1.2",
        "langfuse",
        1_759_223_100_000_000_000,
    )
    assert json.loads(root["attributes"])["tags"] == ["prod"]
    assert taken.quarantine == []


def test_a_trace_of_the_api_holds_its_observations_and_scores_itself(take: Any) -> None:
    score = {"id": "s", "name": "good", "value": 1, "source": "API", "dataType": "NUMERIC", "traceId": TRACE}
    taken = take(trace(observations=[CALL], scores=[score]), name="trace.json")
    assert [span["kind"] for span in taken.spans] == ["chain", "llm"]
    assert [(s["target_kind"], s["target_id"], s["value"]) for s in taken.scores] == [("trajectory", TRACE, 1.0)]


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_bare_list_of_observations_is_read_and_its_trace_is_known_in_part(take: Any, wrapped: bool) -> None:
    listed = [CALL, observation("b", "TOOL", "a", input={"x": 1}, output="done")]
    taken = take({"data": listed, "meta": {"page": 1}} if wrapped else listed, name="observations.json")
    assert [(span["kind"], span["name"]) for span in below(taken)] == [("llm", "a"), ("tool", "b")]
    (root,) = [span for span in taken.spans if span["span_id"] == ROOT]
    assert (root["parent_span_id"], root["kind"], root["flags"]) == (None, "chain", ["partial"])


@pytest.mark.parametrize("shape", ["jsonl", "jsonl.gz", "json", "csv", "parquet"])
def test_blob_storage_tables_give_the_spans_of_the_api(take: Any, shape: str) -> None:
    rows = [snake(CALL), snake(observation("b", "TOOL", "a", input='{"x": 1}', output="done"))]
    rows[0]["provided_model_name"] = rows[0].pop("model")
    for row in rows:
        for name, value in row.items():
            if isinstance(value, dict):
                row[name] = json.dumps(value)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    content: Any
    if shape == "parquet":
        sink = io.BytesIO()
        table = pa.Table.from_pylist([{name: row.get(name) for name in columns} for row in rows])
        pq.write_table(table, sink)
        content = sink.getvalue()
    elif shape == "csv":
        out = io.StringIO()
        writer = csv.DictWriter(out, columns)
        writer.writeheader()
        writer.writerows(rows)
        content = out.getvalue()
    elif shape == "json":
        content = json.dumps(rows)
    else:
        content = "".join(json.dumps(row) + "\n" for row in rows)
        content = gzip.compress(content.encode()) if shape.endswith("gz") else content
    taken = take(content, name=f"observations.{shape}")
    assert taken.ledger[0]["source_format"] == "langfuse"
    call, tool = below(taken)
    assert taken.said(taken.prompt(call)) == [text("system", "Be brief."), text("user", "hi")]
    assert taken.said(call["output_ids"]) == [text("assistant", "hello")]
    assert (call["model"], call["tokens_in"], call["tokens_out"], call["cost_usd"]) == ("gpt-4o-2024", 9, 2, 0.3)
    assert (call["prompt_version"], call["start_ns"]) == ("3", 1_759_223_041_001_000_000)
    assert (tool["tool_name"], json.loads(tool["tool_args"]), tool["tool_result"]) == ("b", {"x": 1}, "done")
    assert tool["parent_span_id"] == call["span_id"]
    assert taken.quarantine == []


def test_maps_and_times_of_parquet_are_understood(take: Any) -> None:
    schema = pa.schema(
        [
            ("id", pa.string()),
            ("trace_id", pa.string()),
            ("parent_observation_id", pa.string()),
            ("type", pa.string()),
            ("start_time", pa.timestamp("ms")),
            ("usage_details", pa.map_(pa.string(), pa.int64())),
            ("metadata", pa.map_(pa.string(), pa.string())),
        ]
    )
    row = {"id": "a" * 16, "trace_id": TRACE, "type": "GENERATION", "start_time": 1_759_223_041_001}
    row |= {"usage_details": {"input": 5, "output": 1}, "metadata": {"attributes": '{"gen_ai.agent.name": "desk"}'}}
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([row], schema=schema), sink)
    (span,) = below(take(sink.getvalue(), name="observations.parquet"))
    assert (span["tokens_in"], span["tokens_out"], span["start_ns"]) == (5, 1, 1_759_223_041_001_000_000)
    assert span["agent_name"] == "desk"


SCORE = {
    "id": "1",
    "trace_id": TRACE,
    "observation_id": CALL["id"],
    "name": "ok",
    "source": "ANNOTATION",
    "data_type": "BOOLEAN",
    "value": 1,
    "string_value": "True",
    "timestamp": "2025-10-01 00:00:00.000",
}


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_tables_in_separate_files_join_by_their_ids(take: Any, order: tuple[int, ...]) -> None:
    tables = [("traces", snake(trace())), ("observations", snake(CALL)), ("scores", SCORE)]
    taken = together(*(take(lines=[row], name=f"{name}.jsonl") for name, row in (tables[at] for at in order)))
    (root,), (call,) = taken.kind("chain"), taken.kind("llm")
    assert (root["span_id"], root["name"], root["session_id"], root["flags"]) == (ROOT, "desk", "s-1", [])
    assert (call["parent_span_id"], call["trace_id"], call["flags"]) == (ROOT, root["trace_id"], [])
    (score,) = taken.scores
    assert (score["target_kind"], score["target_id"]) == ("span", call["span_id"])
    assert (score["value"], score["label"], score["source"]) == (1.0, "True", "human")
    assert score["at"] == 1_759_276_800_000_000_000


def test_tables_of_traces_and_scores_may_be_csv(take: Any) -> None:
    for name, row in (("traces", snake(trace(tags="[]"))), ("scores", SCORE | {"observation_id": None})):
        out = io.StringIO()
        writer = csv.DictWriter(out, row)
        writer.writeheader()
        writer.writerow(row)
        taken = take(out.getvalue(), name=f"{name}.csv")
        assert (taken.ledger[0]["source_format"], taken.quarantine) == ("langfuse", [])
        assert [(s["name"], s["session_id"]) for s in taken.spans] == [("desk", "s-1")][: name == "traces"]
        assert [(s["target_id"], s["value"]) for s in taken.scores] == [(TRACE, 1.0)][: name == "scores"]


def test_a_session_with_its_traces_is_read(take: Any) -> None:
    session = {"id": "s-1", "projectId": "p", "traces": [trace(), trace(id="1" * 32, name="second")]}
    assert [span["name"] for span in take(session, name="session.json").spans] == ["desk", "second"]


def test_enriched_rows_tell_their_trace_who_and_which_session(take: Any) -> None:
    row = snake(CALL) | {"user_id": "ann", "session_id": "s-2", "trace_name": "desk", "level": "ERROR"}
    taken = take(lines=[row], name="observations_v2.jsonl")
    (root,), (call,) = taken.kind("chain"), taken.kind("llm")
    assert (root["span_id"], root["name"], root["session_id"], root["status"]) == (ROOT, "desk", "s-2", "error")
    assert root["user_key"] == call["user_key"] is not None


def test_of_duplicate_rows_the_latest_update_counts(take: Any) -> None:
    new = CALL | {"output": '{"role": "assistant", "content": "newer"}', "updatedAt": "2025-09-30T10:00:00Z"}
    for rows in ([new, CALL], [CALL, new]):
        taken = take({"trace": trace(), "observations": rows}, name="export.json")
        (call,) = taken.kind("llm")
        assert taken.texts(call["output_ids"]) == ["newer"]
        taken = take(lines=[snake(row) for row in rows], name="observations.jsonl")
        assert taken.texts(below(taken)[0]["output_ids"]) == ["newer"]
        files = [take(lines=[snake(row)], name=f"{at}.jsonl") for at, row in enumerate(rows)]
        (call,) = settled(together(*files))
        assert together(*files).texts(call["output_ids"]) == ["newer"]


def test_json_in_a_string_in_a_string_is_decoded(take: Any) -> None:
    twice = json.dumps(json.dumps([{"role": "user", "content": "hi"}]))
    call = CALL | {"input": twice, "output": json.dumps(json.dumps({"role": "assistant", "content": "yes"}))}
    taken = take({"trace": trace(output=json.dumps("Hello, you")), "observations": [call]}, name="export.json")
    (call,) = taken.kind("llm")
    assert taken.said(taken.prompt(call)) == [text("user", "hi")]
    assert taken.said(call["output_ids"]) == [text("assistant", "yes")]
    assert json.loads(taken.kind("chain")[0]["attributes"])["output"] == "Hello, you"


def test_an_answer_that_is_json_is_kept_as_the_model_wrote_it(take: Any) -> None:
    call = CALL | {"output": '{"answer": "42", "sure": true}'}
    taken = take({"trace": trace(), "observations": [call]}, name="export.json")
    assert taken.texts(taken.kind("llm")[0]["output_ids"]) == ['{"answer": "42", "sure": true}']


def test_usage_of_a_parent_that_repeats_its_children_is_a_wrapper(take: Any) -> None:
    outer = observation("outer", usageDetails={"input": 14, "output": 43, "total": 57})
    between = observation("between", "SPAN", "outer")
    inner = observation("inner", parent="between", usageDetails={"input": 62, "output": 85, "total": 147})
    rows = [outer, between, inner]
    taken = take({"trace": trace(), "observations": rows}, name="export.json")
    flags = {span["name"]: span["flags"] for span in taken.spans}
    assert flags == {"desk": [], "outer": ["wrapper"], "between": [], "inner": []}
    for order in (rows, rows[::-1]):
        taken = take(lines=[snake(row) for row in order], name="observations.jsonl")
        flags = {span["name"]: span["flags"] for span in settled(taken)}
        assert flags == {"outer": ["wrapper"], "between": [], "inner": []}


def test_a_sub_agent_below_a_tool_is_no_repetition(take: Any) -> None:
    rows = [
        observation("outer", usageDetails={"input": 9, "output": 3}),
        observation("tool", "TOOL", "outer"),
        observation("sub", parent="tool", usageDetails={"input": 7, "output": 1}),
    ]
    taken = take({"trace": trace(), "observations": rows}, name="export.json")
    assert [span["name"] for span in taken.spans if "wrapper" in span["flags"]] == []
    assert [span["flags"] for span in settled(take(lines=rows))] == [[], [], []]


USAGE: list[tuple[dict[str, int], tuple[int | None, ...]]] = [
    ({"input": 10, "output": 4, "total": 14}, (10, None, None, 4, None)),
    # Langfuse's SDKs take cached and reasoning tokens out of input and output; the total tells.
    (
        {"input": 10, "input_cached_tokens": 90, "output": 4, "output_reasoning_tokens": 6, "total": 110},
        (100, 90, None, 10, 6),
    ),
    # Instrumentations pass on the provider's input, which counts them.
    (
        {"input": 100, "prompt_details.cache_read": 90, "output": 10, "completion_details.reasoning": 6, "total": 110},
        (100, 90, None, 10, 6),
    ),
    # Anthropic's own names.
    (
        {"input": 5, "cache_read_input_tokens": 80, "cache_creation_input_tokens": 15, "output": 4},
        (100, 80, 15, 4, None),
    ),
    # Gemini's thoughts stand beside the answer, its cached tokens in the input.
    (
        {"input": 9, "cached_content_token_count": 4, "output": 5, "thoughts_token_count": 20, "total": 34},
        (9, 4, None, 25, 20),
    ),
    ({"input": 9, "output": 5, "thinking_tokens": 3, "total": 14}, (9, None, None, 5, 3)),
    # A total that no other key explains: nobody says whether it counts thinking.
    ({"input": 5, "output": 845, "total": 2023}, (5, None, None, 845, None)),
    ({}, (None, None, None, None, None)),
]


def test_cached_tokens_are_input_once(take: Any) -> None:
    rows = [observation(str(at), usageDetails=usage) for at, (usage, _) in enumerate(USAGE)]
    names = ("tokens_in", "tokens_cache_read", "tokens_cache_write", "tokens_out", "tokens_reasoning")
    found = [tuple(call[name] for name in names) for call in below(take(rows, name="o.json"))]
    assert found == [counts for _, counts in USAGE]
    totals = [
        json.loads(call["attributes"]).get("usageDetails", {}).get("total") for call in below(take(rows, name="o.json"))
    ]
    assert [total for total in totals if total is not None] == [2023]


def test_counts_and_costs_that_are_filled_with_zero_are_unknown(take: Any) -> None:
    old = {"promptTokens": 0, "completionTokens": 0, "totalTokens": 0, "usage": {"input": 0, "output": 0, "total": 0}}
    rows = [
        observation("1", **old, totalCost=0, costDetails={}),
        observation("2", usage={"input": 3, "output": 1, "unit": "TOKENS"}, totalCost=0, costDetails={"total": 0}),
        observation("3", usage={"input": 300, "output": 100, "unit": "CHARACTERS"}),
    ]
    calls = below(take(rows, name="o.json"))
    assert [(call["tokens_in"], call["tokens_out"], call["cost_usd"]) for call in calls] == [
        (None, None, None),
        (3, 1, 0.0),
        (None, None, None),
    ]


def test_bad_rows_are_quarantined_with_their_line_and_the_rest_lands(take: Any) -> None:
    aimless = {"id": "1", "name": "s", "value": 1, "dataType": "NUMERIC", "source": "API", "observationId": None}
    nameless = {name: value for name, value in CALL.items() if name != "id"}
    taken = take(lines=[CALL, aimless, {"traceId": 3}, "{torn", nameless], name="mixed.jsonl")
    assert len(below(taken)) == 1
    assert [(row["line"], row["reason"].split(":")[0]) for row in taken.quarantine] == [
        (2, "a score without target"),
        (3, "neither a trace nor an observation nor a score of Langfuse"),
        (4, "not valid JSON"),
        (5, "malformed record"),
    ]


def test_errors_agents_and_services_are_told(take: Any) -> None:
    resource = {"resourceAttributes": {"service.name": "desk-api"}}
    rows = [
        observation("top", "AGENT", level="ERROR", statusMessage="no answer", metadata=resource),
        observation("agent_run [hello]", "AGENT", metadata={"resourceAttributes": {"service.name": "unknown_service"}}),
        observation("e", "EVENT", endTime=None),
    ]
    spans = {span["name"]: span for span in take({"trace": trace(), "observations": rows}, name="x.json").spans}
    assert (spans["top"]["status"], spans["top"]["error_message"]) == ("error", "no answer")
    assert (spans["top"]["agent_name"], spans["top"]["service"]) == ("top", "desk-api")
    assert spans["desk"]["status"] == "error"
    assert (spans["agent_run [hello]"]["agent_name"], spans["agent_run [hello]"]["service"]) == ("hello", None)
    assert (spans["e"]["kind"], spans["e"]["end_ns"]) == ("event", None)


def test_an_observation_whose_parent_is_missing_keeps_its_parent(take: Any) -> None:
    span = take([observation(parent="gone")], name="o.json").span
    assert (span["parent_span_id"], span["flags"]) == (b"gone".hex().rjust(16, "0"), ["orphan"])


def test_what_opentelemetry_said_fills_what_langfuse_left_out_and_names_nobody(take: Any) -> None:
    attributes = {
        "gen_ai.tool.name": "look",
        "gen_ai.tool.call.id": "c-1",
        "gen_ai.operation.name": "execute_tool",
        "user.id": "ann",
        "custom": 1,
    }
    tool = observation("execute_tool look", "TOOL", metadata=json.dumps({"attributes": attributes}), output="found")
    (span,) = below(take([tool], name="o.json"))
    assert (span["tool_name"], span["tool_call_id"], span["tool_result"]) == ("look", "c-1", "found")
    assert json.loads(span["attributes"])["metadata"]["attributes"]["custom"] == 1
    assert "ann" not in span["attributes"]


def test_tool_definitions_stand_in_the_row_the_prompt_or_the_metadata(take: Any) -> None:
    listed = observation("1", toolDefinitions={"look": json.dumps({"description": "d", "parameters": {}})}, input="hi")
    tool = {"type": "function", "function": {"name": "look", "parameters": {}}}
    asked = observation("2", input=[{"role": "user", "content": "hi"}, {"role": "tool", "content": tool}])
    request = {"function_tools": [{"name": "look", "parameters_json_schema": {}, "description": None}]}
    kept = observation("3", input="hi", metadata={"attributes": {"model_request_parameters": json.dumps(request)}})
    taken = take([listed, asked, kept], name="o.json")
    for span in below(taken):
        ((role, parts),) = taken.said([span["tool_definitions_id"]])
        assert (role, [part["function"]["name"] for part in parts]) == ("tools", ["look"])
        assert taken.texts(taken.prompt(span)) == ["hi"]


def test_the_state_of_a_graph_stays_beside_its_messages(take: Any) -> None:
    state = {"messages": [{"type": "human", "content": "hi"}], "next": "look", "user_id": "ann"}
    (span,) = below(take([observation("g", "CHAIN", input=json.dumps(state))], name="o.json"))
    assert json.loads(span["attributes"])["input"] == {"next": "look"}
    assert "ann" not in span["attributes"]
