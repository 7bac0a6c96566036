"""The directly-follows graph of moves: how often one act follows another, what it waits and takes, how well it ends.

Also how far an episode strays from the ways of the successes of its task cluster, and which whole ways there are.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from tracemill.mining.patterns.journeys import Floats, Ints, Journeys, Small
from tracemill.mining.patterns.sequences import distinct, numbered

GRAPH = pa.schema(
    [
        ("agent_name", pa.string()),
        ("task", pa.int32()),
        ("from_act", pa.int32()),
        ("to_act", pa.int32()),
        ("n", pa.int64()),
        ("n_success", pa.int64()),
        ("n_failure", pa.int64()),
        ("wait_s", pa.float64()),
        ("run_s", pa.float64()),
    ]
)
"""`task` numbers task clusters, acts are Journeys.describe's; -1 is the start of an episode, -2 its end. `n` counts
edges, n_success and n_failure distinct episodes. Mean seconds between the two and of the second; NULL where undated."""

VARIANTS = pa.schema(
    [
        ("agent_name", pa.string()),
        ("acts", pa.list_(pa.int32())),
        ("n", pa.int64()),
        ("n_judged", pa.int64()),
        ("n_failed", pa.int64()),
        ("share", pa.float64()),
    ]
)
START, END = -1, -2
_ENOUGH = 30
"""A way is unusual only where so many successes show what is usual."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edges:
    """One value per step of a way, from its start to its end: n moves have n + 1."""

    u: Ints
    source: Ints
    target: Ints
    wait_ns: Ints
    """-1 where not known."""
    run_ns: Ints


def edges(journeys: Journeys) -> Edges:
    """The edges of all moves, in order."""
    moves = journeys.move_st
    u, act = journeys.u_st[moves].astype(np.int64), journeys.act_st[moves].astype(np.int64)
    start, end = journeys.start_st[moves], journeys.end_st[moves]
    first = np.diff(u, prepend=-1) != 0
    last = np.diff(u, append=-1) != 0
    before = np.where(first, START, np.concatenate([[0], act[:-1]]))
    ended = np.concatenate([[-1], end[:-1]])
    known = ~first & (start >= 0) & (ended >= 0)
    run = np.where((start >= 0) & (end >= 0), np.maximum(end - start, 0), -1)
    n_last = int(last.sum())
    blank = np.full(n_last, -1)
    return Edges(
        u=np.concatenate([u, u[last]]),
        source=np.concatenate([before, act[last]]),
        target=np.concatenate([act, np.full(n_last, END)]),
        wait_ns=np.concatenate([np.where(known, np.maximum(start - ended, 0), -1), blank]),
        run_ns=np.concatenate([run, blank]),
    )


def follows(journeys: Journeys, found: Edges) -> tuple[pa.Table, Ints]:
    """The graph as rows of GRAPH, and for every edge the row that it is of."""
    base = 2 * len(journeys.tools) + 2
    key = (journeys.task_ep[found.u].astype(np.int64) * base + found.source + 2) * base + found.target + 2
    codes, row = numbered(key)
    n = np.bincount(row, minlength=len(codes))
    both, target = np.divmod(codes, base)
    task, source = np.divmod(both, base)
    once = distinct(row, found.u.astype(np.int32), n=journeys.n, at_least=1)
    pair_row = np.repeat(once.codes, np.diff(once.starts))
    failed = journeys.failed_ep[once.u]
    agent_of = np.zeros(int(journeys.task_ep.max(initial=-1)) + 1, dtype=np.int64)
    agent_of[journeys.task_ep] = journeys.agent_ep
    columns = [
        pa.array(journeys.agents).take(pa.array(agent_of[task])),
        task.astype(np.int32),
        (source - 2).astype(np.int32),
        (target - 2).astype(np.int32),
        n,
        np.bincount(pair_row[failed == 0], minlength=len(codes)),
        np.bincount(pair_row[failed == 1], minlength=len(codes)),
        _mean_s(row, found.wait_ns, len(codes)),
        _mean_s(row, found.run_ns, len(codes)),
    ]
    return pa.table(dict(zip(GRAPH.names, columns, strict=True))).cast(GRAPH), row


def _mean_s(row: Ints, ns: Ints, n: int) -> pa.Array:
    known = ns >= 0
    counts = np.bincount(row[known], minlength=n)
    sums = np.bincount(row[known], weights=ns[known] / 1e9, minlength=n)
    return pa.array(sums / np.maximum(counts, 1), mask=counts == 0)


