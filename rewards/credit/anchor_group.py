"""Credit by recurring states: what came of the others who stood at the same place and did something else.

After GiGPO (Feng et al. 2025), with abstract states in place of identical ones, for logs seldom repeat themselves.
"""

from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa

from tracemill.errors import ConfigError
from tracemill.ids import content_id
from tracemill.rewards.code import code
from tracemill.rewards.credit.episodes import Calls, Floats, Ints, credits, judged, numbered


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorGroup:
    """Per call: mean reward of those that did and saw the same at the same state, less that of all at that state.

    A state is the task group (the agent, where the task came once), who calls, and what was done and seen last; where
    n episodes did so there, the difference counts n / (n + `shrink`). Steps at states of one episode differ in
    nothing: they share the rest of the advantage alike. `variance` is that of the difference; NULL at such steps.
    """

    name: str = "anchor_group"
    shrink: float = 1.0

    def __post_init__(self) -> None:
        if self.shrink < 0:
            raise ConfigError(f"credit {self.name!r}: shrink must not be below 0, not {self.shrink}")

    @property
    def version(self) -> str:
        return content_id(code(__name__), self.shrink)

    def assign(self, con: duckdb.DuckDBPyConnection) -> pa.Table:
        calls = judged(con, method=self.name, version=self.version)
        state = states(calls)
        failed = (calls.numbers("n_failed") > 0).tolist()
        came = zip(state.tolist(), calls.strings("action"), failed, calls.strings("seen"), strict=True)
        taken = numbered(list(came))
        reward = calls.reward[calls.episode]
        mean_s, n_s, var_s = _means(state, calls.episode, reward)
        mean_a, n_a, var_a = _means(taken, calls.episode, reward)
        weight = n_a / (n_a + self.shrink) if calls.n else np.zeros(0)
        alone = n_s < 2
        raw = np.where(alone, 0.0, weight * (mean_a - mean_s))
        variance = np.where(alone, np.nan, weight**2 * (var_a / n_a + var_s / n_s))
        return credits(calls, raw, method=self.name, version=self.version, variance=variance)


def states(calls: Calls) -> Ints:
    """The abstract state that each call was made in, as a number."""
    task, agent, pool = calls.strings("task_group"), calls.strings("agent_name"), calls.strings("pool")
    caller, action, seen = calls.strings("caller"), calls.strings("action"), calls.strings("seen")
    failed, place = calls.numbers("n_failed"), calls.place
    episodes: dict[tuple[str, str], set[int]] = {}
    for at in range(calls.n):
        episodes.setdefault((pool[at], task[at]), set()).add(int(calls.episode[at]))
    keys: list[object] = []
    for at in range(calls.n):
        common = task[at] != "" and len(episodes[(pool[at], task[at])]) > 1
        where = ("task", pool[at], task[at]) if common else ("agent", pool[at], agent[at])
        last = ("begin",) if place[at] == 0 else (action[at - 1], failed[at - 1] > 0, seen[at - 1])
        keys.append((where, caller[at], last))
    return numbered(keys)


def _means(group: Ints, episode: Ints, reward: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean, count and variance of the rewards of the distinct episodes of each group, for each call."""
    if not len(group):
        return np.zeros(0), np.zeros(0), np.zeros(0)
    _, first = np.unique(np.stack([group, episode]), axis=1, return_index=True)
    size = int(group.max()) + 1
    n = np.bincount(group[first], minlength=size).astype(np.float64)
    mean = np.bincount(group[first], weights=reward[first], minlength=size) / n
    square = np.bincount(group[first], weights=(reward[first] - mean[group[first]]) ** 2, minlength=size)
    # One reward more at one half: few that agree are not certain.
    return mean[group], n[group], ((square + 0.25) / n)[group]
