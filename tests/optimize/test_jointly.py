"""Sites improved together: pairs that pay only as pairs, one account, and one candidate with all their prompts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from test_chained import RUNS, Model, case_of, chained, pair

from tracemill.errors import BudgetError, ConfigError
from tracemill.optimize import choosing, portfolio
from tracemill.optimize.artifact import with_instructions
from tracemill.optimize.jointly import Found, System, joined, run
from tracemill.optimize.ladder import Chained
from tracemill.optimize.replay import Budget, CachedModel, Ledger
from tracemill.optimize.search import candidate, tuned
from tracemill.records import Artifact, Candidate, Site, Support, Template
from tracemill.study import Study

CHAINS = [pair(number) for number in range(24)]
ENDS = [case_of(one) for one in CHAINS]
PRODUCTION = Candidate(
    branch="production",
    site_id="writer",
    site_version="v",
    optimizer="production",
    artifact=replace(RUNS["writer"], others={"planner": RUNS["planner"].prompt}),
)
LINES = {
    "planner": ["Be kind.", "Begin with a tag.", "Be short."],
    "writer": ["Be kind.", "Obey the tag.", "Be short."],
}
"""What is proposed. Only a tag that is obeyed gains anything; each alone gains nothing."""


@dataclass(frozen=True)
class Proposing:
    """Tries one line after the other below production's prompt."""

    name: str = "proposing"

    def search(self, study: Study) -> Iterator[Candidate]:
        for line in LINES[study.site.site_id]:
            artifact = with_instructions(study.baseline, f"You are the {study.site.site_id}.\n{line}")
            yield candidate(study, self.name, artifact, tuned(study, artifact), [study.train[0].trajectory_id])


def toy(alone: float = 0.25) -> Model:
    """Right where planner and writer agree on tags; else for some parcels."""

    def plan(request: Any) -> str:
        said = "TAG: look it up, then say where" if "tag" in request.messages[0]["content"] else "look it up and say"
        return f"{said} {request.messages[1]['content'][-2:]}"

    def write(request: Any) -> str:
        system, user = (message["content"] for message in request.messages)
        right = "TAG" in user if "Obey" in system else int(user[-2:]) % 4 < alone * 4
        return "in a depot" if right and ("TAG" not in user or "Obey" in system) else "who knows"

    return Model(planner=plan, writer=write)


def system_of(level: Chained) -> System:
    def study(site_id: str, held: Mapping[str, Artifact]) -> Study:
        step = 0 if site_id == "planner" else 1
        own = [case_of(one, step) for one in CHAINS]
        site = Site(
            site_id=site_id, site_version="v", agent_name=site_id, model="m", template=Template(messages=()), n_calls=9
        )
        return Study(
            site=site,
            baseline=RUNS[site_id],
            train=tuple(own[:8]),
            tune=tuple(own[8:]),
            replay=replace(level, held=held),
        )

    return System(
        production=PRODUCTION,
        studies={name: lambda held, name=name: study(name, held) for name in ("planner", "writer")},  # type: ignore[misc]
        tune=tuple(ENDS[8:]),
        replay=level,
    )


def searched(
    calls: int | None = None, model: Model | None = None, **more: Any
) -> tuple[Found, Ledger, list[Candidate]]:
    ledger, heard = Ledger(Budget(calls=calls)), list[Candidate]()
    level = chained(model or toy(), CHAINS)
    level = replace(level, model=CachedModel(model or toy(), level.model._cache, ledger, now_ns=1))  # type: ignore[attr-defined]
    return run(system_of(level), [Proposing()], ledger=ledger, on_candidate=heard.append, **more), ledger, heard


def test_a_pair_is_found_of_which_neither_gains_anything_alone() -> None:
    found, _, heard = searched()
    production, *others = found.candidates
    assert (production.branch, production.tune_score) == ("production", 0.25)
    assert heard == found.candidates
    (best,) = choosing.winner(found.candidates)
    assert best.tune_score == 1.0
    parts = best.artifact.apart
    assert {site: one.prompt["messages"][0]["content"][0] for site, one in parts.items()} == {
        "writer": "You are the writer.\nObey the tag.",
        "planner": "You are the planner.\nBegin with a tag.",
    }
    alone = [one for one in others if sum(a != RUNS[s] for s, a in one.artifact.apart.items()) == 1]
    assert len(alone) >= 6
    assert max(one.tune_score or 0.0 for one in alone) == 0.25, "no site alone was better"
    assert [(one.text, one.site_id) for one in best.support] == [
        ("Obey the tag.", "writer"),
        ("Begin with a tag.", "planner"),
    ]
    assert (best.site_id, best.parent_id, best.lineage) == ("writer", PRODUCTION.candidate_id, ("t0",))
    assert found.rounds == 2, "the second round found nothing better"


def test_two_searches_are_the_same_and_what_was_paid_for_is_not_paid_for_again() -> None:
    (one, first, _), (two, second, _) = searched(), searched()
    assert [c.candidate_id for c in one.candidates] == [c.candidate_id for c in two.candidates]
    assert first.spent.calls == second.spent.calls
    assert one.calls["planner"] + one.calls["writer"] + one.calls["together"] <= first.spent.calls


@pytest.mark.parametrize("calls", [32, 40, 60, 100, 200, 400])
def test_no_budget_is_ever_exceeded_and_what_was_found_until_then_is_kept(calls: int) -> None:
    model = toy()
    found, ledger, heard = searched(calls, model)
    assert len(model.sent) == ledger.spent.calls <= calls
    assert heard == found.candidates
    assert found.candidates[0].tune_score == 0.25


def test_without_enough_for_production_itself_nothing_is_searched() -> None:
    with pytest.raises(BudgetError):
        searched(31)


def test_what_too_few_users_stand_behind_is_in_no_combination() -> None:
    found, _, _ = searched(backing=portfolio.Backing(line=2))
    assert [one.branch for one in found.candidates] == ["production"]


def test_prompts_of_several_sites_are_one_candidate_and_one_site_is_as_ever() -> None:
    assert PRODUCTION.artifact.apart == {"writer": RUNS["writer"], "planner": RUNS["planner"]}
    assert Artifact.from_json(PRODUCTION.artifact.to_json()) == PRODUCTION.artifact
    assert "others" not in RUNS["writer"].to_json(), "ids of candidates of one site are what they were"
    new = replace(
        PRODUCTION, site_id="planner", branch="prompt", artifact=with_instructions(RUNS["planner"], "Plan well."),
        support=(Support(text="Plan well.", trajectories=("t1",), n_users=3),), lineage=("t1",),
    )  # fmt: skip
    one = joined(PRODUCTION, {"planner": new}, (0.5, 4))
    assert one.artifact.others["planner"] == new.artifact.prompt
    assert one.artifact.prompt == RUNS["writer"].prompt
    assert one.support[0].site_id == "planner"
    assert joined(PRODUCTION, {}, (0.5, 4)) == replace(PRODUCTION, tune_score=0.5, tune_n=4)
    two = joined(PRODUCTION, {"planner": new, "writer": replace(new, artifact=with_instructions(RUNS["writer"], "W"))})
    changed = [choosing.changed_chars(PRODUCTION.artifact, of.artifact) for of in (one, two)]
    assert 0 < changed[0] < changed[1], "the change of all prompts counts"


def test_a_gate_case_is_refused_at_every_site() -> None:
    level = chained(toy(), CHAINS)
    gate = replace(ENDS[0], pool="gate")
    with pytest.raises(ConfigError, match="gate pool"):
        replace(system_of(level), tune=(gate,))
