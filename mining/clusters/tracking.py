"""Tracking: clusters keep their ids from night to night, and what becomes more or less of them is told."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from tracemill.mining.embedding import Vectors
from tracemill.mining.patterns.contrast import benjamini_hochberg

Trend = Literal["new", "growing", "steady", "shrinking", "gone"]
Counts = npt.NDArray[np.int64]
SAME = 0.8
"""Cosine of centres from which tonight's cluster is an earlier one."""
_RECENT, _BEFORE = 7, 28
"""Days compared: the last week with the four weeks before it; a quarter and the rest of it where there are fewer."""
_Q = 0.05
_RATIO = 1.25


def same(centres: Vectors, known: Vectors) -> list[int | None]:
    """For each centre the place of the known one that it continues, each at most once; None: it is new.

    Together they are as alike as can be (Hungarian method), and none is less alike than SAME.
    """
    if not len(centres) or not len(known):
        return [None] * len(centres)
    from scipy.optimize import linear_sum_assignment

    alike = centres @ known.T
    # What is not alike enough is no match at any price: it must not push a true match aside.
    rows, columns = linear_sum_assignment(np.where(alike >= SAME, alike, 0.0), maximize=True)
    found: list[int | None] = [None] * len(centres)
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        if alike[row, column] >= SAME:
            found[row] = column
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Two stretches of days: numbers of days since the epoch, ends included."""

    before: tuple[int, int]
    recent: tuple[int, int]


def windows(days: npt.NDArray[np.int64]) -> Windows | None:
    """The stretches to compare of logs from these days; None where there is nothing to compare."""
    if not len(days):
        return None
    first, last = int(days.min()), int(days.max())
    recent = min(_RECENT, max(1, (last - first + 1) // 4))
    if last - first < 1:
        return None
    return Windows(
        before=(max(first, last - recent - _BEFORE + 1), last - recent),
        recent=(last - recent + 1, last),
    )


def trends(per_day: Counts, all_days: Counts, there: Windows, first_day: int) -> list[Trend]:
    """What became of each cluster: its share of what there was lately against before.

    `per_day[c, d]` counts what cluster c had on day `first_day + d`, `all_days[d]` everything of that day. Shares are
    compared, so that a busy week makes nothing grow; days that differ more than chance allows make it harder to tell a
    trend (dispersion); the share of false trends among those told is at most 5 % (Benjamini-Hochberg).
    """
    from scipy.stats import binom, norm

    recent = slice(there.recent[0] - first_day, there.recent[1] - first_day + 1)
    before = slice(there.before[0] - first_day, there.before[1] - first_day + 1)
    a, b = per_day[:, recent].sum(axis=1), per_day[:, before].sum(axis=1)
    total_a, total_b = int(all_days[recent].sum()), int(all_days[before].sum())
    if not total_a or not total_b:
        return ["steady"] * len(per_day)
    share = total_a / (total_a + total_b)
    n = a + b
    tail = np.minimum(binom.cdf(a, n, share), binom.sf(a - 1, n, share))
    z = norm.isf(np.clip(tail, 1e-300, 0.5)) / np.sqrt(_dispersion(per_day, all_days, (before, recent)))
    q = benjamini_hochberg(np.minimum(1.0, 2 * norm.sf(z)))
    ratio = (a + 0.5) / total_a / ((b + 0.5) / total_b)
    earlier = per_day[:, : recent.start].sum(axis=1)
    found: list[Trend] = []
    for i in range(len(per_day)):
        told: Trend = "steady"
        if q[i] <= _Q and n[i]:
            if a[i] == 0:
                told = "gone"
            elif earlier[i] == 0:
                told = "new"
            elif ratio[i] >= _RATIO:
                told = "growing"
            elif ratio[i] <= 1 / _RATIO:
                told = "shrinking"
        found.append(told)
    return found


def _dispersion(per_day: Counts, all_days: Counts, stretches: Sequence[slice]) -> npt.NDArray[np.float64]:
    """By cluster: how many times as much its days differ as chance allows, at the rates of the two stretches; never
    below 1."""
    squares, free = np.zeros(len(per_day)), -len(stretches)
    for stretch in stretches:
        days = all_days[stretch]
        inside = per_day[:, stretch][:, days > 0]
        days = days[days > 0]
        free += len(days)
        expected = inside.sum(axis=1, keepdims=True) * days / max(1, int(days.sum()))
        squares += np.divide((inside - expected) ** 2, expected, out=np.zeros_like(expected), where=expected > 0).sum(
            axis=1
        )
    return np.maximum(1.0, squares / max(1, free))
