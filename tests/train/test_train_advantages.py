"""Advantages are per rollout and centred per group; groups that teach nothing are left out."""

import pytest

from tracemill.train.advantages import centred


def test_a_rollout_counts_once_however_many_calls_it_made() -> None:
    # one failure of three calls beside one success of one: by rows the baseline would be 0.25
    found = centred([0.0, 0.0, 0.0, 1.0], ["g"] * 4, ["bad", "bad", "bad", "good"])
    assert found.per_row == pytest.approx((-0.5, -0.5, -0.5, 0.5))


def test_advantages_are_not_divided_by_the_spread() -> None:
    found = centred([0.0, 1.0, 0.4, 0.6], ["a", "a", "b", "b"], ["1", "2", "3", "4"])
    assert found.per_row == pytest.approx((-0.5, 0.5, -0.1, 0.1))


def test_flat_groups_and_single_rollouts_are_skipped_and_counted() -> None:
    found = centred([1.0, 1.0, 0.0, 0.0, 1.0], ["flat", "flat", "alone", "used", "used"], ["1", "2", "3", "4", "5"])
    assert found.per_row == (None, None, None, -0.5, 0.5)
    assert (found.groups_used, found.groups_flat) == (1, 2)
