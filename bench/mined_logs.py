"""Logs to mine with patterns planted in them, and what the generator knows of every trajectory.

Patterns make episodes fail more often, among tools, prompts, services and lengths that only look as if they did,
because they go with harder tasks or longer ways.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from tracemill.schema import TABLES

AGENTS = ("desk", "trip", "shop")
WANTS = ("refund", "parcel", "invoice", "password")
"""What callers want in each task; the generator's SQL names tasks and tools."""
DAY_NS = 86_400 * 10**9
START_NS = 1_790_000_000 * 10**9
SQL_TYPES = {"int64": "BIGINT", "int32": "INTEGER", "uint32": "UINTEGER", "double": "DOUBLE", "float": "FLOAT",
             "bool": "BOOLEAN", "date32[day]": "DATE", "string": "VARCHAR"}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What the generator knows of every trajectory: its chance to fail, and which planted patterns it has."""

    chance: np.ndarray[Any, np.dtype[np.float64]]
    stratum: np.ndarray[Any, np.dtype[np.int64]]
    agent_stratum: np.ndarray[Any, np.dtype[np.int64]]
    """That of clusters: they are compared with the agent's other tasks."""
    planted: dict[str, np.ndarray[Any, np.dtype[np.bool_]]]


def sql_type(dtype: pa.DataType) -> str:
    return sql_type(dtype.value_type) + "[]" if pa.types.is_list(dtype) else SQL_TYPES[str(dtype)]


def generate(con: duckdb.DuckDBPyConnection, n: int, *, seed: int, effect: float, harder: float = 0.12) -> Truth:
    """Fills the lake's tables with `n` trajectories of about 8 steps each; an effect of 0 is noise. Every second task
    fails so much more often."""
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
    want = task * len(WANTS) + rng.integers(0, len(WANTS), n)
    planted = {
        "loop": has(two & (tool == 0) & (after(argument, 1) == argument) & (after(argument, 2) == argument), 0),
        "after_error": has(inside & (tool == 1) & failed & (after(tool, 1) == 2) & ~after(failed, 1), 0),
        "gapped": has(two & (tool == 4) & ~failed & (after(tool, 2) == 5) & ~after(failed, 2), 1),
        "prompt": (prompt == 7) & (agent == 1),
        "shape": has(bare, 2),
        "document": has(document == 13, 2),
        "claim": claim & (agent == 0) & (rng.random(n) < 2),
        "want": want == 1,
    }
    chance = 0.12 + harder * (task % 2) + 0.015 * (k - 3)
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
        "prompt": prompt, "claim": claim, "failed": outcome, "judged": rng.random(n) < 0.85, "want": want,
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
    return Truth(chance=chance, stratum=want * 100 + k, agent_stratum=agent * 100 + k, planted=planted)


def true_lift(
    having: np.ndarray[Any, Any], number: np.ndarray[Any, Any], chances: np.ndarray[Any, Any], of: np.ndarray[Any, Any]
) -> float:
    """How many times as likely those that have it fail as comparable ones: of probabilities, without chance."""
    stratum, chance, mine_ = of[number], chances[number], having[number]
    strata, place = np.unique(stratum, return_inverse=True)
    n1 = np.bincount(place[mine_], minlength=len(strata))
    n0 = np.bincount(place[~mine_], minlength=len(strata))
    with_ = np.bincount(place[mine_], weights=chance[mine_], minlength=len(strata))
    without = np.bincount(place[~mine_], weights=chance[~mine_], minlength=len(strata)) / np.maximum(n0, 1)
    usable = (n1 > 0) & (n0 > 0)
    return float(with_[usable].sum() / max(1e-9, (n1 * without)[usable].sum()))
