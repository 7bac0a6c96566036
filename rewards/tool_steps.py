"""The tool-step reward model: what each step's tool calls are worth, without changing what the episode is worth."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from tracemill.chat import FAILED_ANSWER
from tracemill.errors import ConfigError
from tracemill.ids import content_id
from tracemill.rewards.code import code
from tracemill.rewards.rows import query, scores
from tracemill.rewards.schemas import BadSchemaError, Validator, validator
from tracemill.rewards.unfitted import Unfitted

VALUES: Mapping[str, float] = {
    "ok": 1.0,
    "recovered": 1.0,
    "timeout": 0.4,
    "error": 0.25,
    "invalid": 0.1,
    "malformed": 0.0,
    "repeated": 0.0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSteps(Unfitted):
    """A row for each step that called tools and of whose calls anything is known: the value of its worst call.

    A call is malformed (its arguments are no JSON), invalid (no such tool, or the logged definition's JSON Schema
    forbids the arguments), a timeout, an error, repeated (a failure after one of the same tool with the same arguments
    or the same error), recovered (the tool's last call had failed), or ok. Malformed and invalid calls count as such
    even where the tool took them, and where it never ran. `values` says what each is worth.

    Evidence tells the calls, and `shaped`: the step's value less that of the state before it, which is the value of the
    step before, less an equal share of the whole way (potential-based shaping, Ng, Harada and Russell 1999). The shaped
    rewards of an episode add up to 0, so adding them moves reward between steps and never to an episode. The confidence
    is what the episode weighs among those of its user, as in feedback (`user_cap`; 0: no cap).
    """

    name: str = "tool_steps"
    values: Mapping[str, float] = field(default_factory=dict)
    user_cap: float = 3.0

    def __post_init__(self) -> None:
        if unknown := sorted(self.values.keys() - VALUES.keys()):
            raise ConfigError(f"reward {self.name!r}: values of {', '.join(unknown)}; known: {', '.join(VALUES)}")
        if wrong := sorted(name for name, value in self.values.items() if not 0 <= value <= 1):
            raise ConfigError(f"reward {self.name!r}: the value of {', '.join(wrong)} is not in [0, 1]")
        if self.user_cap < 0:
            raise ConfigError(f"reward {self.name!r}: user_cap is at least 0")

    @property
    def version(self) -> str:
        return content_id(code(__name__), FAILED_ANSWER, self.name, {**VALUES, **self.values}, float(self.user_cap))

    @property
    def level(self) -> Literal["step"]:
        return "step"

    @property
    def family(self) -> str:
        return "tools"

    def score(self, con: duckdb.DuckDBPyConnection, *, now_ns: int) -> pa.Table:
        calls = query(con, "tool_steps_calls", {"error": FAILED_ANSWER})
        values = {**VALUES, **self.values}
        before = con.execute(
            "select target_id, evidence from scores where target_kind = 'step' and name = $name and version = $version",
            {"name": self.name, "version": self.version},
        ).to_arrow_table()
        voters = con.execute(
            "select trajectory_id, coalesce(user_key, 'session ' || session_id) as voter from trajectories"
        ).to_arrow_table()
        worth = {"kinds": list(values), "values": [float(v) for v in values.values()]}
        with duckdb.connect() as own:
            own.register("calls", calls)
            own.register("voters", voters)
            own.register("faults", _faults(con, own))
            rows = query(own, "tool_steps", {**worth, "user_cap": float(self.user_cap)})
            own.register("judged", rows)
            own.register("said", before)
            new = own.sql("from judged anti join said using (target_id, evidence) order by target_id").to_arrow_table()
        return scores(new, name=self.name, version=self.version, now_ns=now_ns, family=self.family, kind=self.level)


def _faults(con: duckdb.DuckDBPyConnection, own: duckdb.DuckDBPyConnection) -> pa.Table:
    """What is wrong with calls by the definitions that their model was given: each kind of call is looked at once."""
    distinct = own.sql(
        "select definitions_id, tool, coalesce(args, '') as args from calls"
        " where is_written and definitions_id is not null group by all"
    ).to_arrow_table()
    columns = [distinct[name].to_pylist() for name in ("definitions_id", "tool", "args")]
    logged = con.execute(
        "select message_id, any_value(parts) from messages where role = 'tools' and list_contains(?, message_id)"
        " group by message_id",
        [["", *sorted(set(columns[0]))]],
    ).fetchall()
    definitions = {message_id: _Definitions(parts) for message_id, parts in logged}
    faults = [
        None if (known := definitions.get(definitions_id)) is None else known.fault(tool, args)
        for definitions_id, tool, args in zip(*columns, strict=True)
    ]
    return distinct.append_column("fault", pa.array(faults, pa.string())).filter(pc.field("fault").is_valid())


class _Definitions:
    """The tools that a call was given, as they were logged: strangers' schemas, and some that are none."""

    def __init__(self, parts: str | None) -> None:
        self._checks: dict[str, Validator | None] = {}
        self._complete = True
        try:
            listed = json.loads(parts or "[]")
        except (ValueError, RecursionError):
            listed = []
        for one in listed if isinstance(listed, list) else []:
            function = one.get("function") if isinstance(one, dict) else None
            name = function.get("name") if isinstance(function, dict) else None
            if not isinstance(function, dict) or not isinstance(name, str):
                self._complete = False  # a tool of the provider's own, whose calls have a name that is not told
                continue
            self._checks[name] = _check(function.get("parameters"))

    def fault(self, tool: str, args: str) -> str | None:
        check = self._checks.get(tool)
        if check is None:
            known = tool in self._checks or not self._complete or not self._checks
            return None if known else f"invalid: no tool {tool[:100]!r} among those that were offered"
        try:
            return check.fault(args.strip() or "{}")
        except BadSchemaError:
            return None


def _check(parameters: Any) -> Validator | None:
    if parameters is None:
        parameters = {"type": "object"}
    try:
        return validator(parameters)
    except BadSchemaError:
        return None
