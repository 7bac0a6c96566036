"""Findings: patterns that go with failure, found in earlier data and believed when later data say so, too."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from tracemill.ids import canonical_json
from tracemill.mining.patterns import confirming, graph, items, journeys, signals, words
from tracemill.mining.patterns.confirming import Candidate, Confirmation
from tracemill.mining.patterns.contrast import Whose, strata
from tracemill.mining.patterns.discovering import Bar, Judged, Rule, discover
from tracemill.mining.patterns.items import Items
from tracemill.mining.patterns.journeys import Bools, Floats, Ints, Journeys, Small, asked, query
from tracemill.mining.patterns.segments import Segments
from tracemill.schema import FINDINGS

__all__ = ["Bar", "Found", "Segments", "find"]

EARLIER = 0.6
"""Share of the sessions, the earlier ones, that patterns are looked for in."""
DAYS = 90
"""So far back from the newest episode."""
_KNOWN_BY = 5
"""Episodes that a pattern must have for an earlier finding of it to be looked at again."""
_OF_WANTS = 0.2
"""Of the chance of a false confirmation so much is for clusters of what callers want, the rest for all else."""
_SHOWN = 5
_ASKED = 500
_DAY_NS = 86_400 * 10**9
_TASKS = (
    "select any_value(task_cluster_id), any_value(task_site_id) from mined_episodes group by task_no order by task_no"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a night of mining says of the learn pool."""

    findings: pa.Table
    """Rows of schema.FINDINGS to put in place of those with their id."""
    graph: pa.Table
    """Rows of graph.GRAPH: which act follows which, by task cluster."""
    variants: pa.Table
    """Rows of graph.VARIANTS: the commonest whole ways of each agent."""
    acts: Sequence[Mapping[str, Any]]
    """What the acts of graph and variants are: agent, kind, name, failed."""
    task_ids: Sequence[tuple[str | None, str | None]] = ()
    """What tells the task clusters of the graph apart: cluster of intents, site of the first call, as far as known."""
    episodes: int = 0
    judged: int = 0
    failed: int = 0
    steps: int = 0
    dated: bool = True
    """False: the logs have no times; what confirms a pattern is a half of the tasks drawn at random, not later data."""


