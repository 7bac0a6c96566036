"""Discovery: which items go with failure in the earlier data, reduced to a few that say different things."""

from dataclasses import dataclass, fields, replace

import numpy as np

from tracemill.mining.patterns.contrast import Tested, benjamini_hochberg, test_patterns
from tracemill.mining.patterns.items import Items
from tracemill.mining.patterns.journeys import Bools, Floats, Ints, Small


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """What a pattern must reach to be told."""

    q: float = 0.05
    """Share of false findings among the candidates."""
    dependent: bool = False
    """Control it whatever hangs together (Benjamini-Yekutieli): fewer findings."""
    min_lift: float = 1.25
    min_coverage: float = 0.005
    """Share of the agent's judged sessions."""
    min_sessions: int = 20
    most: int = 10
    """Rules of one agent."""
    level: float = 0.05
    """Chance that any of a night's confirmed findings is false."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A pattern that goes with failure, as it was found."""

    item: int
    q: float
    lift: float
    n_with: float
    n_without: float
    failures_with: float
    failures_without: float
    coverage: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The episodes that something is tested on: `weight_ep` is 0 for all others."""

    stratum_ep: Small
    once_ep: Small
    """The same for patterns that repeat calls: their length is that without repeats."""
    failed_ep: Floats
    weight_ep: Floats
    agent_ep: Small

    def without(self, members: Small) -> "Judged":
        """These less some episodes."""
        weight = self.weight_ep.copy()
        weight[members] = 0.0
        return replace(self, weight_ep=weight)

    def test(self, items: Items) -> Tested:
        whole = self._test(items, self.stratum_ep)
        if not items.repeating.any():
            return whole
        at = np.flatnonzero(items.repeating)
        once = self._test(items.take(at), self.once_ep)
        columns = {one.name: getattr(whole, one.name).copy() for one in fields(Tested)}
        for name, values in columns.items():
            values[at] = getattr(once, name)
        return Tested(**columns)

    def _test(self, items: Items, stratum_ep: Small) -> Tested:
        return test_patterns(
            items.starts, items.u, stratum_ep=stratum_ep, failed_ep=self.failed_ep, weight_ep=self.weight_ep
        )


_CONSIDERED = 200
"""Of the patterns of one agent that go with failure the surest so many are looked at."""
_AS_GOOD = 0.97


def discover(items: Items, judged: Judged, bar: Bar) -> list[Rule]:
    """The rules of all agents, those of one agent in the order in which they were chosen."""
    weight = (
        np.add.reduceat(np.append(judged.weight_ep[items.u], 0.0), items.starts[:-1]) if len(items) else np.zeros(0)
    )
    weight[np.diff(items.starts) == 0] = 0.0
    chosen = np.flatnonzero(weight >= bar.min_sessions)
    if not len(chosen):
        return []
    tried = items.take(chosen)
    tested = judged.test(tried)
    testable = np.flatnonzero(tested.testable)
    q = np.ones(len(chosen))
    q[testable] = benjamini_hochberg(tested.p[testable], dependent=bar.dependent)
    first = tried.u[tried.starts[:-1]]
    agent = judged.agent_ep[first]
    totals = np.bincount(judged.agent_ep, weights=judged.weight_ep)
    # What has no comparable episodes counts here, though it cannot be tested.
    coverage = weight[chosen] / np.maximum(totals[agent], 1e-12)
    passing = (q <= bar.q) & (tested.lift >= bar.min_lift) & (coverage >= bar.min_coverage) & (tested.z > 0)
    if not passing.any():
        return []
    limit = float(tested.p[passing].max())
    rules: list[Rule] = []
    for one in np.unique(agent[passing]).tolist():
        mine = np.flatnonzero(passing & (agent == one))
        mine = mine[np.lexsort((mine, tested.p[mine], -tested.z[mine]))][:_CONSIDERED]
        rules += _cover(tried.take(mine), chosen[mine], q[mine], coverage[mine], judged, bar, limit)
    return rules


def _cover(
    items: Items, numbers: Ints, q: Floats, coverage: Floats, judged: Judged, bar: Bar, limit: float
) -> list[Rule]:
    """Greedy: the surest rule, then the surest on the episodes that it does not explain, and so on."""
    rules: list[Rule] = []
    while len(items) and len(rules) < bar.most:
        tested = judged.test(items)
        passing: Bools = (tested.p <= limit) & (tested.lift >= bar.min_lift) & (tested.n_with >= bar.min_sessions)
        if not passing.any():
            break
        alike = np.flatnonzero(passing & (tested.z >= _AS_GOOD * tested.z[passing].max()))
        best = int(alike[np.lexsort((numbers[alike], -tested.z[alike], items.simplicity[alike]))[0]])
        rules.append(
            Rule(
                item=int(numbers[best]),
                q=float(q[best]),
                lift=float(tested.lift[best]),
                n_with=float(tested.n_with[best]),
                n_without=float(tested.n_without[best]),
                failures_with=float(tested.failures_with[best]),
                failures_without=float(tested.failures_without[best]),
                coverage=float(coverage[best]),
            )
        )
        judged = judged.without(items.members(best))
        # What no longer goes with failure does not come back.
        left = np.flatnonzero(passing & (np.arange(len(items)) != best))
        items, numbers, q, coverage = items.take(left), numbers[left], q[left], coverage[left]
    return rules
