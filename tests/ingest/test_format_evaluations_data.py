"""Evaluation logs and trajectories that real programs wrote, read from the folder that TRACEMILL_DATA names."""

import json
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tracemill import ingest
from tracemill.chat import text_of
from tracemill.ingest.exports import EXPORTERS, Episode

KEY = b"k" * 32
pytestmark = pytest.mark.data
ELSEWHERE = ("source_uri", "source_line", "source_format", "ingested_at", "user_key", "attributes", "params")


def taken(*sources: Path) -> dict[str, list[dict[str, Any]]]:
    batches = list(ingest.batches(ingest.find(sources), key=KEY, now_ns=1))
    names = ("spans", "messages", "scores", "quarantine", "ingest_log")
    return {name: pa.concat_tables([batch.tables[name] for batch in batches]).to_pylist() for name in names}


def test_docent_has_15_samples_whose_calls_add_up_to_the_samples_usage(data: Path) -> None:
    path = data / "docent" / "log.eval"
    tables = taken(path)
    with zipfile.ZipFile(path) as archive:
        samples = [json.loads(archive.read(name)) for name in archive.namelist() if name.startswith("samples/")]
    truth = {
        f"inspect_evals/luce_intercode_ctf/{sample['id']}": sample["model_usage"]["openai/gpt-4o"] for sample in samples
    }
    roots = {span["trace_id"]: span["task_key"] for span in tables["spans"] if span["kind"] == "agent"}
    used: Counter[tuple[str, str]] = Counter()
    for span in tables["spans"]:
        if span["kind"] == "llm":
            used[roots[span["trace_id"]], "in"] += span["tokens_in"] or 0
            used[roots[span["trace_id"]], "out"] += span["tokens_out"] or 0
    assert {(task, way): n for (task, way), n in used.items()} == {
        (task, way): usage[f"{way}put_tokens"] for task, usage in truth.items() for way in ("in", "out")
    }
    assert Counter(span["kind"] for span in tables["spans"])["llm"] == 147
    assert (len(tables["scores"]), sum(score["value"] for score in tables["scores"])) == (15, 9)
    assert tables["quarantine"] == []


def test_deduplicated_prompts_of_inspect_are_whole_again(data: Path) -> None:
    tables = taken(data / "inspect-ai" / "log" / "test_eval_log" / "log_message_deduplication.eval")
    calls = [span for span in tables["spans"] if span["kind"] == "llm"]
    assert [len(call["input_ids"]) for call in calls] == [1, 3, 5, 7, 9, 11]
    assert not any("attachment://" in row["parts"] for row in tables["messages"])


def test_an_inspect_log_is_the_same_in_both_of_its_containers(data: Path) -> None:
    folder = data / "inspect-ai" / "log" / "test_eval_log"
    archive, document = taken(folder / "log_formats.eval"), taken(folder / "log_formats.json")
    names = ("kind", "name", "model", "tokens_in", "tokens_out", "input_ids", "output_ids", "task_key")
    seen = [[[span[name] for name in names] for span in tables["spans"]] for tables in (archive, document)]
    assert seen[0] == seen[1]


@pytest.mark.parametrize("case", ["tool-calls", "cleanup"])
def test_atif_cases_say_what_their_normal_form_says(data: Path, case: str) -> None:
    folder = data / "coding-agent-sessions" / "atif" / case
    tables = taken(folder / "input.json")
    messages = {row["message_id"]: json.loads(row["parts"]) for row in tables["messages"]}
    root = next(span for span in tables["spans"] if span["parent_span_id"] is None)
    calls = [s for s in tables["spans"] if s["kind"] == "llm" and s["parent_span_id"] == root["span_id"]]
    said = [parts for one in [*calls[-1]["input_ids"], *calls[-1]["output_ids"]] if (parts := messages[one])]
    records = json.loads((folder / "expected.json").read_text())["records"]
    wanted = Counter(record["role"] for record in records)
    parts = Counter(part["type"] for message in said for part in message)
    assert parts["tool_call"] == sum(len(record.get("tool_calls", ())) for record in records)
    assert parts["tool_call_response"] == wanted["tool"]
    assert parts["reasoning"] == wanted["reasoning"]
    texts = {text_of([part]) for message in said for part in message if part["type"] == "text"}
    spoken = [r["content"] for r in records if r["role"] in ("user", "assistant", "observation") and r.get("content")]
    assert {content.removesuffix("\n[image]") for content in spoken} <= texts


@pytest.mark.parametrize(
    ("source", "target"),
    [
        *((source, "atif") for source in ("docent/log.eval", "inspect-ai/log", "monocle", "langfuse", "pi")),
        *((source, "otlp") for source in ("docent/log.eval", "inspect-ai/log", "monocle", "langfuse", "otlp")),
    ],
)
def test_real_logs_come_back_from_their_export(data: Path, tmp_path: Path, target: str, source: str) -> None:
    tables = taken(data / source)
    messages = {row["message_id"]: (row["role"], row["name"], json.loads(row["parts"])) for row in tables["messages"]}
    traces: dict[str, list[dict[str, Any]]] = {}
    for span in sorted(tables["spans"], key=lambda s: (s["start_ns"] is None, s["start_ns"], s["seq"], s["span_id"])):
        traces.setdefault(span["trace_id"], []).append(span)
    exporter = next(one for one in EXPORTERS if one.name == target)
    path = tmp_path / "export.jsonl"
    with path.open("w") as file:
        for trace_id, spans in traces.items():
            trajectory = {"trajectory_id": trace_id, "session_id": spans[0]["session_id"]}
            episode = Episode(trajectory=trajectory, spans=spans, transitions=(), scores=(), messages=messages)
            file.writelines(json.dumps(record, allow_nan=False) + "\n" for record in exporter.records(episode))
    again = taken(path)
    assert again["quarantine"] == []
    assert readable(again["spans"]) == readable(tables["spans"])
    known = {row["message_id"] for row in again["messages"]}
    assert known <= set(messages)


def readable(spans: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """Spans by key; message ids are equal where the messages are, as the key is the same."""
    found = {}
    for span in spans:
        row = {name: value for name, value in span.items() if name not in ELSEWHERE}
        row |= {name: json.loads(span[name] or "{}") for name in ("attributes", "params")}
        row["flags"] = sorted(row["flags"])
        found[span["trace_id"], span["span_id"]] = row
    return found
