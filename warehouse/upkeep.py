"""Upkeep of the lake's files and history: flush, merge, expire, clean up, all with DuckLake's own calls.

Ingests leave files as small as they are, and rows in the catalog where they are a few. A night's upkeep writes the rows
of the catalog into files and merges what is small, in two tiers, so that a night costs what the night brought and not
what the lake holds: files below SMALL are merged every night, those that have grown to it only when MANY of a table
are there, and those of BIG never again. Merged files are sorted as the table is, and tell which row belongs to which
snapshot: history stays readable. DuckLake keeps the statistics of its files and tables itself.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from tracemill.warehouse.engine import CATALOG, quoted, sparingly
from tracemill.warehouse.layout import statement

_GRACE = timedelta(days=1)
SMALL = 16 << 20
BIG = 256 << 20
MANY = 8
_AT_ONCE = 4
"""So many files are made by merging at once."""
_DELETED = 0.1
"""Of a file's rows. A file with deleted rows is not merged; with fewer it is worth no rewriting."""

_METADATA = f"__ducklake_metadata_{CATALOG}"
_TABLES_OF = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'table'",
    "postgres": "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()",
}
"""How a kind of catalog tells its tables."""
_INLINED = re.compile(r"ducklake_inlined_(?:data_(\d+)_\d+|delete_(\d+))")
"""DuckLake's names for what it keeps in the catalog: rows by a table's id and layout, deletions by its id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a checkpoint did."""

    expired: int
    """Snapshots that can no longer be read."""
    deleted: int
    """Files removed from disk."""
    merged: int
    """Data files that went into others."""
    files: int
    """Data files that hold the lake as it is now."""


