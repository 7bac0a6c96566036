"""Rows of scores: the room's queries, and tables with the schema and the ids of schema.SCORES."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from tracemill.schema import SCORES


def query(con: duckdb.DuckDBPyConnection, name: str, params: Mapping[str, Any] | None = None) -> pa.Table:
    """The result of `sql/<name>.sql`."""
    sql = (Path(__file__).parent / "sql" / f"{name}.sql").read_text(encoding="utf-8")
    return con.execute(sql, dict(params or {})).to_arrow_table()


def scores(
    rows: pa.Table, *, name: str, version: str, now_ns: int, family: str | None = None, kind: str = "trajectory"
) -> pa.Table:
    """Rows of schema.SCORES from a table of target_id, value and whatever else is known.

    Columns that `rows` lacks are NULL, but for the arguments and `source`, which is code. The id names the content.
    """
    n = len(rows)
    given: dict[str, Any] = {
        "target_kind": pa.array([kind] * n, pa.string()),
        "name": pa.array([name] * n, pa.string()),
        "family": pa.array([family] * n, pa.string()),
        "version": pa.array([version] * n, pa.string()),
        "at": pa.array([now_ns] * n, pa.int64()),
        "source": pa.array(["code"] * n, pa.string()),
        **{column: rows[column] for column in rows.column_names},
    }
    fields = [field for field in SCORES if field.name != "score_id"]
    columns = [given[f.name].cast(f.type) if f.name in given else pa.nulls(n, f.type) for f in fields]
    table = pa.table(columns, schema=pa.schema(fields))
    con = duckdb.connect()
    try:
        con.register("judged", table)
        named = con.sql("select left(sha256(to_json(j)::varchar), 32) as score_id, j.* from judged j").to_arrow_table()
    finally:
        con.close()
    return named.cast(SCORES)
