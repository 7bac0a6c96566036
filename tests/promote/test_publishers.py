"""The contract of every publisher, what each does beyond it, and that several places move together."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest

from tracemill.client import live_prompt
from tracemill.errors import ConfigError, PublishError
from tracemill.promote import publishers
from tracemill.promote.bundle import Bundle
from tracemill.promote.publishers import PUBLISHERS, StagedPublisher, publish_all

MakeBundle = Callable[..., Bundle]


class ModelServer(ThreadingHTTPServer):
    """The part of vLLM's HTTP interface that loads adapters; refuses paths without weights, as vLLM does."""

    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _ModelHandler)
        self.adapters: dict[str, str] = {}
        self.failures: list[int] = []
        self.calls: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _ModelHandler(BaseHTTPRequestHandler):
    server: ModelServer

    def _answer(self, status: int, body: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def do_GET(self) -> None:
        self._answer(200, json.dumps({"data": [{"id": name} for name in ("base", *self.server.adapters)]}))

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.calls.append(self.path)
        if self.server.failures:
            self._answer(self.server.failures.pop(0), "not now")
            return
        body = json.loads(raw)
        if not list(Path(body["lora_path"]).glob("*.safetensors")):
            self._answer(404, f"no adapter at {body['lora_path']}")
            return
        self.server.adapters[body["lora_name"]] = body["lora_path"]
        self._answer(200, "Success")

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def model_server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(params=sorted(PUBLISHERS))
def publisher(request: pytest.FixtureRequest, tmp_path: Path, model_server: ModelServer) -> StagedPublisher:
    options: dict[str, dict[str, object]] = {
        "folder": {"root": tmp_path / "published"},
        "url": {"url": f"memory://{tmp_path.name}"},
        "endpoint": {"base_url": model_server.url, "state": tmp_path / "state", "backoff_s": 0.0},
    }
    return publishers.build(request.param, **options[request.param])


# --- the contract ---------------------------------------------------------------------------------------------------


def test_nothing_is_current_before_the_first_publication(publisher: StagedPublisher) -> None:
    assert publisher.current("production") is None


@pytest.mark.parametrize("adapter", [None, "triage-1"])
def test_publishing_moves_the_channel_and_no_other(
    publisher: StagedPublisher, make_bundle: MakeBundle, adapter: str | None
) -> None:
    built = make_bundle(adapter=adapter)
    uri = publisher.publish(built.path, built.bundle_id, "production")
    assert uri
    assert publisher.current("production") == built.bundle_id
    assert publisher.current("staging") is None
    assert publisher.publish(built.path, built.bundle_id, "production") == uri


def test_staging_moves_nothing_and_the_channel_goes_forth_and_back(
    publisher: StagedPublisher, make_bundle: MakeBundle
) -> None:
    first, second = make_bundle("One."), make_bundle("Two.")
    publisher.publish(first.path, first.bundle_id, "production")
    publisher.stage(second.path, second.bundle_id)
    assert publisher.current("production") == first.bundle_id
    publisher.move(second.bundle_id, "production")
    assert publisher.current("production") == second.bundle_id
    publisher.move(first.bundle_id, "production")
    assert publisher.current("production") == first.bundle_id


def test_a_tampered_bundle_is_refused_and_the_channel_stays(
    publisher: StagedPublisher, make_bundle: MakeBundle
) -> None:
    first, second = make_bundle("One."), make_bundle("Two.")
    publisher.publish(first.path, first.bundle_id, "production")
    (second.path / "prompt.json").write_text("{}")
    with pytest.raises(PublishError, match=r"prompt\.json was changed"):
        publisher.publish(second.path, second.bundle_id, "production")
    assert publisher.current("production") == first.bundle_id


def test_a_bundle_under_another_id_is_refused(publisher: StagedPublisher, make_bundle: MakeBundle) -> None:
    with pytest.raises(PublishError, match="is not"):
        publisher.publish(make_bundle().path, "f" * 32, "production")


def test_a_channel_is_not_moved_to_what_was_never_staged(publisher: StagedPublisher) -> None:
    with pytest.raises(PublishError):
        publisher.move("f" * 32, "production")
    assert publisher.current("production") is None


@pytest.mark.parametrize("channel", ["../production", "bundles", "", "a/b", ".hidden"])
def test_a_channel_name_cannot_leave_its_place(
    publisher: StagedPublisher, make_bundle: MakeBundle, channel: str
) -> None:
    built = make_bundle()
    with pytest.raises(ConfigError, match="cannot name a channel"):
        publisher.publish(built.path, built.bundle_id, channel)


# --- each one -------------------------------------------------------------------------------------------------------


def test_the_folder_is_what_agents_read(tmp_path: Path, make_bundle: MakeBundle) -> None:
    built = make_bundle("Route it.", adapter="triage-1")
    uri = publishers.build("folder", root=tmp_path / "published").publish(built.path, built.bundle_id, "production")
    live = live_prompt(uri)
    assert live.bundle_id == built.bundle_id
    assert live.model == "triage-1"
    assert live.messages(ticket="help")[0] == {"role": "system", "content": "Route it."}
    pointer = json.loads((tmp_path / "published/production/channel.json").read_text())
    assert (tmp_path / "published/production" / pointer["adapter"] / "adapter_model.safetensors").exists()
    assert not list((tmp_path / "published").rglob(".*"))


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path, make_bundle: MakeBundle) -> None:
    (tmp_path / "published").write_text("a file where the folder should be")
    built = make_bundle()
    with pytest.raises(PublishError, match="published"):
        publishers.build("folder", root=tmp_path / "published").publish(built.path, built.bundle_id, "production")


