"""Which prompt of a search is to be judged at the gate: the best, and among equals the one that changes least."""

from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from math import sqrt
from statistics import stdev
from typing import Any

from tracemill.ids import canonical_json
from tracemill.optimize.artifact import pool_of
from tracemill.records import Artifact, Candidate
from tracemill.stats import cluster_means

Rewards = Mapping[str, tuple[str, float]]
"""case_id -> task group and reward of one candidate on the tuning cases."""

_EQUAL = 0.5
"""Of the standard error of the difference: so near the best, a prompt counts as its equal."""


def winner(
    found: Sequence[Candidate], rewards: Mapping[str, Rewards] | None = None, *, running: Candidate | None = None
) -> list[Candidate]:
    """The one prompt that enters the gate; [] where none beat production on the tuning cases.

    `running`: what a step of several began with, which all else of `found` has to beat instead.

    A test at the gate spends the budget of all later ones. `rewards` (by candidate) tell which prompts are the best
    one's equals: within half a standard error of the paired difference, task groups counting once. Of them the one
    that differs least from production wins; without rewards only equal scores are equal.
    """
    best = _best(found, running)
    if best is None or not_better(found, running=running) is not None:
        return []
    proposed = _prompts(found, running)
    running = running or _production(found)
    bar = None if running is None else running.tune_score
    beating = [one for one in proposed if bar is None or (one.tune_score or 0.0) > bar]
    known = rewards or {}
    equals = [one for one in beating if _equal(best, one, known)]

    def change(one: Candidate) -> tuple[int, float, str]:
        changed = 0 if running is None else changed_chars(running.artifact, one.artifact)
        return changed, -(one.tune_score or 0.0), one.candidate_id

    return [min(equals, key=change)]


def not_better(found: Sequence[Candidate], *, running: Candidate | None = None) -> str | None:
    """Why no prompt of `found` enters the gate, where its tuning score is the reason."""
    best = _best(found, running)
    before = running or _production(found)
    bar = None if before is None else before.tune_score
    if best is None or best.tune_score is None or bar is None or best.tune_score > bar:
        return None
    if running is not None and running.branch != "production":
        return (
            f"the best of {best.optimizer} has {best.tune_score:.2f} on the tuning cases and what it began with, of "
            f"{running.optimizer}, {bar:.2f}: that stands"
        )
    return (
        f"the best prompt ({best.optimizer}) has {best.tune_score:.2f} on the tuning cases and production "
        f"{bar:.2f}: none enters the gate"
    )


def changed_chars(before: Artifact, after: Artifact) -> int:
    """Characters that are added or taken away at all sites: of the constant text by lines and words, of demonstrations
    as wholes."""
    return sum(_changed(ran, runs) for ran, runs in zip(before.prompts, after.prompts, strict=False))


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> int:
    said = sum(
        (end - start) + (till - begin)
        for tag, start, end, begin, till in SequenceMatcher(
            None, _text(before), _text(after), autojunk=False
        ).get_opcodes()
        if tag != "equal"
    )
    own, new = (
        {canonical_json(demo["messages"]) for demo in pool_of(Artifact(prompt=prompt))} for prompt in (before, after)
    )
    return said + sum(len(demo) for demo in own ^ new)


def _text(prompt: Mapping[str, Any]) -> str:
    return canonical_json(prompt.get("messages")) + canonical_json(prompt.get("tools"))


def _production(found: Sequence[Candidate]) -> Candidate | None:
    return next((one for one in found if one.branch == "production"), None)


def _prompts(found: Sequence[Candidate], running: Candidate | None) -> list[Candidate]:
    tried = [one for one in found if one.tune_score is not None]
    if running is None:
        return [one for one in tried if one.branch == "prompt"]
    return [one for one in tried if one.candidate_id != running.candidate_id]


def _best(found: Sequence[Candidate], running: Candidate | None) -> Candidate | None:
    return max(
        _prompts(found, running), key=lambda one: (one.tune_score or 0.0, -len(one.artifact.to_json())), default=None
    )


def _equal(best: Candidate, other: Candidate, rewards: Mapping[str, Rewards]) -> bool:
    behind = (best.tune_score or 0.0) - (other.tune_score or 0.0)
    if behind <= 0:
        return True
    ours, theirs = rewards.get(best.candidate_id, {}), rewards.get(other.candidate_id, {})
    both = sorted(set(ours) & set(theirs))
    means = list(
        cluster_means([ours[case][1] - theirs[case][1] for case in both], [ours[case][0] for case in both]).values()
    )
    return len(means) > 1 and behind <= _EQUAL * stdev(means) / sqrt(len(means))
