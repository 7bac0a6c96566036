"""What is exported as ATIF or OTLP is taken in again as the same spans, whatever they hold."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from few_examples import some
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracemill import ingest
from tracemill.ids import canonical_json, content_id
from tracemill.ingest.exports import EXPORTERS, Episode
from tracemill.ingest.reader import Message
from tracemill.schema import SCORES, SPANS

KEY = b"k" * 32
TRACE = "0af7651916cd43dd8448eb211c80319c"
ELSEWHERE = {"day", "source_uri", "source_line", "source_format", "ingested_at", "user_key", "marks"}
"""Columns that the new file says for itself, and the pseudonym, which becomes one of its own."""
JSON_COLUMNS = {"params", "attributes"}
TARGETS = {exporter.name: exporter for exporter in EXPORTERS}

words = st.text(st.sampled_from('abc xyzäß\n"{}[]\\💡'), min_size=1, max_size=12)
names = st.text(st.sampled_from("abcdefgh"), min_size=1, max_size=6)
# Longer numbers may be somebody's: redaction has its say in what is taken in.
scalars = st.none() | st.booleans() | st.integers(-(2**33), 2**33) | st.floats(-1e6, 1e6) | words
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=6
)
objects = st.dictionaries(names, values, max_size=3)
keys = st.sampled_from(("gen_ai.x", "task_id", "session.id", "events", "resource", "user.id", "tracemill.x", "n"))
call_ids = st.sampled_from(("c1", "c2", "c3"))
calls = st.fixed_dictionaries(
    {"type": st.just("tool_call"), "id": call_ids | st.none(), "name": names, "arguments": objects | words | st.none()}
)
texts = st.fixed_dictionaries({"type": st.just("text"), "content": words | st.just("")})
spoken = st.one_of(
    texts,
    st.fixed_dictionaries({"type": st.just("reasoning"), "content": words}),
    st.fixed_dictionaries({"type": st.just("uri"), "modality": st.just("image"), "uri": st.just("a.png")}),
    st.fixed_dictionaries({"type": names, "more": values}),
    calls,
)
answers = st.fixed_dictionaries(
    {"type": st.just("tool_call_response"), "id": call_ids | st.none(), "response": words | values},
    optional={"is_error": st.just(True)},
)


def message(role: str, parts: st.SearchStrategy[Any], size: int = 3) -> st.SearchStrategy[Message]:
    return st.tuples(st.just(role), st.none() | names, st.lists(parts, min_size=1, max_size=size))


users = message("user", spoken)
systems = message("system", texts, 2)
assistants = message("assistant", spoken)
tools = message("tool", answers, 1)
later = users | assistants | tools | systems
many = st.none() | st.integers(0, 2**40)
text = st.none() | st.just("") | words


@st.composite
def episodes(draw: st.DrawFn) -> Episode:
    """Calls that go on from one another, and others that do not; tools that were asked for, and others."""
    known: dict[str, Message] = {}

    def ids(found: list[Message]) -> list[str]:
        named = [content_id(list(one)) for one in found]
        known.update(zip(named, found, strict=True))
        return named

    spans: list[dict[str, Any]] = []
    history: list[str] = []
    opening = ids(draw(st.lists(systems, max_size=2)))
    session = draw(text)
    for number in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(("llm", "llm", "llm", "tool", "tool", "agent", "chain", "retriever", "event")))
        start = draw(st.none() | st.integers(1, 2**62))
        row: dict[str, Any] = dict.fromkeys(SPANS.names)
        row |= {
            "trace_id": TRACE,
            "span_id": draw(st.sampled_from((f"{number + 1:016x}", f"span {number}"))),
            "parent_span_id": spans[draw(st.integers(0, len(spans) - 1))]["span_id"] if spans else None,
            "session_id": draw(st.just(session) | text),
            "seq": number,
            "kind": kind,
            "name": draw(text),
            "start_ns": start,
            "end_ns": None if start is None else draw(st.none() | st.integers(start, 2**62)),
            "status": draw(st.sampled_from(("ok", "error", "unset"))),
            "attributes": canonical_json(draw(objects | st.dictionaries(keys, values, max_size=2))),
            "params": canonical_json(draw(objects)),
            "flags": draw(st.lists(st.sampled_from(("lossy", "synthetic", "truncated")), unique=True)),
            "finish_reasons": draw(st.none() | st.lists(words, min_size=1, max_size=2)),
            "cost_usd": draw(st.none() | st.floats(0, 1e6)),
            "revised_ns": draw(st.none() | st.integers(1, 2**62)),
        }
        for name in ("error_type", "error_message", "service", "agent_name", "agent_version", "provider", "model"):
            row[name] = draw(text)
        for name in ("model_requested", "prompt_name", "prompt_version", "prompt_label", "prompt_variables"):
            row[name] = draw(text)
        for name in ("task_key", "dialect", "tool_name", "tool_args", "tool_result", "response_id"):
            row[name] = draw(text)
        for name in ("tokens_in", "tokens_out", "tokens_cache_read", "tokens_cache_write", "tokens_reasoning"):
            row[name] = draw(many)
        row["tool_call_id"] = draw(st.none() | call_ids)
        if kind == "llm":
            if not draw(st.integers(0, 3)):  # another conversation
                history = []
                opening = ids(draw(st.lists(systems, max_size=2)))
            history = [*history, *ids(draw(st.lists(later if history else users, max_size=2)))]
            if draw(st.integers(0, 4)):
                row["system_ids"], row["input_ids"] = opening or None, history
            else:
                row["system_ids"] = draw(st.just(opening or None) | st.none())
            output = ids(draw(st.lists(assistants, max_size=2)))
            row["output_ids"] = draw(st.just(output) | st.none())
            history = [*history, *output[:1]]
            if draw(st.booleans()):
                definition = {"type": "function", "function": {"name": draw(names), "parameters": draw(objects)}}
                (row["tool_definitions_id"],) = ids([("tools", None, [definition])])
            row["input_token_ids"] = draw(st.none() | st.lists(st.integers(0, 2**31 - 1), max_size=3))
            drawn = draw(st.none() | st.lists(st.integers(0, 2**31 - 1), max_size=3))
            row["output_token_ids"] = drawn
            row["output_logprobs"] = None if drawn is None else [-0.5] * len(drawn)
        spans.append(row)
    spans.sort(key=lambda row: (row["start_ns"] is None, row["start_ns"], row["seq"]))
    return Episode(
        trajectory={"trajectory_id": TRACE, "session_id": session, "agent_name": draw(text), "service": None},
        spans=spans,
        transitions=(),
        scores=draw(st.lists(scores(), max_size=2, unique_by=lambda score: score["name"])),
        messages=known,
    )


@st.composite
def scores(draw: st.DrawFn) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(SCORES.names)
    row |= {"target_kind": "trajectory", "target_id": TRACE, "name": draw(names), "value": draw(st.floats(0, 1))}
    row |= {"label": draw(text), "source": "env", "at": draw(st.none() | st.integers(1, 2**62)), "score_id": "s"}
    return row | {"evidence": canonical_json(draw(objects)), "confidence": draw(st.none() | st.floats(0, 1))}


def taken_in(records: list[dict[str, Any]]) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "export.jsonl"
        path.write_text("".join(json.dumps(record, allow_nan=False) + "\n" for record in records))
        (batch,) = ingest.batches(ingest.find([path]), key=KEY, now_ns=1)
    return batch.tables


def readable(row: dict[str, Any], messages: dict[str, Any]) -> dict[str, Any]:
    """A row with its messages in place of their ids, and its JSON as values."""
    found = {name: value for name, value in row.items() if name not in ELSEWHERE}
    for name in ("system_ids", "input_ids", "output_ids"):
        found[name] = None if row[name] is None else [messages[one] for one in row[name]]
    tools_id = row["tool_definitions_id"]
    found["tool_definitions_id"] = None if tools_id is None else messages[tools_id]
    for name in JSON_COLUMNS:
        found[name] = json.loads(row[name] or "{}")
    if not any(row["input_ids"] or ()) and row["system_ids"] is None and row["input_ids"] is not None:
        found["input_ids"] = []
    found["flags"] = sorted(flag for flag in row["flags"] if flag not in ("orphan", "wrapper"))
    found["output_logprobs"] = row["output_logprobs"] or None
    return found


def test_a_long_trajectory_is_several_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracemill.ingest.exports.otlp._REQUEST_CHARS", 1)
    rows = [
        dict.fromkeys(SPANS.names) | {"trace_id": TRACE, "span_id": f"{n:016x}", "kind": "llm"} for n in range(1, 4)
    ]
    for row in rows:
        row |= {"status": "ok", "seq": 0, "parent_span_id": rows[0]["span_id"] if row is not rows[0] else None}
    episode = Episode(trajectory={"trajectory_id": TRACE}, spans=rows, transitions=(), scores=(), messages={})
    records = list(TARGETS["otlp"].records(episode))
    assert len(records) == 3
    assert [row["span_id"] for row in taken_in(records)["spans"].to_pylist()] == [row["span_id"] for row in rows]


@pytest.mark.parametrize("target", ["atif", "otlp"])
@settings(
    max_examples=some(150), deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(episode=episodes())
def test_exported_spans_come_back_as_they_were(target: str, episode: Episode) -> None:
    records = list(TARGETS[target].records(episode))
    tables = taken_in(records)
    assert tables["quarantine"].to_pylist() == []
    before = {one: [role, name, parts] for one, (role, name, parts) in episode.messages.items()}
    rows = tables["messages"].to_pylist()
    after = {row["message_id"]: [row["role"], row["name"], json.loads(row["parts"])] for row in rows}
    expected = {row["span_id"]: readable(row, before) for row in episode.spans}
    found = {row["span_id"]: readable(row, after) for row in tables["spans"].to_pylist()}
    assert found == expected
    columns = [name for name in SCORES.names if name not in ("score_id", "evidence", "user_key")]
    told = [{name: row[name] for name in columns} | {"evidence": json.loads(row["evidence"])} for row in episode.scores]
    again = tables["scores"].to_pylist()
    assert sorted(
        ({name: row[name] for name in columns} | {"evidence": json.loads(row["evidence"])} for row in again),
        key=canonical_json,
    ) == sorted(told, key=canonical_json)
