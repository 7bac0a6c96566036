"""Logs to judgements and call sites: reward models score, their scores are combined, sites are recovered."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

import pyarrow as pa
import pyarrow.compute as pc

from tracemill import rewards
from tracemill.errors import BudgetError, EndpointError
from tracemill.mining import sites
from tracemill.optimize.ladder import Mark
from tracemill.pipelines import asking, crediting, fitting, validating
from tracemill.pipelines.config import Config
from tracemill.pipelines.night import Night
from tracemill.protocols import InPortions, RewardModel, Verifier
from tracemill.records import Case
from tracemill.rewards.registry import VERIFIERS
from tracemill.rewards.verifying import Explaining
from tracemill.warehouse import sparingly

Verify = Callable[[Case, str], float | None]
"""The reward of an output of a case; None where nobody can say."""
_ROWS = 200
"""Judgements that are written together: a transaction costs more than a few of them."""
_NEWEST = "SELECT max(ingested_at) AS at FROM ingest_log WHERE n_spans + n_merged > 0"
_UNMINED = f"""
SELECT 1
WHERE EXISTS (FROM transitions WHERE site_id IS NULL)
  AND ({_NEWEST})
      > (SELECT coalesce(max(recovered_at), 0) FROM sites)
"""


def specs(config: Config) -> list[rewards.RewardSpec]:
    return [
        rewards.RewardSpec(kind=reward.kind, name=reward.name or reward.kind, options=dict(reward.options))
        for reward in config.rewards
    ]


def score(night: Night) -> Mapping[str, int]:
    """Runs every reward model over what it has not judged yet, combines and credits. Rows written, by name.

    A model whose budget is used up goes on next time. Where an endpoint is dead, everything else is done before
    EndpointError is raised, and what was answered until then is written.
    """
    written: dict[str, int] = {}
    models = rewards.build(specs(night.config), root=night.config.root)
    dead: EndpointError | None = None
    with ExitStack() as endpoints:
        keeping = endpoints.enter_context(night.putting_off())
        models = [asking.with_somebody_to_ask(keeping, model, endpoints) for model in models]
        for done, model in enumerate(list(models)):
            night.tell("score", "reward models", done, len(models))
            written[model.name] = 0
            try:
                model = models[done] = fitting.fitted(night, model, night.config.rewards[done])
                _judge(night, model, written)
            except BudgetError as error:
                night.tell("score", f"{model.name}: {error}")
            except EndpointError as error:
                dead = dead or error
                models[done] = asking.nobody_there(model)
        written |= validating.combine(night, models)
    written |= crediting.assign(night)
    night.tell("score", "reward models", len(models), len(models))
    if dead is not None:
        raise dead
    return written


def _judge(night: Night, model: RewardModel, written: dict[str, int]) -> None:
    """Writes what the model says, some hundred rows at a time where it hands them over as they are known."""

    def write() -> None:
        if waiting:
            with night.lake.transaction(f"{night.night_id}: score {model.name}") as tx:
                written[model.name] += tx.insert("scores", pa.concat_tables(waiting))
            waiting.clear()

    waiting: list[pa.Table] = []
    with night.judge(model.name) as con:
        now_ns = night.clock()
        if not isinstance(model, InPortions):
            waiting.append(model.score(con, now_ns=now_ns))
            write()
            return
        try:
            for table in model.portions(con, now_ns=now_ns):
                waiting.append(table)
                if sum(one.num_rows for one in waiting) >= _ROWS:
                    write()
        except (BudgetError, EndpointError):
            write()
            raise
        write()


def unmined(night: Night) -> bool:
    """Whether spans came in that mining never saw: an ingest was stopped before its sites were recovered."""
    return bool(night.select(_UNMINED).num_rows)


def mine(night: Night) -> Mapping[str, int]:
    """Recovers the call sites of transitions that have none yet, so many at a time."""
    night.tell("mine", "call sites", 0, 1)
    sites_found: set[tuple[str, str]] = set()
    assigned = 0
    last: sites.Place | None = None
    while True:
        update = _recovered(night, last)
        last = update.last
        with night.lake.transaction(f"{night.night_id}: mine sites") as tx:
            tx.replace("sites", update.sites if last is None else _begun(night, update.sites))
            tx.assign_sites(update.assigned)
        sites_found.update(zip(*(update.sites[name].to_pylist() for name in ("site_id", "site_version")), strict=True))
        assigned += update.assigned.num_rows
        if last is None:
            break
    night.tell("mine", "call sites", 1, 1)
    return {"sites": len(sites_found), "assigned": assigned}


def _recovered(night: Night, after: sites.Place | None) -> sites.SiteUpdate:
    with night.lake.reader() as con:
        return sparingly(con, lambda: sites.recover(con, now_ns=night.clock(), after=after))


def _begun(night: Night, found: pa.Table) -> pa.Table:
    """Sites recovered before the newest logs were all looked at: `unmined` is to say so until they were."""
    newest = night.select(_NEWEST)["at"][0].as_py()
    if newest is None:
        return found
    at = pc.min_element_wise(found["recovered_at"], newest - 1)
    return found.set_column(found.schema.get_field_index("recovered_at"), "recovered_at", at)


def verifier(config: Config, *, cautious: bool = False) -> Verify:
    """The reward of a replayed output: the first configured verifier that can judge the case, sealed ones aside.

    None for one call out of an episode of several, unless somebody corrected that very call: what the episode came to
    says nothing about a call that was replayed alone. `cautious` takes the lower bound of a verifier that is not sure.
    """
    return _first(open_verifiers(config), cautious=cautious)


def open_verifiers(config: Config) -> tuple[Verifier, ...]:
    """The configured verifiers, sealed ones aside."""
    return tuple(one for one in _verifiers(config) if one.name not in config.combined.sealed)


def mark(verifiers: Sequence[Verifier], case: Case, output: str, *, cautious: bool, alone: bool) -> Mark:
    """What the first verifier that can judge the case says. `alone`: the output is that of one call, replayed alone."""
    if alone and case.steps > 1 and case.correction is None:
        return Mark(reward=None)
    for one in verifiers:
        if cautious and isinstance(one, Explaining):
            value = one.explain(case, output).low
        else:
            value = one.verify(case, output)
        if value is not None:
            return Mark(reward=value, by=f"{one.name}@{one.version}")
    return Mark(reward=None)


def sealed_verifiers(config: Config) -> Mapping[str, Verify]:
    """Those of the sealed reward models that can judge a replayed output, by name: for the gate only."""
    sealed = config.combined.sealed
    return {one.name: _first([one], cautious=False) for one in _verifiers(config) if one.name in sealed}


def _verifiers(config: Config) -> list[Verifier]:
    return [rewards.build_verifier(spec, config.root) for spec in specs(config) if spec.kind in VERIFIERS]


def _first(verifiers: Sequence[Verifier], *, cautious: bool) -> Verify:
    return lambda case, output: mark(verifiers, case, output, cautious=cautious, alone=True).reward
