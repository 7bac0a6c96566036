"""The calls that a LIMIT leaves, found before anything that was said in them is looked up.

DuckDB looks up the messages of all calls first, because a LIMIT does not pass through the join that finds them. Where
only columns of calls choose and order the rows, the choice is the same over `calls`.
"""

from collections.abc import Iterator, Set
from typing import Any

from tracemill.warehouse import readonly

_VIEW = "llm_calls"
_TODAY = frozenset({"current_date", "current_timestamp"})
"""Written like columns, but values."""
_EXPRESSIONS = frozenset(
    {
        "CONSTANT", "COLUMN_REF", "STAR", "FUNCTION", "COMPARISON", "CONJUNCTION", "OPERATOR", "CAST", "CASE",
        "BETWEEN", "COLLATE",
    }
)  # fmt: skip
"""Kinds of expressions that give one value a row, where their functions do. No subqueries, no windows."""
_PLAIN: dict[str, Any] = {
    "type": "SELECT_NODE", "group_expressions": [], "group_sets": [], "aggregate_handling": "STANDARD_HANDLING",
    "having": None, "sample": None, "qualify": None, "cte_map": {"map": []},
}  # fmt: skip
_RELATION: dict[str, Any] = {
    "type": "BASE_TABLE", "schema_name": "", "catalog_name": "", "sample": None, "column_name_alias": [],
    "at_clause": None,
}  # fmt: skip


def functions(tree: Any) -> Set[str]:
    """Names of the functions in a statement, as readonly.parsed gives it."""
    return {str(node["function_name"]).lower() for node in readonly.nodes(tree) if node.get("class") == "FUNCTION"}


def choice(tree: Any, columns: Set[str], pure: Set[str]) -> dict[str, Any] | None:
    """The statement `SELECT * FROM calls …`, as a tree, that chooses the rows of a statement; None where it may not.

    It may where llm_calls is read once, by a SELECT, be it the statement or a part of it, with a LIMIT, and with WHERE
    and ORDER BY over `columns`, those of calls, alone. `pure` are the functions that give the same for the same, one
    value a row. Rows that ORDER BY puts at the same place are taken in any order, as ever.
    """
    select = _reading(tree)
    if select is None or not _fits(select, _PLAIN) or not _fits(select["from_table"], _RELATION):
        return None
    if any(node["class"] not in _EXPRESSIONS for node in readonly.nodes(select) if "class" in node):
        return None
    if not functions(select) <= pure or any(node.get("schema") for node in readonly.nodes(select)):
        return None
    name = str(select["from_table"].get("alias") or _VIEW).lower()
    items = select["select_list"]
    limit = _limit(select["modifiers"])
    if limit is None or name in columns or not all(_keeps_names(item, columns) for item in items):
        return None
    orders = [
        {**order, "expression": _ordered(order["expression"], items)}
        for modifier in select["modifiers"]
        if modifier["type"] == "ORDER_MODIFIER"
        for order in modifier["orders"]
    ]
    choosing = [select["where_clause"], *(order["expression"] for order in orders)]
    if not all(_of_calls(one, columns, name) for one in choosing):
        return None
    if any(order["expression"]["class"] in ("CONSTANT", "STAR") for order in orders):
        return None
    everything = {
        "class": "STAR", "type": "STAR", "alias": "", "relation_name": "", "exclude_list": [], "replace_list": [],
        "columns": False, "expr": None, "qualified_exclude_list": [], "rename_list": [],
    }  # fmt: skip
    chosen = {
        **select,
        "select_list": [everything],
        "from_table": {**select["from_table"], "table_name": "calls", "alias": name},
        "modifiers": [*([{"type": "ORDER_MODIFIER", "orders": orders}] if orders else []), limit],
    }
    return {**tree, "statements": [{**tree["statements"][0], "node": chosen}]}


def _reading(tree: Any) -> dict[str, Any] | None:
    """The SELECT that alone reads llm_calls, and from nothing else; None where there is no such."""
    found, times = None, 0
    for node in readonly.nodes(tree):
        if any(str(one["key"]).lower() in (_VIEW, "calls") for one in (node.get("cte_map") or {}).get("map", ())):
            return None
        times += node.get("type") == "BASE_TABLE" and _is_view(node)
        if node.get("type") == "SELECT_NODE" and _is_view(node["from_table"]):
            found = node
    return found if times == 1 else None


def _is_view(relation: dict[str, Any]) -> bool:
    return str(relation.get("table_name", "")).lower() == _VIEW


def _fits(node: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return all(node.get(key) == value for key, value in wanted.items())


def _limit(modifiers: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The LIMIT that leaves what LIMIT and OFFSET leave and skip. None where there is no such number."""
    kinds = [modifier["type"] for modifier in modifiers]
    if kinds not in (["LIMIT_MODIFIER"], ["ORDER_MODIFIER", "LIMIT_MODIFIER"]):
        return None
    last = modifiers[-1]
    numbers = [_number(last[part]) for part in ("limit", "offset") if last.get(part) is not None]
    if last.get("limit") is None or any(number is None or number < 0 for number in numbers):
        return None
    total = sum(number for number in numbers if number is not None)
    value = {"type": {"id": "BIGINT", "type_info": None}, "is_null": False, "value": total}
    return {
        **last,
        "limit": {"class": "CONSTANT", "type": "VALUE_CONSTANT", "alias": "", "value": value},
        "offset": None,
    }


def _number(node: dict[str, Any]) -> int | None:
    if node.get("class") != "CONSTANT" or node["value"]["type"]["id"] not in ("INTEGER", "BIGINT"):
        return None
    value = node["value"].get("value")
    return value if isinstance(value, int) else None


def _keeps_names(item: dict[str, Any], columns: Set[str]) -> bool:
    """Whether a selected expression leaves the names of columns to the columns, for WHERE and ORDER BY."""
    if item["class"] == "STAR":
        return not (item.get("replace_list") or item.get("rename_list") or item.get("columns") or item.get("expr"))
    alias = str(item.get("alias", "")).lower()
    itself = item["class"] == "COLUMN_REF" and str(item["column_names"][-1]).lower() == alias
    return itself or alias not in columns | _TODAY


def _ordered(expression: dict[str, Any], items: list[dict[str, Any]]) -> dict[str, Any]:
    """What ORDER BY orders by: a place in the list and a name given there mean the expression there."""
    place = _number(expression)
    if place is not None and 0 < place <= len(items) and all(item["class"] != "STAR" for item in items):
        return {**items[place - 1], "alias": ""}
    if expression["class"] == "COLUMN_REF" and len(expression["column_names"]) == 1:
        name = str(expression["column_names"][0]).lower()
        named = [item for item in items if str(item.get("alias", "")).lower() == name]
        if len(named) == 1:
            return {**named[0], "alias": ""}
    return expression


def _of_calls(expression: Any, columns: Set[str], name: str) -> bool:
    """Whether an expression reads nothing but columns of calls, from the relation called `name`."""
    return all(_is_column(names, columns, name) for names in _references(expression))


def _references(expression: Any) -> Iterator[list[str]]:
    for node in readonly.nodes(expression):
        if node.get("class") == "COLUMN_REF":
            yield [str(part).lower() for part in node["column_names"]]


def _is_column(names: list[str], columns: Set[str], name: str) -> bool:
    if len(names) == 1:
        return names[0] in columns | _TODAY
    return len(names) == 2 and names[0] == name and names[1] in columns
