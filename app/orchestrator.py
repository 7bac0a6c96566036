"""A Prefect server of the project's own, with its scheduler, for as long as `tracemill schedule` runs.

Prefect's temporary server, which a flow starts where none is configured, runs no scheduler: a schedule on it would
never come due. Run as a module this is that server's process; `running` starts and stops it.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tracemill.app.processes import until_answers


@contextmanager
def running(log: Path, *, timeout_s: float = 120.0) -> Iterator[str]:
    """The server's API address, on loopback; it answers when the block begins and is gone when it ends.

    It has no share in a terminal's Ctrl-C, and ends with this process whatever ends that. Raises EndpointError where
    it does not come up.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    # The listening socket is made here and handed on: no other process can take the port in between.
    with socket.create_server(("127.0.0.1", 0)) as listener, log.open("wb") as output:
        api = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
        process = subprocess.Popen(
            [sys.executable, "-m", "tracemill.app.orchestrator", str(listener.fileno())],
            pass_fds=[listener.fileno()],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PREFECT_API_URL": api, "PREFECT_SERVER_UI_ENABLED": "false"},
            start_new_session=True,
        )
    try:
        until_answers(process, f"{api}/health", log=log, patience_s=timeout_s)
        yield api
    finally:
        process.terminate()
        try:
            process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _end_with_stdin() -> None:
    """Ends this process once nobody holds the other end of its stdin: with whoever started it."""
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)  # its database survives that, and a graceful end may hang on open requests


def main() -> None:
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    import uvicorn
    from prefect.server.api.server import create_app

    config = uvicorn.Config(create_app(), log_level="warning", lifespan="on", timeout_graceful_shutdown=2)
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(sys.argv[1]))])


if __name__ == "__main__":
    main()
