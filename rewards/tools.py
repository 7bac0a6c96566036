"""The tool reward model: whether the tools that an agent called took its calls."""

from dataclasses import dataclass
from typing import Literal

import duckdb
import pyarrow as pa

from tracemill.ids import content_id
from tracemill.rewards.rows import query, scores
from tracemill.rewards.unfitted import Unfitted


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolStatus(Unfitted):
    """Share of a trajectory's tool calls without an error, 0 where the last one failed; no row without tool calls.

    That a tool took a call does not make the outcome right: `combined` uses this as a veto only.
    """

    name: str = "tools"

    @property
    def version(self) -> str:
        return content_id("tools/1", self.name)

    @property
    def level(self) -> Literal["trajectory"]:
        return "trajectory"

    @property
    def family(self) -> str:
        return "tools"

    def score(self, con: duckdb.DuckDBPyConnection, *, now_ns: int) -> pa.Table:
        rows = query(con, "tools", {"name": self.name, "version": self.version})
        return scores(rows, name=self.name, version=self.version, now_ns=now_ns, family=self.family)