def checkpoint(con: duckdb.DuckDBPyConnection, *, now_ns: int, keep_days: int, keep: Sequence[int]) -> Checkpoint:
    """See Lake.checkpoint; the caller holds the lock."""
    now = datetime.fromtimestamp(now_ns / 1e9, tz=UTC)
    kept = timedelta(days=keep_days)
    named = {"before": now - kept, "before_ns": now_ns - kept // timedelta(microseconds=1) * 1000, "keep": list(keep)}
    expired = [int(row[0]) for row in con.execute(statement("expired_snapshots"), named).fetchall()]
    if expired:
        con.execute(f"CALL ducklake_expire_snapshots('{CATALOG}', versions => {expired})")
    flush(con)
    merged = _compact(con)
    before = (now - _GRACE).isoformat(sep=" ")
    deleted = 0
    for cleanup in ("ducklake_cleanup_old_files", "ducklake_delete_orphaned_files"):
        deleted += len(con.execute(f"CALL {cleanup}('{CATALOG}', older_than => TIMESTAMPTZ '{before}')").fetchall())
    return Checkpoint(expired=len(expired), deleted=deleted, merged=merged, files=sum(_file_counts(con).values()))


def sweep(con: duckdb.DuckDBPyConnection, data: Path) -> None:
    """Take what a failed transaction has written off the disk now: a full one would stay full for a day.

    The caller holds the lock, so nobody is writing a file that the catalog does not know yet. What others keep in the
    folder for a while has other names.
    """
    found = con.execute(f"CALL ducklake_delete_orphaned_files('{CATALOG}', cleanup_all => true, dry_run => true)")
    for (name,) in found.fetchall():
        path = Path(name)
        if path.name.startswith("ducklake-") and path.is_relative_to(data):
            path.unlink(missing_ok=True)


def flush(con: duckdb.DuckDBPyConnection) -> None:
    """Write the rows and deletions that stand in the catalog into files, in one transaction.

    DuckLake is asked only about the tables that have some: it takes its time over each of them otherwise.
    """
    tables = inlined(con)
    if not tables:
        return
    con.execute("BEGIN")
    for table in tables:
        con.execute(f"CALL ducklake_flush_inlined_data('{CATALOG}', table_name => {quoted(table)})")
    con.execute("COMMIT")


def inlined(con: duckdb.DuckDBPyConnection) -> list[str]:
    """Tables with rows or deletions in the catalog; outside of transactions."""
    [(kind,)] = con.execute(f"SELECT catalog_type FROM ducklake_settings('{CATALOG}')").fetchall()

    def ask(query: str) -> list[str]:
        # The catalog's own SQL: DuckDB lists none of its tables, and would look each of them up.
        answer = con.execute(f"SELECT * FROM {kind}_query({quoted(_METADATA)}, {quoted(query)})")
        return [str(row[0]) for row in answer.fetchall()]

    kept = [name for name in ask(_TABLES_OF[kind]) if _INLINED.fullmatch(name)]
    if not kept:
        return []
    filled = ask(" UNION ALL ".join(f"SELECT '{name}' AS name WHERE EXISTS (SELECT 1 FROM {name})" for name in kept))
    ids = sorted({int(match[1] or match[2]) for name in filled if (match := _INLINED.fullmatch(name))})
    tables = con.execute(
        f"SELECT table_name FROM {_METADATA}.ducklake_table WHERE end_snapshot IS NULL AND table_id IN (FROM unnest(?))"
        " ORDER BY table_id",
        [ids],
    )
    return [str(row[0]) for row in tables.fetchall()]


def _compact(con: duckdb.DuckDBPyConnection) -> int:
    """Few files of each table; returns how many went into others. DuckLake is asked only where there is some to do."""
    counts = _file_counts(con)
    merged = 0
    for table in counts:
        here = f"'{CATALOG}', '{table}'"
        files = _files(con, table)
        if any(has_deleted for _, has_deleted in files):
            crumbled = sum(1 for size, has_deleted in files if has_deleted and size < SMALL)
            # Small files that cannot be merged for a deleted row or two pile up all the same.
            threshold = 0.0 if crumbled > MANY else _DELETED
            merged += _processed(con, f"ducklake_rewrite_data_files({here}, delete_threshold => {threshold})")[0]
            files = _files(con, table)
        if sum(1 for size, has_deleted in files if size < SMALL and not has_deleted) > 1:
            merged += _merged(con, f"{here}, max_file_size => {SMALL}")
            files = _files(con, table)
        grown = sum(1 for size, has_deleted in files if SMALL <= size < BIG and not has_deleted)
        if grown >= MANY:
            merged += _merged(con, f"{here}, min_file_size => {SMALL}, max_file_size => {BIG}")
    return merged


def _merged(con: duckdb.DuckDBPyConnection, which: str) -> int:
    """Merges files, those of a few days at a time: DuckLake sorts all that a call merges at once."""
    merged = 0
    while True:
        taken, made = _processed(con, f"ducklake_merge_adjacent_files({which}, max_compacted_files => {_AT_ONCE})")
        merged += taken
        if made < _AT_ONCE or taken <= made:
            return merged


def _processed(con: duckdb.DuckDBPyConnection, call: str) -> tuple[int, int]:
    """How many files a call took, and how many it made of them."""
    found = sparingly(con, lambda: con.execute(f"SELECT files_processed, files_created FROM {call}").fetchall())
    return sum(int(row[0]) for row in found), sum(int(row[1]) for row in found)


def _file_counts(con: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Tables that have data files, and how many."""
    found = con.execute(f"SELECT table_name, file_count FROM ducklake_table_info('{CATALOG}') WHERE file_count > 0")
    return {str(name): int(count) for name, count in found.fetchall()}


def _files(con: duckdb.DuckDBPyConnection, table: str) -> list[tuple[int, bool]]:
    """The size of each data file of a table, and whether rows of it were deleted."""
    found = con.execute(
        f"SELECT data_file_size_bytes, delete_file IS NOT NULL FROM ducklake_list_files('{CATALOG}', '{table}')"
    )
    return [(int(size), bool(deleted)) for size, deleted in found.fetchall()]
