"""Values planted in every place of every format are in no byte of the lake: tables, files, catalog, quarantine."""

import importlib.util
import io
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from google.protobuf.message import Message
from google.protobuf.proto import parse_length_prefixed, serialize_length_prefixed
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tracemill import ingest
from tracemill.errors import SourceError
from tracemill.ids import PSEUDONYM
from tracemill.ingest.formats import FORMATS
from tracemill.warehouse import Lake

KEY = b"k" * 32
EXAMPLES = Path(__file__).parent / "examples"
NAMES = [reader.name for reader in FORMATS]


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"planted_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


bench = load(Path(__file__).parents[2] / "bench" / "redact.py")


def values(r: random.Random) -> Iterator[str]:
    """Every kind in turn, without end; as it stands in a sentence."""
    makers = [*bench.SECRETS.values(), *bench.PERSONAL.values()]
    while True:
        r.shuffle(makers)
        for make in makers:
            yield make(r)


class Planting:
    """Puts values into the strings and names of JSON values, and remembers them."""

    def __init__(self, seed: str, share: float) -> None:
        self._r = random.Random(seed)
        self._values = values(self._r)
        self._share = share
        self.planted: list[str] = []

    def one(self) -> str:
        value = next(self._values)
        self.planted.append(value)
        return value

    def name(self) -> str:
        """A value that can stand in the name of a file."""
        while "/" in (value := next(self._values)) or "\n" in value or len(value) > 100:
            pass
        self.planted.append(value)
        return value

    def into(self, value: Any) -> Any:
        if isinstance(value, dict):
            found = {name: self.into(inner) for name, inner in value.items()}
            if self._r.random() < self._share:
                found[f"note {self.one()}"] = {"said": f"it is {self.one()}"}
            return found
        if isinstance(value, list):
            return [self.into(inner) for inner in value]
        if isinstance(value, str) and self._r.random() < self._share:
            if value[:1] in ("{", "["):
                try:
                    return json.dumps(self.into(json.loads(value)))
                except ValueError:
                    pass
            return f"{value} it is {self.one()}, yes"
        return value

    def into_message(self, message: Message) -> None:
        """The texts of a protobuf message, and one attribute more wherever there are some."""
        for field, value in message.ListFields():
            if field.type == field.TYPE_STRING:
                setattr(message, field.name, self.into(value))
            elif field.type == field.TYPE_MESSAGE:
                for inner in value if field.is_repeated else [value]:
                    self.into_message(inner)
        if "attributes" in message.DESCRIPTOR.fields_by_name and self._r.random() < self._share:
            message.attributes.add(key=f"note {self.one()}").value.string_value = f"it is {self.one()}"

    def frames(self, raw: bytes) -> bytes:
        """A file of trace requests, each led by its length."""
        given, written = io.BytesIO(raw), io.BytesIO()
        while (request := parse_length_prefixed(ExportTraceServiceRequest, given)) is not None:
            self.into_message(request)
            serialize_length_prefixed(request, written)
        return written.getvalue()

    def log(self, example: Path) -> bytes:
        """An example with values planted in it, and a torn record after it."""
        raw = example.read_bytes()
        planted = self.frames(raw) if example.suffix == ".binpb" else self.texts(raw)
        return planted + b'\n{"torn": "' + self.one().encode()

    def texts(self, raw: bytes) -> bytes:
        try:
            return json.dumps(self.into(json.loads(raw))).encode()
        except ValueError:
            lines = [line for line in raw.split(b"\n") if line.strip()]
            return b"\n".join(json.dumps(self.into(json.loads(line))).encode() for line in lines)


def readable(content: Any) -> str:
    """All that a table holds, with the escapes of JSON in its texts taken away."""
    text = json.dumps(content, default=str, ensure_ascii=False)
    for _ in range(4):
        text = text.replace("\\\\", "\\").replace('\\"', '"').replace("\\/", "/").replace("\\n", "\n")
    return text


def traces(value: str, text: str) -> bool:
    """Whether a value, or a telling piece of it, can be read."""
    return bench.left(value, text) or bench.left(value.replace("%40", "@"), text)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_planted_in_a_log_comes_out(name: str, tmp_path: Path) -> None:
    (example,) = EXAMPLES.glob(f"{name}.*")
    for seed, share in enumerate((0.05, 0.2, 0.7)):
        planting = Planting(f"{name} {seed}", share)
        path = tmp_path / f"log{seed}{example.suffix}"
        path.write_bytes(planting.log(example))
        for options in ({}, {"max_bytes": 1}):
            batches = list(ingest.batches(ingest.find([path]), key=KEY, now_ns=1, **options))
            text = readable([table.to_pylist() for batch in batches for table in batch.tables.values()])
            assert [value for value in planting.planted if traces(value, text)] == []
        assert planting.planted


def lake_bytes(lake: Lake) -> Iterator[tuple[str, str]]:
    """Every file of a lake as it lies on the disk, and Parquet files also as what they hold."""
    for path in sorted(lake.root.rglob("*")):
        if path.is_file() and path.name != "key":
            yield path.name, path.read_bytes().decode("utf-8", "replace")
            if path.suffix == ".parquet":
                yield path.name, readable(pq.read_table(path).to_pylist())
                yield path.name, str(pq.read_metadata(path).to_dict())


