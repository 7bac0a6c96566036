"""What benchmarks of searches share: knobs that use a budget up, a replay cache in memory, intervals over seeds."""

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import Any

T_975 = (12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120)
"""By degrees of freedom from 1; beyond, the expansion for large ones is exact to three digits."""


def knobs(name: str, calls: int) -> dict[str, Any]:
    """So many steps that the budget ends the search, not the knobs (`nearest` has no more to try)."""
    found: dict[str, dict[str, Any]] = {
        "labeled_few_shot": {"ks": (2, 4, 8), "draws": calls // 125 + 1},
        "random_search": {"sets": calls // 18, "keep": 4},  # ends just within the budget: its last round is what counts
        "nearest": {"ks": (1, 2, 4, 8)},
        "mipro": {"candidates": 8, "trials": calls // 25},
        "gepa": {"metric_calls": 20 * calls},
        "apo": {"rounds": calls // 10},
        "playbook": {"rounds": calls // 10},
    }
    return found[name]


class Rows(dict[str, str]):
    """A replay cache in memory."""

    def get(self, keys: Sequence[str]) -> Mapping[str, str]:  # type: ignore[override]
        return {key: self[key] for key in keys if key in self}

    def note(self, sources: Mapping[str, Collection[str]]) -> None:
        pass

    def put(self, rows: Mapping[str, str], model: str, now_ns: int, sources: Mapping[str, Collection[str]]) -> int:
        for key, text in rows.items():
            self.setdefault(key, text)
        return len(rows)


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean, and its 95 % interval."""
    mean, n = statistics.fmean(values), len(values)
    if n < 2:
        return mean, mean, mean
    t = T_975[n - 2] if n - 2 < len(T_975) else 1.96 + 2.372 / (n - 1) + 2.82 / (n - 1) ** 2
    wide = t * statistics.stdev(values) / math.sqrt(n)
    return mean, mean - wide, mean + wide


def shown(values: Sequence[float]) -> str:
    mean, low, high = (100 * one for one in interval(values))
    return f"{mean:5.1f} ({low:5.1f} to {high:5.1f})"
