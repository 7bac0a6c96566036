"""What the benchmarks measure with: whole process trees, folders, medians. Linux (/proc)."""

import os
import platform
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@contextmanager
def serving(script: str, *arguments: str) -> Iterator[str]:
    """The URL of a server in a process of its own: a Python script, given the arguments and, last, its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    server = subprocess.Popen([sys.executable, "-c", script, *arguments, str(port)], env=environment)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one command cost, with every process that it started."""

    wall_s: float
    cpu_s: float
    peak_rss_mb: float
    """Largest sum of the resident memory of all its processes at one moment, sampled 20 times a second: pages that
    processes share count for each of them."""
    out: str


def _numbers(pid: int) -> tuple[int, float] | None:
    """Parent, and CPU seconds with those of children that were waited for; None where the process is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[1]), sum(int(ticks) for ticks in fields[11:15]) / _TICKS


def _resident_mb(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except (OSError, IndexError):
        return 0.0


def tree_of(pid: int) -> dict[int, float]:
    """The process and all below it, with their CPU seconds."""
    found = {int(name): _numbers(int(name)) for name in os.listdir("/proc") if name.isdigit()}
    parents = {one: numbers[0] for one, numbers in found.items() if numbers is not None}
    tree, grew = {pid}, True
    while grew:
        more = {one for one, parent in parents.items() if parent in tree} - tree
        tree |= more
        grew = bool(more)
    return {one: numbers[1] for one in tree if (numbers := found.get(one)) is not None}


class Watch:
    """Samples a process tree until it is left; afterwards `peak_rss_mb`. `cpu_s()` asks what it has used so far."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.peak_rss_mb = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        tree, passed = [self.pid], 0
        while True:
            if passed % 10 == 0:  # who belongs to it changes seldom, and asking costs
                tree = list(tree_of(self.pid))
            self.peak_rss_mb = max(self.peak_rss_mb, sum(map(_resident_mb, tree)))
            passed += 1
            if self._stop.wait(0.05):
                return

    def cpu_s(self) -> float:
        return sum(tree_of(self.pid).values())

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()


def measure(command: Sequence[str | Path], *, env: Mapping[str, str] | None = None) -> Measured:
    """Runs a command to its end. SystemExit with what it said where it fails."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(env or {})},
    )
    told: list[str] = []
    reading = threading.Thread(target=lambda: told.append(process.stderr.read() if process.stderr else ""), daemon=True)
    reading.start()
    with Watch(process.pid) as watch:
        out = process.stdout.read() if process.stdout else ""
        _, status, used = os.wait4(process.pid, 0)  # its own and its waited-for children's CPU
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    reading.join()
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\nexited with {process.returncode}\n{''.join(told)[-3000:]}")
    return Measured(
        wall_s=wall,
        cpu_s=used.ru_utime + used.ru_stime,
        peak_rss_mb=max(watch.peak_rss_mb, used.ru_maxrss / 1e3),
        out=out,
    )


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def spread(values: Sequence[float]) -> str:
    """Median, and in brackets the least and the most where there are several."""
    middle = statistics.median(values)
    return f"{middle:,.4g}" if len(values) < 2 else f"{middle:,.4g} ({min(values):,.4g} to {max(values):,.4g})"


def machine() -> str:
    """The machine in one line, and how busy it is."""
    name = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            name = line.partition(":")[2].strip()
            break
    load = os.getloadavg()[0]
    version = ".".join(map(str, sys.version_info[:3]))
    return f"{os.cpu_count()} cores of {name}, Python {version}, load {load:.1f} at the start"
