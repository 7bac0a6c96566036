"""Clusters measured: how fast texts are embedded and clustered, whether clusters are the true intents, whether their
ids stay, and whether trials of one task fall into one task group.

- `docs/s`: distinct tickets (60 to 90 characters) embedded by each embedder, and the rate at which a whole night
  (reading, embedding, centres, assignment, names, trends) puts episodes into clusters, in CPU seconds.
- `ari`: adjusted Rand index of intent clusters against the truth, which the clustering never sees: the queue of the
  demo's tickets (398 wordings, 5 queues) and, where TRACEMILL_DATA is set, the database of intercode's questions
  (10 databases). The number of clusters is found, not given.
- `ids`: a lake that grows by a tenth each night for ten nights, and is clustered anew each night. Of the episodes of
  the night before, how many have kept their cluster's id.
- `groups`: where TRACEMILL_DATA is set, the first messages of tau-bench (50 tasks, 4 trials each, their names hidden)
  through mining.groups: of pairs in one group how many are of one task (precision), of pairs of one task how many are
  in one group (recall); with the names of the tasks, as the logs give them, both; and how many groups have no variance
  in their rewards, so that nothing can be learned from comparing inside them.

    python bench/clusters.py [--quick]

Prints one JSON object last.
"""

import argparse
import json
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from tracemill.mining import embedding, groups
from tracemill.mining.clusters import clustering
from tracemill.mining.minhash import normalise
from tracemill.schema import TABLES

ROOT = Path(__file__).parent.parent
DAY_NS = 86_400 * 10**9
START_DAY = 20_600
KINDS = ("wordllama", "hashing")


def lake() -> duckdb.DuckDBPyConnection:
    con = duckdb.connect()
    for name, table in TABLES.items():
        con.register("empty", table.schema.empty_table())
        con.execute(f"CREATE TABLE {name} AS FROM empty")
        con.unregister("empty")
    return con


def put(con: duckdb.DuckDBPyConnection, name: str, table: pa.Table) -> None:
    keys = " AND ".join(f"{name}.{key} IS NOT DISTINCT FROM incoming.{key}" for key in TABLES[name].key)
    con.register("incoming", table)
    if all(key in table.column_names for key in TABLES[name].key):
        con.execute(f"DELETE FROM {name} USING incoming WHERE {keys}")
    con.execute(f"INSERT INTO {name} BY NAME FROM incoming")
    con.unregister("incoming")


def log(con: duckdb.DuckDBPyConnection, texts: Sequence[str], *, first: int = 0, day: int = 0) -> None:
    """An episode of one call for each text."""
    ids = [f"t{first + i:08d}" for i in range(len(texts))]
    n = len(texts)
    days = pa.array([START_DAY + day] * n, pa.int32()).cast(pa.date32())
    start = pa.array([(START_DAY + day) * DAY_NS] * n, pa.int64())
    put(con, "messages", pa.table({"message_id": [f"m{i}" for i in ids], "role": ["user"] * n, "text": texts}))
    put(con, "transitions", pa.table({
        "trajectory_id": ids, "step": pa.array([0] * n, pa.int32()), "input_ids": [[f"m{i}"] for i in ids],
    }))  # fmt: skip
    put(con, "trajectories", pa.table({
        "trajectory_id": ids, "pool": ["learn"] * n, "agent_name": ["a"] * n, "day": days, "start_ns": start,
    }))  # fmt: skip


def night(con: duckdb.DuckDBPyConnection, kind: Any, name: str = "n") -> clustering.Clustered:
    found = clustering.cluster(con, embedding.choose(kind), night_id=name, now_ns=1)
    put(con, "clusters", found.clusters)
    put(con, "cluster_members", found.members)
    return found


def members(con: duckdb.DuckDBPyConnection) -> dict[str, str]:
    return dict(con.execute("SELECT trajectory_id, cluster_id FROM cluster_members WHERE kind = 'intent'").fetchall())


def rand_index(truth: Sequence[Any], found: Sequence[Any]) -> float:
    """Adjusted for chance: 1 the same partition, 0 no better than dealing at random."""
    a, b = (np.unique(np.array(one, dtype=str), return_inverse=True)[1] for one in (truth, found))
    cells = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(cells, (a, b), 1)

    def pairs(n: Any) -> float:
        return float((n * (n - 1) / 2).sum())

    together, rows, columns = pairs(cells), pairs(cells.sum(1)), pairs(cells.sum(0))
    expected = rows * columns / (len(a) * (len(a) - 1) / 2)
    return (together - expected) / ((rows + columns) / 2 - expected)


def tickets(n: int, seed: int) -> tuple[list[str], list[str]]:
    """Tickets of the demo with the queue that each belongs into."""
    sys.path.insert(0, str(ROOT / "examples/triage_agent"))
    from tickets import wordings

    draw = random.Random(seed)
    every = wordings()
    drawn = [every[i % len(every)] for i in range(n)]
    return [one.ticket(draw) for one in drawn], [one.queue for one in drawn]


