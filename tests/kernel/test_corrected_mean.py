"""Prediction-powered means: they cover the truth, whatever the judge and however labels were drawn."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemill.stats import Corrected, corrected_mean


def world(seed: int, *, skill: float, n: int = 1200, budget: int = 90, size: int = 1) -> tuple[Corrected, float]:
    """A biased judge of `skill`, labels drawn more often where it is unsure, and the mean of such worlds."""
    rng = np.random.default_rng(seed)
    hard = np.repeat(rng.uniform(size=n // size), size)
    truth = (rng.uniform(size=n) < np.repeat(0.35 + 0.5 * rng.uniform(size=n // size), size)).astype(float)
    scores = np.clip(skill * truth + (1 - skill) * hard + 0.15, 0, 1)
    chance = np.minimum(1.0, budget * (0.3 / n + 0.7 * (0.1 + hard) / (0.1 + hard).sum()))
    asked = rng.uniform(size=n) < chance
    found = corrected_mean(
        scores.tolist(),
        [f"c{i // size}" for i in range(n)],
        [float(y) if a else None for y, a in zip(truth, asked, strict=True)],
        [float(p) if a else None for p, a in zip(chance, asked, strict=True)],
    )
    assert found is not None
    return found, 0.6


@pytest.mark.parametrize(("skill", "size"), [(0.0, 1), (0.5, 1), (0.9, 1), (0.7, 4)])
def test_the_interval_covers_the_truth_as_often_as_it_says(skill: float, size: int) -> None:
    runs = [world(seed, skill=skill, size=size) for seed in range(300)]
    covered = np.mean([one.corrected.low <= truth <= one.corrected.high for one, truth in runs])
    assert 0.92 <= covered <= 0.99
    assert abs(np.mean([one.corrected.estimate - truth for one, truth in runs])) < 0.012, "unbiased"
    judged = np.mean([one.judged - truth for one, truth in runs])
    assert abs(judged) > 0.03, "the judge alone is not"


def test_a_good_judge_makes_labels_go_further_and_a_bad_one_costs_next_to_nothing() -> None:
    def ratio(skill: float) -> float:
        runs = [world(seed, skill=skill)[0] for seed in range(40)]
        widths = [
            (one.corrected.high - one.corrected.low) / (one.labels_only.high - one.labels_only.low) for one in runs
        ]
        return float(np.mean(widths))

    assert ratio(0.9) < 0.6
    assert ratio(0.0) < 1.05
    assert np.mean([world(seed, skill=0.0)[0].power for seed in range(40)]) < 0.35


def test_labels_that_somebody_volunteered_are_not_used() -> None:
    rows: dict[str, Any] = {
        "scores": [0.5] * 10,
        "clusters": [str(i) for i in range(10)],
        "labels": [1.0, 0.0, 1.0, 0.0, 1.0, *[None] * 5],
    }
    found = corrected_mean(**rows, propensities=[0.5, 0.5, 0.5, 0.5, None, *[None] * 5])
    assert found is not None
    assert (found.corrected.n, found.corrected.estimate, found.power) == (4, 0.5, 0.0)
    assert corrected_mean(**rows, propensities=[0.5, 0.5, *[None] * 8]) is None


def test_labels_that_all_agree_do_not_make_it_certain() -> None:
    found = corrected_mean(
        [0.5] * 100, [str(i) for i in range(100)], [1.0] * 20 + [None] * 80, [0.2] * 20 + [None] * 80
    )
    assert found is not None
    assert found.corrected.high == 1.0
    assert 0.7 < found.corrected.low < 0.9


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans(), st.floats(0.05, 1)), min_size=3, max_size=30))
def test_it_lies_in_its_interval_and_everybody_labelled_leaves_nothing_to_the_judge(
    rows: list[tuple[float, bool, float]],
) -> None:
    scores = [score for score, _, _ in rows]
    labels = [float(good) for _, good, _ in rows]
    names = [str(i) for i in range(len(rows))]
    found = corrected_mean(scores, names, labels, [p for _, _, p in rows])
    assert found is not None
    assert 0 <= found.corrected.low <= found.corrected.estimate <= found.corrected.high <= 1
    census = corrected_mean(scores, names, labels, [1.0] * len(rows))
    assert census is not None
    assert census.corrected.estimate == pytest.approx(np.mean(labels))
