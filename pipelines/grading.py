"""Who judges a replayed answer: the first verifier that can, else the judge that people's labels calibrated."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from tracemill import rewards
from tracemill.optimize.ladder import Grade, Mark, one_by_one
from tracemill.optimize.replay import Ledger
from tracemill.pipelines import asking, fitting, judging
from tracemill.pipelines.endpoint import Endpoint
from tracemill.pipelines.night import Night
from tracemill.protocols import Verifier
from tracemill.records import Case, Site
from tracemill.rewards import report
from tracemill.rewards.judge import Judge


@dataclass(frozen=True, slots=True, kw_only=True)
class Graders:
    """The reward models that judge replays of one site; nothing sealed is among them."""

    verifiers: tuple[Verifier, ...]
    judge: Judge | None
    """With somebody to ask, as this night's labels calibrate it; None where they calibrate none."""
    compares: Judge | None
    """Who is asked which of two answers is better: a calibrated judge where there is one, else the first."""
    cautious: bool
    """Lower bounds instead of values: what is to be better has to prove it."""

    def alone(self, answered: Sequence[tuple[Case, str]]) -> list[Mark]:
        """Marks of calls that were replayed alone."""
        marks = [
            judging.mark(self.verifiers, case, output, cautious=self.cautious, alone=True) for case, output in answered
        ]
        left = [place for place, one in enumerate(marks) if one.reward is None and answered[place][0].steps == 1]
        if self.judge is None or not left:
            return marks
        for place, said in zip(left, self.judge.judge_outputs([answered[place] for place in left]), strict=True):
            marks[place] = Mark(reward=said.low if self.cautious else said.value, by=signed(self.judge))
        return marks

    def can(self, case: Case) -> bool:
        """Whether one of them could judge the case replayed alone."""
        if self.judge is not None and case.steps == 1:
            return True
        said = judging.mark(self.verifiers, case, case.logged_output, cautious=False, alone=True)
        return said.reward is not None

    def final(self, answered: Sequence[tuple[Case, str]]) -> list[Mark]:
        """Marks of the last answers of whole episodes: by verifiers only."""
        return [
            judging.mark(self.verifiers, case, output, cautious=self.cautious, alone=False) for case, output in answered
        ]


def graders(
    night: Night,
    site: Site,
    endpoint: Endpoint,
    within: Ledger | None = None,
    *,
    cautious: bool,
    stage: str = "optimize",
) -> Graders:
    """Those of the settings that may judge replays of a site, in a stage.

    What asking a judge costs is booked in an account of its own (`budget_tokens`), and in the one that it is `within`.

    They judge by the labels that are there now: sides that are compared with each other need the same ones.
    """
    asked = judge(night, site, endpoint, stage=stage, within=within)
    return Graders(
        verifiers=judging.open_verifiers(night.config),
        judge=asked if asked is not None and asked.state is not None else None,
        compares=asked,
        cautious=cautious,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """The sealed reward models of a site, for the gate only."""

    grades: Mapping[str, Grade]
    """Those that can judge a replayed answer, by name."""
    silent: Mapping[str, str]
    """Why the judges that are meant for this site's agent say nothing, by name."""


def sealed(night: Night, site: Site, endpoint: Endpoint) -> Sealed:
    """The sealed reward models as the labels teach them now."""
    found = {name: one_by_one(verify) for name, verify in judging.sealed_verifiers(night.config).items()}
    silent = {}
    for one, failed in _judges(night, site, endpoint, night.config.combined.sealed, stage="gate"):
        if failed:
            silent[one.name] = "its latest report failed"
        elif one.state is None:
            silent[one.name] = f"people labelled too few episodes, it needs {one.min_labels} and 5 of either kind"
        else:
            found[one.name] = Graders(verifiers=(), judge=one, compares=one, cautious=False).alone
    return Sealed(grades=found, silent=silent)


def judge(night: Night, site: Site, endpoint: Endpoint, *, stage: str, within: Ledger | None = None) -> Judge | None:
    """The first judge of the settings for this site's agent that labels calibrated, else the first.

    None of them is sealed or failed in its latest report.
    """
    shut = night.config.combined.sealed
    names = [one.name for one in judging.specs(night.config) if one.name not in shut]
    first = None
    for one, failed in _judges(night, site, endpoint, names, stage=stage, within=within):
        if failed:
            continue
        if one.state is not None:
            return one
        first = first or one
    return first


def _judges(
    night: Night,
    site: Site,
    endpoint: Endpoint,
    names: Collection[str],
    *,
    stage: str,
    within: Ledger | None = None,
) -> Iterator[tuple[Judge, bool]]:
    """The judges of these names for the site's agent, fitted, in the order of the settings; and whether one failed."""
    with night.lake.reader() as con:
        reports = report.latest(con)
    for settings, model in zip(night.config.rewards, _models(night), strict=True):
        if not isinstance(model, Judge) or model.name not in names or not _of(site, model):
            continue
        asked = fitting.fitted(night, asking.on(night, model, endpoint, stage=stage, within=within), settings)
        latest = reports.get(model.name)
        if isinstance(asked, Judge):
            yield asked, latest is not None and latest["passed"] is False and latest["version"] == asked.version


def verifiable(night: Night, site: Site, *, chained: bool = False) -> Callable[[Case], bool]:
    """Whether some level of `[optimize] ladder` could judge a replay of the case. Asks nobody.

    `chained`: as the end of an episode of several sites, which verifiers judge whatever the ladder says.
    """
    levels = night.config.optimize.ladder
    verifiers = judging.open_verifiers(night.config)
    shut = night.config.combined.sealed
    judges = [one for one in _models(night) if isinstance(one, Judge) and one.name not in shut and _of(site, one)]
    known = night.select("SELECT DISTINCT name FROM reward_models WHERE state IS NOT NULL")["name"].to_pylist()
    calibrated = "single_step" in levels and any(model.name in known for model in judges)
    whole = "recorded" in levels or "simulated" in levels
    anything = ("pairwise" in levels and bool(judges)) or "executed" in levels
    if chained:
        calibrated, whole, anything = False, True, False

    def can(case: Case) -> bool:
        if anything or (calibrated and case.steps == 1):
            return True
        said = judging.mark(verifiers, case, case.logged_output, cautious=False, alone=not whole)
        return said.reward is not None

    return can


def signed(model: Judge) -> str:
    """Family, name and version of a judge, as `evaluations` tells them."""
    return f"{model.family}/{model.name}@{model.version}"


def _models(night: Night) -> list[object]:
    return [*rewards.build(judging.specs(night.config), root=night.config.root)]


def _of(site: Site, model: Judge) -> bool:
    return model.agent is None or fnmatchcase(site.agent_name or "", model.agent)
