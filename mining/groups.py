"""Task groups: near-duplicate inputs together, and each group whole in the learn pool or in the gate pool."""

from collections.abc import Container, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tracemill.ids import keyed_fraction, keyed_id
from tracemill.mining.minhash import N_HASHES, Signatures, neighbours, normalise, signatures
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


def group_tasks(
    tasks: pa.Table, known: pa.Table, declared: pa.Table, *, key: bytes, gate_share: float, now_ns: int
) -> GroupAssignment:
    """Puts each trajectory into a task group and a pool.

    `tasks` has trajectory_id, task_key and task_text. A declared group (of `declared`, rows of schema.TASKS) comes
    first. Otherwise inputs of equal or nearly equal normalised text, and trajectories of one task_key, share a group;
    without a text the task_key, else the trajectory, is the group. `known` are the rows of schema.TASK_GROUPS so far:
    they keep their group and pool for ever, whatever `gate_share` becomes, and an input near two known groups joins
    the older one. Group ids of undeclared groups are keyed and tell nothing of the text.
    """
    groups = _known_groups(known)
    named = {
        row["task_key"]: row["task_group"]
        for row in declared.select(["task_key", "task_group"]).to_pylist()
        if row["task_group"] is not None
    }
    rows = tasks.select(["trajectory_id", "task_key", "task_text"]).to_pylist()
    texts: dict[str, str] = {}  # digest -> normalised text, in order of arrival
    node_of: list[str] = []
    union = _Union()
    declared_nodes: dict[str, str] = {}
    for row in rows:
        node = _node(row, named, key, texts, union, declared_nodes, groups)
        union.find(node)
        node_of.append(node)
    for node in list(union):
        if node in groups:
            union.anchor(node, groups[node][:2])
    fresh = {digest: text for digest, text in texts.items() if digest not in groups}
    table = signatures(list(fresh.values()), key)
    _join_near(union, list(fresh), table, known, key)
    pools = {group: pool for _, group, pool in groups.values()}

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

    assigned = [
        (row["trajectory_id"], group_of(node), pool_of(group_of(node))) for row, node in zip(rows, node_of, strict=True)
    ]
    signature_of = dict(zip(fresh, table, strict=True))
    new = [
        {
            "task_group": group_of(node),
            "pool": pool_of(group_of(node)),
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


def _known_groups(known: pa.Table) -> dict[str, tuple[int, str, str]]:
    """digest -> (first_seen, task_group, pool)."""
    columns = known.select(["digest", "first_seen", "task_group", "pool"]).to_pydict()
    return {
        digest: (first_seen or 0, group, pool)
        for digest, first_seen, group, pool in zip(*columns.values(), strict=True)
    }


def _node(
    row: dict[str, str | None],
    named: dict[str | None, str],
    key: bytes,
    texts: dict[str, str],
    union: _Union,
    declared_nodes: dict[str, str],
    known: Container[str],
) -> str:
    """The digest that stands for a row; a task_key and its first text are joined."""
    task_key = row["task_key"]
    if task_key in named:
        node = keyed_id(key, "declared", named[task_key])
        declared_nodes[node] = named[task_key]
        return node
    task_node = None if task_key is None else keyed_id(key, "task", task_key)
    if task_node is not None and (task_node in known or task_node in union):
        # Attempts at one task are one task, however a simulated user words it; the first wording stands for all, as
        # chains through every attempt's small talk would end in one group of all tasks.
        return task_node
    normalised = normalise(row["task_text"] or "")
    text_node = keyed_id(key, "text", normalised) if normalised else None
    if text_node is not None:
        texts.setdefault(text_node, normalised)
        union.find(text_node)
        if task_node is not None:
            union.join(text_node, task_node)
        return text_node
    return task_node if task_node is not None else keyed_id(key, "trajectory", str(row["trajectory_id"]))


def _join_near(union: _Union, fresh: list[str], table: Signatures, known: pa.Table, key: bytes) -> None:
    """Puts each new text, in order of arrival, to the oldest group that it is alike.

    Known groups are never joined with each other; groups that began in this batch are, where a text nearly equals texts
    of both.
    """
    signed = known.filter(pc.is_valid(known["signature"]))
    signed = signed.filter(pc.equal(pc.list_value_length(signed["signature"]), N_HASHES))
    signed = signed.sort_by([("first_seen", "ascending"), ("digest", "ascending")])
    old = pc.list_flatten(signed["signature"]).to_numpy().reshape(-1, N_HASHES).astype(np.uint32)
    digests = [*signed["digest"].to_pylist(), *fresh]
    anchors = list(
        zip((seen or 0 for seen in signed["first_seen"].to_pylist()), signed["task_group"].to_pylist(), strict=True)
    )
    # A group is named after its first text, so who leads a known group need not be stored.
    leads = [keyed_id(key, "group", digest) == group for digest, (_, group) in zip(digests, anchors, strict=False)]
    for row, others, alike in neighbours(np.vstack([old, table]), len(old)):
        matched = False
        best = union.anchors.get(union.find(digests[row]))
        joins: list[tuple[int, str]] = []
        for other, score in zip(others.tolist(), alike.tolist(), strict=True):
            if score < NEARLY_EQUAL and not (score >= ALIKE and leads[other]):
                continue
            matched = True
            if other < len(old):
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
