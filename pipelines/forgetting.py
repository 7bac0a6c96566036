"""Forgetting: a user, a trace or what is old leaves the lake and the landing folder, down to the bytes."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracemill import ingest
from tracemill.errors import ConfigError
from tracemill.ids import keyed_id
from tracemill.pipelines import ingesting, labelling, preferring
from tracemill.pipelines.night import Night, rows
from tracemill.records import Batch
from tracemill.warehouse import Erased, Scope, Transaction

_DAY_NS = 86_400_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """What was forgotten, or would be."""

    receipt_id: str | None
    """Of the row in `receipts`; None for a rehearsal."""
    traces: int
    counts: Mapping[str, int]
    """Rows by table."""
    releases: list[dict[str, Any]]
    """Releases made from what was forgotten: they are still published, and for the operator to withdraw."""
    candidates: list[str]
    """Candidates made from it whose own rows show nothing of it; their adapters learned from it."""
    landing: list[str]
    """Landing files that were deleted."""
    heads: list[str]
    """Folders of trained heads that were deleted: they learned from it."""
    sources: list[str]
    """Files that still hold it, and are not ours to delete."""


class _RehearsedError(Exception):
    """Undoes the transaction of a rehearsal; never leaves this module."""


def days(age: str) -> int:
    """`90d` as a number of days. Raises ConfigError on anything else."""
    match = re.fullmatch(r"(\d{1,5})d", age.strip())
    if match is None:
        raise ConfigError(f"--older-than {age!r}: a number of days such as 90d")
    return int(match.group(1))


def forget(
    night: Night,
    *,
    user: str | None = None,
    trace: str | None = None,
    older_than: str | None = None,
    landing: Path,
    dry_run: bool = False,
) -> Forgotten:
    """Erases one of: a user (raw id or stored user_key), a trace, everything that ended so many days ago.

    What the collector has landed is taken in first, so that it is found. Stopped on the way, it is finished by the
    same call. Raises ConfigError where not exactly one subject is given.
    """
    if sum(one is not None for one in (user, trace, older_than)) != 1:
        raise ConfigError("forget wants one of --user KEY, --trace ID and --older-than 90d")
    now = night.clock()
    scope: Scope
    names = None
    if user is not None:
        scope, subject = "user", _user_key(night, user)
        names = None if subject == user else user
    elif trace is not None:
        scope, subject = "trace", trace
    else:
        assert older_than is not None
        scope, subject = "older_than", str(now - days(older_than) * _DAY_NS)
    told = older_than if scope == "older_than" else keyed_id(night.lake.key, "forget", scope, subject)
    receipt_id = keyed_id(night.lake.key, "receipt", scope, subject, str(now))
    if dry_run:
        erased = _rehearsed(night, scope, subject, names, receipt_id)
        return _forgotten(None, erased, [], [], landing)
    if _landed(landing):
        ingesting.take_in(night, [landing])
    before = night.lake.snapshot_id()
    with night.lake.transaction(f"{night.night_id}: forget") as tx:
        erased = tx.erase(scope, subject, names=names, receipt_id=receipt_id)
        _write_receipt(tx, erased, receipt_id=receipt_id, scope=scope, subject=told, snapshot_id=before, at=now)
    deleted = _clean_landing(night, landing)
    heads = preferring.cleared(night)
    labelling.without_forgotten(night)
    night.lake.purge()
    return _forgotten(receipt_id, erased, deleted, heads, landing)


def _user_key(night: Night, user: str) -> str:
    known = night.select("SELECT 1 FROM spans WHERE user_key = ? LIMIT 1", user).num_rows
    known = known or night.select("SELECT 1 FROM scores WHERE user_key = ? LIMIT 1", user).num_rows
    return user if known else keyed_id(night.lake.key, "user", user)


def _rehearsed(night: Night, scope: Scope, subject: str, names: str | None, receipt_id: str) -> Erased:
    """Counted by doing it and undoing it."""
    erased: Erased | None = None
    try:
        with night.lake.transaction(f"{night.night_id}: forget, rehearsed") as tx:
            erased = tx.erase(scope, subject, names=names, receipt_id=receipt_id)
            raise _RehearsedError
    except _RehearsedError:
        assert erased is not None
        return erased


def _write_receipt(tx: Transaction, erased: Erased, **columns: Any) -> None:
    row = {
        "action": "forget",
        "counts": json.dumps({"traces": erased.traces, **erased.counts}),
        "flagged": json.dumps({"releases": erased.releases, "candidates": erased.candidates}),
        **columns,
    }
    tx.insert("receipts", rows("receipts", [row]))


def _landed(landing: Path) -> list[ingest.SourceObject]:
    return ingest.find([landing]) if landing.is_dir() else []


def _clean_landing(night: Night, landing: Path) -> list[str]:
    """Deletes the landing files that hold an erased trace; the rest of what they hold is in the lake."""
    ledger = night.select("SELECT content_hash FROM ingest_log")
    taken = set(ledger["content_hash"].to_pylist())
    deleted = []
    for one in _landed(landing):
        if one.unreadable is not None or one.content_hash not in taken:
            continue
        if any(_holds_erased(night, batch) for batch in ingest.batches([one], key=night.lake.key, now_ns=0)):
            Path(one.uri).unlink()
            deleted.append(one.uri)
    return deleted


def _holds_erased(night: Night, batch: Batch) -> bool:
    traces = {id for name in ("spans", "span_parts") for id in batch.tables[name]["trace_id"].to_pylist()}
    found = night.select("SELECT 1 FROM erased WHERE trace IN (SELECT md5(unnest(?))) LIMIT 1", sorted(traces))
    return bool(found.num_rows)


def _forgotten(
    receipt_id: str | None, erased: Erased, deleted: list[str], heads: list[str], landing: Path
) -> Forgotten:
    ours = str(landing)
    return Forgotten(
        receipt_id=receipt_id,
        traces=erased.traces,
        counts=erased.counts,
        releases=erased.releases,
        candidates=erased.candidates,
        landing=deleted,
        heads=heads,
        sources=[uri for uri in erased.sources if not uri.startswith(ours)],
    )
