"""What cannot be read: a quarantine row with reason, line and offset; never an exception, never a lost good record."""

import json
from typing import Any

import pytest
from grafting import paths, planted
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracemill import ingest
from tracemill.errors import ConfigError, FormatError

CALL = {
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
    "response": {
        "id": "c1",
        "object": "chat.completion",
        "choices": [{"message": {"role": "assistant", "content": "yo"}}],
    },
}


def call(number: int) -> dict[str, Any]:
    return CALL | {"session_id": f"s{number}", "timestamp": 1_700_000_000 + number}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b" \n\n", "empty"),
        (b"\x00\x01\x02garbage\xff\xfe" * 100, "unknown format"),
        (b"SQLite format 3\x00" + b"\x00" * 100, "SQLite"),
        (b"hello, this is prose\nand more of it\n", "unknown format"),
        (b"prose " * 30_000, "unknown format"),
        (b'{"some": "thing", "other": 1}\n', "some, other"),
        (b'[{"a": 1}, {"a": 2}]', "unknown format"),
        (b"a,b\n1,2\n", "a table with the columns a, b"),
        (b"PAR1 no parquet at all", "unknown format"),
        (b"[" * 200_000, "no JSON record"),
        (b'{"resourceSpans": [{"scopeSpans": [', "unknown format"),
    ],
)
def test_an_object_that_nobody_reads_is_one_quarantine_row_and_one_ledger_row(
    take: Any, content: bytes, reason: str
) -> None:
    taken = take(content)
    (row,) = taken.quarantine
    assert reason in row["reason"]
    assert row["line"] is None
    (ledger,) = taken.ledger
    assert (ledger["n_quarantined"], ledger["source_format"]) == (1, None)
    assert taken.spans == []


def test_a_torn_last_line_keeps_the_good_ones_and_says_where(take: Any) -> None:
    lines = [json.dumps(call(n)) + "\n" for n in range(3)]
    taken = take("".join(lines) + lines[0][:70])
    assert len(taken.kind("llm")) == 3
    (row,) = taken.quarantine
    assert (row["line"], row["offset_bytes"]) == (4, sum(map(len, lines)))
    assert row["excerpt"] == lines[0][:70]
    assert row["source_format"] == "openai-chat"
    assert taken.ledger[0]["n_records"] == 4


def test_bad_lines_anywhere_cost_only_themselves(take: Any) -> None:
    lines = ["\x00\x01", json.dumps(call(1)), "{torn", json.dumps(call(2)), "[1, 2]", "17", json.dumps(call(3))]
    taken = take("\n".join(lines))
    assert [span["session_id"] for span in taken.kind("llm")] == ["s1", "s2", "s3"]
    assert {row["line"] for row in taken.quarantine} == {1, 3, 5, 6}


def test_a_torn_array_keeps_its_whole_elements(take: Any) -> None:
    text = json.dumps([call(n) for n in range(4)], indent=1)
    taken = take(text[: text.index("s3")], name="calls.json")
    assert [span["session_id"] for span in taken.kind("llm")] == ["s0", "s1", "s2"]
    (row,) = taken.quarantine
    assert "not valid JSON" in row["reason"]
    assert text[: row["offset_bytes"]].count("\n") == row["line"] - 1


def test_a_wrong_explicit_format_is_a_clear_error_and_an_unknown_one_too(take: Any) -> None:
    with pytest.raises(FormatError, match=r"log\.jsonl.*this is not tau-bench"):
        take(lines=[CALL], format="tau-bench")
    with pytest.raises(ConfigError, match=r"unknown format .nope.; known: auto, .*otlp-json"):
        take(lines=[CALL], format="nope")
    assert len(take(lines=["{torn"] * 60 + [call(1)], format="openai-chat").kind("llm")) == 1
    assert take(b"", format="tau-bench").quarantine[0]["reason"] == "the file is empty"


