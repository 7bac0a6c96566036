"""Mining measured: clusters and every pattern over a million trajectories, and whether what it finds is there.

Logs are generated with patterns planted in them that make episodes fail more often, among tools, prompts, services and
lengths that only look as if they did, because they go with harder tasks or longer ways. Measured on a DuckDB file with
the lake's tables, in a process of its own without the generator, each by the clock, in CPU seconds and in peak memory:

    clusters    `mining.clusters.clustering.cluster`: reading, cleaning, centres, assignment, names, trends of intents
                and failures. Every text is different. Vectors are handed over, made of the text's intent and noise;
                the time of making them is told apart (`embedding`) and is in no other figure.
    findings    `mining.findings.find`: alphabet, graphs, conformance, variants, signals, contrasts, confirmation, over
                the clusters of before.

What belongs to mining but happens as logs arrive or for one site is measured on a part, in a process of its own:

    group_tasks      task groups with near-duplicates for a part of the trajectories, 5,000 at a time as ingest does
    decontamination  cases to learn from against cases that the gate judges by, vectors handed over

Then 50 smaller logs with other seeds are mined: how many of the confirmed findings are false (their episodes do not
truly fail more often than comparable ones: the generator knows the probabilities), how many planted patterns are found,
and in how many logs of noise anything is: with no effect but hard tasks and without clusters, and with clusters where
all tasks are alike.

    python bench/mining.py [--quick] [--trajectories N] [--seeds N] [--seed-trajectories N]

Prints one JSON object last.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from mined_logs import DAY_NS, START_NS, Truth, generate, sql_type, true_lift

from tracemill.mining import decontaminating, findings, groups
from tracemill.mining.clusters import clustering
from tracemill.mining.embedding import Vectors, unit
from tracemill.mining.patterns import graph, items, journeys
from tracemill.records import Case
from tracemill.schema import TABLES


@dataclass(slots=True)
class Given:
    """An embedder that knows each text's vector: one for what it is about, and noise of its own."""

    name: str = "given-256/1"
    seconds: float = 0.0
    """CPU spent here; what is measured is without it."""
    wall: float = 0.0
    _about: Vectors = field(default_factory=lambda: given_vectors(4_093, 1))
    _noise: Vectors = field(default_factory=lambda: given_vectors(8_191, 2))

    def embed(self, texts: Sequence[str]) -> Vectors:
        began, cpu = time.perf_counter(), time.process_time()
        about = np.empty(len(texts), dtype=np.int64)
        own = np.empty(len(texts), dtype=np.int64)
        for i, text in enumerate(texts):
            said = text.split(" ", 4)
            key = said[1] + said[3] if said[0] == "please" and len(said) > 3 else said[0]
            about[i], own[i] = zlib.crc32(key.encode()) % 4_093, zlib.crc32(text.encode()) % 8_191
        found = unit(self._about[about] + 0.7 * self._noise[own])
        self.seconds += time.process_time() - cpu
        self.wall += time.perf_counter() - began
        return found


def given_vectors(n: int, seed: int) -> Vectors:
    return unit(np.random.default_rng(seed).standard_normal((n, 256)).astype(np.float32))


def reader(path: Path) -> duckdb.DuckDBPyConnection:
    """As a night does it: the lake is attached read-only, and what mining makes is temporary."""
    con = duckdb.connect(config={"threads": 2})
    con.execute(f"ATTACH '{path}' AS lake (READ_ONLY)")
    con.execute("USE lake")
    return con


def clustered(path: Path, embedder: Given) -> clustering.Clustered:
    with reader(path) as con:
        return clustering.cluster(con, embedder, night_id="bench", now_ns=START_NS + 30 * DAY_NS, days=None)


def written(path: Path, found: clustering.Clustered) -> None:
    with duckdb.connect(str(path)) as con:
        for name, rows in (("clusters", found.clusters), ("cluster_members", found.members)):
            con.register("incoming", rows)
            con.execute(f"INSERT INTO {name} BY NAME FROM incoming")
            con.unregister("incoming")


def mined(con: duckdb.DuckDBPyConnection) -> findings.Found:
    return findings.find(con, night_id="bench", now_ns=START_NS + 30 * DAY_NS, days=None)


