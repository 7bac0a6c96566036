"""`tracemill schedule` as a process of its own: it comes due, it stops when it is told to, nothing stays behind."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tracemill.app.cli import app
from tracemill.warehouse import Lake

pytestmark = pytest.mark.skipif(find_spec("prefect") is None, reason="prefect is not installed")

LOG = [
    {"session_id": f"s{number}", "messages": [{"role": "user", "content": f"{number}?"}], "reward": 1}
    for number in range(3)
]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    assert CliRunner().invoke(app, ["init", "--project", str(folder)]).exit_code == 0
    return folder


def environment() -> dict[str, str]:
    """As a user has it: none of what the tests set to keep Prefect quiet."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "DO_NOT"))}


def processes(folder: Path) -> dict[int, str]:
    """What runs for this project, by process id."""
    mark, found = str(folder).encode(), {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes()
                if mark in words + (entry / "environ").read_bytes():
                    found[int(entry.name)] = words.replace(b"\0", b" ").decode(errors="replace")
    return found


def wait_for(condition: Any, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
    return True


@contextmanager
def scheduled(project: Path, cron: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """The command, once it serves, and the JSON object that it announces itself with."""
    command = [sys.executable, "-m", "tracemill", "schedule", "--cron", cron, "--json", "--project", str(project)]
    process = subprocess.Popen(
        command,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    watchdog = threading.Timer(200, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        yield process, json.loads(line)
    finally:
        watchdog.cancel()
        if process.poll() is None:
            process.kill()
        process.communicate()


def post(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_registers_and_stops_within_seconds_and_leaves_no_process(project: Path, how: signal.Signals) -> None:
    with scheduled(project, "0 2 * * *") as (process, told):
        assert told["project"] == str(project)
        (deployment,) = post(f"{told['api']}/deployments/filter", {})
        assert deployment["parameters"] == {"project_folder": str(project)}
        assert [one["schedule"]["cron"] for one in deployment["schedules"]] == ["0 2 * * *"]
        assert not deployment["paused"]
        # The scheduler is at work: Prefect's temporary server has none, and a schedule on it never comes due.
        assert wait_for(lambda: post(f"{told['api']}/flow_runs/filter", {}), 60)

        os.killpg(process.pid, how)  # a terminal interrupts the whole group
        said = process.communicate(timeout=90)[1]
        assert process.returncode == 0, said
        assert "Traceback" not in said
        assert "Warning" not in said
        assert "Stopped" in said
        assert wait_for(lambda: not processes(project), 10), processes(project)


@pytest.mark.slow
def test_a_killed_command_takes_its_orchestrator_along(project: Path) -> None:
    with scheduled(project, "0 2 * * *") as (process, _):
        assert any("orchestrator" in words for words in processes(project).values())
        process.kill()
        process.communicate(timeout=20)
        assert wait_for(lambda: not processes(project), 20), processes(project)


@pytest.mark.slow
def test_a_night_runs_when_it_comes_due(project: Path) -> None:
    """Every minute: within two, what lies in the source is in the lake, and the night is in `runs`."""
    (project / "chat.jsonl").write_text("".join(json.dumps(row) + "\n" for row in LOG))
    (project / "tracemill.toml").write_text('[[sources]]\npath = "chat.jsonl"\n')

    def nights() -> list[tuple[Any, ...]]:
        with Lake.open(project / ".tracemill" / "lake") as lake, lake.reader() as con:
            return con.execute("SELECT stage, status, detail FROM runs WHERE stage = 'mine'").fetchall()

    with scheduled(project, "* * * * *") as (process, _):
        assert wait_for(nights, 120), "no night came due"
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=90)
    assert nights()[0][1] == "ok"
    with Lake.open(project / ".tracemill" / "lake") as lake, lake.reader() as con:
        assert con.execute("SELECT count(*) FROM trajectories").fetchone() == (3,)
    assert wait_for(lambda: not processes(project), 10), processes(project)
