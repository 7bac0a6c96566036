"""Spans into the lake: each once, in its latest version, completed from its parts, marked by the rest of its trace.

The statements, in their order, are in `statements/`; here are the column lists that they are filled with.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from tracemill.schema import TABLES
from tracemill.warehouse import rows
from tracemill.warehouse.layout import statement

_NAMES = TABLES["spans"].schema.names
_PROVENANCE = frozenset({"source_uri", "source_line", "ingested_at"})
"""Columns that may differ between two deliveries of the same span."""
_SOURCE = ("source_uri", "source_line", "source_format", "dialect")
_TOKENS = ("input_token_ids", "output_token_ids", "output_logprobs")
_MESSAGES = ("system_ids", "input_ids", "output_ids")
_OWN_FOLD = frozenset(
    (*_SOURCE, "trace_id", "span_id", "day", "seq", "revised_ns", "ingested_at", "attributes", "flags", "marks")
)
"""Columns that `folded.sql` does not simply take from the topmost layer."""
_OWN_JOIN = frozenset((*_MESSAGES, *_TOKENS, "kind", "status", "start_ns"))
_TEMPORARY = (
    *("span_keys", "part_keys", "deliveries", "folded", "known_spans"),
    *("span_changes", "span_tree", "span_marks", "remarked_spans"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What became of the deliveries of one source."""

    spans: int = 0
    """Those that made a span or a newer version of one."""
    merged: int = 0
    """Those that completed a span beside others, or wait for the rest of it."""
    duplicates: int = 0
    """Those that say what the lake has already, or has newer."""


def _as_told(alias: str) -> str:
    """The columns as the source told them: without the flags that other spans decided."""
    return ", ".join(
        {"flags": f"{_told_flags(alias)} AS flags", "marks": "NULL AS marks"}.get(n, f'"{n}"') for n in _NAMES
    )


def _told_flags(alias: str) -> str:
    return (
        f"CASE WHEN {alias}.marks IS NULL THEN {alias}.flags "
        f"ELSE list_filter({alias}.flags, lambda f: NOT list_contains({alias}.marks, f)) END"
    )


def _compared(alias: str) -> str:
    """What makes two versions of a span different."""
    return ", ".join(
        f"coalesce({_told_flags(alias)}, [])" if name == "flags" else f'{alias}."{name}"'
        for name in _NAMES
        if name not in _PROVENANCE and name != "marks"
    )


def _fillings(near: str) -> dict[str, str]:
    folded = [name for name in _NAMES if name not in _OWN_FOLD]
    passed = [name for name in folded if name not in _OWN_JOIN]
    finished = {
        "day": "CAST(make_timestamp_ns(start_ns) AS DATE) AS day",
        "flags": "list_sort(list_distinct(flags)) AS flags",
        "marks": "CAST(NULL AS VARCHAR[]) AS marks",
    }
    marked = {
        "flags": "CASE WHEN m.marks IS NULL THEN s.flags ELSE list_concat(coalesce(s.flags, []), m.marks) END",
        "marks": "m.marks",
    }
    return {
        "near": near,
        "columns": rows.columns(_NAMES),
        "as_told": _as_told("o"),
        "compared": rows.columns([n for n in _NAMES if n not in _PROVENANCE]),
        "new": _compared("s"),
        "old": _compared("o"),
        "topmost": ", ".join(f'arg_max("{name}", layer) AS "{name}"' for name in folded),
        "joined": ", ".join(["trace_id", "span_id", *(f't."{name}"' for name in passed)]),
        "finished": ", ".join(finished.get(name, f'"{name}"') for name in _NAMES),
        "marked": ", ".join(marked.get(name, f's."{name}"') for name in _NAMES),
    }


def write(
    con: duckdb.DuckDBPyConnection, spans: pa.Table, parts: pa.Table, known: Sequence[str]
) -> tuple[Mapping[str | None, Fate], list[str]]:
    """Takes spans and parts of spans, without those of the sources that are `known`.

    Returns what became of them by source, and the traces that are no longer as they were.
    """
    if spans.num_rows == 0 and parts.num_rows == 0:
        return {}, []
    rows.stage(con, "staged", spans)
    rows.stage(con, "staged_parts", parts)
    con.register("known_objects", pa.table({"source_uri": pa.array(known, pa.string())}))
    try:
        con.execute(statement("span_keys"))
        con.execute(statement("part_keys"))
        # The days on which the lake has these traces; most batches bring new traces only and look at no span at all.
        near = rows.in_days(
            con,
            "trace_days SEMI JOIN (SELECT trace_id FROM temp.span_keys UNION SELECT trace_id FROM temp.part_keys) k "
            "USING (trace_id)",
        )
        fillings = _fillings(near)

        def run(name: str) -> duckdb.DuckDBPyConnection:
            return con.execute(statement(name).format(**fillings))

        in_parts = con.execute("SELECT 1 FROM temp.part_keys LIMIT 1").fetchone() is not None
        if not in_parts:
            columns = fillings["columns"]
            con.execute(f"CREATE OR REPLACE TEMP TABLE folded AS SELECT {columns} FROM staged LIMIT 0")
            con.execute(
                "CREATE OR REPLACE TEMP TABLE deliveries AS "
                f"SELECT {columns}, '' AS part, 0 AS age, _row FROM staged LIMIT 0"
            )
        else:
            run("deliveries")
            run("folded")
        run("known_spans")
        again = con.execute("SELECT 1 FROM temp.known_spans LIMIT 1").fetchone() is not None
        run("span_changes" if again else "span_arrivals")
        run("span_tree")
        run("span_marks")
        run("remarked_spans")
        run("drop_old_spans")
        _arrive(con, spans)
        run("write_spans")
        if in_parts:
            run("drop_old_parts")
            run("write_parts")
        run("trace_days")
        if near != "false":
            run("drop_old_days")
        fates = {
            uri: Fate(spans=wrote, merged=merged, duplicates=duplicates)
            for uri, wrote, merged, duplicates in run("span_account").fetchall()
        }
        traces = con.execute("SELECT DISTINCT trace_id FROM temp.span_changes ORDER BY trace_id").fetchall()
        for temporary in _TEMPORARY:
            con.execute(f"DROP TABLE temp.{temporary}")
    finally:
        con.unregister("staged")
        con.unregister("staged_parts")
        con.unregister("known_objects")
        con.unregister("arrivals")
    return fates, [row[0] for row in traces]


def _arrive(con: duckdb.DuckDBPyConnection, spans: pa.Table) -> None:
    """Makes the rows that are to be written readable as `arrivals`; picked here, as a join would carry all columns."""
    kept = con.execute("SELECT _row FROM temp.span_changes WHERE NOT of_parts ORDER BY _row").to_arrow_table()
    con.register("arrivals", spans if kept.num_rows == spans.num_rows else spans.take(kept.column(0)))
