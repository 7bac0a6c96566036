"""Upkeep of the lake's files and history: merge, expire, clean up."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import duckdb

from tracemill.warehouse.engine import CATALOG
from tracemill.warehouse.layout import statement

_GRACE = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a checkpoint did."""

    expired: int
    """Snapshots that can no longer be read."""
    deleted: int
    """Files removed from disk."""


def checkpoint(con: duckdb.DuckDBPyConnection, *, now_ns: int, keep_days: int, keep: Sequence[int]) -> Checkpoint:
    """See Lake.checkpoint; the caller holds the lock."""
    now = datetime.fromtimestamp(now_ns / 1e9, tz=UTC)
    kept = timedelta(days=keep_days)
    named = {"before": now - kept, "before_ns": now_ns - kept // timedelta(microseconds=1) * 1000, "keep": list(keep)}
    expired = [int(row[0]) for row in con.execute(statement("expired_snapshots"), named).fetchall()]
    if expired:
        con.execute(f"CALL ducklake_expire_snapshots('{CATALOG}', versions => {expired})")
    con.execute(f"CALL ducklake_flush_inlined_data('{CATALOG}')")
    con.execute(f"CALL ducklake_rewrite_data_files('{CATALOG}')")
    con.execute(f"CALL ducklake_merge_adjacent_files('{CATALOG}')")
    before = (now - _GRACE).isoformat(sep=" ")
    deleted = 0
    for cleanup in ("ducklake_cleanup_old_files", "ducklake_delete_orphaned_files"):
        deleted += len(con.execute(f"CALL {cleanup}('{CATALOG}', older_than => TIMESTAMPTZ '{before}')").fetchall())
    return Checkpoint(expired=len(expired), deleted=deleted)
