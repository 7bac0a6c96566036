"""Prompts that production ran before or beside today's: evidence that costs nothing, candidates that nobody writes."""

from collections.abc import Iterator
from dataclasses import dataclass

from tracemill.errors import ConfigError
from tracemill.optimize.search import candidate, objections, tuned
from tracemill.records import Candidate
from tracemill.study import Study


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """The `most` promising earlier versions, by the upper end of what their logs came to, tried on the tuning cases.

    A version whose logs show that it is worse than the best of them, ends of 95 % intervals apart, is not tried again.
    """

    most: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.most < 1:
            raise ConfigError(f"logged: most {self.most} must be ≥ 1")

    @property
    def name(self) -> str:
        return "logged"

    def search(self, study: Study) -> Iterator[Candidate]:
        own = objections(study, study.baseline, study.train)
        best = max((one.low for one in study.variants), default=0.0)
        hopeful = [one for one in study.variants if one.high >= best and one.artifact != study.baseline]
        hopeful.sort(key=lambda one: (-one.high, -one.n, one.site_version))
        tried = 0
        for one in hopeful:
            if tried == self.most:
                return
            if objections(study, one.artifact, study.train) - own:
                continue
            tried += 1
            yield candidate(study, self.name, one.artifact, tuned(study, one.artifact))