def test_deep_nesting_costs_only_its_record(take: Any) -> None:
    deep = '{"messages": [{"role": "user", "content": "x"}], "response": null, "x": ' + "[" * 5000 + "]" * 5000 + "}"
    taken = take(lines=[call(1), deep, call(2)])
    assert [span["session_id"] for span in taken.kind("llm") if span["session_id"]] == ["s1", "s2"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_cutting_and_garbling_never_raises_and_never_loses_a_good_line(take: Any, data: st.DataObject) -> None:
    lines = [json.dumps(call(n)).encode() for n in range(6)]
    broken = data.draw(st.sets(st.integers(0, 5), max_size=5))
    for at in broken:
        how = data.draw(st.sampled_from(("cut", "garble")))
        spot = data.draw(st.integers(1, len(lines[at]) - 1))
        if how == "cut":
            lines[at] = lines[at][:spot]
        else:
            junk = data.draw(st.binary(min_size=1, max_size=8)).replace(b"\n", b" ")
            lines[at] = lines[at][:spot] + junk + lines[at][spot + len(junk) :]
    taken = take(b"\n".join(lines))
    found = {span["session_id"] for span in taken.kind("llm")}
    assert {f"s{n}" for n in range(6) if n not in broken} <= found
    assert {span["source_line"] for span in taken.spans} | {row["line"] for row in taken.quarantine} == set(range(1, 7))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
MESSAGES = [{"role": "user", "parts": [{"type": "text", "content": "x"}]}]
ATTRIBUTES = [
    {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
    {"key": "gen_ai.input.messages", "value": {"stringValue": json.dumps(MESSAGES)}},
    {"key": "gen_ai.tool.definitions", "value": {"arrayValue": {"values": [{"stringValue": "x"}]}}},
    {"key": "gen_ai.prompt.0.role", "value": {"stringValue": "user"}},
    {"key": "llm.input_messages.0.message.role", "value": {"stringValue": "user"}},
    {"key": "user.id", "value": {"intValue": "5"}},
]
SPAN = {
    "traceId": "1" * 32,
    "spanId": "1" * 16,
    "attributes": ATTRIBUTES,
    "events": [{"name": "gen_ai.choice", "attributes": [{"key": "message", "value": {"stringValue": "{}"}}]}],
    "status": {"code": 2},
}
SHAPES: dict[str, dict[str, Any]] = {
    "openai-chat": CALL | {"tools": [], "kwargs": {}, "cost": 1.0, "timestamp": 1.0, "latency_sec": 1.0, "usage": {}},
    "tau-bench": {"task_id": 1, "reward": 1.0, "trial": 0, "info": {}, "traj": [{"role": "assistant", "content": "x"}]},
    "intercode": {
        "query": "q",
        "task_id": 1,
        "turn_history": {"actions": ["a"], "observations": ["o"], "rewards": [1], "valid_action": [True]},
        "summary": {"max_reward": 1.0},
    },
    "feedback": {
        "session_id": "s",
        "value": 1,
        "label": "x",
        "correction": "y",
        "propensity": 0.5,
        "at": 1,
        "user": "u",
    },
    "otlp-json": {"resourceSpans": [{"resource": {"attributes": []}, "scopeSpans": [{"spans": [SPAN]}]}]},
}


CONTENTS: list[Any] = [
    MESSAGES,
    MESSAGES[0],
    {"role": 1, "content": {}},
    [[]],
    [{"parts": [5, None, {"type": []}]}],
    "[{]",
]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_anywhere_in_a_record_never_raises_nor_hurts_its_neighbours(take: Any, data: st.DataObject) -> None:
    shape = SHAPES[data.draw(st.sampled_from(sorted(SHAPES)))]
    where = data.draw(st.sampled_from(paths(shape)[1:]))
    strange = planted(shape, where, data.draw(JSON | st.sampled_from(CONTENTS)))
    lines = [json.dumps(shape), json.dumps(strange), json.dumps(shape)]
    taken = take("\n".join(lines))
    alone = take(lines[0])
    for table in ("spans", "scores"):
        keys = [
            {k: row[k] for k in ("trace_id", "span_id") if k in row} or row["score_id"] for row in alone.rows(table)
        ]
        found = [
            {k: row[k] for k in ("trace_id", "span_id") if k in row} or row["score_id"] for row in taken.rows(table)
        ]
        assert all(key in found for key in keys)


def test_the_registry_names_every_format_once() -> None:
    names = [reader.name for reader in ingest.FORMATS]
    assert len(set(names)) == len(names)
