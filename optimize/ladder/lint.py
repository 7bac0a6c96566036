"""Level 0: what is wrong with an artifact, seen without asking any model."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tracemill.ids import content_id
from tracemill.optimize.lint import TokenCount, lint
from tracemill.records import Artifact, Case, Completion, Fidelity, Outcome


@dataclass(slots=True, kw_only=True)
class Lint:
    """Outcomes without a reward: `valid` tells whether the artifact may be tried at all, the error why it may not.

    What production's own prompt is objected to for is no objection to a candidate.
    """

    baseline: Artifact
    logged: Sequence[Case] = ()
    """Cases that instructions must not be copied from."""
    count: TokenCount | None = None
    _own: frozenset[str] | None = field(default=None, init=False)
    _known: dict[str, str | None] = field(default_factory=dict, init=False)

    @property
    def fidelity(self) -> Fidelity:
        return "lint"

    def __call__(self, artifact: Artifact, cases: Sequence[Case]) -> list[Outcome]:
        wrong = self.objection(artifact)
        completion = Completion(text=None, error=wrong)
        return [
            Outcome(
                case_id=case.case_id,
                task_group=case.task_group,
                completion=completion,
                reward=None,
                valid=wrong is None,
                fidelity="lint",
                reached=0,
            )
            for case in cases
        ]

    def objection(self, artifact: Artifact) -> str | None:
        """Everything that stands against the artifact; None where nothing does."""
        key = content_id(artifact.to_json())
        if key not in self._known:
            if self._own is None:
                self._own = frozenset(self._objections(self.baseline))
            found = [one for one in self._objections(artifact) if one not in self._own]
            self._known[key] = f"lint: {'; '.join(found)}" if found else None
        return self._known[key]

    def _objections(self, artifact: Artifact) -> list[str]:
        return lint(artifact, baseline=self.baseline, cases=self.logged, count=self.count)
