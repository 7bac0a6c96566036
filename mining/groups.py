"""Task groups: near-duplicate inputs together, and each group whole in the learn pool or in the gate pool."""

from collections.abc import Collection, Container, Iterator
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tracemill.ids import keyed_fraction, keyed_id
from tracemill.mining.lake import batches, table
from tracemill.mining.minhash import N_HASHES, BandFilter, Halves, Signatures, halves, neighbours, normalise, signatures
from tracemill.schema import TASK_GROUPS

ASSIGNED = pa.schema([("trajectory_id", pa.string()), ("task_group", pa.string()), ("pool", pa.string())])
ALIKE = 0.4
"""Estimated Jaccard of words and word pairs with the first text of a group from which a text is a refilling of it.

Low on purpose: a wording that falls apart leaks from one pool into the other, two wordings that fall together only cost
a cluster. At 0.5 short wordings ("My … arrived broken.") fell apart; at 0.4 unrelated short ones still stay apart.
"""
NEARLY_EQUAL = 0.65
"""The same with any text of a group. Higher, as chains of texts that are only alike would end in one group of all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupAssignment:
    """Which group and pool each trajectory belongs to, and the rows that `task_groups` gains."""

    assigned: pa.Table
    new_groups: pa.Table


class _Union:
    """Disjoint sets of digests. Each is represented by what came first and anchored by the oldest known group."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}
        self._order: dict[str, int] = {}
        self.anchors: dict[str, tuple[int, str]] = {}  # representative -> (first_seen, task_group)

    def __contains__(self, node: str) -> bool:
        return node in self._parent

    def __iter__(self) -> Iterator[str]:
        return iter(self._parent)

    def find(self, node: str) -> str:
        self._parent.setdefault(node, node)
        self._order.setdefault(node, len(self._order))
        while self._parent[node] != node:
            self._parent[node] = self._parent[self._parent[node]]
            node = self._parent[node]
        return node

    def order(self, node: str) -> int:
        return self._order[self.find(node)]

    def anchor(self, node: str, known: tuple[int, str]) -> None:
        root = self.find(node)
        self.anchors[root] = min(self.anchors.get(root, known), known)

    def join(self, a: str, b: str) -> None:
        first, second = sorted((self.find(a), self.find(b)), key=self._order.__getitem__)
        if first != second:
            self._parent[second] = first
            if second in self.anchors:
                self.anchor(first, self.anchors.pop(second))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """A trajectory's task with the digests that may stand for it."""

    trajectory_id: str
    declared: str | None
    """The name of its declared group."""
    declared_node: str | None
    task_node: str | None
    text_node: str | None
    normalised: str
    own_node: str


