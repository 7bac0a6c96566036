"""Promoted candidates become bundles, bundles go to every publisher, and then the channel moves."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import duckdb
import pyarrow as pa

from tracemill.errors import ConfigError, PublishError
from tracemill.mining import sites as mined_sites
from tracemill.pipelines import learning, replaying
from tracemill.pipelines.config import Config, PublishConfig
from tracemill.pipelines.endpoint import api_key
from tracemill.pipelines.learning import one_site
from tracemill.pipelines.night import Night
from tracemill.promote import bundle as bundles
from tracemill.promote import publishers as publishing
from tracemill.promote import registry
from tracemill.promote.publishers import StagedPublisher
from tracemill.records import Artifact, Candidate, Decision, Guardrail, Site, Support


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A channel that moved."""

    channel: str
    bundle_id: str
    candidate_id: str | None
    uris: tuple[str, ...]


def publishers(config: Config, environment: Mapping[str, str]) -> list[StagedPublisher]:
    """The publishers of `[[publish]]`. Raises ConfigError where one cannot be made, or its key is not set."""
    return [_publisher(config, settings, environment) for settings in config.publish]


def _publisher(config: Config, settings: PublishConfig, environment: Mapping[str, str]) -> StagedPublisher:
    if settings.kind == "folder":
        if settings.path is None:
            raise ConfigError("[[publish]] kind = 'folder': set path")
        return publishing.build("folder", root=config.path(settings.path))
    if settings.url is None:
        raise ConfigError(f"[[publish]] kind = {settings.kind!r}: set url")
    if settings.kind == "endpoint":
        return publishing.build(
            "endpoint",
            base_url=settings.url,
            state=config.path(".tracemill/endpoint"),
            api_key=api_key(environment, settings.api_key_env),
        )
    return publishing.build(settings.kind, url=settings.url)


def best(decisions: Sequence[Decision]) -> Decision | None:
    """The decision to act on: of those that say PROMOTE, the one with the highest lower bound."""
    passed = [decision for decision in decisions if decision.verdict == "PROMOTE"]
    return max(passed, key=lambda decision: (decision.low or 0.0, decision.delta or 0.0), default=None)


def refusal(night: Night, candidate: Candidate, *, channel: str) -> str | None:
    """Why a channel must not move to a candidate by itself; None where it may.

    What an operator took back stays back, and a channel serves one site: whoever reads it would get another's prompt.
    """
    foreign = _foreign(night, candidate, channel) or _served_elsewhere(night, candidate, channel)
    if foreign is not None:
        return foreign
    rows = [row for row in _releases(night).to_pylist() if row["channel"] == channel]
    back = {row["previous_bundle_id"] for row in rows if row["action"] == "rollback"}
    if any(row["candidate_id"] == candidate.candidate_id and row["bundle_id"] in back for row in rows):
        return f"candidate {candidate.candidate_id[:8]} was rolled back on channel {channel!r}"
    return None


def find_candidate(night: Night, prefix: str) -> Candidate:
    """The candidate whose id begins with `prefix`."""
    found = night.select(
        "SELECT * FROM candidates WHERE starts_with(candidate_id, ?) ORDER BY candidate_id", prefix
    ).to_pylist()
    if len(found) != 1:
        what = f"no candidate begins with {prefix!r}" if not found else f"{len(found)} candidates begin with {prefix!r}"
        raise ConfigError(f"{what}; list them with: tracemill sql 'SELECT candidate_id, optimizer FROM candidates'")
    row = found[0]
    return Candidate(
        branch=row["branch"],
        site_id=row["site_id"],
        site_version=row["site_version"],
        optimizer=row["optimizer"],
        artifact=Artifact.from_json(row["artifact"]),
        parent_id=row["parent_id"],
        lineage=tuple(row["lineage"] or ()),
        tune_score=row["tune_score"],
        tune_n=row["tune_n"] or 0,
        support=tuple(
            Support(**{**one, "trajectories": tuple(one["trajectories"])}) for one in json.loads(row["support"] or "[]")
        ),
    )


def last_decision(night: Night, candidate: Candidate, *, channel: str) -> tuple[str, Decision] | None:
    """Id and content of the newest verdict on a candidate for a channel; where there is none, for any other one."""
    found = night.select(
        'SELECT * FROM verdicts WHERE candidate_id = ? ORDER BY channel = ? DESC, "at" DESC LIMIT 1',
        candidate.candidate_id,
        channel,
    ).to_pylist()
    if not found:
        return None
    row = found[0]
    for name in ("snapshot_id", "night_id", "at"):
        row.pop(name)
    verdict_id = row.pop("verdict_id")
    row["guardrails"] = tuple(Guardrail(**item) for item in json.loads(row["guardrails"] or "[]"))
    return verdict_id, Decision(**row)


