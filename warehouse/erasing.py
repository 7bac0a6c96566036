"""Erasing traces: every row of theirs and every row made from them, and then the bytes.

What belongs to an erased trace in a table is the condition in `statements/erasing/<table>.sql`.
"""

import re
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import duckdb

from tracemill.warehouse import engine
from tracemill.warehouse.engine import CATALOG
from tracemill.warehouse.layout import statement
from tracemill.warehouse.place import Place
from tracemill.warehouse.upkeep import flush

Scope = Literal["user", "trace", "older_than"]
_CHOICE = {"user": "erased_by_user", "trace": "erased_by_trace", "older_than": "erased_by_age"}
_PREPARED = ("erased_links", "erased_sites", "erased_groups", "derived_candidates")
# In this order: messages go that no span refers to any more, so after the spans; clusters after their members,
# and what names an answer after the answers.
_TABLES = (
    *("replays", "replay_sources", "evaluations", "findings", "candidates", "scores", "credits"),
    *("reward_models", "sites"),
    *("cluster_members", "clusters", "process_edges", "process_variants", "task_groups"),
    *("transitions", "trajectories", "span_parts", "spans", "trace_days", "messages"),
)
_TELLING = 4
"""A shorter raw id says nothing about the texts that it occurs in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """What an erasure took away, or would."""

    traces: int
    counts: Mapping[str, int]
    """Rows by table, of `quarantine` those whose excerpt was blanked."""
    releases: list[dict[str, Any]]
    """Releases that were made from what was erased: release_id, channel, bundle_id, bundle_uri, candidate_id."""
    candidates: list[str]
    """Candidates that were made from it and are still there: their artifact shows nothing of it."""
    sources: list[str]
    """Where it came from."""


def erase(con: duckdb.DuckDBPyConnection, scope: Scope, subject: str, *, names: str | None, receipt_id: str) -> Erased:
    """See Transaction.erase."""
    con.execute(statement(_CHOICE[scope]), {"subject": subject})
    for name in _PREPARED:
        con.execute(statement(name))
    releases = con.execute(statement("derived_releases")).to_arrow_table().to_pylist()
    parameters = {
        "user_key": subject if scope == "user" else None,
        "pattern": rf"(^|\W){re.escape(names)}($|\W)" if names is not None and len(names) >= _TELLING else None,
    }
    counts = {name: _delete(con, name, parameters) for name in _TABLES}
    con.execute(statement("blank_site_values"))
    con.execute(statement("blank_clusters"), {"pattern": parameters["pattern"]})
    blanked = con.execute(statement("blank_excerpts"), {"pattern": parameters["pattern"]}).fetchone()
    counts["quarantine"] = int(blanked[0]) if blanked else 0
    con.execute(statement("tombstones"), {"receipt": receipt_id})

    def listed(query: str) -> list[Any]:
        return [row[0] for row in con.execute(query).fetchall()]

    found = Erased(
        traces=int(listed("SELECT count(*) FROM temp.erased_traces")[0]),
        counts=counts,
        releases=releases,
        candidates=listed("SELECT candidate_id FROM temp.derived_candidates WHERE NOT shows_it ORDER BY 1"),
        sources=listed("SELECT id FROM temp.erased_links WHERE kind = 'source' ORDER BY 1"),
    )
    for name in ("erased_traces", *_PREPARED):
        con.execute(f"DROP TABLE temp.{name}")
    return found


def _delete(con: duckdb.DuckDBPyConnection, table: str, parameters: Mapping[str, Any]) -> int:
    condition = (Path(__file__).parent / "statements" / "erasing" / f"{table}.sql").read_text(encoding="utf-8")
    used = {name: value for name, value in parameters.items() if f"${name}" in condition}
    row = con.execute(f'DELETE FROM "{table}" WHERE {condition}', used).fetchone()
    return int(row[0]) if row else 0


def purge(con: duckdb.DuckDBPyConnection) -> None:
    """Rewrite what holds deleted rows, end all history before now, and delete every file that is left over."""
    flush(con)
    con.execute(f"CALL ducklake_rewrite_data_files('{CATALOG}', delete_threshold => 0.0)")
    versions = [row[0] for row in con.execute(statement("earlier_snapshots")).fetchall()]
    if versions:
        con.execute(f"CALL ducklake_expire_snapshots('{CATALOG}', versions => {versions})")
    for cleanup in ("ducklake_cleanup_old_files", "ducklake_delete_orphaned_files"):
        con.execute(f"CALL {cleanup}('{CATALOG}', cleanup_all => true)")


def scrub(catalog: Path) -> None:
    """Take out of the catalog what outlived its rows: least and greatest texts, free pages, the write-ahead log.

    No connection of this process may be open on the catalog.
    """
    con = sqlite3.connect(catalog, timeout=60, isolation_level=None)
    try:
        con.execute(statement("scrub_statistics"))
        con.execute("VACUUM")
        con.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        con.close()


def scrub_shared(place: Place) -> None:
    """As `scrub`, of a catalog in PostgreSQL. What the server keeps of its own (its log of changes) is the server's."""
    with engine.database(place) as con:
        run = "CALL postgres_execute(?, ?, use_transaction := false)"
        con.execute(run, [engine.DATABASE, statement("scrub_statistics")])
        con.execute(run, [engine.DATABASE, "VACUUM"])
