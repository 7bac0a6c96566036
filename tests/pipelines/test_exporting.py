"""Trajectories leave the lake as files of other formats, and ATIF and OTLP come back as the same spans."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tracemill import ingest
from tracemill.errors import ConfigError, QueryError, StoreError
from tracemill.pipelines import exporting
from tracemill.warehouse import Lake

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


def answer(text: str | None, *calls: dict[str, Any], **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": text, **({"tool_calls": list(calls)} if calls else {})}
    return {
        "id": f"chatcmpl-{text}",
        "model": "small-1",
        "choices": [{"message": message, "finish_reason": "stop"}],
    } | more


def record(at: int, said: list[dict[str, Any]], response: dict[str, Any], session: str) -> dict[str, Any]:
    request = {"model": "small", "messages": said, "tools": [TOOL], "temperature": 0.5}
    return {"request": request, "response": response, "timestamp": at, "session_id": session, "user_id": "u-1"}


def conversation(session: str, question: str) -> list[dict[str, Any]]:
    """A call that looks something up, and one that answers with what was found."""
    asked = [{"role": "system", "content": "You are a desk."}, {"role": "user", "content": question}]
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"what": "it"}'}}
    first = answer(None, call, usage={"prompt_tokens": 10, "completion_tokens": 2})
    told = [*asked, first["choices"][0]["message"], {"role": "tool", "tool_call_id": "c1", "content": "found"}]
    return [record(1_700_000_000, asked, first, session), record(1_700_000_060, told, answer(f"{session}!"), session)]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """Three conversations, one of them judged."""
    tmp_path = tmp_path_factory.mktemp("exporting")
    log, scores = tmp_path / "calls.jsonl", tmp_path / "scores.jsonl"
    lines = [line for name in ("one", "two", "three") for line in conversation(name, f"Question {name}?")]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with Lake.create(tmp_path / "lake") as opened:
        fill(opened, log)
        rows = {row["session_id"]: row["trajectory_id"] for row in trajectories(opened)}
        judged = {"trajectory_id": rows["two"], "name": "reward", "value": 0.5, "source": "env"}
        scores.write_text(json.dumps(judged) + "\n")
        fill(opened, scores)
        yield opened


def fill(lake: Lake, path: Path) -> None:
    for batch in ingest.batches(ingest.find([path]), key=lake.key, now_ns=1):
        with lake.transaction("test") as tx:
            tx.rebuild(tx.take(batch).trace_ids)


def trajectories(lake: Lake) -> list[dict[str, Any]]:
    with lake.reader() as con:
        return con.execute("SELECT * FROM trajectories ORDER BY session_id").to_arrow_table().to_pylist()


def spans(lake: Lake) -> list[dict[str, Any]]:
    elsewhere = "source_uri, source_line, source_format, ingested_at, user_key"
    with lake.reader() as con:
        found = con.execute(f"SELECT * EXCLUDE ({elsewhere}) FROM spans ORDER BY trace_id, span_id").to_arrow_table()
    return [
        {**row, "attributes": json.loads(row["attributes"] or "{}"), "params": json.loads(row["params"] or "{}")}
        for row in found.to_pylist()
    ]


def write(lake: Lake, target: str, output: Any, *, format: str = "jsonl", **wanted: Any) -> exporting.ExportReport:
    snapshot = lake.snapshot_id()
    chosen = exporting.choose(lake, **{"where": None, "traces": (), **wanted}, snapshot=snapshot)
    found = exporting.exporter(target, format)
    return exporting.export(lake, found, output, format=format, chosen=chosen, snapshot=snapshot)


@pytest.mark.parametrize("target", ["atif", "otlp"])
def test_a_lake_that_is_exported_and_taken_in_again_holds_the_same_spans(
    lake: Lake, tmp_path: Path, target: str
) -> None:
    path = tmp_path / "out.jsonl"
    report = write(lake, target, path)
    assert (report.trajectories, report.records, report.empty) == (3, 3, 0)
    with Lake.create(tmp_path / "again") as again:
        for batch in ingest.batches(ingest.find([path]), key=lake.key, now_ns=2):
            with again.transaction("test") as tx:
                tx.rebuild(tx.take(batch).trace_ids)
        assert spans(again) == spans(lake)
        with again.reader() as con:
            row = con.execute("SELECT target_id, name, value, source FROM scores").fetchall()
    two = next(one["trajectory_id"] for one in trajectories(lake) if one["session_id"] == "two")
    assert row == [(two, "reward", 0.5, "env")]


def test_atif_is_what_other_readers_of_atif_expect(lake: Lake, tmp_path: Path) -> None:
    write(lake, "atif", tmp_path / "out.jsonl", where="session_id = 'two'")
    (document,) = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert document["schema_version"] == "ATIF-v1.8"
    assert (document["session_id"], document["extra"]["reward"]) == ("two", 0.5)
    assert [(step["step_id"], step["source"], step["message"]) for step in document["steps"]] == [
        (1, "system", "You are a desk."),
        (2, "user", "Question two?"),
        (3, "agent", ""),
        (4, "agent", "two!"),
    ]
    third = document["steps"][2]
    (call,) = third["tool_calls"]
    assert (call["tool_call_id"], call["function_name"], call["arguments"]) == ("c1", "look", {"what": "it"})
    (result,) = third["observation"]["results"]
    assert (result["source_call_id"], result["content"]) == ("c1", "found")
    assert third["metrics"] == {"prompt_tokens": 10, "completion_tokens": 2}
    assert document["agent"]["tool_definitions"] == [TOOL]


def test_otlp_speaks_the_genai_conventions(lake: Lake) -> None:
    out = io.StringIO()
    write(lake, "otlp", out, where="session_id = 'two'")
    request = json.loads(out.getvalue())
    found = request["resourceSpans"][0]["scopeSpans"][0]["spans"]
    call = next(
        {pair["key"]: pair["value"] for pair in span["attributes"]}
        for span in found
        if any(pair["value"] == {"stringValue": "chat"} for pair in span["attributes"])
    )
    assert call["gen_ai.request.model"] == {"stringValue": "small"}
    assert call["gen_ai.request.temperature"] == {"doubleValue": 0.5}
    assert call["gen_ai.usage.input_tokens"] == {"intValue": "10"}
    assert json.loads(call["gen_ai.input.messages"]["stringValue"])[0] == {
        "role": "system",
        "parts": [{"type": "text", "content": "You are a desk."}],
    }
    events = [event for span in found for event in span.get("events", ())]
    assert [event["name"] for event in events] == ["gen_ai.evaluation.result"]


def test_openai_lines_are_whole_conversations_and_nothing_else(lake: Lake, tmp_path: Path) -> None:
    report = write(lake, "openai", tmp_path / "out.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert (report.records, {tuple(line) for line in lines}) == (3, {("messages", "tools")})
    first = next(line for line in lines if line["messages"][1]["content"] == "Question one?")
    assert [message["role"] for message in first["messages"]] == ["system", "user", "assistant", "tool", "assistant"]
    assert first["messages"][2]["tool_calls"][0]["function"] == {"name": "look", "arguments": '{"what": "it"}'}
    assert first["messages"][-1] == {"role": "assistant", "content": "one!"}


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_trl_rows_are_calls_with_prompt_completion_and_reward(lake: Lake, tmp_path: Path, format: str) -> None:
    path = tmp_path / f"out.{format}"
    report = write(lake, "trl", path, format=format)
    rows = (
        pq.read_table(path).to_pylist()
        if format == "parquet"
        else [json.loads(line) for line in path.read_text().splitlines()]
    )
    assert report.records == len(rows) == 6
    judged = [row for row in rows if row["reward"] is not None]
    assert [(row["step"], row["reward"], row["completion"][0]["content"]) for row in judged] == [
        (0, 0.5, None),
        (1, 0.5, "two!"),
    ]
    assert [message["role"] for message in judged[1]["prompt"]] == ["system", "user", "assistant", "tool"]
    assert judged[0]["completion"][0]["tool_calls"][0]["function"]["arguments"] == '{"what": "it"}'
    assert json.loads(judged[0]["tools"]) == [TOOL]
    assert (judged[0]["model"], judged[0]["prompt_token_ids"]) == ("small-1", None)


def test_a_folder_gets_a_file_a_trajectory(lake: Lake, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    write(lake, "atif", folder)
    ids = {one["trajectory_id"] for one in trajectories(lake)}
    assert {path.name for path in folder.iterdir()} == {f"{one}.json" for one in ids}


def test_trajectories_are_chosen_by_condition_or_by_name(lake: Lake) -> None:
    rows = trajectories(lake)
    out = io.StringIO()
    assert write(lake, "atif", out, where="session_id = 'one' -- and no more").records == 1
    assert json.loads(out.getvalue())["session_id"] == "one"
    named = [row["trajectory_id"] for row in rows if row["session_id"] in ("one", "three")]
    assert write(lake, "atif", io.StringIO(), traces=named).trajectories == 2
    assert write(lake, "atif", io.StringIO(), where="n_spans > 99").trajectories == 0
    with pytest.raises(ConfigError, match="the lake has no trajectory nobody"):
        write(lake, "atif", io.StringIO(), traces=["nobody"])
    with pytest.raises(QueryError):
        write(lake, "atif", io.StringIO(), where="no_column = 1")
    with pytest.raises(QueryError):
        write(lake, "atif", io.StringIO(), where="1 = 1); DROP TABLE spans; --")
    with pytest.raises(ConfigError, match="not both"):
        write(lake, "atif", io.StringIO(), where="true", traces=named)


def test_unknown_targets_and_formats_say_what_is_known() -> None:
    with pytest.raises(ConfigError, match="unknown target 'csv'; known: atif, otlp, openai, trl"):
        exporting.exporter("csv", "jsonl")
    with pytest.raises(ConfigError, match="one of jsonl, parquet"):
        exporting.exporter("trl", "csv")
    with pytest.raises(ConfigError, match="atif is no table"):
        exporting.exporter("atif", "parquet")


def test_an_export_that_fails_leaves_the_old_file_and_no_half_one(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out" / "atif.jsonl"
    path.parent.mkdir()
    path.write_text("old")
    monkeypatch.setattr(exporting, "_json", lambda record: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write(lake, "atif", path)
    assert [(one.name, one.read_text()) for one in path.parent.iterdir()] == [("atif.jsonl", "old")]
    with pytest.raises(StoreError, match="cannot be written"):
        write(lake, "atif", tmp_path / "nowhere" / "atif.jsonl")


def test_large_lakes_are_read_in_groups_and_give_the_same_file(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(lake, "otlp", tmp_path / "whole.jsonl")
    monkeypatch.setattr(exporting, "_GROUP_SPANS", 1)
    write(lake, "otlp", tmp_path / "grouped.jsonl")
    assert (tmp_path / "grouped.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
