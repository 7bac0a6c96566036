"""promote, rollback, releases: what production runs."""

from dataclasses import asdict
from pathlib import Path

from tracemill.app import project, settings
from tracemill.app.output import Output
from tracemill.app.tables import Rows
from tracemill.pipelines import releasing


def _actor() -> str:
    environment = settings.environment()
    return environment.get("USER") or environment.get("LOGNAME") or "unknown"


def promote(
    given: Path | None, candidate: str, *, channel: str | None, force: bool, as_json: bool, dry_run: bool
) -> None:
    """Publishes a candidate that the gate let pass."""
    output = Output(as_json=as_json)
    with project.opened(given, output) as night:
        found = releasing.find_candidate(night, candidate)
        wanted = channel or releasing.channel_of(night, found)
        if dry_run:
            targets = [asdict(one) for one in night.config.publish]
            plan = {"candidate_id": found.candidate_id, "channel": wanted, "publish": targets}
            output.result(plan, f"would publish {found.candidate_id[:8]} ({found.optimizer}) to {wanted}")
            return
        release = releasing.release(night, found, channel=wanted, actor=_actor(), force=force)
    output.result(asdict(release), f"{wanted} now serves bundle {release.bundle_id[:12]} ({', '.join(release.uris)})")


def rollback(given: Path | None, *, channel: str | None, as_json: bool, dry_run: bool) -> None:
    """Moves the channel to the bundle before."""
    output = Output(as_json=as_json)
    with project.opened(given, output) as night:
        wanted = channel or releasing.only_channel(night)
        if dry_run:
            target = releasing.rollback_target(night, channel=wanted)
            output.result({"channel": wanted, "bundle_id": target}, f"would move {wanted} back to {target[:12]}")
            return
        release = releasing.rollback(night, channel=wanted, actor=_actor())
    output.result(asdict(release), f"{wanted} is back at bundle {release.bundle_id[:12]}")


def releases(given: Path | None, *, channel: str | None, as_json: bool) -> None:
    """The history of a channel, newest first."""
    output = Output(as_json=as_json)
    with project.opened(given, output) as night:
        table = night.select(_HISTORY, channel, channel)
    text = Rows(table) if table.num_rows else "nothing was released yet"
    output.result({"releases": table.to_pylist()}, text)


_HISTORY = """
SELECT make_timestamp_ns(r.at) AS "at", r.channel, r.action, left(r.bundle_id, 12) AS bundle,
       left(r.candidate_id, 8) AS candidate, c.optimizer, v.verdict, v.delta, v.low, v.high, r.actor
FROM releases r LEFT JOIN candidates c USING (candidate_id) LEFT JOIN verdicts v USING (verdict_id)
WHERE ?::VARCHAR IS NULL OR r.channel = ?
ORDER BY r.at DESC
"""
