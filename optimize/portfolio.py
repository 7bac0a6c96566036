"""Several optimizers on one site under one budget: what each finds is kept, whatever becomes of the others."""

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from math import ceil, log2
from typing import Literal

from tracemill.errors import BudgetError, ConfigError, StoreError
from tracemill.ids import content_id
from tracemill.optimize.replay import Ledger
from tracemill.optimize.search import production, scored, tune_score
from tracemill.protocols import Optimizer
from tracemill.records import Candidate, Case
from tracemill.study import Study, refuse_gate_cases

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Standing:
    """How far an optimizer came in the race."""

    optimizer: str
    rounds: int = 0
    calls: int = 0
    best: float | None = None
    """Its best tuning score."""
    refused: int = 0
    """Candidates with a line that too few users stand behind."""
    ended: Literal["racing", "done", "dropped", "budget", "failed"] = "racing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """What a race found, and how each optimizer did in it."""

    candidates: list[Candidate]
    """Each once, after the production artifact."""
    standings: list[Standing]
    """In the order of the optimizers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backing:
    """How many distinct users must stand behind what a candidate adds, so that no one person writes a prompt."""

    line: int = 1
    demonstration: int = 1

    def enough(self, candidate: Candidate) -> bool:
        return all(one.n_users >= (self.demonstration if one.demonstration else self.line) for one in candidate.support)


class _Found:
    """Candidates of a race, each once: two optimizers may find the same prompt, and the gate tests it once."""

    def __init__(self, first: Candidate, heard: Callable[[Candidate], None]) -> None:
        self.candidates: list[Candidate] = []
        self._known: set[str] = set()
        self._heard = heard
        self.add(first)

    def add(self, one: Candidate) -> None:
        prompt = one.artifact.to_json()
        if one.candidate_id not in self._known and prompt not in self._known:
            self._known |= {one.candidate_id, prompt}
            self.candidates.append(one)
            self._heard(one)


def run(
    study: Study,
    optimizers: Sequence[Optimizer],
    *,
    on_candidate: Callable[[Candidate], None],
    on_error: Callable[[str, Exception], None] | None = None,
    ledger: Ledger | None = None,
    backing: Backing = Backing(),
) -> Race:
    """All candidates found, after the production artifact with its own tuning score.

    With a `ledger` the optimizers race for its budget by successive halving (Jamieson and Talwalkar 2016): each round
    they have equal shares, and of those that are not done the better half, by their best tuning score, goes on. A
    search goes on by beginning again: its cached answers cost nothing. Without one each runs to its end in turn.
    Candidates without the `backing` are none.

    `on_candidate` hears each as it is found, production included. An optimizer that fails is told to `on_error`
    (name, error; None: the log) and the others run; a used-up budget ends the run, with all found until then.
    Raises what evaluating the production artifact raises: without it nothing can be compared; and StoreError: what
    cannot be kept need not be searched for.
    """
    tell = on_error or (lambda name, error: logger.warning("optimizer %s failed: %s", name, error))
    own = study.evaluate(study.baseline, study.tune)
    found = _Found(production(study, tune_score(study.tune, own)), on_candidate)
    study = replace(study, scorable=scored(own))
    racing = [(one, Standing(optimizer=one.name)) for one in optimizers]
    race = Race(candidates=found.candidates, standings=[standing for _, standing in racing])
    rounds = _rounds(len(racing), study, ledger)
    for number in range(rounds):
        later = (rounds - number - 1) * len(racing)
        for place, (optimizer, standing) in enumerate(racing):
            error = _leg(study, optimizer, standing, found, backing, ledger, 1 / (len(racing) - place + later))
            if isinstance(error, BudgetError) and (ledger is None or ledger.used_up):
                for _, one in racing:
                    one.ended = "budget" if one.ended == "racing" else one.ended
                tell(optimizer.name, error)
                return race
            if error is not None and not isinstance(error, BudgetError):
                tell(optimizer.name, error)
        racing = _better_half(racing)
        if not racing:
            break
    for _, standing in racing:
        standing.ended = "budget"
    return race


def _rounds(n: int, study: Study, ledger: Ledger | None) -> int:
    """Until one is alone; fewer where the first share would not pay for two prompts on all tuning cases: who could
    show nothing yet would be dropped unheard.
    """
    if ledger is None or not n:
        return 1
    wanted = 1 + ceil(log2(n))
    if ledger.budget.calls is None:
        return wanted
    return max(1, min(wanted, ledger.budget.calls // (2 * max(1, len(study.tune)) * n)))


def _leg(
    study: Study,
    optimizer: Optimizer,
    standing: Standing,
    found: _Found,
    backing: Backing,
    ledger: Ledger | None,
    share: float,
) -> Exception | None:
    """One search on its share of the budget; what ended it, None where it came to its end."""
    standing.rounds += 1
    before = 0 if ledger is None else ledger.spent.calls
    try:
        with nullcontext() if ledger is None else ledger.lent(share):
            standing.refused = 0  # a search that goes on begins again
            for one in optimizer.search(study):
                if not backing.enough(one):
                    standing.refused += 1
                    continue
                if one.tune_score is not None:
                    standing.best = max(one.tune_score, standing.best or 0.0)
                found.add(one)
    except BudgetError as error:
        return error
    except StoreError:
        raise
    except Exception as error:  # noqa: BLE001 - one optimizer's failure, whatever it is, must not cost the others
        standing.ended = "failed"
        return error
    finally:
        standing.calls += 0 if ledger is None else ledger.spent.calls - before
    standing.ended = "done"
    return None


def _better_half(racing: Sequence[tuple[Optimizer, Standing]]) -> list[tuple[Optimizer, Standing]]:
    """Those that are to go on, in the order given: what is done has found what it can and makes room for others."""
    going = [one for one in racing if one[1].ended == "racing"]
    ranked = sorted(going, key=lambda one: (one[1].best is None, -(one[1].best or 0.0)))
    kept = {one[1].optimizer for one in ranked[: ceil(len(racing) / 2)]}
    for _, standing in going:
        if standing.optimizer not in kept:
            standing.ended = "dropped"
    return [one for one in going if one[1].optimizer in kept]


def split_tune(cases: Sequence[Case], *, seed: int, share: float) -> tuple[list[Case], list[Case]]:
    """Cases of the learn pool as (train, tune); a task group lies whole in one of them.

    `share` is the part of the groups that tunes, at least one group where there are two. The draw depends on the seed
    and the group names alone, so a case keeps its side when others arrive; cases keep their order.
    """
    if not 0.0 < share < 1.0:
        raise ConfigError(f"the tuning share is {share}: give a number between 0 and 1")
    refuse_gate_cases(cases)
    place = {group: int(content_id(seed, group)[:12], 16) / 16**12 for group in {case.task_group for case in cases}}
    tuning = {group for group, at in place.items() if at < share}
    if len(place) > 1 and not tuning:
        tuning = {min(place, key=lambda group: (place[group], group))}
    if len(place) > 1 and len(tuning) == len(place):
        tuning.remove(max(place, key=lambda group: (place[group], group)))
    return [c for c in cases if c.task_group not in tuning], [c for c in cases if c.task_group in tuning]
