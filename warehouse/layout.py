"""The layout of a lake: tables from schema.py, views from `views/*.sql`, and the row that says which layout it is."""

from pathlib import Path

import duckdb
import pyarrow as pa

from tracemill.errors import StoreError
from tracemill.ids import content_id
from tracemill.schema import TABLES, Table

VERSION = 1
"""Raised when tables change so that an older lake must be upgraded. Views are replaced without it."""

_TYPES: dict[pa.DataType, str] = {
    pa.string(): "VARCHAR",
    pa.int64(): "BIGINT",
    pa.int32(): "INTEGER",
    pa.uint32(): "UINTEGER",
    pa.float64(): "DOUBLE",
    pa.float32(): "FLOAT",
    pa.bool_(): "BOOLEAN",
    pa.date32(): "DATE",
}


def sql_type(dtype: pa.DataType) -> str:
    """DuckDB's name of an Arrow type of schema.py."""
    return f"{_TYPES[dtype.value_type]}[]" if pa.types.is_list(dtype) else _TYPES[dtype]


def table_ddl(table: Table) -> list[str]:
    """The statements that make one table: columns, then partitions and sort order."""
    columns = ", ".join(f'"{field.name}" {sql_type(field.type)}' for field in table.schema)
    statements = [f'CREATE TABLE "{table.name}" ({columns})']
    if table.partition_by:
        statements.append(f'ALTER TABLE "{table.name}" SET PARTITIONED BY ({", ".join(table.partition_by)})')
    if table.sort_by:
        statements.append(f'ALTER TABLE "{table.name}" SET SORTED BY ({", ".join(table.sort_by)})')
    return statements


def statement(name: str) -> str:
    """The SQL of `statements/<name>.sql`."""
    return (Path(__file__).parent / "statements" / f"{name}.sql").read_text(encoding="utf-8")


def views() -> dict[str, str]:
    """View name -> SELECT, in dependency order: a view that reads another starts with `-- after: other, …`."""
    found = {
        path.stem: path.read_text(encoding="utf-8") for path in sorted((Path(__file__).parent / "views").glob("*.sql"))
    }
    ordered: dict[str, str] = {}

    def place(name: str) -> None:
        if name in ordered:
            return
        first = found[name].split("\n", 1)[0]
        if first.startswith("-- after:"):
            for other in first.removeprefix("-- after:").split(","):
                place(other.strip())
        ordered[name] = found[name]

    for name in found:
        place(name)
    return ordered


def views_digest() -> str:
    """Content id of all views, so that a lake knows whether its views are this version's."""
    return content_id(*views().items())


def create(con: duckdb.DuckDBPyConnection) -> None:
    """All tables, views and the layout row, in one transaction."""
    con.execute("BEGIN")
    for table in TABLES.values():
        for ddl in table_ddl(table):
            con.execute(ddl)
    con.execute("CREATE TABLE lake_layout (version INTEGER, views VARCHAR)")
    con.execute("INSERT INTO lake_layout VALUES (?, ?)", [VERSION, ""])
    refresh_views(con)
    con.execute("COMMIT")


def refresh_views(con: duckdb.DuckDBPyConnection) -> None:
    """Replace the lake's views where they are not this version's; within the caller's transaction."""
    digest = views_digest()
    row = con.execute("SELECT views FROM lake_layout").fetchone()
    if row is not None and row[0] == digest:
        return
    for name, select in views().items():
        con.execute(f'CREATE OR REPLACE VIEW "{name}" AS {select}')
    con.execute("UPDATE lake_layout SET views = ?", [digest])


def exists(con: duckdb.DuckDBPyConnection) -> bool:
    """True once `create` has committed."""
    found = con.execute(
        "SELECT count(*) FROM duckdb_tables() WHERE database_name = current_database() AND table_name = 'lake_layout'"
    ).fetchone()
    return found is not None and found[0] > 0


def check(con: duckdb.DuckDBPyConnection, root: Path) -> None:
    """Raises StoreError where the lake is unfinished or of another layout."""
    if not exists(con):
        raise StoreError(f"the lake {root} was never finished: run the command that creates it again (tracemill init)")
    row = con.execute("SELECT max(version) FROM lake_layout").fetchone()
    version = row[0] if row else None
    if version != VERSION:
        raise StoreError(
            f"the lake {root} has layout {version}, this tracemill reads layout {VERSION}: "
            "use the tracemill version that wrote it"
        )
