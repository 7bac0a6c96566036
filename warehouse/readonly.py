"""What a user's SQL may say: one SELECT over the lake's own tables and views, with functions that touch nothing else.

DuckDB's parser decides, not patterns in the text: the statement is read as a tree, and every relation and every
function in it is looked up. Relations and functions in FROM that are not known are refused.
"""

import difflib
import json
import re
from collections.abc import Iterator, Set
from typing import Any

import duckdb

from tracemill.errors import QueryError
from tracemill.warehouse.engine import CATALOG

TABLE_FUNCTIONS = frozenset(
    {
        "range", "generate_series", "unnest", "repeat", "json_each", "json_tree",
        "duckdb_tables", "duckdb_views", "duckdb_columns", "duckdb_functions", "duckdb_types", "duckdb_keywords",
        "snapshots", "current_snapshot", "last_committed_snapshot", "table_info",
        "table_changes", "table_insertions", "table_deletions",
    }
)  # fmt: skip
"""Functions allowed in FROM. None of them opens a file, runs a text as SQL or changes anything."""

REFUSED_FUNCTIONS = frozenset(
    {
        "json_serialize_plan",  # plans a text of SQL, and planning sqlite_scan opens a file past DuckDB's file rules
        "current_setting", "getenv", "getvariable", "set_config",  # settings hold paths, addresses and keys
        "write_log", "nextval", "currval", "setseed",  # change something, if only in this connection
        "sleep_ms", "pg_sleep",  # cannot be interrupted
    }
)  # fmt: skip
"""Scalar functions that do more than compute."""

SYSTEM_VIEWS = frozenset({"duckdb_tables", "duckdb_views", "duckdb_columns", "duckdb_types"})
"""Of DuckDB's own views, those that tell about the lake. Others tell where the catalog is, and how to get in."""

_INFORMATION_SCHEMA = frozenset({"tables", "columns", "schemata", "views"})
_SHOWN = frozenset({"tables", "databases", "variables", "__show_tables_expanded"})
_REFERENCES = frozenset(
    {
        "BASE_TABLE", "SUBQUERY", "JOIN", "TABLE_FUNCTION", "EXPRESSION_LIST", "EMPTY", "PIVOT", "SHOW_REF",
        "COLUMN_DATA", "CTE", "DELIM_GET", "BOUND_TABLE_REF",
    }
)  # fmt: skip
_OWN = frozenset({"", CATALOG})
_PLAIN = re.compile(r"[\w -]+")
_EXPLAIN = re.compile(r"\s*EXPLAIN\s+(ANALYZE\s+)?(.*)", re.IGNORECASE | re.DOTALL)
_ONLY = "only one SELECT, or EXPLAIN of one, may run here"


def checked(con: duckdb.DuckDBPyConnection, text: str) -> str:
    """The statement to run on `con`, which has the lake attached. Raises QueryError where it might do more than read.

    `con` only parses the text, whatever the text is.
    """
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise QueryError("this is not SQL that DuckDB understands: it holds a character that no text has")
    explain = _EXPLAIN.fullmatch(text)
    select = subject(text)
    tree = parsed(con, select)
    named = {str(node.get("table_name", "")).lower() for node in nodes(tree) if node.get("type") == "BASE_TABLE"}
    views, hidden = _views(con)
    common = _common(tree, hidden)
    known = views | SYSTEM_VIEWS
    if not named <= known | common:
        known |= _tables(con)
    for node in nodes(tree):
        kind = node.get("type")
        if kind == "TABLE_FUNCTION":
            _check_function(str(node.get("function", {}).get("function_name", "")).lower(), in_from=True)
        elif kind == "FUNCTION" or "function_name" in node:
            _check_function(str(node.get("function_name", "")).lower(), in_from=False)
        elif kind == "SHOW_REF":
            _check_shown(node)
        elif kind == "BASE_TABLE":
            _check_relation(node, known, common)
        for part in ("from_table", "source"):
            inner = node.get(part)
            if isinstance(inner, dict) and inner.get("type") not in _REFERENCES:
                raise QueryError(f"{_ONLY}; FROM may not hold {inner.get('type')}")
    return f"EXPLAIN {explain.group(1) or ''}{select}" if explain else select


def subject(text: str) -> str:
    """The SELECT that a statement is, or that it explains."""
    explain = _EXPLAIN.fullmatch(text)
    return explain.group(2) if explain else text


def told(error: Exception) -> str:
    """What DuckDB says, without the picture of the statement."""
    return str(error).split("\n\nLINE ")[0].strip()