def test_nothing_planted_is_in_any_byte_of_the_lake(tmp_path: Path) -> None:
    logs = tmp_path / "logs of ada.lovelace@example.org"
    logs.mkdir()
    planting = Planting("lake", 0.3)
    for name in NAMES:
        (example,) = EXAMPLES.glob(f"{name}.*")
        (logs / f"{name}{example.suffix}").write_bytes(planting.log(example))
    (logs / "4111 1111 1111 1111.jsonl").write_text("prose with " + planting.one())
    (logs / "call +49 30 7351942.gz").write_bytes(b"\x1f\x8b torn " + planting.one().encode())
    planted = [*planting.planted, "ada.lovelace", "4111 1111 1111 1111", "7351942"]
    assert len(planted) > 400
    with Lake.create(tmp_path / "lake") as lake:
        for batch in ingest.batches(ingest.find([logs]), key=lake.key, now_ns=1, max_bytes=500_000):
            with lake.transaction("ingest") as tx:
                tx.rebuild(tx.take(batch).trace_ids)
        with lake.reader() as con:
            counts = [len(con.execute(f"FROM {table}").fetchall()) for table in ("spans", "quarantine", "ingest_log")]
        assert counts[0] > 100
        assert counts[1] > 10
        assert counts[2] == len(NAMES) + 2
        lake.close()
        text = "\n".join(content for _, content in lake_bytes(lake))
        assert [value for value in planted if traces(value, text)] == []
        again = [
            batch
            for batch in ingest.batches(ingest.find([logs]), key=lake.key, now_ns=2, seen=seen(lake))
            if batch.tables["ingest_log"].num_rows
        ]
        assert again == []


def seen(lake: Lake) -> Any:
    with lake.reader() as con:
        rows: list[Any] = con.execute("SELECT source_uri, content_hash FROM ingest_log").fetchall()
    ledger = set(rows)
    return lambda uri, digest: (uri, digest) in ledger


def test_an_error_about_a_source_shows_no_credentials(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        ingest.find(["memory://nowhere/x.jsonl?X-Amz-Signature=0a1b2c3d&sig=4e5f"])
    assert "0a1b2c3d" not in str(caught.value) + repr(caught.value)
    path = tmp_path / "log.jsonl"
    path.write_text('{"ada@example.org": 1}\n' * 3)
    with pytest.raises(SourceError) as caught:
        list(ingest.batches(ingest.find([path]), key=KEY, now_ns=1, format="tau-bench"))
    assert "ada@example.org" not in str(caught.value)


def test_duckdb_reads_nothing_planted_through_views(tmp_path: Path) -> None:
    """What analysts see is what the tables hold: the views add nothing of their own."""
    planting = Planting("views", 1.0)
    path = tmp_path / "log.jsonl"
    path.write_bytes(planting.log(EXAMPLES / "openai-chat.jsonl"))
    with Lake.create(tmp_path / "lake") as lake:
        for batch in ingest.batches(ingest.find([path]), key=lake.key, now_ns=1):
            with lake.transaction("ingest") as tx:
                tx.rebuild(tx.take(batch).trace_ids)
        with lake.reader() as con:
            views = con.execute(
                "SELECT view_name FROM duckdb_views() WHERE database_name = current_database() AND NOT internal"
            ).fetchall()
            assert views
            for (view,) in views:
                try:
                    text = readable(con.execute(f'SELECT * FROM "{view}"').to_arrow_table().to_pylist())
                except duckdb.BinderException:
                    continue
                assert [value for value in planting.planted if traces(value, text)] == [], view


def test_nothing_planted_is_in_what_the_command_line_says(tmp_path: Path) -> None:
    """What came in, what was refused and why, as text and as JSON; and each way for a whole run to be refused."""
    planting = Planting("command line", 0.5)
    logs = tmp_path / "logs"
    logs.mkdir()
    for name in ("otlp-json", "otlp-protobuf", "langfuse", "tau-bench", "feedback", "openai-chat"):
        (example,) = EXAMPLES.glob(f"{name}.*")
        (logs / f"{name} of {planting.name()}{example.suffix}").write_bytes(planting.log(example))
    (logs / f"{planting.name()}.txt").write_text("prose with " + planting.one())
    refused = tmp_path / "refused.jsonl"
    lines = [{"messages": f"no list but {planting.one()}", planting.one(): planting.one()} for _ in range(20)]
    refused.write_text("\n".join(map(json.dumps, lines)))
    scores = tmp_path / "scores.csv"
    scores.write_text(f"trace_id,value,{planting.name()}\nx,{planting.name()},1\n")
    signed = f"http://ada:{'s3cr3t'}@127.0.0.1:9/log.jsonl?X-Amz-Signature=0a1b2c3d"
    said = {
        "text": tracemill(tmp_path, "ingest", logs),
        "json": tracemill(tmp_path, "ingest", refused, "--scores", scores, "--json"),
        "format": tracemill(tmp_path, "ingest", refused, "--format", "openai-chat"),
        "url": tracemill(tmp_path, "ingest", signed),
    }
    assert {name: run.returncode for name, run in said.items()} == {
        "text": 0, "json": 1, "format": 2, "url": 2,
    }  # fmt: skip
    assert PSEUDONYM.search(said["text"].stdout), "the name of a refused file is shown, without what it gives away"
    assert "refused" in said["text"].stdout
    assert json.loads(said["json"].stdout)["quarantined"] == 2
    for name, run in said.items():
        text = readable(run.stdout + run.stderr)
        assert [value for value in planting.planted if traces(value, text)] == [], name
        assert "s3cr3t" not in text
        assert "0a1b2c3d" not in text
        assert "Traceback" not in text


def tracemill(project: Path, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tracemill", *map(str, arguments), "--project", str(project)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
