"""How many spans a second come in, how much memory that takes, and what the least is that it could cost.

    python bench/ingest.py [--quick] [--spans N] [--rounds N] [--peers] [--keep FOLDER]

A generated corpus (bench/corpus: OTLP/JSON as the Collector writes it, 2.5 KB a span) goes in through `tracemill
ingest` in a fresh project, redaction on, until it can be queried: decoded, redacted, deduplicated, messages addressed
by content, trajectories rebuilt, committed, call sites recovered. Against it, over the same files and in turns:

    read, decode, typed, duckdb    the limits of harness/limits.py
    phoenix, mlflow                where TRACEMILL_PEERS names their environments (peers/README.md): SQLite, OTLP
                                   protobuf requests of the same lines made beforehand, until every span is a row, for
                                   as many spans as fit into a time

Then growing parts of the corpus (is the memory flat?), two processes over half of the files each, in two lakes and in
one, and the stages of one process (harness/stages.py). Rates are per CPU second of the whole process tree, start-up
left out (measured on one request), and by the clock with everything.

The last line is one JSON object. `spans_per_s_per_core` and `spans_per_s`: tracemill; `ratio_to_decode`: its CPU time
against the typed decode; `peak_rss_mb` of all its processes, at the largest size; `rss_growth`: that against the
smallest; `times_phoenix`, `times_mlflow`: by the clock, `cpu_times_…` per CPU second; `two_lakes`, `one_lake`: how much
faster two processes are.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import corpus
import peers
from harness import Measured, Watch, folder_bytes, machine, measure, spread
from peers.otlp import requests_of

HERE = Path(__file__).parent
LIMITS = ("read", "decode", "typed", "duckdb")
TRACEMILL = (sys.executable, "-m", "tracemill")
MB = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One contender over some files."""

    spans: int
    wall_s: float
    cpu_s: float
    peak_rss_mb: float | None = None
    bytes: int | None = None

    @property
    def per_s(self) -> float:
        return self.spans / self.wall_s

    @property
    def per_cpu_s(self) -> float:
        return self.spans / max(self.cpu_s, 1e-9)