def group_tasks(
    con: duckdb.DuckDBPyConnection, tasks: pa.Table, *, key: bytes, gate_share: float, now_ns: int
) -> GroupAssignment:
    """Puts each trajectory into a task group and a pool.

    `tasks` has trajectory_id, task_key and task_text. A declared group (of `tasks` in the lake) comes first. Otherwise
    inputs of equal or nearly equal normalised text, and trajectories of one task_key, share a group; without a text the
    task_key, else the trajectory, is the group. Groups that the lake has keep their name and pool for ever, whatever
    `gate_share` becomes, and an input near two of them joins the older one. Group ids of undeclared groups are keyed
    and tell nothing of the text. Only known groups that may matter to these tasks are read.
    """
    rows = _tasks(con, tasks, key)
    groups, pools = _known_groups(con, rows, key)
    texts: dict[str, str] = {}  # digest -> normalised text, in order of arrival
    node_of: list[str] = []
    union = _Union()
    declared_nodes: dict[str, str] = {}
    for row in rows:
        node = _node(row, texts, union, declared_nodes, groups)
        union.find(node)
        node_of.append(node)
    for node in list(union):
        if node in groups:
            union.anchor(node, groups[node])
    fresh = {digest: text for digest, text in texts.items() if digest not in groups}
    signed = signatures(list(fresh.values()), key)
    alike = may_be_alike(con, signed)
    pools.update(zip(alike.rows["task_group"].to_pylist(), alike.rows["pool"].to_pylist(), strict=True))
    _join_near(union, list(fresh), halves(signed), alike, key)

    def group_of(node: str) -> str:
        if node in groups:
            return groups[node][1]
        if node in declared_nodes:
            return declared_nodes[node]
        root = union.find(node)
        return union.anchors[root][1] if root in union.anchors else keyed_id(key, "group", root)

    def pool_of(group: str) -> str:
        if group not in pools:
            pools[group] = "gate" if keyed_fraction(key, group) < gate_share else "learn"
        return pools[group]

    named = {node: group_of(node) for node in union}
    assigned = [(row.trajectory_id, named[node], pool_of(named[node])) for row, node in zip(rows, node_of, strict=True)]
    signature_of = dict(zip(fresh, signed, strict=True))
    new = [
        {
            "task_group": named[node],
            "pool": pool_of(named[node]),
            "digest": node,
            "signature": signature_of[node].tolist() if node in signature_of else None,
            "first_seen": now_ns,
        }
        for node in union
        if node not in groups
    ]
    columns = list(zip(*assigned, strict=True)) or [(), (), ()]
    return GroupAssignment(
        assigned=pa.table([pa.array(column, pa.string()) for column in columns], schema=ASSIGNED),
        new_groups=pa.Table.from_pylist(new, schema=TASK_GROUPS),
    )


def _tasks(con: duckdb.DuckDBPyConnection, tasks: pa.Table, key: bytes) -> list[_Task]:
    keys = [task_key for task_key in pc.unique(tasks["task_key"]).to_pylist() if task_key is not None]
    groups = table(con, "declared_groups", {"keys": keys})
    named = dict(zip(groups["task_key"].to_pylist(), groups["task_group"].to_pylist(), strict=True))
    found = []
    for row in tasks.select(["trajectory_id", "task_key", "task_text"]).to_pylist():
        task_key, normalised = row["task_key"], normalise(row["task_text"] or "")
        found.append(
            _Task(
                trajectory_id=row["trajectory_id"],
                declared=(declared := named.get(task_key)),
                declared_node=None if declared is None else keyed_id(key, "declared", declared),
                task_node=None if task_key is None else keyed_id(key, "task", task_key),
                text_node=keyed_id(key, "text", normalised) if normalised else None,
                normalised=normalised,
                own_node=keyed_id(key, "trajectory", str(row["trajectory_id"])),
            )
        )
    return found


def _known_groups(
    con: duckdb.DuckDBPyConnection, rows: Collection[_Task], key: bytes
) -> tuple[dict[str, tuple[int, str]], dict[str, str]]:
    """digest -> (first_seen, task_group) of the inputs that the lake knows, and group -> pool of all they may be in."""
    nodes = {node for row in rows for node in (row.task_node, row.text_node, row.own_node) if node is not None}
    digests = nodes | {row.declared_node for row in rows if row.declared_node is not None}
    names = {keyed_id(key, "group", node) for node in nodes} | {
        row.declared for row in rows if row.declared is not None
    }
    known = _asked(
        con,
        "named_groups",
        asked_digests=pa.table([pa.array(sorted(digests), pa.string())], ["digest"]),
        asked_groups=pa.table([pa.array(sorted(names), pa.string())], ["task_group"]),
    ).to_pylist()
    groups = {row["digest"]: (row["first_seen"] or 0, row["task_group"]) for row in known if row["digest"] in digests}
    return groups, {row["task_group"]: row["pool"] for row in known}


def _node(
    row: _Task, texts: dict[str, str], union: _Union, declared_nodes: dict[str, str], known: Container[str]
) -> str:
    """The digest that stands for a row; a task_key and its first text are joined."""
    if row.declared is not None and row.declared_node is not None:
        declared_nodes[row.declared_node] = row.declared
        return row.declared_node
    if row.task_node is not None and (row.task_node in known or row.task_node in union):
        # Attempts at one task are one task, however a simulated user words it; the first wording stands for all, as
        # chains through every attempt's small talk would end in one group of all tasks.
        return row.task_node
    if row.text_node is not None:
        texts.setdefault(row.text_node, row.normalised)
        union.find(row.text_node)
        if row.task_node is not None:
            union.join(row.text_node, row.task_node)
        return row.text_node
    return row.task_node if row.task_node is not None else row.own_node


