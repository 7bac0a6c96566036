"""What every level of the ladder does, and how they are climbed: each case as far as somebody can judge it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from tracemill.optimize.replay import named, output_of
from tracemill.records import Artifact, Case, ChatMessage, ChatRequest, Completion, Fidelity, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """The reward of an output, in [0, 1], and who gave it; None where nobody can say."""

    reward: float | None
    by: str | None = None


Grade = Callable[[Sequence[tuple[Case, str]]], list[Mark]]
"""Marks of outputs of cases, all at once."""
Valid = Callable[[Case, str], bool | None]
"""Whether an output has the form that production needs."""


class Level(Protocol):
    """One way to try an artifact on cases. Outcomes come in the order of the cases.

    Raises BudgetError where the budget admits no further call and EndpointError where nobody answers; what was answered
    until then is kept, so that the same call goes on where this one ended.
    """

    @property
    def fidelity(self) -> Fidelity:
        """Of its outcomes; of a level whose outcomes differ in it, the best that they can have."""
        ...

    def __call__(self, artifact: Artifact, cases: Sequence[Case]) -> list[Outcome]: ...


class Ladder:
    """Levels in order, as one `Evaluate`: a case is tried by the first level that can judge it.

    It climbs on where a level did not try it, and where a replay left the log; not where an answer was such that its
    judges abstained, or answering evasively would choose the judge. What `lint` objects to climbs no further, and no
    model is asked about it.
    """

    def __init__(self, levels: Sequence[Level], *, lint: Level | None = None) -> None:
        self._levels = tuple(levels)
        self._lint = lint

    def __call__(self, artifact: Artifact, cases: Sequence[Case]) -> list[Outcome]:
        found: list[Outcome | None] = [None] * len(cases)
        if self._lint is not None:
            found = [None if one.valid else one for one in self._lint(artifact, cases)]
        open_places = [place for place, one in enumerate(found) if one is None]
        for level in self._levels:
            if not open_places:
                break
            outcomes = level(artifact, [cases[place] for place in open_places])
            for place, outcome in zip(open_places, outcomes, strict=True):
                before = found[place]
                if before is None or outcome.reached:
                    found[place] = outcome
            open_places = [place for place, one in zip(open_places, outcomes, strict=True) if _climbs(one)]
        return [
            one if one is not None else unknown(case, "no level tried it")
            for case, one in zip(cases, found, strict=True)
        ]


def _climbs(outcome: Outcome) -> bool:
    return not outcome.reached or outcome.fidelity == "recorded:divergent"


def one_by_one(verify: Callable[[Case, str], float | None]) -> Grade:
    """What a verifier says, as a Grade."""
    return lambda answered: [Mark(reward=verify(case, output)) for case, output in answered]


def graded(
    cases: Sequence[Case],
    completions: Sequence[Completion],
    *,
    grade: Grade,
    valid: Valid,
    fidelity: Fidelity,
) -> list[Outcome]:
    """Answers as outcomes. One that failed has no reward: nobody knows what it would have been.

    Judged is the answer's text; of a call that answered with tools only, the JSON of its tool calls.
    """
    outputs = [output_of(completion) for completion in completions]
    answered = [(case, output) for case, output in zip(cases, outputs, strict=True) if output is not None]
    marks = iter(grade(answered))
    outcomes = []
    for case, completion, output in zip(cases, completions, outputs, strict=True):
        mark = Mark(reward=None) if output is None else next(marks)
        outcomes.append(
            Outcome(
                case_id=case.case_id,
                task_group=case.task_group,
                completion=completion,
                reward=mark.reward,
                valid=None if output is None else valid(case, output),
                fidelity=fidelity,
                judged_by=None if mark.reward is None else mark.by,
            )
        )
    return outcomes


def unknown(case: Case, why: str, *, fidelity: Fidelity = "single_step") -> Outcome:
    """The outcome of a case that could not be tried."""
    return astray(case, Completion(text=None), why, fidelity=fidelity, reached=0)


def astray(
    case: Case,
    answers: Completion,
    why: str | None,
    *,
    fidelity: Fidelity,
    reached: int,
    way: tuple[ChatMessage, ...] = (),
) -> Outcome:
    """The outcome of a replay that did not come to an end: nobody judges it. `why`: what broke, where something did."""
    return Outcome(
        case_id=case.case_id,
        task_group=case.task_group,
        completion=answers if why is None else replace(answers, error=why),
        reward=None,
        valid=None,
        fidelity=fidelity,
        reached=reached,
        way=way,
    )


def kept_with(case: Case, request: ChatRequest) -> ChatRequest:
    """The request as one whose kept answer is forgotten with the case's episode.

    Its key is that of the episode: no other case has the same talk, so that nothing is shared.
    """
    own = named(case.trajectory_id)
    return replace(request, about=(own,), asked_by=tuple(one for one in request.asked_by if one != own))


def summed(completions: Sequence[Completion]) -> Completion:
    """Several calls as one: the last answer, and what all of them cost. What one of them does not tell is not known."""
    last = completions[-1]

    def total(name: str) -> int | None:
        values = [getattr(one, name) for one in completions]
        return None if any(value is None for value in values) else sum(values)

    costs = [one.cost_usd for one in completions]
    known = [cost for cost in costs if cost is not None]
    return replace(
        last,
        tokens_in=total("tokens_in"),
        tokens_out=total("tokens_out"),
        latency_ns=total("latency_ns"),
        cost_usd=sum(known) if len(known) == len(costs) else None,
        cached=all(one.cached for one in completions),
    )
