"""Mining measured: every pattern over a million trajectories, and whether what it finds is there.

Logs are generated with patterns planted in them that make episodes fail more often, among tools, prompts, services and
lengths that only look as if they did, because they go with harder tasks or longer ways. The time is that of
`mining.findings.find` (alphabet, graphs, conformance, variants, signals, contrasts, confirmation) on a DuckDB file with
the lake's tables; the generator's is not in it. Then 50 smaller logs with other seeds are mined: how many of the
confirmed findings are false (their episodes do not truly fail more often than comparable ones: the generator knows the
probabilities), how many planted patterns are found, and in how many logs of pure noise anything is.

    python bench/mining.py [--quick] [--trajectories N] [--seeds N] [--seed-trajectories N]

Prints one JSON object last: seconds, cpu_seconds, peak_rss_mb, false_findings_rate, planted_found_rate,
quiet_noise_rate and the sizes.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from tracemill.schema import TABLES

AGENTS = ("desk", "trip", "shop")
TOOLS = ("search", "lookup", "update", "read", "cancel", "pay", "transfer", "retrieve")
DAY_NS = 86_400 * 10**9
START_NS = 1_790_000_000 * 10**9
SQL_TYPES = {"int64": "BIGINT", "int32": "INTEGER", "uint32": "UINTEGER", "double": "DOUBLE", "float": "FLOAT",
             "bool": "BOOLEAN", "date32[day]": "DATE", "string": "VARCHAR"}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What the generator knows of every trajectory: its chance to fail, and which planted patterns it has."""

    chance: np.ndarray[Any, np.dtype[np.float64]]
    stratum: np.ndarray[Any, np.dtype[np.int64]]
    planted: dict[str, np.ndarray[Any, np.dtype[np.bool_]]]


def sql_type(dtype: pa.DataType) -> str:
    return sql_type(dtype.value_type) + "[]" if pa.types.is_list(dtype) else SQL_TYPES[str(dtype)]


