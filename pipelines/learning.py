"""What a night learns from: the sites worth it, production's artifact, and cases split into train and tune."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import duckdb

from tracemill.errors import ConfigError, ContaminationError
from tracemill.mining import cases as mined_cases
from tracemill.mining import decontaminating
from tracemill.mining import sites as mined_sites
from tracemill.optimize import artifact as artifacts
from tracemill.optimize import portfolio
from tracemill.pipelines import clustering, grading
from tracemill.pipelines.night import Night
from tracemill.records import Artifact, Candidate, Case, Site

T = TypeVar("T")
_HEADROOMS = """
SELECT detail ->> '$.site' AS site_id, detail ->> '$.site_version' AS site_version,
    arg_max((detail ->> '$.headroom.high')::DOUBLE, ended_ns) AS high
FROM runs WHERE stage = 'optimize' AND (detail ->> '$.headroom.high') IS NOT NULL
GROUP BY ALL
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """One site's work for one night, frozen at a snapshot: both branches learn from exactly this."""

    site: Site
    production: Candidate
    train: tuple[Case, ...]
    tune: tuple[Case, ...]
    verifiable: float
    """Share of the judged cases whose replay somebody can judge."""
    judgeable: frozenset[str]
    """Ids of the cases whose replays somebody can judge."""
    snapshot: int
    others: tuple["Lesson", ...] = ()
    """Of sites that are improved jointly with it (systems.choose): its own cases end the episodes, and `production` has
    the prompts of all."""

    @property
    def learn(self) -> tuple[Case, ...]:
        return self.train + self.tune


def choose(night: Night, site_id: str | None = None) -> tuple[list[Lesson], list[str]]:
    """The most valuable sites as lessons, and why the others were left out, one sentence each.

    Value is traffic × what can be gained × the share of cases whose replayed answer can be verified ÷ the length of a
    call, which tells its cost. What can be gained is the failure rate, or the headroom that was measured of this
    version of the site where that is less. Sites of agents that `agent_match` does not find are left out, and without a
    word those of `[optimize] jointly`, whose lesson is another (systems.choose). A site whose prompt or observations
    show the reward is never learned from, nor is a case that is too near one of the gate's.
    Raises ContaminationError where that cannot be found out.
    """
    if night.config.sites_per_night > 1 and "{agent}" not in night.config.gate.channel:
        raise ConfigError(
            "sites_per_night is above 1, and a channel holds one bundle: set [gate] channel = "
            f"'{night.config.gate.channel}.{{agent}}' in tracemill.toml"
        )
    valued: list[tuple[float, Site, list[Case], frozenset[str]]] = []
    lessons: list[Lesson] = []
    left: list[str] = []
    optimize = night.config.optimize
    jointly = optimize.jointly if optimize.enabled and site_id is None else ()
    wanted = None if night.config.agent_match is None or site_id is not None else re.compile(night.config.agent_match)
    rooms = headrooms(night)
    snapshot = night.lake.snapshot_id()
    keep = night.config.sites_per_night
    with night.learner(snapshot) as con:
        sites = mined_sites.load(con)
        if site_id is not None:
            sites = [one_site(sites, site_id)]
        for site in sites:
            label = f"site {called(site)}"
            if any(is_called(site, name) for name in jointly):
                continue
            if wanted is not None and not wanted.search(site.agent_name or ""):
                left.append(f"{label}: agent_match is {night.config.agent_match!r}")
                continue
            if "reward_leak" in site.flags:
                left.append(f"{label}: its observations show the gold reward; never learned from")
                continue
            cases = mined_cases.load(con, site, pool="learn")
            known = [case for case in cases if case.reward is not None or case.correction is not None]
            if len(known) < night.config.train.min_rows:
                left.append(f"{label}: {len(known)} judged cases to learn from, {night.config.train.min_rows} needed")
                continue
            can = grading.verifiable(night, site)
            judgeable = frozenset(case.case_id for case in known if can(case))
            value = worth(site, known, rooms) * len(judgeable) / len(known)
            valued.append((value, site, known, judgeable))
        valued.sort(key=lambda one: (-one[0], one[1].site_id))
        for _, site, known, judgeable in valued:
            if len(lessons) == keep:
                left.append(f"site {called(site)}: not tonight, sites_per_night is {keep}")
                continue
            apart = clean(con, site, known, night, left)
            if len(apart) < night.config.train.min_rows:
                continue
            train, tune = portfolio.split_tune(apart, seed=night.config.seed, share=night.config.split.tune_share)
            lesson = Lesson(
                site=site,
                production=production(con, site, night),
                train=tuple(train),
                tune=tuple(tune),
                verifiable=len(judgeable) / len(known),
                judgeable=judgeable,
                snapshot=snapshot,
            )
            lessons.append(lesson)
    return lessons, left


def read_once(
    night: Night, lesson: Lesson, load: Callable[[duckdb.DuckDBPyConnection, Sequence[str]], Mapping[str, T]]
) -> Callable[[Sequence[Case]], Mapping[str, T]]:
    """What `load` finds of trajectories, for cases, as the lesson's snapshot has it. Nothing is looked for twice."""
    known: dict[str, T | None] = {}

    def of(cases: Sequence[Case]) -> Mapping[str, T]:
        names = sorted({case.trajectory_id for case in cases})
        missing = [name for name in names if name not in known]
        if missing:
            with night.learner(lesson.snapshot) as con:
                found = load(con, missing)
            known.update({name: found.get(name) for name in missing})
        return {name: one for name in names if (one := known[name]) is not None}

    return of