class Bench:
    """Where the runs take place; each makes a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._made = 0

    def project(self) -> Path:
        self._made += 1
        project = self.folder / f"project-{self._made}"
        project.mkdir()
        return project

    def ingest(self, files: Sequence[Path], project: Path | None = None) -> tuple[Run, Path]:
        project = project or self.project()
        measured = measure([*TRACEMILL, "ingest", "--json", "--project", project, *files])
        report = json.loads(measured.out)
        if report["quarantined"] or report["duplicates"]:
            raise SystemExit(f"not everything came in once: {report}")
        return _run(report["spans"], measured, folder_bytes(project / ".tracemill" / "lake")), project

    def limit(self, name: str, files: Sequence[Path], spans: int) -> Run:
        measured = measure([sys.executable, HERE / "harness" / "limits.py", name, *files])
        own = json.loads(measured.out)
        if own["spans"] not in (None, spans):
            raise SystemExit(f"{name} found {own['spans']} spans of {spans}")
        return Run(spans=spans, wall_s=own["wall_s"], cpu_s=own["cpu_s"], peak_rss_mb=measured.peak_rss_mb)

    def peer(self, name: str, python: Path, requests: Sequence[tuple[int, bytes]], limit_s: float) -> Run:
        self._made += 1
        folder = self.folder / f"{name}-{self._made}"
        with peers.serving(name, python, folder) as server, Watch(server.pid) as watch:
            loaded = peers.load(server, requests, limit_s=limit_s)
        return Run(
            spans=loaded.spans,
            wall_s=loaded.wall_s,
            cpu_s=loaded.cpu_s,
            peak_rss_mb=watch.peak_rss_mb,
            bytes=int(loaded.bytes_per_span * loaded.spans),
        )

    def two(self, halves: Sequence[Sequence[Path]], *, lakes: int) -> float:
        """Seconds until two processes have both halves in."""
        first = self.project()
        projects = [first, first if lakes == 1 else self.project()]
        for project in projects:
            measure([*TRACEMILL, "init", "--json", "--project", project])
        with ThreadPoolExecutor(2) as pool:
            runs = pool.map(lambda at: self.ingest(halves[at], projects[at])[0], range(2))
            return max(run.wall_s for run in runs)


def _run(spans: int, measured: Measured, size: int | None = None) -> Run:
    return Run(spans=spans, wall_s=measured.wall_s, cpu_s=measured.cpu_s, peak_rss_mb=measured.peak_rss_mb, bytes=size)


def table(rows: Sequence[tuple[str, Sequence[Run]]]) -> None:
    print(f"\n{'':24}{'spans':>10}{'spans/s':>28}{'spans/CPU s':>30}{'peak MB':>9}{'bytes/span':>12}")
    for name, runs in rows:
        rss = [run.peak_rss_mb for run in runs if run.peak_rss_mb is not None]
        size = "" if runs[0].bytes is None else f"{runs[0].bytes / runs[0].spans:,.0f}"
        print(
            f"{name:24}{runs[0].spans:10,}{spread([r.per_s for r in runs]):>28}"
            f"{spread([r.per_cpu_s for r in runs]):>30}{max(rss):9,.0f}{size:>12}",
            flush=True,
        )


def contend(
    bench: Bench, files: Sequence[Path], spans: int, rounds: int, pythons: dict[str, Path], limit_s: float
) -> dict[str, list[Run]]:
    """Each contender once a round, over the same files."""
    runs: dict[str, list[Run]] = {name: [] for name in (*LIMITS, "tracemill", *pythons)}
    requests = list(islice(requests_of(lines_of(files)), 2000)) if pythons else []
    for _ in range(rounds):
        for name in LIMITS:
            runs[name].append(bench.limit(name, files, spans))
        runs["tracemill"].append(bench.ingest(files)[0])
        for name, python in pythons.items():
            runs[name].append(bench.peer(name, python, requests, limit_s))
    return runs


def lines_of(files: Sequence[Path]) -> Any:
    for path in files:
        with path.open("rb") as file:
            yield from file


def leaks(project: Path) -> int:
    """Planted e-mail addresses that are in the lake."""
    query = (
        f"SELECT (SELECT count(*) FROM messages WHERE contains(parts, '{corpus.PLANTED}')) + "
        f"(SELECT count(*) FROM spans WHERE contains(concat(attributes, tool_args, tool_result), '{corpus.PLANTED}'))"
    )
    return int(json.loads(measure([*TRACEMILL, "sql", "--json", "--project", project, query]).out)["rows"][0][0])


def stages(bench: Bench, files: Sequence[Path]) -> dict[str, float]:
    """Microseconds of CPU a span, by stage."""
    command = [sys.executable, HERE / "harness" / "stages.py", bench.project(), *files]
    spent: dict[str, float] = json.loads(measure(command).out.splitlines()[-1])
    spans = spent.pop("spans")
    return {name: 1e6 * seconds / spans for name, seconds in spent.items() if name not in ("first", "open")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under a minute: 4,000 spans, one round, no peers")
    parser.add_argument("--full", action="store_true", help="as without --quick")
    parser.add_argument("--spans", type=int)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--peers", action="store_true", help="with the peers although --quick")
    parser.add_argument("--keep", type=Path, help="work in this folder and leave everything there")
    args = parser.parse_args()
    print(machine(), flush=True)
    if args.keep:
        args.keep.mkdir(parents=True, exist_ok=True)
        run(args, args.keep.absolute())
    else:
        with TemporaryDirectory(prefix="tracemill-bench-") as folder:
            run(args, Path(folder))


def run(args: argparse.Namespace, folder: Path) -> None:
    n = args.spans or (4_000 if args.quick else 1_000_000)
    rounds = args.rounds or (1 if args.quick else 3)
    pieces = 4 if args.quick else 20
    pythons = peers.found() if args.peers or not args.quick else {}
    files = corpus.write(corpus.spans(n), folder / "logs", max_bytes=int(n * 2500 / (pieces - 0.5)))
    raw = sum(path.stat().st_size for path in files)
    print(f"{n:,} spans, {raw / MB:,.0f} MB of OTLP/JSON in {len(files)} files", flush=True)
    bench = Bench(folder)

    small = corpus.write(islice(corpus.spans(50), 1), folder / "one")
    start = bench.ingest(small)[0]
    compared = files if args.quick else files[: max(1, len(files) // 10)]
    counted = bench.limit("typed", compared, _count(compared))
    runs = contend(bench, compared, counted.spans, rounds, pythons, 10 if args.quick else 60)
    table(list(runs.items()))

    grown = []
    for part in (files[:1], files) if args.quick else (files[:1], files[: len(files) // 5], files):
        grown.append(bench.ingest(part))
        table([(f"tracemill, {len(part)} files", [grown[-1][0]])])
    whole, project = grown[-1]
    planted = leaks(project)

    pair = files if args.quick else files[: len(files) // 5]
    halves = (pair[::2], pair[1::2])
    alone = bench.ingest(pair)[0]  # again, since the load of a machine changes while all this runs
    two_lakes = alone.wall_s / bench.two(halves, lakes=2)
    one_lake = alone.wall_s / bench.two(halves, lakes=1)
    print(f"\ntwo processes: {two_lakes:.2f} times one in two lakes, {one_lake:.2f} in one lake")

    spent = stages(bench, compared)
    print("\nCPU a span, microseconds: " + ", ".join(f"{name} {cost:.1f}" for name, cost in spent.items()))

    typed_us = 1e6 / statistics.median(r.per_cpu_s for r in runs["typed"])
    beyond_start = 1e6 * (whole.cpu_s - start.cpu_s) / (whole.spans - start.spans)
    result = {
        "spans": n,
        "spans_per_s_per_core": round(1e6 / beyond_start, 1),
        "spans_per_s": round(whole.per_s, 1),
        "start_cpu_s": round(start.cpu_s, 2),
        "ratio_to_decode": round(beyond_start / typed_us, 2),
        "peak_rss_mb": round(whole.peak_rss_mb or 0),
        "rss_growth": round((whole.peak_rss_mb or 0) / (grown[0][0].peak_rss_mb or 1), 2),
        "lake_bytes_per_span": round((whole.bytes or 0) / whole.spans, 1),
        "raw_bytes_per_span": round(raw / n, 1),
        **{f"times_{name}": _times(runs, name, "per_s") for name in pythons},
        **{f"cpu_times_{name}": _times(runs, name, "per_cpu_s") for name in pythons},
        "two_lakes": round(two_lakes, 2),
        "one_lake": round(one_lake, 2),
        "planted_found": planted,
        "stages_us": {name: round(cost, 1) for name, cost in spent.items()},
    }
    print(json.dumps(result))


def _times(runs: dict[str, list[Run]], name: str, rate: str) -> float:
    """How many times the rate of a contender tracemill's is."""
    ours, theirs = (statistics.median(getattr(run, rate) for run in runs[one]) for one in ("tracemill", name))
    return round(ours / theirs, 1)


def _count(files: Sequence[Path]) -> int:
    return sum(line.count(b'"spanId"') for line in lines_of(files))


if __name__ == "__main__":
    main()
