"""Confirmation: a candidate is tested once, on later data only, when there is enough of it to tell."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from statistics import NormalDist
from typing import Literal

import numpy as np

from tracemill.mining.patterns.contrast import Whose, holm, test_patterns
from tracemill.mining.patterns.discovering import Bar
from tracemill.mining.patterns.journeys import Bools, Floats, Ints, Small

Status = Literal["candidate", "confirmed", "refuted"]
_NORMAL = NormalDist()
_POWER = 0.9
_KEPT = 0.5
"""An effect is expected to be half of what it was when it was found: what is chosen for its size looks too large."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A pattern that waits for later data."""

    members: Small
    agent: int
    after: int | None
    """Its data begin with sessions that start later."""
    n_with: float
    failures_with: float
    failures_without: float
    repeating: bool = False
    """See Items.repeating."""
    settled: bool = False
    """It is believed already: it is not tested, but explains its episodes to those after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """What later data say. Figures are those of the later data; None where there are too few to tell."""

    status: Status
    q: float | None = None
    lift: float | None = None
    n_with: float | None = None
    n_without: float | None = None
    failures_with: float | None = None
    failures_without: float | None = None


def needed(candidate: Candidate, *, level: float, most: float) -> float:
    """Sessions with the pattern that show half its effect with a chance of 90 %; at most `most`, at least 20."""
    effect = max(1e-6, (candidate.failures_with - candidate.failures_without) * _KEPT)
    p = candidate.failures_without + effect / 2
    z = _NORMAL.inv_cdf(1 - level) + _NORMAL.inv_cdf(_POWER)
    return max(20.0, min(most, float(ceil((z * sqrt(max(p * (1 - p), 0.01)) / effect) ** 2))))


def confirm(
    candidates: Sequence[Candidate], *, stratum_ep: Small, once_ep: Small, failed_ep: Floats, whose: Whose,
    agent_ep: Small, began_ep: Ints, bar: Bar,
) -> list[Confirmation]:  # fmt: skip
    """Tests the candidates one-sided at once (Holm). Each is tested on episodes that none ahead of it explains.

    The order is the caller's: what was believed longer comes first.
    """
    found: list[Confirmation] = [Confirmation(status="candidate") for _ in candidates]
    judged_ep: Bools = failed_ep >= 0
    explained: dict[int, Bools] = {}
    tried: list[int] = []
    p: list[float] = []
    for place, candidate in enumerate(candidates):
        ahead = explained.setdefault(candidate.agent, np.zeros(len(failed_ep), dtype=bool))
        if candidate.settled:
            ahead[candidate.members] = True
            continue
        later = judged_ep & ~ahead & (agent_ep == candidate.agent)
        later &= began_ep > (candidate.after if candidate.after is not None else -1)
        weight = whose.weights(later)
        starts = np.array([0, len(candidate.members)], dtype=np.int64)
        strata = once_ep if candidate.repeating else stratum_ep
        tested = test_patterns(
            starts, candidate.members, stratum_ep=strata, failed_ep=np.maximum(failed_ep, 0.0), weight_ep=weight
        )
        enough = needed(candidate, level=bar.level / max(1, len(candidates)), most=max(20.0, candidate.n_with / 2))
        ahead[candidate.members] = True
        if tested.n_with[0] < enough:
            continue
        tried.append(place)
        p.append(float(tested.p[0]))
        found[place] = Confirmation(
            status="refuted",
            lift=float(tested.lift[0]),
            n_with=float(tested.n_with[0]),
            n_without=float(tested.n_without[0]),
            failures_with=float(tested.failures_with[0]),
            failures_without=float(tested.failures_without[0]),
        )
    for place, adjusted in zip(tried, holm(p), strict=True):
        one = found[place]
        # Later data need not show the lift that was looked for, but half of what is more than chance.
        holds = adjusted <= bar.level and (one.lift or 0.0) >= 1 + (bar.min_lift - 1) / 2
        found[place] = Confirmation(
            status="confirmed" if holds else "refuted",
            q=adjusted,
            lift=one.lift,
            n_with=one.n_with,
            n_without=one.n_without,
            failures_with=one.failures_with,
            failures_without=one.failures_without,
        )
    return found
