"""Items: everything that an episode may have which a finding could be about, and which episodes have it.

Grams of moves (one to three in a row, and two with one or two between), shapes of arguments, observations, traits
(model, prompt, service, documents), segments of callers, signals, unusual ways and slow steps.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tracemill.ids import content_id
from tracemill.mining.patterns import graph
from tracemill.mining.patterns.journeys import Bools, Floats, Ints, Journeys, Small, query
from tracemill.mining.patterns.segments import Segments, segments
from tracemill.mining.patterns.sequences import Having, digits, distinct, grams
from tracemill.mining.patterns.signals import CODES, SIGNALS, signals

Pattern = Mapping[str, Any]
_LONGEST = 120
"""Characters of logged text in a pattern."""
_RARE = 0.95
_SLOW = 0.95
_TIMED = 40
"""A tool is slow only where so many of its calls show how long it takes."""
_REPEATING = frozenset({"loop", "thrash"})
_GRAMS = ((), (1,), (1, 1), (2,), (3,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """Patterns, most of them rare, with the episodes that have each: `u[starts[i]:starts[i + 1]]`."""

    starts: Ints
    u: Small
    family: Small
    """Which of `describers` tells what an item is."""
    codes: Ints
    simplicity: Small
    """Lower is simpler; of equals the simpler is told."""
    describers: tuple[Callable[[int], tuple[str, str, Pattern]], ...]
    repeating: Bools
    """Whether it is to call again what was called: it makes its episodes long by itself."""

    def __len__(self) -> int:
        return len(self.codes)

    def members(self, item: int) -> Small:
        return self.u[self.starts[item] : self.starts[item + 1]]

    def describe(self, item: int) -> tuple[str, str, Pattern]:
        """The agent, the kind of finding, and the pattern."""
        return self.describers[int(self.family[item])](int(self.codes[item]))

    def take(self, chosen: Ints) -> "Items":
        """These items in this order."""
        sizes = np.diff(self.starts)[chosen]
        starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        parts = [self.members(item) for item in chosen.tolist()]
        return Items(
            starts=starts,
            u=np.concatenate(parts) if parts else self.u[:0],
            family=self.family[chosen],
            codes=self.codes[chosen],
            simplicity=self.simplicity[chosen],
            describers=self.describers,
            repeating=self.repeating[chosen],
        )


def finding_id(agent: str, kind: str, pattern: Pattern) -> str:
    """The same pattern of the same agent is one finding every night, whatever a cluster is called tonight, and wherever
    ways are unusual tonight."""
    lasting = {key: value for key, value in pattern.items() if key not in ("called", "ways")}
    return content_id("finding/1", kind, lasting, agent)


def collect(
    journeys: Journeys, found: graph.Edges, row: Ints, *, at_least: int, segmented: Segments | None = None
) -> Items:
    """All items that at least so many episodes have."""
    items = _together(list(_families(journeys, found, row, at_least, segmented or Segments())))
    # Signals are the first family.
    signal = items.codes[items.family == 0] // _signal_base(journeys)
    repeating = items.repeating.copy()
    repeating[items.family == 0] = np.array([kind in _REPEATING for _, kind in SIGNALS])[signal]
    return replace(items, repeating=repeating)


def wanted(journeys: Journeys, *, at_least: int) -> Items:
    """The clusters of what callers want, as items: those that at least so many episodes are in."""
    told = query(journeys.con, "wants")
    named = told.select(["want_no", "agent_no", "cluster_id", "name"])
    rows = {row["want_no"]: row for row in named.group_by(named.column_names).aggregate([]).to_pylist()}
    codes, u = told["want_no"].to_numpy().astype(np.int64), told["u"].to_numpy().astype(np.int32)

    def describe(code: int) -> tuple[str, str, Pattern]:
        row = rows[code]
        return journeys.agents[row["agent_no"]], "cluster", {"cluster": row["cluster_id"], "called": row["name"]}

    return _together([(distinct(codes, u, n=journeys.n, at_least=at_least), 0, describe)])


def _together(families: Sequence["_Family"]) -> Items:
    sizes = [len(having.codes) for having, _, _ in families]
    offsets = np.cumsum([0, *(len(having.u) for having, _, _ in families)])
    starts = [having.starts[:-1] + offset for (having, _, _), offset in zip(families, offsets, strict=False)]
    return Items(
        starts=np.concatenate([*starts, offsets[-1:]]).astype(np.int64),
        u=np.concatenate([having.u for having, _, _ in families]),
        family=np.repeat(np.arange(len(families)), sizes).astype(np.int32),
        codes=np.concatenate([having.codes for having, _, _ in families]),
        simplicity=np.repeat([simple for _, simple, _ in families], sizes).astype(np.int32),
        describers=tuple(describer for _, _, describer in families),
        repeating=np.zeros(int(sum(sizes)), dtype=bool),
    )


_Family = tuple[Having, int, Callable[[int], tuple[str, str, Pattern]]]


def _families(
    journeys: Journeys, found: graph.Edges, row: Ints, at_least: int, segmented: Segments
) -> Iterator[_Family]:
    n = journeys.n

    def having(codes: Ints | Small, u: Small) -> Having:
        return distinct(codes.astype(np.int64), u, n=n, at_least=at_least)

    codes, u = _signalled(journeys)
    yield having(codes, u), 0, lambda code: _signal(journeys, code)
    traits = query(journeys.con, "traits")
    told = {row["trait_no"]: row for row in _distinct(traits, "trait_no", "agent_no", "trait", "value")}
    yield (
        having(traits["trait_no"].to_numpy(), traits["u"].to_numpy().astype(np.int32)),
        0,
        lambda code: _trait(journeys, told[code]),
    )
    callers = segments(journeys, segmented)
    rows = _distinct(callers, "segment_no", "agent_no", "key", "value")
    kinds = {row["segment_no"]: row for row in rows}
    yield (
        having(callers["segment_no"].to_numpy(), callers["u"].to_numpy().astype(np.int32)),
        0,
        lambda code: _segment(journeys, kinds[code]),
    )
    moves = journeys.move_st
    acts, u = journeys.act_st[moves], journeys.u_st[moves]
    base = 2 * max(1, len(journeys.tools))
    for steps in _GRAMS:
        # Of a very large alphabet three in a row would not fit a number: it has grams of two.
        if float(base) ** (len(steps) + 1) * 2 * n < 2**62:
            codes, who = grams(acts, u, base=base, steps=steps)
            yield having(codes, who), 1 + 2 * len(steps) + (sum(steps) > len(steps)), _gram(journeys, base, steps)
    for what, coded in (("shape", journeys.shape_st), ("observation", journeys.observation_st)):
        there = coded >= 0
        yield having(coded[there], journeys.u_st[there]), 2, _named(journeys, what)
    surprises = graph.surprise(journeys, found, row)
    agents, rare = _rare(journeys, graph.straying(journeys, found, surprises))
    yield having(agents, rare), 6, lambda code: _rare_path(journeys, found, surprises, rare[agents == code], code)
    codes, u = _slow(journeys)
    yield having(codes, u), 3, lambda code: _slow_step(journeys, code)


def _signalled(journeys: Journeys) -> tuple[Ints, Small]:
    """Signals with their tools, and for loops of whatever tool without: signal, agent or tool as digits."""
    base = _signal_base(journeys)
    codes: list[Ints] = []
    episodes: list[Small] = []
    for name, u, tool in signals(journeys):
        signal = np.int64(CODES[name]) * base
        codes.append(signal + journeys.agent_ep[u])
        episodes.append(u)
        about = tool >= 0
        codes.append(signal + len(journeys.agents) + tool[about])
        episodes.append(u[about])
    return np.concatenate(codes).astype(np.int64), np.concatenate(episodes)


def _signal_base(journeys: Journeys) -> int:
    return max(1, len(journeys.tools) + len(journeys.agents))


def _signal(journeys: Journeys, code: int) -> tuple[str, str, Pattern]:
    signal, about = divmod(code, _signal_base(journeys))
    name, kind = SIGNALS[signal]
    if about < len(journeys.agents):
        return journeys.agents[about], kind, {"signal": name}
    tool = journeys.tools[about - len(journeys.agents)]
    return tool.agent, kind, {"signal": name, "tool": capped(tool.name)}


def _distinct(table: Any, *columns: str) -> list[dict[str, Any]]:
    named = table.select(list(columns))
    rows: list[dict[str, Any]] = named.group_by(named.column_names).aggregate([]).to_pylist()
    return rows


def _trait(journeys: Journeys, row: Mapping[str, Any]) -> tuple[str, str, Pattern]:
    return journeys.agents[row["agent_no"]], "contrast", {"trait": row["trait"], "value": capped(row["value"])}


def _segment(journeys: Journeys, row: Mapping[str, Any]) -> tuple[str, str, Pattern]:
    return journeys.agents[row["agent_no"]], "contrast", {"segment": row["key"], "value": capped(row["value"])}


def _gram(journeys: Journeys, base: int, steps: tuple[int, ...]) -> Callable[[int], tuple[str, str, Pattern]]:
    def describe(code: int) -> tuple[str, str, Pattern]:
        acts = digits(code, base=base, n=len(steps) + 1)
        told = [journeys.describe(act) for act in acts]
        pattern: dict[str, Any] = {"steps": [one | {"name": capped(one["name"])} for one in told]}
        if steps and max(steps) > 1:
            pattern["between"] = max(steps) - 1
        return journeys.tools[acts[0] // 2].agent, "contrast", pattern

    return describe


def _named(journeys: Journeys, what: str) -> Callable[[int], tuple[str, str, Pattern]]:
    def describe(code: int) -> tuple[str, str, Pattern]:
        agent, tool, text = journeys.names[what, code]
        return agent, "contrast", {"tool": capped(tool), what: capped(text)}

    return describe


def _rare(journeys: Journeys, strays: Floats) -> tuple[Ints, Small]:
    """Episodes among the twentieth of their agent that stray furthest."""
    found = []
    for agent in range(len(journeys.agents)):
        mine = np.flatnonzero((journeys.agent_ep == agent) & ~np.isnan(strays))
        if len(mine):
            found.append(mine[strays[mine] > np.quantile(strays[mine], _RARE)])
    u = np.concatenate(found).astype(np.int32) if found else np.zeros(0, dtype=np.int32)
    return journeys.agent_ep[u].astype(np.int64), u


def _rare_path(
    journeys: Journeys, found: graph.Edges, surprises: Floats, u: Small, agent: int
) -> tuple[str, str, Pattern]:
    def told(act: int) -> dict[str, Any]:
        if act < 0:
            return {"kind": "start" if act == graph.START else "end"}
        one = journeys.describe(act)
        return one | {"name": capped(one["name"])}

    ways = [[told(source), told(target)] for source, target in graph.strangest(found, surprises, u)]
    return journeys.agents[agent], "rare_path", {"path": "unusual", "ways": ways}


def _slow(journeys: Journeys) -> tuple[Ints, Small]:
    """Steps among the twentieth of their tool that took longest."""
    timed = np.flatnonzero((journeys.start_st >= 0) & (journeys.end_st >= journeys.start_st))
    took = (journeys.end_st[timed] - journeys.start_st[timed]).astype(np.float64)
    tool = journeys.tool_st[timed]
    limit = np.full(len(journeys.tools), np.inf)
    order = np.argsort(
        tool.astype(np.int16) if len(limit) < 2**15 else tool, kind="stable"
    )  # of small numbers by radix
    counts = np.bincount(tool, minlength=len(limit))
    for one, times in enumerate(np.split(took[order], np.cumsum(counts)[:-1])):
        if len(times) >= _TIMED:
            at = int(np.ceil(len(times) * _SLOW)) - 1
            limit[one] = np.partition(times, at)[at]
    slow = timed[took > limit[tool]]
    return journeys.tool_st[slow].astype(np.int64), journeys.u_st[slow]


def _slow_step(journeys: Journeys, code: int) -> tuple[str, str, Pattern]:
    tool = journeys.tools[code]
    return tool.agent, "bottleneck", {"slow": {"kind": tool.kind, "name": capped(tool.name)}}


def capped(text: str) -> str:
    """Logged text as it may stand in a pattern: of bounded length."""
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
