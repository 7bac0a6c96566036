"""The layout of a lake: tables from schema.py, views from `views/*.sql`, and the row that says which layout it is."""

from pathlib import Path

import duckdb
import pyarrow as pa

from tracemill.errors import StoreError
from tracemill.ids import content_id
from tracemill.schema import TABLES, Table
from tracemill.warehouse import meanings
from tracemill.warehouse.engine import CATALOG, quoted

VERSION = 7
"""Raised when tables change so that an older lake must be upgraded. Views are replaced without it.

2: spans keep revisions, response ids and marks; parts of spans; accounts in the ledger; receipts.
3: the ledger keeps fingerprints.
4: stages of a night say which snapshot they read.
5: transitions tell what their spans tell; more tables are kept in order.
6: findings are confirmed on later data; clusters; reward models and their reports; families of judges.
7: evaluations tell how far a replay came and who judged it; which act follows which.
"""

COMPRESSION = "zstd"
"""Of the lake's files, at DuckDB's level, 3. A third to a half of the bytes of the default, Snappy, and no slower:
prompts repeat, and so do the long lists of message ids. Higher levels cost several times the CPU for a few per cent."""

ROWS_A_GROUP = 20_480
"""Of rows in order, one group is read for one trace. DuckDB's own 122,880 cost a trace twice the time."""

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
    return [*statements, *order_ddl(table)]


def order_ddl(table: Table) -> list[str]:
    """The statement that keeps a table's rows in order, where it has one; files written before stay as they are."""
    if not table.sort_by:
        return []
    return [f'ALTER TABLE "{table.name}" SET SORTED BY ({", ".join(table.sort_by)})']


def set_compression(con: duckdb.DuckDBPyConnection) -> None:
    """Has files compressed from now on, in groups of few rows; those written before stay until upkeep rewrites them."""
    con.execute(f"CALL {CATALOG}.set_option('parquet_compression', '{COMPRESSION}')")
    con.execute(f"CALL {CATALOG}.set_option('parquet_row_group_size', '{ROWS_A_GROUP}')")


def statement(name: str) -> str:
    """The SQL of `statements/<name>.sql`."""
    return (Path(__file__).parent / "statements" / f"{name}.sql").read_text(encoding="utf-8")


def views() -> dict[str, str]:
    """View name -> SELECT, in dependency order: a view that reads another starts with `-- after: other, …`."""
    texts = {
        path.stem: path.read_text(encoding="utf-8") for path in sorted((Path(__file__).parent / "views").glob("*.sql"))
    }
    ordered: dict[str, str] = {}

    def place(name: str) -> None:
        if name in ordered:
            return
        first = texts[name].split("\n", 1)[0]
        if first.startswith("-- after:"):
            for other in first.removeprefix("-- after:").split(","):
                place(other.strip())
        ordered[name] = texts[name]

    for name in texts:
        place(name)
    return ordered


def views_digest() -> str:
    """Content id of all views and comments, so that a lake knows whether its own are this version's."""
    return content_id(meanings.source(), *views().items())


def create(con: duckdb.DuckDBPyConnection) -> None:
    """All tables, views and the layout row, in one transaction."""
    con.execute("BEGIN")
    set_compression(con)
    for table in TABLES.values():
        for ddl in table_ddl(table):
            con.execute(ddl)
    con.execute("CREATE TABLE lake_layout (version INTEGER, views VARCHAR)")
    con.execute("INSERT INTO lake_layout VALUES (?, ?)", [VERSION, ""])
    refresh_views(con, "")
    con.execute("COMMIT")


def found(con: duckdb.DuckDBPyConnection) -> tuple[int, str] | None:
    """The lake's layout version and the digest of its views; None until `create` has committed."""
    try:
        row = con.execute("SELECT version, views FROM lake_layout").fetchone()
    except duckdb.CatalogException:
        return None
    return None if row is None else (int(row[0]), str(row[1]))


def filled(con: duckdb.DuckDBPyConnection) -> set[str]:
    """The tables of the lake that rows were ever written to, as its catalog counts them; outside of transactions."""
    catalog = f"__ducklake_metadata_{CATALOG}"
    found = con.execute(
        f"SELECT table_name FROM {catalog}.ducklake_table SEMI JOIN {catalog}.ducklake_table_stats USING (table_id)"
    )
    return {str(row[0]) for row in found.fetchall()}


def upgrade(con: duckdb.DuckDBPyConnection) -> None:
    """Bring an older lake to this layout within the caller's transaction: rows stay, new columns are NULL."""
    layout = found(con)
    if layout is None or layout[0] >= VERSION:
        return
    set_compression(con)
    there: dict[str, set[str]] = {}
    for name, column in con.execute(statement("table_columns")).fetchall():
        there.setdefault(name, set()).add(column)
    for table in TABLES.values():
        if table.name not in there:
            for ddl in table_ddl(table):
                con.execute(ddl)
            continue
        for field in table.schema:
            if field.name not in there[table.name]:
                con.execute(f'ALTER TABLE "{table.name}" ADD COLUMN "{field.name}" {sql_type(field.type)}')
        for ddl in order_ddl(table) if layout[0] < 5 else ():
            con.execute(ddl)
    if layout[0] < 2:
        con.execute(statement("upgrade_marks"))
    if layout[0] < 5:
        con.execute(statement("upgrade_transitions"))
    con.execute("UPDATE lake_layout SET version = ?", [VERSION])


def check(con: duckdb.DuckDBPyConnection, root: Path | str) -> str:
    """The digest of the lake's views. Raises StoreError where the lake is unfinished or of another layout."""
    layout = found(con)
    if layout is None:
        raise StoreError(f"the lake {root} was never finished: run the command that creates it again (tracemill init)")
    version, digest = layout
    if version != VERSION:
        raise StoreError(
            f"the lake {root} has layout {version}, this tracemill reads layout {VERSION}: "
            "use the tracemill version that wrote it"
        )
    return digest


def refresh_views(con: duckdb.DuckDBPyConnection, digest: str) -> None:
    """Replace the lake's views where `digest` says they are not this version's; within the caller's transaction."""
    ours = views_digest()
    if digest == ours:
        return
    theirs = con.execute(
        "SELECT view_name FROM duckdb_views() WHERE database_name = current_database() AND NOT internal"
    )
    for (name,) in theirs.fetchall():
        con.execute(f'DROP VIEW "{name}"')
    for name, select in views().items():
        con.execute(f'CREATE VIEW "{name}" AS {select}')
    _comment(con)
    con.execute("UPDATE lake_layout SET views = ?", [ours])


def _comment(con: duckdb.DuckDBPyConnection) -> None:
    """What each table and view means, and its columns, as its comment. DuckLake keeps none for a view's columns."""
    for name, meaning in meanings.tables().items():
        con.execute(f'COMMENT ON TABLE "{name}" IS {quoted(meaning.comment())}')
    for name, select in views().items():
        columns = con.execute(f'SELECT * FROM "{name}" LIMIT 0').description
        text = meanings.view(name, select, (str(one[0]) for one in columns or ())).comment()
        con.execute(f'COMMENT ON VIEW "{name}" IS {quoted(text)}')
