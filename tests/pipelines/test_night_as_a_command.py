"""`tracemill nightly` as a process of its own: what it sends where, and what Ctrl-C leaves behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from toy_settings import SETTINGS

from tracemill import client
from tracemill.warehouse import Lake

pytestmark = pytest.mark.skipif(find_spec("prefect") is None, reason="prefect is not installed")

GUARD = """\
'''Notes every look-up and connection that would leave the machine, in every Python process of the run.'''
import os, socket, sys

NOTES = os.environ["GUARD_NOTES"]

def local(host):
    return host in (None, "", "localhost", "::1", b"localhost") or str(host).startswith("127.")

def note(what, host):
    with open(NOTES, "a") as notes:
        notes.write(f"{what} {host!r} by {sys.argv[:3]}\\n")

def audit(event, args):
    if event == "socket.getaddrinfo" and not local(args[0]):
        note("looked up", args[0])
    if event == "socket.connect" and isinstance(args[1], tuple) and not local(args[1][0]):
        note("connected to", args[1][0])

sys.addaudithook(audit)
"""


@pytest.fixture
def project(desk: Any, endpoint: Any, tmp_path: Path) -> Path:
    """The toy desk as a project with a settings file."""
    desk.lake.close()
    (tmp_path / "tracemill.toml").write_text(SETTINGS.format(url=endpoint.url))
    return tmp_path


def command(project: Path) -> list[str]:
    return [sys.executable, "-m", "tracemill", "nightly", "--json", "--project", str(project)]


def clean_environment() -> dict[str, str]:
    """As a user has it: none of what the tests set to keep Prefect quiet."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "DO_NOT"))}


@pytest.fixture
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """That of a user, with a guard in every Python process: nothing may leave the machine, however the test goes."""
    guard = tmp_path_factory.mktemp("guard")
    (guard / "sitecustomize.py").write_text(GUARD)
    notes = guard / "notes.txt"
    guarded = {**clean_environment(), "PYTHONPATH": str(guard), "GUARD_NOTES": str(notes)}
    probe = "import socket\ntry: socket.getaddrinfo('example.invalid', 80)\nexcept OSError: pass"
    subprocess.run([sys.executable, "-c", probe], env=guarded, check=True)
    assert "example.invalid" in notes.read_text(), "the guard itself does not work"
    notes.unlink()
    yield guarded
    assert not notes.exists(), notes.read_text()


def interrupt_at(project: Path, mark: str, environment: dict[str, str]) -> tuple[int, str]:
    """Runs a night and presses Ctrl-C when it says `mark`; its exit code and what it said."""
    process = subprocess.Popen(
        command(project),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    said: list[str] = []
    assert process.stderr is not None
    try:
        for line in process.stderr:
            said.append(line)
            if line.startswith(mark):
                os.killpg(process.pid, signal.SIGINT)  # a terminal interrupts the whole group
                break
        process.wait(60)
        said.append(process.stderr.read())
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stderr.close()
        if process.stdout is not None:
            process.stdout.close()
    return process.returncode, "".join(said)


def left_over(group_leader_of: Path) -> list[str]:
    """Processes of the night that still run."""
    mark = str(group_leader_of)
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if mark.encode() in words:
                found.append(words[:200].decode(errors="replace"))
    return found


def nobody_left(project: Path) -> None:
    deadline = time.monotonic() + 20
    while left_over(project) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left_over(project)


@pytest.mark.parametrize(
    "mark",
    [
        "optimize: model calls",
        *(
            pytest.param(stage, marks=pytest.mark.slow)
            for stage in ("ingest: ", "score: ", "mine: ", "optimize: production", "gate: ")
        ),
    ],
)
def test_ctrl_c_loses_nothing_the_next_run_goes_on_and_nothing_leaves_the_machine(
    project: Path, endpoint: Any, environment: dict[str, str], mark: str
) -> None:
    code, said = interrupt_at(project, mark, environment)
    assert code == 130, said
    assert "Interrupted" in said
    assert "Traceback" not in said
    nobody_left(project)

    asked = len(endpoint.asked)
    done = subprocess.run(command(project), env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["decisions"][0]["verdict"] == "PROMOTE"
    with Lake.open(project / ".tracemill" / "lake") as lake, lake.reader() as con:
        assert con.execute("SELECT count(*) FROM trajectories").fetchone() == (100,)
        (kept,) = con.execute("SELECT count(*) FROM replays").fetchone() or (0,)
    if mark.startswith("optimize"):
        assert asked > 0
    # What was answered before the interruption was kept, but for the chunk that was under way.
    assert len(endpoint.asked) <= kept + 32


@pytest.mark.slow
@pytest.mark.parametrize("mark", ["train: loading", "train: sft steps"])
def test_ctrl_c_while_weights_are_trained_loses_nothing(
    project: Path, tiny: Path, environment: dict[str, str], mark: str
) -> None:
    with (project / "tracemill.toml").open("a") as settings:
        settings.write(
            f'[train]\nbase_model = "{tiny}"\n[train.options.sft]\nsteps = 6\nbatch_size = 4\nsave_every = 2\n'
        )
    code, said = interrupt_at(project, mark, environment)
    assert code == 130, said
    assert "Traceback" not in said
    nobody_left(project)
    done = subprocess.run(command(project), env=environment, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {one["branch"] for one in report["candidates"]} == {"production", "prompt", "weights"}
    assert len(report["decisions"]) == 2
    assert report["decisions"][0]["verdict"] == "PROMOTE"


@pytest.mark.slow
def test_ctrl_c_while_a_bundle_is_published_leaves_a_channel_that_says_what_it_serves(
    project: Path, environment: dict[str, str]
) -> None:
    code, said = interrupt_at(project, "publish: ", environment)
    assert code == 130, said
    assert "Traceback" not in said
    nobody_left(project)
    done = subprocess.run(command(project), env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    with Lake.open(project / ".tracemill" / "lake") as lake, lake.reader() as con:
        standing, verdict = con.execute(
            "SELECT bundle_id, verdict FROM releases r JOIN verdicts USING (verdict_id) ORDER BY r.at DESC LIMIT 1"
        ).fetchone() or (None, None)
    live = client.live_prompt(project / "published" / "production")
    assert (live.bundle_id, verdict) == (standing, "PROMOTE")


def test_what_stops_a_night_is_told_in_one_line(project: Path, environment: dict[str, str]) -> None:
    from filelock import FileLock

    with FileLock(project / ".tracemill" / "nightly.lock"):
        done = subprocess.run(
            command(project), env=environment, capture_output=True, text=True, timeout=240, check=False
        )
    assert done.returncode == 2
    assert done.stderr == f"Error: another nightly run of {project} is going; wait for it to end\n"
