"""Rows on their way into a table: checked against schema.py, then inserted or replaced by the table's key."""

from collections.abc import Iterable, Sequence
from datetime import date

import duckdb
import numpy as np
import pyarrow as pa

from tracemill.errors import StoreError
from tracemill.schema import TABLES, Table

ROW = "_row"
"""Extra column of staged rows: their order, so that the first or last of equal keys is well defined."""

_MAY_BE_NULL = frozenset({"day", "content_hash", "line", "offset_bytes", "reason", "excerpt", "version", "started_ns"})
"""Key columns in which NULL is a value: undated rows, refusals of whole objects."""


def table_named(name: str) -> Table:
    """The declared table. Raises StoreError naming the known ones."""
    if name not in TABLES:
        raise StoreError(f"the lake has no table {name!r}; it has: {', '.join(TABLES)}")
    return TABLES[name]


def checked(rows: pa.Table, schema: pa.Schema, what: str, key: Sequence[str] = ()) -> pa.Table:
    """`rows` cast to `schema`, columns in its order. Raises StoreError naming the column that does not fit."""
    missing = [name for name in schema.names if name not in rows.column_names]
    extra = [name for name in rows.column_names if name not in schema.names]
    if missing or extra:
        raise StoreError(f"rows for {what} do not fit: missing columns {missing}, unknown columns {extra}")
    columns = []
    for field in schema:
        try:
            column = rows.column(field.name).cast(field.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise StoreError(f"rows for {what} do not fit: column {field.name} is not {field.type}: {error}") from error
        if field.name in key and field.name not in _MAY_BE_NULL and column.null_count:
            raise StoreError(f"rows for {what} do not fit: {column.null_count} rows have no {field.name}, their key")
        columns.append(column)
    return pa.Table.from_arrays(columns, schema=schema)


def stage(con: duckdb.DuckDBPyConnection, name: str, rows: pa.Table) -> None:
    """Make `rows` readable in SQL as `name`, with their order in the column `_row`."""
    con.register(name, rows.append_column(ROW, pa.array(np.arange(rows.num_rows, dtype=np.int64))))


def columns(names: Sequence[str], alias: str = "") -> str:
    """A SQL column list."""
    prefix = f"{alias}." if alias else ""
    return ", ".join(f'{prefix}"{name}"' for name in names)


def same_key(table: Table, one: str, other: str) -> str:
    """SQL: rows `one` and `other` have the same key, NULL being equal to NULL."""
    return " AND ".join(
        f'{one}."{name}" {"IS NOT DISTINCT FROM" if name in _MAY_BE_NULL else "="} {other}."{name}"'
        for name in table.key
    )


def in_days(con: duckdb.DuckDBPyConnection, relation: str) -> str:
    """SQL condition on `day`: the days of `relation` as constants, which is what lets DuckLake skip files."""
    return on_days([row[0] for row in con.execute(f"SELECT DISTINCT day FROM {relation}").fetchall()])


def on_days(days: Iterable[date | None]) -> str:
    """SQL condition on `day`: that it is one of these."""
    given = set(days)
    dated = ", ".join(f"DATE '{day.isoformat()}'" for day in sorted(day for day in given if day is not None))
    conditions = [f"day IN ({dated})"] if dated else []
    if None in given:
        conditions.append("day IS NULL")
    return f"({' OR '.join(conditions)})" if conditions else "false"


def some(con: duckdb.DuckDBPyConnection, relation: str) -> bool:
    """Whether the relation has rows."""
    return con.execute(f"SELECT 1 FROM {relation} LIMIT 1").fetchone() is not None


def _count(con: duckdb.DuckDBPyConnection, statement: str) -> int:
    row = con.execute(statement).fetchone()
    return int(row[0]) if row else 0


def _near(con: duckdb.DuckDBPyConnection, table: Table) -> str:
    """The part of a table that may hold keys of the staged rows."""
    where = in_days(con, "staged") if "day" in table.key and table.partition_by == ("day",) else "true"
    return f'(SELECT * FROM "{table.name}" WHERE {where})'


def insert(con: duckdb.DuckDBPyConnection, table: Table, rows: pa.Table) -> int:
    """Add the rows whose key is new; of equal keys the first. Returns how many were added."""
    return len(insert_new(con, table, rows))


def insert_new(con: duckdb.DuckDBPyConnection, table: Table, rows: pa.Table) -> list[int]:
    """As `insert`; returns which of the rows were added, by their places."""
    if rows.num_rows == 0:
        return []
    stage(con, "staged", rows)
    try:
        new = con.execute(
            f"SELECT s.{ROW} FROM staged s "
            f"WHERE NOT EXISTS (SELECT 1 FROM {_near(con, table)} t WHERE {same_key(table, 's', 't')}) "
            f"QUALIFY row_number() OVER (PARTITION BY {columns(table.key, 's')} ORDER BY s.{ROW}) = 1 "
            f"ORDER BY s.{ROW}"
        ).to_arrow_table()
        places = new.column(0).combine_chunks()
        if len(places) < rows.num_rows:
            rows = rows.take(places)
        add(con, table, rows)
    finally:
        con.unregister("staged")
    return [int(place) for place in places.to_pylist()]


def add(con: duckdb.DuckDBPyConnection, table: Table, rows: pa.Table) -> None:
    """Add rows whose keys are known to be new."""
    if rows.num_rows:
        con.register("new_rows", rows)
        names = columns(table.schema.names)
        con.execute(f'INSERT INTO "{table.name}" ({names}) SELECT {names} FROM new_rows')
        con.unregister("new_rows")


def refill(con: duckdb.DuckDBPyConnection, table: Table, rows: pa.Table) -> int:
    """Have the table hold these rows and no others. Identical rows stay. Returns how many rows that changed."""
    stage(con, "kept", rows)
    try:
        condition = f"NOT EXISTS (SELECT 1 FROM kept s WHERE {same_key(table, 's', 't')})"
        gone = _count(con, f'DELETE FROM "{table.name}" t WHERE {condition}')
    finally:
        con.unregister("kept")
    return gone + replace(con, table, rows)


def replace(con: duckdb.DuckDBPyConnection, table: Table, rows: pa.Table) -> int:
    """Add rows, or put them in place of those with the same key; of equal keys the last. Identical rows stay.

    Returns how many rows are new or different.
    """
    if rows.num_rows == 0:
        return 0
    stage(con, "staged", rows)
    try:
        names = table.schema.names
        con.execute(
            f"CREATE OR REPLACE TEMP TABLE changed AS SELECT {columns(names, 's')} FROM staged s WHERE NOT EXISTS ("
            f"SELECT 1 FROM {_near(con, table)} t WHERE {same_key(table, 's', 't')} "
            f"AND row({columns(names, 's')}) IS NOT DISTINCT FROM row({columns(names, 't')})) "
            f"QUALIFY row_number() OVER (PARTITION BY {columns(table.key, 's')} ORDER BY s.{ROW} DESC) = 1 "
            f"ORDER BY s.{ROW}"
        )
        con.execute(f'DELETE FROM "{table.name}" t USING temp.changed s WHERE {same_key(table, "s", "t")}')
        count = _count(con, f'INSERT INTO "{table.name}" ({columns(names)}) SELECT {columns(names)} FROM temp.changed')
        con.execute("DROP TABLE temp.changed")
        return count
    finally:
        con.unregister("staged")