def find(
    con: duckdb.DuckDBPyConnection, *, night_id: str, now_ns: int, days: int | None = DAYS, bar: Bar | None = None,
    segments: Segments | None = None,
) -> Found:  # fmt: skip
    """Mines all episodes of the learn pool, up to `days` before its newest one (None: all), for what goes with failure.

    Patterns are looked for in the earlier sessions and tested once, one-sided, on later ones, tonight or on the first
    night that has enough of them. `segments`: which keys of metadata divide callers. Leaves temporary tables on `con`.
    The gate pool is not read.
    """
    read = journeys.read(con, days=days)
    edges = graph.edges(read)
    follows, row = graph.follows(read, edges)
    bar = bar or Bar()
    wants = items.wanted(read, at_least=_KNOWN_BY)
    # Both together are false with the chance that the bar allows.
    bars = (replace(bar, level=(1 - _OF_WANTS) * bar.level), replace(bar, level=_OF_WANTS * bar.level))
    rows = _Run(
        read,
        items.collect(read, edges, row, at_least=_KNOWN_BY, segmented=segments),
        strata(read.task_ep, read.length_ep),
        strata(read.task_ep, signals.without_repeats(read)),
        bars[0] if len(wants) else bar,
        night_id,
        now_ns,
    ).rows()
    # What callers want is the task: it is compared with the agent's other tasks.
    tasks = strata(read.agent_ep, read.length_ep)
    hard = _Run(read, wants, tasks, tasks, bars[1], night_id, now_ns, clusters=True).rows()
    return Found(
        findings=pa.concat_tables([rows, hard]),
        graph=follows,
        variants=graph.variants(read),
        acts=[read.describe(act) | {"agent": read.tools[act // 2].agent} for act in range(2 * len(read.tools))],
        task_ids=con.execute(_TASKS).fetchall(),
        episodes=read.n,
        judged=int((read.failed_ep >= 0).sum()),
        failed=int((read.failed_ep == 1).sum()),
        steps=len(read.u_st),
        dated=read.dated,
    )


@dataclass(slots=True, kw_only=True)
class _Open:
    """A finding on its way: its row so far, and where it stands among the items."""

    row: dict[str, Any]
    item: int
    candidate: Candidate
    is_new: bool = False


class _Run:
    """One night of one family of patterns: clusters of what callers want, or all others."""

    def __init__(
        self,
        read: Journeys,
        found: Items,
        stratum_ep: Small,
        once_ep: Small,
        bar: Bar,
        night_id: str,
        now_ns: int,
        *,
        clusters: bool = False,
    ) -> None:
        self.clusters, self.stratum_ep, self.once_ep = clusters, stratum_ep, once_ep
        self.read, self.items, self.bar, self.night_id, self.now_ns = read, found, bar, night_id, now_ns
        self.failed_ep: Floats = read.failed_ep.astype(np.float64)
        self.whose = Whose.of(read.session_ep, read.user_ep, read.agent_ep, read.sure_ep)
        self.judged_ep: Bools = read.failed_ep >= 0
        began = read.began_ep[self.judged_ep]
        self.split = int(np.quantile(began, EARLIER, method="lower")) if len(began) else -1
        starts: Ints = read.start_ep[read.start_ep >= 0]
        self.first_ns = int(starts.min()) if len(starts) else None
        self.days = max(1.0, (int(starts.max()) - int(starts.min())) / _DAY_NS) if len(starts) else None

    def rows(self) -> pa.Table:
        known = query(self.read.con, "known", {"clusters": self.clusters}).to_pylist()
        opened = self._known(known)
        refuted = {row["finding_id"] for row in known if row["status"] == "refuted" and self._is_recent(row)}
        for one in self._discovered(opened):
            if one.row["finding_id"] not in refuted:
                opened.append(one)
        said = confirming.confirm(
            [one.candidate for one in opened],
            stratum_ep=self.stratum_ep,
            once_ep=self.once_ep,
            failed_ep=self.failed_ep,
            whose=self.whose,
            agent_ep=self.read.agent_ep,
            began_ep=self.read.began_ep,
            bar=self.bar,
        )
        rows = [self._row(one, confirmation) for one, confirmation in zip(opened, said, strict=True)]
        there = {row["finding_id"] for row in rows}
        rows += [
            {**row, "coverage": 0.0, "cost_usd_day": 0.0, "night_id": self.night_id, "at": self.now_ns}
            for row in known
            if row["status"] == "confirmed" and row["finding_id"] not in there and row["coverage"] != 0.0
        ]
        return pa.Table.from_pylist(rows, schema=FINDINGS)

    def _is_recent(self, row: Mapping[str, Any]) -> bool:
        """Whether an earlier night's verdict still stands: once all its data are out of sight, it may be found anew."""
        until = row["found_until_ns"]
        return until is None or self.first_ns is None or until >= self.first_ns

    def _known(self, known: Sequence[Mapping[str, Any]]) -> list[_Open]:
        """Findings of earlier nights that still occur, believed ones first."""
        wanted = {
            row["finding_id"]: row
            for row in known
            if row["status"] in ("candidate", "confirmed") and (row["status"] == "confirmed" or self._is_recent(row))
        }
        if not wanted:
            return []
        place: dict[str, int] = {}
        for item in range(len(self.items)):
            agent, kind, pattern = self.items.describe(item)
            finding_id = items.finding_id(agent, kind, pattern)
            if finding_id in wanted:
                place[finding_id] = item
        rows = sorted(wanted.items(), key=lambda one: one[1]["status"] != "confirmed")
        found = []
        for finding_id, row in rows:
            if finding_id not in place:
                continue
            until = row["found_until_ns"]
            candidate = self._candidate(
                place[finding_id],
                after=self.split if until is None else until,
                n_with=float(row["n_with"] or 0),
                failures_with=row["failures_with"] or 0.0,
                failures_without=row["failures_without"] or 0.0,
                settled=row["status"] == "confirmed",
            )
            found.append(_Open(row=dict(row), item=place[finding_id], candidate=candidate))
        return found

    def _discovered(self, opened: Sequence[_Open]) -> Iterator[_Open]:
        earlier = self.judged_ep & (self.read.began_ep <= self.split)
        for one in opened:
            earlier[self.items.members(one.item)] = False  # they are explained
        judged = Judged(
            stratum_ep=self.stratum_ep,
            once_ep=self.once_ep,
            failed_ep=np.maximum(self.failed_ep, 0.0),
            weight_ep=self.whose.weights(earlier),
            agent_ep=self.read.agent_ep,
        )
        seen = {one.row["finding_id"] for one in opened}
        for rule in discover(self.items, judged, self.bar):
            row = self._new(rule)
            if row["finding_id"] in seen:
                continue
            seen.add(row["finding_id"])
            candidate = self._candidate(
                rule.item,
                after=self.split,
                n_with=rule.n_with,
                failures_with=rule.failures_with,
                failures_without=rule.failures_without,
            )
            yield _Open(row=row, item=rule.item, candidate=candidate, is_new=True)

    def _candidate(self, item: int, **figures: Any) -> Candidate:
        members = self.items.members(item)
        agent, repeating = int(self.read.agent_ep[members[0]]), bool(self.items.repeating[item])
        return Candidate(members=members, agent=agent, repeating=repeating, **figures)

    def _new(self, rule: Rule) -> dict[str, Any]:
        agent, kind, pattern = self.items.describe(rule.item)
        return {
            "finding_id": items.finding_id(agent, kind, pattern),
            "kind": kind,
            "what": words.sentence(pattern),
            "pattern": canonical_json(pattern),
            "agent_name": agent or None,
            "lift": rule.lift,
            "q_value": rule.q,
            "coverage": rule.coverage,
            "n_with": round(rule.n_with),
            "n_without": round(rule.n_without),
            "failures_with": rule.failures_with,
            "failures_without": rule.failures_without,
            "confirmed_q": None,
            "found_until_ns": self.split if self.read.dated else None,
        }

    def _row(self, one: _Open, said: Confirmation) -> dict[str, Any]:
        row = dict(one.row)
        if not one.candidate.settled:
            row["status"] = said.status
        if said.q is not None:
            row.update(
                confirmed_q=said.q,
                lift=said.lift,
                n_with=round(said.n_with or 0),
                n_without=round(said.n_without or 0),
                failures_with=said.failures_with,
                failures_without=said.failures_without,
            )
        pattern = json.loads(row["pattern"])
        if "path" in pattern:  # where ways are unusual differs from night to night
            pattern = self.items.describe(one.item)[2]
            row.update(what=words.sentence(pattern), pattern=canonical_json(pattern))
        row["feedback"] = words.feedback(
            pattern, failures_with=row["failures_with"] or 0.0, failures_without=row["failures_without"] or 0.0
        )
        members = self.items.members(one.item)
        if not one.is_new:
            row["coverage"] = self._coverage(members, one.candidate.agent)
        users = self.read.user_ep[members]
        failing, fine = (members[self.read.failed_ep[members] == value] for value in (1, 0))
        shown, counter = self._shown(failing), self._shown(fine)
        ids = self._ids([*shown, *counter])
        if ids:  # a finding without examples would outlive those whom it is about
            row.update(exemplars=[ids[u] for u in shown], counter_exemplars=[ids[u] for u in counter])
        row.update(
            n_users=len(np.unique(users[users >= 0])) if (users >= 0).any() else None,
            cost_usd_day=self._cost(failing),
            site_id=self._site(pattern, failing),
            night_id=self.night_id,
            at=self.now_ns,
        )
        return row

    def _coverage(self, members: Small, agent: int) -> float:
        """Share of the agent's later sessions that have it: what no longer happens has none."""
        later = self.judged_ep & (self.read.began_ep > self.split) & (self.read.agent_ep == agent)
        weight = self.whose.weights(later)
        return float(weight[members].sum() / max(1e-12, weight.sum()))

    def _cost(self, failing: Small) -> float | None:
        """Dollars a day that the failing episodes cost; None where the logs tell no cost or no time."""
        cost = self.read.cost_ep[failing]
        if self.days is None or not (~np.isnan(cost)).any():
            return None
        return float(np.nansum(cost) / self.days)

    def _shown(self, members: Small) -> list[int]:
        """The latest few, of different users and sessions where there are."""
        order = members[np.lexsort((members, -self.read.start_ep[members]))]
        user = np.where(self.read.user_ep[order] >= 0, self.read.user_ep[order], -2 - self.read.session_ep[order])
        firsts = np.sort(np.unique(user, return_index=True)[1])
        others = np.setdiff1d(np.arange(len(order)), firsts)
        return [int(u) for u in order[np.concatenate([firsts, others])[:_SHOWN]]]

    def _ids(self, places: Sequence[int]) -> dict[int, str]:
        wanted = pa.table({"u": pa.array(sorted(set(places)), pa.int32())})
        rows = asked(self.read.con, "trajectory_ids", "asked", wanted).to_pylist()
        return {row["u"]: row["trajectory_id"] for row in rows}

    def _site(self, pattern: Mapping[str, Any], failing: Small) -> str | None:
        """The call site that it concerns: the one that the pattern names, else the one that its failures call most."""
        named = [one["name"] for one in pattern.get("steps", ()) if one["kind"] == "llm" and one["name"]]
        if "slow" in pattern and pattern["slow"]["kind"] == "llm" and pattern["slow"]["name"]:
            named.append(pattern["slow"]["name"])
        if pattern.get("trait") == "site_version":
            named.append(pattern["value"].split(" ")[0])
        if named:
            return str(named[-1])
        places = pa.table({"u": pa.array(np.sort(failing)[-_ASKED:], pa.int32())})
        ids = asked(self.read.con, "trajectory_ids", "asked", places)
        rows = asked(self.read.con, "places", "asked", ids).to_pylist()
        return rows[0]["site_id"] if rows else None
