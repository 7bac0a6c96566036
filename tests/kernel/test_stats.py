"""What the kernel's statistics promise: coverage, anytime validity, power, and the same answer every time."""

import random
from math import exp

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemill import stats


def _names(n: int) -> list[str]:
    return [f"g{i}" for i in range(n)]


def test_wilson_of_nothing_is_everything() -> None:
    assert stats.wilson(0, 0) == (0.0, 1.0)
    low, high = stats.wilson(8, 10)
    assert low == pytest.approx(0.4902, abs=1e-3)
    assert high == pytest.approx(0.9433, abs=1e-3)


def test_cluster_order_depends_on_names_alone() -> None:
    names = _names(50)
    shuffled = list(names)
    random.Random(3).shuffle(shuffled)
    assert stats.cluster_order(shuffled + names) == stats.cluster_order(names)
    assert stats.cluster_order(names) != sorted(names)
    assert stats.cluster_order(names, salt="other") != stats.cluster_order(names)


def test_cluster_means_come_in_cluster_order() -> None:
    means = stats.cluster_means([1.0, 0.0, 0.5], ["b", "b", "a"])
    assert means == {"a": 0.5, "b": 0.5}
    assert list(means) == stats.cluster_order(["a", "b"])


def test_no_value_has_no_mean() -> None:
    assert stats.clustered_mean([], []) is None


def test_one_cluster_says_nothing_about_others() -> None:
    interval = stats.clustered_mean([1.0, 1.0, 1.0], ["a"] * 3)
    assert interval is not None
    assert (interval.estimate, interval.low, interval.high) == (1.0, 0.0, 1.0)
    assert (interval.n, interval.n_clusters) == (3, 1)


def test_agreeing_clusters_get_the_rule_of_three_not_width_zero() -> None:
    interval = stats.clustered_mean([1.0] * 60, _names(60))
    assert interval is not None
    assert interval.high == 1.0
    assert interval.low == pytest.approx(0.025 ** (1 / 60))


def test_repeating_cases_inside_clusters_does_not_narrow_the_interval() -> None:
    rng = np.random.default_rng(5)
    values = [float(v) for v in rng.integers(0, 2, 40)]
    once = stats.clustered_mean(values, _names(40))
    often = stats.clustered_mean(values * 5, _names(40) * 5)
    assert once is not None
    assert often is not None
    assert (often.low, often.high) == pytest.approx((once.low, once.high))
    assert often.n == 5 * once.n


def test_weighting_by_case_and_by_cluster_differ_where_sizes_do() -> None:
    values, clusters = [1.0, 1.0, 1.0, 0.0], ["a", "a", "a", "b"]
    by_case = stats.clustered_mean(values, clusters)
    by_cluster = stats.clustered_mean(values, clusters, per="cluster")
    assert by_case is not None
    assert by_cluster is not None
    assert (by_case.estimate, by_cluster.estimate) == (0.75, 0.5)


def test_the_interval_is_the_same_every_time_and_in_every_row_order() -> None:
    rng = np.random.default_rng(6)
    rows = [(float(rng.random()), float(rng.random()), f"g{rng.integers(0, 25)}") for _ in range(120)]
    shuffled = list(rows)
    random.Random(1).shuffle(shuffled)
    first, second = (
        stats.paired_difference([r[0] for r in some], [r[1] for r in some], [r[2] for r in some])
        for some in (rows, shuffled)
    )
    assert first is not None
    assert second is not None
    assert (second.estimate, second.low, second.high) == pytest.approx((first.estimate, first.low, first.high))


@pytest.mark.parametrize(("n", "up", "down"), [(20, 0.1, 0.1), (40, 0.4, 0.1), (100, 0.3, 0.1)])
def test_the_interval_covers_the_true_difference(n: int, up: float, down: float) -> None:
    rng = np.random.default_rng(7)
    rounds, covered = 200, 0
    for seed in range(rounds):
        values = rng.choice([1.0, -1.0, 0.0], p=[up, down, 1 - up - down], size=n)
        interval = stats.clustered_mean(
            [float(v) for v in values], _names(n), support=(-1, 1), resamples=400, seed=seed
        )
        assert interval is not None
        covered += interval.low <= up - down <= interval.high
    assert covered / rounds >= 0.90


def test_sign_flip_is_exact_for_few_and_close_for_many() -> None:
    assert stats.sign_flip_p([]) == 1.0
    assert stats.sign_flip_p([1.0, 1.0, 1.0]) == 1 / 8
    assert stats.sign_flip_p([0.0] * 5) == 1.0
    assert stats.sign_flip_p([1.0] * 20) == pytest.approx(1 / 10_001)
    assert 0.3 < stats.sign_flip_p([1.0, -1.0] * 20) < 0.7


NULLS = [
    ("fair coin", [1.0, -1.0], [0.5, 0.5]),
    ("rare ties", [1.0, 0.0, -1.0], [0.1, 0.8, 0.1]),
    ("skewed: many small gains, a rare large loss", [0.1, -0.9], [0.9, 0.1]),
    ("skewed: many small losses, a rare large gain", [-0.1, 0.9], [0.9, 0.1]),
]


