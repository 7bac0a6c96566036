"""Spans that real frameworks wrote, read from the folder that TRACEMILL_DATA names."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tracemill import ingest

pytestmark = pytest.mark.data

FRAMEWORKS = {
    "adk_multi_agent": (4, 2, 4),
    "adk_single_agent": (4, 2, 2),
    "anthropic_finish_reason_integration": (5, 0, 0),
    "aws_genai_idp_retrieve_and_generate": (1, 0, 0),
    "azure_ai_inference_finish_reason_integration": (6, 0, 0),
    "azure_openai_finish_reason_integratio": (4, 0, 0),
    "bedrock_finish_reason_integratio": (6, 0, 0),
    "boto_coverage_api": (2, 0, 0),
    "crewai_multi_agent": (5, 2, 4),
    "crewai_single_agent": (2, 1, 2),
    "gemini_finish_reason_integration": (6, 0, 0),
    "langgraph_multi_agent": (10, 4, 6),
    "litellm_openai_sample": (2, 0, 0),
    "ms_framework_multi_async_handoff": (7, 2, 6),
    "ms_framework_multi_async_sequential": (5, 2, 4),
    "ms_framework_multi_stream_agents_as_tools": (3, 2, 2),
    "ms_framework_single_agent": (2, 1, 2),
    "openai_agents_sdk": (2, 3, 3),
}
"""Model calls, tool calls and agents in each file."""


class Read:
    """The rows of one file."""

    def __init__(self, path: Path) -> None:
        batches = list(ingest.batches(ingest.find([path]), key=b"k" * 32, now_ns=1))
        tables = {name: pa.concat_tables([b.tables[name] for b in batches]) for name in batches[0].tables}
        self.spans = tables["spans"].to_pylist()
        self.refused = tables["quarantine"].to_pylist()
        self.format = tables["ingest_log"].to_pylist()[0]["source_format"]
        self._texts = {row["message_id"]: row["text"] for row in tables["messages"].to_pylist()}

    def kind(self, kind: str) -> list[dict[str, Any]]:
        return [span for span in self.spans if span["kind"] == kind]

    def texts(self, ids: list[str] | None) -> list[str]:
        return [self._texts[i] for i in ids or ()]


def raw_spans(path: Path) -> Iterator[dict[str, Any]]:
    found = json.loads(path.read_text())
    seen = set()
    for span in found["spans"] if isinstance(found, dict) else found:
        key = json.dumps(span.get("context") or [span.get("trace_id"), span.get("span_id")])
        if key not in seen:
            seen.add(key)
            yield span


def said(span: dict[str, Any], event: str) -> dict[str, Any]:
    return next((e["attributes"] for e in span["events"] if e["name"] == event), {})


def monocle_files(data: Path) -> list[Path]:
    folder = data / "monocle"
    return [
        *(folder / "apptrace/tests/integration").glob("test_*.json"),
        *(folder / "integration/json_loader_traces").glob("*.json"),
        *(folder / "unit/traces").glob("*.json"),
    ]


@pytest.mark.parametrize("name", sorted(FRAMEWORKS))
def test_a_monocle_framework_is_read_whole(data: Path, name: str) -> None:
    read = Read(data / f"monocle/apptrace/tests/integration/test_{name}.json")
    assert (read.format, read.refused) == ("otel-spans", [])
    assert tuple(len(read.kind(kind)) for kind in ("llm", "tool", "agent")) == FRAMEWORKS[name]


def test_prompts_answers_and_tokens_of_every_monocle_inference(data: Path) -> None:
    files = monocle_files(data)
    assert len(files) == 23
    calls = prompts = answers = 0
    for path in files:
        read = Read(path)
        assert read.refused == [], path.name
        rows = {(row["trace_id"], row["span_id"]): row for row in read.spans}
        raw = list(raw_spans(path))
        assert len(rows) == len(raw), path.name
        for span in raw:
            if not str(span["attributes"].get("span.type", "")).startswith("inference") or not span["events"]:
                continue
            calls += 1
            context = span.get("context") or span
            row = rows[context["trace_id"].removeprefix("0x"), context["span_id"].removeprefix("0x")]
            given = [json.loads(item) for item in said(span, "data.input").get("input", ())]
            logged = [item for item in given if not (isinstance(item, dict) and list(item.values()) == [None])]
            texts = read.texts([*(row["system_ids"] or ()), *(row["input_ids"] or ())])
            assert len(texts) == len(logged), (path.name, row["span_id"])
            prompts += bool(texts)
            for item, text in zip(logged, texts, strict=True):
                if isinstance(item, dict) and len(item) == 1 and isinstance(content := next(iter(item.values())), str):
                    assert text in (content, ""), path.name  # calls have no text
            told, meta = said(span, "data.output"), said(span, "metadata")
            wanted = "response" in told and told["response"] != '{"assistant": null}' and row["status"] != "error"
            assert (row["output_ids"] is not None) == wanted, (path.name, row["span_id"])
            answers += wanted
            assert row["tokens_in"] == meta.get("prompt_tokens")
            assert row["tokens_out"] == meta.get("completion_tokens")
    assert (calls, prompts, answers) == (105, 99, 86)


def test_monocle_files_that_hold_no_trace_are_refused_whole(data: Path) -> None:
    for name in (
        "apptrace/tests/integration/monocle_scopes.json",
        "integration/custom_templates/user_input_validity.json",
    ):
        read = Read(data / "monocle" / name)
        assert (read.format, read.spans, len(read.refused)) == (None, [], 1)


def test_vercels_outer_spans_say_what_their_model_calls_say(data: Path) -> None:
    read = Read(data / "openinference/v6-spans/all-spans.json")
    assert (read.format, read.refused) == ("otel-spans", [])
    calls = {span["agent_name"]: span for span in read.kind("llm")}
    agents = {span["agent_name"]: span for span in read.kind("agent")}
    assert (
        set(calls)
        == set(agents)
        == {
            "test-generate-text",
            "test-generate-text-messages",
            "test-generate-object",
            "test-stream-text",
        }
    )
    for name, call in calls.items():
        outer = agents[name]
        for column in ("system_ids", "input_ids", "output_ids", "tokens_in", "tokens_out", "finish_reasons"):
            assert call[column] == outer[column] != 0, (name, column)
        assert (call["model_requested"], call["model"]) == ("gpt-4o-mini", "gpt-4o-mini-2024-07-18")
        assert "orphan" in call["flags"]
    assert sum(call["tokens_in"] for call in calls.values()) == 14 + 50 + 63 + 15
    (embedding,) = read.kind("embedding")
    assert (embedding["model"], embedding["tokens_in"]) == ("text-embedding-3-small", 10)
    again = Read(data / "openinference/v6-spans/spans-by-operation.json")
    assert {s["span_id"] for s in again.spans} == {s["span_id"] for s in read.spans}


def test_openinference_and_genai_twins_have_the_same_content_and_finish_reason(data: Path, tmp_path: Path) -> None:
    names = (
        "otel_genai_client_span_tool_calls",
        "openinference_client_span_tool_calls",
        "otel_genai_deprecated_client_span_tool_calls",
        "openinference_client_span_input_output_only",
    )
    rows = [
        {
            "trace_id": f"{number:032x}",
            "span_id": f"{number:016x}",
            "name": "chat",
            "attributes": json.loads((data / "openinference" / f"{name}.json").read_text()),
        }
        for number, name in enumerate(names, start=1)
    ]
    path = tmp_path / "twins.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    genai, *twins = Read(path).spans
    assert genai["finish_reasons"] == ["stop"]
    columns = ("kind", "model", "model_requested", "provider", "tokens_in", "tokens_out", "finish_reasons")
    for twin in twins:
        for column in (*columns, "system_ids", "input_ids", "output_ids", "tool_definitions_id"):
            assert twin[column] == genai[column], column
