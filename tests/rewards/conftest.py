"""A small lake in memory for scoring: trajectories, their calls and what was said of them."""

from typing import Any

import duckdb
import pyarrow as pa
import pytest

from tracemill.chat import from_openai, text_of
from tracemill.ids import canonical_json, content_id
from tracemill.schema import TABLES


class Lake:
    def __init__(self) -> None:
        self._con = duckdb.connect()
        self._waiting: dict[str, list[dict[str, Any]]] = {}
        for name, table in TABLES.items():
            columns = ", ".join(f'"{field.name}" {_sql_type(field.type)}' for field in table.schema)
            self._con.execute(f"create table {name} ({columns})")

    @property
    def con(self) -> duckdb.DuckDBPyConnection:
        for name, rows in self._waiting.items():
            self.put(name, pa.Table.from_pylist(rows, schema=TABLES[name].schema))
        self._waiting = {}
        return self._con

    def put(self, name: str, arrow: pa.Table) -> None:
        self._con.register("incoming", arrow)
        self._con.execute(f"insert into {name} from incoming")
        self._con.unregister("incoming")

    def add(self, name: str, *rows: dict[str, Any]) -> None:
        self._waiting.setdefault(name, []).extend(rows)

    def trajectory(self, trajectory: str, *outputs: str | dict[str, Any], **more: Any) -> None:
        """One trajectory whose calls answered with `outputs`."""
        self.add("trajectories", {"trajectory_id": trajectory, "task_group": "g", "pool": "learn", **more})
        for step, output in enumerate(outputs):
            message = {"role": "assistant", "content": output} if isinstance(output, str) else output
            role, name, parts = from_openai(message)
            message_id = content_id(trajectory, step)
            stored = {"message_id": message_id, "role": role, "name": name, "text": text_of(parts)}
            self.add("messages", {**stored, "parts": canonical_json(parts)})
            row = {"trajectory_id": trajectory, "step": step, "span_id": f"{trajectory}-{step}", "seq": step}
            self.add("transitions", {**row, "output_ids": [message_id]})
            self.add("spans", {"trace_id": trajectory, "span_id": f"{trajectory}-{step}", "kind": "llm", "seq": step})

    def tool(self, trajectory: str, *statuses: str) -> None:
        for i, status in enumerate(statuses):
            row = {"trace_id": trajectory, "span_id": f"{trajectory}-tool{i}", "kind": "tool", "status": status}
            self.add("spans", {**row, "seq": 100 + i})

    def score(self, target: str, name: str, value: float | None = None, **more: Any) -> str:
        row = {"target_kind": "trajectory", "target_id": target, "name": name, "value": value, "at": 1, **more}
        score_id = content_id(row)
        self.add("scores", {"score_id": score_id, **row})
        return score_id

    def run(self, model: Any, now: int = 100) -> dict[Any, float | None]:
        """Scores, stores the rows as the warehouse does, and gives the values by target."""
        rows = model.score(self.con, now_ns=now)
        self.put("scores", rows)
        return {row["target_id"]: row["value"] for row in rows.to_pylist()}


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
