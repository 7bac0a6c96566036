"""Probabilities that draw labels: positive, at most one, as many as were wanted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill.rewards.asking import FLOOR, draw, propensities


@given(st.lists(st.floats(0, 100), min_size=1, max_size=60), st.integers(1, 80))
def test_everyone_may_be_drawn_and_as_many_as_wanted_are(worth: list[float], n: int) -> None:
    chance = propensities(np.array(worth), n)
    assert (chance > 0).all()
    assert (chance <= 1).all()
    assert chance.sum() == pytest.approx(min(n, len(worth)))
    assert (chance >= min(1.0, FLOOR * n / len(worth)) - 1e-9).all()
    order = np.argsort(worth, kind="stable")
    assert (np.diff(chance[order]) >= -1e-9).all(), "what is worth more is never drawn less"


@given(st.lists(st.floats(0, 100), min_size=1, max_size=60), st.integers(1, 80), st.floats(0, 1, exclude_max=True))
def test_as_many_are_drawn_as_were_wanted_and_none_twice(worth: list[float], n: int, start: float) -> None:
    drawn = draw(propensities(np.array(worth), n), start)
    assert len(drawn) == len(set(drawn)) == min(n, len(worth))


def test_each_is_drawn_as_often_as_its_probability_says() -> None:
    chance = propensities(np.array([1.0, 2.0, 3.0, 50.0, 0.0, 1.0]), 2)
    starts = (np.arange(2000) + 0.5) / 2000
    often = np.bincount([place for start in starts for place in draw(chance, float(start))], minlength=6) / 2000
    assert often == pytest.approx(chance, abs=0.002)


def test_nothing_to_ask_is_no_error() -> None:
    assert draw(propensities(np.zeros(0), 5), 0.5) == []