def surprise(journeys: Journeys, found: Edges, row: Ints) -> Floats:
    """How unusual each edge is: -log P in the graph of the successes of its episode's task cluster.

    Successes of one half of the sessions judge the other half, so that no episode is usual for its own sake. NaN where
    too few successes are known.
    """
    n_rows = int(row.max(initial=-1)) + 1
    fold_ep = journeys.session_ep % 2
    fold, well = fold_ep[found.u], journeys.failed_ep[found.u] == 0
    place = journeys.task_ep[found.u].astype(np.int64) * (2 * len(journeys.tools) + 2) + found.source + 2
    from_row = numbered(place)[1]
    # An act never seen after another is one of those that the cluster has, and the end.
    n_tasks = int(journeys.task_ep.max(initial=-1)) + 1
    acts = numbered(journeys.task_ep[found.u].astype(np.int64) * (2 * len(journeys.tools) + 2) + found.target + 2)[0]
    alphabet = np.bincount(acts // (2 * len(journeys.tools) + 2), minlength=n_tasks)[journeys.task_ep[found.u]]
    told = np.zeros(len(row))
    enough = np.zeros((2, n_tasks), dtype=bool)
    for half in (0, 1):
        taught = well & (fold == half)
        of_edge = np.bincount(row[taught], minlength=n_rows)[row]
        of_source = np.bincount(from_row[taught], minlength=int(from_row.max(initial=-1)) + 1)[from_row]
        here = fold != half
        told[here] = -np.log((of_edge[here] + 0.5) / (of_source[here] + 0.5 * alphabet[here]))
        teachers = (fold_ep == half) & (journeys.failed_ep == 0)
        enough[1 - half] = np.bincount(journeys.task_ep[teachers], minlength=n_tasks) >= _ENOUGH
    return np.where(enough[fold, journeys.task_ep[found.u]], told, np.nan) if journeys.n else told


def straying(journeys: Journeys, found: Edges, surprises: Floats) -> Floats:
    """How unusual each episode's way is: the mean of what `surprise` says of its edges, NaN where it says nothing."""
    sums = np.bincount(found.u, weights=surprises, minlength=journeys.n)
    sizes = np.bincount(found.u, minlength=journeys.n)
    return np.where(sizes > 0, sums / np.maximum(sizes, 1), np.nan)


def strangest(found: Edges, surprises: Floats, u: Small, *, most: int = 2) -> list[tuple[int, int]]:
    """Where these episodes stray: of the `most` most unusual edges of each the commonest (source, target)."""
    of_these = np.zeros(int(found.u.max(initial=-1)) + 1, dtype=bool)
    of_these[u] = True
    at = np.flatnonzero(of_these[found.u])
    at = at[np.lexsort((at, -surprises[at], found.u[at]))]
    first = np.flatnonzero(np.diff(found.u[at], prepend=-1) != 0)
    at = at[np.arange(len(at)) - np.repeat(first, np.diff(first, append=len(at))) < most]
    pairs, counts = np.unique(np.stack([found.source[at], found.target[at]], axis=1), axis=0, return_counts=True)
    chosen = np.lexsort((np.arange(len(pairs)), -counts))[:most]
    return [(int(source), int(target)) for source, target in pairs[chosen]]


def variants(journeys: Journeys, *, most: int = 20) -> pa.Table:
    """The commonest whole ways of each agent, rows of VARIANTS, most common first."""
    moves = np.flatnonzero(journeys.move_st)
    u = journeys.u_st[moves]
    first = np.flatnonzero(np.diff(u, prepend=-1) != 0)
    place = np.arange(len(u)) - np.repeat(first, np.diff(first, append=len(u)))
    mixed = _mixed(journeys.act_st[moves].astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + place.astype(np.uint64))
    way = np.add.reduceat(mixed, first) if len(first) else mixed
    who = u[first]
    way = way ^ _mixed(journeys.agent_ep[who].astype(np.uint64))
    _, shown, code, n = np.unique(way, return_index=True, return_inverse=True, return_counts=True)
    failed = journeys.failed_ep[who]
    n_judged = np.bincount(code[failed >= 0], minlength=len(n))
    n_failed = np.bincount(code[failed == 1], minlength=len(n))
    of_agent = np.bincount(journeys.agent_ep[who], minlength=len(journeys.agents))
    ends = np.append(first, len(u))[1:]
    act = journeys.act_st[moves]
    taken: dict[int, int] = {}
    rows = []
    for i in np.lexsort((shown, -n)).tolist():
        agent = int(journeys.agent_ep[who[shown[i]]])
        if taken.get(agent, 0) == most:
            continue
        taken[agent] = taken.get(agent, 0) + 1
        rows.append({
            "agent_name": journeys.agents[agent],
            "acts": act[first[shown[i]] : ends[shown[i]]].tolist(),
            "n": int(n[i]),
            "n_judged": int(n_judged[i]),
            "n_failed": int(n_failed[i]),
            "share": float(n[i] / of_agent[agent]),
        })  # fmt: skip
        if len(taken) == len(journeys.agents) and min(taken.values()) == most:
            break
    return pa.Table.from_pylist(rows, schema=VARIANTS)


def _mixed(
    values: np.ndarray[tuple[int, ...], np.dtype[np.uint64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint64]]:
    """Splitmix64: near numbers become far ones."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
