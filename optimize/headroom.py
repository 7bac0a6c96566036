"""Whether a site can be improved measurably, before anything is spent on improving it.

No prompt can gain more than what production lacks of 1. Where nobody writes new instructions, a search can only choose
among prompts like those that cost nothing to write: some are tried, and had each tuning case the best of all answers,
production would be behind by the headroom (arXiv 2604.14585 looks at it before it optimizes).
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from tracemill.errors import BudgetError, ConfigError
from tracemill.optimize.artifact import instructions, with_demonstrations, with_instructions
from tracemill.optimize.search import balanced, demonstrations, shuffled
from tracemill.records import Artifact, Outcome
from tracemill.stats import Interval, clustered_mean
from tracemill.study import Study

_REWRITES = (
    "Before you answer, work out what is asked for, what you know, and what follows from it. Then answer.",
    "Follow every instruction above exactly, and answer in exactly the form that they ask for.",
    "Check your answer against everything that you were told before you give it. Do not guess where you can know.",
)
_CASES = 32
_SHOWN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Headroom:
    """What could be gained on the tuning cases, and how it was found out."""

    production: float | None
    """Mean reward of production's own prompt; None where nothing could be scored."""
    gain: Interval | None
    """Best answer of all prompts tried, less production's, a case at a time; one-sided ends at 95 %."""
    prompts: int
    """Prompts tried beside production's."""

    def worth(self, wanted: float) -> bool:
        """False where a gain of `wanted` is ruled out; what could not be measured is not ruled out."""
        return self.gain is None or self.gain.high >= wanted

    def sentence(self, wanted: float) -> str:
        """Why nothing is searched for, in one line."""
        assert self.gain is not None
        others = f"the best answers of {self.prompts} other prompts would gain" if self.prompts else "it lacks"
        return (
            f"no headroom: production has {self.production:.2f} on {self.gain.n} tuning cases, and {others} "
            f"{self.gain.estimate:.2f} (at most {self.gain.high:.2f}); {wanted:g} is asked for"
        )


def measure(study: Study, *, wanted: float, seed: int, written: bool) -> Headroom:
    """Tries prompts one by one, and stops as soon as a gain of `wanted` is in sight.

    At most five times 32 calls beside production's, less where prompts find it at once; the first two show logged
    answers, as optimizers do. `written`: a model that writes instructions will be asked, which may know what none of
    these prompts say; then only what production lacks of 1 counts. A used-up budget rules nothing out.
    """
    cases = shuffled(study.tune, seed)[:_CASES]
    own = study.evaluate(study.baseline, cases)
    best = {one.case_id: one.reward for one in own if one.reward is not None}
    before = dict(best)
    if not best:
        return Headroom(production=None, gain=None, prompts=0)
    groups = {one.case_id: one.task_group for one in own}
    production = sum(before.values()) / len(before)
    # With every answer right there would be no more than this to gain.
    gain = _interval({case: 1.0 - reward for case, reward in before.items()}, groups)
    tried = 0
    if written or gain.high < wanted:
        return Headroom(production=production, gain=gain, prompts=tried)
    for artifact in _prompts(study, seed):
        try:
            _raise(best, study.evaluate(artifact, cases))
        except BudgetError:
            return Headroom(production=production, gain=None, prompts=tried)
        tried += 1
        gain = _interval({case: best[case] - before[case] for case in before}, groups)
        if gain.estimate >= wanted:
            break
    return Headroom(production=production, gain=gain, prompts=tried)


def _prompts(study: Study, seed: int) -> Iterator[Artifact]:
    pool = demonstrations(study)
    for number in range(2 if pool else 0):
        drawn = balanced(pool, min(_SHOWN, len(pool)), random.Random(f"{seed}/{_SHOWN}/{number}"))
        try:
            yield with_demonstrations(study.baseline, [one.demo for one in drawn])
        except ConfigError:
            break  # the prompt has no place for demonstrations
    told = instructions(study.baseline)
    for rewrite in _REWRITES:
        yield with_instructions(study.baseline, f"{told}\n\n{rewrite}" if told else rewrite)


def _raise(best: dict[str, float], outcomes: list[Outcome]) -> None:
    for one in outcomes:
        if one.reward is not None and one.case_id in best:
            best[one.case_id] = max(best[one.case_id], one.reward)


def _interval(gains: dict[str, float], groups: dict[str, str]) -> Interval:
    found = clustered_mean(list(gains.values()), [groups[case] for case in gains], level=0.9)
    assert found is not None  # there is a gain of every case that could be scored
    return found
