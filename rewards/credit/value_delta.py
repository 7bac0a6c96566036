"""Credit by change of value: how much a call moved the expected reward, by a model that never saw its episode.

The value of a state is what came of the episodes of other users that passed through it, on the graph of what agents
did and saw, smoothed from the finest state to the coarsest.
"""

import hashlib
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa

from tracemill.errors import ConfigError
from tracemill.ids import content_id
from tracemill.rewards.code import code
from tracemill.rewards.credit.episodes import Calls, Floats, Ints, credits, judged, numbered


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueDelta:
    """Value after a call less value before it, as generalised advantages of `lam` (0: the one step's change).

    Users (else sessions, else tasks) lie in `folds`; values of a fold's episodes come from the other folds. A state
    seen n times counts n / (n + `shrink`) beside the coarser one that it lies in.
    """

    name: str = "value_delta"
    lam: float = 0.0
    folds: int = 5
    shrink: float = 4.0

    def __post_init__(self) -> None:
        if not 0 <= self.lam <= 1 or self.folds < 2 or self.shrink < 0:
            raise ConfigError(f"credit {self.name!r}: lam lies in [0, 1], folds are 2 or more, shrink is not below 0")

    @property
    def version(self) -> str:
        return content_id(code(__name__), self.lam, self.folds, self.shrink)

    def assign(self, con: duckdb.DuckDBPyConnection) -> pa.Table:
        calls = judged(con, method=self.name, version=self.version)
        if not calls.n:
            return credits(calls, np.zeros(0), method=self.name, version=self.version)
        owners = calls.strings("owner")
        fold = {owner: _fold(owner, self.folds) for owner in set(owners)}
        folds = np.fromiter((fold[owner] for owner in owners), dtype=np.int64, count=calls.n)
        after, begin = self._values(calls, folds)
        before = np.empty_like(after)
        before[1:] = after[:-1]
        before[calls.starts] = begin[calls.starts]
        delta = after - before
        return credits(calls, _smeared(delta, calls, self.lam), method=self.name, version=self.version)

    def _values(self, calls: Calls, folds: Ints) -> tuple[Floats, Floats]:
        """Of the state after each call, and of the beginning of its episode."""
        reward = calls.reward[calls.episode]
        value = np.empty(calls.n)
        begin = np.empty(calls.n)
        levels = [numbered(level) for level in _levels(calls)]
        for fold in range(self.folds):
            train, mine = folds != fold, folds == fold
            if not mine.any():
                continue
            first = np.zeros(calls.n, dtype=bool)
            first[calls.starts] = True
            known = train & first
            prior = float(reward[known].mean()) if known.any() else 0.5
            estimate = np.full(calls.n, prior)
            for depth, level in enumerate(levels):
                size = int(level.max()) + 1
                # An episode counts once for a state, however often it came there.
                _, once = np.unique(np.stack([level[train], calls.episode[train]]), axis=1, return_index=True)
                at = np.flatnonzero(train)[once]
                n = np.bincount(level[at], minlength=size).astype(np.float64)
                total = np.bincount(level[at], weights=reward[at], minlength=size)
                seen = n[level] + self.shrink
                estimate = np.where(
                    seen > 0, (total[level] + self.shrink * estimate) / np.maximum(seen, 1e-12), estimate
                )
                if depth == 0:
                    begin[mine] = estimate[mine]
            value[mine] = estimate[mine]
        return value, begin


def _levels(calls: Calls) -> list[list[object]]:
    """Keys of the state after each call, from the coarsest to the finest."""
    pool, agent, caller = calls.strings("pool"), calls.strings("agent_name"), calls.strings("caller")
    action, seen = calls.strings("action"), calls.strings("seen")
    failed, place = calls.numbers("n_failed"), calls.place
    coarse: list[object] = list(zip(pool, agent, strict=True))
    errors = 0
    middle: list[object] = []
    for at in range(calls.n):
        errors = (0 if place[at] == 0 else errors) + (1 if failed[at] else 0)
        middle.append((coarse[at], caller[at], failed[at] > 0, min(errors, 3)))
    doing: list[object] = [(middle[at], action[at]) for at in range(calls.n)]
    fine: list[object] = []
    for at in range(calls.n):
        last = "" if place[at] == 0 else action[at - 1]
        fine.append((doing[at], seen[at], last))
    task = calls.strings("task_group")
    own: list[object] = [(task[at], fine[at]) if task[at] else at for at in range(calls.n)]
    return [coarse, middle, doing, fine, own]


def _smeared(delta: Floats, calls: Calls, lam: float) -> Floats:
    if lam == 0:
        return delta
    out = delta.copy()
    place = calls.place
    for at in range(calls.n - 2, -1, -1):
        if place[at + 1] != 0:
            out[at] += lam * out[at + 1]
    return out


def _fold(owner: str, folds: int) -> int:
    return int.from_bytes(hashlib.sha256(owner.encode("utf-8", "surrogatepass")).digest()[:8], "big") % folds
