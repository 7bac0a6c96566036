"""Logs behind URLs, from real servers: S3 (moto's) and HTTP. What the ledger knows is not fetched again."""

import gzip
import json
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest
from typer.testing import CliRunner
from werkzeug.serving import WSGIRequestHandler, make_server

from tracemill import ingest
from tracemill.app import settings
from tracemill.app.cli import app
from tracemill.errors import SourceError
from tracemill.pipelines import ingesting
from tracemill.pipelines.night import Night
from tracemill.warehouse import Lake

NOW = 4_000_000_000_000_000_000
"""Long after the files of a test were written."""


def call(said: str) -> bytes:
    asked = [{"role": "user", "content": said}, {"role": "assistant", "content": "hello"}]
    return json.dumps({"messages": asked}).encode() + b"\n"


@dataclass
class Store:
    """A server of S3 with one bucket, `logs`, and what was asked of it."""

    url: str
    asked: list[tuple[str, str]] = field(default_factory=list)

    @property
    def options(self) -> dict[str, Any]:
        return {"endpoint_url": self.url, "key": "test", "secret": "test"}

    def put(self, key: str, data: bytes) -> None:
        fsspec.filesystem("s3", **self.options).pipe(f"logs/{key}", data)

    def remove(self, key: str) -> None:
        fsspec.filesystem("s3", **self.options).rm(f"logs/{key}")

    def fetched(self) -> list[str]:
        """The objects that were asked for since the last time, looks at their headers included; forgets them."""
        found = [f"{method} {path}" for method, path in self.asked if ".jsonl" in path]
        self.asked.clear()
        return found