def test_an_object_store_holds_the_same_layout(tmp_path: Path, make_bundle: MakeBundle) -> None:
    built = make_bundle(adapter="triage-1")
    uri = publishers.build("url", url=f"memory://{tmp_path.name}/p/").publish(built.path, built.bundle_id, "production")
    assert uri == f"memory://{tmp_path.name}/p/production"
    fs = fsspec.filesystem("memory")
    for name in ("prompt.json", "adapter/adapter_model.safetensors", "manifest.json"):
        stored = fs.cat_file(f"/{tmp_path.name}/p/bundles/{built.bundle_id}/{name}")
        assert stored == (built.path / name).read_bytes()


def test_an_object_cut_short_on_the_way_is_found(tmp_path: Path, make_bundle: MakeBundle) -> None:
    built = make_bundle()
    place = publishers.build("url", url=f"memory://{tmp_path.name}")
    place.stage(built.path, built.bundle_id)
    fsspec.filesystem("memory").pipe_file(f"/{tmp_path.name}/bundles/{built.bundle_id}/prompt.json", b"{")
    with pytest.raises(PublishError, match=r"prompt\.json has 1 bytes there"):
        place.stage(built.path, built.bundle_id)


def test_a_local_url_and_an_unknown_scheme_are_refused() -> None:
    with pytest.raises(ConfigError, match="use the publisher 'folder'"):
        publishers.build("url", url="file:///tmp/x")
    with pytest.raises(ConfigError, match="nowhere://x"):
        publishers.build("url", url="nowhere://x")


def _endpoint(server: ModelServer, tmp_path: Path, **options: object) -> StagedPublisher:
    return publishers.build("endpoint", base_url=f"{server.url}/v1/", state=tmp_path / "s", backoff_s=0.0, **options)


def test_the_endpoint_loads_an_adapter_once_under_the_name_agents_ask_for(
    tmp_path: Path, model_server: ModelServer, make_bundle: MakeBundle
) -> None:
    built = make_bundle(adapter="triage-1")
    endpoint = _endpoint(model_server, tmp_path)
    endpoint.publish(built.path, built.bundle_id, "production")
    endpoint.publish(built.path, built.bundle_id, "production")
    assert model_server.adapters == {"triage-1": str(built.path / "adapter")}
    assert model_server.calls == ["/v1/load_lora_adapter"]
    model_server.adapters.clear()  # as after a restart of the server
    endpoint.stage(built.path, built.bundle_id)
    assert "triage-1" in model_server.adapters


def test_the_endpoint_is_not_asked_for_a_prompt(
    tmp_path: Path, model_server: ModelServer, make_bundle: MakeBundle
) -> None:
    built = make_bundle()
    _endpoint(model_server, tmp_path).publish(built.path, built.bundle_id, "production")
    assert model_server.calls == []


def test_the_endpoint_tries_again_what_may_pass(
    tmp_path: Path, model_server: ModelServer, make_bundle: MakeBundle
) -> None:
    built = make_bundle(adapter="triage-1")
    model_server.failures = [503, 500]
    _endpoint(model_server, tmp_path).publish(built.path, built.bundle_id, "production")
    assert len(model_server.calls) == 3
    assert "triage-1" in model_server.adapters