def generate(con: duckdb.DuckDBPyConnection, n: int, *, seed: int, effect: float) -> Truth:
    """Fills the lake's tables with `n` trajectories of about 8 steps each; an effect of 0 is pure noise."""
    rng = np.random.default_rng(seed)
    agent = rng.choice(3, size=n, p=[0.4, 0.35, 0.25])
    task = agent * 2 + rng.integers(0, 2, n)
    k = np.minimum(1 + rng.poisson(2.5, n) + (task % 2), 12)  # every second task is longer
    first = np.concatenate([[0], np.cumsum(k)[:-1]])
    total = int(k.sum())
    who = np.repeat(np.arange(n), k)
    tool = rng.integers(0, 7, total)
    # The second task of an agent reads more: its harder tasks make reading look bad.
    tool[(task[who] % 2 == 1) & (rng.random(total) < 0.15)] = 3
    failed = rng.random(total) < 0.06
    argument = rng.integers(0, 2**40, total)
    bare = np.zeros(total, dtype=bool)
    document = np.full(total, -1)

    def places(of: int, length: int, share: float) -> np.ndarray[Any, np.dtype[np.int64]]:
        able = np.flatnonzero((agent == of) & (k >= length))
        chosen = able[rng.random(len(able)) < share]
        return first[chosen] + (rng.random(len(chosen)) * (k[chosen] - length + 1)).astype(int)

    at = places(0, 3, 0.05)  # the same search three times
    for step in range(3):
        tool[at + step], failed[at + step], argument[at + step] = 0, False, argument[at]
    at = places(0, 2, 0.06)  # lookup fails, then update is called all the same
    tool[at], failed[at], tool[at + 1], failed[at + 1] = 1, True, 2, False
    at = places(1, 3, 0.08)  # cancel, something else, pay
    tool[at], failed[at], tool[at + 1], tool[at + 2], failed[at + 2] = 4, False, 3, 5, False
    retrieves = places(2, 1, 0.5)
    tool[retrieves], document[retrieves] = 7, rng.integers(0, 20, len(retrieves))
    transfers = (tool == 6) & (agent[who] == 2)
    bare[transfers] = rng.random(int(transfers.sum())) < 0.2
    inside = np.zeros(total, dtype=bool)
    inside[:-1] = who[1:] == who[:-1]
    two = np.concatenate([inside[:-1] & inside[1:], [False]])

    def has(marks: np.ndarray[Any, Any], of: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
        return (np.bincount(who[marks], minlength=n) > 0) & (agent == of)

    def after(values: np.ndarray[Any, Any], by: int) -> np.ndarray[Any, Any]:
        return np.concatenate([values[by:], values[:by]])

    prompt = rng.integers(5, 9, n)
    prompt[(task % 2 == 1) & (rng.random(n) < 0.3)] = 5  # version 5 serves the harder tasks: no fault of its own
    claim = rng.random(n) < 0.04
    planted = {
        "loop": has(two & (tool == 0) & (after(argument, 1) == argument) & (after(argument, 2) == argument), 0),
        "after_error": has(inside & (tool == 1) & failed & (after(tool, 1) == 2) & ~after(failed, 1), 0),
        "gapped": has(two & (tool == 4) & ~failed & (after(tool, 2) == 5) & ~after(failed, 2), 1),
        "prompt": (prompt == 7) & (agent == 1),
        "shape": has(bare, 2),
        "document": has(document == 13, 2),
        "claim": claim & (agent == 0) & (rng.random(n) < 2),
    }
    chance = 0.12 + 0.12 * (task % 2) + 0.015 * (k - 3)
    for name, having in planted.items():
        chance = chance + having * effect * (0.5 if name == "prompt" else 1.0)
    chance = np.clip(chance, 0.02, 0.95)
    outcome = rng.random(n) < chance
    session = np.cumsum(rng.random(n) < 0.7)
    began = START_NS + np.sort(rng.integers(0, 20 * DAY_NS, int(session[-1]) + 1))[session]
    began = began + (np.arange(n) - np.searchsorted(session, session)) * 600 * 10**9
    con.execute("SET preserve_insertion_order = false")
    for name, table in TABLES.items():
        columns = ", ".join(f'"{field.name}" {sql_type(field.type)}' for field in table.schema)
        con.execute(f"CREATE TABLE {name} ({columns})")
    con.register("planned", pa.table({
        "i": np.arange(n), "agent": agent, "task": task, "k": k, "session": session, "start_ns": began,
        "prompt": prompt, "claim": claim, "failed": outcome, "judged": rng.random(n) < 0.85,
        "user_no": rng.integers(0, max(10, n // 5), n),
    }))  # fmt: skip
    con.register("called", pa.table({
        "i": who, "place": np.arange(total) - first[who], "tool": tool, "failed": failed, "argument": argument,
        "bare": bare, "document": document,
    }))  # fmt: skip
    for statement in (Path(__file__).parent / "mining.sql").read_text().split(";\n"):
        if statement.strip():
            con.execute(statement)
    con.unregister("planned")
    con.unregister("called")
    return Truth(chance=chance, stratum=task * 100 + k, planted=planted)


def mine(path: Path) -> Any:
    """As a night does it: the lake is attached read-only, and what mining makes is temporary."""
    from tracemill.mining import findings

    con = duckdb.connect(config={"threads": 2})
    con.execute(f"ATTACH '{path}' AS lake (READ_ONLY)")
    con.execute("USE lake")
    return findings.find(con, night_id="bench", now_ns=START_NS + 30 * DAY_NS, days=None), con


def judge(path: Path, truth: Truth) -> tuple[int, int, int, list[str]]:
    """Confirmed findings, false ones among them, planted patterns found, and the false ones' words."""
    from tracemill.mining.patterns import graph, items, journeys

    found, con = mine(path)
    confirmed = {row["finding_id"]: row for row in found.findings.to_pylist() if row["status"] == "confirmed"}
    if not confirmed:
        return 0, 0, 0, []
    read = journeys.read(con)
    edges = graph.edges(read)
    had = items.collect(read, edges, graph.follows(read, edges)[1], at_least=5)
    # Trajectory ids sort like their numbers, so places are numbers among the learn pool.
    ids = con.execute("SELECT trajectory_id FROM mined_episodes ORDER BY u").fetchall()
    number = np.array([int(one[0][1:]) for one in ids])
    false, seen, told = 0, set(), []
    for item in range(len(had)):
        agent, kind, pattern = had.describe(item)
        row = confirmed.get(items.finding_id(agent, kind, pattern))
        if row is None:
            continue
        having = np.zeros(len(truth.chance), dtype=bool)
        having[number[had.members(item)]] = True
        if true_lift(having, number, truth) < 1.05:
            false += 1
            told.append(row["what"])
        for name, planted in truth.planted.items():
            both = (having & planted)[number].sum() / max(1, (having | planted)[number].sum())
            if both >= 0.5:
                seen.add(name)
    return len(confirmed), false, len(seen), told


def true_lift(having: np.ndarray[Any, Any], number: np.ndarray[Any, Any], truth: Truth) -> float:
    """How many times as likely those that have it fail as comparable ones: of probabilities, without chance."""
    stratum, chance, mine_ = truth.stratum[number], truth.chance[number], having[number]
    strata, place = np.unique(stratum, return_inverse=True)
    n1 = np.bincount(place[mine_], minlength=len(strata))
    n0 = np.bincount(place[~mine_], minlength=len(strata))
    with_ = np.bincount(place[mine_], weights=chance[mine_], minlength=len(strata))
    without = np.bincount(place[~mine_], weights=chance[~mine_], minlength=len(strata)) / np.maximum(n0, 1)
    usable = (n1 > 0) & (n0 > 0)
    return float(with_[usable].sum() / max(1e-9, (n1 * without)[usable].sum()))


def seeds(n_seeds: int, n: int, folder: Path) -> dict[str, Any]:
    """Many small logs with patterns, and as many of noise."""
    confirmed = false = planted = possible = quiet = 0
    shares: list[float] = []
    for seed in range(n_seeds):
        for effect in (0.3, 0.0):
            path = folder / f"{seed}-{effect}.duckdb"
            with duckdb.connect(str(path)) as con:
                truth = generate(con, n, seed=seed, effect=effect)
            if effect:
                total, wrong, seen, told = judge(path, truth)
                confirmed, false, planted = confirmed + total, false + wrong, planted + seen
                possible += len(truth.planted)
                shares.append(wrong / max(1, total))
                print(f"seed {seed}: {total} confirmed, {wrong} false, {seen} of {len(truth.planted)} planted {told}")
            else:
                found, _ = mine(path)
                loud = [row["what"] for row in found.findings.to_pylist() if row["status"] == "confirmed"]
                quiet += not loud
                if loud:
                    print(f"seed {seed}: noise taken for {loud}")
            path.unlink()
    return {
        "false_findings_rate": round(float(np.mean(shares)), 4),
        "false_findings": f"{false} of {confirmed}",
        "planted_found_rate": round(planted / max(1, possible), 4),
        "quiet_noise_rate": round(quiet / n_seeds, 4),
        "seeds": n_seeds,
        "seed_trajectories": n,
    }


def timed(path: Path) -> dict[str, Any]:
    """One run in this process: wall, CPU and peak memory of mining alone."""
    began, cpu = time.perf_counter(), time.process_time()
    found, _ = mine(path)
    return {
        "seconds": round(time.perf_counter() - began, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "episodes": found.episodes,
        "steps": found.steps,
        "findings": [f"{row['status']}: {row['what']}" for row in found.findings.to_pylist()],
    }


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--trajectories", type=int)
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--seed-trajectories", type=int, default=20_000)
    parser.add_argument("--timed", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.timed:
        print(json.dumps(timed(given.timed)))
        return
    n = given.trajectories or (20_000 if given.quick else 1_000_000)
    n_seeds = given.seeds if given.seeds is not None else (3 if given.quick else 50)
    print(f"{platform.machine()}, {platform.python_version()}, duckdb {duckdb.__version__}, 2 threads")
    with tempfile.TemporaryDirectory(prefix="tracemill-mining-") as name:
        folder = Path(name)
        path = folder / "big.duckdb"
        with duckdb.connect(str(path)) as con:
            generate(con, n, seed=0, effect=0.3)
        # A process of its own: the generator's memory is not mining's.
        run = [sys.executable, __file__, "--timed", str(path)]
        result = json.loads(subprocess.run(run, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        path.unlink()
        print("\n".join(result.pop("findings")))
        result |= seeds(n_seeds, given.seed_trajectories, folder) if n_seeds else {}
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1:])
