"""Inspect logs that are torn, malformed, hostile, packed in an odd way, or not Inspect's at all."""

import io
import json
import struct
import zipfile
import zlib
from typing import Any

import pytest
import zstandard
from inspect_logs import EVAL, SYSTEM, USER, archive, log, sample

from tracemill.ingest import zipped
from tracemill.ingest.formats.inspect.reader import InspectEval
from tracemill.ingest.limits import Limits
from tracemill.ingest.reader import BadRecord, Head, RawScore, RawSpan, Stream


def read(data: bytes) -> list[Any]:
    """What the reader gives where no record may be larger than a MiB."""
    reader, stream = InspectEval(), Stream(name="log.eval", file=io.BytesIO(data), limits=Limits(record_mib=1))
    stream.start()
    head = Head(name="log.eval", data=stream.head, shape="zip", records=(), columns=zipped.names_in(stream.head))
    assert reader.sniff(head) is not None
    return list(reader.read(stream, head))


def test_one_bad_sample_is_quarantined_and_the_others_land(take: Any) -> None:
    bad = {"id": "s2", "epoch": 1, "input": "x", "error_retries": 7}
    for content, name in ((archive(sample(), bad), "log.eval"), (log(sample(), bad, "nonsense"), "log.json")):
        taken = take(content, name=name)
        assert len(taken.kind("agent")) == 1
        reasons = [row["reason"] for row in taken.quarantine]
        assert len(reasons) == (1 if name == "log.eval" else 2)
        assert "malformed record" in reasons[0]
        assert taken.ledger[0]["n_records"] == len(reasons) + 1


def test_one_bad_event_is_quarantined_and_its_sample_lands(take: Any) -> None:
    events = [{"event": "model", "config": 7, "input": []}, "nonsense", *sample()["events"]]
    taken = take(log(sample(events=events)), name="log.json")
    assert [span["kind"] for span in taken.spans] == ["agent", "chain", "llm", "tool", "llm", "event"]
    assert [row["reason"].split(":")[0] for row in taken.quarantine] == [
        "malformed event 0 of sample s1",
        "malformed event 1 of sample s1",
    ]
    assert len(taken.scores) == 1


def test_a_torn_archive_gives_the_samples_before_the_tear(take: Any) -> None:
    whole = archive(sample(), sample(id="s2", uuid="uuid-2"))
    with zipfile.ZipFile(io.BytesIO(whole)) as packed:
        second = packed.getinfo("samples/s2_epoch_1.json").header_offset
    taken = take(whole[: second + 200], name="log.eval")
    assert [root["task_key"] for root in taken.kind("agent")] == ["desk/refunds/s1"]
    assert [row["reason"].split(":")[0] for row in taken.quarantine] == [
        "the archive's directory is torn or broken",
        "samples/s2_epoch_1.json",
    ]


def test_a_log_without_samples_is_told_of(take: Any) -> None:
    assert [row["reason"] for row in take(archive(), name="log.eval").quarantine] == ["the log holds no samples"]


def test_a_torn_document_gives_the_samples_before_the_tear(take: Any) -> None:
    text = json.dumps(log(sample(), sample(id="s2", uuid="uuid-2")), indent=1)
    taken = take(text[: text.index('"uuid-2"') + 40], name="log.json")
    assert [root["task_key"] for root in taken.kind("agent")] == ["desk/refunds/s1"]
    (bad,) = taken.quarantine
    assert "not valid JSON from here on" in bad["reason"]
    assert text.splitlines()[bad["line"] - 1].strip() == "{"


def test_a_bomb_among_the_entries_is_quarantined_unread() -> None:
    bomb = sample(id="bomb", uuid="uuid-2", store={"zeros": "0" * 3_000_000})
    data = archive(sample(), bomb)
    assert len(data) < 20_000
    items = read(data)
    (bad,) = [item for item in items if isinstance(item, BadRecord)]
    assert bad.reason.startswith("samples/bomb_epoch_1.json: the entry holds 3,00")
    assert sum(isinstance(item, RawScore) for item in items) == 1


def test_a_bomb_that_lies_about_its_size_is_stopped_while_it_is_unpacked() -> None:
    data = archive(sample(id="bomb", store={"zeros": "0" * 3_000_000}))
    size = struct.pack("<L", len(json.dumps(sample(id="bomb", store={"zeros": "0" * 3_000_000}))))
    items = read(data.replace(size, struct.pack("<L", 100)))
    assert "more than the 1,048,576 bytes" in next(item.reason for item in items if isinstance(item, BadRecord))
    assert not any(isinstance(item, RawSpan) for item in items)


def test_a_text_that_is_referred_to_without_end_is_refused(take: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracemill.ingest.formats.inspect.messages._MAX_EXPANDED", 10_000)
    laughing = sample(attachments={"aa": "ha" * 100}, store={str(n): "attachment://aa" for n in range(1000)})
    taken = take(log(laughing, sample(uuid="uuid-2")), name="log.json")
    assert ["attachments are repeated" in row["reason"] for row in taken.quarantine] == [True]
    assert len(taken.kind("agent")) == 1


def test_entries_packed_with_zstandard_and_samples_in_pieces_are_read(take: Any) -> None:
    one = sample(attachments=["You are an operator."], message_pool=[SYSTEM | {"content": "attachment://0"}, USER])
    events, pool, texts = one.pop("events"), one.pop("message_pool"), one.pop("attachments")
    entries = {
        "header.json": {"version": 3, "eval": EVAL},
        "samples/s1_epoch_1/sample.json": one,
        "samples/s1_epoch_1/events/0.json": events[:3],
        "samples/s1_epoch_1/events/10.json": events[5:],
        "samples/s1_epoch_1/events/3.json": events[3:4],
        "samples/s1_epoch_1/events/stats.json": [],
        "samples/s1_epoch_1/messages/0.json": pool,
        "samples/s1_epoch_1/attachments/0.json": texts,
    }
    taken = take(_zstd_zip(entries), name="log.eval")
    assert [span["kind"] for span in taken.spans] == ["agent", "chain", "llm", "tool", "event"]
    assert taken.texts(taken.prompt(taken.spans[2])) == ["You are an operator.", "List the files."]
    assert taken.quarantine == []


def _zstd_zip(entries: dict[str, Any]) -> bytes:
    """An archive of method 93, which this Python's zipfile cannot write."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        for name, value in entries.items():
            raw = json.dumps(value).encode()
            packed.writestr(name, zstandard.compress(raw))
            packed.getinfo(name).CRC = zlib.crc32(raw)
            packed.getinfo(name).file_size = len(raw)
            packed.getinfo(name).compress_type = 93
    return file.getvalue()


def test_a_zip_of_something_else_is_named_and_refused(take: Any) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("photo.png", b"\x89PNG")
    taken = take(file.getvalue(), name="photos.zip")
    (refused,) = taken.quarantine
    assert (refused["source_uri"][-22:], refused["reason"]) == ("/photos.zip!/photo.png", "unknown format: an image")
    assert taken.quarantine[0]["excerpt"] is None


def test_other_evaluations_in_json_are_not_claimed() -> None:
    for record in ({"eval": {"task": "x"}}, {"eval": "x", "samples": []}, {"samples": [], "plan": {}}, {"eval": {}}):
        head = Head(name="a.json", data=b"{}", shape="json", records=[record])
        assert InspectEval().sniff(head) is None
