"""Rows of scores: the room's queries, and tables with the schema and the ids of schema.SCORES."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from tracemill.schema import SCORES


def query(con: duckdb.DuckDBPyConnection, name: str, params: Mapping[str, Any] | None = None) -> pa.Table:
    """The result of `sql/<name>.sql`."""
    return con.execute(statement(name), dict(params or {})).to_arrow_table()


def statement(name: str) -> str:
    """The text of `sql/<name>.sql`."""
    return (Path(__file__).parent / "sql" / f"{name}.sql").read_text(encoding="utf-8")


def scores(
    rows: pa.Table, *, name: str, version: str, now_ns: int, family: str | None = None, kind: str = "trajectory"
) -> pa.Table:
    """Rows of schema.SCORES from a table of target_id, value and whatever else is known.

    Columns that `rows` lacks are NULL, but for the arguments and `source`, which is code. The id names the content.
    """
    n = len(rows)
    same = {"target_kind": kind, "name": name, "family": family, "version": version, "at": now_ns, "source": "code"}
    columns = {
        field.name: rows[field.name].cast(field.type)
        if field.name in rows.column_names
        else pa.repeat(pa.scalar(same.get(field.name), field.type), n)
        for field in SCORES
        if field.name != "score_id"
    }
    with duckdb.connect() as con:
        con.execute("set threads = 1")
        con.register("judged", pa.table(columns))
        ids = con.execute("select left(sha256(to_json(j)::varchar), 32) from judged j").to_arrow_table().column(0)
    return pa.table([ids, *columns.values()], schema=SCORES)
