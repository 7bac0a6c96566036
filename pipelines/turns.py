"""Steps of a night that go on from one another, in the manner of DSPy's BetterTogether: prompts on tuned weights, and
weights under the prompt that was found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tracemill.optimize import choosing
from tracemill.optimize.artifact import pool_of
from tracemill.optimize.provenance import lines, shown_as
from tracemill.optimize.replay import Ledger
from tracemill.optimize.search import scored, tune_score
from tracemill.pipelines import laddering, replaying, studying
from tracemill.pipelines.config import Order
from tracemill.pipelines.endpoint import Endpoint, ensure_adapter
from tracemill.pipelines.learning import Lesson
from tracemill.pipelines.night import Night
from tracemill.records import Artifact, Branch, Candidate

Step = Literal["p", "w"]

_FOR_SEARCHES = 0.8
"""Of the account where weights are trained later: the rest is for trying them, and for what a teacher answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What a step begins with."""

    base: Candidate
    """What it goes on from; with a tuning score where it was tried already."""
    ledger: Ledger
    """The night's account at this site: all steps draw on it."""
    share: float = 1.0
    """Of what is left in it, for a search."""
    asking: float = 1.0
    """Of what is left in it, for what a teacher answers."""
    apart: bool = False
    """Weights learn from the lesson's `train` cases only and are tried on its tuning cases: steps can be compared."""
    teacher: Candidate | None = None
    """A prompt whose right answers weights may learn from (`[train] hand_over`)."""


def steps(order: Order) -> tuple[Step, ...]:
    """The steps of an order, first to last; () where the branches go side by side."""
    return () if order == "side by side" else tuple("w" if one == "w" else "p" for one in order.split(" -> "))


def share(left: Sequence[Step]) -> float:
    """What a search may use of the account, `left` being the steps from it on: searches have equal parts."""
    part = 1 / max(1, left.count("p"))
    return part if "w" not in left else part * _FOR_SEARCHES


def asking(left: Sequence[Step]) -> float:
    """What a teacher may use of what is left in the account, `left` being the steps from the training on: its weights
    are tried after that, and searches may follow."""
    return 0.5 / (1 + left.count("p"))


def branch_of(production: Artifact, artifact: Artifact) -> Branch:
    """What an artifact changes; both on the model that replays (replaying.on_endpoint)."""
    if artifact.adapter_path == production.adapter_path:
        return "prompt"
    asked, ran = ({**one.prompt, "adapter": None} for one in (artifact, production))
    return "weights" if asked == ran else "together"


def grown(base: Candidate, found: Candidate, branch: Branch) -> Candidate:
    """What was found on top of `base`: what stands behind that stands behind it, too, as far as it still shows it."""
    if found.artifact == base.artifact:
        return replace(base, tune_score=found.tune_score, tune_n=found.tune_n)
    said = {line for _, line in lines(found.artifact)}
    shown = {shown_as(demo) for demo in pool_of(found.artifact)}
    new = {(one.text, one.demonstration) for one in found.support}
    kept = [
        one
        for one in base.support
        if (one.text, one.demonstration) not in new and one.text in (shown if one.demonstration else said)
    ]
    return replace(
        found,
        branch=branch,
        parent_id=base.candidate_id,
        lineage=tuple(sorted({*base.lineage, *found.lineage})),
        support=(*kept, *found.support),
    )


def tried(night: Night, lesson: Lesson, endpoint: Endpoint, turn: Turn, new: Candidate) -> list[Candidate]:
    """What the turn began with and what it came to, both with their scores on the tuning cases."""
    cases = studying.compared_on(night, lesson)
    begun = replace(turn.base, artifact=replaying.on_endpoint(endpoint, turn.base.artifact))
    replay = laddering.for_tuning(night, lesson, endpoint, begun.artifact, turn.ledger)
    found: list[Candidate] = []
    scorable: frozenset[str] = frozenset()
    with replaying.Recording(night, purpose="tune") as recording:
        for one in (begun, new):
            ensure_adapter(endpoint, one.artifact)
            outcomes = replay(one.artifact, cases)
            recording.add(one.candidate_id, outcomes)
            score, n = tune_score(cases, outcomes, scorable)
            scorable = scored(outcomes)
            found.append(replace(one, tune_score=score, tune_n=n))
    return found


def better(
    begun: Candidate, found: Sequence[Candidate], rewards: Mapping[str, choosing.Rewards]
) -> tuple[Candidate, str | None]:
    """What stands after a step, and why that is what it began with where nothing was better.

    `found`: what the step began with, with its tuning score, and all that it came to; [] where it had nothing to do.
    """
    if not found:
        return begun, None
    running, *new = found
    for winner in choosing.winner(new, rewards, running=running):
        return winner, None
    untried = next((one for one in new if one.tune_score is None and one.branch != "prompt"), None)
    if untried is not None:
        name = untried.candidate_id[:8]
        return running, f"weights {name} could not be tried on the tuning cases and stand aside: tracemill gate {name}"
    return running, choosing.not_better(new, running=running)
