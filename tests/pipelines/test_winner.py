"""Which prompt of a search enters the gate."""

from dataclasses import replace

import pytest

from tracemill.pipelines import branches
from tracemill.records import Artifact, Branch, Candidate


def candidate(branch: Branch, text: str, score: float | None) -> Candidate:
    return Candidate(
        branch=branch,
        site_id="s",
        site_version="v",
        optimizer="by hand",
        artifact=Artifact(prompt={"text": text}),
        tune_score=score,
        tune_n=10,
    )


def test_the_best_prompt_enters_and_among_equals_the_shorter_one() -> None:
    running = candidate("production", "p", 0.4)
    long, short = candidate("prompt", "much longer", 0.6), candidate("prompt", "short", 0.6)
    tuned = replace(candidate("weights", "w", None), tune_score=None)
    found = [running, candidate("prompt", "a", 0.5), long, short, candidate("prompt", "b", None), tuned]
    assert branches.winner(found) == [short]
    assert branches.not_better(found) is None


@pytest.mark.parametrize("score", [0.4, 0.39, 0.0])
def test_a_prompt_that_did_not_beat_production_stays_out_and_why_is_said(score: float) -> None:
    found = [candidate("production", "p", 0.4), candidate("prompt", "a", score)]
    assert branches.winner(found) == []
    assert f"{score:.2f} on the tuning cases and production 0.40" in str(branches.not_better(found))


def test_where_production_could_not_be_scored_the_gate_is_asked() -> None:
    found = [candidate("production", "p", None), candidate("prompt", "a", 0.1)]
    assert branches.winner(found) == found[1:]
    assert branches.not_better([]) is None
