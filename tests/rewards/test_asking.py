"""Probabilities that draw labels: positive, at most one, as many as were wanted."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill.rewards.asking import AWAITED, FLOOR, draw, propensities, targets


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


def test_what_the_gate_waits_for_is_asked_for_more_often(lake: Any) -> None:
    def at_site(name: str, site: str, **more: Any) -> None:
        lake.trajectory(name, **{"task_group": name, "pool": "gate", **more})
        lake.add("transitions", {"trajectory_id": name, "step": 0, "site_id": site})
        lake.add("transitions", {"trajectory_id": name, "step": 1, "site_id": site})

    def verdict(site: str, said: str, at: int, **more: Any) -> None:
        row = {"verdict_id": f"{site}{at}", "candidate_id": f"of {site}", "site_id": site, "channel": "c", **more}
        lake.add("verdicts", {**row, "verdict": said, "at": at})

    def worth() -> dict[str, float]:
        found = targets(lake.con)
        return dict(zip(found["target_id"].to_pylist(), found["worth"].to_pylist(), strict=True))

    at_site("awaited", "open")
    at_site("learned from", "open", pool="learn")
    at_site("elsewhere", "closed")
    at_site("known", "open")
    (usual,) = set(worth().values())
    verdict("closed", "CONTINUE", 1)
    verdict("closed", "PROMOTE", 2)
    verdict("open", "REJECT", 1, candidate_id="an older one")
    verdict("open", "CONTINUE", 2)
    evaluation = {"candidate_id": "of open", "purpose": "gate", "task_group": "known", "reward": 1.0}
    lake.add("evaluations", {"evaluation_id": "e", **evaluation})
    lake.add("evaluations", {"evaluation_id": "f", **evaluation, "task_group": "awaited", "reward": None})
    assert worth() == pytest.approx(
        {"awaited": AWAITED * usual, **dict.fromkeys(("learned from", "elsewhere", "known"), usual)}
    )
