"""Reading what mining needs out of the lake: its queries, and messages as chat messages."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from tracemill.chat import to_openai
from tracemill.records import ChatMessage

_CHUNK = 20_000
_ROWS = 4_096


def table(con: duckdb.DuckDBPyConnection, name: str, params: Mapping[str, Any] | None = None) -> pa.Table:
    """The result of `sql/<name>.sql`."""
    return _executed(con, name, params).to_arrow_table()


def batches(
    con: duckdb.DuckDBPyConnection, name: str, params: Mapping[str, Any] | None = None
) -> Iterator[pa.RecordBatch]:
    """The result of `sql/<name>.sql`, some thousand rows at a time, so that a large one is never there as a whole."""
    return iter(_executed(con, name, params).to_arrow_reader(_ROWS))


def _executed(con: duckdb.DuckDBPyConnection, name: str, params: Mapping[str, Any] | None) -> duckdb.DuckDBPyConnection:
    sql = (Path(__file__).parent / "sql" / f"{name}.sql").read_text(encoding="utf-8")
    return con.execute(sql, dict(params or {}))


def chat_message(role: str, name: str | None, parts: str | None) -> ChatMessage:
    """A row of `messages` in OpenAI shape."""
    return to_openai(role, name, json.loads(parts) if parts else [])


def tools(con: duckdb.DuckDBPyConnection, ids: Sequence[str]) -> dict[str, tuple[Mapping[str, Any], ...]]:
    """Tool definitions in OpenAI shape by message id, of those that the lake has."""
    rows = table(con, "messages", {"ids": list(ids)}).to_pylist() if ids else []
    return {row["message_id"]: tuple(json.loads(row["parts"])) for row in rows if row["parts"]}


class Messages:
    """Chat messages (OpenAI shape) by message id. Each is read from the lake once."""

    def __init__(self, con: duckdb.DuckDBPyConnection) -> None:
        self._con = con
        self._known: dict[str, ChatMessage | None] = {}

    def fetch(self, ids: Iterable[str]) -> None:
        """Reads those not read yet, in bulk."""
        wanted = [i for i in dict.fromkeys(ids) if i not in self._known]
        for start in range(0, len(wanted), _CHUNK):
            chunk = wanted[start : start + _CHUNK]
            self._known.update(dict.fromkeys(chunk))
            for row in table(self._con, "messages", {"ids": chunk}).to_pylist():
                self._known[row["message_id"]] = chat_message(row["role"], row["name"], row["parts"])

    def get(self, message_id: str) -> ChatMessage | None:
        """The message; None where the lake does not have it."""
        if message_id not in self._known:
            self.fetch([message_id])
        return self._known[message_id]
