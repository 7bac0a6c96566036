"""Rows that no one else has, read by a mapping declared in the settings."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tracemill import ingest
from tracemill.app import settings
from tracemill.errors import ConfigError
from tracemill.ingest.mapping import COLUMNS

DESK = {
    "name": "desk-calls",
    "columns": {
        "trace_id": "conversation",
        "session_id": "conversation",
        "user": "customer",
        "time": "at",
        "latency_ms": "took",
        "input": "prompt",
        "output": "reply",
        "model": "meta.model",
        "tokens_in": "meta.usage.in",
        "cost_usd": "meta.cost",
        "task_key": "ticket",
    },
    "constants": {"agent_name": "desk"},
    "scores": {"csat": "rating", "correction": "better"},
    "scores_source": "user",
}
ROW = {
    "conversation": "c-17",
    "customer": "ann@example.com",
    "at": "2026-03-01T10:00:00Z",
    "took": 250,
    "prompt": "Where is my parcel?",
    "reply": "On its way.",
    "meta": json.dumps({"model": "small-1", "usage": {"in": 12}, "cost": 0.002}),
    "ticket": 9,
    "rating": 4,
    "note": "kept",
}


def reader(**changes: Any) -> ingest.MappedRows:
    return ingest.MappedRows(ingest.RowMapping(**{**DESK, **changes}))


def test_a_row_becomes_a_call_with_its_scores(take: Any) -> None:
    taken = take(lines=[ROW], extra=[reader()])
    span = taken.span
    assert span["source_format"] == "desk-calls"
    assert (span["trace_id"], span["session_id"], span["kind"], span["agent_name"]) == ("c-17", "c-17", "llm", "desk")
    assert (span["model"], span["tokens_in"], span["tokens_out"], span["cost_usd"]) == ("small-1", 12, None, 0.002)
    assert span["end_ns"] - span["start_ns"] == 250_000_000
    assert (span["task_key"], span["status"]) == ("9", "unset")
    assert taken.said(span["input_ids"]) == [("user", [{"type": "text", "content": "Where is my parcel?"}])]
    assert taken.said(span["output_ids"]) == [("assistant", [{"type": "text", "content": "On its way."}])]
    assert json.loads(span["attributes"]) == {"note": "kept"}
    (score,) = taken.scores
    assert (score["name"], score["value"], score["source"], score["target_kind"], score["target_id"]) == (
        "csat",
        4.0,
        "user",
        "trajectory",
        "c-17",
    )
    assert "ann@example.com" not in taken.everything()
    assert taken.ledger[0]["format_reason"] == "rows with prompt, reply, conversation, as [[formats]] declares"


def test_nan_is_how_data_frames_say_nothing(take: Any) -> None:
    """Python writes it into JSON; the row is good all the same, its id the same each time."""
    row = {name: ROW[name] for name in ("prompt", "reply")} | {"conversation": "c-17", "note": float("nan")}
    row["meta"] = {"cost": float("nan")}
    first, second = (take(lines=[row | {"rating": float("nan")}], extra=[reader()]) for _ in range(2))
    assert (first.quarantine, first.scores, first.span["cost_usd"]) == ([], [], None)
    assert first.span["span_id"] == second.span["span_id"]


def test_csv_and_parquet_give_the_same_spans_as_json(take: Any, tmp_path: Path) -> None:
    columns = {"trace_id": "id", "input": "question", "output": "answer", "tokens_in": "tokens", "time": "at"}
    rows = [{"id": "a", "question": "1+1?", "answer": "2", "tokens": 5, "at": "2026-03-01T10:00:00Z", "ok": "yes"}]
    mapped = ingest.MappedRows(ingest.RowMapping(name="quiz", columns=columns, scores={"reward": "ok"}))
    as_csv = take(
        "id,question,answer,tokens,at,ok\na,1+1?,2,5,2026-03-01T10:00:00Z,yes\n", name="q.csv", extra=[mapped]
    )
    as_json = take(lines=rows, extra=[mapped])
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "made.parquet")
    as_parquet = take((tmp_path / "made.parquet").read_bytes(), name="q.parquet", extra=[mapped])
    for taken in (as_csv, as_json, as_parquet):
        (span,) = taken.spans
        assert (span["trace_id"], span["tokens_in"], span["start_ns"]) == ("a", 5, 1772359200000000000)
        assert taken.texts(span["output_ids"]) == ["2"]
        assert taken.scores[0]["value"] == 1.0
    assert as_json.span["span_id"] == as_parquet.span["span_id"]


def test_messages_paths_and_tool_rows(take: Any) -> None:
    columns = {
        "trace_id": "run",
        "system": "prompt.system",
        "input": "prompt.messages",
        "output": "choices.0.message",
        "tool_name": "tool",
        "tool_args": "args",
        "tool_result": "result",
        "status": "outcome",
        "seq": "n",
    }
    mapped = ingest.MappedRows(ingest.RowMapping(name="own", columns=columns, match=("run", "n")))
    call = {"id": "x", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}
    taken = take(
        lines=[
            {
                "run": "r",
                "n": 1,
                "prompt": {"system": "Be brief.", "messages": [{"role": "user", "content": "Hi"}]},
                "choices": [{"message": {"role": "assistant", "content": None, "tool_calls": [call]}}],
            },
            {"run": "r", "n": 2, "tool": "look", "args": '{"at": 1}', "result": "nothing", "outcome": "failed"},
        ],
        extra=[mapped],
    )
    llm, tool = sorted(taken.spans, key=lambda span: span["seq"])
    assert taken.said(llm["system_ids"]) == [("system", [{"type": "text", "content": "Be brief."}])]
    assert taken.said(llm["output_ids"]) == [
        ("assistant", [{"type": "tool_call", "id": "x", "name": "look", "arguments": '{"at": 1}'}])
    ]
    assert (tool["kind"], tool["tool_name"], tool["status"], tool["tool_result"]) == (
        "tool",
        "look",
        "error",
        "nothing",
    )
    assert json.loads(tool["tool_args"]) == {"at": 1}


def test_what_is_mapped_is_kept_once_and_what_stands_around_it_stays(take: Any) -> None:
    columns = {
        "input": "call.req.body",
        "output": "call.choices.1.text",
        "model": "call.meta.model",
        "session_id": "a.b",
        "user": "who",
        "tokens_in": "who.tokens",
        "tokens_out": "call.raw.n",
    }
    mapped = ingest.MappedRows(ingest.RowMapping(name="own", columns=columns))
    body = {"messages": [{"role": "user", "content": "What is mapped?"}], "temperature": 0.5}
    row = {
        "call": {
            "req": {"body": json.dumps(body), "id": 7},
            "choices": [{"text": "not this"}, {"text": "This once."}],
            "meta": json.dumps({"model": "small-1"}),
            "raw": "[1, 2 ]",
        },
        "a.b": "s",
        "a": {"b": "another"},
        "who": {"name": "x"},
    }
    taken = take(lines=[row], extra=[mapped])
    span = taken.span
    assert (taken.texts(span["input_ids"]), taken.texts(span["output_ids"])) == (["What is mapped?"], ["This once."])
    assert (span["model"], span["session_id"]) == ("small-1", "s")
    assert json.loads(span["attributes"]) == {
        "call": {
            "req": {"body": {"temperature": 0.5}, "id": 7},
            "choices": [{"text": "not this"}, None],
            "raw": "[1, 2 ]",
        },
        "a": {"b": "another"},
    }
    assert "What is mapped?" not in json.dumps(span)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"at": "yesterday"}, "time is no time: yesterday"),
        ({"took": "long"}, "latency_ms is no number: long"),
        ({"meta": {"usage": {"in": "many"}}}, "tokens_in is no whole number: many"),
        ({"prompt": None, "reply": None}, "none of prompt, reply has a value"),
        ({"rating": [1]}, "the score csat in rating is neither a number nor text"),
    ],
)
def test_a_row_whose_value_is_not_what_its_column_says_is_quarantined_alone(
    take: Any, change: dict[str, Any], reason: str
) -> None:
    taken = take(lines=[ROW, {**ROW, **change}], extra=[reader()])
    assert len(taken.spans) == 1
    (bad,) = taken.quarantine
    assert reason in bad["reason"]
    assert bad["line"] == 2


def test_a_declared_format_is_asked_before_the_built_in_ones_and_only_claims_its_own(take: Any) -> None:
    chat = {"messages": [{"role": "user", "content": "Hi"}], "response": {"choices": [], "id": "1"}}
    assert take(lines=[chat], extra=[reader()]).ledger[0]["source_format"] == "openai-chat"
    mapped = ingest.MappedRows(ingest.RowMapping(name="mine", columns={"input": "messages", "output": "answer.text"}))
    own = {"messages": [{"role": "user", "content": "Hi"}], "answer": {"text": "Hello"}}
    assert take(lines=[own], extra=[mapped]).ledger[0]["source_format"] == "mine"
    assert take(lines=[own], extra=[reader(), mapped], format="mine").span["source_format"] == "mine"
    with pytest.raises(ConfigError, match="unknown format 'other'; known: auto, desk-calls"):
        take(lines=[own], extra=[reader()], format="other")


def test_a_time_without_a_zone_is_flagged(take: Any) -> None:
    assert take(lines=[{**ROW, "at": "2026-03-01 10:00:00"}], extra=[reader()]).span["flags"] == ["clock"]


def test_an_id_that_holds_an_address_is_hashed_the_same_for_rows_and_feedback(take: Any, tmp_path: Path) -> None:
    taken = take(lines=[{**ROW, "conversation": "ann@example.com"}], extra=[reader()])
    path = tmp_path / "f.jsonl"
    path.write_text(json.dumps({"trace_id": "ann@example.com", "value": 1}))
    feedback = ingest.read_scores(path, on="trace_id", key=b"the lake's key, thirty-two bytes", now_ns=1)
    assert feedback.tables["scores"]["target_id"].to_pylist() == [taken.span["trace_id"]]
    assert "ann@example.com" not in taken.everything()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "My Format"}, "is no name of a format"),
        ({"name": "feedback"}, "is a format that tracemill reads itself"),
        ({"columns": {"input": "a", "prompt": "b"}}, "columns: spans have no 'prompt'; known: trace_id"),
        ({"columns": {"time": "at"}}, "a row needs one of input, output, tool_name"),
        ({"columns": {"input": "a..b"}}, "'a..b' is no column or path"),
        ({"constants": {"model": "m", "input": "x"}}, "is both a column and a constant"),
        ({"constants": {"kind": "llmcall"}}, "'llmcall' is no kind of span; known: agent"),
        ({"scores_on": "week"}, "scores_on: 'week' cannot be judged"),
        ({"scores_source": "boss"}, "scores_source: unknown 'boss'"),
        ({"scores_on": "session", "columns": {"input": "a"}}, "no column holds the session_id"),
        ({"colums": {}}, "unknown key 'colums' in [formats]"),
        ({"columns": "prompt"}, "'formats.0.columns'"),
    ],
)
def test_a_wrong_mapping_is_refused_when_the_settings_are_read(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        settings.parse({"formats": [{**DESK, **change}]}, root=tmp_path, where="tracemill.toml")
    assert said in str(caught.value)
    assert str(caught.value).startswith("tracemill.toml: ")


def test_two_formats_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two formats are called 'desk-calls'"):
        settings.parse({"formats": [DESK, DESK]}, root=tmp_path, where="tracemill.toml")


def test_the_example_in_a_new_settings_file_is_a_mapping_that_works(tmp_path: Path) -> None:
    text = settings.TEMPLATE.format(name="x")
    commented = text.partition("# [[formats]]")[2].partition("\n\n")[0]
    (tmp_path / "tracemill.toml").write_text("[[formats]]\n" + commented.partition("\n")[2].replace("# ", ""))
    (mapping,) = settings.load(tmp_path).formats
    assert (mapping.name, mapping.needed) == ("desk-calls", ("conversation", "reply"))


def test_every_column_that_a_row_can_be_mapped_to_is_in_the_settings_page(pytestconfig: pytest.Config) -> None:
    page = (
        (pytestconfig.rootpath / "docs/settings.md").read_text().partition("Columns of a span:")[2].partition("##")[0]
    )
    assert [name for name in COLUMNS if f"`{name}`" not in page] == []
