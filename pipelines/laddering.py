"""The ladder of a night: which levels try a prompt of a site, on one cache and one account, and how each is judged."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

from tracemill.errors import ConfigError
from tracemill.mining import episodes as mined_episodes
from tracemill.optimize.ladder import (
    Closes,
    Executed,
    Ladder,
    Level,
    Lint,
    Mark,
    Pairwise,
    Recorded,
    Simulated,
    SingleStep,
)
from tracemill.optimize.ladder.recorded import final_case
from tracemill.optimize.lint import TokenCount
from tracemill.optimize.replay import Budget, Ledger
from tracemill.pipelines import grading, replaying, rungs, systems
from tracemill.pipelines.config import Rung
from tracemill.pipelines.endpoint import Endpoint, capable
from tracemill.pipelines.learning import Lesson, read_once
from tracemill.pipelines.night import Night
from tracemill.protocols import ChatModel, Environment
from tracemill.records import Artifact, Case, Episode, Outcome
from tracemill.rewards.judge import Judge
from tracemill.rewards.llm.pairs import won
from tracemill.rewards.python_callable import named
from tracemill.train import models

_NO_EVIDENCE = ("lint", "simulated")


@dataclass(frozen=True, slots=True, kw_only=True)
class Climb:
    """An `Evaluate` and the account that all its levels and judges draw on."""

    ladder: Ladder
    ledger: Ledger
    graders: grading.Graders

    def __call__(self, artifact: Artifact, cases: Sequence[Case]) -> list[Outcome]:
        return self.ladder(artifact, cases)


def for_tuning(
    night: Night, lesson: Lesson, endpoint: Endpoint, start: Artifact, ledger: Ledger | None = None
) -> Climb:
    """All levels of `[optimize] ladder` within its budget; `start` is the prompt that candidates begin with.

    `ledger`: an account that others draw on, too; by default a new one.
    """
    ledger = ledger or Ledger(replaying.budget(night))
    graders = grading.graders(night, lesson.site, endpoint, ledger, cautious=True)
    levels = _levels(night, lesson, endpoint, ledger, graders)
    return Climb(ladder=Ladder(levels, lint=linted(night, lesson, start)), ledger=ledger, graders=graders)


def linted(night: Night, lesson: Lesson, start: Artifact) -> Lint | None:
    """The level that looks at prompts alone, for those that begin with `start`; None where it is not wanted."""
    if "lint" not in night.config.optimize.ladder:
        return None
    return Lint(baseline=start, logged=lesson.learn, count=_tokens(night))


def for_the_gate(night: Night, lesson: Lesson, endpoint: Endpoint, graders: grading.Graders) -> Climb:
    """The levels whose outcomes are evidence; a single call where none of those is wanted for tuning."""
    ledger = Ledger(Budget())
    if lesson.others:
        chained = systems.level(night, lesson, endpoint, ledger, graders)
        return Climb(ladder=Ladder([chained]), ledger=ledger, graders=graders)
    settings = replace(night.config.optimize, ladder=_deciding(night))
    deciding = replace(night, config=replace(night.config, optimize=settings))
    return Climb(ladder=Ladder(_levels(deciding, lesson, endpoint, ledger, graders)), ledger=ledger, graders=graders)


def _deciding(night: Night) -> tuple[Rung, ...]:
    return tuple(name for name in night.config.optimize.ladder if name not in _NO_EVIDENCE) or ("single_step",)


def logged(night: Night, lesson: Lesson, cases: Sequence[Case], graders: grading.Graders) -> list[Outcome]:
    """What production logged, judged as the first level of the ladder would judge a replay of the case.

    Of an episode that is replayed as a whole that is its last answer, with what all its calls at the site took. A
    logged answer against itself wins half. Outcomes come in the order of the cases.
    """
    if lesson.others:
        return systems.logged(night, lesson, cases, graders)
    levels = _deciding(night)
    whole = {"recorded", "executed"} & {*levels}
    episodes = _episodes(night, lesson)(cases) if whole else {}
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault(_judged(case, levels, episodes, graders), []).append(case)
    found = replaying.as_logged(groups.pop("alone", ()), night, graders.alone)
    if paired := groups.pop("paired", ()):
        even = Mark(reward=0.5, by=grading.signed(_compares(graders)))
        found += replaying.as_logged(paired, night, lambda answered: [even] * len(answered))
    ended = groups.pop("whole", ())
    found += replaying.as_logged(
        [final_case(case, episodes[case.trajectory_id]) for case in ended],
        night,
        graders.final,
        steps={case.case_id: [call.step for call in episodes[case.trajectory_id].calls] for case in ended},
    )
    of = {one.case_id: one for one in found}
    return [of[case.case_id] for case in cases]


def _judged(
    case: Case, levels: Sequence[Rung], episodes: Mapping[str, Episode], graders: grading.Graders
) -> Literal["alone", "paired", "whole"]:
    """What replays of the case are judged as: one call, one answer of two, or the end of its episode."""
    for level in levels:
        if level == "pairwise":
            return "paired"
        if level == "single_step" and (level == levels[-1] or graders.can(case)):
            return "alone"
        if level == "recorded" and case.trajectory_id in episodes:
            return "whole"
        if level == "executed":
            return "whole" if case.steps > 1 and case.trajectory_id in episodes else "alone"
    return "alone"


def _compares(graders: grading.Graders) -> Judge:
    if graders.compares is None:
        raise ConfigError(rungs.NO_JUDGE)
    return graders.compares


def _levels(night: Night, lesson: Lesson, endpoint: Endpoint, ledger: Ledger, graders: grading.Graders) -> list[Level]:
    settings, seed, valid = night.config.optimize, night.config.seed, replaying.validity(night)
    model = replaying.cached(night, endpoint.chat, ledger)
    episodes = _episodes(night, lesson)

    def single_step() -> Level:
        last = settings.ladder[-1] == "single_step"
        return SingleStep(model=model, grade=graders.alone, valid=valid, seed=seed, worth=None if last else graders.can)

    def pairwise() -> Level:
        judge = _compares(graders)
        return Pairwise(
            model=model, won=lambda pairs: won(judge, pairs), by=grading.signed(judge), valid=valid, seed=seed
        )

    def recorded() -> Level:
        tools = frozenset(settings.read_only_tools)
        return Recorded(model=model, episodes=episodes, grade=graders.final, valid=valid, read_only=tools, seed=seed)

    def executed() -> Level:
        environment, options = night.config.environment, dict(night.config.environment.options)
        if environment.make is None:
            raise ConfigError(rungs.NO_ENVIRONMENT)
        where = f"[environment] make = {environment.make!r}"
        _, make = named(environment.make, night.config.root, where)
        try:
            made: Environment = make(**options)
        except Exception as error:
            raise ConfigError(f"{where} with {options}: {type(error).__name__}: {error}") from error
        if isinstance(made, Closes):  # only to see early whether the options are right; each episode has its own
            with suppress(Exception):  # some cannot be closed before they are begun
                made.close()
        return Executed(
            model=model,
            make=lambda: make(**options),
            by=environment.make,
            valid=valid,
            max_steps=environment.max_steps,
            seed=seed,
        )

    def simulated() -> Level:
        player, name = _player(night, endpoint, ledger)
        return Simulated(
            model=model,
            player=player,
            player_name=name,
            episodes=episodes,
            grade=graders.final,
            valid=valid,
            seed=seed,
        )

    makers: Mapping[str, Callable[[], Level]] = {
        "single_step": single_step,
        "pairwise": pairwise,
        "recorded": recorded,
        "executed": executed,
        "simulated": simulated,
    }
    return [makers[name]() for name in settings.ladder if name != "lint"]


def _episodes(night: Night, lesson: Lesson) -> Callable[[Sequence[Case]], Mapping[str, Episode]]:
    """Episodes as the lesson's snapshot has them. Each is read once."""
    return read_once(night, lesson, lambda con, names: mined_episodes.load(con, lesson.site, names))


def _player(night: Night, endpoint: Endpoint, ledger: Ledger) -> tuple[ChatModel, str]:
    """Who plays tools and users: the model that writes prompts, else the endpoint's own."""
    name = night.config.optimize.reflection_model
    if name is not None:
        return replaying.cached(night, capable(night, name), ledger), name
    if endpoint.model is None:
        raise ConfigError(rungs.NO_PLAYER)
    return replaying.cached(night, endpoint.chat, ledger), endpoint.model


def _tokens(night: Night) -> TokenCount | None:
    """Tokens by the tokenizer of the local model; None where the model is somebody else's."""
    settings = night.config.endpoint
    if settings.base_url is not None or settings.local is None:
        return None
    folder = models.resolve(night.config.model(settings.local), night.config.work_path / "models")

    @cache
    def tokenizer() -> Any:
        from transformers import AutoTokenizer  # takes seconds, and only a long prompt is counted

        return AutoTokenizer.from_pretrained(folder)

    return lambda text: len(tokenizer().encode(text))
