"""Judged episodes as arrays of their calls, and rows of credits whose sum is the episode's advantage."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tracemill.chat import FAILED_ANSWER
from tracemill.rewards.rows import query
from tracemill.schema import CREDITS

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """All calls of judged episodes, ordered by episode and step; `owner` … are one value per call."""

    table: pa.Table
    starts: Ints
    """Where each episode begins."""
    episode: Ints
    """Number of the episode of each call."""
    advantage: Floats
    """One per episode."""
    reward: Floats
    """One per episode."""
    withdrawn: pa.Table = field(repr=False)
    """Steps that were credited for a judgement that is withdrawn."""

    @property
    def n(self) -> int:
        return len(self.episode)

    @property
    def sizes(self) -> Ints:
        return np.diff(np.append(self.starts, self.n))

    @property
    def place(self) -> Ints:
        """0-based place of each call in its episode; steps may have gaps."""
        return np.arange(self.n) - self.starts[self.episode]

    def strings(self, column: str) -> list[str]:
        return ["" if value is None else str(value) for value in self.table[column].to_pylist()]

    def numbers(self, column: str) -> Floats:
        return np.asarray(self.table[column].to_numpy(), dtype=np.float64)


def judged(con: duckdb.DuckDBPyConnection, *, method: str, version: str) -> Calls:
    """Calls of all episodes with a combined reward, credited before or not."""
    about = {"method": method, "version": version}
    table = query(con, "credit_calls", {**about, "error": FAILED_ANSWER})
    names = table["trajectory_id"].to_numpy(zero_copy_only=False)
    first = np.ones(len(names), dtype=bool)
    first[1:] = names[1:] != names[:-1]
    starts = np.flatnonzero(first)
    return Calls(
        table=table,
        starts=starts,
        episode=np.cumsum(first) - 1,
        advantage=np.asarray(table["advantage"].to_numpy(), dtype=np.float64)[starts],
        reward=np.asarray(table["reward"].to_numpy(), dtype=np.float64)[starts],
        withdrawn=query(con, "credit_withdrawn", about),
    )


def credits(
    calls: Calls,
    raw: Floats,
    *,
    method: str,
    version: str,
    variance: Sequence[float | None] | Floats | None = None,
    left_out: npt.NDArray[np.bool_] | None = None,
) -> pa.Table:
    """Rows of schema.CREDITS: what `raw` says of a call beside the others of its episode, shifted to the advantage.

    Episodes that hold their credits at this reward already have no rows, nor have episodes `left_out` (one flag each).
    A judgement that was withdrawn turns its credits to NULL.
    """
    mean = np.zeros(len(calls.starts))
    if calls.n:
        mean = np.add.reduceat(raw, calls.starts) / calls.sizes
    credit = raw - mean[calls.episode] + (calls.advantage / calls.sizes)[calls.episode]
    wanted = ~np.asarray(calls.table["credited"].to_numpy(zero_copy_only=False), dtype=bool)
    if left_out is not None:
        wanted &= ~left_out[calls.episode]
    rows = calls.table.select(["trajectory_id", "step"])
    rows = rows.append_column("credit", pa.array(credit, pa.float64()))
    spread = pa.nulls(calls.n, pa.float64()) if variance is None else pa.array(variance, pa.float64(), from_pandas=True)
    rows = rows.append_column("variance", spread).filter(pa.array(wanted))
    gone = calls.withdrawn
    for name in ("credit", "variance"):
        gone = gone.append_column(name, pa.nulls(len(gone), pa.float64()))
    rows = pa.concat_tables([rows, gone.cast(rows.schema)])
    rows = rows.append_column("method", pa.array([method] * len(rows), pa.string()))
    rows = rows.append_column("version", pa.array([version] * len(rows), pa.string()))
    return rows.select(CREDITS.names).cast(CREDITS)


def numbered(keys: Sequence[object]) -> Ints:
    """Each key as a number: equal keys, equal numbers."""
    seen: dict[object, int] = {}
    return np.fromiter((seen.setdefault(key, len(seen)) for key in keys), dtype=np.int64, count=len(keys))
