"""Other trace stores, each in a virtual environment of its own, loaded over OTLP on loopback: README.md.

`serving(peer, python, folder)` starts a server on a fresh folder, `load` gives it requests and
waits until every span is in its SQLite database.
"""

import http.client
import os
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness import tree_of

PEERS = ("phoenix", "mlflow")
_QUIET = {"DO_NOT_TRACK": "true", "OTEL_SDK_DISABLED": "true", "NO_COLOR": "1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One that answers."""

    peer: str
    pid: int
    port: int
    database: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """How far a load came. The first request is in none of the figures but `bytes`."""

    spans: int
    """Rows that the load added."""
    wall_s: float
    cpu_s: float
    """Of the server's processes."""
    bytes: int
    """Of the database with its write-ahead log."""
    bytes_per_span: float


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _command(peer: str, python: Path, folder: Path, port: int) -> tuple[list[str], dict[str, str], Path]:
    if peer == "phoenix":
        return (
            [str(python), "-m", "phoenix.server.main", "serve"],
            {
                "PHOENIX_WORKING_DIR": str(folder),
                "PHOENIX_HOST": "127.0.0.1",
                "PHOENIX_PORT": str(port),
                "PHOENIX_GRPC_PORT": str(_free_port()),
                "PHOENIX_TELEMETRY_ENABLED": "false",
                "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
                "PHOENIX_DISABLE_AGENT_ASSISTANT": "true",
            },
            folder / "phoenix.db",
        )
    database = folder / "mlflow.db"
    return (
        [
            *(str(python), "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{database}"),
            *("--default-artifact-root", str(folder / "artifacts"), "--host", "127.0.0.1", "--port", str(port)),
            *("--workers", "1"),  # a second one waits for the same SQLite file
        ],
        {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        database,
    )


@contextmanager
def serving(peer: str, python: Path, folder: Path, *, start_s: float = 180) -> Iterator[Server]:
    """A server of `peer` run by its environment's `python`, its SQLite database in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    command, settings, database = _command(peer, python, folder, port)
    path = os.pathsep.join((str(python.parent), os.environ.get("PATH", "")))  # mlflow starts uvicorn by name
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, env={**os.environ, **_QUIET, **settings, "PATH": path}, stdout=log, stderr=log, cwd=folder
        )
        try:
            until = time.monotonic() + start_s
            while not _answers(port):
                if process.poll() is not None or time.monotonic() > until:
                    said = (folder / "server.log").read_text(errors="replace")[-2000:]
                    raise SystemExit(f"{peer} did not start:\n{said}")
                time.sleep(0.2)
            yield Server(peer=peer, pid=process.pid, port=port, database=database)
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/healthz" if port else "/")
        return connection.getresponse().status < 500
    except OSError:
        return False
    finally:
        connection.close()


def spans_in(server: Server, *, count: bool = True) -> int:
    """Spans that a query finds: committed rows. Without `count` the highest row number, which costs nothing."""
    what = "count(*)" if count else "coalesce(max(rowid), 0)"
    con = sqlite3.connect(f"file:{server.database}?mode=ro", uri=True, timeout=60)
    try:
        return int(con.execute(f"SELECT {what} FROM spans").fetchone()[0])
    finally:
        con.close()


def load(server: Server, requests: Iterable[tuple[int, bytes]], *, limit_s: float) -> Loaded:
    """Sends requests (spans, OTLP protobuf) one after the other until `limit_s`, then waits until all are rows.

    The first one goes before the clock starts: with it a server opens its database, which took MLflow 20 seconds.
    """
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=600)
    waiting = iter(requests)
    before, body = next(waiting)
    _post(server, connection, body)
    _await(server, before, 60)
    cpu, began, sent = _cpu_s(server), time.perf_counter(), before
    for spans, body in waiting:
        _post(server, connection, body)
        sent += spans
        if time.perf_counter() - began > limit_s:
            break
    connection.close()
    _await(server, sent, max(120.0, 2 * limit_s))
    wall, cpu = time.perf_counter() - began, _cpu_s(server) - cpu
    rows, size = spans_in(server), database_bytes(server.database)
    return Loaded(spans=rows - before, wall_s=wall, cpu_s=cpu, bytes=size, bytes_per_span=size / rows)


def _cpu_s(server: Server) -> float:
    return sum(tree_of(server.pid).values())


def _await(server: Server, rows: int, limit_s: float) -> None:
    until = time.monotonic() + limit_s
    while spans_in(server, count=False) < rows and time.monotonic() < until:
        time.sleep(0.05)


def _post(server: Server, connection: http.client.HTTPConnection, body: bytes) -> None:
    while True:
        headers = {"content-type": "application/x-protobuf", "x-mlflow-experiment-id": "0"}
        connection.request("POST", "/v1/traces", body, headers)
        answer = connection.getresponse()
        said = answer.read()
        if answer.status not in (429, 503):
            break
        time.sleep(0.05)  # its queue is full
    if answer.status != 200:
        raise SystemExit(f"{server.peer} answered {answer.status}: {said[:500]!r}")


def database_bytes(database: Path) -> int:
    return sum(path.stat().st_size for path in database.parent.glob(f"{database.name}*"))


def found(names: Sequence[str] = PEERS) -> dict[str, Path]:
    """The Python of each peer that TRACEMILL_PEERS (a folder of environments) holds."""
    folder = os.environ.get("TRACEMILL_PEERS")
    pythons = {name: Path(folder) / name / "bin" / "python" for name in names} if folder else {}
    return {name: python for name, python in pythons.items() if python.exists()}
