"""From a real client through the collector into the lake: what got a 200 is there once, whatever dies on the way."""

import http.client
import json
import logging
import os
import random
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from json_server import JsonHandler, listening
from on_disk import content
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from typer.testing import CliRunner

from tracemill.app import settings
from tracemill.app.cli import app
from tracemill.pipelines import ingesting
from tracemill.pipelines.night import Night
from tracemill.warehouse import Lake

PROTOBUF = "application/x-protobuf"
TRACEMILL = [sys.executable, "-c", "from tracemill.app.cli import main; main()"]
SECRET = "sk-proj-" + "Zq7" * 14


class Project:
    """A project whose source is the landing folder."""

    def __init__(self, root: Path, toml: str = "") -> None:
        self.root = root
        root.mkdir(exist_ok=True)
        (root / "tracemill.toml").write_text(f'{toml}\n[[sources]]\npath = ".tracemill/landing"\n')
        self.config = settings.load(root)
        self.landing = self.config.landing_path
        Lake.create(self.config.lake_path).close()

    def take(self, now: int | None = None) -> ingesting.IngestReport:
        clock = settings.clock if now is None else lambda: now
        with Lake.open(self.config.lake_path) as lake:
            return ingesting.take_in_configured(Night(night_id="n", config=self.config, lake=lake, clock=clock))

    def select(self, query: str) -> list[tuple[Any, ...]]:
        with Lake.open(self.config.lake_path) as lake:
            return lake.reader().execute(query).fetchall()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "p")


