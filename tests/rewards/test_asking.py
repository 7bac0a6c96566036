"""Probabilities that draw labels: positive, at most one, as many as were wanted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill.rewards.asking import FLOOR, propensities


@given(st.lists(st.floats(0, 100), min_size=1, max_size=60), st.integers(1, 80))
def test_everyone_may_be_drawn_and_as_many_as_wanted_are(worth: list[float], n: int) -> None:
    chance = propensities(np.array(worth), n)
    assert (chance > 0).all()
    assert (chance <= 1).all()
    assert chance.sum() == pytest.approx(min(n, len(worth)))
    assert (chance >= min(1.0, FLOOR * n / len(worth)) - 1e-9).all()
    order = np.argsort(worth, kind="stable")
    assert (np.diff(chance[order]) >= -1e-9).all(), "what is worth more is never drawn less"


def test_nothing_to_ask_is_no_error() -> None:
    assert propensities(np.zeros(0), 5).tolist() == []
