"""SQL of users: one statement that reads the lake, and can do nothing else.

Three fences, each enough for most attacks alone: only what DuckDB's own parser types as SELECT (or EXPLAIN of one)
runs; only table functions on a list may appear in it, because `sqlite_scan` and others open files past DuckDB's
file rules; and it runs on a connection of its own with the lake read-only, no file access and locked settings.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from tracemill.errors import QueryError
from tracemill.warehouse import engine
from tracemill.warehouse.lake import Lake

TABLE_FUNCTIONS = frozenset(
    {
        "range", "generate_series", "unnest", "repeat", "json_each", "json_tree",
        "duckdb_tables", "duckdb_views", "duckdb_columns", "duckdb_functions", "duckdb_types", "duckdb_keywords",
        "pragma_table_info", "snapshots", "current_snapshot", "table_changes", "table_insertions", "table_deletions",
    }
)  # fmt: skip
"""Functions allowed in FROM. None of them opens a file, runs a text as SQL or changes anything."""

_EXPLAIN = re.compile(r"\s*EXPLAIN\s+(ANALYZE\s+)?(.*)", re.IGNORECASE | re.DOTALL)
_ONLY = "only one SELECT, or EXPLAIN of one, may run here"


def query(lake: Lake, statement: str, *, snapshot: int | None = None, limit: int | None = None) -> pa.Table:
    """The rows of one reading statement, as of `snapshot` where given, at most `limit` of them.

    Raises QueryError for everything that is not one SELECT (or EXPLAIN of one), and where the statement fails.
    """
    checked = _checked(statement)
    con = _fenced(lake.root, snapshot)
    try:
        result = con.execute(checked)
        if limit is None:
            return result.to_arrow_table()
        reader = result.to_arrow_reader(max(1, limit))
        batches, left = [], limit
        while left > 0 and (batch := next(reader, None)) is not None:
            batches.append(batch.slice(0, left))
            left -= batches[-1].num_rows
        return pa.Table.from_batches(batches, schema=reader.schema)
    except (duckdb.Error, pa.ArrowException) as error:
        raise QueryError(f"the query failed: {_told(error)}") from error
    finally:
        con.close()


def _fenced(root: Path, snapshot: int | None) -> duckdb.DuckDBPyConnection:
    """The lake read-only in an instance that has no files, no extensions to load and no settings to change."""
    with engine.translated(root):
        con = engine.connect(root, read_only=True, snapshot=snapshot)
        for setting in (
            f"allowed_directories = [{engine.quoted(str(root / 'data') + '/')}]",
            "python_enable_replacements = false",
            "allow_community_extensions = false",
            "enable_external_access = false",
            "lock_configuration = true",
        ):
            con.execute(f"SET {setting}")
    return con


def _checked(text: str) -> str:
    """The statement to run. Raises QueryError where it might do more than read the lake."""
    with duckdb.connect() as parser:
        return _parsed(parser, text)


def _parsed(con: duckdb.DuckDBPyConnection, text: str) -> str:
    explain = _EXPLAIN.fullmatch(text)
    select = explain.group(2) if explain else text
    try:
        found = con.extract_statements(select)
    except duckdb.Error as error:
        raise QueryError(f"this is not SQL that DuckDB understands: {_told(error)}") from error
    if len(found) != 1:
        kinds = ", ".join(one.type.name for one in found) or "nothing"
        raise QueryError(f"{_ONLY}; this is {kinds}")
    if found[0].type != duckdb.StatementType.SELECT:
        raise QueryError(f"{_ONLY}; this is {found[0].type.name}")
    row = con.execute("SELECT json_serialize_sql(?::VARCHAR)", [select]).fetchone()
    tree: Any = json.loads(row[0]) if row else {"error": True}
    if tree.get("error"):
        raise QueryError(f"{_ONLY}; write a PRAGMA as SELECT … FROM duckdb_tables(), duckdb_columns() or SHOW TABLES")
    for node in _nodes(tree):
        if node.get("type") == "TABLE_FUNCTION":
            name = str(node.get("function", {}).get("function_name", "")).lower()
            if name not in TABLE_FUNCTIONS:
                raise QueryError(f"the function {name}() may not be read from here: queries read the lake only")
        if any(str(node.get(part, "")).lower().startswith("__ducklake") for part in ("catalog_name", "schema_name")):
            raise QueryError("the catalog's own tables may not be read from here: use the tables and views of the lake")
    return f"EXPLAIN {explain.group(1) or ''}{select}" if explain else select


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every object of a parse tree."""
    if isinstance(tree, dict):
        yield tree
        for value in tree.values():
            yield from _nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _nodes(value)


def _told(error: Exception) -> str:
    """What DuckDB says, without the picture of the statement."""
    return str(error).split("\n\nLINE ")[0].strip()
