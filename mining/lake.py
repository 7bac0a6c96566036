"""Reading what mining needs out of the lake: its queries, and messages as chat messages, each fetched once."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from tracemill.chat import to_openai
from tracemill.records import ChatMessage

_CHUNK = 20_000


def table(con: duckdb.DuckDBPyConnection, name: str, params: Mapping[str, Any] | None = None) -> pa.Table:
    """The result of `sql/<name>.sql`."""
    sql = (Path(__file__).parent / "sql" / f"{name}.sql").read_text(encoding="utf-8")
    return con.execute(sql, dict(params or {})).to_arrow_table()


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
                parts = json.loads(row["parts"]) if row["parts"] else []
                self._known[row["message_id"]] = to_openai(row["role"], row["name"], parts)

    def get(self, message_id: str) -> ChatMessage | None:
        """The message; None where the lake does not have it."""
        if message_id not in self._known:
            self.fetch([message_id])
        return self._known[message_id]

    def tools(self, message_id: str | None) -> tuple[Mapping[str, Any], ...] | None:
        """Tool definitions in OpenAI shape; None where a call had none."""
        if message_id is None:
            return None
        rows = table(self._con, "messages", {"ids": [message_id]}).to_pylist()
        return tuple(json.loads(rows[0]["parts"])) if rows and rows[0]["parts"] else None
