"""Calls that are counted are not read out: a query of llm_calls that asks for no text runs on `calls`.

DuckDB drops a join that nobody needs only where no view names its columns, so that each count over `llm_calls` would
look up every message of every call. The rows are the same: `calls` is `llm_calls` without these columns.
"""

from collections.abc import Set
from typing import Any

import duckdb

from tracemill.warehouse import readonly

TEXTS = frozenset({"input_text", "output_text", "input_messages", "output_messages"})
_HIDDEN_RELATIONS = frozenset({"SHOW_REF", "PIVOT"})


def lightened(con: duckdb.DuckDBPyConnection, statement: str) -> str:
    """The statement, to run next on `con`, which reads `calls` for llm_calls where the answer is the same."""
    if "llm_calls" not in statement.lower() or not counts_only(readonly.parsed(con, readonly.subject(statement))):
        return statement
    there = con.execute(
        "SELECT 1 FROM duckdb_views() WHERE database_name = current_database() AND view_name = 'calls'"
    ).fetchone()
    if there:  # a snapshot from before there was such a view has none
        con.execute("CREATE OR REPLACE TEMP VIEW llm_calls AS FROM calls")
    return statement


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
