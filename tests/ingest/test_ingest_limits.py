"""Logs of hostile size end in quarantine, and the memory that they take is bounded."""

import gzip
import io
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from tracemill.ingest.limits import MIB, Limits
from tracemill.ingest.reader import Stream

CALL = {"messages": [{"role": "user", "content": "hi"}], "response": "yo"}
SMALL = Limits(record_mib=1, document_mib=2, text_mib=1, source_gib=1, ratio=20)


def reasons(taken: Any) -> list[str]:
    return [row["reason"] for row in taken.quarantine]


def test_a_long_line_is_quarantined_with_its_place_and_the_others_land(take: Any) -> None:
    long = json.dumps(CALL | {"note": "x" * (MIB + 10)})
    taken = take(lines=[CALL, long, CALL | {"session_id": "s"}], limits=SMALL)
    (row,) = taken.quarantine
    assert f"at least {len(long):,} bytes, more than the 1,048,576" in row["reason"]
    assert "[limits] record_mib" in row["reason"]
    assert (row["line"], row["offset_bytes"]) == (2, len(json.dumps(CALL)) + 1)
    assert row["excerpt"].startswith('{"messages"')
    assert len(taken.kind("llm")) == 2


def test_a_long_cell_of_a_csv_table_is_read_up_to_the_size_of_a_record(take: Any) -> None:
    rows = [
        ["session_id", "value", "comment"],
        ["s1", "1", "x" * 200_000],
        ["s2", "0", "y" * (MIB + 10)],
        ["s3", "1", ""],
    ]
    taken = take("\n".join(map(",".join, rows)) + "\n", name="feedback.csv", limits=SMALL)
    assert [row["target_id"] for row in taken.scores] == ["s1", "s3"]
    assert ["[limits] record_mib" in reason for reason in reasons(taken)] == [True]


def test_a_long_element_of_an_array_is_quarantined_and_the_others_land(take: Any) -> None:
    taken = take([CALL, CALL | {"note": "x" * (MIB + 10)}, CALL | {"session_id": "s"}], name="log.json", limits=SMALL)
    assert len(taken.kind("llm")) == 2
    assert "[limits] record_mib" in reasons(taken)[0]


def test_a_document_beyond_the_limit_is_quarantined(take: Any) -> None:
    taken = take([CALL | {"note": "x" * MIB, "n": n} for n in range(3)], name="log.json", limits=SMALL)
    assert taken.spans == []
    assert ["[limits] document_mib" in reason for reason in reasons(taken)] == [True]
    assert len(taken.ledger) == 1


def test_a_long_text_costs_its_record(take: Any) -> None:
    document = CALL | {"note": "x" * (MIB + 1)}
    taken = take([CALL, document], name="log.json", limits=Limits(text_mib=1))
    assert len(taken.kind("llm")) == 1
    assert "longer than the limit of 1048576" in reasons(taken)[0]