def judge(path: Path, truth: Truth) -> tuple[int, list[str], set[str], set[str]]:
    """How many findings are confirmed, the words of false ones among them, the planted patterns that are confirmed, and
    those that wait for more of later data."""
    with reader(path) as con:
        found = mined(con)
        rows = {row["finding_id"]: row for row in found.findings.to_pylist()}
        read = journeys.read(con)
        edges = graph.edges(read)
        families = (
            (items.collect(read, edges, graph.follows(read, edges)[1], at_least=5), truth.stratum),
            (items.wanted(read, at_least=5), truth.agent_stratum),
        )
        # Trajectory ids sort like their numbers, so places are numbers among the learn pool.
        ids = con.execute("SELECT trajectory_id FROM mined_episodes ORDER BY u").fetchall()
    number = np.array([int(one[0][1:]) for one in ids])
    seen: dict[str, set[str]] = {"confirmed": set(), "candidate": set(), "refuted": set()}
    told: list[str] = []
    known: set[str] = set()
    for had, stratum in families:
        for item in range(len(had)):
            row = rows.get(items.finding_id(*had.describe(item)))
            if row is None:
                continue
            known.add(row["finding_id"])
            having = np.zeros(len(truth.chance), dtype=bool)
            having[number[had.members(item)]] = True
            if row["status"] == "confirmed" and true_lift(having, number, truth.chance, stratum) < 1.05:
                told.append(row["what"])
            for name, planted in truth.planted.items():
                both = (having & planted)[number].sum() / max(1, (having | planted)[number].sum())
                if both >= 0.5:
                    seen[row["status"]].add(name)
    assert known == set(rows), "a finding that is no item"
    n_confirmed = sum(row["status"] == "confirmed" for row in rows.values())
    return n_confirmed, told, seen["confirmed"], seen["candidate"] - seen["confirmed"]


KINDS = {
    "planted": {"effect": 0.3},
    "hard_tasks": {"effect": 0.0},
    "noise": {"effect": 0.0, "harder": 0.0},
}
"""What small logs are generated with: patterns; none, but tasks that are harder; nothing at all. A cluster of a harder
task truly fails more often, so that hard_tasks is mined without clusters, as on a lake that has none yet."""


def seeds(n_seeds: int, n: int, folder: Path) -> dict[str, Any]:
    """Many small logs of each kind."""
    total = false = planted = waiting = possible = 0
    quiet = dict.fromkeys(("hard_tasks", "noise"), 0)
    shares: list[float] = []
    cpu = time.process_time()
    for seed in range(n_seeds):
        for kind, made in KINDS.items():
            path = folder / f"{seed}-{kind}.duckdb"
            with duckdb.connect(str(path)) as con:
                truth = generate(con, n, seed=seed, **made)
            if kind != "hard_tasks":
                written(path, clustered(path, Given()))
            if kind == "planted":
                confirmed, told, seen, later = judge(path, truth)
                total, false = total + confirmed, false + len(told)
                planted, waiting = planted + len(seen), waiting + len(later)
                possible += len(truth.planted)
                shares.append(len(told) / max(1, confirmed))
                print(
                    f"seed {seed}: {confirmed} confirmed, false: {told}, waiting: {later}, "
                    f"missed: {set(truth.planted) - seen - later}"
                )
            else:
                with reader(path) as con:
                    rows = mined(con).findings.to_pylist()
                loud = [row["what"] for row in rows if row["status"] == "confirmed"]
                quiet[kind] += not loud
                if loud:
                    print(f"seed {seed}: {kind} taken for {loud}")
            path.unlink()
            sys.stdout.flush()
    return {
        "false_findings_rate": round(float(np.mean(shares)), 4),
        "false_findings": f"{false} of {total}",
        "planted_found_rate": round(planted / max(1, possible), 4),
        "planted_waiting_rate": round(waiting / max(1, possible), 4),
        "quiet_hard_tasks_rate": round(quiet["hard_tasks"] / n_seeds, 4),
        "quiet_noise_rate": round(quiet["noise"] / n_seeds, 4),
        "seeds": n_seeds,
        "seed_trajectories": n,
        "seed_cpu_seconds": round((time.process_time() - cpu) / n_seeds / len(KINDS), 1),
    }


