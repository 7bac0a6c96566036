"""A logistic model that adds up one curve per feature: piecewise linear, monotone where the direction is known.

On the labelled logs at hand it ranks as well as gradient-boosted trees to within 0.02 of AUC (bench/rewards.py), is
fitted by scipy alone, and is plain numbers: what it learned can be read and kept as JSON.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_WIDE, _FINE = (0.02, 0.98), (0.05, 0.25, 0.5, 0.75, 0.95)
_PENALTIES = (3.0, 30.0, 10.0)
"""Of the straight slope, of its bends, and of a value that is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One feature as ramps between its knots: the wide one, then finer ones."""

    name: str
    sign: int
    """1: more is better, -1: more is worse, 0: not known."""
    ramps: tuple[tuple[float, float], ...]

    @property
    def width(self) -> int:
        return len(self.ramps) + 1  # and one column for "not known"

    def columns(self, values: Floats) -> Floats:
        unknown = np.isnan(values)
        known = np.where(unknown, 0.0, values)
        ramps = [np.where(unknown, 0.0, np.clip((known - low) / (high - low), 0.0, 1.0)) for low, high in self.ramps]
        return np.stack([*ramps, unknown.astype(np.float64)], axis=1)


def features(names: Sequence[str], values: Floats, signs: Mapping[str, int]) -> list[Feature]:
    """Knots at the quantiles of what was seen; features that never vary are left out."""
    found = []
    for at, name in enumerate(names):
        known = values[~np.isnan(values[:, at]), at]
        if len(np.unique(known)) < 2:
            continue
        low, high = (float(x) for x in np.quantile(known, _WIDE))
        if low == high:
            low, high = float(known.min()), float(known.max())
        knots = [float(x) for x in np.unique(np.quantile(known, _FINE))]
        fine = [] if len(knots) < 3 else list(pairwise(knots))
        found.append(Feature(name=name, sign=signs.get(name, 0), ramps=((low, high), *fine)))
    return found


def design(chosen: Sequence[Feature], names: Sequence[str], values: Floats) -> Floats:
    """The columns of all features, side by side. A feature that these values lack is not known in any row."""
    place = {name: at for at, name in enumerate(names)}
    nothing = np.full(len(values), np.nan)
    blocks = [one.columns(values[:, place[one.name]] if one.name in place else nothing) for one in chosen]
    return np.concatenate(blocks, axis=1) if blocks else np.zeros((len(values), 0))


def fit(chosen: Sequence[Feature], columns: Floats, labels: Floats, weights: Floats) -> Floats:
    """Intercept and coefficients: least penalised log loss within the known directions. Labels lie in [0, 1]."""
    from scipy.optimize import minimize

    penalty = np.asarray(
        [p for one in chosen for p in (_PENALTIES[0], *[_PENALTIES[1]] * (len(one.ramps) - 1), _PENALTIES[2])]
    )
    bounds: list[tuple[float | None, float | None]] = [(None, None)]
    for one in chosen:
        slope = (0.0 if one.sign > 0 else None, 0.0 if one.sign < 0 else None)
        bounds += [slope] * len(one.ramps) + [(None, None)]
    scale = weights / weights.mean()
    mean = np.average(columns, axis=0, weights=scale)
    centred = columns - mean

    def loss(beta: Floats) -> tuple[float, Floats]:
        z = centred @ beta[1:] + beta[0]
        gap = scale * (1 / (1 + np.exp(-np.clip(z, -50, 50))) - labels)
        value = float((scale * (np.logaddexp(0, z) - labels * z)).sum() + 0.5 * (penalty * beta[1:] ** 2).sum())
        return value, np.concatenate([[gap.sum()], centred.T @ gap + penalty * beta[1:]])

    found = minimize(loss, np.zeros(columns.shape[1] + 1), jac=True, method="L-BFGS-B", bounds=bounds)
    beta: Floats = np.asarray(found.x, dtype=np.float64)
    beta[0] -= float(mean @ beta[1:])
    return beta


def to_json(chosen: Sequence[Feature]) -> list[dict[str, Any]]:
    return [{"name": one.name, "sign": one.sign, "ramps": [list(ramp) for ramp in one.ramps]} for one in chosen]


def from_json(rows: Sequence[Mapping[str, Any]]) -> list[Feature]:
    return [
        Feature(name=row["name"], sign=row["sign"], ramps=tuple((low, high) for low, high in row["ramps"]))
        for row in rows
    ]
