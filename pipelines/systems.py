"""Several sites of one multi-agent system as one lesson: the episodes that they work on, split once for all of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import duckdb

from tracemill.errors import ConfigError
from tracemill.mining import cases as mined_cases
from tracemill.mining import episodes as mined_episodes
from tracemill.mining import sites as mined_sites
from tracemill.optimize import portfolio
from tracemill.optimize.ladder import Chained
from tracemill.optimize.replay import Ledger
from tracemill.pipelines import grading, learning, replaying
from tracemill.pipelines.endpoint import Endpoint, ensure_adapter
from tracemill.pipelines.learning import Lesson, called, one_site, read_once
from tracemill.pipelines.night import Night
from tracemill.records import Case, Chain, Outcome, Site

_MOST = 5_000
"""Episodes that are looked at, the newest of each task group first."""
_ENDS = """
SELECT site_id, count(*) AS n FROM (
    SELECT trajectory_id, arg_max(site_id, step) AS site_id, count(DISTINCT site_id) FILTER (site_id IN ?) AS known
    FROM transitions GROUP BY trajectory_id
) WHERE site_id IN ? AND known > 1 GROUP BY site_id ORDER BY n DESC, site_id
"""
_BESIDE = """
SELECT DISTINCT site_id FROM transitions
WHERE site_id IS NOT NULL AND trajectory_id IN (SELECT trajectory_id FROM transitions WHERE site_id = ?)
"""


def tonight(night: Night) -> tuple[list[Lesson], list[str]]:
    """What a night learns from: the most valuable sites, and those that are improved jointly; and what was left out."""
    lessons, left = learning.choose(night)
    names = night.config.optimize.jointly
    if night.config.optimize.enabled and names:
        try:
            system, reasons = choose(night, names)
        except ConfigError as error:
            return lessons, [*left, f"[optimize] jointly: {error}"]
        left += reasons
        if lessons and "{agent}" not in night.config.gate.channel:
            alone = ", ".join(called(lesson.site) for lesson in lessons)
            left.append(
                f"site {alone}: not tonight, [gate] channel holds one bundle, which is that of [optimize] jointly"
            )
            lessons = []
        return [*lessons, system], left
    return lessons, left


def choose(night: Night, names: Sequence[str]) -> tuple[Lesson, list[str]]:
    """The lesson of the site that ends the episodes of these sites, with those of the others; and what was left out.

    `names`: of agents, or site ids. A task group lies whole in training or in tuning, for all sites; they are tried on
    the same episodes. ConfigError where a name is not known, where the sites have no episode in common that one of them
    ends, and where nobody can judge what they end with.
    """
    snapshot, left = night.lake.snapshot_id(), list[str]()
    with night.learner(snapshot) as con:
        known = mined_sites.load(con)
        sites = list({site.site_id: site for site in (one_site(known, name) for name in names)}.values())
        if len(sites) < 2:
            raise ConfigError(
                f"sites are improved jointly with others: name at least two, not {', '.join(names) or '(none)'}"
            )
        label = ", ".join(called(site) for site in sites)
        leaking = [called(site) for site in sites if "reward_leak" in site.flags]
        if leaking:
            raise ConfigError(f"site {leaking[0]}: its observations show the gold reward; it is never learned from")
        closing = _closing(con, sites)
        if closing is None:
            raise ConfigError(f"sites {label}: no episode has calls of several of them and ends with one of these")
        others = [site for site in sites if site is not closing]
        ends = _ends(con, closing, sites, night, left)
        can = grading.verifiable(night, closing, chained=True)
        judged = [case for case in ends if can(case)]
        if not judged:
            raise ConfigError(
                f"sites {label}: nobody can judge with what their {len(ends)} judged episodes end at site "
                f"{called(closing)}: add a verifier to [[rewards]], or corrections of its answers"
            )
        own = {site.site_id: _cases(con, site, judged) for site in others}
        near = set[str]()
        for site in others:
            apart = learning.clean(con, site, own[site.site_id], night, left)
            near |= _episodes(own[site.site_id]) - _episodes(apart)
        judged = [case for case in judged if case.trajectory_id not in near]
        if len(judged) < (needed := night.config.train.min_rows):
            raise ConfigError(f"sites {label}: {len(judged)} episodes to learn from are left, {needed} needed")
        for site in others:
            if not own[site.site_id]:
                raise ConfigError(f"site {called(site)} never occurs in an episode that site {called(closing)} ends")
        train, tune = portfolio.split_tune(judged, seed=night.config.seed, share=night.config.split.tune_share)
        drawn = replaying.spread(sorted(tune, key=lambda case: case.task_group), night.config.optimize.max_tune_cases)
        production = learning.production(con, closing, night, others=others)
        lessons = [
            Lesson(
                site=site,
                production=learning.production(con, site, night),
                train=tuple(case for case in own[site.site_id] if case.trajectory_id in _episodes(train)),
                tune=_last(case for case in own[site.site_id] if case.trajectory_id in _episodes(drawn)),
                verifiable=1.0,
                judgeable=frozenset(case.case_id for case in own[site.site_id]),
                snapshot=snapshot,
            )
            for site in others
        ]
    for lesson in lessons:
        if not (lesson.train and lesson.tune):
            raise ConfigError(f"site {called(lesson.site)} occurs in too few of the episodes that are learned from")
    for one in (production, *(lesson.production for lesson in lessons)):
        if one.artifact.adapter_path is not None:
            raise ConfigError(f"site {one.site_id[:8]} runs tuned weights: what is improved jointly are prompts only")
    return (
        Lesson(
            site=closing,
            production=production,
            train=tuple(train),
            tune=drawn,
            verifiable=len(judged) / len(ends),
            judgeable=frozenset(case.case_id for case in judged),
            snapshot=snapshot,
            others=tuple(lessons),
        ),
        left,
    )


def _closing(con: duckdb.DuckDBPyConnection, sites: Sequence[Site]) -> Site | None:
    """Of the sites the one that ends most episodes in which others of them are called, too."""
    ids = [site.site_id for site in sites]
    row = con.execute(_ENDS, [ids, ids]).fetchone()
    return None if row is None else next(site for site in sites if site.site_id == row[0])


def _ends(
    con: duckdb.DuckDBPyConnection, closing: Site, sites: Sequence[Site], night: Night, left: list[str]
) -> list[Case]:
    """The judged cases of the learn pool that end an episode which can be replayed as a whole."""
    cases = mined_cases.load(con, closing, pool="learn")
    known = [case for case in reversed(cases) if case.reward is not None or case.correction is not None]
    known = learning.clean(con, closing, list(replaying.spread(known, _MOST)), night, left)
    told = _chains(con, sites, sorted(_episodes(known)))
    ended = ending(told, known)
    if len(ended) < night.config.train.min_rows:
        raise ConfigError(
            f"site {called(closing)}: {len(ended)} judged episodes that can be replayed over all sites, "
            f"{night.config.train.min_rows} needed"
        )
    return ended


def ending(told: Mapping[str, Chain], cases: Sequence[Case]) -> list[Case]:
    """Those of the cases that end an episode which is told."""
    return [
        case for case in cases if case.trajectory_id in told and told[case.trajectory_id].calls[-1].step == case.step
    ]


def _chains(con: duckdb.DuckDBPyConnection, sites: Sequence[Site], names: Sequence[str]) -> dict[str, Chain]:
    return mined_episodes.chains(con, mined_sites.load(con), [site.site_id for site in sites], names)


def _cases(con: duckdb.DuckDBPyConnection, site: Site, ends: Sequence[Case]) -> list[Case]:
    """The cases of a site in the episodes that these cases end. What corrects the end does not correct them."""
    of = {case.trajectory_id: case for case in ends}
    return [
        replace(case, correction=None if case.correction == of[case.trajectory_id].correction else case.correction)
        for case in mined_cases.load(con, site, pool="learn")
        if case.trajectory_id in of
    ]


def _episodes(cases: Sequence[Case]) -> set[str]:
    return {case.trajectory_id for case in cases}


def _last(cases: Iterable[Case]) -> tuple[Case, ...]:
    """Of each episode the last case."""
    return tuple({case.trajectory_id: case for case in sorted(cases, key=lambda case: case.step)}.values())


def chains(night: Night, lesson: Lesson) -> Callable[[Sequence[Case]], Mapping[str, Chain]]:
    """Episodes over all sites as the lesson's snapshot has them. Each is read once."""
    sites = [one.site for one in (lesson, *lesson.others)]
    return read_once(night, lesson, lambda con, names: _chains(con, sites, names))


