"""Writing one ingest batch: each row once, however often its source comes by."""

from dataclasses import dataclass

import duckdb
import pyarrow as pa

from tracemill.errors import StoreError
from tracemill.records import Batch
from tracemill.schema import TABLES
from tracemill.warehouse import rows
from tracemill.warehouse.layout import statement

_TABLES = ("spans", "messages", "scores", "tasks", "ingest_log", "quarantine")
_PROVENANCE = frozenset({"source_uri", "source_line", "ingested_at"})
"""Columns that may differ between two deliveries of the same span."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a batch added. `spans + duplicates` is the number of spans that came in."""

    spans: int
    """Spans written: new ones, and ones that came again with other content."""
    messages: int
    scores: int
    duplicates: int
    """Spans not written, because the lake or the batch has them already."""
    quarantined: int
    files: int
    """Source objects that were not in the ledger."""
    trace_ids: list[str]
    """Traces with spans written, sorted: what to rebuild."""


def take(con: duckdb.DuckDBPyConnection, batch: Batch) -> Taken:
    """See Transaction.take."""
    unknown = sorted(set(batch.tables) - set(_TABLES))
    if unknown:
        raise StoreError(f"batch {batch.batch_id} has tables {unknown}; a batch may have: {', '.join(_TABLES)}")
    given = {
        name: rows.checked(table, TABLES[name].schema, name, TABLES[name].key) for name, table in batch.tables.items()
    }
    empty = {name: TABLES[name].schema.empty_table() for name in _TABLES}
    tables = empty | given
    spans, trace_ids = _take_spans(con, tables["spans"], tables["ingest_log"])
    messages = rows.insert(con, TABLES["messages"], tables["messages"])
    scores = rows.insert(con, TABLES["scores"], tables["scores"])
    rows.replace(con, TABLES["tasks"], tables["tasks"])
    quarantined = rows.insert(con, TABLES["quarantine"], tables["quarantine"])
    files = rows.insert(con, TABLES["ingest_log"], tables["ingest_log"])
    return Taken(
        spans=spans,
        messages=messages,
        scores=scores,
        duplicates=tables["spans"].num_rows - spans,
        quarantined=quarantined,
        files=files,
        trace_ids=trace_ids,
    )


def _take_spans(con: duckdb.DuckDBPyConnection, spans: pa.Table, ledger: pa.Table) -> tuple[int, list[str]]:
    """Spans written, and their traces."""
    if spans.num_rows == 0:
        return 0, []
    names = TABLES["spans"].schema.names
    compared = [name for name in names if name not in _PROVENANCE]
    rows.stage(con, "staged", spans)
    rows.stage(con, "ledger", ledger)
    try:
        con.execute(statement("span_keys"))
        # The days on which the lake has these traces; most batches bring new traces only and look at no span at all.
        near = rows.in_days(con, "trace_days SEMI JOIN span_keys USING (trace_id)")
        con.execute(
            statement("span_changes").format(
                near=near, old=rows.columns(compared, "o"), new=rows.columns(compared, "s")
            )
        )
        con.execute(statement("drop_old_spans").format(near=near))
        con.execute(
            f"INSERT INTO spans ({rows.columns(names)}) SELECT {rows.columns(names, 's')} FROM staged s "
            f"SEMI JOIN span_changes USING ({rows.ROW}) ORDER BY s.trace_id, s.seq"
        )
        con.execute(statement("trace_days"))
        row = con.execute("SELECT count(*), coalesce(list(DISTINCT trace_id), []) FROM span_changes").fetchone()
        for temporary in ("span_keys", "span_changes"):
            con.execute(f"DROP TABLE temp.{temporary}")
    finally:
        con.unregister("staged")
        con.unregister("ledger")
    return (int(row[0]), sorted(row[1])) if row else (0, [])