def test_a_short_record_of_very_many_calls_is_refused(take: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call reads all that was said before it: the prompts of 8,000 one-word messages fill a gigabyte."""
    monkeypatch.setattr("tracemill.ingest.documents.REPEATED", 50)
    talk = [{"role": role, "content": f"{at}"} for at in range(8) for role in ("user", "assistant")]
    taken = take(lines=[{"messages": talk}, {"messages": talk[:4]}])
    assert reasons(taken) == ["the prompts of its calls repeat more than 50 messages"]
    assert len(taken.kind("llm")) == 2


def test_a_session_of_very_many_calls_ends_where_its_prompts_are_too_many(
    take: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracemill.ingest.sessions.session.REPEATED", 50)
    turns = [{"role": role, "message": {"content": f"{at}"}} for at in range(20) for role in ("user", "assistant")]
    taken = take(lines=turns)
    assert len(taken.kind("llm")) + len(taken.quarantine) == 20
    assert {"prompts" in reason and "more than 50" in reason for reason in reasons(taken)} == {True}


def test_a_session_is_as_large_as_a_document_may_be(take: Any) -> None:
    turn = {"role": "user", "message": {"content": "x" * 1000}}
    taken = take(lines=[turn] * 3000, limits=SMALL)
    assert "[limits] document_mib" in reasons(taken)[0]
    assert len(taken.quarantine) == 1
    assert len(taken.kind("event")) == 2 * MIB // len(json.dumps(turn))


def test_a_long_prompt_counts_for_the_size_of_a_batch(take: Any) -> None:
    """Its ids are most of what a batch of long conversations holds."""
    talk = [{"role": role, "content": f"{at}"} for at in range(40) for role in ("user", "assistant")]
    lines = [{"messages": [{"role": "user", "content": f"{n}"}, *talk]} for n in range(4)]
    assert len(take(lines=lines, max_bytes=100_000).batches) > 1


def test_an_action_that_never_ends_is_looked_for_once(take: Any) -> None:
    """An engine that backtracks would take days."""
    run = {"traj": "Question: x\n" + "Action: a[\n" * 200_000, "em": 0, "f1": 0, "reward": 0}
    assert len(take({"t": run}, name="log.json").kind("llm")) == 1


def test_a_payload_of_endless_lines_is_quarantined(take: Any) -> None:
    chunk = {"id": "c", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "hi"}}]}
    text = f"data: {json.dumps(chunk)}\n\n" + "data: x\n" * (MIB // 6) + f"\ndata: {json.dumps(chunk)}\n\n"
    taken = take(text, limits=SMALL)
    assert ["[limits] record_mib" in reason for reason in reasons(taken)][:1] == [True]
    assert len(taken.kind("llm")) == 1


def test_python_text_is_not_evaluated_where_it_is_long(take: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracemill.ingest.formats.agent_lightning._LITERAL_CHARS", 20)
    ids = {"llm.hosted_vllm.response_token_ids": "[1, 2]", "llm.hosted_vllm.choices": "[{'token_ids': [1, 2, 3]}]"}
    span = {"rollout_id": "r", "attempt_id": "a", "span_id": "b" * 16, "name": "chat", "attributes": ids}
    row = take(lines=[span]).span
    assert row["output_token_ids"] == [1, 2]
    assert "'token_ids'" in row["attributes"], "what is not read is kept"


@pytest.mark.parametrize("size", [0, 1, 5, 4095, MIB - 1, MIB, MIB + 1, 3 * MIB])
def test_lines_of_any_length_come_with_their_offsets(size: int) -> None:
    data = b"a\n" + b"x" * size + b"\nlast"
    stream = Stream(name="x", file=io.BytesIO(data), limits=SMALL)
    stream.start()
    first, middle, last = stream.lines()
    assert (first.raw, first.offset, first.line) == (b"a", 0, 1)
    assert (middle.offset, middle.line, middle.complete) == (2, 2, True)
    assert (last.raw, last.offset, last.line, last.complete) == (b"last", size + 3, 3, False)
    assert middle.size == (size if size > MIB else None)
    assert middle.raw == b"x" * (size if size <= MIB else 4096)


DEEP = 1_000_000


@pytest.mark.parametrize(
    "content",
    [
        b"[" * DEEP,
        b"[" * DEEP + b"]" * DEEP,
        b'{"a":' * DEEP + b"1" + b"}" * DEEP,
        b'{"messages": [{"role": "user", "content": ' + b"[" * DEEP + b"]" * DEEP + b'}], "response": "x"}',
        b'{"resourceSpans": ' + b'[{"a":' * DEEP + b"1" + b"}]" * DEEP + b"}",
        json.dumps(CALL | {"note": "[" * DEEP + "]" * DEEP}).encode(),
        b'{"trajectory": "' + b"\\\\" * DEEP + b'"}',
    ],
    ids=["open", "arrays", "objects", "content", "otlp", "inside a text", "backslashes"],
)
def test_a_million_levels_are_no_crash(take: Any, content: bytes) -> None:
    first, last = (json.dumps(CALL | {"session_id": name}).encode() for name in "ab")
    taken = take(first + b"\n" + content + b"\n" + last)
    assert len(taken.kind("llm")) + len(taken.quarantine) == 3
    assert len(taken.kind("llm")) >= 2


@pytest.mark.parametrize("depth", [50, 200, 330, 480, 700, 990])
def test_every_depth_ends_as_a_row_or_in_quarantine(take: Any, depth: int) -> None:
    nested: Any = "x"
    for _ in range(depth):
        nested = {"a": nested}
    text = '{"a": ' * depth + '"x"' + "}" * depth
    call = f'{{"messages": [{{"role": "user", "content": "hi"}}], "response": "yo", "session_id": "s", "note": {text}}}'
    taken = take(call + "\n" + json.dumps(CALL) + "\n")
    assert len(taken.kind("llm")) + len(taken.quarantine) == 2


def test_a_record_of_very_many_names_is_read(take: Any) -> None:
    names = ", ".join(f'"k{n}": {n}' for n in range(50_000))
    taken = take(f'{{"messages": [{{"role": "user", "content": "hi"}}], "response": "yo", "note": {{{names}}}}}\n')
    assert len(taken.kind("llm")) == 1


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress])
def test_a_bomb_stops_at_its_limit_and_keeps_what_was_read(take: Any, pack: Any) -> None:
    line = json.dumps(CALL).encode() + b"\n"
    packed = pack(line + b"\n" * (300 * MIB))
    assert len(packed) < MIB
    taken = take(packed, limits=Limits(ratio=2))
    assert len(taken.kind("llm")) == 1
    (reason,) = reasons(taken)
    assert "decompresses to more than 268,435,456 bytes ([limits] source_gib and ratio)" in reason


@pytest.mark.parametrize("length", [b"\xff\xff\xff\xff\x0f", b"\xff" * 9 + b"\x01", b"\xff" * 40])
def test_absurd_lengths_in_protobuf_are_quarantined(take: Any, length: bytes) -> None:
    taken = take(b"\x0a" + length + b"\x0a\x00" * 50, name="x.binpb")
    assert taken.spans == []
    assert len(taken.quarantine) == 1


def test_a_parquet_file_whose_one_text_stands_in_every_row_is_read_in_pieces(take: Any) -> None:
    """A dictionary makes a few bytes of a million long texts; whoever unpacks them all at once is out of memory."""
    text = json.dumps([{"role": "user", "content": "x" * 100_000}])
    table = pa.table({"messages": pa.array([text] * 3000).dictionary_encode(), "response": ["yo"] * 3000})
    sink = io.BytesIO()
    pq.write_table(table, sink)
    taken = take(sink.getvalue(), name="log.parquet")
    assert len(taken.ledger) == 1
    assert len(sink.getvalue()) < MIB


def test_a_quote_that_never_closes_costs_what_it_holds_and_no_more(take: Any) -> None:
    rows = 'session_id,value\n1,1\n2,"open\n' + ("x" * 31 + "\n") * (MIB // 16) + '3",1\n4,1\n'
    taken = take(rows, name="scores.csv", format="feedback", limits=SMALL)
    assert any("[limits] record_mib" in reason for reason in reasons(taken))
    assert taken.scores


CHILD = """
import json, resource, sys
from pathlib import Path
from tracemill import ingest
from tracemill.ingest.limits import Limits
list(ingest.batches([], key=b"k" * 32, now_ns=1))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
spans = quarantined = 0
for batch in ingest.batches(ingest.find([sys.argv[1]]), key=b"k" * 32, now_ns=1):
    spans += batch.tables["spans"].num_rows
    quarantined += batch.tables["quarantine"].num_rows
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([spans, quarantined, (peak - before) // 1024]))
"""


def ingested(path: Path) -> tuple[int, int, int]:
    """Spans, quarantined records and MiB at the peak of a process of its own that takes the file in."""
    environment = {**os.environ, "MALLOC_ARENA_MAX": "2"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CHILD), str(path)],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    spans, quarantined, mib = json.loads(done.stdout)
    return spans, quarantined, mib


@pytest.mark.slow
def test_the_prompts_of_very_many_calls_are_never_held(tmp_path: Path) -> None:
    """A record of one megabyte that would fill tens of gigabytes."""
    path = tmp_path / "log.jsonl"
    talk = [{"role": role, "content": f"{at}"} for at in range(16_000) for role in ("user", "assistant")]
    path.write_text(json.dumps({"messages": talk}) + "\n" + json.dumps(CALL))
    spans, quarantined, mib = ingested(path)
    assert (spans, quarantined) == (1, 1)
    assert mib < 700


@pytest.mark.parametrize("what", ["line", "bomb", pytest.param("document", marks=pytest.mark.slow)])
def test_two_hundred_megabytes_are_never_held(what: str, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    line = json.dumps(CALL).encode() + b"\n"
    if what == "line":
        with path.open("wb") as file:
            file.write(line + b'{"messages": [], "response": "')
            for _ in range(200):
                file.write(b"x" * MIB)
            file.write(b'"}\n' + json.dumps(CALL | {"session_id": "s"}).encode())
        spans, quarantined, mib = ingested(path)
        assert (spans, quarantined) == (2, 1)
        assert mib < 160
    elif what == "bomb":
        with gzip.open(path, "wb", compresslevel=1) as packed:
            packed.write(line)
            for _ in range(300):
                packed.write(b"x" * MIB)
        spans, quarantined, mib = ingested(path)
        assert (spans, quarantined) == (1, 1)
        assert mib < 160
    else:
        with path.open("wb") as file:
            file.write(b'{"messages": [{"role": "user", "content": "')
            for _ in range(600):
                file.write(b"x" * MIB)
        spans, quarantined, mib = ingested(path)
        assert (spans, quarantined) == (0, 1)
        assert mib < 160