def _views(con: duckdb.DuckDBPyConnection) -> tuple[Set[str], Set[str]]:
    """Names of the lake's views, and of DuckDB's own, in lower case."""
    rows = con.execute(
        "SELECT view_name, internal FROM duckdb_views() WHERE internal OR database_name = current_database()"
    ).fetchall()
    own, hidden = ({str(name).lower() for name, internal in rows if internal == wanted} for wanted in (False, True))
    return own, hidden


def _tables(con: duckdb.DuckDBPyConnection) -> Set[str]:
    """Names of the lake's tables, in lower case, and of its views."""
    # By their columns: duckdb_tables() tells sizes, for which it reads the statistics of every table.
    rows = con.execute(
        "SELECT DISTINCT table_name FROM duckdb_columns() WHERE database_name = current_database()"
    ).fetchall()
    return {str(name).lower() for (name,) in rows}


def parsed(con: duckdb.DuckDBPyConnection, select: str) -> Any:
    """The statement as DuckDB's parser reads it. Raises QueryError where it is not one SELECT."""
    try:
        found = con.extract_statements(select)
    except duckdb.Error as error:
        raise QueryError(f"this is not SQL that DuckDB understands: {told(error)}") from error
    if len(found) != 1:
        kinds = ", ".join(one.type.name for one in found) or "nothing"
        raise QueryError(f"{_ONLY}; this is {kinds}")
    if found[0].type != duckdb.StatementType.SELECT:
        raise QueryError(f"{_ONLY}; this is {found[0].type.name}")
    row = con.execute("SELECT json_serialize_sql(?::VARCHAR)", [select]).fetchone()
    try:
        tree: Any = json.loads(row[0]) if row else {"error": True}
    except RecursionError as error:
        raise QueryError("this query is nested too deeply: use WITH for its parts") from error
    if tree.get("error"):
        raise QueryError(f"{_ONLY}; write a PRAGMA as SELECT … FROM duckdb_tables(), duckdb_columns() or SHOW TABLES")
    return tree


def _common(tree: Any, hidden: Set[str]) -> Set[str]:
    """Names of common table expressions. They are known everywhere in the tree, whatever their scope.

    So none may be named as what must stay out of reach where the expression is out of scope: a file, a view of DuckDB.
    """
    names = set()
    for node in nodes(tree):
        found = [entry.get("key") for entry in (node.get("cte_map") or {}).get("map", [])]
        for name in (str(one).lower() for one in (*found, node.get("cte_name")) if one):
            if not _PLAIN.fullmatch(name) or name in hidden:
                raise QueryError(f"WITH may not use the name {name!r}: choose another, of letters, digits and _")
            names.add(name)
    return names


def _check_function(name: str, *, in_from: bool) -> None:
    if in_from and name not in TABLE_FUNCTIONS:
        raise QueryError(f"the function {name}() may not be read from here: queries read the lake only")
    if not in_from and name in REFUSED_FUNCTIONS:
        raise QueryError(f"the function {name}() may not be used here: queries read the lake only")


def _check_shown(node: dict[str, Any]) -> None:
    """SHOW TABLES and the like. DESCRIBE and SUMMARIZE hold a query of their own, which is looked at as every other."""
    name = str(node.get("table_name", "")).strip('"').lower()
    place = [str(node.get(part, "")).lower() for part in ("catalog_name", "schema_name")]
    if name and name not in _SHOWN:
        raise QueryError(f"SHOW {name} may not run here: there are SHOW TABLES, DESCRIBE and SUMMARIZE")
    if any(part not in {*_OWN, "main"} for part in place):
        raise QueryError("only the lake's own tables may be shown here: SHOW TABLES")


def _check_relation(node: dict[str, Any], known: Set[str], common: Set[str]) -> None:
    catalog, schema, name = (str(node.get(part, "")).lower() for part in ("catalog_name", "schema_name", "table_name"))
    if catalog in _OWN and schema == "information_schema" and name in _INFORMATION_SCHEMA:
        return
    if not catalog and schema in ("", "recurring") and name in common:
        return
    if catalog.startswith("__ducklake") or schema.startswith("__ducklake"):
        raise QueryError("the catalog's own tables may not be read from here: use the tables and views of the lake")
    if catalog not in _OWN or schema not in {*_OWN, "main"} or name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else "SHOW TABLES lists what there is"
        said = ".".join(part for part in (catalog, schema, name) if part)
        raise QueryError(f"the lake has no table or view {said}: {hint}")


def nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every object of a parse tree."""
    pending = [tree]
    while pending:
        one = pending.pop()
        if isinstance(one, dict):
            yield one
            pending.extend(one.values())
        elif isinstance(one, list):
            pending.extend(one)
