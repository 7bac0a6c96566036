"""What agreement with labels means: against brute force, and on scores whose calibration is known."""

from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemill import agreement

_ROWS = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.9, 1.0]), st.sampled_from([0.0, 1.0])), max_size=40)


def _split(rows: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [score for score, _ in rows], [label for _, label in rows]


@given(_ROWS)
def test_auc_is_the_share_of_pairs_in_order(rows: list[tuple[float, float]]) -> None:
    scores, labels = _split(rows)
    pairs = [
        1.0 if good > bad else 0.5 if good == bad else 0.0
        for good, one in rows
        for bad, other in rows
        if one == 1.0 and other == 0.0
    ]
    found = agreement.auc(scores, labels)
    assert found == (pytest.approx(sum(pairs) / len(pairs)) if pairs else None)
    within = agreement.pairwise(scores, labels, ["g"] * len(rows))
    assert (within.n, within.accuracy) == (len(pairs), found if found is None else pytest.approx(found))


@given(_ROWS)
def test_average_precision_is_the_sum_over_thresholds(rows: list[tuple[float, float]]) -> None:
    scores, labels = _split(rows)
    found = agreement.pr_auc(scores, labels)
    if len(set(labels)) < 2:
        assert found is None
        return
    area, before = 0.0, 0.0
    for cut in sorted(set(scores), reverse=True):
        chosen = [label for score, label in rows if score >= cut]
        recall = sum(chosen) / sum(labels)
        area += (recall - before) * sum(chosen) / len(chosen)
        before = recall
    assert found == pytest.approx(area)


def test_pairs_are_counted_inside_groups_only() -> None:
    found = agreement.pairwise([0.9, 0.1, 0.2, 0.8], [1, 0, 1, 0], ["a", "a", "b", "b"])
    assert (found.n, found.accuracy) == (2, 0.5)
    assert agreement.pairwise([0.9, 0.1], [1, 0], ["a", "b"]).accuracy is None


@given(_ROWS, st.integers(1, 12))
def test_bins_hold_everything_once_and_rise(rows: list[tuple[float, float]], bins: int) -> None:
    scores, labels = _split(rows)
    found = agreement.reliability(scores, labels, bins=bins)
    assert sum(one.n for one in found) == len(rows)
    assert len(found) <= bins
    assert [one.said for one in found] == sorted(one.said for one in found)
    assert sum(one.n * one.said for one in found) == pytest.approx(sum(scores))
    assert sum(one.n * one.found for one in found) == pytest.approx(sum(labels))


def test_a_calibrated_score_has_no_calibration_error_and_an_overconfident_one_has() -> None:
    rng = np.random.default_rng(0)
    errors, slopes = [], []
    for _ in range(20):
        truth = rng.uniform(0.05, 0.95, 1500)
        labels = (rng.uniform(size=1500) < truth).astype(float)
        errors.append(agreement.ece(truth, labels))
        sure = agreement.logistic(3 * agreement.logit(truth))
        assert agreement.ece(sure, labels) > 0.1
        slopes.append(agreement.calibration_slope(sure, labels))
    assert np.mean(errors) < 0.02, "chance alone is not counted as an error"
    assert np.mean(slopes) < 0.6


def test_platt_finds_the_scale_that_was_planted_and_weights_count_as_repeats() -> None:
    rng = np.random.default_rng(1)
    scores = rng.uniform(0.05, 0.95, 20_000)
    labels = (rng.uniform(size=20_000) < agreement.logistic(0.5 * agreement.logit(scores) - 1)).astype(float)
    slope, intercept = agreement.platt(scores, labels)
    assert slope == pytest.approx(0.5, abs=0.05)
    assert intercept == pytest.approx(-1, abs=0.05)
    once = agreement.platt([0.2, 0.8, 0.8], [0, 1, 0], weights=[1, 3, 1])
    assert once == pytest.approx(agreement.platt([0.2, 0.8, 0.8, 0.8, 0.8], [0, 1, 1, 1, 0]))
    assert agreement.platt([], []) == (1.0, 0.0)


def test_brier_is_made_of_its_parts() -> None:
    found = agreement.brier([0.0, 0.0, 1.0, 1.0], [0, 1, 1, 1], bins=2)
    assert found is not None
    assert found.value == 0.25
    assert found.value == pytest.approx(found.reliability - found.resolution + found.uncertainty)
    assert agreement.brier([], []) is None


def test_kappa_is_one_for_equals_and_none_where_nothing_is_told_apart() -> None:
    assert agreement.kappa([1, 0, 1], [1, 0, 1]) == 1
    assert agreement.kappa([1, 1], [1, 1]) is None
    assert agreement.kappa([1, 0, 1, 0], [1, 1, 0, 0]) == 0
    # 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: the worked example of Cohen's kappa
    one, other = [1] * 25 + [0] * 25, [1] * 20 + [0] * 5 + [1] * 10 + [0] * 15
    assert agreement.kappa(one, other) == pytest.approx(0.4)


@settings(max_examples=30)
@given(st.lists(st.integers(0, 50), min_size=4, max_size=4))
def test_nothing_drifts_from_itself(counts: list[int]) -> None:
    found = agreement.psi(counts, counts)
    assert found == (pytest.approx(0) if sum(counts) else None)
    assert agreement.psi([0] * 4, counts) is None


def test_what_moved_has_drifted() -> None:
    assert agreement.psi([50, 50], [48, 52]) < 0.1
    assert agreement.psi([50, 50], [10, 90]) > 0.25


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.2, 0.6, 1.0]), st.booleans(), st.integers(1, 4)), max_size=25))
def test_what_weighs_twice_is_there_twice(rows: list[tuple[float, bool, int]]) -> None:
    scores, labels, weights = ([float(row[at]) for row in rows] for at in range(3))
    often = [row for row in rows for _ in range(row[2])]
    many, told, groups = [row[0] for row in often], [float(row[1]) for row in often], ["g"] * len(rows)
    for metric in (agreement.auc, agreement.pr_auc, agreement.kappa, agreement.calibration_slope):
        found, expected = metric(scores, labels, weights), metric(many, told)
        assert found == (None if expected is None else pytest.approx(expected, abs=1e-6)), metric
    # In one bin, so that nothing hangs on where bins end.
    one, other = agreement.brier(scores, labels, weights, bins=1), agreement.brier(many, told, bins=1)
    assert one is other is None or astuple(one) == pytest.approx(astuple(other))
    pairs = agreement.pairwise(scores, labels, groups, weights).accuracy
    alone = agreement.auc(many, told)
    assert pairs == (None if alone is None else pytest.approx(alone))


def test_labels_that_weigh_little_prove_no_miscalibration() -> None:
    scores, labels = [0.5] * 60, [1.0] * 30 + [0.0] * 20 + [1.0] * 10
    heavy = [1.0] * 4 + [0.01] * 56
    assert agreement.ece(scores, [1.0] * 60, [1.0] * 60) == pytest.approx(0.5)
    assert agreement.ece(scores, labels, heavy) < agreement.ece(scores, [1.0] * 60, heavy)
    (only,) = agreement.reliability(scores, labels, heavy)
    assert (only.n, only.weight) == (60, pytest.approx(4.56))
    assert 4 < only.effective < 6
