"""Level 1: one logged call, sent again with the artifact's prompt, and what came back judged by reward models."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tracemill.optimize.ladder.level import Grade, Valid, graded, unknown
from tracemill.optimize.replay import request_for
from tracemill.protocols import ChatModel
from tracemill.records import Artifact, Case, ChatRequest, Completion, Fidelity, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleStep:
    """Renders, asks `model` about all cases at once, and has the answers judged. A case that does not fill the prompt
    is an error of that case."""

    model: ChatModel
    """Cached and budgeted: replay.CachedModel."""
    grade: Grade
    valid: Valid
    seed: int | None = 0
    worth: Callable[[Case], bool] | None = None
    """Which cases to ask about where another level may judge the rest; None: all."""

    @property
    def fidelity(self) -> Fidelity:
        return "single_step"

    def __call__(self, artifact: Artifact, cases: Sequence[Case]) -> list[Outcome]:
        worth = [case for case in cases if self.worth is None or self.worth(case)]
        completions = answers(self.model, artifact, worth, seed=self.seed)
        outcomes = iter(graded(worth, completions, grade=self.grade, valid=self.valid, fidelity=self.fidelity))
        asked = {id(case) for case in worth}
        return [
            next(outcomes) if id(case) in asked else unknown(case, "nobody can judge this call alone") for case in cases
        ]


def answers(model: ChatModel, artifact: Artifact, cases: Sequence[Case], *, seed: int | None) -> list[Completion]:
    """What the model answers to each case with this artifact, in their order."""
    requests: dict[int, ChatRequest] = {}
    broken: dict[int, Completion] = {}
    for place, case in enumerate(cases):
        try:
            requests[place] = request_for(artifact, case, seed=seed)
        except KeyError as error:
            broken[place] = Completion(text=None, error=f"the case does not fill the prompt: {error.args[0]}")
    done = broken | dict(zip(requests, model.complete(list(requests.values())), strict=True))
    return [done[place] for place in range(len(cases))]
