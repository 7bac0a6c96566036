"""Logs that real agents wrote, read from the folder that TRACEMILL_DATA names."""

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tracemill import ingest

KEY = b"k" * 32
pytestmark = pytest.mark.data


def taken(*sources: Path) -> dict[str, pa.Table]:
    batches = list(ingest.batches(ingest.find(sources), key=KEY, now_ns=1))
    return {name: pa.concat_tables([batch.tables[name] for batch in batches]) for name in batches[0].tables}


def test_intercode_has_2904_trajectories_in_six_variants_with_their_rewards(data: Path) -> None:
    tables = taken(data / "intercode-sql" / "runs")
    roots = tables["spans"].filter(pc.equal(tables["spans"]["kind"], "agent")).to_pylist()
    assert len({root["trace_id"] for root in roots}) == len(roots) == 2904
    rewards = {row["target_id"]: row["value"] for row in tables["scores"].to_pylist()}
    solved: Counter[str] = Counter(root["agent_name"] for root in roots if rewards[root["trace_id"]] == 1)
    assert {name: round(n / 484, 3) for name, n in solved.items()} == {
        "intercode-sql/multiturn-1": 0.105,
        "intercode-sql/multiturn-1-handicap": 0.742,
        "intercode-sql/multiturn-10": 0.465,
        "intercode-sql/multiturn-10-handicap": 0.74,
        "intercode-sql/plan-solve": 0.521,
        "intercode-sql/react": 0.603,
    }
    leaking = {root["agent_name"] for root in roots if "reward_leak" in root["flags"]}
    assert leaking == {"intercode-sql/multiturn-10", "intercode-sql/multiturn-10-handicap"}
    assert tables["quarantine"].num_rows == 0
    tasks = ingest.read_tasks(data / "intercode-sql" / "tasks.jsonl", key="task_id", group="db")
    assert {root["task_key"] for root in roots} == {f"intercode:{key}" for key in tasks["task_key"].to_pylist()}


def test_tau_bench_has_200_runs_of_which_84_succeed(data: Path) -> None:
    tables = taken(data / "tau-bench" / "historical_trajectories")
    spans = tables["spans"].to_pylist()
    assert len({span["trace_id"] for span in spans}) == 200
    assert sum(row["value"] for row in tables["scores"].to_pylist()) == 84
    kinds = Counter(span["kind"] for span in spans)
    assert kinds == {"agent": 200, "llm": 1290 + 1164, "tool": 1164}
    assert all(span["tool_args"] is not None for span in spans if span["kind"] == "tool")
    assert "@example.com" not in "".join(tables["messages"]["parts"].to_pylist())


def test_openhands_logs_42_messages_of_which_12_are_distinct(data: Path) -> None:
    tables = taken(data / "openhands-sdk" / "llm_data" / "llm-logs")
    calls = [span for span in tables["spans"].to_pylist() if span["kind"] == "llm"]
    logged = [message for call in calls for message in (*(call["system_ids"] or ()), *call["input_ids"])]
    assert (len(logged), len(set(logged))) == (42, 12)
    assert len({call["trace_id"] for call in calls}) == 1
    ordered = sorted(calls, key=lambda call: call["start_ns"])
    assert [call["seq"] for call in ordered] == [2, 4, 6, 8, 10, 12]
    for before, after in itertools.pairwise(ordered):
        assert after["input_ids"][: len(before["input_ids"])] == before["input_ids"]
        assert after["input_ids"][len(before["input_ids"])] == before["output_ids"][0]
    assert sum(span["kind"] == "tool" for span in tables["spans"].to_pylist()) == 5
    assert all(call["cost_usd"] > 0 and call["tokens_in"] > 0 for call in calls)


def test_the_other_openhands_files_are_conversations_and_calls(data: Path) -> None:
    tables = taken(data / "openhands-sdk" / "llm_data")
    reasons = Counter(row["format_reason"] for row in tables["ingest_log"].to_pylist())
    assert reasons == {"a list of chat messages": 2, "records with messages and response": 10}
    assert tables["quarantine"].num_rows == 0


def test_the_otlp_file_is_read(data: Path) -> None:
    tables = taken(data / "otlp" / "test-traces.json")
    assert set(tables["spans"]["service"].to_pylist()) == {"Agento-Module-1"}
    assert tables["quarantine"].num_rows == 0


def wrap(attributes: dict[str, Any], number: int) -> dict[str, Any]:
    def value(item: Any) -> dict[str, Any]:
        if isinstance(item, list):
            return {"arrayValue": {"values": [value(i) for i in item]}}
        kind = {int: "intValue", float: "doubleValue"}.get(type(item), "stringValue")
        return {kind: item}

    span = {"traceId": f"{number:032x}", "spanId": f"{number:016x}", "name": "chat"}
    span["attributes"] = [{"key": k, "value": value(v)} for k, v in attributes.items()]
    return {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}


def test_openinference_spans_agree_with_their_genai_twins(data: Path, tmp_path: Path) -> None:
    names = (
        "otel_genai_client_span_tool_calls",
        "openinference_client_span_tool_calls",
        "otel_genai_deprecated_client_span_tool_calls",
        "openinference_client_span_input_output_only",
        "otel_genai_tool_execution_span",
    )
    path = tmp_path / "twins.jsonl"
    with path.open("w") as file:
        for number, name in enumerate(names, start=1):
            attributes = json.loads((data / "openinference" / f"{name}.json").read_text())
            file.write(json.dumps(wrap(attributes, number)) + "\n")
    genai, inference, deprecated, plain, tool = taken(path)["spans"].to_pylist()
    for twin in (inference, deprecated, plain):
        for column in (
            "kind",
            "provider",
            "model",
            "model_requested",
            "tokens_in",
            "tokens_out",
            "input_ids",
            "output_ids",
        ):
            assert twin[column] == genai[column], column
    assert (len(genai["input_ids"]), len(genai["output_ids"]), genai["tokens_in"]) == (3, 1, 97)
    assert (tool["kind"], tool["tool_name"], tool["tool_call_id"]) == ("tool", "get_weather", "1234")
    assert json.loads(tool["tool_args"]) == {"city": "New York"}


def test_nothing_in_the_whole_folder_raises(data: Path) -> None:
    tables = taken(data)
    known = Counter(row["source_format"] for row in tables["ingest_log"].to_pylist())
    assert known["intercode"] == 6
    assert known["tau-bench"] >= 1
    refused = {row["source_uri"] for row in tables["quarantine"].to_pylist() if row["line"] is None}
    unknown = {row["source_uri"] for row in tables["ingest_log"].to_pylist() if row["source_format"] is None}
    assert unknown <= refused
