"""The questions of bench/query.py to tracemill, Phoenix and MLflow over the same spans, in turns: README.md.

What a peer has no column for is asked of all in the nearest form that each can answer: by agent instead of by site, a
trace's ids and names instead of all of its columns. Rewards are tracemill's own, given to the peers as annotations and
feedback after the load.
"""

import json
import math
import os
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import corpus
from grown import tracemill
from harness import tree_of

import peers
from peers.otlp import requests_of
from tracemill.warehouse import Lake, sql

DAYS = 10
_FEW_RETRIES = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "300", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
"""A server works on what was given up; so what may take that long is asked last."""
LONG_S = 10
"""An answer that took longer is not asked for again."""
QUESTIONS = {
    "failure rate by agent and day": """SELECT agent_name, CAST(day AS VARCHAR), count(*),
        count(*) FILTER (status = 'error') FROM llm_calls GROUP BY agent_name, day""",
    "p95 latency by tool": "SELECT tool_name, quantile_cont(latency_ms, 0.95) FROM tool_calls GROUP BY tool_name",
    "cost per model per day": """SELECT CAST(day AS VARCHAR), model, sum(coalesce(cost_usd, 0)) FROM costs_daily
        GROUP BY day, model""",
    "episodes under a reward, with spans": """SELECT s.trace_id, s.span_id, s.name FROM rewards r
        JOIN trajectories t ON t.trajectory_id = r.trajectory_id AND t.day = DATE '{day}'
        JOIN spans s ON s.trace_id = r.trajectory_id WHERE r.name = 'tools' AND r.value < 0.5""",
    "one trace": "SELECT span_id, name FROM trace_spans WHERE trace_id = '{trace_id}'",
    "sessions of a user": "SELECT session_id, n_trajectories FROM sessions WHERE user_key = '{user_key}'",
    "tokens by step": "SELECT step, count(*), avg(tokens_in), max(tokens_in) FROM llm_calls GROUP BY step",
    "slowest of a day": """SELECT trajectory_id, (end_ns - start_ns) / 1e9 FROM trajectories WHERE day = DATE '{day}'
        ORDER BY 2 DESC LIMIT 20""",
    "tool errors by message": """SELECT what, error_message, count(*) FROM failures WHERE kind = 'tool'
        GROUP BY what, error_message""",
    "traces with a text": """WITH hit AS (
            SELECT list(message_id) AS ids FROM messages
            WHERE regexp_matches(concat_ws(' ', text, parts), '(?i){phrase}'))
        SELECT DISTINCT trajectory_id FROM transitions, hit
        WHERE list_has_any(list_concat(system_ids, input_ids, output_ids), hit.ids)""",
}
_ABOUT = """
SELECT trajectory_id AS trace_id, user_key, CAST(day AS VARCHAR) AS day
FROM trajectories
WHERE day = (SELECT max(day) - 1 FROM trajectories) AND n_spans > 5
ORDER BY trajectory_id
LIMIT 1 OFFSET 7
"""
_REWARDS = """
SELECT s.span_id, s.trace_id, r.value
FROM rewards r JOIN spans s ON s.trace_id = r.trajectory_id AND s.parent_span_id IS NULL
WHERE r.name = 'tools' ORDER BY ALL
"""
PHRASE = "invoice not"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    rows: list[list[Any]]
    wall_s: float
    cpu_s: float


class Peer:
    """A server with its data, and a client of it in its own environment."""

    def __init__(self, server: peers.Server, python: Path) -> None:
        script = Path(__file__).parent / f"{server.peer}_client.py"
        self._server = server
        self._log = (server.database.parent / "client.log").open("wb")
        self._client = subprocess.Popen(
            [python, script, str(server.port)],
            env={**os.environ, **_FEW_RETRIES},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )

    def ask(self, question: str, about: dict[str, Any]) -> Asked | str:
        """The answer with the CPU seconds of server and client, or why there is none."""
        assert self._client.stdin is not None
        assert self._client.stdout is not None
        cpu = sum(tree_of(self._server.pid).values())
        self._client.stdin.write(json.dumps({"question": question, "about": about}).encode() + b"\n")
        self._client.stdin.flush()
        said = self._client.stdout.readline()
        if not said:
            raise SystemExit(f"{self._server.peer} did not answer {question}: {self._log.name}")
        told = json.loads(said)
        if "cannot" in told:
            return str(told["cannot"])
        spent = sum(tree_of(self._server.pid).values()) - cpu + told["cpu_s"]
        return Asked(rows=told["rows"], wall_s=told["wall_s"], cpu_s=spent)

    def close(self) -> None:
        assert self._client.stdin is not None
        self._client.stdin.close()
        self._client.wait()
        self._log.close()


class Ours:
    """`tracemill sql`'s own path, on one connection."""

    def __init__(self, lake: Lake) -> None:
        self._con = sql.fenced(lake)

    def ask(self, question: str, about: dict[str, Any]) -> Asked:
        began, cpu = time.perf_counter(), time.process_time()
        text = sql.prepared(self._con, QUESTIONS[question].format(**about))
        rows = [list(row) for row in self._con.execute(text).fetchall()]
        return Asked(rows=rows, wall_s=time.perf_counter() - began, cpu_s=time.process_time() - cpu)

    def close(self) -> None:
        self._con.close()


def _taken_in(folder: Path, files: Sequence[Path]) -> Path:
    """A project with the files, taken in and scored; gives its lake."""
    project = folder / "project"
    if not (project / "ready").exists():
        project.mkdir(parents=True)
        tracemill(project, "init")
        tracemill(project, "ingest", str(files[0].parent))
        tracemill(project, "score")
        (project / "ready").touch()
    return project / ".tracemill" / "lake"


