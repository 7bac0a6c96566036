"""What the tables and views of the lake mean, column by column: for docs/sql.md, and as comments in the lake itself.

A column's meaning is said once: of a table beside its type in schema.py, of a view in `meanings.toml`; there stands too
what a name means wherever it occurs. A view's purpose is what its SQL begins with.
"""

import ast
import inspect
import io
import re
import tokenize
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from tracemill import schema

_CHOICES = re.compile(r"(?<![\w|])\w+(?:\|\w+)+(?:\|…)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """One table or view."""

    about: str
    columns: Mapping[str, str]

    def comment(self) -> str:
        """All of it as one text, for clients that show comments."""
        return "\n".join([self.about, *(f"{name}: {text}" for name, text in self.columns.items())])


def tables() -> dict[str, Meaning]:
    """The tables of schema.py, in its order."""
    said, beside = _said(), _comments()
    found = {}
    for table in schema.TABLES.values():
        own = said["tables"].get(table.name, {}) | beside[table.name]
        columns = {name: own.get(name) or _usual(name) for name in table.schema.names}
        found[table.name] = Meaning(about=own.get("about", ""), columns=columns)
    return found


def view(name: str, sql: str, columns: Iterable[str]) -> Meaning:
    """The view of this SQL, with these columns."""
    own = _said()["views"].get(name, {})
    return Meaning(about=_about(sql), columns={one: own.get(one) or _usual(one) for one in columns})


def source() -> str:
    """Everything that meanings are made of: where it changes, they change."""
    return _text() + inspect.getsource(schema)


def views_in_order() -> list[str]:
    """The views that `meanings.toml` tells of, those that most people want first."""
    return list(_said()["views"])


def unused(columns: Mapping[str, Iterable[str]]) -> list[str]:
    """What `meanings.toml` says of what there is not, given the columns of all tables and views."""
    said = _said()
    everywhere = {one for names in columns.values() for one in names}
    return [
        *(name for name in said["columns"] if name not in everywhere),
        *(
            f"{name}.{column}"
            for name, own in (*said["tables"].items(), *said["views"].items())
            for column in own
            if column not in (*columns.get(name, ()), *(("about",) if name in schema.TABLES else ()))
        ),
    ]


def _usual(name: str) -> str:
    """What a name means wherever it occurs, else what the first table that tells says."""
    return str(_said()["columns"].get(name) or next((own[name] for own in _comments().values() if name in own), ""))


@cache
def _said() -> dict[str, dict[str, Any]]:
    return tomllib.loads(_text())


def _text() -> str:
    return Path(__file__).with_name("meanings.toml").read_text(encoding="utf-8")


def _about(sql: str) -> str:
    """The comment that a view's SQL begins with, as one paragraph."""
    lines = []
    for line in sql.splitlines():
        if not line.startswith("--"):
            break
        if not line.startswith("-- after:"):
            lines.append(line.removeprefix("--").strip())
    return " ".join(lines)


@cache
def _comments() -> dict[str, dict[str, str]]:
    """Table to column to what schema.py says beside the column."""
    source = inspect.getsource(schema)
    comments = {
        token.start[0]: token.string.lstrip("# ").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT and not token.line.lstrip().startswith("#")
    }
    named: dict[str, dict[str, str]] = {}
    for statement in ast.parse(source).body:
        if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
            continue
        own: dict[str, str] = {}
        for node in ast.walk(statement.value):
            base = node.value.id if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) else None
            own.update(named.get(base or "", {}))
            column = _column(node)
            if column is not None and column[1] in comments:
                own[column[0]] = _plain(comments[column[1]])
        named[statement.targets[0].id] = own
    names = {id(value): name for name, value in vars(schema).items() if isinstance(value, pa.Schema)}
    return {table.name: named.get(names.get(id(table.schema), ""), {}) for table in schema.TABLES.values()}


def _column(node: ast.AST) -> tuple[str, int] | None:
    """The column that a node declares, and its last line: `name=pa.string()`, `pa.field("name", …)`."""
    if isinstance(node, ast.keyword) and node.arg is not None:
        return node.arg, node.end_lineno or node.lineno
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "field":
        name = node.args[0]
        if isinstance(name, ast.Constant) and isinstance(name.value, str):
            return name.value, node.end_lineno or node.lineno
    return None


def _plain(text: str) -> str:
    """`a|b|c` as people list things."""
    return _CHOICES.sub(lambda found: found[0].replace("|", ", "), text)