@contextmanager
def collecting(project: Project) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`tracemill collect` in a process of its own, on a free port."""
    command = [*TRACEMILL, "collect", "--port", "0", "--project", str(project.root)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        said = process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", said)
        assert found, said + process.stderr.read()
        yield process, int(found.group(1))
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def end(process: "subprocess.Popen[str]", how: signal.Signals = signal.SIGTERM) -> None:
    process.send_signal(how)
    process.wait(timeout=60)


def post(port: int, body: bytes, kind: str, path: str = "/v1/traces") -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", path, body, {"content-type": kind})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def as_json(span_id: str, **more: Any) -> bytes:
    span = {"traceId": "1" * 32, "spanId": span_id, "name": "chat", "startTimeUnixNano": "1790000000000000000"}
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span | more]}]}]}).encode()


def as_protobuf(*span_ids: str) -> bytes:
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    for span_id in span_ids:
        spans.add(trace_id=b"\x11" * 16, span_id=bytes.fromhex(span_id), name="chat", start_time_unix_nano=10**18)
    return bytes(request.SerializeToString())


@pytest.mark.slow
def test_every_acknowledged_span_is_in_the_lake_once_although_collectors_are_killed_under_load(
    project: Project,
) -> None:
    """Two collectors on one folder, killed with SIGKILL amid requests; ingest runs while they work and after."""
    acknowledged: set[str] = set()
    rng = random.Random(7)

    def send(port: int, worker: int, stop: threading.Event) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            ids = [f"{worker:04x}{number:010x}{n:02x}" for n in range(3)]
            body, kind = (as_protobuf(*ids), PROTOBUF) if worker % 2 else (as_json(ids[0]), "application/json")
            try:
                status, _, _ = post(port, body, kind)
            except (OSError, http.client.HTTPException):
                return  # it was killed: no answer, no promise
            assert status == 200
            acknowledged.update(ids if worker % 2 else ids[:1])

    for round in range(2):
        with collecting(project) as (one, port_one), collecting(project) as (two, port_two):
            stop = threading.Event()
            workers = [
                threading.Thread(target=send, args=(port, 16 * round + worker, stop))
                for worker, port in enumerate([port_one, port_two] * 2, start=1)
            ]
            for worker in workers:
                worker.start()
            before = len(acknowledged)
            while len(acknowledged) < before + 60 + rng.randrange(60):
                stop.wait(0.005)
            project.take()  # while they write: nothing of theirs is taken away
            one.kill()
            while len(acknowledged) < before + 200:
                stop.wait(0.005)
            two.kill()
            for worker in workers:
                worker.join()
    assert list(project.landing.glob("*.part"))
    project.take()  # no collector has to come back for it
    rows = [span_id for (span_id,) in project.select("SELECT span_id FROM spans")]
    assert len(rows) == len(set(rows))
    assert acknowledged <= set(rows)
    assert [path for path in project.landing.iterdir() if path.suffix != ".part"] == []
    assert project.take().items == 0


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_collector_hands_over_what_it_has(project: Project, how: signal.Signals) -> None:
    with collecting(project) as (process, port):
        assert post(port, as_json("a" * 16), "application/json")[0] == 200
        end(process, how)
        assert process.returncode in (0, -how)
    assert [path.suffix for path in project.landing.iterdir()] == [".jsonl"]
    assert project.take().spans == 1


def test_files_of_a_living_collector_are_left_to_it(project: Project) -> None:
    with collecting(project) as (process, port):
        assert post(port, as_json("a" * 16), "application/json")[0] == 200
        assert project.take().items == 0
        assert len(list(project.landing.glob("*.part"))) == 1
        end(process)
    assert project.take().spans == 1
    assert list(project.landing.iterdir()) == []


def test_spans_without_ids_are_a_partial_success_and_stand_in_quarantine(project: Project) -> None:
    bad = json.loads(as_json("b" * 16))
    spans = bad["resourceSpans"][0]["scopeSpans"][0]["spans"]
    spans += [spans[0] | {"spanId": "0" * 16, "name": "one"}, spans[0] | {"traceId": "", "name": "two"}]
    request = ExportTraceServiceRequest.FromString(as_protobuf("c" * 16, "d" * 16))
    request.resource_spans[0].scope_spans[0].spans[1].span_id = b""
    with collecting(project) as (process, port):
        status, headers, content = post(port, json.dumps(bad).encode(), "application/json")
        assert (status, headers["content-type"]) == (200, "application/json")
        partial = json.loads(content)["partialSuccess"]
        assert partial["rejectedSpans"] == "2"
        assert "trace id" in partial["errorMessage"]
        status, headers, content = post(port, request.SerializeToString(), PROTOBUF)
        assert (status, headers["content-type"]) == (200, PROTOBUF)
        assert ExportTraceServiceResponse.FromString(content).partial_success.rejected_spans == 1
        assert post(port, as_json("e" * 16, traceId="xyz"), "application/json")[0] == 400  # none of it is of use
        end(process)
    report = project.take()
    assert (report.spans, report.quarantined) == (2, 3)


def test_what_redaction_takes_out_is_in_no_byte_of_the_project_after_ingest(project: Project) -> None:
    """Nor is what was refused, in whatever state the collector left it."""
    text = {"key": "gen_ai.prompt.0.content", "value": {"stringValue": f"my key is {SECRET}"}}
    with collecting(project) as (process, port):
        assert post(port, as_json("a" * 16, attributes=[text]), "application/json")[0] == 200
        mixed = json.loads(as_json("b" * 16, attributes=[text]))
        spans = mixed["resourceSpans"][0]["scopeSpans"][0]["spans"]
        spans.append(spans[0] | {"spanId": ""})
        assert post(port, json.dumps(mixed).encode(), "application/json")[0] == 200
        end(process)
    held = [path for path in project.landing.iterdir() if SECRET.encode() in path.read_bytes()]
    assert len(held) == 1
    assert held[0].stat().st_mode & 0o077 == 0  # until then only its owner reads it
    torn = held[0].with_name("1790000000000000000-1-0001.traces.jsonl.part")
    torn.write_bytes(as_json("c" * 16, attributes=[text]) + b"\n" + as_json("d" * 16, attributes=[text])[:-9])
    report = project.take()
    assert (report.spans, report.quarantined) == (3, 2)
    assert list(project.landing.iterdir()) == []
    places = [path for path in project.root.rglob("*") if path.is_file() and SECRET.encode() in content(path)]
    assert places == []


def test_who_wants_to_look_at_refused_records_keeps_their_landing_files_for_days(tmp_path: Path) -> None:
    project = Project(tmp_path / "p", "[collect]\nkeep_refused_days = 30\n")
    project.landing.mkdir(parents=True)
    landed = project.landing / "1790000000000000000-1-0001.traces.jsonl"
    landed.write_bytes(as_json("a" * 16) + b"\n" + as_json("b" * 16, traceId="xyz"))
    report = project.take()
    assert (report.spans, report.quarantined) == (1, 1)
    assert landed.exists()
    project.take(now=settings.clock() + 31 * 86_400 * 10**9)
    assert not landed.exists()


def test_files_of_others_in_the_landing_folder_are_never_deleted(project: Project) -> None:
    project.landing.mkdir(parents=True, exist_ok=True)
    (project.landing / "mine.jsonl").write_bytes(as_json("a" * 16))
    assert project.take().spans == 1
    assert (project.landing / "mine.jsonl").exists()


class Model(JsonHandler):
    """An OpenAI-compatible server with one thing to say."""

    def post(self, body: Any) -> None:
        self.reply(
            200,
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": 1,
                "model": "gpt-x-2026",
                "choices": [
                    {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Paris"}}
                ],
                "usage": {"prompt_tokens": 11, "completion_tokens": 2, "total_tokens": 13},
            },
        )


@pytest.fixture
def model() -> Iterator[str]:
    with listening(Model) as url:
        yield f"{url}/v1"


def test_a_real_instrumented_openai_client_lands_in_llm_calls(project: Project, model: str) -> None:
    import openai
    from openinference.instrumentation.openai import OpenAIInstrumentor

    with collecting(project) as (process, port):
        exporter = OTLPSpanExporter(endpoint=f"http://127.0.0.1:{port}/v1/traces", compression=Compression.Gzip)
        provider = TracerProvider(resource=Resource.create({"service.name": "desk"}))
        provider.add_span_processor(BatchSpanProcessor(exporter))
        instrumentor = OpenAIInstrumentor()
        instrumentor.instrument(tracer_provider=provider)
        try:
            with openai.OpenAI(base_url=model, api_key="none") as client:
                asked = [{"role": "user", "content": "Capital of France?"}]
                client.chat.completions.create(model="gpt-x", messages=asked, temperature=0.5)  # type: ignore[arg-type]
        finally:
            instrumentor.uninstrument()
            provider.shutdown()
        end(process)
    project.take()
    (row,) = project.select("SELECT service, model, input_text, output_text, tokens_in, tokens_out FROM llm_calls")
    assert row == ("desk", "gpt-x-2026", "user: Capital of France?", "Paris", 11, 2)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_real_log_exporter_is_understood(project: Project) -> None:
    with collecting(project) as (process, port):
        provider = LoggerProvider(resource=Resource.create({"service.name": "desk"}))
        exporter = OTLPLogExporter(endpoint=f"http://127.0.0.1:{port}/v1/logs", compression=Compression.Gzip)
        provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
        handler = LoggingHandler(logger_provider=provider)
        handler.handle(logging.makeLogRecord({"msg": "hello", "levelno": logging.INFO, "levelname": "INFO"}))
        provider.shutdown()
        end(process)
    assert [path.name.split(".", 1)[1] for path in project.landing.iterdir()] == ["logs.otlp.pb"]
    assert project.take().files == 1


def test_collect_is_told_by_its_settings(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["collect", "--dry-run", "--json", "--project", str(project.root), *arguments])

    (project.root / "tracemill.toml").write_text('[collect]\nport = 4319\ntoken_env = "COLLECT_TOKEN"\n')
    monkeypatch.delenv("COLLECT_TOKEN", raising=False)
    assert "COLLECT_TOKEN" in run().output
    monkeypatch.setenv("COLLECT_TOKEN", "s3cret")
    plan = json.loads(run().stdout)
    assert (plan["host"], plan["port"], plan["token"]) == ("127.0.0.1", 4319, True)
    assert json.loads(run("--port", "0").stdout)["port"] == 0
    (project.root / "tracemill.toml").write_text("[collect]\nmax_body_mib = 65\n")
    assert "record_mib" in run().output


def test_an_address_that_others_reach_without_a_token_is_remarked(project: Project) -> None:
    command = [*TRACEMILL, "collect", "--host", "0.0.0.0", "--port", "0"]
    process = subprocess.Popen([*command, "--project", str(project.root)], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        said = process.stderr.readline() + process.stderr.readline()
    finally:
        process.kill()
        process.wait()
        process.stderr.close()  # type: ignore[union-attr]
    assert "token_env" in said
    assert os.listdir(project.landing) == []
