"""Discounted credit: the later a call, the more of the outcome is its own."""

from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa

from tracemill.errors import ConfigError
from tracemill.ids import content_id
from tracemill.rewards.code import code
from tracemill.rewards.credit.episodes import credits, judged


@dataclass(frozen=True, slots=True, kw_only=True)
class Discounted:
    """Shares of the advantage in the proportion `gamma` ** (calls that follow)."""

    name: str = "discounted"
    gamma: float = 0.9

    def __post_init__(self) -> None:
        if not 0 < self.gamma <= 1:
            raise ConfigError(f"credit {self.name!r}: gamma must lie in (0, 1], not {self.gamma}")

    @property
    def version(self) -> str:
        return content_id(code(__name__), self.gamma)

    def assign(self, con: duckdb.DuckDBPyConnection) -> pa.Table:
        calls = judged(con, method=self.name, version=self.version)
        if not calls.n:
            return credits(calls, np.zeros(0), method=self.name, version=self.version)
        weight = self.gamma ** (calls.sizes[calls.episode] - 1 - calls.place)
        total = np.add.reduceat(weight, calls.starts)
        raw = (calls.advantage / total)[calls.episode] * weight
        return credits(calls, raw, method=self.name, version=self.version)
