"""Which labels are worth asking people for: drawn at random, with known probabilities, the telling ones more often."""

import duckdb
import numpy as np
import pyarrow as pa

from tracemill.agreement import Floats
from tracemill.rewards.rows import query

FLOOR = 0.3
"""Share of the questions that are spread over all targets alike, so that every one of them may be asked for."""

AWAITED = 3.0
"""How much more a label is worth that the gate waits for."""


def targets(con: duckdb.DuckDBPyConnection) -> pa.Table:
    """target_id and worth of every trajectory that nobody was asked about yet, and the score that it has.

    Worth is uncertainty of the combined score x disagreement of its judges x traffic (episodes of its task group), and
    `AWAITED` times that where the gate's last verdict on a call site of the episode is CONTINUE and its label would be
    of a task group that the candidate was not judged on.
    """
    return query(con, "label_targets", {"awaited": AWAITED})


def propensities(worth: Floats, n: int, *, floor: float = FLOOR) -> Floats:
    """Probabilities, each above 0 and at most 1, that draw `n` targets on average (all, where there are no more).

    A share of `floor` is spread evenly, the rest in proportion to `worth`; what goes beyond 1 goes to the others.
    """
    if not len(worth):
        return np.zeros(0)
    total = float(worth.sum())
    even = np.full(len(worth), 1 / len(worth))
    share = floor * even + (1 - floor) * (worth / total if total > 0 else even)
    chance = np.minimum(1.0, n * share)
    for _ in range(50):
        rest, missing = chance < 1, min(n, len(worth)) - float(chance.sum())
        if missing < 1e-9 or not rest.any():
            break
        chance = np.where(rest, np.minimum(1.0, chance * (1 + missing / float(chance[rest].sum()))), 1.0)
    return chance


def draw(chance: Floats, start: float) -> list[int]:
    """Places that are drawn, each with its probability, as many as the probabilities add up to (systematic sampling).

    Places must be in random order; `start` is a random number in [0, 1).
    """
    # Off the ends, so that rounding of the sum neither adds nor loses a place.
    reached = np.floor(np.cumsum(chance) - min(max(start, 1e-6), 1 - 1e-6) + 1e-9)
    return np.flatnonzero(np.diff(reached, prepend=-1.0) > 0).tolist()
