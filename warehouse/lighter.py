"""Queries of llm_calls read out no call that they do not ask for.

Calls that are counted: a query that asks for no text runs on `calls`. DuckDB drops a join that nobody needs only where
no view names its columns, so that each count over `llm_calls` would look up every message of every call. The rows are
the same: `calls` is `llm_calls` without these columns. Calls that a LIMIT drops (limited.py), and those that a subquery
in WHERE leaves out (subqueries.py).
"""

import contextlib
import json
from collections.abc import Set
from typing import Any

import duckdb

from tracemill.warehouse import limited, readonly, subqueries

TEXTS = frozenset({"input_text", "output_text", "input_messages", "output_messages"})
_CALLS = "FROM calls AS c"
"""Where llm_calls reads the calls, as DuckDB writes its views."""
_TRACE = frozenset({"trace_id", "trajectory_id"})
_HIDDEN_RELATIONS = frozenset({"SHOW_REF", "PIVOT"})


def lighten(con: duckdb.DuckDBPyConnection, statement: str) -> str:
    """What to run next on `con` for a statement, with the same answer: llm_calls may be less there until then."""
    for settle in (True, False):
        con.execute("DROP VIEW IF EXISTS temp.llm_calls")
        # What a query has wrong is told of the query itself, when it runs. A subquery may depend on what is around it.
        try:
            return _lightened(con, statement, settle=settle)
        except duckdb.Error:
            with contextlib.suppress(duckdb.TransactionException):  # an error may have ended the one that there is
                con.execute("ROLLBACK")
                con.execute("BEGIN")
    con.execute("DROP VIEW IF EXISTS temp.llm_calls")
    return statement


def _lightened(con: duckdb.DuckDBPyConnection, statement: str, *, settle: bool) -> str:
    if not any(view in statement.lower() for view in subqueries.VIEWS):
        return statement
    select = readonly.subject(statement)
    settled = _settled(con, readonly.parsed(con, select)) if settle else None
    if settled is not None:
        statement, select = statement.removesuffix(select) + settled, settled
    stored = _stored(con) if "llm_calls" in select.lower() else {}
    if "calls" not in stored:  # a snapshot from before there was such a view
        return statement
    tree = readonly.parsed(con, select)
    if counts_only(tree):
        con.execute("CREATE TEMP VIEW llm_calls AS FROM calls")
    else:
        _choose(con, stored["llm_calls"], tree)
    return statement


def _settled(con: duckdb.DuckDBPyConnection, tree: Any) -> str | None:
    """The statement with values for its subqueries, which are run; None where it has none such. Changes `tree`."""
    settled = False
    for condition, select in list(subqueries.candidates(tree)):
        inner = subqueries.text_of(con, subqueries.statement(select))
        if inner is not None:
            found = con.execute(_lightened(con, inner, settle=True))
            settled |= subqueries.replace(con, condition, found)
            con.execute("DROP VIEW IF EXISTS temp.llm_calls")
    return subqueries.text_of(con, tree) if settled else None


def _stored(con: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """The SELECTs of both views in the lake."""
    rows = con.execute(
        "SELECT view_name, sql FROM duckdb_views() "
        "WHERE database_name = current_database() AND view_name IN ('calls', 'llm_calls')"
    ).fetchall()
    return {name: text.partition(" AS ")[2].rstrip("; \n") for name, text in rows}


def _choose(con: duckdb.DuckDBPyConnection, stored: str, tree: Any) -> None:
    """Have llm_calls on `con` hold the calls alone that a statement with a LIMIT asks for, where they can be told."""
    before, found, after = stored.partition(_CALLS)
    if not found or _CALLS in after:  # a view of another version
        return
    columns = {str(one[0]).lower() for one in con.execute("SELECT * FROM calls LIMIT 0").description or ()}
    pure = con.execute(
        "SELECT function_name FROM duckdb_functions() WHERE list_contains(?, function_name) "
        "GROUP BY function_name HAVING bool_and(function_type = 'scalar' AND stability <> 'VOLATILE')",
        [sorted(limited.functions(tree))],
    ).fetchall()
    chosen = limited.choice(tree, columns, {name for (name,) in pure})
    row = chosen and con.execute("SELECT json_deserialize_sql(?::JSON)", [json.dumps(chosen)]).fetchone()
    if row:
        con.execute(f"CREATE TEMP VIEW llm_calls AS {before}FROM ({row[0]}) AS c{after}")


def is_of_one_trace(con: duckdb.DuckDBPyConnection, statement: str) -> bool:
    """Whether a statement is a SELECT from one relation where the id of a trace is a given one."""
    node = readonly.parsed(con, readonly.subject(statement))["statements"][0]["node"]
    if node["type"] != "SELECT_NODE" or node["from_table"]["type"] != "BASE_TABLE":
        return False
    return any(
        one["type"] == "COMPARE_EQUAL"
        and {one["left"]["class"], one["right"]["class"]} == {"COLUMN_REF", "CONSTANT"}
        and any(str(side.get("column_names", [""])[-1]).lower() in _TRACE for side in (one["left"], one["right"]))
        for one in subqueries.conjuncts(node["where_clause"])
    )


def counts_only(tree: Any) -> bool:
    """Whether a statement, as readonly.parsed gives it, reads llm_calls, and none of its texts, by name or otherwise.

    Otherwise: `*`, places of columns, a row as a whole, columns joined or turned because they are there.
    """
    own: set[str] = set()
    ordering = set()
    for node in readonly.nodes(tree):
        if node.get("type") == "BASE_TABLE" and str(node.get("table_name", "")).lower() == "llm_calls":
            if node.get("column_name_alias") or node.get("at_clause"):
                return False
            own |= {"llm_calls", str(node.get("alias", "")).lower()}
        elif node.get("type") == "ORDER_MODIFIER":  # ORDER BY ALL orders by what is selected
            ordering |= {id(one.get("expression")) for one in node.get("orders") or ()}
    return bool(own) and not any(_may_read(node, own, ordering) for node in readonly.nodes(tree))


def _may_read(node: dict[str, Any], own: Set[str], ordering: Set[int]) -> bool:
    if node.get("class") == "COLUMN_REF":
        names = [str(name).lower() for name in node["column_names"]]
        return names[-1] in own or not TEXTS.isdisjoint(names)
    if node.get("class") == "STAR":
        return id(node) not in ordering or node.get("expr") is not None
    if node.get("type") == "JOIN":
        return node.get("ref_type") == "NATURAL" or any(str(one).lower() in TEXTS for one in node["using_columns"])
    return node.get("class") == "POSITIONAL_REFERENCE" or str(node.get("type")) in _HIDDEN_RELATIONS
