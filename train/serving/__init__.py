"""A server for small models: OpenAI-compatible, batched, with adapters that come and go. Not a rival of vLLM.

    with serving.start("smollm2", cache=cache, log=log, on_progress=print) as endpoint:
        client = OpenAI(base_url=endpoint.base_url, api_key="none")

It gives what learning from logs needs (token ids, log-probabilities, seeded sampling) on a machine without a GPU.
"""

import importlib.util
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from tracemill.errors import ConfigError, EndpointError, MissingExtraError


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A running server: what an OpenAI client needs to know, and its process."""

    base_url: str
    """With /v1."""
    model: str
    """The base model's name in requests; adapters are asked for by theirs."""
    pid: int

    def load_adapter(self, name: str, path: Path) -> None:
        """Serves a LoRA folder under `name` from the next request on. Raises ConfigError where it does not fit."""
        load_adapter(self.base_url, name, path)

    def unload_adapter(self, name: str) -> None:
        """Stops serving an adapter. Raises ConfigError where none has that name."""
        _post(self.base_url, "unload_lora_adapter", {"lora_name": name})


def load_adapter(base_url: str, name: str, path: Path, *, api_key: str | None = None) -> None:
    """Serves a LoRA folder under `name` on any server that speaks vLLM's `/v1/load_lora_adapter`.

    Raises ConfigError where the adapter does not fit, EndpointError where the server does not answer.
    """
    _post(base_url.rstrip("/"), "load_lora_adapter", {"lora_name": name, "lora_path": str(path)}, api_key=api_key)


def _post(base_url: str, call: str, body: Mapping[str, str], *, api_key: str | None = None) -> None:
    url = f"{base_url}/{call}"
    headers = {"content-type": "application/json"}
    if api_key is not None:
        headers["authorization"] = f"Bearer {api_key}"
    request = urllib.request.Request(url, data=json.dumps(body).encode(), headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=300):
            pass
    except urllib.error.HTTPError as error:
        with error:
            message = _told(error.read())
        raise (ConfigError(message) if error.code < 500 else EndpointError(url, message)) from None
    except OSError as error:
        raise EndpointError(url, str(error)) from error


def _told(body: bytes) -> str:
    """The message of an OpenAI-style error, else the body as it is."""
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode("utf-8", "replace")[:300]


@contextmanager
def start(
    model: str,
    *,
    cache: Path,
    log: Path,
    adapters: Mapping[str, Path] | None = None,
    threads: int | None = None,
    dtype: Literal["float32", "bfloat16"] = "float32",
    port: int = 0,
    timeout_s: float = 600.0,
    on_progress: Callable[[str], None] | None = None,
) -> Iterator[Endpoint]:
    """Runs a server process for the length of the block; it is answering when the block begins.

    `on_progress` is told what the server is doing, at most once a second. The server's own output goes to `log`.
    Raises ConfigError where the model or an adapter is wrong, EndpointError where the server does not come up.
    """
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("transformers") is None:
        raise MissingExtraError("train", "serving a model on this machine")
    with TemporaryDirectory(prefix="tracemill-serving-") as scratch:
        port_file = Path(scratch) / "port.json"
        command = [sys.executable, "-m", "tracemill.train.serving", "--model", model, "--cache", str(cache)]
        command += ["--port", str(port), "--port-file", str(port_file), "--dtype", dtype, "--with-parent"]
        command += [] if threads is None else ["--threads", str(threads)]
        for name, path in (adapters or {}).items():
            command += ["--adapter", f"{name}={path}"]
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.PIPE)
        try:
            _await(process, port_file, log, timeout_s, on_progress)
            at = json.loads(port_file.read_text())["port"]
            yield Endpoint(base_url=f"http://127.0.0.1:{at}/v1", model=_served_name(at), pid=process.pid)
        finally:
            process.terminate()
            try:
                process.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


def _await(
    process: "subprocess.Popen[bytes]",
    port_file: Path,
    log: Path,
    timeout_s: float,
    on_progress: Callable[[str], None] | None,
) -> None:
    """Returns when the server has written its port file."""
    began = time.perf_counter()
    told = 0.0
    while not port_file.exists():
        waited = time.perf_counter() - began
        lines = log.read_text(errors="replace").strip().splitlines()
        if process.poll() is not None:
            said = [line for line in lines if line.startswith("Error: ")]
            if said:
                raise ConfigError(said[-1].removeprefix("Error: "))
            raise EndpointError(f"process {process.pid}", f"ended with {process.returncode}; see {log}")
        if waited > timeout_s:
            raise EndpointError(f"process {process.pid}", f"not up after {timeout_s:.0f} s; see {log}")
        if on_progress is not None and waited - told >= 1:
            told = waited
            on_progress(f"{lines[-1] if lines else 'starting the model server'} ({waited:.0f} s)")
        time.sleep(0.1)


def _served_name(port: int) -> str:
    url = f"http://127.0.0.1:{port}/v1/models"
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return str(json.loads(answer.read())["data"][0]["id"])
    except OSError as error:
        raise EndpointError(url, str(error)) from error
