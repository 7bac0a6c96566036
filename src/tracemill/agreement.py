"""How far scores agree with labels: ranking, calibration, raters, drift. Plain numpy; ties and weights are exact.

Labels lie in [0, 1]; where a metric wants two classes, 0.5 and more is the good one. `weights` (above 0; none: all 1)
say how much a label counts. A metric that its input cannot tell is None, never 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Numbers = Sequence[float] | Floats
_EDGE = 1e-6


def _floats(values: Numbers) -> Floats:
    return np.asarray(values, dtype=np.float64)


def _good(labels: Numbers) -> npt.NDArray[np.bool_]:
    return _floats(labels) >= 0.5


def _weights(weights: Numbers | None, n: int) -> Floats:
    return np.ones(n) if weights is None else _floats(weights)


def auc(scores: Numbers, labels: Numbers, weights: Numbers | None = None) -> float | None:
    """Probability that a good one scores above a bad one, ties half; None without both kinds."""
    given, good = _floats(scores), _good(labels)
    if good.all() or not good.any():
        return None
    weight = _weights(weights, len(good))
    _, place = np.unique(given, return_inverse=True)
    goods, bads = np.bincount(place, weights=weight * good), np.bincount(place, weights=weight * ~good)
    below = np.cumsum(bads) - bads / 2
    return float((goods * below).sum() / (goods.sum() * bads.sum()))


def pr_auc(scores: Numbers, labels: Numbers, weights: Numbers | None = None) -> float | None:
    """Average precision (ties in one step); the share of good ones is what a constant reaches. None without both."""
    given, good = _floats(scores), _good(labels)
    if good.all() or not good.any():
        return None
    weight = _weights(weights, len(good))
    levels, place = np.unique(-given, return_inverse=True)
    hits = np.cumsum(np.bincount(place, weights=weight * good, minlength=len(levels)))
    seen = np.cumsum(np.bincount(place, weights=weight, minlength=len(levels)))
    gained = np.diff(hits, prepend=0.0)
    return float((gained * hits / seen).sum() / hits[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Scores of like size: how many, what they said on average, what was found on average."""

    n: int
    said: float
    found: float
    weight: float
    """What they weigh together; `n` where all weigh 1."""
    effective: float
    """So many of equal weight would tell as much."""


def reliability(scores: Numbers, labels: Numbers, weights: Numbers | None = None, *, bins: int = 10) -> tuple[Bin, ...]:
    """Bins of about equal weight in rising order; equal scores are never torn apart."""
    given, found = _floats(scores), _floats(labels)
    if not len(given):
        return ()
    weight = _weights(weights, len(given))
    _, level = np.unique(given, return_inverse=True)
    mass = np.bincount(level, weights=weight)
    middle = np.maximum(0.0, np.cumsum(mass) - (mass + weight.mean()) / 2)
    place = np.minimum(bins - 1, (middle * bins / weight.sum()).astype(np.int64))[level]
    return tuple(
        Bin(
            n=int(mine.sum()),
            said=float(np.average(given[mine], weights=weight[mine])),
            found=float(np.average(found[mine], weights=weight[mine])),
            weight=float(weight[mine].sum()),
            effective=float(weight[mine].sum() ** 2 / (weight[mine] ** 2).sum()),
        )
        for mine in (place == number for number in np.unique(place))
    )


