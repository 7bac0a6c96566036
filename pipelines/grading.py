"""Who judges a replayed answer: the first verifier that can, else the judge that people's labels calibrated."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from tracemill import rewards
from tracemill.optimize.ladder import Grade, Mark, one_by_one
from tracemill.optimize.replay import Budget, Ledger
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
    """With somebody to ask, as this night's labels calibrate it."""
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


def graders(night: Night, site: Site, endpoint: Endpoint, ledger: Ledger, *, cautious: bool) -> Graders:
    """Those of the settings that may judge replays of a site; what asking them costs is booked in `ledger`."""
    asked = judge(night, site, endpoint, ledger)
    return Graders(
        verifiers=judging.open_verifiers(night.config),
        judge=asked if asked is not None and asked.state is not None else None,
        cautious=cautious,
    )


def sealed(night: Night, site: Site, endpoint: Endpoint) -> dict[str, Grade]:
    """The sealed reward models that can judge a replayed answer, by name: for the gate only."""
    found = {name: one_by_one(verify) for name, verify in judging.sealed_verifiers(night.config).items()}
    for name in night.config.combined.sealed:
        ledger = Ledger(Budget())
        one = _judge(night, site, endpoint, ledger, [name])
        if one is not None and one.state is not None:
            found[name] = Graders(verifiers=(), judge=one, cautious=False).alone
    return found


def judge(night: Night, site: Site, endpoint: Endpoint, ledger: Ledger) -> Judge | None:
    """The first judge of the settings for this site's agent that is neither sealed nor failed in its latest report."""
    shut = night.config.combined.sealed
    return _judge(
        night, site, endpoint, ledger, [one.name for one in judging.specs(night.config) if one.name not in shut]
    )


def _judge(night: Night, site: Site, endpoint: Endpoint, ledger: Ledger, names: Sequence[str]) -> Judge | None:
    with night.lake.reader() as con:
        reports = report.latest(con)
    for settings, model in zip(night.config.rewards, _models(night), strict=True):
        if not isinstance(model, Judge) or model.name not in names or not _of(site, model):
            continue
        asked = fitting.fitted(night, asking.on(night, model, endpoint, ledger), settings)
        latest = reports.get(model.name)
        failed = latest is not None and latest["passed"] is False and latest["version"] == asked.version
        if isinstance(asked, Judge) and not failed:
            return asked
    return None


def verifiable(night: Night, site: Site) -> Callable[[Case], bool]:
    """Whether some level of `[optimize] ladder` could judge a replay of the case. Asks nobody."""
    levels = night.config.optimize.ladder
    verifiers = judging.open_verifiers(night.config)
    shut = night.config.combined.sealed
    judges = [one for one in _models(night) if isinstance(one, Judge) and one.name not in shut and _of(site, one)]
    known = night.select("SELECT DISTINCT name FROM reward_models WHERE state IS NOT NULL")["name"].to_pylist()
    calibrated = "single_step" in levels and any(model.name in known for model in judges)
    whole = "recorded" in levels or "simulated" in levels
    anything = ("pairwise" in levels and bool(judges)) or "executed" in levels

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
