"""score, mine, optimize, train, gate, nightly: one stage by hand, or the whole night."""

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from tracemill.app import project, ready
from tracemill.app.commands import clusters, findings
from tracemill.app.output import INTERRUPTED, Output
from tracemill.errors import ConfigError, MissingExtraError
from tracemill.pipelines import branches, finding, gating, judging, learning, releasing, replaying, systems
from tracemill.pipelines.config import Config
from tracemill.pipelines.endpoint import open_endpoint
from tracemill.pipelines.learning import Lesson
from tracemill.pipelines.night import Night, only_one
from tracemill.records import Candidate, Decision


def score(given: Path | None, *, as_json: bool, dry_run: bool) -> None:
    output = Output(as_json=as_json)
    with project.opened(given, output) as night:
        if dry_run:
            models = [reward.name or reward.kind for reward in night.config.rewards]
            output.result({"reward_models": models}, "would score with: " + ", ".join(models))
            return
        written = judging.score(night)
    output.result(written, "\n".join(f"{name}: {count} new scores" for name, count in written.items()))


def mine(given: Path | None, *, as_json: bool, dry_run: bool) -> None:
    output = Output(as_json=as_json)
    with project.opened(given, output) as night:
        if dry_run:
            output.result(
                {"stage": "mine"},
                "would recover the call sites of calls that have none yet, and look for what goes with failure",
            )
            return
        found = judging.mine(night)
        patterns = finding.find(night)
        alike = clusters.data(night)
    data = {**found, **finding.counts(patterns), **findings.data(patterns), **alike}
    output.result(data, Group(Text(_mined(found)), Text(), findings.report(patterns), clusters.report(alike)))


def _mined(found: Mapping[str, int]) -> str:
    if not found["assigned"]:
        return "every call that belongs to a call site has one already"
    return f"{found['assigned']} calls assigned; {found['sites']} call sites are new or changed"


def _lessons(night: Night, site: str | None, output: Output) -> list[Lesson]:
    lessons, left_out = learning.choose(night, site)
    for reason in left_out:
        output.remark(f"left out: {reason}")
    if not lessons:
        raise ConfigError("no site to learn from; `tracemill doctor` says what is missing")
    return lessons


def _system(night: Night, sites: Sequence[str], output: Output) -> Lesson:
    lesson, left_out = systems.choose(night, sites)
    for reason in left_out:
        output.remark(f"left out: {reason}")
    return lesson


def _plan(lessons: list[Lesson], config: Config) -> dict[str, Any]:
    return {
        "sites": [
            {
                "site_id": lesson.site.site_id,
                "agent": lesson.site.agent_name,
                "train_cases": len(lesson.train),
                "tune_cases": len(lesson.tune),
                "snapshot": lesson.snapshot,
            }
            for one in lessons
            for lesson in (one, *one.others)
        ],
        "optimizers": list(config.optimize.optimizers) if config.optimize.enabled else [],
        "budget_calls": config.optimize.max_calls,
        "trainer": config.train.trainer if config.train.enabled and config.train.base_model else None,
    }


def _plan_text(plan: Mapping[str, Any]) -> str:
    lines = [
        f"would learn at site {site['site_id'][:8]} ({site['agent'] or 'agent without a name'}): "
        f"{site['train_cases']} train and {site['tune_cases']} tuning cases, snapshot {site['snapshot']}"
        for site in plan["sites"]
    ]
    if not plan["sites"]:
        return "would learn nothing: no site has enough judged cases"
    lines.append(f"prompt branch: {', '.join(plan['optimizers']) or 'off'}; at most {plan['budget_calls']} calls")
    lines.append(f"weights branch: {plan['trainer'] or 'off'}")
    return "\n".join(lines)


def optimize(given: Path | None, sites: Sequence[str], *, jointly: bool, as_json: bool, dry_run: bool) -> None:
    output = Output(as_json=as_json)
    with project.opened(given, output) as night:
        ready.prompt_branch(night.config)
        if jointly:
            lessons = [_system(night, sites or night.config.optimize.jointly, output)]
        else:
            lessons = [one for site in sites or (None,) for one in _lessons(night, site, output)]
        if dry_run:
            plan = _plan(lessons, night.config)
            output.result(plan, _plan_text(plan))
            return
        with open_endpoint(night) as endpoint:
            results = [branches.search_prompts(night, lesson, endpoint) for lesson in lessons]
    found = [one for candidates, _ in results for one in candidates]
    skipped = [str(detail["skipped"]) for _, detail in results if "skipped" in detail]
    failed = {name: why for _, detail in results for name, why in detail.get("failed", {}).items()}
    for reason in (*skipped, *(f"{name} failed: {why}" for name, why in failed.items())):
        output.remark(reason)
    output.result(
        {"candidates": [_row(one) for one in found], "skipped": skipped, "failed": failed}, candidates_table(found)
    )


def train(given: Path | None, site: str | None, *, as_json: bool, dry_run: bool) -> None:
    output = Output(as_json=as_json)
    with project.opened(given, output) as night:
        lessons = _lessons(night, site, output)
        if dry_run:
            plan = _plan(lessons, night.config)
            output.result(plan, _plan_text(plan))
            return
        with open_endpoint(night) as endpoint:
            results = [
                branches.train_weights(night, one, replaying.on_endpoint(endpoint, one.production.artifact))
                for one in lessons
            ]
    found = [candidate for candidate, _ in results if candidate is not None]
    reasons = [str(detail["skipped"]) for candidate, detail in results if candidate is None]
    output.result(
        {"candidates": [_row(one) for one in found], "skipped": reasons},
        candidates_table(found) if found else "\n".join(reasons),
    )


