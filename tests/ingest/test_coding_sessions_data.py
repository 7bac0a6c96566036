"""Sessions of coding agents from the folder that TRACEMILL_DATA names: expected normal forms, real long sessions."""

import contextlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tracemill import ingest

KEY = b"k" * 32
CASES = (
    "atif/cleanup",
    "atif/tool-calls",
    "claude-code/cleanup",
    "claude-code/subagent",
    "claude-code/tool-call",
    "codex/cleanup",
    "codex/tool-calls",
    "copilot-cli/cleanup",
    "copilot-cli/tool-calls",
    "cursor/cleanup",
    "cursor/tool-calls",
    "droid/happy-path",
    "gemini-cli/cleanup",
    "gemini-cli/tool-calls",
    "hermes/cleanup",
    "hermes/tool-calls",
    "letta-code/cleanup",
    "letta-code/tool-calls",
    "omp/cleanup",
    "omp/tool-calls",
    "openclaw/cleanup",
    "openclaw/tool-calls",
    "opencode/cleanup",
    "opencode/tool-calls",
    "openhands/cleanup",
    "openhands/tool-calls",
    "pi/cleanup",
    "pi/tool-calls",
)
pytestmark = pytest.mark.data


def taken(path: Path) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for batch in ingest.batches(ingest.find([path]), key=KEY, now_ns=1):
        for name, table in batch.tables.items():
            found.setdefault(name, []).extend(table.to_pylist())
    return found


