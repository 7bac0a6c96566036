"""The prompt branch over several sites of one system: one search, one account, one candidate."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tracemill.optimize import choosing, headroom, portfolio
from tracemill.optimize import jointly as searching
from tracemill.optimize.ladder import Chained, Ladder
from tracemill.optimize.replay import Ledger
from tracemill.pipelines import grading, laddering, learning, replaying, studying, systems
from tracemill.pipelines.endpoint import Endpoint
from tracemill.pipelines.learning import Lesson
from tracemill.pipelines.night import Night
from tracemill.protocols import Optimizer
from tracemill.records import Artifact, Candidate, Case, Outcome
from tracemill.study import Study

Held = Mapping[str, Artifact]
"""By site_id, what the sites run."""


def search(
    lesson: Lesson,
    endpoint: Endpoint,
    ledger: Ledger,
    recording: replaying.Recording,
    optimizers: Sequence[Optimizer],
    *,
    written: bool,
) -> tuple[list[Candidate], Mapping[str, Any]]:
    """Candidates with the prompts of all the lesson's sites, production's first, and what the search cost.

    `written`: a model is there that writes prompts.
    """
    night, settings = recording.night, recording.night.config.optimize
    start = replaying.on_endpoint(endpoint, lesson.production.artifact)
    production = replace(lesson.production, artifact=start)
    level = systems.level(
        night, lesson, endpoint, ledger, grading.graders(night, lesson.site, endpoint, ledger, cautious=True)
    )
    trying = _Trying(recording, level, production, ledger)
    of = {one.site.site_id: one for one in _by_value(night, (lesson, *lesson.others))}
    system = searching.System(
        production=production,
        studies={site_id: trying.study(one, start.apart[site_id]) for site_id, one in of.items()},
        tune=lesson.tune,
        replay=lambda artifact, cases: trying.whole(start.apart, artifact, cases),
    )
    if settings.headroom:
        wanted = night.config.gate.wanted_effect
        # Other prompts that cost nothing to write are tried at no site: together they may do what none does alone.
        study = system.studies[lesson.site.site_id](start.apart)
        room = headroom.measure(study, wanted=wanted, seed=night.config.seed, written=True)
        if not room.worth(wanted):
            return [], {"status": "skipped", "skipped": room.sentence(wanted), "calls": ledger.spent.calls}
    failed: dict[str, str] = {}

    def heard(candidate: Candidate) -> None:
        replaying.write_candidate(night, candidate, snapshot=lesson.snapshot)
        night.tell(
            "optimize", f"{candidate.optimizer}: {candidate.tune_score or 0.0:.2f} on {candidate.tune_n} episodes"
        )

    found = searching.run(
        system,
        optimizers,
        ledger=ledger,
        on_candidate=heard,
        on_error=lambda name, error: failed.update({name: f"{type(error).__name__}: {error}"}),
        backing=portfolio.Backing(line=settings.min_users, demonstration=settings.min_demonstration_users),
        rounds=settings.joint_rounds,
        seed=night.config.seed,
    )
    spent = ledger.spent
    detail: dict[str, Any] = {"candidates": len(found.candidates), "calls": spent.calls, "cached": spent.cached}
    detail.update(usd=spent.usd, jointly=[learning.called(one.site) for one in of.values()])
    detail.update(rounds=found.rounds, calls_by_site=found.calls, ended=found.ended)
    if failed:
        detail["failed"] = failed
    behind = choosing.not_better(found.candidates)
    if behind is not None:
        detail["left_out"] = behind
    return found.candidates, detail


def _by_value(night: Night, lessons: Sequence[Lesson]) -> list[Lesson]:
    """Most to be gained for what a call costs first, as sites are chosen for a night."""
    rooms = learning.headrooms(night)
    return sorted(lessons, key=lambda one: (-learning.worth(one.site, one.learn, rooms), one.site.site_id))


class _Trying:
    """Tries prompts on whole episodes, and records what came of it as what it was: of all sites' prompts together."""

    def __init__(self, recording: replaying.Recording, level: Chained, production: Candidate, ledger: Ledger) -> None:
        self._recording, self._level, self._production, self._ledger = recording, level, production, ledger

    def study(self, lesson: Lesson, start: Artifact) -> Callable[[Held], Study]:
        """The study of a site, by what the others run beside it."""
        night = self._recording.night
        lint = laddering.linted(night, lesson, start)

        def of(held: Held) -> Study:
            ladder = Ladder([replace(self._level, held=held)], lint=lint)
            return studying.study(
                night, lesson, start, lambda artifact, cases: self._record(ladder, held, artifact, cases)
            )

        return of

    def whole(self, held: Held, artifact: Artifact, cases: Sequence[Case]) -> list[Outcome]:
        """What came of prompts for all sites."""
        return self._record(Ladder([self._level]), held, artifact, cases)

    def _record(self, ladder: Ladder, held: Held, artifact: Artifact, cases: Sequence[Case]) -> list[Outcome]:
        ends = {case.trajectory_id: self._level.ends[case.trajectory_id] for case in cases}
        outcomes = ladder(artifact, [*cases, *ends.values()])
        running = {**held, **artifact.apart}
        first = self._production.site_id
        others = {site_id: one.prompt for site_id, one in running.items() if site_id != first}
        tried = replace(running[first], others=others)
        branch = self._production.branch if tried == self._production.artifact else "prompt"
        name = replace(self._production, branch=branch, artifact=tried).candidate_id
        self._recording.add(name, outcomes[len(cases) :])
        night = self._recording.night
        night.tell("optimize", "model calls", self._ledger.spent.calls, night.config.optimize.max_calls)
        return outcomes[: len(cases)]
