"""Several optimizers on one site under one budget: what each finds is kept, whatever becomes of the others."""

import logging
from collections.abc import Callable, Sequence

from tracemill.errors import BudgetError, ConfigError, StoreError
from tracemill.ids import content_id
from tracemill.optimize.search import production, tuned
from tracemill.protocols import Optimizer
from tracemill.records import Candidate, Case
from tracemill.study import Study, refuse_gate_cases

logger = logging.getLogger(__name__)


def run(
    study: Study,
    optimizers: Sequence[Optimizer],
    *,
    on_candidate: Callable[[Candidate], None],
    on_error: Callable[[str, Exception], None] | None = None,
) -> list[Candidate]:
    """All candidates found, after the production artifact with its own tuning score.

    `on_candidate` hears each as it is found, production included. An optimizer that fails is told to `on_error`
    (name, error; None: the log) and the next one runs; a used-up budget ends the run, with all found until then.
    Raises what evaluating the production artifact raises: without it nothing can be compared; and StoreError: what
    cannot be kept need not be searched for.
    """
    tell = on_error or (lambda name, error: logger.warning("optimizer %s failed: %s", name, error))
    found = [production(study, tuned(study, study.baseline))]
    on_candidate(found[0])
    known = {found[0].candidate_id, study.baseline.to_json()}
    for optimizer in optimizers:
        stream = optimizer.search(study)
        while True:
            try:
                proposal = next(stream, None)
            except BudgetError as error:
                tell(optimizer.name, error)
                return found
            except StoreError:
                raise
            except Exception as error:  # noqa: BLE001 - one optimizer's failure, whatever it is, must not cost the others
                tell(optimizer.name, error)
                break
            if proposal is None:
                break
            # Two optimizers may find the same prompt: one row, and the gate tests it once.
            if proposal.candidate_id not in known and proposal.artifact.to_json() not in known:
                known.add(proposal.candidate_id)
                found.append(proposal)
                on_candidate(proposal)
    return found


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
