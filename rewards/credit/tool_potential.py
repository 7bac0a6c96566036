"""Credit by tool status: calls whose tools failed are worse than their neighbours, whatever the outcome."""

from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa

from tracemill.errors import ConfigError
from tracemill.ids import content_id
from tracemill.rewards.code import code
from tracemill.rewards.credit.episodes import credits, judged


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolPotential:
    """Uniform shares, moved between the calls of an episode by a potential that is 0 at both of its ends.

    A call whose tools all answered is raised by `scale`, one whose tools failed is lowered by the failed share, a
    malformed call or a failed model call by twice of it; a failure of the very action that failed before is lowered
    by half more. What one call gains the others lose: the episode's total stays its advantage.
    """

    name: str = "tool_potential"
    scale: float = 0.1

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ConfigError(f"credit {self.name!r}: scale must be above 0, not {self.scale}")

    @property
    def version(self) -> str:
        return content_id(code(__name__), self.scale)

    def assign(self, con: duckdb.DuckDBPyConnection) -> pa.Table:
        calls = judged(con, method=self.name, version=self.version)
        tools, failed = calls.numbers("n_tools"), calls.numbers("n_failed")
        broken = (calls.numbers("n_malformed") > 0) | (calls.numbers("failed") > 0)
        share = failed / np.maximum(tools, 1)
        step = np.where(tools > 0, 1 - 2 * share, 0.0)
        actions, place, again = calls.strings("action"), calls.place, np.zeros(calls.n, dtype=bool)
        failing: set[str] = set()
        for at in range(calls.n):
            if place[at] == 0:
                failing = set()
            if failed[at]:
                again[at] = actions[at] in failing
                failing.add(actions[at])
        step = np.where(again, step - 0.5, step)
        step = np.where(broken, -2.0, step)
        return credits(calls, self.scale * step, method=self.name, version=self.version)
