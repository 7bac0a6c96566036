"""Demonstrations chosen per call: the k logged right answers whose words are nearest to the question."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from tracemill.errors import ConfigError
from tracemill.optimize.artifact import with_demonstrations
from tracemill.optimize.search import balanced, candidate, demonstrations, tuned
from tracemill.records import Candidate
from tracemill.study import Study


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest:
    """One candidate for every k, all over one pool: a few demonstrations of each task group."""

    ks: tuple[int, ...] = (4, 8)
    per_group: int = 1
    max_pool: int = 400
    """A published prompt carries its pool, and every call ranks all of it."""
    seed: int = 0
    max_chars: int = 4000

    def __post_init__(self) -> None:
        if not self.ks or min(self.ks) < 1 or self.per_group < 1 or self.max_pool < max(self.ks):
            raise ConfigError(
                f"nearest: ks {self.ks} and per_group {self.per_group} must be ≥ 1, max_pool {self.max_pool} ≥ every k"
            )

    @property
    def name(self) -> str:
        return "nearest"

    def search(self, study: Study) -> Iterator[Candidate]:
        pool = demonstrations(study, per_group=self.per_group, max_chars=self.max_chars)
        if len(pool) > self.max_pool:
            pool = balanced(pool, self.max_pool, random.Random(self.seed))
        for k in sorted({min(k, len(pool)) for k in self.ks if pool}):
            artifact = with_demonstrations(study.baseline, [one.demo for one in pool], "nearest", k)
            score = tuned(study, artifact)
            yield candidate(study, self.name, artifact, score, (one.case.trajectory_id for one in pool))