def release(night: Night, candidate: Candidate, *, channel: str, actor: str, force: bool = False) -> Release:
    """Builds the bundle, brings it to every publisher, moves the channel, writes the row.

    The first release of a channel is preceded by one of what production ran before, so that there is a way back.
    ConfigError without a PROMOTE verdict for this channel against what it runs now, or where `refusal` has a reason,
    unless `force`.
    """
    decided = last_decision(night, candidate, channel=channel)
    unproven = _unproven(night, candidate, None if decided is None else decided[1], channel)
    if not force and unproven is not None:
        raise ConfigError(
            f"candidate {candidate.candidate_id[:8]} {unproven}; run `tracemill gate` first, or promote with --force"
        )
    reason = refusal(night, candidate, channel=channel)
    if not force and reason is not None:
        raise ConfigError(f"{reason}; promote it with --force where that is what you want")
    serves = _serves(night, channel)
    # What is released with others has a way back that holds the prompts of all of them, too.
    if serves is None or not _sites(candidate) <= _sites(serves):
        before = _before(night, candidate, None if decided is None else decided[1])
        if before.artifact != candidate.artifact:
            _release(night, before, None, channel=channel, actor=actor)
    return _release(night, candidate, decided, channel=channel, actor=f"{actor} (forced)" if force else actor)


def _unproven(night: Night, candidate: Candidate, decision: Decision | None, channel: str) -> str | None:
    """What keeps a verdict from letting the candidate onto the channel. None where it does let it."""
    if decision is None:
        return "has no verdict yet"
    if decision.channel != channel:
        return f"was judged for channel {decision.channel!r}, not for {channel!r}"
    if decision.verdict != "PROMOTE":
        return f"has verdict {decision.verdict}: {decision.reason}"
    standing = registry.current(_releases(night), channel)
    if standing is not None and standing["candidate_id"] == candidate.candidate_id:
        return None
    if decision.baseline_id != _running(night, candidate, channel).candidate_id:
        return f"was judged against {decision.baseline_id[:8]}, and channel {channel!r} has moved on since"
    return None


def _serves(night: Night, channel: str) -> Candidate | None:
    """What a channel stands at; None where nothing was released there, or nobody knows what."""
    standing = registry.current(_releases(night), channel)
    if standing is None or standing["candidate_id"] is None:
        return None
    return find_candidate(night, standing["candidate_id"])


def _sites(candidate: Candidate) -> set[str]:
    return {candidate.site_id, *candidate.artifact.others}


def _running(night: Night, candidate: Candidate, channel: str | None = None) -> Candidate:
    """What the sites of a candidate run: on a channel, by default the one that `[gate]` gives them."""
    with night.lake.reader() as con:
        site, *others = _loaded(con, candidate)
        return learning.production(con, site, night, channel=channel, others=others)


def _loaded(con: duckdb.DuckDBPyConnection, candidate: Candidate) -> list[Site]:
    """The sites whose prompts a candidate has, its own first."""
    known = mined_sites.load(con)
    return [one_site(known, site_id) for site_id in (candidate.site_id, *sorted(candidate.artifact.others))]


def _before(night: Night, candidate: Candidate, decision: Decision | None) -> Candidate:
    """What ran before the first release of a channel: what the candidate was judged against, else production."""
    if decision is not None:
        return find_candidate(night, decision.baseline_id)
    running = _running(night, candidate)
    replaying.write_candidate(night, running, snapshot=night.lake.snapshot_id())
    return running


def bound(night: Night, candidate: Candidate, sites: Sequence[Site]) -> Candidate:
    """The candidate with what was redacted in its constant text put back by the operator's `[bind.AGENT]`.

    `sites`: those that it has prompts of, its own first. PublishError where a slot that stands for redacted text has no
    value there: nothing unbound is published.
    """
    own, *others = (_bound(night, prompt, site) for prompt, site in zip(candidate.artifact.prompts, sites, strict=True))
    held = {str(one["site_id"]): one for one in others}
    return replace(candidate, artifact=replace(candidate.artifact, prompt=own, others=held))


def _bound(night: Night, prompt: Mapping[str, Any], site: Site) -> Mapping[str, Any]:
    values = night.config.bind.get(site.agent_name or "", {})
    missing = [slot for slot in site.unbound if slot not in values]
    if missing:
        raise PublishError(
            f"the prompt of site {site.site_id[:8]} ({site.agent_name}) holds redacted text, now the slot "
            f"{missing[0]!r}; say what it stands for in [bind.{site.agent_name}] of tracemill.toml"
        )
    if not site.unbound:
        return prompt

    def fill(piece: Any) -> Any:
        slot = piece.get("slot") if isinstance(piece, Mapping) else None
        return values[slot] if slot in site.unbound else piece

    messages = [
        {**item, "content": [fill(piece) for piece in item["content"]]} if item.get("content") else item
        for item in prompt["messages"]
    ]
    return {**prompt, "messages": messages}


