"""The tool reward model: whether the tools that an agent called took its calls."""

from dataclasses import dataclass
from typing import Literal

import duckdb
import pyarrow as pa

from tracemill.errors import ConfigError
from tracemill.ids import content_id
from tracemill.rewards.code import code
from tracemill.rewards.rows import query, scores
from tracemill.rewards.unfitted import Unfitted


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolStatus(Unfitted):
    """Share of a trajectory's tool calls without an error, 0 where the last one failed; no row without tool calls.

    That a tool took a call does not make the outcome right: `combined` uses this as a veto only. The confidence is what
    the episode weighs among those of its user, as in feedback (`user_cap`; 0: no cap).
    """

    name: str = "tools"
    user_cap: float = 3.0

    def __post_init__(self) -> None:
        if self.user_cap < 0:
            raise ConfigError(f"reward {self.name!r}: user_cap is at least 0")

    @property
    def version(self) -> str:
        return content_id(code(__name__), self.name, float(self.user_cap))

    @property
    def level(self) -> Literal["trajectory"]:
        return "trajectory"

    @property
    def family(self) -> str:
        return "tools"

    def score(self, con: duckdb.DuckDBPyConnection, *, now_ns: int) -> pa.Table:
        params = {"name": self.name, "version": self.version, "user_cap": float(self.user_cap)}
        rows = query(con, "tools", params)
        return scores(rows, name=self.name, version=self.version, now_ns=now_ns, family=self.family)
