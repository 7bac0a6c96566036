"""Ten questions that users ask, at ten million spans: `tracemill sql`'s own path, cold and warm.

    python bench/query.py [--quick] [--folder DIR] [--spans N] [--peers] [--peer-spans N]

The lake is made by grown.py, kept up until upkeep finds nothing more to do, and kept in DIR. Each question is one
statement over the documented views, as `tracemill sql` runs it: read-only, fenced (warehouse.sql). Cold: a process of
its own for each question, with the lake's files dropped from the page cache; its time begins when the lake is opened
and so holds the loading of extensions and the catalog. Warm: on one fenced connection, the median of five runs after
one more. CPU seconds stand beside the wall's: on a machine with other work they say what it costs. Goals: a second each
warm, three for text, 50 ms for one trace. With `--peers` then the same questions to Phoenix and MLflow
(peers/compare.py), over as many spans as they take in within minutes; they are kept in DIR too. The last line is one
JSON object.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb
from grown import first_day, grow, kept_up
from peers import compare

from tracemill.warehouse import Lake, sql

_PICK = """
SELECT trajectory_id, user_key, CAST(day AS VARCHAR) AS day
FROM trajectories
WHERE day = (SELECT max(day) - 1 FROM trajectories) AND n_spans > 5
ORDER BY trajectory_id
LIMIT 1 OFFSET 77
"""
QUESTIONS = {
    "failure rate by site and day": """SELECT site_id, day, count(*) AS calls,
        avg(CAST(status = 'error' AS INTEGER)) AS failing FROM llm_calls GROUP BY ALL ORDER BY day, site_id""",
    "p95 latency by tool": """SELECT tool_name, count(*) AS calls, quantile_cont(latency_ms, 0.95) AS p95_ms
        FROM tool_calls GROUP BY tool_name ORDER BY p95_ms DESC""",
    "cost per model per day": """SELECT day, model, sum(cost_usd) AS usd FROM costs_daily
        GROUP BY day, model ORDER BY day, model""",
    "episodes under a reward, with spans": """SELECT r.value, s.trace_id, s.span_id, s.kind, s.name, s.error_message
        FROM rewards r JOIN spans s ON s.trace_id = r.trajectory_id
        WHERE r.name = 'tools' AND r.value < 0.5 AND s.day = DATE '{day}' ORDER BY r.value, s.trace_id, s.seq""",
    "text in all messages": """SELECT role, count(*) AS messages, any_value(text) AS example FROM messages
        WHERE regexp_matches(text, '(?i)invoice not') GROUP BY role ORDER BY role""",
    "one trace": """SELECT span_id, parent_span_id, kind, name, status, tool_args, tool_result, attributes
        FROM trace_spans WHERE trace_id = '{trajectory_id}' ORDER BY seq""",
    "sessions of a user": """SELECT session_id, started_at, n_trajectories, n_llm_calls, n_errors, cost_usd
        FROM sessions WHERE user_key = '{user_key}' ORDER BY started_at DESC""",
    "tokens by step": """SELECT step, count(*) AS calls, avg(tokens_in) AS mean_in, max(tokens_in) AS most_in
        FROM llm_calls GROUP BY step ORDER BY step""",
    "slowest of yesterday": """SELECT trajectory_id, agent_name, (end_ns - start_ns) / 1e9 AS seconds, n_llm_calls
        FROM trajectories WHERE day = DATE '{day}' ORDER BY seconds DESC LIMIT 20""",
    "tool errors by message": """SELECT what, error_message, count(*) AS n, max(started_at) AS last
        FROM failures WHERE kind = 'tool' GROUP BY what, error_message ORDER BY n DESC LIMIT 20""",
}
GOALS = {"text in all messages": 3.0, "one trace": 0.05}
RUNS = 5


def statements(lake: Lake) -> dict[str, str]:
    """The questions, about one trace, its user and its day."""
    (picked,) = sql.query(lake, _PICK).to_pylist()
    return {name: text.format(**picked) for name, text in QUESTIONS.items()}


def timed(lake: Lake, questions: dict[str, str]) -> dict[str, tuple[float, float, int]]:
    """Median seconds by the wall and of CPU, and rows, of each on one connection."""
    found = {}
    with sql.fenced(lake) as con:
        for name, text in questions.items():
            taken = []
            for _ in range(RUNS + 1):
                began, cpu = time.perf_counter(), time.process_time()
                rows = con.execute(sql.prepared(con, text)).to_arrow_table().num_rows
                taken.append((time.perf_counter() - began, time.process_time() - cpu))
            wall, cpu = (statistics.median(one) for one in zip(*taken[1:], strict=True))
            found[name] = (wall, cpu, rows)
    return found


def forget_pages(root: Path) -> None:
    """Drop the lake's files from the page cache, as far as the system listens."""
    for path in root.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


