"""Level 2: the answer to a logged call with the new prompt against the logged one, before a judge."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tracemill.optimize.ladder.level import Mark, Valid, graded
from tracemill.optimize.ladder.single_step import answers
from tracemill.protocols import ChatModel
from tracemill.records import Artifact, Case, Fidelity, Outcome

Won = Callable[[Sequence[tuple[Case, str, str]]], list[float | None]]
"""Share of the comparisons that the first output of each pair wins: asked in both orders, 0.5 where they disagree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairwise:
    """The reward is the share of comparisons that the replayed answer wins over the logged one.

    It says nothing of how good either is: rewards of this level are comparable with each other only.
    """

    model: ChatModel
    """Cached and budgeted: replay.CachedModel."""
    won: Won
    by: str
    """Name, family and version of the judge."""
    valid: Valid
    seed: int | None = 0

    @property
    def fidelity(self) -> Fidelity:
        return "pairwise"

    def __call__(self, artifact: Artifact, cases: Sequence[Case]) -> list[Outcome]:
        completions = answers(self.model, artifact, cases, seed=self.seed)
        return graded(cases, completions, grade=self._grade, valid=self.valid, fidelity=self.fidelity)

    def _grade(self, answered: Sequence[tuple[Case, str]]) -> list[Mark]:
        shares = self.won([(case, output, case.logged_output) for case, output in answered])
        return [Mark(reward=share, by=self.by) for share in shares]
