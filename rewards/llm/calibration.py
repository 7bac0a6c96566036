"""Raw scores of a judge as probabilities that people would say the same. Nobody is judged by their own labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tracemill import agreement
from tracemill.rewards.folds import Folds

_MANY = 200
"""Labels from which on a curve of any rising shape is learned, not only a logistic one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """One rising curve per fold of users, learned from the labels of all others."""

    curves: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]
    """By fold: raw scores, and what they come to; between them it is linear."""
    salt: int

    @classmethod
    def fit(
        cls,
        raw: Sequence[float],
        labels: Sequence[float],
        owners: Sequence[str],
        *,
        weights: Sequence[float],
        folds: int,
        salt: int,
    ) -> "Calibration":
        x, y, w = (np.asarray(column, dtype=np.float64) for column in (raw, labels, weights))
        fold = Folds(buckets=folds, salt=salt).bucket(owners)
        rest = [fold != at for at in range(folds)]
        return cls(curves=tuple(_curve(x[mine], y[mine], w[mine]) for mine in rest), salt=salt)

    def apply(self, raw: Sequence[float], owners: Sequence[str]) -> list[float]:
        fold = Folds(buckets=len(self.curves), salt=self.salt).bucket(owners)
        return [float(np.interp(one, *self.curves[at])) for one, at in zip(raw, fold.tolist(), strict=True)]

    def said(self, raw: float) -> list[float]:
        """What each curve makes of a raw score."""
        return [float(np.interp(raw, *curve)) for curve in self.curves]

    def to_json(self) -> dict[str, Any]:
        return {"salt": self.salt, "curves": [{"raw": list(x), "value": list(y)} for x, y in self.curves]}

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> "Calibration":
        return cls(curves=tuple((tuple(c["raw"]), tuple(c["value"])) for c in told["curves"]), salt=told["salt"])


def _curve(
    x: agreement.Floats, y: agreement.Floats, w: agreement.Floats
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    w = w * len(w) / max(float(w.sum()), 1e-12)  # together they weigh what so many labels do
    if len(y) < _MANY:
        slope, intercept = agreement.platt(x, y, weights=w)
        at = np.linspace(0, 1, 51)
        # A judge that says the opposite of people is useless, and is not turned round.
        value = agreement.logistic(max(slope, 0.0) * agreement.logit(np.clip(at, 0.02, 0.98)) + intercept)
    else:
        from scipy.optimize import isotonic_regression

        at, where = np.unique(x, return_inverse=True)
        n = np.bincount(where, weights=w)
        mean = np.bincount(where, weights=y * w) / n
        value = np.clip(isotonic_regression(mean, weights=n).x, 1 / len(y), 1 - 1 / len(y))
    return tuple(round(float(one), 6) for one in at), tuple(round(float(one), 6) for one in value)
