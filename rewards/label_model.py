"""The label model: what several weak judges together say of a trajectory, where nobody knows the truth.

Dawid and Skene (1979) over families of judges, anchored: judges of one family err alike and have one vote; each family
has a table of how often it says what of good and of bad episodes, with a prior that it is mildly right; episodes
whose truth is known are clamped to it. What comes out is calibrated on labels that were held out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tracemill.agreement import Floats, auc, logistic, logit, platt

BLOCKS = 10
LEVELS = 5
_PRIOR = 10 * np.array([0.05, 0.10, 0.20, 0.30, 0.35])
"""Ten imagined good episodes: what a family that is mildly right says of them, from lowest to highest."""
_FEW, _FEW_OF_A_KIND = 30, 5
_UNLABELLED = 1000.0
_MUTE = 10
"""So many votes, all alike, and a family tells nothing apart."""
_PER_LABEL = 20.0
"""However many episodes nobody labelled, together they count as so many, and so many more for each labelled one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Votes:
    """One row an episode, one column a family; NaN where it did not vote or nobody knows."""

    families: tuple[str, ...]
    votes: Floats
    truth: Floats
    """What is known: people, environments, executed verifiers."""
    people: npt.NDArray[np.bool_]
    """Where it is a person who says so."""
    weight: Floats
    """Of a label: one over the probability that it was asked for, 1 where that is unknown."""
    influence: Floats
    """Of a label: below 1 where it is one of a user's many."""
    block: npt.NDArray[np.int64]
    """Near-duplicates share one of BLOCKS; what is held out is held out by block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What the label model makes of votes, episode by episode, and what it rests on."""

    value: Floats
    """Calibrated probability that the episode went well; NaN where it is refused."""
    std: Floats
    """Standard deviation of what is believed of the episode: of the fit, and of how few labels stand behind it."""
    held_out: Floats
    """The value of an episode with a label, from a fit and a calibration that did not see its block."""
    reason: tuple[str, ...]
    """Why a value is refused; empty where it is not. One per row of the distinct reasons in `refused`."""
    refused: npt.NDArray[np.int64]
    """Place in `reason`, -1 where nothing is refused."""
    n_labels: int
    against: str
    """people or truths: which labels calibrated it."""
    auc: float | None
    without: dict[str, float]
    """AUC on the labels without that family."""
    accuracy: dict[str, tuple[float, float]]
    """By family: how often it leans to good where the episode was good, and to bad where it was bad."""


@dataclass(frozen=True, slots=True)
class _Fit:
    prior: float
    tables: Floats  # family, class, level: log-probabilities
    posterior: Floats  # by pattern


@dataclass(frozen=True, slots=True)
class _Patterns:
    """Rows that vote alike are one; counts by pattern and block."""

    levels: npt.NDArray[np.int64]
    place: npt.NDArray[np.int64]
    open: Floats
    good: Floats
    bad: Floats