def normal(tables: dict[str, list[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """Spans in the normal form: what was said, record by record.

    The normal form leaves out what tracemill keeps and flags: what the harness said in the user's place, other events,
    what was taken back, sub-agents beside their main agent, results of calls that are not there, unknown parts. It
    numbers repeated call ids, and wraps arguments that are no object as {"_raw": text}.
    """
    parts = {row["message_id"]: json.loads(row["parts"]) for row in tables["messages"]}
    roles = {row["message_id"]: row["role"] for row in tables["messages"]}
    main = [s for s in tables["spans"] if not json.loads(s["attributes"] or "{}").get("branch")]
    agents = {s["span_id"] for s in main if s["kind"] == "agent" and s["parent_span_id"] is None}
    told = any(span["kind"] == "event" and span["name"] == "user" for span in main)
    before: list[str] = []
    ids: Counter[Any] = Counter()
    for span in sorted(main, key=lambda s: s["seq"]):
        if agents and span["parent_span_id"] not in agents:
            continue
        if span["kind"] == "event" and span["name"] == "user" and "synthetic" not in span["flags"]:
            yield {"role": "user", "content": shown(p for i in span["input_ids"] for p in parts[i])}
        elif span["kind"] == "llm":
            if not told:  # trajectories that log no turns of their own: what is new in the prompt
                new = span["input_ids"][len(before) :]
                yield from ({"role": "user", "content": shown(parts[i])} for i in new if roles[i] == "user")
                before = [*span["input_ids"], *span["output_ids"]]
            for part in (p for i in span["output_ids"] for p in parts[i]):
                if part["type"] == "reasoning":
                    yield {"role": "reasoning", "content": part["content"]}
                elif part["type"] == "text":
                    yield {"role": "assistant", "content": part["content"]}
                elif part["type"] == "tool_call":
                    yield {"role": "assistant", "call": (numbered(part["id"], ids), part["name"], arguments(part))}
        elif span["kind"] == "tool" and "unmatched" not in span["flags"]:
            call_id = numbered(span["tool_call_id"], ids, result=True)
            content = span["tool_result"] if span["tool_result"] is not None else span["attributes"]
            yield {"role": "tool", "id": call_id, "content": content, "failed": span["status"] == "error"}


def numbered(call_id: str, ids: Counter[Any], *, result: bool = False) -> str:
    ids[call_id, result] += 1
    return call_id if ids[call_id, result] == 1 else f"{call_id}__{ids[call_id, result]}"


def shown(parts: Iterable[dict[str, Any]]) -> str:
    return "\n".join(str(part["content"]) if part["type"] == "text" else "[image]" for part in parts)


def arguments(part: dict[str, Any]) -> Any:
    asked = part["arguments"]
    if isinstance(asked, str):
        try:
            asked = json.loads(asked)
        except ValueError:
            return {"_raw": asked}
    return asked if isinstance(asked, dict) else {"_raw": json.dumps(asked)}


def expected(path: Path) -> Iterator[dict[str, Any]]:
    """The records of the normal form in the same shape.

    It says "Error: " before some failed results. Ids it made up for calls that had none are not compared (letta-code).
    """
    for record in json.loads(path.read_text())["records"]:
        if record["role"] == "assistant" and record["content"] is None:
            (call,) = record["tool_calls"]
            yield {"role": "assistant", "call": (call["id"], call["name"], json.loads(call["args"]))}
        elif record["role"] == "tool":
            failed = record.get("ok") is False
            content = record["content"].removeprefix("Error: ") if failed else record["content"]
            yield {"role": "tool", "id": record["tool_call_id"], "content": content, "failed": failed}
        elif record["role"] != "meta":
            yield {"role": record["role"], "content": record["content"]}


def compared(records: Iterable[dict[str, Any]], source: str) -> list[dict[str, Any]]:
    """What both forms agree on. JSON in text counts by what it says, parts of text and images as they are shown.

    By design, OpenHands' thought is the text that the model said, and its actions keep their own ids and lack of a
    name; an observation that no call asked for is what the user says; Hermes' images are kept. Ids and failures that
    only the normal form makes up or leaves out are not compared.
    """
    found = []
    for record in records:
        content = record.get("content")
        if isinstance(content, str) and content[:1] in ("{", "["):
            with contextlib.suppress(ValueError):
                content = json.loads(content)
        if isinstance(content, list) and all("type" in item for item in content):
            content = shown(content)
        record = {**record, "content": content}
        if record["role"] == "observation":
            record["role"] = "user"
        if source == "hermes" and isinstance(content, str):
            record["content"] = content.removesuffix("\n[image]")
        if source == "openhands":
            record.pop("failed", None)
            record["role"] = "assistant" if record["role"] == "reasoning" else record["role"]
            record["id"] = str(record.get("id")).removeprefix("oh_")
            if "call" in record:
                call_id, name, asked = record["call"]
                record["call"] = (call_id.removeprefix("oh_"), name or "unknown_tool", asked)
        if source == "letta-code":
            record = json.loads(json.dumps(record).replace("letta-code-tool-line-", "line-"))
        found.append(record)
    return found


@pytest.mark.parametrize("case", CASES)
def test_every_case_has_its_expected_normal_form(data: Path, case: str) -> None:
    folder = data / "coding-agent-sessions" / case
    (source,) = folder.glob("input.*")
    tables = taken(source)
    kind = case.split("/")[0]
    assert compared(normal(tables), kind) == compared(expected(folder / "expected.json"), kind)
    meta = json.loads((folder / "expected.json").read_text())["records"][0]
    reader = {"omp": "pi", "openclaw": "pi", "openhands": "openhands-sdk"}.get(kind, kind)
    assert tables["ingest_log"][0]["source_format"] == reader
    models = {span["model"] for span in tables["spans"] if span["kind"] == "llm"}
    assert meta.get("model") in models or "model" not in meta
    invalid = [d for d in json.loads((folder / "expected.json").read_text())["diagnostics"] if "inputLine" in d]
    torn = {d["inputLine"] for d in invalid if d["code"] == "invalid_json_line"}
    assert {row["line"] for row in tables["quarantine"]} == (torn if case != "openhands/cleanup" else {3, 4})


def usage_of(path: Path) -> tuple[int, int, int, int, float]:
    """Tokens and cost of a pi session as its own records say them."""
    records = [json.loads(line) for line in path.read_text().splitlines()]
    used = [r["message"]["usage"] for r in records if r.get("message", {}).get("role") == "assistant"]
    sums = [sum(u[name] for u in used) for name in ("input", "cacheRead", "cacheWrite", "output")]
    return sums[0] + sums[1] + sums[2], sums[1], sums[2], sums[3], sum(u["cost"]["total"] for u in used)


@pytest.mark.parametrize(("name", "records"), [("large-session", 1019), ("before-compaction", 1003)])
def test_long_pi_sessions_come_out_whole_with_their_usage_counted_once(data: Path, name: str, records: int) -> None:
    path = data / "pi" / f"{name}.jsonl"
    tables = taken(path)
    spans = tables["spans"]
    assert tables["ingest_log"][0]["n_records"] == records
    assert len(spans) + len(tables["quarantine"]) == records
    assert len(tables["quarantine"]) == 0
    calls = [span for span in spans if span["kind"] == "llm"]
    columns = ("tokens_in", "tokens_cache_read", "tokens_cache_write", "tokens_out", "cost_usd")
    assert [sum(call[c] or 0 for call in calls) for c in columns] == pytest.approx(usage_of(path))
    results = sum('"role":"toolResult"' in line for line in path.read_text().splitlines())
    assert sum(span["kind"] == "tool" for span in spans) == results > 300
    assert all(span["tool_args"] is not None for span in spans if span["kind"] == "tool")


@pytest.mark.parametrize("name", ["large-session", "before-compaction"])
def test_branched_messages_are_older_than_the_header_and_still_in_order(data: Path, name: str) -> None:
    path = data / "pi" / f"{name}.jsonl"
    spans = taken(path)["spans"]
    header = json.loads(path.read_text().splitlines()[0])
    begun = datetime.fromisoformat(header["timestamp"]).timestamp() * 1e9
    ordered = sorted(spans, key=lambda span: (span["start_ns"], span["seq"]))
    assert ordered[0]["kind"] == "agent"
    assert ordered[0]["start_ns"] < begun
    lines = [span["source_line"] for span in ordered if span["kind"] in ("llm", "tool")]
    assert lines == sorted(lines)
    known: set[str] = set()
    previous: list[str] = []
    for call in (span for span in ordered if span["kind"] == "llm"):
        prompt = call["input_ids"]
        assert previous == prompt[: len(previous)] or set(prompt) & known  # extends, or begins anew after a compaction
        known |= set(prompt)
        previous = prompt


def test_a_compaction_makes_prompts_begin_with_its_summary_and_what_it_kept(data: Path) -> None:
    path = data / "pi" / "before-compaction.jsonl"
    tables = taken(path)
    texts = {row["message_id"]: row["text"] for row in tables["messages"]}
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for at, record in enumerate(records):
        if record["type"] == "compaction":
            after = next(s for s in tables["spans"] if s["kind"] == "llm" and s["source_line"] > at + 1)
            kept = records[record["firstKeptEntryIndex"]]["message"]["content"][0]["text"]
            said = [texts[i] for i in after["input_ids"]]
            assert said[0].startswith(record["summary"][:40])
            assert said[1] == kept
            assert len(said) < at / 2


def test_agent_sdk_recordings_count_what_the_result_says_once(data: Path) -> None:
    for name, calls, tokens_in, tokens_out, cost in (
        ("basic_conversation", 1, 9344, 5, 0.01039005),
        ("tool_use_conversation", 2, 18872, 415, 0.01608915),
    ):
        spans = taken(data / "claude-agent-sdk" / f"{name}.json")["spans"]
        assert sum(span["kind"] == "llm" for span in spans) == calls
        assert sum(span["tokens_in"] or 0 for span in spans) == tokens_in
        assert sum(span["tokens_out"] or 0 for span in spans) == tokens_out
        assert sum(span["cost_usd"] or 0 for span in spans) == pytest.approx(cost)


def test_claude_code_edge_cases_lose_only_what_is_broken(data: Path) -> None:
    folder = data / "claude-code" / "claude-code-log" / "test" / "test_data"
    edge = taken(folder / "edge_cases.jsonl")
    assert [row["line"] for row in edge["quarantine"]] == [10, 11, 13, 14, 15, 16]
    assert Counter(span["kind"] for span in edge["spans"]) == {"agent": 2, "event": 8, "llm": 4, "tool": 1}
    todo = taken(folder / "todowrite_examples.jsonl")
    assert sum(span["tokens_out"] for span in todo["spans"] if span["kind"] == "llm") == 25 + 85 + 18 + 85 + 20 + 95
    assert [s["tool_name"] for s in todo["spans"] if s["kind"] == "tool"] == ["TodoWrite"] * 3
    web = taken(data / "claude-code" / "simonw" / "tests" / "sample_session.json")
    assert web["quarantine"] == []
    assert {span["source_format"] for span in web["spans"]} == {"claude-code"}
