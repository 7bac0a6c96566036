"""Which prompt of a search enters the gate."""

from dataclasses import replace

import pytest

from tracemill.optimize import choosing
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
    assert choosing.winner(found) == [short]
    assert choosing.not_better(found) is None


@pytest.mark.parametrize("score", [0.4, 0.39, 0.0])
def test_a_prompt_that_did_not_beat_production_stays_out_and_why_is_said(score: float) -> None:
    found = [candidate("production", "p", 0.4), candidate("prompt", "a", score)]
    assert choosing.winner(found) == []
    assert f"{score:.2f} on the tuning cases and production 0.40" in str(choosing.not_better(found))


def test_where_production_could_not_be_scored_the_gate_is_asked() -> None:
    found = [candidate("production", "p", None), candidate("prompt", "a", 0.1)]
    assert choosing.winner(found) == found[1:]
    assert choosing.not_better([]) is None


def rewards(*values: float) -> dict[str, tuple[str, float]]:
    return {f"c{number}": (f"g{number}", value) for number, value in enumerate(values)}


def test_among_prompts_that_chance_tells_apart_the_one_that_changes_least_wins() -> None:
    running = replace(candidate("production", "", 0.1), artifact=Artifact(prompt={"messages": ["Sort tickets."]}))
    small = replace(candidate("prompt", "", 0.5), artifact=Artifact(prompt={"messages": ["Sort all tickets."]}))
    large = replace(
        candidate("prompt", "", 0.6), artifact=Artifact(prompt={"messages": ["Think hard, and then sort."]})
    )
    found = [running, small, large]
    known = {
        small.candidate_id: rewards(1, 1, 1, 1, 1, 0, 0, 0, 0, 0),
        large.candidate_id: rewards(0, 0, 0, 1, 1, 1, 1, 1, 1, 0),
    }
    assert choosing.winner(found, known) == [small]
    surely = {**known, large.candidate_id: rewards(1, 1, 1, 1, 1, 1, 0, 0, 0, 0)}
    assert choosing.winner(found, surely) == [large]
    assert choosing.winner(found) == [large]


def test_a_prompt_no_better_than_production_is_nobodys_equal() -> None:
    running = candidate("production", "p", 0.5)
    same, best = candidate("prompt", "q", 0.5), candidate("prompt", "much longer than that", 0.6)
    known = {same.candidate_id: rewards(1, 0, 1, 0), best.candidate_id: rewards(0, 1, 0, 1)}
    assert choosing.winner([running, same, best], known) == [best]


def test_changes_are_counted_in_text_and_in_demonstrations() -> None:
    def prompt(text: str, *shown: str) -> Artifact:
        pool = [{"messages": [one], "text": one} for one in shown]
        return Artifact(prompt={"messages": [text], "demonstrations": {"pool": pool}})

    before = prompt("Sort tickets.", "a")
    assert choosing.changed_chars(before, before) == 0
    assert choosing.changed_chars(before, prompt("Sort the tickets.", "a")) == len("the ")
    assert choosing.changed_chars(before, prompt("Sort tickets.")) == len('["a"]')
    assert choosing.changed_chars(before, prompt("Sort tickets.", "a", "bb")) == len('["bb"]')
