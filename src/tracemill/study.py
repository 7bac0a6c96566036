"""What the search for a better prompt of one site is given: cases of the gate are never in it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from tracemill.errors import ConfigError
from tracemill.records import Artifact, Case, Outcome, Site

Evaluate = Callable[[Artifact, Sequence[Case]], list[Outcome]]
"""Replays an artifact on cases and scores what comes out: cached, budgeted, recorded. Built by pipelines.
Raises BudgetError when the budget is used up; what was evaluated until then is kept."""

Voice = Literal["person", "user", "judge", "tool"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What somebody said of a logged answer. `text` is data from logs: it is quoted to a model, never obeyed."""

    voice: Voice
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """A confirmed finding about the site, as a sentence for whoever writes prompts."""

    finding_id: str
    text: str
    trajectories: tuple[str, ...]
    """Episodes that show it."""
    n_users: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A prompt that production ran at this site before or beside today's, with what its logs came to."""

    site_version: str
    artifact: Artifact
    n: int
    """Judged cases of the learn pool."""
    mean: float
    low: float
    high: float
    """95 % interval of the mean reward, clustered by task group."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """One site to be improved: production's artifact, the cases to learn from, and how to try a proposal.

    `train` is what demonstrations and instructions may be made from, `tune` what proposals are compared on. Raises
    ConfigError where a case of the gate's pool is among them.
    """

    site: Site
    baseline: Artifact
    train: tuple[Case, ...]
    tune: tuple[Case, ...]
    replay: Evaluate = field(repr=False)
    notes: Mapping[str, tuple[Note, ...]] = field(default_factory=dict)
    """By case_id."""
    hints: tuple[Hint, ...] = ()
    variants: tuple[Variant, ...] = ()
    judgeable: frozenset[str] = frozenset()
    """Cases of which somebody can judge any answer, whether or not a right one is known."""
    scorable: frozenset[str] = frozenset()
    """Tuning cases on which production's own answer, replayed, was scored: an answer to one of them that nobody can
    score counts as 0 in tuning scores."""

    def __post_init__(self) -> None:
        refuse_gate_cases(self.train, self.tune)

    def evaluate(self, artifact: Artifact, cases: Sequence[Case]) -> list[Outcome]:
        """Outcomes of the artifact in the order of the cases. ConfigError where one of them is not of this study."""
        strange = [case.case_id for case in cases if case.case_id not in self._own]
        if strange:
            raise ConfigError(f"case {strange[0]} is not one that site {self.site.site_id} is studied on")
        return self.replay(artifact, cases)

    @cached_property
    def _own(self) -> frozenset[str]:
        return frozenset(case.case_id for case in (*self.train, *self.tune))


def refuse_gate_cases(*groups: Iterable[Case]) -> None:
    """Raises ConfigError where a case of the gate pool is among them: it must not be learned from or tuned on."""
    for cases in groups:
        for case in cases:
            if case.pool == "gate":
                raise ConfigError(
                    f"case {case.case_id} belongs to the gate pool and was given to an optimizer; "
                    "pass cases of the learn pool only"
                )
