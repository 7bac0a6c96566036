"""Servers that a command starts for itself: waiting until one answers."""

import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

from tracemill.errors import EndpointError


def until_answers(process: "subprocess.Popen[Any]", health: str, *, log: Path, patience_s: float) -> None:
    """Returns once `health` answers 200. EndpointError where the process ends first, or `patience_s` is over."""
    deadline = time.perf_counter() + patience_s
    while not _answers(health):
        if process.poll() is not None or time.perf_counter() > deadline:
            raise EndpointError(health, f"the server did not come up; see {log}")
        time.sleep(0.2)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