@pytest.fixture(scope="module")
def s3() -> Iterator[Store]:
    from moto.server import DomainDispatcherApplication, create_backend_app

    moto = DomainDispatcherApplication(create_backend_app)

    def counted(environ: Any, start_response: Any) -> Any:
        store.asked.append((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
        return moto(environ, start_response)

    class Quiet(WSGIRequestHandler):
        def log(self, type: str, message: str, *args: Any) -> None:
            pass

    server = make_server("127.0.0.1", 0, counted, threaded=True, request_handler=Quiet)
    store = Store(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        fsspec.filesystem("s3", **store.options).mkdir("logs")
        yield store
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def bucket(s3: Store) -> Store:
    fs = fsspec.filesystem("s3", **s3.options)
    fs.invalidate_cache()
    if left := fs.find("logs"):
        fs.rm(left)
    s3.asked.clear()
    return s3


@contextmanager
def project(folder: Path, toml: str = "", now: int = NOW) -> Iterator[Night]:
    folder.mkdir(exist_ok=True)
    (folder / "tracemill.toml").write_text(toml)
    config = settings.load(folder)
    with Lake.open(config.lake_path) if config.lake_path.exists() else Lake.create(config.lake_path) as lake:
        yield Night(night_id="n", config=config, lake=lake, clock=lambda: now)


def said(night: Night) -> list[str]:
    texts = night.select("SELECT input_text FROM llm_calls").column(0).to_pylist()
    return sorted(text.removeprefix("user: ") for text in texts)


def test_a_second_run_over_s3_downloads_nothing_and_a_changed_object_gives_what_is_new(
    bucket: Store, tmp_path: Path
) -> None:
    bucket.put("2026/a.jsonl", call("one"))
    bucket.put("2026/deep/b.jsonl.gz", gzip.compress(call("two")))
    bucket.put("2026/.hidden", b"no log")
    with project(tmp_path) as night:
        take = partial(ingesting.take_in, night, ["s3://logs/2026"], options=bucket.options)
        bucket.asked.clear()
        first = take()
        assert (first.files, first.spans // 2, first.quarantined) == (2, 2, 0)
        assert {line.split()[1] for line in bucket.fetched()} == {"/logs/2026/a.jsonl", "/logs/2026/deep/b.jsonl.gz"}
        assert (take().files, bucket.fetched()) == (0, [])

        bucket.put("2026/a.jsonl", call("one") + call("three"))  # grown: taken in anew, and only what is new counts
        bucket.put("2026/c.jsonl", call("four"))
        bucket.asked.clear()
        grown = take()
        assert (grown.files, grown.spans // 2, grown.duplicates // 2) == (2, 2, 1)
        assert {line.split()[1] for line in bucket.fetched()} == {"/logs/2026/a.jsonl", "/logs/2026/c.jsonl"}
        assert (take().files, bucket.fetched()) == (0, [])
        assert said(night) == ["four", "one", "three", "two"]


def test_a_glob_on_s3_takes_what_it_matches(bucket: Store) -> None:
    for key in ("day=1/a.jsonl", "day=1/b.txt", "day=2/a.jsonl", "other/a.jsonl"):
        bucket.put(key, call(key))
    found = ingest.find(["s3://logs/day=*/*.jsonl"], options=bucket.options)
    assert [one.uri for one in found] == ["s3://logs/day=1/a.jsonl", "s3://logs/day=2/a.jsonl"]
    assert [one.uri for one in ingest.find(["s3://logs/day=1/b.txt"], options=bucket.options)] == [
        "s3://logs/day=1/b.txt"
    ]
    with pytest.raises(SourceError, match="no object matches"):
        ingest.find(["s3://logs/day=*/*.parquet"], options=bucket.options)


def test_an_object_uploaded_again_unchanged_is_read_once_more_and_then_known(bucket: Store, tmp_path: Path) -> None:
    """A multipart upload has another etag than a plain one of the same bytes."""
    data = call("one")
    bucket.put("a.jsonl", data)
    with project(tmp_path) as night:
        take = partial(ingesting.take_in, night, ["s3://logs/"], options=bucket.options)
        take()
        to = {"Bucket": "logs", "Key": "a.jsonl"}
        s3 = fsspec.filesystem("s3", **bucket.options)
        upload = s3.call_s3("create_multipart_upload", **to)["UploadId"]
        part = s3.call_s3("upload_part", **to, UploadId=upload, PartNumber=1, Body=data)
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        s3.call_s3("complete_multipart_upload", **to, UploadId=upload, MultipartUpload=parts)
        bucket.asked.clear()
        assert take().files == 0
        assert bucket.fetched() != []
        assert (take().files, bucket.fetched()) == (0, [])


def test_an_object_that_vanishes_after_the_listing_is_refused_and_the_others_land(bucket: Store) -> None:
    bucket.put("a.jsonl", call("one"))
    bucket.put("b.jsonl", call("two"))
    objects = ingest.find(["s3://logs"], options=bucket.options)
    bucket.remove("a.jsonl")
    (batch,) = ingest.batches(objects, key=b"k", now_ns=NOW)
    (refused,) = batch.tables["quarantine"].to_pylist()
    assert (refused["source_uri"], refused["content_hash"]) == ("s3://logs/a.jsonl", None)
    assert batch.tables["ingest_log"]["source_uri"].to_pylist() == ["s3://logs/b.jsonl"]


def test_configured_s3_sources_through_ingest_and_doctor(
    bucket: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    bucket.put("agents/a.jsonl", call("one"))
    options = f'options = {{ endpoint_url = "{bucket.url}" }}'
    missing = f'[[sources]]\npath = "s3://nowhere/x"\n{options}\n'
    not_yet = f'[[sources]]\npath = "s3://logs/tomorrow/"\n{options}\n'
    (tmp_path / "tracemill.toml").write_text(
        f'{missing}{not_yet}[[sources]]\npath = "s3://logs/agents/*.jsonl"\n{options}\n'
    )

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(app, [*arguments, "--json", "--project", str(tmp_path)])

    bucket.asked.clear()
    plan = run("ingest", "--dry-run")
    would = [one["uri"] for one in json.loads(plan.stdout)["would_read"]]
    assert would == ["s3://nowhere/x", "s3://logs/agents/a.jsonl"]
    assert bucket.fetched() == [] or all(line.startswith("HEAD") for line in bucket.fetched())
    first = json.loads(run("ingest").stdout)
    assert (first["files"], first["spans"], first["quarantined"]) == (1, 2, 1)
    bucket.asked.clear()
    assert json.loads(run("ingest").stdout)["files"] == 0
    assert [line for line in bucket.fetched() if line.startswith("GET") and line.endswith("a.jsonl")] == []
    refused = run("sql", "SELECT source_uri, reason FROM quarantine", "--format", "json")
    assert "there is no such bucket" in refused.stdout

    checks = [one for one in json.loads(run("doctor").stdout)["checks"] if one["name"] == "source"]
    assert [one["health"] for one in checks] == ["fail", "warn", "ok"]
    assert "no such bucket" in checks[0]["detail"]


@pytest.mark.parametrize(
    ("source", "options", "reason"),
    [
        ("s3://nowhere/x", {}, "no such bucket"),
        ("s3://logs/none", {}, "no such object"),
        ("s3://logs/x", {"wrong_option": 1}, "options"),
    ],
)
def test_what_is_wrong_with_a_store_is_one_line(
    bucket: Store, source: str, options: dict[str, Any], reason: str
) -> None:
    from tracemill.errors import TracemillError

    with pytest.raises(TracemillError, match=reason) as found:
        ingest.find([source], options=bucket.options | options)
    assert "\n" not in str(found.value)


def test_missing_credentials_and_dead_stores_are_one_line(bucket: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.get_filesystem_class("s3").clear_instance_cache()  # those of other tests have found some
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nonexistent")
    with pytest.raises(SourceError, match=r"no credentials .* anon = true"):
        ingest.find(["s3://logs/x"], options={"endpoint_url": bucket.url})
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    dead = bucket.options | {
        "endpoint_url": f"http://127.0.0.1:{port}",
        "config_kwargs": {"retries": {"total_max_attempts": 1}},
    }
    with pytest.raises(SourceError, match=r"(?i)could not connect"):
        ingest.find(["s3://logs/x"], options=dead)
    (standing,) = ingest.find(["s3://logs/x"], options=dead, standing=True)
    assert "connect" in str(standing.unreadable)


def test_a_protocol_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "adlfs", None)
    with pytest.raises(SourceError, match=r"pip install 'tracemill\[azure\]'"):
        ingest.find(["abfs://logs/x"], options={"account_name": "a"})
    with pytest.raises(SourceError, match="nosuch"):
        ingest.find(["nosuch://logs/x"])


@dataclass
class Web:
    url: str
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    served = tmp_path / "served"
    served.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            found.asked.append(f"GET {self.path}")
            if self.path.startswith("/secret"):
                self.send_error(403)
                return
            if self.path.endswith("torn.jsonl"):  # says more than it gives
                self.send_response(200)
                self.send_header("content-length", "1000")
                self.end_headers()
                self.wfile.write(call("torn"))
                self.close_connection = True
                return
            super().do_GET()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(served)))
    found = Web(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_web_folder_is_taken_in_once(web: Web, tmp_path: Path) -> None:
    served = tmp_path / "served"
    (served / "deep").mkdir()
    (served / "a.jsonl").write_bytes(call("one"))
    (served / "deep" / "b.jsonl.gz").write_bytes(gzip.compress(call("two")))
    with project(tmp_path / "p") as night:
        take = partial(ingesting.take_in, night, [f"{web.url}/"])
        assert take().files == 2
        assert said(night) == ["one", "two"]
        web.asked.clear()
        assert take().files == 0
        assert [line for line in web.asked if "jsonl" in line] == []
        (served / "a.jsonl").write_bytes(call("one") + call("three"))
        assert take().files == 1
        assert said(night) == ["one", "three", "two"]
        # What signs an address is another each day, the object is not.
        web.asked.clear()
        assert ingesting.take_in(night, [f"{web.url}/a.jsonl?X-Amz-Signature=abc"]).files == 0
        assert web.asked == []


def test_a_web_page_that_is_not_there_and_a_torn_download(web: Web, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        ingest.find([f"{web.url}/gone.jsonl"])
    with pytest.raises(SourceError, match=r"answered 403 Forbidden$"):
        ingest.find([f"{web.url}/secret.jsonl?sig=abcdef"])
    (tmp_path / "served" / "torn.jsonl").write_bytes(b"")
    (batch,) = ingest.batches(ingest.find([f"{web.url}/torn.jsonl"]), key=b"k", now_ns=NOW)
    assert batch.tables["spans"].num_rows == 0  # all of it or nothing
    assert batch.tables["ingest_log"].num_rows == 0
    (refused,) = batch.tables["quarantine"].to_pylist()
    assert "\n" not in refused["reason"]


@pytest.mark.parametrize("path", ["run.jsonl", "logs/"])
def test_a_web_server_that_does_not_answer_is_not_taken_for_one_that_has_nothing(path: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(SourceError, match="Connect call failed"):
        ingest.find([f"http://127.0.0.1:{port}/{path}"])
