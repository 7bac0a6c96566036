"""A log that may not be read, through the command line: it is refused alone, and nothing is lost to it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

DROP = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: what lets root read everything
    if libc.prctl(24, capability, 0, 0, 0):  # PR_CAPBSET_DROP
        sys.exit(99)
os.execv(sys.argv[1], sys.argv[1:])
"""


def bound(*command: str) -> "subprocess.CompletedProcess[str]":
    """Runs a command as somebody whom file permissions bind: root gives up its right to pass them over."""
    drop = [sys.executable, "-c", DROP] if os.geteuid() == 0 else []
    return subprocess.run([*drop, *command], capture_output=True, text=True, timeout=120, check=False)


def tracemill(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return bound(sys.executable, "-m", "tracemill", *arguments, "--project", str(folder))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    locked = tmp_path / "locked"
    locked.touch(mode=0)
    probe = bound(sys.executable, "-c", f"open({str(locked)!r})")
    if probe.returncode == 99 or "PermissionError" not in probe.stderr:
        pytest.skip("whoever runs this reads every file, and may not give that up")
    made = tmp_path / "project"
    started = tracemill(made, "init")
    assert started.returncode == 0, started.stderr
    return made


def log(path: Path, trace: int) -> Path:
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
        "gen_ai.input.messages": json.dumps([{"role": "user", "parts": [{"type": "text", "content": "hello"}]}]),
        "gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": [{"type": "text", "content": "hi"}]}]),
    }
    span = {
        "traceId": f"{trace:032x}",
        "spanId": f"{trace:016x}",
        "name": "chat m",
        "startTimeUnixNano": "1790000000000000000",
        "endTimeUnixNano": "1790000001000000000",
        "attributes": [{"key": key, "value": {"stringValue": value}} for key, value in attributes.items()],
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}))
    return path


@pytest.mark.parametrize("locked", ["file", pytest.param("folder", marks=pytest.mark.slow)])
def test_an_unreadable_log_is_refused_alone_and_comes_in_when_it_is_readable(folder: Path, locked: str) -> None:
    log(folder / "logs" / "open.json", 1)
    secret = log(folder / "logs" / "private" / "secret.json", 2)
    (folder / "tracemill.toml").write_text('[[sources]]\npath = "logs"\n')
    shut = secret if locked == "file" else secret.parent
    mode = shut.stat().st_mode
    shut.chmod(0)
    try:
        taken = tracemill(folder, "ingest", "--json")
        assert taken.returncode == 0, taken.stderr
        report = json.loads(taken.stdout)
        assert (report["spans"], report["quarantined"]) == (1, 1)
        told = tracemill(folder, "ingest")  # tried again, refused again, and there is nothing else
        assert told.returncode == 1, told.stderr
        assert "permission denied" in told.stdout
        assert shut.name in told.stdout
        assert "Traceback" not in told.stderr
    finally:
        shut.chmod(mode)

    # Readable again, it comes in, and what was taken in is not taken in twice.
    again = tracemill(folder, "ingest", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["spans"] == 1
    rows = tracemill(folder, "sql", "SELECT count(*) AS n FROM quarantine", "--format", "csv")
    assert rows.stdout.split() == ['"n"', "0"]


def test_a_named_file_that_is_not_there_is_an_error(folder: Path) -> None:
    refused = tracemill(folder, "ingest", str(folder / "gone.jsonl"))
    assert refused.returncode == 2
    assert "gone.jsonl: there is no such file or folder" in refused.stderr
