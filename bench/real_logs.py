"""The nightly flow on logs that nobody here wrote: InterCode-SQL and tau-bench runs, with the embedded model.

    TRACEMILL_DATA=… python bench/real_logs.py [--quick]

Takes in both benchmarks, finds their call sites, compares the execution verifier with the logged rewards, and runs a
night (`tracemill nightly`) that may learn at the most valuable sites. Prints one JSON object as its last line.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SETTINGS = """\
name = "real-logs"
sites_per_night = {sites}

[[sources]]
path = "{data}/intercode-sql/runs"
[[sources]]
path = "{data}/tau-bench/historical_trajectories"

[tasks]
path = "{data}/intercode-sql/tasks.jsonl"
key = "task_id"
format = "intercode"
group = "db"

[[rewards]]
kind = "feedback"
[[rewards]]
kind = "tools"
[[rewards]]
kind = "sql_execution"
database = "{data}/intercode-sql/databases/{{db}}.sqlite"
gold = "gold"
agent = "intercode-sql/*"
skip_output = '(?i)\\bsubmit\\W*$'

[endpoint]
local = "smollm2"
threads = 1
concurrency = 12
params = {{ temperature = 0.0, max_tokens = 64 }}

[optimize]
optimizers = ["labeled_few_shot", "nearest"]
max_tune_cases = {cases}
max_calls = 400
[optimize.options.labeled_few_shot]
ks = [4]
draws = 1
[optimize.options.nearest]
ks = [4]

[train]
base_model = "smollm2"
max_tokens = 512
[train.options.sft]
steps = {steps}

[gate]
channel = "production.{{agent}}"
max_cases = {cases}
"""

TAU_BENCH = "tau-bench/gpt-4o-airline"

FIGURES = {
    "trajectories": "SELECT source_format, count(*) AS n FROM trajectories GROUP BY 1 ORDER BY 1",
    "rewards": """SELECT source_format, count(*) AS n, round(avg(value), 3) AS mean FROM rewards
        JOIN trajectories USING (trajectory_id) WHERE name = 'reward' GROUP BY 1 ORDER BY 1""",
    "sites": "SELECT agent_name, n_calls, list_contains(flags, 'reward_leak') AS leak FROM sites ORDER BY 1",
    "groups": """SELECT source_format, pool, count(DISTINCT task_group) AS groups, count(*) AS n
        FROM trajectories GROUP BY ALL ORDER BY ALL""",
    "agreement": """SELECT t.agent_name, count(*) AS n, round(avg((v.value = (r.value >= 1)::INT)::INT), 3) AS agrees
        FROM rewards v JOIN rewards r USING (trajectory_id) JOIN trajectories t USING (trajectory_id)
        WHERE v.name = 'sql_execution' AND r.name = 'reward' GROUP BY 1 ORDER BY 1""",
    "stages": """SELECT stage, round((ended_ns - started_ns) / 1e9, 1) AS seconds, status, detail
        FROM runs ORDER BY started_ns""",
    "verdicts": """SELECT v.candidate_id, c.branch, c.optimizer, v.verdict, v.n_cases, v.n_clusters,
        v.baseline_mean, v.candidate_mean, v.delta, v.low, v.high, v.reason
        FROM verdicts v JOIN candidates c USING (candidate_id) ORDER BY v."at" """,
    "releases": """SELECT r.channel, r.action, r.candidate_id, c.branch
        FROM releases r LEFT JOIN candidates c USING (candidate_id) ORDER BY r."at" """,
}


def tracemill(project: Path, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tracemill", *arguments, "--json", "--project", str(project)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def begin(data: Path, project: Path, *, quick: bool) -> None:
    """A project with the bench's settings and an empty warehouse."""
    project.mkdir(parents=True, exist_ok=True)
    sizes = {"sites": 1, "cases": 8, "steps": 2} if quick else {"sites": 2, "cases": 32, "steps": 20}
    (project / "tracemill.toml").write_text(SETTINGS.format(data=data, **sizes))
    tracemill(project, "init")


def figures(project: Path) -> dict[str, list[dict[str, Any]]]:
    """The tables of FIGURES, as far as the project has come."""
    answers = {name: tracemill(project, "sql", query) for name, query in FIGURES.items()}
    return {
        name: [dict(zip(answer["columns"], row, strict=True)) for row in answer["rows"]]
        for name, answer in answers.items()
    }


def run(data: Path, project: Path, *, quick: bool) -> dict[str, Any]:
    """A whole night in `project`; the figures that bench/RESULTS.md keeps."""
    begin(data, project, quick=quick)
    began = time.perf_counter()
    ingested = tracemill(project, "ingest")
    night = tracemill(project, "nightly")
    seconds = time.perf_counter() - began
    # Nothing judges a single call of tau-bench, so no night chooses it: its branches say by hand what they can do.
    by_hand = {branch: tracemill(project, branch, TAU_BENCH) for branch in ("optimize", "train")}
    return {
        "seconds": round(seconds, 1),
        "ingested": ingested,
        "left_out": night["left_out"],
        "tau_bench": {branch: found["skipped"] for branch, found in by_hand.items()},
        **figures(project),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one site, few cases, two training steps")
    parser.add_argument("--project", type=Path, help="where to work; default: a temporary folder")
    arguments = parser.parse_args()
    given = os.environ.get("TRACEMILL_DATA")
    if not given:
        print(json.dumps({"skipped": "TRACEMILL_DATA is unset: the folder with the real logs"}))
        return
    with tempfile.TemporaryDirectory() as scratch:
        project = arguments.project or Path(scratch) / "project"
        print(json.dumps(run(Path(given).resolve(), project, quick=arguments.quick)))


if __name__ == "__main__":
    main()
