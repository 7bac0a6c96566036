"""A small lake in memory: the tables of schema.py, and rows from chat messages."""

import json
from collections.abc import Sequence
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from tracemill.chat import from_openai, text_of, tools_from_openai
from tracemill.ids import canonical_json, content_id
from tracemill.schema import TABLES


class Lake:
    """Rows are added as Python values; `con` is what the code under test gets."""

    def __init__(self) -> None:
        self._con = duckdb.connect()
        self._waiting: dict[str, list[dict[str, Any]]] = {}
        self._said: set[str] = set()
        for name, table in TABLES.items():
            columns = ", ".join(f'"{field.name}" {_sql_type(field.type)}' for field in table.schema)
            self._con.execute(f"create table {name} ({columns})")

    @property
    def con(self) -> duckdb.DuckDBPyConnection:
        for name, rows in self._waiting.items():
            self._con.register("incoming", pa.Table.from_pylist(rows, schema=TABLES[name].schema))
            self._con.execute(f"insert into {name} from incoming")
            self._con.unregister("incoming")
        self._waiting = {}
        return self._con

    def add(self, name: str, *rows: dict[str, Any]) -> None:
        self._waiting.setdefault(name, []).extend(rows)

    def put(self, name: str, arrow: pa.Table) -> None:
        self.con.register("incoming", arrow)
        keys = " and ".join(f"{name}.{key} is not distinct from incoming.{key}" for key in TABLES[name].key)
        self.con.execute(f"delete from {name} using incoming where {keys}")
        self.con.execute(f"insert into {name} from incoming")
        self.con.unregister("incoming")

    def say(self, message: dict[str, Any]) -> str:
        role, name, parts = from_openai(message)
        return self._store(role, name, parts)

    def _store(self, role: str, name: str | None, parts: list[dict[str, Any]]) -> str:
        message_id = content_id(role, name, parts)
        if message_id not in self._said:
            self._said.add(message_id)
            text = canonical_json(parts)
            row = {"message_id": message_id, "role": role, "name": name, "parts": text, "text": text_of(parts)}
            self.add("messages", row)
        return message_id

    def tools(self, *names: str) -> str:
        flat = [{"name": name, "description": f"does {name}", "parameters": {"type": "object"}} for name in names]
        return self._store("tools", None, tools_from_openai(flat))

    def call(
        self,
        trajectory: str,
        messages: Sequence[dict[str, Any]],
        output: str | dict[str, Any] | None = "ok",
        *,
        step: int = 0,
        agent: str | None = "desk",
        at: int | None = None,
        tools: str | None = None,
        flags: Sequence[str] = (),
        variables: dict[str, Any] | None = None,
        **more: Any,
    ) -> None:
        answer = {"role": "assistant", "content": output} if isinstance(output, str) else output
        self.add(
            "transitions",
            {
                "trajectory_id": trajectory,
                "step": step,
                "span_id": f"s{step}",
                "agent_name": agent,
                "system_ids": [self.say(m) for m in messages if m["role"] == "system"],
                "input_ids": [self.say(m) for m in messages if m["role"] != "system"],
                "output_ids": [] if answer is None else [self.say(answer)],
                "tool_definitions_id": tools,
                "model": "small-1",
                "params": '{"temperature":0.0}',
                "trainable": True,
                "flags": list(flags),
                "start_ns": at,
                **more,
            },
        )
        span = {"trace_id": trajectory, "span_id": f"s{step}", "kind": "llm"}
        if variables is not None:
            span["prompt_variables"] = json.dumps(variables)
        self.add("spans", span)

    def trajectory(self, trajectory: str, *, group: str = "g", pool: str | None = "learn", **more: Any) -> None:
        self.add("trajectories", {"trajectory_id": trajectory, "task_group": group, "pool": pool, **more})

    def score(
        self, target: str, name: str, value: float | None = None, *, kind: str = "trajectory", **more: Any
    ) -> None:
        row = {"target_kind": kind, "target_id": target, "name": name, "value": value, "at": 1, **more}
        self.add("scores", {"score_id": content_id(row), **row})

    def apply(self, update: Any) -> None:
        """What the warehouse does with a SiteUpdate."""
        self.put("sites", update.sites)
        self.con.register("incoming", update.assigned)
        self.con.execute(
            "update transitions t set site_id = i.site_id, site_version = i.site_version from incoming i"
            " where t.trajectory_id = i.trajectory_id and t.step = i.step"
        )
        self.con.unregister("incoming")


def _sql_type(dtype: pa.DataType) -> str:
    if pa.types.is_list(dtype):
        return _sql_type(dtype.value_type) + "[]"
    names = {"string": "varchar", "int64": "bigint", "int32": "integer", "uint32": "uinteger", "double": "double"}
    return {**names, "float": "float", "bool": "boolean", "date32[day]": "date"}[str(dtype)]


@pytest.fixture
def lake() -> Lake:
    return Lake()


@pytest.fixture
def new_lake() -> type[Lake]:
    """For tests that need more than one lake."""
    return Lake
