"""Plackett-Luce: how good things are, from several rankings of some of them, with standard errors.

A ranking is drawn best first: each place goes to one of those left with probability proportional to exp(worth). A
normal prior keeps worths finite where all rankings agree. With two things it is Bradley-Terry.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Worth:
    """Of each thing, on the logit scale; 0 is the prior's mean. `error` is of its difference to the mean of all."""

    value: Floats
    error: Floats


def fit(n: int, rankings: Sequence[Sequence[int]], *, spread: float = 1.5) -> Worth:
    """Worths of things 0 … n - 1 that most likely gave these rankings (best first), under a prior N(0, spread²)."""
    worth, precision = np.zeros(n), 1 / spread**2
    for _ in range(100):
        gradient, curvature = _derivatives(worth, rankings)
        step = np.linalg.solve(curvature + np.eye(n) * precision, gradient - worth * precision)
        longest = float(np.abs(step).max(initial=0.0))
        worth = worth + step / max(1.0, longest)
        if longest < 1e-10:
            break
    covariance = np.linalg.inv(_derivatives(worth, rankings)[1] + np.eye(n) * precision)
    centred = np.eye(n) - 1 / n  # a worth has a meaning only beside others
    error = np.sqrt(np.maximum(np.diag(centred @ covariance @ centred.T), 0.0))
    return Worth(value=worth, error=error)


def _derivatives(worth: Floats, rankings: Sequence[Sequence[int]]) -> tuple[Floats, Floats]:
    """Gradient of the log-likelihood, and the negative of its second derivatives."""
    gradient, curvature = np.zeros(len(worth)), np.zeros((len(worth), len(worth)))
    for ranking in rankings:
        for at in range(len(ranking) - 1):
            left = list(ranking[at:])
            share = np.exp(worth[left] - worth[left].max())
            share /= share.sum()
            gradient[ranking[at]] += 1
            gradient[left] -= share
            curvature[np.ix_(left, left)] += np.diag(share) - np.outer(share, share)
    return gradient, curvature
