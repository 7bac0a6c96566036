"""The feedback reward model: what people and environments said, on one scale from 0 to 1."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import duckdb
import pyarrow as pa

from tracemill.ids import content_id
from tracemill.rewards.rows import query, scores
from tracemill.rewards.unfitted import Unfitted


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback(Unfitted):
    """Thumbs, ratings, labels and corrections of a trajectory, its session, spans and steps; environment rewards as is.

    Yields one row of source human or user and one of source env per trajectory, again whenever there is new evidence.
    A correction outranks ratings: 1 where a logged output says the same (case and blanks aside), else 0. `scales` gives
    the (worst, best) value by score name; without, values in [0, 1] stand, ±1 are thumbs and stars go from 1 to 5. A
    value on no known scale is an abstention.
    """

    name: str = "feedback"
    scales: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    env_names: Sequence[str] = ("reward",)

    @property
    def version(self) -> str:
        scales = {name: list(scale) for name, scale in self.scales.items()}
        return content_id("feedback/1", self.name, scales, list(self.env_names))

    @property
    def level(self) -> Literal["trajectory"]:
        return "trajectory"

    @property
    def family(self) -> str:
        return "people"

    def score(self, con: duckdb.DuckDBPyConnection, *, now_ns: int) -> pa.Table:
        params = {
            "name": self.name,
            "version": self.version,
            "env_names": list(self.env_names),
            "scaled": [*self.scales, ""],  # never empty: an empty list has no type
            "lows": [*(float(low) for low, _ in self.scales.values()), 0.0],
            "highs": [*(float(high) for _, high in self.scales.values()), 1.0],
        }
        return scores(
            query(con, "feedback", params), name=self.name, version=self.version, now_ns=now_ns, family=self.family
        )