@dataclass(frozen=True, slots=True, kw_only=True)
class Alike:
    """Known groups that new texts may belong to, oldest first."""

    rows: pa.Table
    """task_group, pool, digest, first_seen."""
    signed: Halves
    """What is compared of the signature of each."""


def may_be_alike(con: duckdb.DuckDBPyConnection, fresh: Signatures) -> Alike:
    """The known groups that share a band of their signature with one of these.

    All signatures that the lake has are looked at, some thousand at a time; held are those that share a band.
    """
    heads: list[pa.RecordBatch] = []
    signed: list[Halves] = []
    if len(fresh):
        near = BandFilter(halves(fresh))
        for batch in batches(con, "signed_groups", {"size": N_HASHES}):
            known = halves(batch["signature"].flatten().to_numpy().reshape(-1, N_HASHES))
            shared = near.shared(known)
            signed.append(known[shared])
            heads.append(batch.drop_columns(["signature"]).filter(pa.array(shared)))
    rows = pa.Table.from_batches(heads, schema=TASK_GROUPS.remove(TASK_GROUPS.get_field_index("signature")))
    order = pc.sort_indices(rows, [("first_seen", "ascending"), ("digest", "ascending")])
    place = np.empty(len(rows), dtype=np.int64)
    place[order.to_numpy()] = np.arange(len(rows))
    by_age = np.empty((len(rows), N_HASHES), dtype=np.uint16)
    done = 0
    while signed:
        part = signed.pop(0)
        by_age[place[done : done + len(part)]] = part
        done += len(part)
    return Alike(rows=rows.take(order), signed=by_age)


def _asked(con: duckdb.DuckDBPyConnection, name: str, **asked: pa.Table) -> pa.Table:
    """The result of a query that reads these tables."""
    for given, rows in asked.items():
        con.register(given, rows)
    try:
        return table(con, name)
    finally:
        for given in asked:
            con.unregister(given)


def _join_near(union: _Union, fresh: list[str], signed: Halves, alike: Alike, key: bytes) -> None:
    """Puts each new text, in order of arrival, to the oldest group that it is alike.

    Known groups are never joined with each other; groups that began in this batch are, where a text nearly equals texts
    of both.
    """
    known = alike.rows
    digests = [*known["digest"].to_pylist(), *fresh]
    anchors = list(
        zip((seen or 0 for seen in known["first_seen"].to_pylist()), known["task_group"].to_pylist(), strict=True)
    )
    # A group is named after its first text, so who leads a known group need not be stored.
    leads = [keyed_id(key, "group", digest) == group for digest, (_, group) in zip(digests, anchors, strict=False)]
    for row, others, scores in neighbours(alike.signed, signed, at_least=ALIKE):
        matched = False
        best = union.anchors.get(union.find(digests[row]))
        joins: list[tuple[int, str]] = []
        for other, score in zip(others.tolist(), scores.tolist(), strict=True):
            if score < NEARLY_EQUAL and not leads[other]:
                continue
            matched = True
            if other < len(known):
                best = anchors[other] if best is None else min(best, anchors[other])
                continue
            anchored = union.anchors.get(union.find(digests[other]))
            if anchored is not None:
                best = anchored if best is None else min(best, anchored)
            joins.append((0 if score >= NEARLY_EQUAL else 1, digests[other]))
        leads.append(not matched)
        if best is not None:
            union.anchor(digests[row], best)
        open_sets = sorted(
            ((union.order(node), weak, node) for weak, node in joins if union.find(node) not in union.anchors),
        )
        for place, (_, weak, node) in enumerate(open_sets):
            if not weak or (place == 0 and best is None):
                union.join(node, digests[row])
