"""Call sites: recovered from logged calls, night by night, and loaded for learning.

Every assignment is checked: the version's template renders to exactly the messages that the call logged. A call that no
template renders stays without a site, with the reason.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from tracemill.mining import values
from tracemill.mining.binding import bind
from tracemill.mining.calls import Bools, Ints, Mined, Place, Sent, mined
from tracemill.mining.drafts import Draft, by_label, by_prompt, draft, fits, named_by_variables
from tracemill.mining.identity import KnownSite, Use, site_for, tool_names, version_id
from tracemill.mining.lake import table
from tracemill.records import Site, Template
from tracemill.schema import SITES

__all__ = ["ASSIGNED", "UNASSIGNED", "Place", "SiteUpdate", "bind", "load", "recover"]

ASSIGNED = pa.schema(
    [("trajectory_id", pa.string()), ("step", pa.int32()), ("site_id", pa.string()), ("site_version", pa.string())]
)
UNASSIGNED = pa.schema([("trajectory_id", pa.string()), ("step", pa.int32()), ("reason", pa.string())])
_PER_VERSION = 50
_THIN = 3
"""A version that so few calls support gives way to a new one that more calls support."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteUpdate:
    """What a night of mining found: rows of `sites` to put in place of rows with their key, and calls with a site."""

    sites: pa.Table
    assigned: pa.Table
    unassigned: pa.Table
    """Calls that stay without a site, with the reason."""
    last: Place | None
    """Where to go on, once this is written, for there are more calls than are looked at in one go; None if not."""


def recover(con: duckdb.DuckDBPyConnection, *, now_ns: int, after: Place | None = None) -> SiteUpdate:
    """Finds the sites of calls that have none, in agreement with the sites known so far: of all, oldest first, or of
    as many behind `after` as memory allows for."""
    with mined(con, per_version=_PER_VERSION, after=after) as found:
        return _Recovery(con, found, now_ns).run()


