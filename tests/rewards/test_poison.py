"""Attackers do not turn a ranking that honest users decide, where caps are on; the full table is bench/poison.py."""

import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def poison() -> Any:
    bench = str(Path(__file__).resolve().parents[2] / "bench")
    sys.path.insert(0, bench)
    try:
        import poison
    finally:
        sys.path.remove(bench)
    return poison


def lake(poison: Any, attack: str) -> Any:
    return poison.lake_of(poison.poisoned_logs.logs(attack, users=300, attackers=10, each=100, seed=1))


@pytest.mark.parametrize(
    ("attack", "turned"),
    [
        ("crowd", {"feedback", "combined"}),
        ("spread", {"feedback", "combined"}),
        ("all", {"feedback", "signals", "tools", "tool_steps", "combined"}),
    ],
)
def test_with_caps_no_attack_turns_the_ranking(poison: Any, attack: str, turned: set[str]) -> None:
    with lake(poison, attack) as con:
        off = poison.leads(con, caps=False)
        on = poison.leads(con, caps=True)
    assert {name for name, ahead in off.items() if ahead < 0} == turned  # or the test would pass whatever the caps do
    assert min(on.values()) > 0


def test_the_failures_of_a_few_are_no_finding(poison: Any) -> None:
    with lake(poison, "votes") as con:
        poison.judge_all(con, caps=False)
        assert poison.blamed(con, named=False) == "a"
        assert "a" not in poison.blamed(con, named=True)


def test_a_judge_that_obeys_is_shown_no_injection(poison: Any) -> None:
    with lake(poison, "all") as con, poison.poisoned_judge.serving() as server:
        found = poison.judged_leads(con, server, 1)
    assert found["raw obeyed"] > 0
    assert found["judge obeyed"] == 0
    assert found["raw off"] < found["judge off"] < found["judge on"]
    assert min(found["judge on"], found["judge combined on"]) > 0