def judge(votes: Votes, *, epsilon: float = 0.2) -> Judged:
    """Values of all episodes with votes, refused where fewer than two families voted or one alone decides.

    A family decides alone where AUC on the labels falls by more than `epsilon` without it; that is asked with 30 labels
    and 5 of each kind. One that says the same of everything is not heard: without labels, whoever agreed with it would
    be right.
    """
    votes = replace(votes, votes=_telling(votes.votes))
    patterns = _patterns(votes)
    full = _fit(patterns, patterns.open.sum(1), patterns.good.sum(1), patterns.bad.sum(1))
    oracle, against = _oracle(votes)
    raw = np.full(len(votes.truth), np.nan)
    for fold in range(0, BLOCKS, 2):
        mine = (votes.block // 2 == fold // 2) & oracle
        if not mine.any():
            continue
        rest = [b for b in range(BLOCKS) if b // 2 != fold // 2]
        part = _fit(
            patterns, patterns.open[:, rest].sum(1), patterns.good[:, rest].sum(1), patterns.bad[:, rest].sum(1), full
        )
        raw[mine] = part.posterior[patterns.place[mine]]
    enough = _enough(votes.truth[oracle])
    slope, intercept = _calibrated(raw, votes, oracle) if enough else (1.0, 0.0)
    value = _apply(full.posterior, slope, intercept)
    held_out = np.full(len(raw), np.nan)
    for fold in range(BLOCKS // 2):
        mine = oracle & (votes.block // 2 == fold)
        other = oracle & (votes.block // 2 != fold)
        scale = _calibrated(raw, votes, other) if _enough(votes.truth[other]) else (1.0, 0.0)
        held_out[mine] = _apply(raw[mine], *scale)
    std = _std(patterns, full, value, raw, held_out, votes, oracle if enough else np.zeros_like(oracle))
    reasons, refused, area, without = _refusals(votes, patterns, full, oracle, enough=enough, epsilon=epsilon)
    return Judged(
        value=np.where(refused >= 0, np.nan, value[patterns.place]),
        std=std[patterns.place],
        held_out=held_out,
        reason=tuple(reasons),
        refused=refused,
        n_labels=int(oracle.sum()),
        against=against,
        auc=area,
        without=without,
        accuracy=_accuracy(votes.families, full),
    )


def _levels(votes: Floats) -> npt.NDArray[np.int64]:
    """The level of each vote, -1 where there is none."""
    known = ~np.isnan(votes)
    return np.where(known, np.minimum(LEVELS - 1, (np.where(known, votes, 0.0) * LEVELS).astype(np.int64)), -1)


def _telling(votes: Floats) -> Floats:
    levels = _levels(votes)
    known = levels >= 0
    alike = levels.max(0, initial=-1) == np.where(known, levels, LEVELS).min(0, initial=LEVELS)
    return np.where(alike & (known.sum(0) >= _MUTE), np.nan, votes)


def _patterns(votes: Votes) -> _Patterns:
    levels = _levels(votes.votes)
    codes = np.zeros(len(levels), dtype=np.int64)
    for column in range(levels.shape[1]):
        codes = codes * (LEVELS + 1) + levels[:, column] + 1
        if column % 16 == 15:  # before the codes outgrow 64 bits
            codes = np.unique(codes, return_inverse=True)[1].astype(np.int64)
    _, first, place = np.unique(codes, return_index=True, return_inverse=True)
    size = (len(first), BLOCKS)
    sums = np.zeros((3, *size))
    is_open = np.isnan(votes.truth)
    truth = np.where(is_open, 0.0, votes.truth)
    taught = np.where(is_open, 0.0, votes.influence)
    for table, mass in zip(sums, (is_open.astype(float), truth * taught, (1 - truth) * taught), strict=True):
        np.add.at(table, (place, votes.block), mass)
    return _Patterns(levels=levels[first], place=place, open=sums[0], good=sums[1], bad=sums[2])


def _fit(patterns: _Patterns, n_open: Floats, good: Floats, bad: Floats, start: _Fit | None = None) -> _Fit:
    """Expectation and maximisation to a standstill, from the priors or from `start`."""
    labelled = float(good.sum() + bad.sum())
    scale = min(1.0, (_UNLABELLED + _PER_LABEL * labelled) / max(1.0, float(n_open.sum())))
    n_open = n_open * scale
    families = patterns.levels.shape[1]
    prior = 0.5 if start is None else start.prior
    tables = _tables(patterns, np.zeros_like(good), np.zeros_like(bad)) if start is None else start.tables
    posterior = _posterior(patterns, prior, tables)
    for _ in range(300 if start is None else 60):
        for_good, for_bad = n_open * posterior + good, n_open * (1 - posterior) + bad
        prior = (float(for_good.sum()) + 2) / (float(for_good.sum() + for_bad.sum()) + 4)
        tables = _tables(patterns, for_good, for_bad) if families else tables
        before, posterior = posterior, _posterior(patterns, prior, tables)
        if float(np.abs(before - posterior).max(initial=0.0)) < 1e-5:
            break
    return _Fit(prior, tables, posterior)


def _tables(patterns: _Patterns, good: Floats, bad: Floats) -> Floats:
    families = patterns.levels.shape[1]
    tables = np.empty((families, 2, LEVELS))
    for family in range(families):
        said = patterns.levels[:, family]
        voted = said >= 0
        for side, mass, prior in ((0, bad, _PRIOR[::-1]), (1, good, _PRIOR)):
            counts = prior + np.bincount(said[voted], weights=mass[voted], minlength=LEVELS)
            tables[family, side] = np.log(counts / counts.sum())
    return tables


def _posterior(patterns: _Patterns, prior: float, tables: Floats, without: int | None = None) -> Floats:
    odds = np.full(len(patterns.levels), float(logit([prior])[0]))
    for family in range(patterns.levels.shape[1]):
        if family != without:
            said = patterns.levels[:, family]
            gap = tables[family, 1] - tables[family, 0]
            odds += np.where(said >= 0, gap[np.maximum(said, 0)], 0.0)
    return logistic(odds)


def _oracle(votes: Votes) -> tuple[npt.NDArray[np.bool_], str]:
    """Which labels calibrate: people's where there are enough, else all that is known."""
    known = ~np.isnan(votes.truth)
    people = known & votes.people
    return (people, "people") if _enough(votes.truth[people]) else (known, "truths")


def _enough(labels: Floats) -> bool:
    good = int((labels >= 0.5).sum())
    return len(labels) >= _FEW and min(good, len(labels) - good) >= _FEW_OF_A_KIND


def _calibrated(raw: Floats, votes: Votes, mask: npt.NDArray[np.bool_]) -> tuple[float, float]:
    weight = votes.weight[mask] * votes.influence[mask]
    slope, intercept = platt(raw[mask], votes.truth[mask], weights=np.minimum(weight / weight.mean(), 10.0))
    return max(0.0, slope), intercept  # judges that are wrong more often than right say nothing, not the opposite


def _apply(raw: Floats, slope: float, intercept: float) -> Floats:
    return logistic(slope * logit(np.clip(raw, 0.02, 0.98)) + intercept)


def _std(
    patterns: _Patterns,
    full: _Fit,
    value: Floats,
    raw: Floats,
    held_out: Floats,
    votes: Votes,
    oracle: npt.NDArray[np.bool_],
) -> Floats:
    """Block jackknife of fit and calibration, and the spread of a coin that came up so for the labels like it."""
    again = np.empty((BLOCKS, len(value)))
    for block in range(BLOCKS):
        rest = [b for b in range(BLOCKS) if b != block]
        part = _fit(
            patterns, patterns.open[:, rest].sum(1), patterns.good[:, rest].sum(1), patterns.bad[:, rest].sum(1), full
        )
        kept = oracle & (votes.block != block)
        scale = _calibrated(raw, votes, kept) if _enough(votes.truth[kept]) else (1.0, 0.0)
        again[block] = _apply(part.posterior, *scale)
    moved = (BLOCKS - 1) / BLOCKS * ((again - again.mean(0)) ** 2).sum(0)
    near = np.sort(held_out[oracle])
    like = np.searchsorted(near, value + 0.1) - np.searchsorted(near, value - 0.1)
    # Judges that agree without being right would be sure of themselves: where no label is like it, it is any coin.
    coin = (like * value + 0.5) / (1 + like)
    result: Floats = np.minimum(0.5, np.sqrt(moved + coin * (1 - coin) / (1 + like)))
    return result


def _refusals(
    votes: Votes,
    patterns: _Patterns,
    full: _Fit,
    oracle: npt.NDArray[np.bool_],
    *,
    enough: bool,
    epsilon: float,
) -> tuple[list[str], npt.NDArray[np.int64], float | None, dict[str, float]]:
    known = patterns.levels >= 0
    several = known.sum(1) >= 2
    reasons: list[str] = []
    refused = np.full(len(known), -1, dtype=np.int64)
    area: float | None = None
    without: dict[str, float] = {}
    mine = oracle & several[patterns.place]
    if enough and _enough(votes.truth[mine]):
        area = auc(full.posterior[patterns.place[mine]], votes.truth[mine])
        for family, name in enumerate(votes.families):
            odds = _posterior(patterns, full.prior, full.tables, family)
            less = auc(odds[patterns.place[mine]], votes.truth[mine])
            if area is None or less is None:
                continue
            without[name] = less
            if area - less > epsilon:
                reasons.append(f"{name} alone decides")
                refused[known[:, family]] = len(reasons) - 1
    for family, name in enumerate(votes.families):
        lonely = known[:, family] & ~several
        if lonely.any():
            reasons.append(f"only one family of judges ({name}) spoke; it takes two")
            refused[lonely] = len(reasons) - 1
    if (mute := ~known.any(1)).any():
        reasons.append("only judges spoke that say the same of everything")
        refused[mute] = len(reasons) - 1
    return reasons, refused[patterns.place], area, without


def _accuracy(families: Sequence[str], fit: _Fit) -> dict[str, tuple[float, float]]:
    share = np.exp(fit.tables)
    middle = LEVELS // 2
    upper = share[:, :, middle + 1 :].sum(2) + share[:, :, middle] / 2
    return {name: (float(upper[k, 1]), float(1 - upper[k, 0])) for k, name in enumerate(families)}