def test_a_refused_or_hopeless_load_is_a_publish_error(
    tmp_path: Path, model_server: ModelServer, make_bundle: MakeBundle
) -> None:
    built = make_bundle(adapter="triage-1")
    elsewhere = _endpoint(model_server, tmp_path, bundles_at="/not/there")
    with pytest.raises(PublishError, match=f"HTTP 404: no adapter at /not/there/{built.bundle_id}/adapter"):
        elsewhere.publish(built.path, built.bundle_id, "production")
    assert len(model_server.calls) == 1
    model_server.failures = [503] * 9
    endpoint = _endpoint(model_server, tmp_path, attempts=3)
    with pytest.raises(PublishError, match="failed 3 times, last: HTTP 503: not now"):
        endpoint.publish(built.path, built.bundle_id, "production")
    assert endpoint.current("production") is None


def test_a_dead_endpoint_is_a_publish_error(tmp_path: Path, make_bundle: MakeBundle) -> None:
    with ModelServer() as server:
        url = server.url
    built = make_bundle(adapter="triage-1")
    dead = publishers.build("endpoint", base_url=url, state=tmp_path / "s", attempts=2, backoff_s=0.0)
    with pytest.raises(PublishError, match="failed 2 times"):
        dead.publish(built.path, built.bundle_id, "production")


# --- together -------------------------------------------------------------------------------------------------------


def test_all_places_move_and_give_their_uris(
    tmp_path: Path, model_server: ModelServer, make_bundle: MakeBundle
) -> None:
    built = make_bundle(adapter="triage-1")
    places = [_endpoint(model_server, tmp_path), publishers.build("folder", root=tmp_path / "published")]
    uris = publish_all(places, built.path, built.bundle_id, "production")
    assert uris == [f"{model_server.url}/v1", str(tmp_path / "published/production")]
    assert [place.current("production") for place in places] == [built.bundle_id] * 2


def test_no_channel_moves_while_one_place_lacks_the_bundle(
    tmp_path: Path, model_server: ModelServer, make_bundle: MakeBundle
) -> None:
    first, second = make_bundle("One.", adapter="a1"), make_bundle("Two.", adapter="a2")
    places = [publishers.build("folder", root=tmp_path / "published"), _endpoint(model_server, tmp_path, attempts=1)]
    publish_all(places, first.path, first.bundle_id, "production")
    model_server.failures = [400]
    with pytest.raises(PublishError, match="HTTP 400"):
        publish_all(places, second.path, second.bundle_id, "production")
    assert [place.current("production") for place in places] == [first.bundle_id] * 2


def test_a_failing_move_takes_the_others_back(tmp_path: Path, make_bundle: MakeBundle) -> None:
    first, second = make_bundle("One."), make_bundle("Two.")
    places = [publishers.build("folder", root=tmp_path / name) for name in ("one", "two")]
    publish_all(places, first.path, first.bundle_id, "production")
    pointer = tmp_path / "two/production/channel.json"
    text = pointer.read_text()
    pointer.unlink()
    pointer.mkdir()  # nothing can be renamed over it
    (pointer / "x").touch()
    with pytest.raises(PublishError, match="cannot be read"):
        publish_all(places, second.path, second.bundle_id, "production")
    assert places[0].current("production") == first.bundle_id
    (pointer / "x").unlink()
    pointer.rmdir()
    pointer.write_text(text)

    class Jammed(publishers.Folder):
        def move(self, bundle_id: str, channel: str) -> str:
            raise PublishError("read-only file system")

    with pytest.raises(PublishError, match="read-only file system; no channel has moved"):
        publish_all([places[0], Jammed(root=tmp_path / "two")], second.path, second.bundle_id, "production")
    assert [place.current("production") for place in places] == [first.bundle_id] * 2
    with pytest.raises(PublishError, match="still at the new bundle: folder"):
        publish_all([places[0], Jammed(root=tmp_path / "two")], second.path, second.bundle_id, "staging")


def test_wrong_configuration_is_named() -> None:
    with pytest.raises(ConfigError, match="known: endpoint, folder, url"):
        publishers.build("ftp")
    with pytest.raises(ConfigError, match="rot"):
        publishers.build("folder", rot="x")
    with pytest.raises(ConfigError, match="no publisher"):
        publish_all([], Path(), "x", "production")
