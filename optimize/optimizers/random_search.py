"""Random sets of logged right answers, raced: many on a few tuning cases, the best on more, the last on all.

The idea of BootstrapFewShotWithRandomSearch with the logs as the teacher: no call is spent on making demonstrations.
Successive halving (Jamieson & Talwalkar 2016) spends few calls on sets that are plainly poor.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

from tracemill.errors import ConfigError
from tracemill.optimize.artifact import with_demonstrations
from tracemill.optimize.search import (
    Demonstration,
    balanced,
    candidate,
    demonstrations,
    shuffled,
    tune_score,
    tuned,
)
from tracemill.records import Artifact, Candidate
from tracemill.study import Study


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomSearch:
    """`sets` draws of a size from `ks`; a third survives each round, `keep` of them see every tuning case.

    With 40 tuning cases and the defaults about 12 × 10 + 4 × 10 + 2 × 20 = 200 calls: a round re-uses the cached
    answers of the one before.
    """

    sets: int = 12
    ks: tuple[int, ...] = (4, 8)
    keep: int = 2
    seed: int = 0
    max_chars: int = 4000

    def __post_init__(self) -> None:
        if not self.ks or min(self.ks) < 1 or not 1 <= self.keep <= self.sets:
            raise ConfigError(
                f"random_search: ks {self.ks} must be ≥ 1 and keep {self.keep} between 1 and sets {self.sets}"
            )

    @property
    def name(self) -> str:
        return "random_search"

    def search(self, study: Study) -> Iterator[Candidate]:
        pool = demonstrations(study, max_chars=self.max_chars)
        if not pool or not study.tune:
            return
        racing = self._draw(study.baseline, pool)
        order = shuffled(study.tune, self.seed)
        for share, survivors in ((0.25, max(self.keep, ceil(self.sets / 3))), (0.5, self.keep)):
            if len(racing) <= survivors:
                continue
            some = order[: ceil(len(order) * share)]
            scores = [tune_score(some, study.evaluate(artifact, some), study.scorable)[0] for artifact, _ in racing]
            # A set that could not be scored ranks last; ties keep the order of drawing.
            best = sorted(range(len(racing)), key=lambda i: (scores[i] is None, -(scores[i] or 0.0)))
            racing = [racing[i] for i in sorted(best[:survivors])]
        for artifact, drawn in racing:
            score = tuned(study, artifact)
            yield candidate(study, self.name, artifact, score, (one.case.trajectory_id for one in drawn))

    def _draw(self, baseline: Artifact, pool: Sequence[Demonstration]) -> list[tuple[Artifact, list[Demonstration]]]:
        drawn: dict[str, tuple[Artifact, list[Demonstration]]] = {}
        for number in range(self.sets):
            k = min(self.ks[number % len(self.ks)], len(pool))
            demos = balanced(pool, k, random.Random(f"{self.seed}/{number}"))
            artifact = with_demonstrations(baseline, [one.demo for one in demos])
            drawn.setdefault(artifact.to_json(), (artifact, demos))
        return list(drawn.values())
