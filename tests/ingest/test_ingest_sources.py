"""Finding and opening source objects."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import fsspec
import pytest
import zstandard

from tracemill import ingest
from tracemill.errors import SourceError

LINE = b'{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}\n'


def names(objects: list[ingest.SourceObject]) -> list[str]:
    return [one.uri.rsplit("/", 1)[-1] for one in objects]


def test_files_folders_and_globs_give_each_object_once_in_order(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for name in ("in/b.jsonl", "in/a.jsonl", "in/deep/c.json", "in/now.jsonl.part", "in/.hidden", "d.txt"):
        (tmp_path / name).write_bytes(LINE)
    found = ingest.find([tmp_path / "in", tmp_path / "in" / "a.jsonl", f"{tmp_path}/*.txt", f"{tmp_path}/**/*.json"])
    assert names(found) == ["a.jsonl", "b.jsonl", "c.json", "d.txt"]
    assert names(ingest.find([tmp_path / "in"], exclude=["*.json"])) == ["a.jsonl", "b.jsonl"]
    assert all(one.size_bytes == len(LINE) for one in found)


def test_a_missing_path_and_an_empty_glob_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"gone\.jsonl.*no such file"):
        ingest.find([tmp_path / "gone.jsonl"])
    with pytest.raises(SourceError, match="matches no file"):
        ingest.find([f"{tmp_path}/*.jsonl"])
    (tmp_path / "x.part").write_bytes(b"")
    with pytest.raises(SourceError, match="still writes"):
        ingest.find([tmp_path / "x.part"])


def test_a_file_without_read_permission_is_refused_alone_and_not_in_the_ledger(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    path = folder / "secret.jsonl"
    path.write_bytes(LINE)
    path.chmod(0)
    root = os.geteuid() == 0
    if root:  # root may read everything, so be somebody else for a moment
        for parent in (tmp_path, *tmp_path.parents):
            if parent.stat().st_uid == 0 and parent != Path("/"):
                parent.chmod(parent.stat().st_mode | 0o011)
        os.seteuid(65534)
    try:
        (found,) = ingest.find([path])
        assert found.unreadable == "permission denied; make it readable for this user"
        (batch,) = ingest.batches([found], key=b"k", now_ns=1)
    finally:
        if root:
            os.seteuid(0)
    (refused,) = batch.tables["quarantine"].to_pylist()
    assert (refused["source_uri"], refused["reason"]) == (str(path), found.unreadable)
    assert batch.tables["ingest_log"].num_rows == 0


def test_a_pipe_among_the_logs_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jsonl")
    (tmp_path / "b.jsonl").write_bytes(LINE)
    (batch,) = ingest.batches(ingest.find([tmp_path]), key=b"k", now_ns=1)
    assert batch.tables["spans"].num_rows == 2
    assert "a pipe" in batch.tables["quarantine"]["reason"][0].as_py()


def test_gzip_and_zstd_are_read_whatever_the_file_is_called(take: Any) -> None:
    plain = take(LINE, name="plain.jsonl").spans
    packed = take(gzip.compress(LINE) + gzip.compress(LINE), name="one.log").spans
    squeezed = take(zstandard.compress(LINE), name="two.log").spans
    ids = [span["span_id"] for span in plain]
    assert [span["span_id"] for span in packed] == [span["span_id"] for span in squeezed] == ids
    assert len(ids) == 2


def test_a_torn_gzip_keeps_what_was_read_and_quarantines_the_tear(take: Any) -> None:
    lines = [b'{"messages": [{"role": "user", "content": "%d"}], "response": null}\n' % n for n in range(20_000)]
    packed = gzip.compress(b"".join(lines))
    taken = take(packed[: len(packed) // 2])
    assert 1_000 < len(taken.spans) < 19_000
    assert any("torn or broken" in row["reason"] for row in taken.quarantine)
    (row,) = taken.ledger
    assert row["n_quarantined"] == len(taken.quarantine)


def test_objects_behind_a_url_are_found_and_read() -> None:
    fs = fsspec.filesystem("memory")
    fs.pipe("/logs/a.jsonl", LINE)
    fs.pipe("/logs/b.jsonl.part", LINE)
    (one,) = ingest.find(["memory://logs"])
    assert one.uri == "memory:///logs/a.jsonl"
    (batch,) = ingest.batches([one], key=b"k", now_ns=1)
    assert batch.tables["spans"].num_rows == 2
    with pytest.raises(SourceError, match="no such object"):
        ingest.find(["memory://logs/gone.jsonl"])


def test_an_object_that_disappears_is_refused_alone_and_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINE)
    objects = ingest.find([path])
    (tmp_path / "b.jsonl").write_bytes(LINE)
    objects += ingest.find([tmp_path / "b.jsonl"])
    path.unlink()
    (batch,) = ingest.batches(objects, key=b"k", now_ns=1)
    (refused,) = batch.tables["quarantine"].to_pylist()
    assert (refused["source_uri"], refused["content_hash"], refused["line"]) == (str(path), None, None)
    assert "no such file" in refused["reason"]
    assert batch.tables["spans"].num_rows == 2
    assert batch.tables["ingest_log"]["source_uri"].to_pylist() == [str(tmp_path / "b.jsonl")]


def test_what_was_seen_with_the_same_content_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINE)
    (batch,) = ingest.batches(ingest.find([path]), key=b"k", now_ns=1)
    (row,) = batch.tables["ingest_log"].to_pylist()
    ledger = {(row["source_uri"], row["content_hash"])}
    again = list(ingest.batches(ingest.find([path]), key=b"k", now_ns=2, seen=lambda *one: one in ledger))
    assert again == []
    path.write_bytes(LINE + LINE)
    assert len(list(ingest.batches(ingest.find([path]), key=b"k", now_ns=2, seen=lambda *one: one in ledger))) == 1


def test_batches_are_bounded_and_the_ledger_row_of_a_cut_object_comes_last(tmp_path: Path) -> None:
    for name in ("a", "b"):
        lines = [
            json.dumps({"messages": [{"role": "user", "content": f"{name} {n} {'x' * 500}"}], "response": None}) + "\n"
            for n in range(100)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    batches = list(ingest.batches(ingest.find([tmp_path]), key=b"k", now_ns=1, max_bytes=20_000))
    assert len(batches) > 4
    assert len({batch.batch_id for batch in batches}) == len(batches)
    ids = [i for batch in batches for i in batch.tables["spans"]["span_id"].to_pylist()]
    assert len(set(ids)) == len(ids) == 200
    ledger = [(at, row) for at, batch in enumerate(batches) for row in batch.tables["ingest_log"].to_pylist()]
    assert [row["n_records"] for _, row in ledger] == [100, 100]
    assert ledger[-1][0] == len(batches) - 1
    assert all(row["batch_id"] == batches[at].batch_id for at, row in ledger)
    whole = list(ingest.batches(ingest.find([tmp_path]), key=b"k", now_ns=1))
    assert len(whole) == 1
    assert sorted(whole[0].tables["spans"]["span_id"].to_pylist()) == sorted(ids)
