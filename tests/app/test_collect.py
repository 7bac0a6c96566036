"""The collector and the real OpenTelemetry SDK: what got a 200 is on disk and is taken in, whatever happens next."""

import gzip
import http.client
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import uvicorn
from google.rpc.status_pb2 import Status
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from starlette.applications import Starlette

from tracemill import ingest
from tracemill.app.collect import PROTOBUF, build_app
from tracemill.app.landing import Landing
from tracemill.errors import StoreError

KEY = b"k" * 32
TRACE = "0af7651916cd43dd8448eb211c80319c"


def spans_in(folder: Path) -> list[dict[str, Any]]:
    tables = [batch.tables for batch in ingest.batches(ingest.find([folder]), key=KEY, now_ns=1)]
    refused = [row for table in tables for row in table["quarantine"].to_pylist()]
    assert refused == []
    return pa.concat_tables([table["spans"] for table in tables]).to_pylist() if tables else []


def request_json(span_id: str = "b7ad6b7169203331", **more: Any) -> dict[str, Any]:
    span = {"traceId": TRACE, "spanId": span_id, "name": "chat", "startTimeUnixNano": "1", "endTimeUnixNano": "2"}
    return {"resourceSpans": [{"scopeSpans": [{"spans": [{**span, **more}]}]}]}


def request_protobuf(n_spans: int = 1) -> bytes:
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    for number in range(n_spans):
        spans.add(trace_id=bytes.fromhex(TRACE), span_id=(number + 1).to_bytes(8, "big"), name="chat")
    return bytes(request.SerializeToString())


@dataclass(frozen=True)
class Answer:
    status_code: int
    headers: dict[str, str]
    content: bytes