def _release(
    night: Night, candidate: Candidate, decided: tuple[str, Decision] | None, *, channel: str, actor: str
) -> Release:
    with night.lake.reader() as con:
        sites = _loaded(con, candidate)
    foreign = _foreign(night, candidate, channel)
    if foreign is not None:
        raise ConfigError(foreign)
    snapshot = night.lake.snapshot_id()
    bundle = bundles.build(
        bound(night, candidate, sites),
        None if decided is None else decided[1],
        site=sites[0],
        others=sites[1:],
        evaluations=night.select(
            "SELECT * FROM evaluations WHERE candidate_id = ? AND purpose = 'gate'", candidate.candidate_id
        ),
        lineage=candidate.lineage,
        snapshot_id=snapshot,
        out=night.config.bundles_path,
        now_ns=night.clock(),
    )
    night.tell("publish", f"bundle {bundle.bundle_id[:12]} to {channel}")
    places = publishers(night.config, night.environment)
    uris = publishing.publish_all(places, bundle.path, bundle.bundle_id, channel)
    _write(
        night,
        registry.promote(
            _releases(night),
            channel=channel,
            bundle_id=bundle.bundle_id,
            bundle_uri=uris[0],
            candidate_id=candidate.candidate_id,
            verdict_id=None if decided is None else decided[0],
            snapshot_id=snapshot,
            actor=actor,
            at=night.clock(),
        ),
    )
    return Release(channel=channel, bundle_id=bundle.bundle_id, candidate_id=candidate.candidate_id, uris=tuple(uris))


def channel_of(night: Night, candidate: Candidate) -> str:
    """The channel that a candidate's site is released to, as `[gate] channel` names it."""
    with night.lake.reader() as con:
        site = one_site(mined_sites.load(con), candidate.site_id)
    return night.config.channel(site.agent_name)


def only_channel(night: Night) -> str:
    """The channel of `[gate]`. ConfigError, with those there are, where every agent has its own."""
    name = night.config.gate.channel
    if "{agent}" not in name:
        return name
    known = sorted(set(_releases(night)["channel"].to_pylist()))
    raise ConfigError(f"every agent has its own channel: give --channel, one of {', '.join(known) or '(none yet)'}")


def _foreign(night: Night, candidate: Candidate, channel: str) -> str | None:
    """A channel holds one bundle: another site's agents would be handed this one's prompt, or none. None where they
    are not."""
    serves = _serves(night, channel)
    if serves is None:
        return None
    if serves.site_id != candidate.site_id:
        return (
            f"channel {channel!r} serves site {serves.site_id[:8]}, not {candidate.site_id[:8]}; "
            "give this site a channel of its own, such as [gate] channel = 'production.{agent}'"
        )
    lost = sorted(_sites(serves) - _sites(candidate))
    if not lost:
        return None
    return f"channel {channel!r} serves site {lost[0][:8]}, too, and candidate {candidate.candidate_id[:8]} does not"


def _served_elsewhere(night: Night, candidate: Candidate, channel: str) -> str | None:
    """Where another channel serves a site with others, as one, its agents would not see what this one says."""
    for other in sorted({*_releases(night)["channel"].to_pylist()} - {channel}):
        serves = None
        with suppress(ConfigError):  # of a candidate that was forgotten nobody knows whom it serves
            serves = _serves(night, other)
        if serves is None or serves.site_id == candidate.site_id:
            continue
        shared = sorted(_sites(candidate) & set(serves.artifact.others))
        if shared:
            return (
                f"channel {other!r} serves site {shared[0][:8]} together with site {serves.site_id[:8]}: "
                "improve them jointly ([optimize] jointly)"
            )
    return None


def rollback_target(night: Night, *, channel: str) -> str:
    """Id of the bundle that a rollback would go back to. ConfigError where there is none."""
    return str(_back(night, _releases(night), channel)["bundle_id"])


def _back(night: Night, past: pa.Table, channel: str) -> registry.Release:
    """The release that a rollback goes back to. ConfigError where it lacks a prompt that agents read there now."""
    target = registry.rollback(past, channel)
    now, then = None, None
    with suppress(ConfigError):  # of a candidate that was forgotten nobody knows whom it serves
        now, then = _serves(night, channel), find_candidate(night, target["candidate_id"])
    lost = sorted(_sites(now) - _sites(then)) if now is not None and then is not None else []
    if lost:
        raise ConfigError(
            f"channel {channel!r} serves site {lost[0][:8]}, and the bundle before, {target['bundle_id'][:12]}, has no "
            "prompt of it: its agents would be handed another one's; promote a candidate that has all of them instead"
        )
    return target


def rollback(night: Night, *, channel: str, actor: str) -> Release:
    """Moves the channel back to the bundle before. ConfigError when there is none."""
    past = _releases(night)
    target = _back(night, past, channel)
    bundle = night.config.bundles_path / target["bundle_id"]
    places = publishers(night.config, night.environment)
    uris = publishing.publish_all(places, bundle, target["bundle_id"], channel)
    _write(night, registry.rolled_back(past, channel, actor=actor, at=night.clock()))
    return Release(
        channel=channel, bundle_id=target["bundle_id"], candidate_id=target["candidate_id"], uris=tuple(uris)
    )


def _releases(night: Night) -> pa.Table:
    return night.select("SELECT * FROM releases")


def _write(night: Night, row: pa.Table) -> None:
    with night.lake.transaction(f"{night.night_id}: release") as tx:
        tx.insert("releases", row)
