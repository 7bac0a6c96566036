"""Logs to findings: what callers want, and what goes with failure, found in earlier data and confirmed by later."""

from tracemill.mining import findings, process
from tracemill.mining.findings import Found
from tracemill.pipelines import clustering
from tracemill.pipelines.night import Night


def find(night: Night) -> Found:
    """Clusters all episodes, mines those of the learn pool for patterns, and writes what is new or has news."""
    clustering.cluster(night)
    night.tell("mine", "patterns", 0, 1)
    keys = night.config.mining
    wanted = findings.Segments(named=keys.segments, without=keys.no_segments)
    with night.learner() as con:
        found = findings.find(con, night_id=night.night_id, now_ns=night.clock(), segments=wanted)
    with night.lake.transaction(f"{night.night_id}: mine findings") as tx:
        tx.replace("findings", found.findings)
        tx.refill("process_edges", process.edges(found))
        tx.refill("process_variants", process.variants(found))
    night.tell("mine", "patterns", 1, 1)
    return found


def counts(found: Found) -> dict[str, int]:
    """What a night's row of `runs` says of it."""
    statuses = found.findings["status"].to_pylist()
    return {
        "episodes": found.episodes,
        "judged": found.judged,
        "failed": found.failed,
        **{status: statuses.count(status) for status in ("candidate", "confirmed", "refuted")},
    }
