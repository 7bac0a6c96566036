"""Logs in: source objects become batches, a batch becomes one transaction with its trajectories and their pools."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from glob import iglob
from pathlib import Path
from time import perf_counter
from typing import Any

import pyarrow as pa

from tracemill import ingest
from tracemill.mining import groups
from tracemill.pipelines.config import Config
from tracemill.pipelines.night import Night
from tracemill.records import Batch
from tracemill.warehouse import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestReport:
    """What a call took in: rows that are new with it, 0 where nothing was new."""

    files: int = 0
    spans: int = 0
    messages: int = 0
    trajectories: int = 0
    scores: int = 0
    duplicates: int = 0
    quarantined: int = 0
    seconds: float = 0.0


def configured_sources(config: Config) -> list[tuple[str, str]]:
    """Place and format of the `[[sources]]` that exist; a folder or glob without a file yet is no error."""
    found = []
    for source in config.sources:
        if "://" in source.path:
            found.append((source.path, source.format))
            continue
        path = config.path(source.path)
        if path.exists() or next(iglob(str(path), recursive=True), None) is not None:
            found.append((str(path), source.format))
    return found


def take_in_configured(night: Night) -> IngestReport:
    """Takes in what is new among the `[[sources]]`, each in its own format."""
    of_format: dict[str, list[str]] = {}
    for uri, format in configured_sources(night.config):
        of_format.setdefault(format, []).append(uri)
    reports = [take_in(night, uris, format=format) for format, uris in of_format.items()]
    totals: dict[str, Any] = {}
    for report in reports:
        for name, value in asdict(report).items():
            totals[name] = totals.get(name, 0) + value
    return IngestReport(**totals)


def take_in(
    night: Night,
    sources: Sequence[str | Path],
    *,
    format: str = "auto",
    scores: Sequence[Path] = (),
    on: str = "session_id",
) -> IngestReport:
    """Takes in what is new among `sources`, then feedback files joined `on` a key. Safe to repeat at any time."""
    started = perf_counter()
    totals: dict[str, int] = {}
    objects = ingest.find(sources)
    declare_tasks(night)
    taken = night.select("SELECT source_uri, content_hash FROM ingest_log")
    ledger = set(zip(taken["source_uri"].to_pylist(), taken["content_hash"].to_pylist(), strict=True))
    batches = ingest.batches(
        objects,
        key=night.lake.key,
        now_ns=night.clock(),
        seen=lambda uri, digest: (uri, digest) in ledger,
        format=format,
        extra=[ingest.MappedRows(mapping) for mapping in night.config.formats],
    )
    night.tell("ingest", "reading logs", 0, len(objects))
    for batch in batches:
        _add(totals, write(night, batch))
        night.tell("ingest", "reading logs", min(totals["files"], len(objects)), len(objects))
    for path in scores:
        _add(totals, write(night, ingest.read_scores(path, on=on, key=night.lake.key, now_ns=night.clock())))
    night.tell("ingest", "reading logs", len(objects), len(objects))
    return IngestReport(**totals, seconds=round(perf_counter() - started, 3))


def write(night: Night, batch: Batch) -> Mapping[str, int]:
    """One batch, one transaction: its rows, its ledger rows, and the trajectories that it touches with their pools."""
    with night.lake.transaction(f"{night.night_id}: ingest {batch.batch_id}") as tx:
        taken = tx.take(batch)
        ungrouped = tx.rebuild(taken.trace_ids)
        assign_pools(night, tx, ungrouped)
    return {
        "files": taken.files,
        "spans": taken.spans,
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
        ungrouped,
        known=tx.con.execute("SELECT * FROM task_groups").to_arrow_table(),
        declared=tx.con.execute("SELECT * FROM tasks").to_arrow_table(),
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
