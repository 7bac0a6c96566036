"""forget: a user, a trace or old logs leave the lake."""

from dataclasses import asdict
from pathlib import Path

from tracemill.app import project
from tracemill.app.commands.data import count
from tracemill.app.output import Output
from tracemill.pipelines import forgetting


def forget(
    given: Path | None,
    *,
    user: str | None,
    trace: str | None,
    older_than: str | None,
    as_json: bool,
    dry_run: bool,
) -> None:
    """Erases what was asked for and says what went, what was made from it and what still holds it."""
    output = Output(as_json=as_json)
    with project.opened(given, output) as night:
        done = forgetting.forget(
            night,
            user=user,
            trace=trace,
            older_than=older_than,
            landing=night.config.landing_path,
            dry_run=dry_run,
        )
    output.result(asdict(done), _told(done, dry_run=dry_run))


def _told(done: forgetting.Forgotten, *, dry_run: bool) -> str:
    went = ", ".join(f"{rows} of {table}" for table, rows in done.counts.items() if rows)
    lines = [f"{'Would forget' if dry_run else 'Forgot'} {count(done.traces, 'trace')}" + (f": {went}" if went else "")]
    if done.landing:
        lines.append(f"{count(len(done.landing), 'landing file')} deleted")
    if done.heads:
        lines.append(f"{count(len(done.heads), 'folder')} of trained heads deleted")
    for release in done.releases:
        lines.append(
            f"Made from it and still published: {release['bundle_id']} on {release['channel']} "
            f"({release['bundle_uri']}); withdraw it with tracemill rollback"
        )
    if done.candidates:
        lines.append(f"{count(len(done.candidates), 'candidate')} learned from it: {', '.join(done.candidates[:5])}")
    if done.sources:
        lines.append("These files still hold it: " + ", ".join(done.sources[:5]) + (" …" if done.sources[5:] else ""))
    if done.receipt_id is not None:
        lines.append(f"Receipt {done.receipt_id}: tracemill sql 'SELECT * FROM receipts'")
    return "\n".join(lines)
