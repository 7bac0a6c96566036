"""The combined score: one reward per trajectory out of everything that judged it."""

from collections.abc import Mapping, Sequence

import duckdb
import pyarrow as pa

from tracemill.errors import ConfigError
from tracemill.ids import content_id
from tracemill.rewards.rows import query, scores

NAME = "combined"
TIERS = ("human", "env", "verifier")


def combine(
    con: duckdb.DuckDBPyConnection,
    *,
    now_ns: int,
    precedence: Sequence[str] = TIERS,
    weights: Mapping[str, float] | None = None,
    env_names: Sequence[str] = ("reward",),
    veto: str = "tools",
) -> pa.Table:
    """Rows of schema.SCORES named combined, one per trajectory whose combined score is new or has changed.

    The first tier of `precedence` that knows anything decides: human (feedback, corrections among it), env (rewards
    of the environment), verifier (every other score of code or a model, averaged by `weights`: 1 where not named, 0
    to leave one out). A score of 0 named `veto` (a failed last tool call) turns a verifier's verdict to 0; it never
    makes a score. A trajectory that nobody judged has no row. Evidence is the JSON of the tier and the score_ids
    used; the confidence falls where judges disagree; the propensity is that of the human judgement. The latest row
    counts.
    """
    if unknown := sorted(set(precedence) - set(TIERS)):
        raise ConfigError(f"combined reward: unknown tier {', '.join(unknown)}; known: {', '.join(TIERS)}")
    if wrong := sorted(name for name, weight in (weights or {}).items() if weight < 0):
        raise ConfigError(f"combined reward: negative weight for {', '.join(wrong)}; use 0 to leave a score out")
    given = dict(weights or {})
    version = content_id("combined/1", list(precedence), given, list(env_names), veto)
    params = {
        "name": NAME,
        "version": version,
        "precedence": [*precedence, ""],  # lists are never empty: an empty one has no type
        "weighted": [*given, ""],
        "weights": [*(float(weight) for weight in given.values()), 1.0],
        "env_names": [*env_names, ""],
        "veto": veto,
    }
    return scores(query(con, "combined", params), name=NAME, version=version, now_ns=now_ns)