def worth(site: Site, cases: Sequence[Case], rooms: Mapping[tuple[str, str], float]) -> float:
    """Traffic × what can be gained on the judged cases ÷ the length of a call. `rooms`: `headrooms`."""
    rewards = [case.reward for case in cases if case.reward is not None]
    failure = 1 - sum(rewards) / len(rewards) if rewards else 1.0
    gain = min(failure, rooms.get((site.site_id, site.site_version), failure))
    return site.n_calls * gain / _length(cases)


def headrooms(night: Night) -> dict[tuple[str, str], float]:
    """The upper end of the headroom that was last measured, by site and version."""
    rows = night.select(_HEADROOMS).to_pylist()
    return {(row["site_id"], row["site_version"]): row["high"] for row in rows}


def _length(cases: Sequence[Case]) -> float:
    """Mean characters that a call sends and gets, at least one."""
    sizes = [
        sum(len(str(one.get("content"))) for one in case.logged_messages) + len(case.logged_output) for case in cases
    ]
    return max(1.0, sum(sizes) / len(sizes))


def clean(con: duckdb.DuckDBPyConnection, site: Site, known: list[Case], night: Night, left: list[str]) -> list[Case]:
    """The cases that are not too near one that the gate judges by; what is left out is told. ContaminationError where
    that cannot be found out."""
    try:
        embedder = clustering.embedder(night)
    except ConfigError as error:
        raise ContaminationError(str(error)) from error
    gate = mined_cases.load(con, site, pool="gate")
    found = decontaminating.near(con, known, gate, embedder=embedder, key=night.lake.key)
    if not found:
        return known
    near = {one.case_id for one in found}
    kept = [case for case in known if case.case_id not in near]
    counts = Counter(one.how for one in found)
    said = ", ".join(f"{counts[how]} by {how}" for how in sorted(counts))
    needed = night.config.train.min_rows
    rest = f"; {len(kept)} are left, {needed} needed" if len(kept) < needed else ""
    left.append(
        f"{len(found)} of {len(known)} judged cases of site {called(site)}: too near those of the gate ({said}){rest}"
    )
    return kept


def called(site: Site) -> str:
    """How messages call a site: the beginning of its id, and whose call it is where the logs say so."""
    return f"{site.site_id[:8]} ({site.agent_name or 'agent without a name'})"


def is_called(site: Site, prefix: str) -> bool:
    return site.site_id.startswith(prefix) or site.agent_name == prefix


def one_site(sites: Sequence[Site], prefix: str) -> Site:
    """The site whose id begins with `prefix`, or whose agent is called so."""
    found = [site for site in sites if is_called(site, prefix)]
    if len(found) != 1:
        known = ", ".join(called(site) for site in sites) or "none yet"
        what = "unknown site" if not found else "more than one site matches"
        raise ConfigError(f"{what} {prefix!r}; known: {known}")
    return found[0]


def production(
    con: duckdb.DuckDBPyConnection,
    site: Site,
    night: Night,
    *,
    channel: str | None = None,
    others: Sequence[Site] = (),
) -> Candidate:
    """What a channel serves for this site: the released artifact, else the prompt recovered from the logs.

    `channel`: by default the one that `[gate]` gives the site, or where its prompt was released later with another
    site's. `others`: sites whose prompts are to be there, too.
    """
    if others:
        first = production(con, site, night, channel=channel)
        theirs = {one.site_id: production(con, one, night).artifact.prompt for one in others}
        return replace(first, artifact=replace(first.artifact, others={**theirs, **first.artifact.others}))
    with_others = None if channel is not None else con.execute(_WITH_OTHERS, [f'$.others."{site.site_id}"']).fetchone()
    row = con.execute(
        "SELECT c.artifact, c.site_version, r.bundle_id, r.at FROM releases r JOIN candidates c USING (candidate_id) "
        "WHERE r.channel = ? AND c.site_id = ? ORDER BY r.at DESC LIMIT 1",
        [channel or night.config.channel(site.agent_name), site.site_id],
    ).fetchone()
    if with_others is not None and (row is None or with_others[1] > row[3]):
        held = Artifact(prompt=Artifact.from_json(with_others[0]).others[site.site_id])
        return _as_production(site, site.site_version, held)
    artifact = artifacts.baseline(site) if row is None else _at_hand(Artifact.from_json(row[0]), night, str(row[2]))
    return _as_production(site, site.site_version if row is None else str(row[1]), artifact)


_WITH_OTHERS = """
SELECT artifact, "at" FROM (
    SELECT c.artifact, r."at" FROM releases r JOIN candidates c USING (candidate_id)
    QUALIFY row_number() OVER (PARTITION BY r.channel ORDER BY r."at" DESC) = 1
)
WHERE json_extract(artifact, ?) IS NOT NULL ORDER BY "at" DESC LIMIT 1
"""
"""What channels serve now that has a prompt of a site which is another site's candidate, the newest first."""


def _as_production(site: Site, version: str, artifact: Artifact) -> Candidate:
    return Candidate(
        branch="production",
        site_id=site.site_id,
        site_version=version,
        optimizer="production",
        artifact=artifact,
    )


def _at_hand(artifact: Artifact, night: Night, bundle_id: str) -> Artifact:
    """A released artifact with its adapter where it still lies: the work folder may have been emptied since."""
    if artifact.adapter_path is None or Path(artifact.adapter_path).is_dir():
        return artifact
    return replace(artifact, adapter_path=str(night.config.bundles_path / bundle_id / "adapter"))
