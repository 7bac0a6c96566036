"""Logs in: source objects become batches, a batch becomes one transaction with its trajectories and their pools."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter, sleep
from typing import Any
from uuid import uuid4

import pyarrow as pa

from tracemill import ingest
from tracemill.errors import ConflictError
from tracemill.mining import groups
from tracemill.pipelines import engines, joining, landed
from tracemill.pipelines.config import Config, SourceConfig
from tracemill.pipelines.ledger import BEGUN, REFUSED, TAKEN, Ledger
from tracemill.pipelines.night import Night
from tracemill.records import Batch
from tracemill.warehouse import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestReport:
    """What a call took in: rows that are new with it, 0 where nothing was new.

    The account closes: `items` = spans + merged + duplicates + scores + quarantined.
    """

    files: int = 0
    items: int = 0
    """Everything that the sources held: spans, parts of spans, scores, refused records."""
    spans: int = 0
    """New spans, and newer versions of known ones."""
    merged: int = 0
    """Parts that completed a span beside others, or wait for the rest of it."""
    messages: int = 0
    trajectories: int = 0
    scores: int = 0
    duplicates: int = 0
    quarantined: int = 0
    seconds: float = 0.0
    joins: tuple[joining.ScoreJoin, ...] = ()
    """How the feedback files met the lake; empty where none was given."""

    @property
    def all_refused(self) -> bool:
        """Whether something came in and nothing of it could be used."""
        return self.items > 0 and self.items == self.quarantined


def configured_sources(config: Config) -> list[SourceConfig]:
    """The `[[sources]]` with their full paths, those left out where nothing is on this machine yet."""
    full = [
        source if "://" in source.path else replace(source, path=str(config.path(source.path)))
        for source in config.sources
    ]
    return [source for source in full if "://" in source.path or ingest.reachable(source.path)]


def take_in_configured(night: Night, *, retry_refused: bool = False) -> IngestReport:
    """Takes in what is new among the `[[sources]]`, each in its own format.

    One that cannot be asked (no credentials, no such bucket) costs only itself: it is a quarantine row.
    """
    totals: dict[str, Any] = {}
    for alike in _alike(configured_sources(night.config)):
        report = take_in(
            night,
            [source.path for source in alike],
            format=alike[0].format,
            options=alike[0].options,
            standing=True,
            retry_refused=retry_refused,
        )
        for name, value in asdict(report).items():
            if name != "joins":
                totals[name] = totals.get(name, 0) + value
    return IngestReport(**totals)


def _alike(sources: Sequence[SourceConfig]) -> list[list[SourceConfig]]:
    """The sources in groups that are read in one way."""
    groups: list[list[SourceConfig]] = []
    for source in sources:
        group = next((g for g in groups if (g[0].format, g[0].options) == (source.format, source.options)), None)
        if group is None:
            groups.append([source])
        else:
            group.append(source)
    return groups


def take_in(
    night: Night,
    sources: Sequence[str | Path],
    *,
    format: str = "auto",
    scores: Sequence[Path] = (),
    on: str = "session_id",
    options: Mapping[str, Any] | None = None,
    standing: bool = False,
    retry_refused: bool = False,
    batch_bytes: int = ingest.BATCH_BYTES,
) -> IngestReport:
    """Takes in what is new among `sources`, then feedback files joined `on` a key. Safe to repeat at any time.

    Objects that no reader understood are tried again when the readers have changed; with `retry_refused` every object
    of which a record was refused is read again. What cannot be opened is tried each time; what has not changed since it
    was taken in, as its store or file system tells, is not even opened. `options` and `standing` are those of
    `ingest.find`. A batch of `batch_bytes`
    is one transaction: stopped between two, a call is continued by the next.
    """
    started = perf_counter()
    totals: dict[str, int] = {}
    landed.take_over(night.config.landing_path)
    now_ns = night.clock()  # before the listing: what changes after it must not pass for what was read
    objects = ingest.find(sources, options=options or {}, standing=standing)
    rules = ingest.Ruleset(night.config.redaction)
    declare_tasks(night)
    job = engines.Job(
        now_ns=now_ns,
        format=format,
        formats=night.config.formats,
        redaction=night.config.redaction,
        limits=night.config.limits,
        batch_bytes=batch_bytes,
    )
    ledger = Ledger.of(
        night.select(TAKEN),
        night.select(BEGUN),
        night.select(REFUSED),
        readers=job.readers,
        retry_refused=retry_refused,
    )
    todo = engines.tasks(objects, ledger, ingest.Names(night.lake.key, rules), batch_bytes)
    place = night.lake.place
    staging = engines.Staging(
        url=f"{place.data_url}staging/{night.night_id}-{uuid4().hex[:8]}", options=place.store_options
    )
    renewed: list[tuple[str, str, str]] = []
    night.tell("ingest", "reading logs", 0, len(objects))
    made = engines.deliveries(night.config.ingest, job, todo, key=night.lake.key, rules=rules, staging=staging)
    with closing(made):
        for task, one in made:
            if isinstance(one, engines.Finished):
                renewed += one.renewed
                continue
            _add(totals, write(night, one.batch, again=one.again))
            task.ledger.note(one.batch.tables)
            night.tell("ingest", "reading logs", min(totals["files"], len(objects)), len(objects))
            del one  # while the next batch is made, this one need not be there
    if renewed:
        with night.lake.transaction(f"{night.night_id}: {len(renewed)} objects are as they were") as tx:
            tx.renew(renewed)
    joins: list[joining.ScoreJoin] = []
    for path in scores:
        judged, joined = joining.read(night, path, on=on, rules=rules)
        joins.append(joined)
        _add(totals, write(night, judged, again=_objects(judged)))
    landed.clear(night, objects)
    night.tell("ingest", "reading logs", len(objects), len(objects))
    return IngestReport(**totals, seconds=round(perf_counter() - started, 3), joins=tuple(joins))


def _objects(batch: Batch) -> list[tuple[str, str]]:
    """Feedback is joined anew each time: what did not match before may match now."""
    ledger = batch.tables["ingest_log"]
    return list(zip(ledger["source_uri"].to_pylist(), ledger["content_hash"].to_pylist(), strict=True))


_PATIENCE_S = (0.1, 0.5, 2.0, 5.0, 10.0)


def write(night: Night, batch: Batch, *, again: Sequence[tuple[str, str]] = ()) -> Mapping[str, int]:
    """One batch, one transaction: its rows, its ledger rows, and the trajectories that it touches with their pools.

    `again` names objects of the batch (uri, content hash) whose earlier ledger rows it replaces. Where another writer
    of a shared lake was faster, it is written anew.
    """
    for patience_s in _PATIENCE_S:
        try:
            return _written(night, batch, again)
        except ConflictError:
            sleep(patience_s)
    return _written(night, batch, again)


def _written(night: Night, batch: Batch, again: Sequence[tuple[str, str]]) -> Mapping[str, int]:
    with night.lake.transaction(f"{night.night_id}: ingest {batch.batch_id}") as tx:
        tx.reopen(again)
        taken = tx.take(batch)
        ungrouped = tx.rebuild(taken.trace_ids)
        assign_pools(night, tx, ungrouped)
    return {
        "files": taken.files,
        "items": taken.items,
        "spans": taken.spans,
        "merged": taken.merged,
        "messages": taken.messages,
        "trajectories": ungrouped.num_rows,
        "scores": taken.scores,
        "duplicates": taken.duplicates,
        "quarantined": taken.quarantined,
    }


def assign_pools(night: Night, tx: Transaction, ungrouped: pa.Table) -> None:
    """Every new trajectory goes to a task group, and with it to a pool, before anyone can read it."""
    if ungrouped.num_rows == 0:
        return
    grouping = groups.group_tasks(
        tx.con,
        ungrouped,
        key=night.lake.key,
        gate_share=night.config.split.gate_share,
        now_ns=night.clock(),
    )
    tx.assign_groups(grouping.assigned, grouping.new_groups)


def declare_tasks(night: Night) -> None:
    """The `[tasks]` file into the lake, before the logs that name its tasks."""
    declared = night.config.tasks
    if declared is None:
        return
    prefix = "" if declared.format is None else f"{declared.format}:"
    table = ingest.read_tasks(night.config.path(declared.path), key=declared.key, group=declared.group, prefix=prefix)
    with night.lake.transaction(f"{night.night_id}: tasks") as tx:
        tx.replace("tasks", table)


def _add(totals: dict[str, int], more: Mapping[str, int]) -> None:
    for name, count in more.items():
        totals[name] = totals.get(name, 0) + count
