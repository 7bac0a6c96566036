"""Fixed demonstrations drawn from the right outputs in the logs, even over what the outputs say."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from tracemill.errors import ConfigError
from tracemill.optimize.artifact import with_demonstrations
from tracemill.optimize.search import balanced, candidate, demonstrations, tuned
from tracemill.records import Candidate
from tracemill.study import Study


@dataclass(frozen=True, slots=True, kw_only=True)
class LabeledFewShot:
    """`draws` for every size; each is evaluated on all tuning cases."""

    ks: tuple[int, ...] = (4, 8)
    draws: int = 2
    seed: int = 0
    max_chars: int = 4000

    def __post_init__(self) -> None:
        if not self.ks or min(self.ks) < 1 or self.draws < 1:
            raise ConfigError(f"labeled_few_shot: ks {self.ks} and draws {self.draws} must be ≥ 1")

    @property
    def name(self) -> str:
        return "labeled_few_shot"

    def search(self, study: Study) -> Iterator[Candidate]:
        pool = demonstrations(study, max_chars=self.max_chars)
        seen: set[str] = set()
        for k in sorted({min(k, len(pool)) for k in self.ks if pool}):
            for number in range(self.draws):
                drawn = balanced(pool, k, random.Random(f"{self.seed}/{k}/{number}"))
                artifact = with_demonstrations(study.baseline, [one.demo for one in drawn])
                if artifact.to_json() in seen:
                    continue
                seen.add(artifact.to_json())
                score = tuned(study, artifact)
                yield candidate(study, self.name, artifact, score, (one.case.trajectory_id for one in drawn))