def spent(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    began, cpu = time.perf_counter(), time.process_time()
    made = work()
    return made, {
        "seconds": round(time.perf_counter() - began, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def time_clusters(path: Path) -> dict[str, Any]:
    embedder = Given()
    found, took = spent(lambda: clustered(path, embedder))
    written(path, found)
    took |= {
        "seconds": round(took["seconds"] - embedder.wall, 2),
        "cpu_seconds": round(took["cpu_seconds"] - embedder.seconds, 2),
    }
    counted: dict[str, int] = {}
    for kind in found.clusters["kind"].to_pylist():
        counted[kind] = counted.get(kind, 0) + 1
    return took | {"embedding": round(embedder.seconds, 2), "texts": found.embedded, "clusters": counted}


def time_findings(path: Path) -> dict[str, Any]:
    with reader(path) as con:
        found, took = spent(lambda: mined(con))
    told = [f"{row['status']}: {row['what']}" for row in found.findings.to_pylist()]
    return took | {"episodes": found.episodes, "steps": found.steps, "told": told}


def time_group_tasks(path: Path) -> dict[str, Any]:
    """Task groups of the first trajectories into an empty lake; how many a second."""
    with reader(path) as con:
        rows = con.execute(
            "SELECT t.trajectory_id, CAST(NULL AS VARCHAR) AS task_key, m.text AS task_text FROM trajectories t "
            "JOIN messages m ON m.message_id = 'q' || CAST(t.trajectory_id[2:] AS INTEGER) "
            f"ORDER BY t.trajectory_id LIMIT {PART}"
        ).to_arrow_table()
    with duckdb.connect(config={"threads": 2}) as con:
        for name in ("tasks", "task_groups"):
            columns = ", ".join(f'"{one.name}" {sql_type(one.type)}' for one in TABLES[name].schema)
            con.execute(f"CREATE TABLE {name} ({columns})")

        def work() -> None:
            for first in range(0, len(rows), 5_000):
                some = rows.slice(first, 5_000)
                made = groups.group_tasks(con, some, key=b"k" * 32, gate_share=0.3, now_ns=first)
                con.register("incoming", made.new_groups)
                con.execute("INSERT INTO task_groups BY NAME FROM incoming")
                con.unregister("incoming")

        _, took = spent(work)
        (n_groups,) = con.execute("SELECT count(DISTINCT task_group) FROM task_groups").fetchone() or (0,)
    return took | {"trajectories": len(rows), "groups": n_groups}


def time_decontamination(path: Path) -> dict[str, Any]:
    """Two thirds of some cases to learn from, against a third that the gate judges by."""
    with reader(path) as con:
        rows = con.execute(
            "SELECT t.trajectory_id, t.task_group, m.text FROM trajectories t "
            "JOIN messages m ON m.message_id = 'q' || CAST(t.trajectory_id[2:] AS INTEGER) "
            f"ORDER BY t.trajectory_id LIMIT {CASES}"
        ).fetchall()
        cases = [
            Case(
                case_id=f"{trajectory_id}/0", trajectory_id=trajectory_id, step=0, site_id="site", task_key=None,
                task_group=group, pool="learn" if i % 3 else "gate", values={"ticket": text},
                logged_messages=({"role": "user", "content": text},), logged_output="done", reward=1.0,
            )
            for i, (trajectory_id, group, text) in enumerate(rows)
        ]  # fmt: skip
        learn, gate = [one for one in cases if one.pool == "learn"], [one for one in cases if one.pool == "gate"]
        embedder = Given()
        near, took = spent(lambda: decontaminating.near(con, learn, gate, embedder=embedder, key=b"k" * 32))
    took["cpu_seconds"] = round(took["cpu_seconds"] - embedder.seconds, 2)
    return took | {"learn": len(learn), "gate": len(gate), "near": len(near)}


PART, CASES = 50_000, 9_000
PARTS = {
    "clusters": time_clusters,
    "findings": time_findings,
    "group_tasks": time_group_tasks,
    "decontamination": time_decontamination,
}


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller, for a look")
    parser.add_argument("--trajectories", type=int)
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--seed-trajectories", type=int, default=20_000)
    parser.add_argument("--timed", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.timed:
        part, path = given.timed[0], Path(given.timed[1])
        if part == "generate":
            with duckdb.connect(str(path)) as con:
                generate(con, given.trajectories, seed=0, effect=0.3)
        else:
            print(json.dumps(PARTS[part](path)))
        return
    n = given.trajectories if given.trajectories is not None else 20_000 if given.quick else 1_000_000
    n_seeds = given.seeds if given.seeds is not None else (3 if given.quick else 50)
    print(f"{platform.machine()}, {platform.python_version()}, duckdb {duckdb.__version__}, 2 threads, load {load()}")
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="tracemill-mining-") as name:
        folder = Path(name)
        path = folder / "big.duckdb"
        if n:
            # Processes of their own: the generator's memory is not mining's, and each peak is one part's.
            own = [sys.executable, __file__, "--trajectories", str(n), "--timed"]
            subprocess.run([*own, "generate", str(path)], check=True)
            for part in PARTS:
                run = [*own, part, str(path)]
                said = subprocess.run(run, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
                result[part] = json.loads(said)
                print(part, json.dumps(result[part], indent=1), f"load {load()}", flush=True)
            result["findings"].pop("told")
            night = [result[part] for part in ("clusters", "findings")]
            result |= {
                "night_seconds": round(sum(one["seconds"] for one in night), 1),
                "night_cpu_seconds": round(sum(one["cpu_seconds"] for one in night), 1),
                "night_peak_rss_mb": max(one["peak_rss_mb"] for one in night),
            }
            path.unlink()
        result |= seeds(n_seeds, given.seed_trajectories, folder) if n_seeds else {}
    print(json.dumps(result))


def load() -> str:
    return f"{os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    main(sys.argv[1:])
