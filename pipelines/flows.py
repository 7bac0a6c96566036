"""The nightly flow: the map of the system. Logs in, judged and mined, two branches at once, one gate, one release.

Tasks are coarse on purpose: an orchestrator is for what may fail, be retried and be watched, not for rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from tracemill.errors import StoreError
from tracemill.optimize import choosing
from tracemill.pipelines import (
    branches,
    finding,
    gating,
    ingesting,
    judging,
    learning,
    releasing,
    systems,
    turns,
    validating,
)
from tracemill.pipelines.endpoint import Endpoint, configured, open_endpoint
from tracemill.pipelines.learning import Lesson
from tracemill.pipelines.night import Night, only_one
from tracemill.pipelines.turns import Turn
from tracemill.records import Candidate, Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class NightReport:
    """What a night did."""

    night_id: str
    ingested: Mapping[str, Any]
    scored: Mapping[str, int]
    mined: Mapping[str, int]
    left_out: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    decisions: tuple[Decision, ...]
    releases: tuple[releasing.Release, ...]


@task(name="ingest", cache_policy=NO_CACHE)
def ingest_logs(night: Night) -> Mapping[str, Any]:
    with night.stage("ingest") as detail:
        report = ingesting.take_in_configured(night)
        detail.update(asdict(report))
    return detail


@task(name="score", cache_policy=NO_CACHE)
def score_logs(night: Night) -> Mapping[str, int]:
    with night.stage("score") as detail:
        written = judging.score(night)
        detail.update(written)
        if said := validating.warnings(night):
            detail["warnings"] = said
    return written


@task(name="mine", cache_policy=NO_CACHE)
def mine_sites(night: Night) -> Mapping[str, int]:
    with night.stage("mine") as detail:
        found = {**judging.mine(night), **finding.counts(finding.find(night))}
        detail.update(found)
    return found


@task(name="optimize", cache_policy=NO_CACHE)
def optimize_prompts(
    night: Night, lesson: Lesson, endpoint: Endpoint, turn: Turn
) -> tuple[list[Candidate], str | None]:
    """What was found, and why nothing was where the branch had nothing to do."""
    with night.stage("optimize", snapshot=lesson.snapshot) as detail:
        found, facts = branches.search_prompts(night, lesson, endpoint, turn)
        detail.update(site=lesson.site.site_id, **facts)
    return found, facts.get("skipped")


@task(name="train", cache_policy=NO_CACHE)
def train_weights(night: Night, lesson: Lesson, endpoint: Endpoint, turn: Turn) -> tuple[list[Candidate], str | None]:
    """What was trained, and why nothing was where the branch had nothing to do."""
    with night.stage("train", snapshot=lesson.snapshot) as detail:
        found, facts = branches.weights_in_turn(night, lesson, endpoint, turn)
        detail.update(site=lesson.site.site_id, **facts)
        if not found:
            detail["status"] = "skipped"
    return found, facts.get("skipped")


@task(name="gate", cache_policy=NO_CACHE)
def gate_candidates(night: Night, lesson: Lesson, winners: Sequence[Candidate], endpoint: Endpoint) -> list[Decision]:
    with night.stage("gate", snapshot=lesson.snapshot) as detail:
        decisions = gating.judge(night, lesson, winners, endpoint)
        detail.update({decision.candidate_id: decision.verdict for decision in decisions})
    return decisions


@task(name="publish", cache_policy=NO_CACHE)
def publish_best(
    night: Night, candidates: Sequence[Candidate], decisions: Sequence[Decision]
) -> list[releasing.Release]:
    with night.stage("publish") as detail:
        proposed = {one.candidate_id: one for one in candidates}
        refused = {
            one.candidate_id: releasing.refusal(night, proposed[one.candidate_id], channel=one.channel)
            for one in decisions
        }
        detail["refused"] = [why for why in refused.values() if why is not None]
        chosen = releasing.best([one for one in decisions if refused[one.candidate_id] is None])
        if chosen is None or not night.config.gate.auto_promote:
            detail["status"] = "skipped"
            return []
        release = releasing.release(night, proposed[chosen.candidate_id], channel=chosen.channel, actor="nightly")
        detail.update(asdict(release))
    return [release]


@task(name="upkeep", cache_policy=NO_CACHE)
def keep_up(night: Night) -> str | None:
    """The lake's files merged, and forgotten what is older than its history goes back. The sentence where it failed.

    A failure is a row of `runs` and undoes nothing: the next night tries again.
    """
    try:
        with night.stage("upkeep") as detail:
            night.tell("upkeep", "merging small files")
            detail.update(asdict(night.lake.checkpoint(now_ns=night.clock())))
    except Exception as error:  # noqa: BLE001 - what the night found and released stands, whatever this was
        return f"upkeep failed: {error}"
    return None


@flow(name="tracemill nightly", validate_parameters=False)
def nightly(night: Night) -> NightReport:
    """One night. A night that was interrupted is continued by running it again: every stage takes up what is there.

    BusyError where another nightly run of the project is going.
    """
    with only_one(night.config):
        return _night(night)


def _night(night: Night) -> NightReport:
    ingested = ingest_logs(night)
    scored = score_logs(night)
    mined = mine_sites(night)
    lessons, left_out = systems.tonight(night)
    candidates: list[Candidate] = []
    decisions: list[Decision] = []
    releases: list[releasing.Release] = []
    if lessons and not configured(night):
        left_out.append("no model to replay with: set base_url or local in [endpoint] of tracemill.toml")
    elif lessons:
        with open_endpoint(night) as endpoint:
            for lesson in lessons:
                found, judged, released, reasons = _learn(night, lesson, endpoint)
                left_out += reasons
                candidates += found
                decisions += judged
                releases += released
    failed = keep_up(night)
    if failed is not None:
        left_out.append(failed)
    report = NightReport(
        night_id=night.night_id,
        ingested=ingested,
        scored=scored,
        mined=mined,
        left_out=tuple(left_out),
        candidates=tuple(candidates),
        decisions=tuple(decisions),
        releases=tuple(releases),
    )
    create_markdown_artifact(markdown(report), key="tracemill-night", description=night.night_id)
    return report


def _learn(
    night: Night, lesson: Lesson, endpoint: Endpoint
) -> tuple[list[Candidate], list[Decision], list[releasing.Release], list[str]]:
    """Both branches from one frozen snapshot, in the order of the settings; then the gate, then the release.

    Beside tonight's winners the gate goes on with those that it could not decide on earlier nights.

    A branch that fails does not cost what the other found: its sentence comes last in the result, after why a branch
    was skipped and why no prompt was good enough to judge. Where nothing was found to judge, its error is raised.
    """
    steps = _Steps(night, lesson, endpoint)
    learned = () if lesson.others else turns.steps(night.config.order)
    winners, behind = _in_turn(steps, learned) if learned else _side_by_side(steps)
    winners += gating.undecided(night, lesson, winners)
    if steps.failures and not winners:
        raise next(iter(steps.failures.values()))
    decisions = gate_candidates(night, lesson, winners, endpoint)
    released = publish_best(night, winners, decisions)
    reasons = [*steps.reasons, *(f"{steps.site}: {why}" for why in behind)]
    failed = (f"{name} failed: {error}" for name, error in steps.failures.items())
    return list(steps.found.values()), decisions, released, [*reasons, *failed]


class _Steps:
    """The branches of one site as tasks: what they found, why they found nothing, and what went wrong."""

    def __init__(self, night: Night, lesson: Lesson, endpoint: Endpoint) -> None:
        self.night, self.lesson, self.endpoint = night, lesson, endpoint
        self.site = f"site {learning.called(lesson.site)}"
        self.found: dict[str, Candidate] = {}
        self.reasons: list[str] = []
        self.failures: dict[str, Exception] = {}

    def begin(self, name: str, turn: Turn) -> Any:
        """The running task, None where the branch is switched off."""
        if name == "optimize" and self.night.config.optimize.enabled:
            return optimize_prompts.submit(self.night, self.lesson, self.endpoint, turn)
        if name == "train" and self.night.config.train.enabled and not self.lesson.others:
            return train_weights.submit(self.night, self.lesson, self.endpoint, turn)
        return None

    def end(self, name: str, running: Any) -> list[Candidate]:
        try:
            candidates, skipped = ([], None) if running is None else running.result()
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it was, the other branch has its own result
            self.failures[name] = error
            return []
        self.found.update({one.candidate_id: one for one in candidates})
        if skipped is not None:
            self.reasons.append(f"{self.site}: {name} skipped: {skipped}")
        return list(candidates)


def _side_by_side(steps: _Steps) -> tuple[list[Candidate], list[str]]:
    """What enters the gate, and why a prompt does not. Weights that prompts teach wait for these."""
    night, config = steps.night, steps.night.config.train
    first = branches.first_turn(night, steps.lesson)
    waits = config.enabled and config.hand_over
    searching = steps.begin("optimize", replace(first, share=turns.share(("p", "w") if waits else ("p",))))
    training = None if waits else steps.begin("train", first)
    prompts = steps.end("optimize", searching)
    best = choosing.winner(prompts, branches.tuning_rewards(night, prompts))
    if waits:
        training = steps.begin("train", replace(first, teacher=next(iter(best), None)))
    behind = choosing.not_better(prompts)
    return [*best, *steps.end("train", training)], [] if behind is None else [behind]


def _in_turn(steps: _Steps, order: Sequence[turns.Step]) -> tuple[list[Candidate], list[str]]:
    """The one artifact that stands at the end, unless that is production's, and where a step found nothing better."""
    night, production = steps.night, steps.lesson.production
    turn = replace(branches.first_turn(night, steps.lesson), apart=True)
    behind: list[str] = []
    for place, step in enumerate(order):
        name = "optimize" if step == "p" else "train"
        found = steps.end(
            name, steps.begin(name, replace(turn, share=turns.share(order[place:]), asking=turns.asking(order[place:])))
        )
        base, why = turns.better(turn.base, found, branches.tuning_rewards(night, found))
        behind += [] if why is None else [why]
        turn = replace(turn, base=base, teacher=base if base.branch == "prompt" else None)
    return [turn.base] if turn.base.branch != production.branch else [], behind


def markdown(report: NightReport) -> str:
    """The night as a page of the orchestrator's UI."""
    lines = [
        f"# Night {report.night_id}",
        "",
        f"{report.ingested.get('spans', 0)} spans, {report.ingested.get('trajectories', 0)} trajectories taken in.",
        "",
        "| candidate | verdict | production | candidate | 95 % interval of the difference |",
        "|---|---|---|---|---|",
    ]
    for decision in report.decisions:
        figures = [decision.baseline_mean, decision.candidate_mean, decision.low, decision.high]
        shown = ["–" if value is None else f"{value:.2f}" for value in figures]
        lines.append(
            f"| {decision.candidate_id[:8]} | {decision.verdict} | {shown[0]} | {shown[1]} | {shown[2]} to {shown[3]} |"
        )
    lines += ["", *(f"- {reason}" for reason in report.left_out)]
    return "\n".join(lines)