class Client:
    """An application behind a real server on a real port; files are finished on leaving."""

    def __init__(self, app: Starlette) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._port = self._listener.getsockname()[1]
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listener]})

    def __enter__(self) -> "Client":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()

    def post(self, path: str, body: bytes, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return ask(self._port, "POST", path, body, {"content-type": "application/json"} | named)

    def get(self, path: str) -> Answer:
        return ask(self._port, "GET", path, b"", {})


def ask(port: int, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, found, answer.read())
    finally:
        connection.close()


def as_bytes(value: Any) -> bytes:
    return json.dumps(value).encode()


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with Client(build_app(tmp_path, max_body=100_000)) as found:
        yield found


@contextmanager
def server(folder: Path, *, limit: Callable[[], None] | None = None) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A collector in a process of its own, on a free port."""
    code = (
        "import sys, pathlib, tracemill.app.collect as c; c.serve(pathlib.Path(sys.argv[1]), c.CollectConfig(port=0))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stderr=subprocess.PIPE, text=True, preexec_fn=limit
    )
    try:
        assert process.stderr is not None
        said = process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", said)
        assert found, said
        yield process, int(found.group(1))
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def post(port: int, body: bytes, kind: str = "application/json") -> tuple[int, dict[str, str]]:
    answer = ask(port, "POST", "/v1/traces", body, {"content-type": kind})
    return answer.status_code, answer.headers


def test_the_real_sdk_exports_and_its_spans_are_taken_in(tmp_path: Path) -> None:
    with server(tmp_path) as (process, port):
        for compression in (Compression.NoCompression, Compression.Gzip):
            exporter = OTLPSpanExporter(endpoint=f"http://127.0.0.1:{port}/v1/traces", compression=compression)
            provider = TracerProvider(resource=Resource.create({"service.name": "desk"}))
            provider.add_span_processor(SimpleSpanProcessor(exporter))
            tracer = provider.get_tracer("test")
            with tracer.start_as_current_span("invoke_agent triage") as agent:
                agent.set_attribute("gen_ai.operation.name", "invoke_agent")
                with tracer.start_as_current_span("chat m") as chat:
                    chat.set_attribute("gen_ai.operation.name", "chat")
                    said = [{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]
                    chat.set_attribute("gen_ai.input.messages", json.dumps(said))
                    chat.set_attribute("prompt_token_ids", [1, 2, 3])
            provider.shutdown()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) in (0, -signal.SIGTERM)
    spans = spans_in(tmp_path)
    assert sorted(span["kind"] for span in spans) == ["agent", "agent", "llm", "llm"]
    assert {span["service"] for span in spans} == {"desk"}
    calls = [span for span in spans if span["kind"] == "llm"]
    assert all(call["input_token_ids"] == [1, 2, 3] and len(call["input_ids"]) == 1 for call in calls)
    assert not list(tmp_path.glob("*.part"))


def test_after_kill_9_everything_that_got_a_200_is_taken_in(tmp_path: Path) -> None:
    with server(tmp_path) as (process, port):
        for number in range(1, 6):
            status, _ = post(port, json.dumps(request_json(f"{number:016x}")).encode())
            assert status == 200
        assert post(port, request_protobuf(2), PROTOBUF)[0] == 200
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert ingest.find([tmp_path]) == []  # unfinished files belong to the collector
    Landing(tmp_path, clock=lambda: 1)  # the next one to start here
    assert len({span["span_id"] for span in spans_in(tmp_path)}) == 5 + 2 - 2  # two ids are the same in both


def test_a_torn_tail_of_a_killed_writer_costs_only_itself(tmp_path: Path) -> None:
    whole = json.dumps(request_json()).encode() + b"\n"
    (tmp_path / "1-1-1.traces.jsonl.part").write_bytes(whole + whole[:50])
    framed = bytes([len(request_protobuf())]) + request_protobuf()
    (tmp_path / "1-1-2.traces.otlp.pb.part").write_bytes(framed + framed[:20])
    (tmp_path / "1-1-3.traces.jsonl.part").write_bytes(b"")
    Landing(tmp_path, clock=lambda: 1)
    (batch,) = ingest.batches(ingest.find([tmp_path]), key=KEY, now_ns=1)
    assert sorted(batch.tables["spans"]["span_id"].to_pylist()) == ["0000000000000001", "b7ad6b7169203331"]
    assert [(row["line"], row["offset_bytes"]) for row in batch.tables["quarantine"].to_pylist()] == [
        (2, len(whole)),
        (2, len(framed)),
    ]
    assert len(list(tmp_path.iterdir())) == 2  # the empty one is gone


def test_a_full_disk_is_a_503_with_retry_after_and_what_was_written_stays_whole(tmp_path: Path) -> None:
    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    with server(tmp_path, limit=small_disk) as (process, port):
        assert post(port, json.dumps(request_json()).encode())[0] == 200
        status, headers = post(port, json.dumps(request_json("1" * 16, name="x" * 4000)).encode())
        assert status == 503
        assert int(headers["retry-after"]) > 0
        assert ask(port, "GET", "/healthz", b"", {}).status_code == 503
        assert post(port, json.dumps(request_json("2" * 16)).encode())[0] == 200
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
    assert [span["span_id"] for span in spans_in(tmp_path)] == ["b7ad6b7169203331", "2" * 16]


def test_two_collectors_on_one_folder_leave_each_others_files_alone(tmp_path: Path) -> None:
    first = Landing(tmp_path, clock=lambda: 1)
    first.start()
    first.append("traces.jsonl", b"{}\n").result(timeout=60)
    Landing(tmp_path, clock=lambda: 2)
    assert len(list(tmp_path.glob("*.part"))) == 1
    first.close()
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"{}\n"]


def test_concurrent_requests_are_all_there(tmp_path: Path) -> None:
    with Client(build_app(tmp_path)) as client, ThreadPoolExecutor(8) as pool:
        answers = pool.map(
            lambda n: client.post("/v1/traces", as_bytes(request_json(f"{n:016x}"))).status_code, range(1, 65)
        )
        assert set(answers) == {200}
    assert len(spans_in(tmp_path)) == 64


def test_files_are_finished_when_they_are_large_or_old_enough(tmp_path: Path) -> None:
    now = [1_000_000_000]
    landing = Landing(tmp_path, clock=lambda: now[0], rotate_bytes=10, rotate_s=3600)
    landing.start()
    landing.append("traces.jsonl", b"0123456789\n").result(timeout=60)
    landing.append("traces.jsonl", b"1\n").result(timeout=60)
    now[0] += 3_601_000_000_000
    landing.append("traces.jsonl", b"2\n").result(timeout=60)
    landing.append("traces.jsonl", b"3\n").result(timeout=60)
    finished = sorted(path.read_bytes() for path in tmp_path.iterdir() if not path.name.endswith(".part"))
    assert finished == [b"0123456789\n", b"1\n2\n"]
    landing.close()
    assert len(list(tmp_path.glob("*.jsonl"))) == 3


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{not json", "application/json", 400),
        (b"[]", "application/json", 400),
        (b'{"resourceLogs": []}', "application/json", 400),
        (b'{"resourceSpans": ["x"]}', "application/json", 400),
        (b'{"resourceSpans": [{"a": "\xff"}]}', "application/json", 400),
        (b"\xff\xff\xff\xff", PROTOBUF, 400),
        (b"hello", "text/plain", 415),
        (b"x" * 200_000, "application/json", 413),
    ],
)
def test_what_is_no_otlp_is_refused_and_not_written(
    client: Client, tmp_path: Path, body: bytes, kind: str, status: int
) -> None:
    answer = client.post("/v1/traces", body, content_type=kind)
    assert answer.status_code == status
    assert list(tmp_path.iterdir()) == []


def test_logs_sent_to_the_traces_path_are_refused(client: Client) -> None:
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=5)
    record.body.string_value = "hello"
    body = request.SerializeToString()
    headers = {"content_type": PROTOBUF}
    assert client.post("/v1/traces", body, **headers).status_code == 400
    assert client.post("/v1/logs", body, **headers).status_code == 200


def test_a_gzip_bomb_is_too_large_and_a_torn_gzip_is_bad(client: Client) -> None:
    headers = {"content_encoding": "gzip"}
    bomb = gzip.compress(b" " * 50_000_000)
    assert client.post("/v1/traces", bomb, **headers).status_code == 413
    packed = gzip.compress(json.dumps(request_json()).encode())
    assert client.post("/v1/traces", packed[:-9], **headers).status_code == 400
    assert client.post("/v1/traces", packed, **headers).status_code == 200


def test_the_answer_has_the_content_type_of_the_request(client: Client) -> None:
    answer = client.post("/v1/traces", request_protobuf(), content_type=PROTOBUF)
    assert (answer.status_code, answer.headers["content-type"]) == (200, PROTOBUF)
    assert ExportTraceServiceResponse.FromString(answer.content) == ExportTraceServiceResponse()
    answer = client.post("/v1/traces", as_bytes(request_json()))
    assert (answer.headers["content-type"], answer.content) == ("application/json", b"{}")
    answer = client.post("/v1/traces", b"\xff", content_type=PROTOBUF)
    assert Status.FromString(answer.content).message.startswith("no OTLP traces")


def test_pretty_printed_json_becomes_one_line(tmp_path: Path) -> None:
    body = json.dumps(request_json(), indent=2).replace("\n", "\r\n").encode()
    with Client(build_app(tmp_path)) as client:
        assert client.post("/v1/traces", body, content_type="application/json; charset=utf-8").status_code == 200
    (path,) = tmp_path.iterdir()
    assert path.read_text().count("\n") == 1
    assert json.loads(path.read_text()) == request_json()


def test_nothing_in_a_request_is_a_200_and_no_file(client: Client, tmp_path: Path) -> None:
    assert client.post("/v1/traces", b"{}").status_code == 200
    assert client.post("/v1/traces", b"", content_type=PROTOBUF).status_code == 200
    assert client.post("/v1/metrics", b"{}").status_code == 404
    assert json.loads(client.get("/healthz").content) == {"status": "ok"}
    assert list(tmp_path.iterdir()) == []


def test_with_a_token_only_its_holder_gets_in(tmp_path: Path) -> None:
    with Client(build_app(tmp_path, token="s3cret")) as client:
        assert client.post("/v1/traces", as_bytes(request_json())).status_code == 401
        headers = {"authorization": "Bearer wrong"}
        assert client.post("/v1/traces", as_bytes(request_json()), **headers).status_code == 401
        headers = {"authorization": "Bearer s3cret"}
        assert client.post("/v1/traces", as_bytes(request_json()), **headers).status_code == 200


def test_what_is_too_much_at_once_is_a_429_with_retry_after(tmp_path: Path) -> None:
    with Client(build_app(tmp_path, max_waiting=1000)) as client:
        assert client.post("/v1/traces", as_bytes(request_json())).status_code == 200
        for kind, body in (
            ("application/json", as_bytes(request_json(name="x" * 1000))),
            (PROTOBUF, request_protobuf(99)),
        ):
            answer = client.post("/v1/traces", body, content_type=kind)
            assert answer.status_code == 429
            assert int(answer.headers["retry-after"]) > 0
            assert answer.headers["content-type"] == kind
        assert client.post("/v1/traces", as_bytes(request_json("2" * 16))).status_code == 200  # room was given back
    assert len(spans_in(tmp_path)) == 2


def test_a_file_that_somebody_took_away_is_noticed_before_the_next_answer(tmp_path: Path) -> None:
    landing = Landing(tmp_path / "in", clock=lambda: 1)
    landing.start()
    landing.append("traces.jsonl", b"1\n").result(timeout=60)
    (part,) = (tmp_path / "in").iterdir()
    part.unlink()
    (tmp_path / "in").rmdir()
    landing.append("traces.jsonl", b"2\n").result(timeout=60)
    landing.close()
    assert [path.read_bytes() for path in (tmp_path / "in").iterdir()] == [b"2\n"]


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=re.escape(os.fspath(tmp_path / "file"))):
        build_app(tmp_path / "file" / "landing")