def load(con: duckdb.DuckDBPyConnection, site_id: str | None = None, *, version: str | None = None) -> list[Site]:
    """Sites, most called first, each in its current version or in the version asked for."""
    return [
        Site(
            site_id=row["site_id"],
            site_version=row["site_version"],
            agent_name=row["agent_name"],
            model=row["model"],
            template=Template.from_json(row["template"]),
            params=json.loads(row["params"]) if row["params"] else {},
            unbound=tuple(row["unbound"] or ()),
            flags=tuple(row["flags"] or ()),
            n_calls=row["n_calls"] or 0,
        )
        for row in table(con, "load_sites", {"site_id": site_id, "version": version}).to_pylist()
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Caller:
    """One agent with one set of tools: what it was sent, and its calls that have a site already."""

    agent: str | None
    tools_id: str | None
    tools: tuple[Mapping[str, Any], ...] | None
    sent: Sent
    old: Ints


class _Recovery:
    """One run over the open calls."""

    def __init__(self, con: duckdb.DuckDBPyConnection, mined: Mined, now_ns: int) -> None:
        self.mined, self.calls, self.now_ns = mined, mined.calls, now_ns
        self.rows: dict[tuple[str, str], dict[str, Any]] = {}  # (site, version) -> row of schema.SITES
        self.sites: dict[str, KnownSite] = {}
        self.known: dict[tuple[str | None, str | None], list[tuple[str, str]]] = {}  # agent, tools -> (site, version)
        self.found: list[tuple[Ints, str, str]] = []
        self.touched: set[tuple[str, str]] = set()
        first_step = {row["site_id"]: row["first_step"] for row in table(con, "site_steps").to_pylist()}
        for row in table(con, "known_sites").to_pylist():
            template = Template.from_json(row["template"])
            site = self.sites.setdefault(
                row["site_id"],
                KnownSite(site_id=row["site_id"], agent_name=row["agent_name"], tools=tool_names(template)),
            )
            site.versions[row["site_version"]] = template
            use = Use(first_ns=row["first_ns"], last_ns=row["last_ns"], first_step=first_step.get(row["site_id"]))
            site.uses[row["site_version"]] = use
            key = (row["site_id"], row["site_version"])
            self.rows[key] = row
            self.known.setdefault((row["agent_name"], row["tool_definitions_id"]), []).append(key)

    def run(self) -> SiteUpdate:
        calls = self.calls
        reasons: dict[int, str] = {}
        is_open = np.array([v is None for v in calls.version], dtype=bool)
        for i in np.flatnonzero(is_open & ~calls.complete).tolist():
            empty = calls.lengths[i] == 0
            reasons[i] = (
                "the log has no messages for this call" if empty else "a message of this call is not in the lake"
            )
        usable: dict[int, list[int]] = {}
        for i in np.flatnonzero(calls.complete).tolist():
            usable.setdefault(int(calls.caller[i]), []).append(i)
        for number, members in usable.items():
            rows = np.array(members, dtype=np.int64)
            new = rows[is_open[rows]]
            if not len(new):
                continue
            agent, tools_id = calls.callers[number]
            caller = _Caller(
                agent=agent,
                tools_id=tools_id,
                tools=None if tools_id is None else self.mined.tools.get(tools_id),
                sent=self.mined.sent(number),
                old=rows[~is_open[rows]],
            )
            rest = self._known(caller, new)
            for part in by_prompt(calls, caller.sent, rest):
                for i in self._new(caller, part).tolist():
                    reasons[i] = "no template renders to exactly the messages of this call"
        return self._update(reasons)

    def _known(self, caller: _Caller, rows: Ints) -> Ints:
        """Assigns what known versions render; returns the rest."""
        for site_id, version in self.known.get((caller.agent, caller.tools_id), ()):
            if not len(rows):
                break
            fit = fits(self.calls, caller.sent, self.sites[site_id].versions[version], rows)
            if (self.rows[site_id, version]["n_calls"] or 0) < _THIN <= int(fit.sum()):
                continue
            self._assign(caller, rows[fit], site_id, version)
            rows = rows[~fit]
        return rows

    def _new(self, caller: _Caller, rows: Ints) -> Ints:
        """Recovers templates until all rows are rendered; returns those that none renders."""
        rivals: dict[str, Use] = {}
        left: list[Ints] = []
        for part in by_label(self.calls, caller.sent, rows):
            rest, before = part, set(self.touched)
            while len(rest):
                found, fit = self._draft(caller, rest)
                if not fit.any():
                    break
                found = named_by_variables(self.mined, caller.sent, found, rest[fit])
                self._place(caller, found, rest[fit], rivals)
                rest = rest[~fit]
            left.append(rest)
            for site_id, version in self.touched - before:
                rivals.setdefault(site_id, Use()).widen(self.sites[site_id].uses[version])
        return np.concatenate(left) if left else rows[:0]

    def _draft(self, caller: _Caller, rows: Ints) -> tuple[Draft, Bools]:
        """A draft for rows. Few rows are aligned with logged calls of a known version, if that still says as much."""
        calls, sent, old = self.calls, caller.sent, caller.old
        own = draft(calls, sent, rows, caller.tools)
        if len(rows) < _THIN:
            for version in dict.fromkeys(calls.version[old].tolist()):
                template = next(s.versions[version] for s in self.sites.values() if version in s.versions)
                both = np.concatenate([rows, old[calls.version[old] == version]])
                if len(by_prompt(calls, sent, both)) > 1:
                    continue
                wider = draft(calls, sent, both, caller.tools)
                fit = fits(calls, sent, wider.template, rows)
                if fit.all() and _constant_size(wider.template) >= 0.5 * max(1, _constant_size(template)):
                    return wider, fit
        return own, fits(calls, sent, own.template, rows)

    def _place(self, caller: _Caller, found: Draft, rows: Ints, rivals: Mapping[str, Use]) -> None:
        """Assigns rows to the version that a draft is, of the site that it belongs to."""
        version = version_id(found.template)
        site_id = site_for(self.sites.values(), found.template, caller.agent, self._use(rows), rivals)
        site = self.sites.setdefault(
            site_id, KnownSite(site_id=site_id, agent_name=caller.agent, tools=tool_names(found.template))
        )
        site.versions.setdefault(version, found.template)
        self.rows.setdefault(
            (site_id, version),
            {
                "site_id": site_id,
                "site_version": version,
                "agent_name": caller.agent,
                "model": None,
                "template": found.template.to_json(),
                "slots": list(found.template.slots),
                "slot_values": None,
                "unbound": list(found.unbound),
                "tool_definitions_id": caller.tools_id,
                "n_calls": 0,
                "first_ns": None,
                "last_ns": None,
                "flags": list(found.flags),
                "recovered_at": self.now_ns,
            },
        )
        self._assign(caller, rows, site_id, version)

    def _use(self, rows: Ints) -> Use:
        times = [time for time in self.calls.start_ns[rows].tolist() if time is not None]
        return Use(
            first_ns=min(times, default=None),
            last_ns=max(times, default=None),
            first_step=min(self.calls.step[rows].tolist()),
        )

    def _assign(self, caller: _Caller, rows: Ints, site_id: str, version: str) -> None:
        if not len(rows):
            return
        self.found.append((rows, site_id, version))
        self.touched.add((site_id, version))
        site = self.sites[site_id]
        use = site.uses.setdefault(version, Use())
        use.widen(self._use(rows))
        row = self.rows[site_id, version]
        models = Counter(model for model in self.calls.model[rows].tolist() if model is not None)
        flags = set(row["flags"] or ())
        for flag, marks in (("reward_leak", self.calls.leak), ("lossy", self.calls.lossy)):
            if marks[rows].mean() >= 0.01:
                flags.add(flag)
        row.update(
            n_calls=(row["n_calls"] or 0) + len(rows),
            first_ns=use.first_ns,
            last_ns=use.last_ns,
            model=models.most_common(1)[0][0] if models else row["model"],
            flags=sorted(flags),
            slot_values=values.statistics(site.versions[version], self.calls, caller.sent, rows),
        )

    def _update(self, reasons: dict[int, str]) -> SiteUpdate:
        rows = np.concatenate([rows for rows, _, _ in self.found]) if self.found else np.array([], dtype=np.int64)
        base = self.calls.rows.select(["trajectory_id", "step"])
        taken = base.take(rows)
        site_ids = [site_id for rows, site_id, _ in self.found for _ in range(len(rows))]
        versions = [version for rows, _, version in self.found for _ in range(len(rows))]
        assigned = pa.table(
            [taken["trajectory_id"], taken["step"], pa.array(site_ids, pa.string()), pa.array(versions, pa.string())],
            schema=ASSIGNED,
        )
        missed = base.take(pa.array(sorted(reasons), pa.int64()))
        why = pa.array([reasons[i] for i in sorted(reasons)], pa.string())
        return SiteUpdate(
            sites=pa.Table.from_pylist([self.rows[key] for key in self.rows if key in self.touched], schema=SITES),
            assigned=assigned.sort_by([("trajectory_id", "ascending"), ("step", "ascending")]),
            last=self.mined.last,
            unassigned=pa.table([missed["trajectory_id"], missed["step"], why], schema=UNASSIGNED),
        )


def _constant_size(template: Template) -> int:
    """Characters of constant text in messages that have slots."""
    contents = [item["content"] for item in template.messages if "content" in item]
    return sum(
        len(piece)
        for content in contents
        if any(not isinstance(piece, str) for piece in content)
        for piece in content
        if isinstance(piece, str)
    )
