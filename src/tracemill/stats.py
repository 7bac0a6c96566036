"""Statistics that more than one stage needs: clustered intervals, a betting e-process, a lifetime error budget.

Observations that share a cluster (a task group: near-duplicate inputs) are not independent; here whole clusters are
resampled and bet on, never single cases. Nothing here reads a clock or draws unseeded numbers: same input, same output.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import log, sqrt
from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Weighting = Literal["case", "cluster"]
_NORMAL = NormalDist()

GAMMA_POWER = 1.5
"""Decay of the error budget over a deployment's tests. 1.5 leaves the first test 38 % of the budget and the 365th test
25 times what 1/(t(t+1)) would leave it; see bench/gate.py for what that does to power over a year."""
_GAMMA_SUM = 2.6123753486854883  # zeta(1.5), so that the shares of all tests sum to 1

_BETS = np.linspace(0.05, 0.9, 18)
"""Shares of the largest safe bet that the e-process mixes over; never the whole stake, so that one bad cluster cannot
end a candidate's evidence for good. Mixing found true effects more often than aGRAPA's plug-in bet (capped at 0.5 and
at 0.8) at 40 to 1,000 clusters and 5 to 58 points, and its verdict does not depend on the order of the clusters."""


def wilson(successes: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson score interval of a proportion, (0, 1) where n = 0. Wilson 1927."""
    if n == 0:
        return 0.0, 1.0
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean, the interval that covers the true one at the asked level, and what it rests on."""

    estimate: float
    low: float
    high: float
    n: int
    n_clusters: int


def cluster_order(clusters: Iterable[str], *, salt: str = "") -> list[str]:
    """The distinct clusters in an order that depends on their names alone, never on outcomes or on row order."""

    def rank(name: str) -> bytes:
        return hashlib.sha256(f"{salt}\x1f{name}".encode("utf-8", "surrogatepass")).digest()

    return sorted(set(clusters), key=rank)


def cluster_means(values: Sequence[float], clusters: Sequence[str], *, salt: str = "") -> dict[str, float]:
    """Mean of each cluster, in `cluster_order`."""
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    for value, cluster in zip(values, clusters, strict=True):
        sums[cluster] = sums.get(cluster, 0.0) + value
        counts[cluster] = counts.get(cluster, 0) + 1
    return {name: sums[name] / counts[name] for name in cluster_order(sums, salt=salt)}


def clustered_mean(
    values: Sequence[float],
    clusters: Sequence[str],
    *,
    per: Weighting = "case",
    level: float = 0.95,
    support: tuple[float, float] = (0.0, 1.0),
    resamples: int = 2000,
    seed: int = 0,
) -> Interval | None:
    """Mean with a cluster-bootstrap (BCa) interval; None where there is no value.

    `per="case"` weighs every case alike, `per="cluster"` every cluster. `support` is where values can lie: one cluster
    says nothing about others, so its interval is the whole support, and clusters that all agree get the interval
    that the chance of an unseen disagreeing cluster allows (the rule of three) instead of one of width zero.
    """
    if not values:
        return None
    order = cluster_order(clusters)
    place = {name: index for index, name in enumerate(order)}
    index = np.fromiter((place[name] for name in clusters), dtype=np.int64, count=len(values))
    sums, sizes = np.zeros(len(order)), np.zeros(len(order))
    np.add.at(sums, index, np.asarray(values, dtype=np.float64))
    np.add.at(sizes, index, 1.0)
    if per == "cluster":
        sums, sizes = sums / sizes, np.ones(len(order))
    estimate = float(sums.sum() / sizes.sum())
    low, high = _bca(sums, sizes, estimate, level=level, support=support, resamples=resamples, seed=seed)
    return Interval(estimate=estimate, low=low, high=high, n=len(values), n_clusters=len(order))


def paired_difference(
    candidate: Sequence[float],
    baseline: Sequence[float],
    clusters: Sequence[str],
    *,
    per: Weighting = "case",
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval | None:
    """Mean of candidate minus baseline on the same cases (rewards in [0, 1]), with a clustered interval."""
    differences = [a - b for a, b in zip(candidate, baseline, strict=True)]
    return clustered_mean(
        differences, clusters, per=per, level=level, support=(-1.0, 1.0), resamples=resamples, seed=seed
    )


def _bca(
    sums: Floats,
    sizes: Floats,
    estimate: float,
    *,
    level: float,
    support: tuple[float, float],
    resamples: int,
    seed: int,
) -> tuple[float, float]:
    """BCa limits of a ratio of cluster sums (Efron 1987), with levels widened for few clusters (Hesterberg 2015)."""
    n = len(sums)
    if n == 1:
        return support
    tail = (1 - level) / 2
    unseen = 1 - tail ** (1 / n)  # the largest share of disagreeing clusters that n agreeing ones leave plausible
    floor = estimate - unseen * (estimate - support[0])
    ceiling = estimate + unseen * (support[1] - estimate)
    if float(np.ptp(sums / sizes)) < 1e-12:
        return floor, ceiling
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    step = max(1, 2_000_000 // n)
    for start in range(0, resamples, step):
        draws = rng.multinomial(n, np.full(n, 1 / n), size=min(step, resamples - start))
        means[start : start + len(draws)] = (draws @ sums) / (draws @ sizes)
    # Half of the ties count as below: rewards of 0 and 1 make many resampled means equal the estimate.
    below = float(np.mean(means < estimate) + np.mean(means == estimate) / 2)
    bias = _NORMAL.inv_cdf(min(max(below, 1 / resamples), 1 - 1 / resamples))
    without = (sums.sum() - sums) / (sizes.sum() - sizes)
    pull = without.mean() - without
    acceleration = float((pull**3).sum() / (6 * ((pull**2).sum() ** 1.5) or 1.0))
    from scipy.special import stdtrit

    wide = float(stdtrit(n - 1, tail)) * sqrt(n / (n - 1))

    def limit(z: float) -> float:
        shifted = bias + z
        return float(np.quantile(means, _NORMAL.cdf(bias + shifted / max(1e-6, 1 - acceleration * shifted))))

    return max(support[0], limit(wide)), min(support[1], limit(-wide))


def sign_flip_p(differences: Sequence[float], *, flips: int = 10_000, seed: int = 0) -> float:
    """One-sided p-value that the mean cluster difference is above 0, by flipping signs; exact up to 13 clusters."""
    values = np.asarray(differences, dtype=np.float64)
    n = len(values)
    if n == 0:
        return 1.0
    total = float(values.sum()) - 1e-9
    if 2**n <= flips:
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        return float(np.mean(signs @ values >= total))
    rng = np.random.default_rng(seed)
    hits, step = 0, max(1, 2_000_000 // n)
    for start in range(0, flips, step):
        signs = rng.integers(0, 2, size=(min(step, flips - start), n), dtype=np.int8) * 2 - 1
        hits += int(np.count_nonzero(signs @ values >= total))
    return (hits + 1) / (flips + 1)  # the observed signs are one of the flips, so never 0


def e_process(observations: Sequence[float], *, margin: float = 0.0, earlier: Sequence[float] = ()) -> Floats:
    """Running e-value against H0 "the mean of cluster differences is at most `margin`", after each observation.

    Observations lie in [-1, 1]. Under H0 the path exceeds 1/a with probability at most a, whenever one looks and
    however one decides to go on. `earlier` are observations already bet on: the path then continues that bet, so
    the product of both paths' last values is the e-value of all. Mixture betting, Waudby-Smith and Ramdas 2024.
    """
    stakes = _BETS / (1 + margin)
    weights = np.full(len(stakes), -log(len(stakes)))
    if len(earlier):
        weights = weights + _log_growth(_bounded(earlier), stakes, margin).sum(axis=0)
        weights -= np.logaddexp.reduce(weights)
    growth = np.cumsum(_log_growth(_bounded(observations), stakes, margin), axis=0)
    path: Floats = np.exp(np.logaddexp.reduce(weights + growth, axis=1))
    return path


def e_values(values: Sequence[float], counts: npt.NDArray[np.int64], *, margin: float = 0.0) -> Floats:
    """Last value of `e_process` where `values[k]` was observed `counts[…, k]` times; counts' shape without its last."""
    stakes = _BETS / (1 + margin)
    growth = counts @ _log_growth(_bounded(values), stakes, margin)
    result: Floats = np.exp(np.logaddexp.reduce(growth - log(len(stakes)), axis=-1))
    return result


