"""Reports of reward models, and the combined score from those that may be believed."""

from collections.abc import Sequence
from typing import Any

from tracemill.pipelines.night import Night
from tracemill.protocols import RewardModel
from tracemill.rewards import combined, report
from tracemill.rewards.probes import JudgesPairs, JudgesText, Probed, probe

PROBED = 20
"""Episodes that each bias probe is tried on."""
_CHARS = 4_000


def combine(night: Night, models: Sequence[RewardModel]) -> dict[str, int]:
    """Reports on every model and on judges that came with the logs, combines what passed, reports on that.

    Rows of scores written, by name. A model whose report failed is not used; combined that fails itself keeps to what
    is known for sure. Both are told.
    """
    sealed, limits, settings = night.config.combined.sealed, night.config.reports, night.config.combined
    with night.lake.reader() as con:
        earlier = report.latest(con)
        texts: list[str] | None = None
        made: list[report.Report] = []
        for model in models:
            if model.family == "people":
                continue  # people's own words are what the others are held against
            probes: dict[str, Probed] | None = None
            whole = model.level == "trajectory"  # else it is told how it goes with episodes, which it does not judge
            before = earlier.get(model.name)
            if isinstance(model, JudgesText | JudgesPairs):
                if before is not None and before["version"] == model.version and before["metrics"]["probes"]:
                    # What a version makes of a text does not change from night to night.
                    probes = {name: Probed(**one) for name, one in before["metrics"]["probes"].items()}
                else:
                    texts = _texts(night) if texts is None else texts
                    probes = probe(model, texts) if texts else None
            made.append(
                report.report(
                    con,
                    model.name,
                    model.version,
                    thresholds=limits,
                    level=model.level,
                    sealed=sealed if whole and model.name not in sealed else (),
                    ranking=whole and model.name != combined.VETO,  # that tools took its calls makes no episode right
                    probes=probes,
                    earlier=before,
                )
            )
        known = [model.name for model in models]
        for name, version in report.logged(con, [*known, combined.NAME, combined.LOW]):
            others = () if name in sealed else sealed
            before = earlier.get(name)
            made.append(report.report(con, name, version, thresholds=limits, sealed=others, earlier=before))
        failed = {one.name: one.version for one in made if one.passed is False}
        options: dict[str, Any] = {
            "weights": settings.weights,
            "sealed": sealed,
            "k": settings.caution,
            "epsilon": settings.one_family,
        }
        found = combined.combination(con, now_ns=night.clock(), distrusted=failed, **options)
        before = earlier.get(combined.NAME)
        own = report.report(
            con,
            combined.NAME,
            found.version,
            thresholds=limits,
            sealed=sealed,
            said=found.machine,
            calibrated=True,
            remarks=found.remarks,
            earlier=before,
        )
        if own.passed is False:
            stopped = {**failed, combined.NAME: own.version}
            found = combined.combination(con, now_ns=night.clock(), distrusted=stopped, **options)
        made.append(own)
        new = [one for one in made if not one.same_as(earlier.get(one.name))]
    with night.lake.transaction(f"{night.night_id}: score combined") as tx:
        written = {
            combined.NAME: tx.insert("scores", found.rows),
            combined.LOW: tx.insert("scores", found.low),
        }
        if new:
            tx.insert("reward_reports", report.rows(new, night_id=night.night_id, now_ns=night.clock()))
    for sentence in warnings(night):
        night.tell("score", f"WARNING: {sentence}")
    return written


def warnings(night: Night) -> list[str]:
    """What the latest reports say against using a model, what the combined score had to leave out, and empty seals."""
    with night.lake.reader() as con:
        latest = report.latest(con)
        spoke = {name for (name,) in con.execute("SELECT DISTINCT name FROM scores").fetchall()}
    said = [
        f"{name} is not used: {failure}"
        for name, one in latest.items()
        if one["passed"] is False
        for failure in one["failures"]
    ]
    own = latest.get(combined.NAME)
    remarks = own["metrics"]["remarks"] if own is not None else []
    known = spoke | {reward.name or reward.kind for reward in night.config.rewards}
    empty = [
        f"[combined] sealed names {name}, but no reward and no score is called so: nothing is sealed by it"
        for name in night.config.combined.sealed
        if name not in known
    ]
    return [*said, *(one for one in remarks if not one.endswith("its latest report failed")), *empty]


def _texts(night: Night) -> list[str]:
    """Some episodes as text, the same every night: what bias probes are tried on."""
    found = night.select(
        """
        SELECT string_agg(role || ': ' || coalesce(text, ''), chr(10) ORDER BY turn) AS text
        FROM conversations
        WHERE trajectory_id IN (SELECT trajectory_id FROM trajectories ORDER BY md5(trajectory_id) LIMIT ?)
        GROUP BY trajectory_id ORDER BY trajectory_id
        """,
        PROBED,
    )
    return [text[:_CHARS] for text in found["text"].to_pylist() if text]
