"""The sealed judge at the gate: it lets pass what it, too, finds better, and stops what only pleases other judges."""

from collections.abc import Sequence

import pytest

from tracemill.promote.sealed import check
from tracemill.records import Completion, Guardrail, Outcome


def outcomes(rewards: Sequence[float | None]) -> list[Outcome]:
    return [
        Outcome(case_id=f"t{i}/0", task_group=f"g{i}", completion=Completion(text="x"), reward=reward, valid=True)
        for i, reward in enumerate(rewards)
    ]


def shares(good: int, n: int = 40, first: int = 0) -> list[float | None]:
    return [float(first <= i < first + good) for i in range(n)]


def rail(
    candidate: Sequence[float | None],
    baseline: Sequence[float | None],
    sealed_candidate: Sequence[float | None],
    sealed_baseline: Sequence[float | None],
) -> Guardrail | None:
    sides = (outcomes(side) for side in (candidate, baseline, sealed_candidate, sealed_baseline))
    return check("by_hand", *sides, max_gap=0.2)


def test_a_gain_that_both_find_passes() -> None:
    found = rail(shares(36), shares(12), shares(34), shares(12))
    assert found is not None
    assert (found.name, found.passed, found.baseline, found.candidate) == ("sealed:by_hand", True, 0.3, 0.85)
    assert "the sealed by_hand finds +55.0 points on 40 cases" in found.detail
    assert "find +60.0 points; the gap is 5.0 (90 % interval" in found.detail


def test_a_gain_that_only_the_judges_of_tuning_find_fails_on_the_gap() -> None:
    found = rail(shares(40), shares(12), shares(13), shares(12))
    assert found is not None
    assert found.passed is False
    assert "worse than production" not in found.detail
    assert "the gap is 67.5" in found.detail
    assert found.detail.endswith("and 20.0 are allowed; it has learned to please its judges")


def test_what_the_sealed_judge_finds_worse_fails_however_small_the_gap() -> None:
    found = rail(shares(20), shares(26), shares(20), shares(32))
    assert found is not None
    assert found.passed is False
    assert "finds -30.0 points on 40 cases; so it is worse than production by at least" in found.detail
    assert "please" not in found.detail


def test_a_gap_on_few_groups_is_no_proof() -> None:
    found = rail([1.0, 1.0], [0.0, 0.0], [1.0, 0.0], [1.0, 0.0])
    assert found is not None
    assert found.passed is True


def test_who_cannot_judge_the_site_says_nothing_and_who_cannot_judge_the_candidate_stops_it() -> None:
    silent: list[float | None] = [None] * 40
    assert rail(shares(30), shares(10), shares(30), silent) is None
    found = rail(shares(30), shares(10), silent, shares(10))
    assert found is not None
    assert found.passed is None
    assert "could judge no answer of the candidate" in found.detail


def test_without_a_reward_that_decides_the_sealed_judge_still_knows_what_is_worse() -> None:
    silent: list[float | None] = [None] * 40
    found = rail(silent, silent, shares(5), shares(35))
    assert found is not None
    assert found.passed is False
    assert "gap" not in found.detail
    assert found.baseline == pytest.approx(0.875)


def test_what_is_hidden_from_the_sealed_judge_does_not_pass_for_what_it_finds_good() -> None:
    seen = shares(12)
    hidden = [None if i >= 30 else reward for i, reward in enumerate(seen)]
    found = rail(shares(14), seen, hidden, seen)
    assert found is not None
    assert found.passed is False
    assert "it can judge 30 answers of the candidate and 40 of production" in found.detail
    few = [None if i >= 37 else reward for i, reward in enumerate(seen)]
    for candidate, production in ((few, seen), (hidden, hidden), (seen, hidden)):
        honest = rail(shares(14), seen, candidate, production)
        assert honest is not None
        assert honest.passed is True
