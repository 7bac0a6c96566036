"""Archives of logs: every file in them is a source object of its own, and none of them can hurt."""

import gzip
import io
import json
import os
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tracemill import ingest
from tracemill.ingest import archives
from tracemill.records import Batch

KEY = b"k" * 32


def call(said: str) -> bytes:
    asked = [{"role": "user", "content": said}, {"role": "assistant", "content": "hello"}]
    return json.dumps({"messages": asked}).encode() + b"\n"


def zipped(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as packed:
        for name, data in files.items():
            packed.writestr(name, data)
    return file.getvalue()


def tarred(files: Mapping[str, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as packed:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            packed.addfile(info, io.BytesIO(data))
    return file.getvalue()


class Taken:
    """What came of a file."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.batches: list[Batch] = list(ingest.batches(ingest.find([path]), key=KEY, now_ns=1, **options))
        self.ledger = {row["source_uri"].removeprefix(str(path)): row for row in self.rows("ingest_log")}
        self.refused = [(row["source_uri"].removeprefix(str(path)), row["reason"]) for row in self.rows("quarantine")]
        self.n_spans = len(self.rows("spans"))

    def rows(self, name: str) -> list[dict[str, Any]]:
        return [row for batch in self.batches for row in batch.tables[name].to_pylist()]


FILES = {
    "a.jsonl": call("one"),
    "deep/b.jsonl.gz": gzip.compress(call("two")),
    "notes/": b"",
    ".git/x": b"",
    "./.DS_Store": b"\x00",
}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("logs.zip", zipped(FILES)),
        ("stored.zip", zipped(FILES, zipfile.ZIP_STORED)),
        ("logs.tar", tarred(FILES)),
        ("old.tar", tarred(FILES, tarfile.USTAR_FORMAT)),
        ("logs.tar.gz", gzip.compress(tarred(FILES, tarfile.GNU_FORMAT))),
        ("logs.tgz.whatever", gzip.compress(tarred(FILES))),
        ("logs.tar.zst", zstandard.compress(tarred(FILES))),
        ("logs.zip.gz", gzip.compress(zipped(FILES))),
    ],
)
def test_the_files_of_an_archive_are_objects_of_their_own(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    taken = Taken(tmp_path / name)
    assert sorted(taken.ledger) == ["", "!/a.jsonl", "!/deep/b.jsonl.gz"]
    archive = taken.ledger[""]
    assert (archive["source_format"], archive["n_records"], archive["n_items"]) == ("archive", 2, 0)
    assert (taken.n_spans, taken.refused) == (4, [])
    (tmp_path / "plain.jsonl").write_bytes(FILES["a.jsonl"])
    plain = Taken(tmp_path / "plain.jsonl").ledger[""]
    assert taken.ledger["!/a.jsonl"]["content_hash"] == plain["content_hash"]


def test_archives_in_archives_are_read_and_named(tmp_path: Path) -> None:
    path = tmp_path / "outer.zip"
    path.write_bytes(
        zipped({"inner.tar.gz": gzip.compress(tarred({"x/a.jsonl": call("one")})), "b.jsonl": call("two")})
    )
    taken = Taken(path)
    assert sorted(taken.ledger) == ["", "!/b.jsonl", "!/inner.tar.gz", "!/inner.tar.gz!/x/a.jsonl"]
    assert taken.n_spans == 4


def test_a_known_archive_is_left_out_and_of_a_changed_one_only_what_is_new_is_read(tmp_path: Path) -> None:
    path = tmp_path / "logs.zip"
    path.write_bytes(zipped({"a.jsonl": call("one")}))
    first = Taken(path)
    known = {(row["source_uri"], row["content_hash"]) for row in first.ledger.values()}
    assert Taken(path, seen=lambda *one: one in known).batches == []
    path.write_bytes(zipped({"a.jsonl": call("one"), "b.jsonl": call("two")}))
    again = Taken(path, seen=lambda *one: one in known)
    assert sorted(again.ledger) == ["", "!/b.jsonl"]
    assert again.n_spans == 2


def test_what_nobody_reads_in_an_archive_is_refused_alone(tmp_path: Path) -> None:
    path = tmp_path / "mixed.tar"
    path.write_bytes(tarred({"README.md": b"# Logs\n", "a.jsonl": call("one"), "empty.jsonl": b""}))
    taken = Taken(path)
    assert [uri for uri, _ in taken.refused] == ["!/README.md", "!/empty.jsonl"]
    assert taken.n_spans == 2
    with_format = Taken(path, format="openai-chat")
    assert [uri for uri, _ in with_format.refused] == ["!/README.md", "!/empty.jsonl"]
    assert with_format.n_spans == 2


def test_documents_that_are_zips_are_one_refusal(tmp_path: Path) -> None:
    path = tmp_path / "report.docx"
    path.write_bytes(zipped({"[Content_Types].xml": b"<x/>", "word/document.xml": b"<x/>"}))
    taken = Taken(path)
    assert len(taken.refused) == 1
    assert list(taken.ledger) == [""]


def test_names_that_lead_outside_links_and_devices_write_and_read_nothing(tmp_path: Path) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as packed:
        for name in ("../../evil.jsonl", "/tmp/evil\n.jsonl"):
            info = tarfile.TarInfo(name)
            info.size = len(call("one"))
            packed.addfile(info, io.BytesIO(call("one")))
        for kind, target in ((tarfile.SYMTYPE, "/etc/passwd"), (tarfile.LNKTYPE, "/etc/passwd"), (tarfile.CHRTYPE, "")):
            info = tarfile.TarInfo(f"link{kind!r}")
            info.type, info.linkname = kind, target
            packed.addfile(info)
    folder = tmp_path / "in"
    folder.mkdir()
    path = folder / "evil.tar"
    path.write_bytes(file.getvalue())
    taken = Taken(path)
    assert sorted(taken.ledger) == ["", "!/../../evil.jsonl", "!//tmp/evil�.jsonl"]
    assert os.listdir(tmp_path) == ["in"]
    assert os.listdir(folder) == ["evil.tar"]


SMALL = ingest.Limits(ratio=1)
"""256 MiB for what is compressed."""


def test_a_bomb_ends_in_quarantine_and_what_stood_before_it_lands(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a.jsonl", call("one"))
        with packed.open("big.jsonl", "w", force_zip64=True) as file:
            for _ in range(300):
                file.write(b"\n" * 2**20)
        packed.writestr("z.jsonl", call("two"))
    taken = Taken(path, limits=SMALL)
    assert [uri for uri, _ in taken.refused] == [""]
    assert "big.jsonl: the archive unpacks to more than" in taken.refused[0][1]
    assert sorted(taken.ledger) == ["", "!/a.jsonl"]


def test_a_tar_whose_sparse_member_swells_ends_in_quarantine(tmp_path: Path) -> None:
    info = tarfile.TarInfo("sparse.jsonl")
    info.pax_headers = {
        "GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.name": "sparse.jsonl",
        "GNU.sparse.size": str(2**40), "GNU.sparse.map": "0,1",
    }  # fmt: skip
    info.size = 1
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as packed:
        packed.addfile(info, io.BytesIO(b"{"))
    path = tmp_path / "sparse.tar"
    path.write_bytes(file.getvalue())
    taken = Taken(path, limits=SMALL)
    assert [uri for uri, _ in taken.refused] == [""]
    assert "unpacks to more than" in taken.refused[0][1]


def test_a_header_that_claims_gigabytes_is_not_believed(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 2**33
    path = tmp_path / "header.tar.zst"
    path.write_bytes(zstandard.compress(info.tobuf() + b"\x00" * 1024))
    taken = Taken(path)
    assert len(taken.refused) == 1
    assert "torn or broken" in taken.refused[0][1]


def test_an_archive_that_holds_itself_without_end_is_left_at_some_depth(tmp_path: Path) -> None:
    data = call("one")
    for _ in range(archives.DEEPEST + 3):
        data = zipped({"r.zip": data})
    path = tmp_path / "r.zip"
    path.write_bytes(data)
    taken = Taken(path)
    (refused,) = taken.refused
    assert refused[0] == "!/r.zip" * archives.DEEPEST
    assert "lie in each other" in refused[1]


@pytest.mark.parametrize("pack", [lambda data: data, gzip.compress])
def test_a_torn_tar_gives_what_stands_before_the_tear(tmp_path: Path, pack: Any) -> None:
    lines = b"".join(call(f"{number} {os.urandom(8).hex()}") for number in range(4000))
    data = pack(tarred({"a.jsonl": call("one"), "b.jsonl": lines}))
    path = tmp_path / "torn.tar"
    path.write_bytes(data[: len(data) // 2])
    taken = Taken(path)
    assert "!/a.jsonl" in taken.ledger
    assert 2 < taken.n_spans < 8000
    assert any(uri == "" and "torn or broken" in reason for uri, reason in taken.refused)


def test_a_torn_zip_and_a_damaged_member_cost_only_what_is_torn(tmp_path: Path) -> None:
    files = {"a.jsonl": call("one"), "b.jsonl": call("two " + os.urandom(200).hex()), "c.jsonl": call("three")}
    data = bytearray(zipped(files, zipfile.ZIP_STORED))
    path = tmp_path / "torn.zip"
    path.write_bytes(data[: data.rindex(b"c.jsonl", 0, data.index(b"PK\x01\x02"))])
    taken = Taken(path)
    assert {"!/a.jsonl", "!/b.jsonl"} <= set(taken.ledger)
    assert any("directory is torn" in reason for _, reason in taken.refused)
    data[data.index(b"two ") + 10] ^= 1
    path = tmp_path / "damaged.zip"
    path.write_bytes(data)
    taken = Taken(path)
    assert any(uri == "" and "b.jsonl" in reason and "checksum" in reason for uri, reason in taken.refused)
    assert taken.n_spans == 6  # the letter that is wrong is still JSON


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    data = bytearray(zipped({"a.jsonl": call("one")}))
    data[6] |= 1
    at = data.index(b"PK\x01\x02")
    data[at + 8] |= 1
    path = tmp_path / "locked.zip"
    path.write_bytes(data)
    assert Taken(path).refused == [("", "a.jsonl: the entry is encrypted")]