def level(night: Night, lesson: Lesson, endpoint: Endpoint, ledger: Ledger, graders: grading.Graders) -> Chained:
    """How prompts of the lesson's sites are tried: on whole episodes, whose ends the graders judge."""
    running = replaying.on_endpoint(endpoint, lesson.production.artifact)
    with night.learner(lesson.snapshot) as con:
        beside = {row[0] for row in con.execute(_BESIDE, [lesson.site.site_id]).fetchall()} - set(running.apart)
        others = {
            site.site_id: replaying.on_endpoint(endpoint, learning.production(con, site, night).artifact)
            for site in mined_sites.load(con)
            if site.site_id in beside
        }
    for one in others.values():
        ensure_adapter(endpoint, one)
    return Chained(
        model=replaying.cached(night, endpoint.chat, ledger),
        chains=chains(night, lesson),
        held=running.apart,
        others=others,
        ends={case.trajectory_id: case for case in lesson.learn},
        grade=graders.final,
        valid=replaying.validity(night),
        seed=night.config.seed,
    )


def logged(night: Night, lesson: Lesson, cases: Sequence[Case], graders: grading.Graders) -> list[Outcome]:
    """What production logged at the end of the cases' episodes, with what the calls of the lesson's sites took."""
    told, own = chains(night, lesson)(cases), {one.site.site_id for one in (lesson, *lesson.others)}
    steps = {
        case.case_id: [call.step for call in told[case.trajectory_id].calls if call.site_id in own]
        for case in cases
        if case.trajectory_id in told
    }
    return replaying.as_logged(cases, night, graders.final, steps=steps)
