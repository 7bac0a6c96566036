"""Spans into the lake: each once, in its latest version, completed from its parts, marked by the rest of its trace.

The statements, in their order, are in `statements/`; here are the column lists that they are filled with.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import duckdb
import numpy as np
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
    *("span_keys", "part_keys", "known_days", "deliveries", "folded", "stored_spans"),
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What `write` did."""

    fates: Mapping[str | None, Fate]
    """By source."""
    trace_ids: list[str]
    """Traces that are no longer as they were, sorted."""
    known: frozenset[str]
    """Those that the lake had spans of before, and maybe others that came and changed nothing."""
    days: tuple[date | None, ...]
    """All days on which the traces that changed have spans now."""


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
        "told_flags": _told_flags("o"),
        "compared": rows.columns([n for n in _NAMES if n not in _PROVENANCE]),
        "new": _compared("s"),
        "old": _compared("o"),
        "topmost": ", ".join(f'arg_max("{name}", layer) AS "{name}"' for name in folded),
        "joined": ", ".join(["trace_id", "span_id", *(f't."{name}"' for name in passed)]),
        "finished": ", ".join(finished.get(name, f'"{name}"') for name in _NAMES),
        "marked": ", ".join(marked.get(name, f's."{name}"') for name in _NAMES),
    }


def write(
    con: duckdb.DuckDBPyConnection,
    spans: pa.Table,
    parts: pa.Table,
    known: Sequence[str],
    empty: Container[str] = frozenset(),
) -> Written:
    """Takes spans and parts of spans, without those of the sources that are `known`.

    `empty`: tables that are known to hold nothing, which are not looked into.
    """
    if spans.num_rows == 0 and parts.num_rows == 0:
        return Written(fates={}, trace_ids=[], known=frozenset(), days=())
    rows.stage(con, "staged", spans)
    rows.stage(con, "staged_parts", parts)
    con.register("known_objects", pa.table({"source_uri": pa.array(known, pa.string())}))
    try:
        con.execute(statement("span_keys"))
        con.execute(statement("part_keys").format(parted="false" if "span_parts" in empty else "true"))
        # The days on which the lake has these traces; most batches bring new traces only and look at no span at all.
        con.execute(statement("known_days"))
        near = rows.in_days(con, "temp.known_days")
        fillings = _fillings(near)

        def run(name: str) -> duckdb.DuckDBPyConnection:
            return con.execute(statement(name).format(**fillings))

        in_parts = rows.some(con, "temp.part_keys")
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
        run("stored_spans")
        again = rows.some(con, "temp.stored_spans WHERE came")
        run("span_changes" if again else "span_arrivals")
        run("span_tree")
        run("span_marks")
        remarked = rows.some(con, "temp.span_marks WHERE NOT came")
        fillings["remarked_near"] = near if remarked else "false"
        run("remarked_spans")
        if remarked or rows.some(con, "temp.span_changes WHERE replaces"):
            run("drop_old_spans")
        arrived = _arrive(con, spans)
        run("write_spans")
        if in_parts:
            run("drop_old_parts")
            run("write_parts")
        run("trace_days")
        if rows.some(con, f"({statement('left_days')})"):
            run("drop_old_days")
        written = Written(
            fates=(
                {
                    uri: Fate(spans=wrote, merged=merged, duplicates=duplicates)
                    for uri, wrote, merged, duplicates in run("span_account").fetchall()
                }
                if in_parts
                else _fates(spans, arrived)
            ),
            trace_ids=_column(con, "SELECT DISTINCT trace_id FROM temp.span_changes ORDER BY trace_id"),
            known=frozenset(_column(con, "SELECT DISTINCT trace_id FROM temp.known_days")),
            days=tuple(_column(con, "SELECT DISTINCT day FROM temp.span_tree")),
        )
        for temporary in _TEMPORARY:
            con.execute(f"DROP TABLE temp.{temporary}")
    finally:
        con.unregister("staged")
        con.unregister("staged_parts")
        con.unregister("known_objects")
        con.unregister("arrivals")
    return written


def _column(con: duckdb.DuckDBPyConnection, query: str) -> list[Any]:
    return [row[0] for row in con.execute(query).fetchall()]


def _arrive(con: duckdb.DuckDBPyConnection, spans: pa.Table) -> pa.Table:
    """Makes the rows that are to be written readable as `arrivals`; picked here, as a join would carry all columns."""
    kept = con.execute("SELECT _row FROM temp.span_changes WHERE NOT of_parts").fetchnumpy()["_row"]
    arrivals = spans
    if len(kept) < spans.num_rows:
        stays = np.zeros(spans.num_rows, dtype=np.bool_)
        stays[np.asarray(kept, dtype=np.int64)] = True
        arrivals = spans.filter(pa.array(stays))
    con.register("arrivals", arrivals)
    return arrivals


def _fates(spans: pa.Table, arrived: pa.Table) -> dict[str | None, Fate]:
    """As `span_account` says, where no span was told in parts."""
    came, wrote = (
        {one["values"]: one["counts"] for one in table["source_uri"].value_counts().to_pylist()}
        for table in (spans, arrived)
    )
    return {uri: Fate(spans=wrote.get(uri, 0), duplicates=n - wrote.get(uri, 0)) for uri, n in came.items()}