def took(work: Callable[[], Any]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def speed(n: int, rounds: int) -> dict[str, dict[str, float]]:
    texts = [f"{text} {i}" for i, text in enumerate(tickets(n, 0)[0])]
    embed: dict[str, list[float]] = {kind: [] for kind in KINDS}
    whole: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for kind in KINDS:
        embedding.choose(kind).embed(texts[:100])  # imports and weights are not counted
    for _ in range(rounds):
        for kind in KINDS:
            embedder = embedding.choose(kind)
            embedder.embed(texts[:1])
            embed[kind].append(n / took(lambda: embedder.embed(texts)))  # noqa: B023
            con = lake()
            log(con, texts)
            whole[kind].append(n / took(lambda: night(con, kind)))  # noqa: B023
    return {
        kind: {
            "embed_docs_s": round(statistics.median(embed[kind])),
            "embed_spread": round(max(embed[kind]) / min(embed[kind]), 2),
            "night_episodes_s": round(statistics.median(whole[kind])),
            "night_spread": round(max(whole[kind]) / min(whole[kind]), 2),
        }
        for kind in KINDS
    }


def truth(data: Path | None) -> dict[str, dict[str, Any]]:
    """ARI and number of clusters, by corpus and embedder."""
    corpora = {"tickets": tickets(1_194, 1)}
    if data is not None:
        rows = [json.loads(line) for line in (data / "intercode-sql/tasks.jsonl").read_text().splitlines()]
        corpora["intercode"] = ([row["query"] for row in rows], [row["db"] for row in rows])
    said: dict[str, dict[str, Any]] = {}
    for name, (texts, labels) in corpora.items():
        for kind in KINDS:
            con = lake()
            log(con, texts)
            night(con, kind)
            found = members(con)
            pairs = [(label, found[f"t{i:08d}"]) for i, label in enumerate(labels) if f"t{i:08d}" in found]
            said.setdefault(name, {"n": len(texts), "true_clusters": len(set(labels))})[kind] = {
                "ari": round(rand_index(*zip(*pairs, strict=True)), 3),
                "clusters": len(set(found.values())),
            }
    return said


def stability(nights: int, seeds: int) -> dict[str, dict[str, float]]:
    """Of the episodes of the night before, the share that kept their cluster's id: the least and the mean."""
    said = {}
    for kind in KINDS:
        kept: list[float] = []
        for seed in range(seeds):
            texts, _ = tickets(4_000, 10 + seed)
            random.Random(seed).shuffle(texts)
            con, at, before = lake(), 0, {}
            for number in range(nights):
                until = int(1_600 * 1.1**number)
                log(con, texts[at:until], first=at, day=number)
                at = until
                night(con, kind, f"n{number}")
                now = members(con)
                if before:
                    kept.append(sum(now[one] == cluster for one, cluster in before.items()) / len(before))
                before = now
        said[kind] = {"mean": round(statistics.mean(kept), 3), "least": round(min(kept), 3)}
    return said


def task_groups(data: Path) -> dict[str, Any]:
    (path,) = (data / "tau-bench/historical_trajectories").glob("gpt-4o-airline.json")
    runs = json.loads(path.read_text())
    tasks = [str(run["task_id"]) for run in runs]
    texts = [next(m["content"] for m in run["traj"] if m["role"] == "user" and m.get("content")) for run in runs]
    said: dict[str, Any] = {"runs": len(runs), "tasks": len(set(tasks)), "texts": len({normalise(t) for t in texts})}
    for name, keys in (("by_text", [None] * len(runs)), ("by_task_key", tasks)):
        rows = pa.table({
            "trajectory_id": [f"t{i:04d}" for i in range(len(runs))],
            "task_key": pa.array(keys, pa.string()), "task_text": texts,
        })  # fmt: skip
        assigned = groups.group_tasks(lake(), rows, key=b"k" * 32, gate_share=0.4, now_ns=1).assigned.to_pylist()
        found = [row["task_group"] for row in sorted(assigned, key=lambda row: row["trajectory_id"])]
        pairs = [(i, j) for i in range(len(runs)) for j in range(i)]
        one_group = [(i, j) for i, j in pairs if found[i] == found[j]]
        one_task = [(i, j) for i, j in pairs if tasks[i] == tasks[j]]
        both = sum(tasks[i] == tasks[j] for i, j in one_group)
        rewards: dict[str, list[float]] = {}
        for group, run in zip(found, runs, strict=True):
            rewards.setdefault(group, []).append(float(run["reward"]))
        several = [one for one in rewards.values() if len(one) > 1]
        said[name] = {
            "groups": len(rewards),
            "largest": max(len(one) for one in rewards.values()),
            "precision": round(both / max(1, len(one_group)), 3),
            "recall": round(both / len(one_task), 3),
            "groups_of_several": len(several),
            "without_variance": sum(len(set(one)) == 1 for one in several),
        }
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller, for a look")
    quick = parser.parse_args().quick
    data = Path(os.environ["TRACEMILL_DATA"]) if os.environ.get("TRACEMILL_DATA") else None
    result: dict[str, Any] = {
        "bench": "clusters",
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}",
        "docs": 4_000 if quick else 40_000,
        "speed": speed(4_000 if quick else 40_000, 1 if quick else 2),
    }
    print(json.dumps(result["speed"], indent=1))
    result["truth"] = truth(data)
    print(json.dumps(result["truth"], indent=1))
    result["ids"] = stability(4 if quick else 10, 1 if quick else 3)
    print(json.dumps(result["ids"], indent=1))
    if data is not None:
        result["groups"] = task_groups(data)
        print(json.dumps(result["groups"], indent=1))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