@pytest.mark.parametrize(("values", "chances"), [null[1:] for null in NULLS], ids=[null[0] for null in NULLS])
def test_peeking_after_every_cluster_keeps_the_false_positive_rate(values: list[float], chances: list[float]) -> None:
    rng = np.random.default_rng(11)
    alpha, rounds = 0.05, 1500
    crossed = sum(
        bool(stats.e_process(rng.choice(values, p=chances, size=300).tolist()).max() >= 1 / alpha)
        for _ in range(rounds)
    )
    # alpha is the promise; three standard errors of 1,500 rounds on top of it
    assert crossed / rounds <= alpha + 3 * (alpha * (1 - alpha) / rounds) ** 0.5


def test_a_difference_at_the_margin_is_still_null() -> None:
    rng = np.random.default_rng(12)
    crossed = sum(
        bool(stats.e_process(rng.choice([1.0, -1.0], p=[0.55, 0.45], size=300).tolist(), margin=0.1).max() >= 20)
        for _ in range(1000)
    )
    assert crossed <= 50 + 21


def test_power_is_near_what_the_detectable_effect_says() -> None:
    rng = np.random.default_rng(13)
    n, alpha = 400, 0.02
    effect = stats.minimum_detectable_effect(0.55, n, alpha=alpha)
    spread = (0.55**2 + effect**2) / 2  # chances of +1 and -1 that give this mean and standard deviation
    up, down = spread + effect / 2, spread - effect / 2
    counts = rng.multinomial(n, [up, down, 1 - up - down], size=4000)
    power = float(np.mean(stats.e_values([1.0, -1.0, 0.0], counts) >= 1 / alpha))
    # the mixture pays a little for not knowing the best bet
    assert 0.6 <= power <= 0.85


@given(
    st.lists(st.floats(-1, 1), min_size=1, max_size=40),
    st.lists(st.floats(-1, 1), max_size=40),
    st.floats(-0.2, 0.2),
)
@settings(max_examples=100, deadline=None)
def test_the_e_value_is_order_free_and_continues_over_nights(
    tonight: list[float], before: list[float], margin: float
) -> None:
    whole = stats.e_process(before + tonight, margin=margin)[-1]
    carried = stats.e_process(before, margin=margin)[-1] if before else 1.0
    fresh = stats.e_process(tonight, margin=margin, earlier=before)[-1]
    assert carried * fresh == pytest.approx(whole, rel=1e-6)
    assert stats.e_process((before + tonight)[::-1], margin=margin)[-1] == pytest.approx(whole, rel=1e-6)


@given(st.lists(st.sampled_from([1.0, 0.5, 0.0, -1.0]), min_size=1, max_size=60))
@settings(max_examples=50, deadline=None)
def test_counts_and_paths_agree(observed: list[float]) -> None:
    values = [1.0, 0.5, 0.0, -1.0]
    counts = np.array([observed.count(v) for v in values])
    assert float(stats.e_values(values, counts)) == pytest.approx(stats.e_process(observed)[-1], rel=1e-6)


@given(st.floats(-1, 1), st.floats(-0.5, 0.5))
@settings(deadline=None)
def test_one_observation_never_ends_the_evidence(value: float, margin: float) -> None:
    assert 0 < stats.e_process([value], margin=margin)[0] <= 1 + 0.9 * 2 / (1 + margin)


@pytest.mark.parametrize("value", [1.5, float("nan")])
def test_unscaled_rewards_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="scale rewards"):
        stats.e_process([value])


def test_the_budget_of_all_tests_together_is_alpha() -> None:
    levels = [stats.e_lond_level(0.05, t, 0) for t in range(1, 200_000)]
    assert 0.0497 < sum(levels) < 0.05
    assert levels == sorted(levels, reverse=True)
    assert stats.e_lond_level(0.05, 7, 3) == pytest.approx(4 * levels[6])
    with pytest.raises(ValueError, match="count from 1"):
        stats.e_lond_level(0.05, 0, 0)


def test_the_false_share_of_a_life_of_tests_stays_in_budget() -> None:
    rng = np.random.default_rng(17)
    shares = []
    for _ in range(300):
        rejections = false = 0
        for test in range(1, 61):
            true = rng.random() < 0.2
            e_value = exp(rng.normal(8, 2)) if true else exp(rng.normal(-0.5 * 4, 2))  # mean 1 under the null
            if e_value >= 1 / stats.e_lond_level(0.05, test, rejections):
                rejections += 1
                false += not true
        shares.append(false / max(1, rejections))
    assert float(np.mean(shares)) <= 0.05


def test_the_detectable_effect_shrinks_with_clusters_and_is_one_without() -> None:
    assert stats.minimum_detectable_effect(0.5, 0, alpha=0.05) == 1.0
    few, many = (stats.minimum_detectable_effect(0.5, n, alpha=0.05) for n in (50, 200))
    assert many == pytest.approx(few / 2)
