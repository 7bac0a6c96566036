"""What a judge's own code says, as a hash for its version: edited Python or SQL is another judge, a comment is not."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any

from tracemill.ids import content_id

_ROOM = "tracemill.rewards"
_FOLDER = Path(__file__).parent
_PLUMBING = {"code", "fitted", "rows", "unfitted"}
"""Files that hand rows on and judge nothing."""
_ASKS = {"query", "_query", "statement"}
_TOKEN = re.compile(r"--[^\n]*|/\*.*?\*/|('(?:[^']|'')*'|\"[^\"]*\"|\w+|[^\w\s])", re.DOTALL)


@cache
def code(module: str, *queries: str) -> str:
    """Hash of a module of this room, of those of the room that it imports, and of the SQL that they ask.

    SQL is found where its name stands in the call that asks it; `queries` names what is asked otherwise. Comments,
    docstrings, blanks and line breaks do not count.
    """
    found = {f"sql/{name}.sql" for name in queries}
    waiting = [module.removeprefix(f"{_ROOM}.").replace(".", "/") + ".py"]
    while waiting:
        path = waiting.pop()
        if path in found or path.removesuffix(".py") in _PLUMBING:
            continue
        found.add(path)
        tree = ast.parse(_read(path))
        waiting += [one for node in ast.walk(tree) for one in _imported(node)]
        found |= {f"sql/{name}.sql" for node in ast.walk(tree) for name in _asked(node)}
    plain = {path: python(_read(path)) if path.endswith(".py") else sql(_read(path)) for path in sorted(found)}
    return content_id(plain)


def python(text: str) -> Any:
    """The syntax tree of a module without docstrings and places; the same for every version of Python."""
    return _plain(ast.parse(text))


def sql(text: str) -> list[str]:
    """The words and signs of a query."""
    return [found.group(1) for found in _TOKEN.finditer(text) if found.group(1) is not None]


def _plain(node: Any) -> Any:
    if isinstance(node, list):
        return [_plain(one) for one in node if not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))]
    if not isinstance(node, ast.AST):
        return repr(node)
    # Fields that newer versions of Python add are empty in older code.
    fields = [(name, value) for name, value in ast.iter_fields(node) if not (value is None or value == [])]
    return [type(node).__name__, *([name, _plain(value)] for name, value in fields if name != "ctx")]


def _imported(node: ast.AST) -> list[str]:
    """Files of this room that an import brings in."""
    if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith(_ROOM):
        return []
    module = (node.module or "").removeprefix(_ROOM).removeprefix(".").replace(".", "/")
    inside = [f"{module}/{one.name}.py".removeprefix("/") for one in node.names]
    return [path for path in (f"{module}.py", *inside) if (_FOLDER / path).is_file()]


def _asked(node: ast.AST) -> list[str]:
    if not isinstance(node, ast.Call) or getattr(node.func, "id", None) not in _ASKS:
        return []
    said = [one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    return [name for name in said if (_FOLDER / "sql" / f"{name}.sql").is_file()]


def _read(path: str) -> str:
    return (_FOLDER / path).read_text(encoding="utf-8")