def _bounded(observations: Sequence[float]) -> Floats:
    array = np.asarray(observations, dtype=np.float64)
    if array.size and (not np.isfinite(array).all() or float(np.abs(array).max()) > 1 + 1e-9):
        raise ValueError("an e-process bets on differences in [-1, 1]; scale rewards to [0, 1] first")
    return np.clip(array, -1.0, 1.0)


def _log_growth(observations: Floats, stakes: Floats, margin: float) -> Floats:
    growth: Floats = np.log1p((observations[:, None] - margin) * stakes[None, :])
    return growth


def minimum_detectable_effect(sd: float, n_clusters: int, *, alpha: float, power: float = 0.8) -> float:
    """The smallest mean cluster difference that an e-process finds at level `alpha` with probability `power`.

    Normal approximation of the log of the best bet: growth u^2/2 and spread u over all clusters, u = effect * sqrt(n)
    / sd. About half again what a fixed-time z-test claims; that is the price of looking every night. 1 where n = 0.
    """
    if n_clusters == 0:
        return 1.0
    z = _NORMAL.inv_cdf(power)
    return min(1.0, sd / sqrt(n_clusters) * (z + sqrt(z * z + 2 * log(1 / alpha))))


def e_lond_level(alpha: float, test: int, rejections: int) -> float:
    """Level of the `test`-th (from 1) test of a deployment after `rejections` rejections; reject where e >= 1/level.

    The expected share of false ones among all rejections stays below `alpha` for ever, whatever the dependence
    between tests: e-LOND, Xu and Ramdas 2024, alpha * gamma_t * (R + 1) with gammas that sum to 1.
    """
    if test < 1 or rejections < 0:
        raise ValueError(f"tests count from 1 and rejections from 0, not {test} and {rejections}")
    return min(1.0, float(alpha * (rejections + 1) / (_GAMMA_SUM * test**GAMMA_POWER)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrected:
    """A mean over everything, of judges' scores corrected by a few labels."""

    corrected: Interval
    labels_only: Interval
    """What the labels alone say of it."""
    judged: float
    """What the judge alone says, for all."""
    power: float
    """How much of the judge is used, from 0 (none of it: it knows nothing) to 1."""


def corrected_mean(
    scores: Sequence[float],
    clusters: Sequence[str],
    labels: Sequence[float | None],
    propensities: Sequence[float | None],
    *,
    level: float = 0.95,
) -> Corrected | None:
    """Mean label of all, unbiased however wrong the judge is: prediction-powered inference with power tuning.

    The interval is for the traffic that these targets were drawn from; for these very targets it is wide.
    Angelopoulos et al. 2023 (PPI++), with labels drawn with unequal probabilities and observations in clusters. One
    row a target: the judge's score, and the label with the probability that it was asked for, where it was. Labels
    without one (somebody volunteered) are not used. None with fewer than three clusters of usable labels.
    """
    given = np.asarray(scores, dtype=np.float64)
    drawn = np.array([0.0 if p is None or y is None else 1 / p for y, p in zip(labels, propensities, strict=True)])
    said = np.array([0.0 if y is None else float(y) for y in labels])
    _, place = np.unique(np.asarray(clusters, dtype=np.str_), return_inverse=True)
    n_labels, n_clusters = int((drawn > 0).sum()), len(set(place[drawn > 0].tolist()))
    if n_clusters < 3:
        return None
    weight = drawn / drawn.sum()
    label_mean, score_mean, seen = float(weight @ said), float(given.mean()), float(weight @ given)
    # How far each cluster moves the estimate: its labels, and per unit of power its judge.
    pull = np.bincount(place, weights=weight * (said - label_mean))
    push = np.bincount(place, weights=(given - score_mean) / len(given) - weight * (given - seen))
    spread = float(push @ push)
    power = min(1.0, max(0.0, -float(pull @ push) / spread)) if spread > 1e-15 else 0.0

    def interval(centre: float, moved: Floats, spent: int) -> Interval:
        from scipy.special import stdtrit

        free = max(1, n_clusters - 1 - spent)
        half = sqrt(float(moved @ moved) * n_clusters / free) * float(stdtrit(free, (1 + level) / 2))
        unseen = 1 - ((1 - level) / 2) ** (1 / n_clusters)
        if half < 1e-9:  # all alike: as wide as an unseen other one allows
            return _interval(centre, centre * (1 - unseen), centre + unseen * (1 - centre), n_labels, n_clusters)
        return _interval(centre, max(0.0, centre - half), min(1.0, centre + half), n_labels, n_clusters)

    centre = min(1.0, max(0.0, label_mean + power * (score_mean - seen)))
    return Corrected(
        corrected=interval(centre, np.add(pull, power * push, dtype=np.float64), 1),
        labels_only=interval(label_mean, np.asarray(pull, dtype=np.float64), 0),
        judged=score_mean,
        power=power,
    )


def _interval(estimate: float, low: float, high: float, n: int, n_clusters: int) -> Interval:
    return Interval(estimate=estimate, low=low, high=high, n=n, n_clusters=n_clusters)
