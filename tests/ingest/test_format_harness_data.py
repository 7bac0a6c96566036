"""Runs of benchmarks and agent harnesses that nobody here wrote, from the folder that TRACEMILL_DATA names."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tracemill import ingest

pytestmark = pytest.mark.data


class Logs:
    """What one folder of logs gives, by kind of span."""

    def __init__(self, *sources: Path) -> None:
        batches = list(ingest.batches(ingest.find(sources), key=b"k" * 32, now_ns=1))
        tables = {name: pa.concat_tables([b.tables[name] for b in batches]).to_pylist() for name in _TABLES}
        self.spans: list[dict[str, Any]] = tables["spans"]
        self.scores: list[dict[str, Any]] = tables["scores"]
        self.refused = {Path(row["source_uri"]).name for row in tables["quarantine"]}
        self.formats = Counter(row["source_format"] for row in tables["ingest_log"])
        self.records = sum(row["n_records"] for row in tables["ingest_log"])
        self.kinds = Counter(span["kind"] for span in self.spans)
        self.traces = {span["trace_id"] for span in self.spans}

    def kind(self, kind: str) -> list[dict[str, Any]]:
        return [span for span in self.spans if span["kind"] == kind]

    def total(self, kind: str, column: str) -> Any:
        return sum(span[column] for span in self.kind(kind) if span[column] is not None)

    def score(self, name: str) -> list[float | None]:
        return [row["value"] for row in self.scores if row["name"] == name]


_TABLES = ("spans", "scores", "quarantine", "ingest_log")


def test_tau2_has_29_simulations_whose_costs_are_the_logged_ones(data: Path) -> None:
    files = sorted((data / "tau2-activegraph").glob("*/tau2_output/results.json"))
    logs = Logs(*files)
    runs = [run for file in files for run in json.loads(file.read_text())["simulations"]]
    assert len(logs.traces) == len(runs) == logs.records == 29
    assert logs.kinds == {"llm": 162, "evaluator": 119, "tool": 106, "agent": 58, "event": 31}
    for run in runs:
        calls = [span for span in logs.kind("llm") if span["trace_id"] == run["id"].replace("-", "")]
        cost = sum(call["cost_usd"] for call in calls)
        assert run["agent_cost"] is None or cost == pytest.approx(run["agent_cost"])
    asked = [m["cost"] for run in runs for m in run["messages"] if m["role"] == "user" and m["cost"]]
    assert logs.total("evaluator", "cost_usd") == pytest.approx(sum(asked))
    usage = [m["usage"] for run in runs for m in run["messages"] if m.get("usage")]
    assert logs.total("llm", "tokens_in") + logs.total("evaluator", "tokens_in") == sum(
        u["prompt_tokens"] for u in usage
    )
    assert sum(value or 0 for value in logs.score("reward")) == sum(r["reward_info"]["reward"] for r in runs) == 14
    assert len(logs.score("action_check")) == 42
    assert all(span["tool_args"] is not None and span["tool_name"] for span in logs.kind("tool"))
    assert all("clock" in span["flags"] for span in logs.spans)
    assert logs.refused == set()


def test_fireact_has_465_runs_with_the_rewards_of_the_file(data: Path) -> None:
    logs = Logs(data / "fireact" / "trajs")
    (file,) = (data / "fireact" / "trajs").iterdir()
    runs = json.loads(file.read_text())
    assert len(logs.traces) == logs.records == len(runs) == 465
    turns = sum(message["role"] == "assistant" for run in runs.values() for message in run["traj"])
    assert logs.kinds == {"agent": 465, "llm": turns, "tool": turns}
    assert turns == 1241
    assert sum(value or 0 for value in logs.score("reward")) == sum(run["reward"] for run in runs.values()) == 200
    assert sum(value or 0 for value in logs.score("f1")) == pytest.approx(sum(run["f1"] for run in runs.values()))
    assert {span["task_key"] for span in logs.kind("agent")} == {f"fireact:{key}" for key in runs}
    assert sum(span["tool_name"] is None for span in logs.kind("tool")) == 1  # an action cut off in the middle
    assert logs.refused == set()


def test_who_and_when_has_184_failures_each_with_the_step_that_people_name(data: Path) -> None:
    logs = Logs(data / "who-and-when" / "Algorithm-Generated", data / "who-and-when" / "Hand-Crafted")
    assert len(logs.traces) == logs.records == 184
    assert logs.score("reward") == [0.0] * 184
    assert logs.kinds == {"agent": 787, "llm": 1641, "event": 1477, "tool": 313}
    named = {span["span_id"]: span for span in logs.spans}
    steps = [row for row in logs.scores if row["name"] == "step_correct"]
    assert len(steps) == 184
    blamed = {row["target_id"]: row["label"] for row in logs.scores if row["name"] == "mistake_agent"}
    agree = [named[row["target_id"]]["agent_name"] == blamed[named[row["target_id"]]["trace_id"]] for row in steps]
    assert agree.count(True) == 176  # the labels themselves name another agent than the step's eight times
    assert logs.refused == set()


def test_openhands_runs_have_the_providers_tokens(data: Path) -> None:
    logs = Logs(data / "openhands")
    file = data / "openhands/evaluation/benchmarks/multi_swe_bench/examples/output.jsonl"
    runs = [json.loads(line) for line in file.read_text().splitlines()]
    assert logs.formats == {"openhands": 6, None: 4}
    assert logs.refused == {"LICENSE", "config.json", "patch.jsonl", "example_model_output.json"}
    assert (len(logs.traces), logs.kinds) == (9, {"llm": 145, "tool": 135, "agent": 9, "retriever": 3, "event": 2})
    for run in runs:
        root = next(s for s in logs.kind("agent") if s["task_key"] == f"openhands:{run['instance_id']}")
        calls = [span for span in logs.kind("llm") if span["trace_id"] == root["trace_id"]]
        told = run["metrics"]["accumulated_token_usage"]
        assert sum(call["tokens_in"] for call in calls) == told["prompt_tokens"]
        assert sum(call["tokens_out"] for call in calls) == told["completion_tokens"]
        assert len(calls) == len(run["metrics"]["token_usages"])
        assert all(call["start_ns"] < call["end_ns"] for call in calls)
        assert {call["cost_usd"] for call in calls} == {None}
    resolved = [span for span in logs.kind("llm") if span["source_uri"].endswith("mock_output/output.jsonl")]
    assert sum(span["cost_usd"] for span in resolved) == pytest.approx(0.070713 + 1.152933)
    assert logs.score("success") == [1.0, 1.0]


def test_swe_agent_files_old_and_new(data: Path) -> None:
    logs = Logs(data / "swe-agent" / "trajectories")
    assert (len(logs.traces), logs.formats, logs.refused) == (22, {"swe-agent": 22}, set())
    assert logs.kinds == {"llm": 232, "tool": 232, "agent": 22}
    ran = [run for run in logs.kind("agent") if "copied" not in run["flags"]]
    written = [run for run in ran if run["tokens_in"] is None]  # a person's thoughts are not all replays
    assert sorted(run["tokens_in"] for run in ran if run["tokens_in"]) == [7141, 52861, 122612]
    assert sum(run["cost_usd"] for run in ran if run["cost_usd"]) == pytest.approx(0.01952 + 0.53839 + 1.26719)
    assert len(written) == 2
    assert {run["status"] for run in logs.kind("agent")} == {"ok", "unset"}
    assert all(call["input_ids"] and call["output_ids"] for call in logs.kind("llm"))


def test_mini_swe_agent_files(data: Path) -> None:
    logs = Logs(data / "mini-swe-agent")
    assert (logs.formats, logs.refused) == ({"mini-swe-agent": 2, None: 2}, {"LICENSE.md", "results.json"})
    assert logs.kinds == {"llm": 12, "tool": 12, "agent": 2}
    assert all(span["tool_args"] for span in logs.kind("tool"))
    assert Counter(span["status"] for span in logs.kind("tool")) == {"ok": 8, "error": 2, "unset": 2}


def test_openhands_v1_cases_hold_the_turns_of_their_normal_form(data: Path) -> None:
    for case in ("cleanup", "tool-calls"):
        folder = data / "coding-agent-sessions" / "openhands" / case
        expected = json.loads((folder / "expected.json").read_text())["records"]
        logs = Logs(folder / "input.json")
        normal = Counter(record["role"] for record in expected)
        assert logs.kinds["tool"] == normal["tool"]
        asked = sum(len(record.get("tool_calls", ())) for record in expected)
        said = sum(record["role"] == "assistant" and bool(record.get("content")) for record in expected)
        assert logs.kinds["llm"] == asked + said
        results = {record["content"] for record in expected if record["role"] == "tool"}
        assert {span["tool_result"] for span in logs.kind("tool")} == results