def ece(scores: Numbers, labels: Numbers, weights: Numbers | None = None, *, bins: int = 10) -> float | None:
    """Expected calibration error over bins of equal mass, less what chance alone gives (Kumar et al. 2019).

    The root of the mean squared gap, each bin's square less the variance of its mean; 0 where chance explains it.
    """
    found = reliability(scores, labels, weights, bins=bins)
    if not found:
        return None
    total = sum(one.weight for one in found)
    squares = 0.0
    for one in found:
        gap = (one.said - one.found) ** 2
        chance = one.found * (1 - one.found) / (one.effective - 1) if one.n > 1 else gap
        squares += one.weight / total * (gap - chance)
    return float(max(0.0, squares) ** 0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Brier:
    """Mean squared error of a score as a probability, and what it is made of (Murphy 1973).

    value is about reliability - resolution + uncertainty; the rest is how scores differ within a bin.
    """

    value: float
    reliability: float
    resolution: float
    uncertainty: float


def brier(scores: Numbers, labels: Numbers, weights: Numbers | None = None, *, bins: int = 10) -> Brier | None:
    given, found = _floats(scores), _floats(labels)
    if not len(given):
        return None
    weight = _weights(weights, len(given))
    base, total = float(np.average(found, weights=weight)), float(weight.sum())
    parts = reliability(given, found, weight, bins=bins)
    return Brier(
        value=float(np.average((given - found) ** 2, weights=weight)),
        reliability=sum(one.weight * (one.said - one.found) ** 2 for one in parts) / total,
        resolution=sum(one.weight * (one.found - base) ** 2 for one in parts) / total,
        uncertainty=base * (1 - base),
    )


def logit(values: Numbers) -> Floats:
    inner = np.clip(_floats(values), _EDGE, 1 - _EDGE)
    result: Floats = np.log(inner / (1 - inner))
    return result


def logistic(values: Floats) -> Floats:
    result: Floats = 1 / (1 + np.exp(-np.clip(values, -40, 40)))
    return result


def platt(
    scores: Numbers, labels: Numbers, *, weights: Numbers | None = None, ridge: float = 1.0
) -> tuple[float, float]:
    """(slope, intercept) on the logit scale that make scores probabilities; pulled to (1, 0) by `ridge` labels.

    (1, 0) where there is nothing to learn from. Scores are cut to [0.02, 0.98] first: a sure voter that is
    wrong once would decide the slope alone.
    """
    x = logit(np.clip(_floats(scores), 0.02, 0.98))
    y = _floats(labels)
    w = _weights(weights, len(y))
    slope, intercept = 1.0, 0.0
    for _ in range(50):
        p = logistic(slope * x + intercept)
        gap, curve = w * (y - p), np.maximum(w * p * (1 - p), 1e-9)
        gradient = np.array([(gap * x).sum() - ridge * (slope - 1), gap.sum() - ridge * intercept])
        a, b, c = float((curve * x * x).sum() + ridge), float((curve * x).sum()), float(curve.sum() + ridge)
        step = np.array([c * gradient[0] - b * gradient[1], a * gradient[1] - b * gradient[0]]) / (a * c - b * b)
        longest = float(np.abs(step).max())
        slope, intercept = slope + step[0] / max(1.0, longest), intercept + step[1] / max(1.0, longest)
        if longest < 1e-9:
            break
    return float(slope), float(intercept)


def calibration_slope(scores: Numbers, labels: Numbers, weights: Numbers | None = None) -> float | None:
    """1 where scores are as sure as they may be, below 1 where too sure; None without both kinds of labels."""
    good = _good(labels)
    if good.all() or not good.any():
        return None
    return platt(scores, labels, weights=weights, ridge=1e-3)[0]


def kappa(one: Numbers, other: Numbers, weights: Numbers | None = None) -> float | None:
    """Cohen's kappa of two raters' good or bad; None where both only ever say one and the same."""
    a, b = _good(one), _good(other)
    if not len(a):
        return None
    weight = _weights(weights, len(a))
    agreed, p, q = (float(np.average(one, weights=weight)) for one in (a == b, a, b))
    chance = p * q + (1 - p) * (1 - q)
    return None if chance > 1 - 1e-12 else (agreed - chance) / (1 - chance)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Of pairs in a group whose labels differ: how many, and the share that scores order like labels (ties half)."""

    n: int
    accuracy: float | None


def pairwise(scores: Numbers, labels: Numbers, groups: Sequence[str], weights: Numbers | None = None) -> Pairs:
    """Pairs of good and bad within a group, all groups' pairs together; a pair weighs what its two weigh multiplied."""
    given, good = _floats(scores), _good(labels)
    weight = _weights(weights, len(good))
    members: dict[str, list[int]] = {}
    for place, group in enumerate(groups):
        members.setdefault(group, []).append(place)
    pairs, total, won = 0, 0.0, 0.0
    for places in members.values():
        own, w = good[places], weight[places]
        area = auc(given[places], own.astype(np.float64), w)
        if area is not None:
            pairs += int(own.sum() * (~own).sum())
            mass = float(w[own].sum() * w[~own].sum())
            total += mass
            won += mass * area
    return Pairs(n=pairs, accuracy=won / total if total else None)


def psi(before: Sequence[int], now: Sequence[int]) -> float | None:
    """Population stability index of two histograms; below 0.1 little moved, above 0.25 much. None where one is empty.

    Half a count is added to every bin, so that an empty one is no infinity.
    """
    if sum(before) == 0 or sum(now) == 0:
        return None
    old, new = [n + 0.5 for n in before], [n + 0.5 for n in now]
    shares = [(a / sum(old), b / sum(new)) for a, b in zip(old, new, strict=True)]
    return sum((b - a) * log(b / a) for a, b in shares)
