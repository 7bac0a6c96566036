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


@pytest.mark.parametrize(
    ("attack", "model"),
    [
        ("votes", "feedback"),
        ("spread", "feedback"),
        ("scale", "feedback"),
        ("words", "signals"),
        ("injected", "signals"),
        ("claims", "signals"),
        ("calls", "tools"),
    ],
)
def test_with_caps_no_attack_turns_the_ranking(poison: Any, attack: str, model: str) -> None:
    con = poison.lake_of(poison.logs(attack, users=400, attackers=10, each=100, seed=1))
    assert poison.lead(con, caps=True)[model] > 0
    if attack in ("votes", "spread", "words", "calls"):  # or the test would pass whatever the caps do
        assert poison.lead(con, caps=False)[model] < 0
    con.close()