def gate(given: Path | None, candidate: str, *, as_json: bool, dry_run: bool) -> None:
    output = Output(as_json=as_json)
    with project.opened(given, output) as night:
        found = releasing.find_candidate(night, candidate)
        if found.artifact.others:
            lesson = _system(night, [found.site_id, *found.artifact.others], output)
        else:
            lesson = _lessons(night, found.site_id, output)[0]
        cases = gating.gate_cases(night, lesson, [found])
        if dry_run:
            groups = len({case.task_group for case in cases})
            output.result(
                {"cases": len(cases), "clusters": groups},
                f"would judge {found.candidate_id[:8]} against production on {len(cases)} cases in {groups} groups",
            )
            return
        with open_endpoint(night) as endpoint:
            decisions = gating.judge(night, lesson, [found], endpoint)
    output.result({"decisions": [asdict(one) for one in decisions]}, decisions_text(decisions))


def nightly(given: Path | None, *, as_json: bool, dry_run: bool) -> None:
    output = Output(as_json=as_json)
    with project.opened(given, output) as night:
        ready.demand(night.config)
        if dry_run:
            lessons, left_out = systems.tonight(night)
            plan = _plan(lessons, night.config) | {"left_out": left_out}
            output.result(plan, "\n".join([_plan_text(plan), *(f"left out: {reason}" for reason in left_out)]))
            return
        report = run_flow(night)
    for reason in report.left_out:
        output.remark(f"left out: {reason}")
    decisions = list(report.decisions)
    output.result(
        {
            "night_id": report.night_id,
            "ingested": dict(report.ingested),
            "scored": dict(report.scored),
            "mined": dict(report.mined),
            "left_out": list(report.left_out),
            "candidates": [_row(one) for one in report.candidates],
            "decisions": [asdict(one) for one in decisions],
            "releases": [asdict(one) for one in report.releases],
        },
        decisions_text(decisions) if decisions else "no candidate reached the gate",
    )
    for release in report.releases:
        if not as_json:
            output.stdout.print(f"{release.channel} now serves bundle {release.bundle_id[:12]}")


def run_flow(night: Night) -> Any:
    """The nightly flow in this process, on an orchestrator that stays on this machine and tells nobody."""
    with only_one(night.config):
        pass  # refused before an orchestrator is started; whoever comes in between is refused by the flow
    quiet_orchestrator(night.config, log_level="CRITICAL")  # what goes wrong is told once, by the command line
    try:
        from tracemill.pipelines import flows
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] == "prefect":
            raise MissingExtraError("flows", "tracemill nightly") from error
        raise
    with leave_at_once():
        return flows.nightly(night)


@contextmanager
def leave_at_once() -> Iterator[None]:
    """Ctrl-C ends the process then and there, with its orchestrator. So does SIGTERM, outside of a flow run: within
    one, Prefect takes that signal for itself and waits for what is under way.

    An orderly end would wait for both branches, and for an orchestrator that the same Ctrl-C has stopped. Nothing is
    lost by it: the lake survives a kill at any moment, replays are kept by the chunk, training by the checkpoint, and
    model server and trainer end with the process that started them.
    """

    def leave(number: int, _: FrameType | None) -> None:
        os.write(2, INTERRUPTED.encode())
        from prefect.server.api.server import SubprocessASGIServer

        for server in list(SubprocessASGIServer._instances.values()):
            if server.server_process is not None:
                # Its database survives that; a graceful end would write of the requests that it leaves open.
                server.server_process.kill()
        os._exit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def quiet_orchestrator(config: Config, *, log_level: str) -> None:
    """Prefect's own settings, before it is imported: no telemetry, its database beside the lake."""
    quiet = {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_LOGGING_LEVEL": log_level,
        "PREFECT_HOME": str(config.path(".tracemill/prefect")),
    }
    for name, value in quiet.items():
        os.environ.setdefault(name, value)


def _row(candidate: Candidate) -> dict[str, Any]:
    return {
        "candidate_id": candidate.candidate_id,
        "branch": candidate.branch,
        "site_id": candidate.site_id,
        "optimizer": candidate.optimizer,
        "tune_score": candidate.tune_score,
        "tune_n": candidate.tune_n,
    }


def candidates_table(found: list[Candidate]) -> RichTable | str:
    if not found:
        return "no candidate was found"
    table = RichTable(show_edge=False, header_style="bold")
    for name in ("candidate", "branch", "optimizer"):
        table.add_column(name)
    table.add_column("on tuning cases", justify="right")
    for one in found:
        score = "–" if one.tune_score is None else f"{one.tune_score:.2f} (n = {one.tune_n})"
        table.add_row(one.candidate_id[:8], one.branch, one.optimizer, score)
    return table


def decisions_text(decisions: Sequence[Decision]) -> Group:
    """One paragraph per verdict: figures first, then why."""
    styles = {"PROMOTE": "bold green", "BLOCKED": "bold red", "REJECT": "bold red"}
    paragraphs = []
    for one in decisions:
        interval = "" if one.delta is None else f", {one.delta:+.2f} ({one.low:+.2f} to {one.high:+.2f})"
        figures = f"production {_figure(one.baseline_mean)}, candidate {_figure(one.candidate_mean)}{interval}"
        paragraphs.append(
            Text.assemble(
                (one.verdict, styles.get(one.verdict, "bold yellow")),
                f"  {one.candidate_id[:8]}: {figures}\n  {one.reason}",
            )
        )
    return Group(*paragraphs)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
