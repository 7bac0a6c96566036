"""PostgreSQL and a server of S3 on loopback, for lakes that several machines share."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tracemill.errors import StoreError
from tracemill.warehouse import engine


def _binaries() -> Path | None:
    """Where PostgreSQL's programs lie: on the path, or where Debian keeps them."""
    found = [Path(one).parent for one in [shutil.which("initdb")] if one]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((one for one in found if (one / "initdb").exists() and (one / "pg_ctl").exists()), None)


def _user() -> str | None:
    """PostgreSQL does not run as root."""
    if os.getuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    pytest.skip("PostgreSQL does not run as root, and there is no other user")


@dataclass(frozen=True)
class Postgres:
    """A running server; everybody on this machine may connect."""

    port: int

    def catalog(self, database: str) -> str:
        return f"postgres:host=127.0.0.1 port={self.port} user=tracemill dbname={database}"

    def run(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        with duckdb.connect(config={"allow_unsigned_extensions": True}) as con:
            con.execute(f"LOAD '{engine.extension_path('postgres_scanner')}'")
            con.execute(f"ATTACH '{self.catalog(database).removeprefix('postgres:')}' AS pg (TYPE postgres)")
            if statement.upper().startswith("SELECT"):
                return con.execute("FROM postgres_query('pg', ?)", [statement]).fetchall()
            con.execute("CALL postgres_execute('pg', ?, use_transaction := false)", [statement])
            return []

    def create(self, database: str, template: str = "template1") -> str:
        """A new database, as a copy of another; what a catalog is named by."""
        self.run(f"CREATE DATABASE {database} TEMPLATE {template}")
        return self.catalog(database)


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Skips the test where PostgreSQL, or DuckDB's extension for it, is not installed."""
    binaries = _binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    try:
        engine.extension_path("postgres_scanner")
    except StoreError as error:
        pytest.skip(str(error))
    user = _user()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="tmpg", dir="/tmp") as folder:
        if user is not None:
            shutil.chown(folder, user)
        data = Path(folder) / "data"

        def run(*command: str) -> None:
            subprocess.run(command, check=True, user=user, cwd="/", stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)

        run(str(binaries / "initdb"), "-D", str(data), "-A", "trust", "-U", "tracemill", "--no-sync")
        options = f"-c listen_addresses=127.0.0.1 -p {port} -c unix_socket_directories= -c fsync=off"
        control = (str(binaries / "pg_ctl"), "-D", str(data), "-w", "-l", f"{folder}/log")
        run(*control, "-o", options, "start")
        try:
            yield Postgres(port)
        finally:
            run(*control, "-m", "immediate", "stop")


@contextmanager
def s3_server() -> Iterator[str]:
    """The address of an S3 server (moto's) in this process."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log(self, type: str, message: str, *args: Any) -> None:
            pass

    server = make_server(
        "127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True, request_handler=Quiet
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