_COLD = """
import sys, time
from pathlib import Path
from tracemill.warehouse import Lake, sql
began = time.perf_counter()
with Lake.open(Path(sys.argv[1])) as lake:
    sql.query(lake, sys.argv[2])
print(time.perf_counter() - began, time.process_time())
"""


def cold(root: Path, text: str) -> tuple[float, float]:
    """Seconds of the first time in a fresh process: by the wall from opening the lake, CPU with all imports."""
    forget_pages(root)
    done = subprocess.run([sys.executable, "-c", _COLD, str(root), text], capture_output=True, text=True, check=True)
    wall, cpu = done.stdout.split()[-2:]  # DuckDB draws a progress bar before it
    return float(wall), float(cpu)


def run(folder: Path, n: int, per_day: int) -> dict[str, object]:
    folder.mkdir(parents=True, exist_ok=True)
    root = grow(first_day(folder, per_day), folder / f"lake-{n}", n)
    kept_up(root)
    with Lake.open(root) as lake:
        (counted,) = sql.query(lake, "SELECT count(*) AS n FROM spans").to_pylist()
        size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
        print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, DuckDB {duckdb.__version__}")
        load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
        print(f"{counted['n']:,} spans, {size / 1e9:.2f} GB, load {load}\n")
        questions = statements(lake)
        print("| question | rows | cold s (CPU) | warm s (CPU) | goal |\n|---|---|---|---|---|")
        fast = timed(lake, questions)
    answers = {}
    for name, text in questions.items():
        slow, (wall, cpu, rows) = cold(root, text), fast[name]
        goal = GOALS.get(name, 1.0)
        met = "met" if wall < goal else "missed"
        print(f"| {name} | {rows:,} | {slow[0]:.2f} ({slow[1]:.2f}) | {wall:.3f} ({cpu:.3f}) | {goal:g}: {met} |")
        answers[name] = {"cold_s": round(slow[0], 3), "warm_s": round(wall, 4), "warm_cpu_s": round(cpu, 4)}
    return {"spans": counted["n"], "bytes": size, "queries": answers}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="100,000 spans, five days")
    parser.add_argument("--folder", type=Path, help="where the lake is made and kept; default: a temporary folder")
    parser.add_argument("--spans", type=int, default=10_000_000)
    parser.add_argument("--peers", action="store_true", help="with Phoenix and MLflow, where TRACEMILL_PEERS has them")
    parser.add_argument("--peer-spans", type=int, help="how many spans they get; default 12,000, 1,500 with --quick")
    arguments = parser.parse_args()
    n, per_day = (100_000, 20_000) if arguments.quick else (arguments.spans, 100_000)
    with tempfile.TemporaryDirectory() as scratch:
        folder = (arguments.folder or Path(scratch)).absolute()
        told = run(folder, n, per_day)
        if arguments.peers:
            told["peers"] = compare.run(folder, arguments.peer_spans or (1_500 if arguments.quick else 12_000), RUNS)
        print(json.dumps(told))


if __name__ == "__main__":
    main()