@contextmanager
def _loaded(
    peer: str, python: Path, folder: Path, files: Sequence[Path], spans: int, rewards: list[list[Any]]
) -> Iterator[Peer]:
    """A peer that holds all `spans`, loaded by its own OTLP endpoint where it was not before, and the rewards."""
    ready = folder / f"{peer}.ready"
    with peers.serving(peer, python, folder / peer) as server:
        if not ready.exists():
            requests = list(requests_of(line for file in files for line in file.open("rb")))
            loaded = peers.load(server, iter(requests), limit_s=3600)
            print(f"{peer}: {loaded.spans:,} spans in {loaded.wall_s:.0f} s, {loaded.bytes / 1e6:.0f} MB", flush=True)
        if (held := peers.spans_in(server)) != spans:
            raise SystemExit(f"{peer} holds {held:,} of {spans:,} spans: remove {folder / peer} and try again")
        asking = Peer(server, python)
        try:
            if not ready.exists():
                asking.ask("load rewards", {"rewards": rewards})
                ready.touch()
            yield asking
        finally:
            asking.close()


def _user_of(files: Sequence[Path], trace_id: str) -> str:
    """What a trace's user is called in the logs."""
    for file in files:
        for line in file.open("rb"):
            if trace_id.encode() in line:
                for scoped in json.loads(line)["resourceSpans"][0]["scopeSpans"]:
                    for span in scoped["spans"]:
                        if span["traceId"] == trace_id:
                            told = {one["key"]: one["value"] for one in span["attributes"]}
                            return str(told["user.id"]["stringValue"])
    raise SystemExit(f"no line of the logs holds the trace {trace_id}")


def _differ(ours: list[list[Any]], theirs: list[list[Any]]) -> str:
    """How two answers differ; rows in any order, numbers to a thousandth."""
    one, other = ({_key(row): row for row in rows} for rows in (ours, theirs))
    if one.keys() != other.keys() or len(ours) != len(theirs):
        return f"{len(one.keys() & other.keys()):,} of {len(ours):,} rows; it has {len(theirs):,}"
    apart = max((_apart(a, b) for key in one for a, b in zip(one[key], other[key], strict=True)), default=0.0)
    return "same" if apart < 1e-3 else f"same rows, numbers to {apart:.1%}"


def _key(row: list[Any]) -> tuple[str, ...]:
    return tuple(str(one) for one in row if not isinstance(one, float))


def _apart(one: Any, other: Any) -> float:
    if not isinstance(one, float) and not isinstance(other, float):
        return 0.0
    return 0.0 if math.isclose(one, other, abs_tol=1e-9) else abs(one - other) / max(abs(one), abs(other))


def run(folder: Path, spans: int, rounds: int) -> dict[str, Any]:
    """The table on stdout; seconds by question and contender."""
    pythons = peers.found()
    if not pythons:
        raise SystemExit("no peers: TRACEMILL_PEERS names the folder of their environments (bench/peers/README.md)")
    place = folder / f"peers-{spans}"
    files = sorted((place / "logs").glob("*")) or corpus.write(corpus.spans(spans, days=DAYS), place / "logs")
    with ExitStack() as stack:
        lake = stack.enter_context(Lake.open(_taken_in(place, files)))
        (about,) = sql.query(lake, _ABOUT).to_pylist()
        about |= {"phrase": PHRASE, "user": _user_of(files, about["trace_id"])}
        rewards = [list(row.values()) for row in sql.query(lake, _REWARDS).to_pylist()]
        contenders: dict[str, Ours | Peer] = {"tracemill": Ours(lake)}
        stack.callback(contenders["tracemill"].close)
        for name, python in pythons.items():
            contenders[name] = stack.enter_context(_loaded(name, python, place, files, spans, rewards))
        return _contend(contenders, about, spans, rounds)


def _contend(contenders: dict[str, Ours | Peer], about: dict[str, Any], spans: int, rounds: int) -> dict[str, Any]:
    print(f"\n{spans:,} spans, the same in each; warm, median of {rounds}: seconds (CPU of client and server)\n")
    print(f"| question | {' | '.join(contenders)} | answers |\n|---{'|---' * (len(contenders) + 1)}|")
    found: dict[str, Any] = {}
    for question in QUESTIONS:
        taken: dict[str, list[Asked]] = {name: [] for name in contenders}
        cannot: dict[str, str] = {}
        for _ in range(rounds + 1):
            for name, contender in contenders.items():
                if name in cannot or (taken[name] and taken[name][0].wall_s > LONG_S):
                    continue
                answer = contender.ask(question, about)
                if isinstance(answer, str):
                    cannot[name] = answer
                else:
                    taken[name].append(answer)
        cells, found[question] = [], {}
        for name, answers in taken.items():
            if not answers:
                cells.append(f"cannot: {cannot[name]}")
                continue
            wall, cpu = (
                statistics.median(getattr(one, what) for one in answers[1:] or answers) for what in ("wall_s", "cpu_s")
            )
            cells.append(f"{wall:.3f} ({cpu:.3f})")
            found[question][name] = {"warm_s": round(wall, 4), "cpu_s": round(cpu, 4)}
        ours = taken["tracemill"][-1].rows
        told = [f"{name}: {_differ(ours, some[-1].rows)}" for name, some in taken.items() if some][1:]
        print(f"| {question} | {' | '.join(cells)} | {len(ours):,} rows; {'; '.join(told)} |", flush=True)
    return found
