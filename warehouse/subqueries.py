"""Subqueries that choose a few episodes are answered first, and stand in the statement as values.

What is said is looked up for the rows that a query asks for (views `llm_calls`, `conversations`, `tool_results`), but
DuckDB looks it up for all there are where WHERE compares with a subquery: it passes values down, and not joins. A
subquery that depends on nothing around it is answered once either way; here it is before the rest is planned.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import duckdb

from tracemill.warehouse import readonly
from tracemill.warehouse.engine import quoted

VIEWS = frozenset({"llm_calls", "conversations", "tool_results"})
MOST = 1_000
"""Values that one subquery may stand for. More are as well joined."""
_TYPES = frozenset({"VARCHAR", "DATE", "INTEGER", "BIGINT", "UINTEGER"})


def candidates(tree: Any) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Conditions of SELECTs from VIEWS, `column = (SELECT …)` and `column IN (SELECT …)`, and the SELECT of each.

    The SELECT is a node that may run as a statement of its own, with the common table expressions that it reads.
    """
    root = tree["statements"][0]["node"]
    for select in [node for node in readonly.nodes(tree) if node.get("type") == "SELECT_NODE"]:
        if VIEWS.isdisjoint(_sources(select["from_table"])):
            continue
        for condition in conjuncts(select["where_clause"]):
            inner = _subquery(condition)
            alone = inner and _alone(tree, root, select, inner)
            if alone:
                yield condition, alone


def replace(con: duckdb.DuckDBPyConnection, condition: dict[str, Any], found: duckdb.DuckDBPyConnection) -> bool:
    """Puts what a condition's SELECT has `found` into the tree. False where that is too much, or of no plain type."""
    kind = str(found.description[0][1]) if found.description else ""
    rows = found.fetchmany(MOST + 1)
    values = [value for (value,) in rows]
    scalar = condition["class"] == "COMPARISON"
    if kind not in _TYPES or len(values) > (1 if scalar else MOST):
        return False
    if any("\0" in str(value) for value in values):
        return False
    if scalar:
        written = [_written(value, kind) for value in values or [None]]
        side = "right" if condition["right"]["class"] == "SUBQUERY" else "left"
        condition[side] = _expression(con, written[0])
        return True
    written = [_written(value, kind) for value in values if value is not None]
    chosen = _expression(con, f"NULL IN ({', '.join(written)})" if written else "false")
    if written:
        chosen["children"][0] = condition["child"]
    condition.clear()
    condition.update(chosen)
    return True


def statement(select: dict[str, Any]) -> dict[str, Any]:
    """The tree of a statement that is one SELECT."""
    return {"error": False, "statements": [{"node": select, "named_param_map": []}]}


def text_of(con: duckdb.DuckDBPyConnection, tree: Any) -> str | None:
    """The statement that a tree is; None where it would not be read as the same again."""
    row = con.execute("SELECT json_deserialize_sql(?::JSON)", [json.dumps(tree)]).fetchone()
    if row is None:
        return None
    return str(row[0]) if _plain(readonly.parsed(con, str(row[0]))) == _plain(tree) else None


def _sources(relation: Mapping[str, Any]) -> set[str]:
    """Names of the tables and views that are joined in FROM."""
    if relation.get("type") == "JOIN":
        return _sources(relation["left"]) | _sources(relation["right"])
    return {str(relation.get("table_name", "")).lower()}


def conjuncts(condition: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """The conditions that WHERE joins with AND."""
    if condition is None:
        return
    if condition.get("type") == "CONJUNCTION_AND":
        for one in condition["children"]:
            yield from conjuncts(one)
    else:
        yield condition


def _subquery(condition: dict[str, Any]) -> dict[str, Any] | None:
    """The SELECT that a column is compared with."""
    if condition["class"] == "SUBQUERY" and condition["subquery_type"] == "ANY":
        is_column = (condition.get("child") or {}).get("class") == "COLUMN_REF"
        return condition["subquery"]["node"] if is_column and condition["comparison_type"] == "COMPARE_EQUAL" else None
    if condition["type"] != "COMPARE_EQUAL":
        return None
    for side, other in (("left", "right"), ("right", "left")):
        inner = condition[side]
        if inner["class"] == "SUBQUERY" and condition[other]["class"] == "COLUMN_REF":
            return inner["subquery"]["node"] if inner["subquery_type"] == "SCALAR" else None
    return None


def _alone(tree: Any, root: dict[str, Any], select: dict[str, Any], inner: dict[str, Any]) -> dict[str, Any] | None:
    """A subquery as a statement; None where it reads what is also read elsewhere, which might come out otherwise."""
    given = _common(_without(tree, [inner]))
    used = _tables(inner) & given
    if not used:
        return inner
    entries = root["cte_map"]["map"]
    bodies = [entry["value"]["query"]["node"] for entry in entries]
    own = {str(entry["key"]).lower() for entry in entries}
    read_elsewhere = _tables(_without(tree, [inner, *bodies])) & given
    if select is not root or not used <= own or read_elsewhere or _common(inner):
        return None
    return {**inner, "cte_map": {"map": entries}} if "cte_map" in inner else None


def _common(tree: Any) -> set[str]:
    return {
        str(entry["key"]).lower()
        for node in readonly.nodes(tree)
        for entry in (node.get("cte_map") or {}).get("map", ())
    }


def _tables(tree: Any) -> set[str]:
    return {str(node["table_name"]).lower() for node in readonly.nodes(tree) if node.get("type") == "BASE_TABLE"}


def _without(tree: Any, parts: list[dict[str, Any]]) -> Any:
    if isinstance(tree, dict):
        if any(tree is part for part in parts):
            return None
        return {key: _without(value, parts) for key, value in tree.items()}
    return [_without(one, parts) for one in tree] if isinstance(tree, list) else tree


def _written(value: object, kind: str) -> str:
    return f"CAST({'NULL' if value is None else quoted(str(value))} AS {kind})"


def _expression(con: duckdb.DuckDBPyConnection, text: str) -> dict[str, Any]:
    found: dict[str, Any] = readonly.parsed(con, f"SELECT {text}")["statements"][0]["node"]["select_list"][0]
    return found


def _plain(tree: Any) -> Any:
    """A tree without the places in the text."""
    if isinstance(tree, dict):
        return {key: _plain(value) for key, value in tree.items() if key != "query_location"}
    return [_plain(one) for one in tree] if isinstance(tree, list) else tree
