"""The gate's verdicts: each one reached, for the reason it names, whatever the order of rows and what is missing."""

import random
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from tracemill import schema
from tracemill.errors import ConfigError
from tracemill.promote.evidence import ClusterPair, PriorEvidence
from tracemill.promote.gate import GatePolicy, decide
from tracemill.promote.wealth import Wealth
from tracemill.records import Artifact, Candidate, Completion, Decision, Guardrail, Outcome

PASSED = (Guardrail(name="valid_format", passed=True, baseline=1.0, candidate=1.0),)


def _candidate(text: str, branch: str = "prompt") -> Candidate:
    prompt = {"format": "tracemill.prompt/1", "model": "m", "messages": [{"role": "system", "content": [text]}]}
    return Candidate(
        branch=branch,  # type: ignore[arg-type]
        site_id="site",
        site_version="v1",
        optimizer="test",
        artifact=Artifact(prompt=prompt),
    )


NEW, OLD = _candidate("new"), _candidate("old", "production")


def _outcomes(rewards: list[float | None], *, first: int = 0, per_group: int = 1) -> list[Outcome]:
    return [
        Outcome(
            case_id=f"t{first + i}/0",
            task_group=f"g{first + i // per_group}",
            completion=Completion(text="x"),
            reward=reward,
            valid=True,
        )
        for i, reward in enumerate(rewards)
    ]


def _decide(
    candidate: list[Outcome],
    baseline: list[Outcome],
    *,
    policy: GatePolicy | None = None,
    wealth: Wealth | None = None,
    guardrails: tuple[Guardrail, ...] = PASSED,
    prior: PriorEvidence | None = None,
) -> Decision:
    return decide(
        NEW,
        OLD,
        candidate,
        baseline,
        policy=policy or GatePolicy(),
        wealth=wealth or Wealth(),
        guardrails=guardrails,
        channel="production",
        prior=prior,
    )


def _drawn(n: int, chance: float, seed: int) -> list[float | None]:
    return [float(v) for v in np.random.default_rng(seed).random(n) < chance]


def test_a_clearly_better_candidate_is_promoted_with_its_numbers() -> None:
    decision = _decide(_outcomes(_drawn(60, 0.9, 1)), _outcomes(_drawn(60, 0.2, 2)))
    assert decision.verdict == "PROMOTE"
    assert decision.n_cases == decision.n_clusters == 60
    assert decision.e_value is not None
    assert decision.e_value >= 1 / decision.alpha
    assert decision.delta is not None
    assert decision.candidate_mean is not None
    assert decision.baseline_mean is not None
    assert decision.delta == pytest.approx(decision.candidate_mean - decision.baseline_mean)
    assert decision.low is not None
    assert decision.low > 0
    assert "60 task groups" in decision.reason
    assert f"{decision.delta * 100:+.1f} points" in decision.reason


def test_the_same_evidence_in_another_order_is_the_same_decision() -> None:
    ours, theirs = _outcomes(_drawn(60, 0.6, 3), per_group=2), _outcomes(_drawn(60, 0.4, 4), per_group=2)
    shuffled = list(ours)
    random.Random(9).shuffle(shuffled)
    assert _decide(shuffled, theirs[::-1]) == _decide(ours, theirs)


def test_many_cases_of_few_groups_are_few_observations() -> None:
    ours, theirs = _outcomes([1.0] * 100, per_group=25), _outcomes([0.0] * 100, per_group=25)
    decision = _decide(ours, theirs)
    assert decision.verdict == "UNDERPOWERED"
    assert decision.n_cases == 100
    assert decision.n_clusters == 4
    assert "Only 4 task groups" in decision.reason


@pytest.mark.parametrize("passed", [False, None])
def test_a_guardrail_that_fails_or_is_unknown_blocks_even_the_best(passed: bool | None) -> None:
    rail = Guardrail(name="leaks", passed=passed, baseline=0.0, candidate=None, detail="three keys")
    decision = _decide(_outcomes([1.0] * 60), _outcomes([0.0] * 60), guardrails=(*PASSED, rail))
    assert decision.verdict == "BLOCKED"
    assert "leaks (three keys)" in decision.reason
    assert "valid_format" not in decision.reason
    assert decision.e_value is not None


def test_harm_is_rejected() -> None:
    decision = _decide(_outcomes(_drawn(60, 0.2, 5)), _outcomes(_drawn(60, 0.8, 6)))
    assert decision.verdict == "REJECT"
    assert decision.reason.startswith("Worse than the baseline")


def test_an_effect_surely_below_the_wanted_one_is_rejected() -> None:
    rewards = _drawn(600, 0.5, 7)
    decision = _decide(_outcomes(rewards), _outcomes(rewards))
    assert decision.verdict == "REJECT"
    assert "ruled out" in decision.reason
    assert decision.high is not None
    assert 0 < decision.high < 0.08


def test_too_few_groups_to_ever_show_the_wanted_effect_is_underpowered_never_a_pass() -> None:
    ours = [1.0 if i % 2 else 0.0 for i in range(20)]
    theirs = [1.0 if i % 2 == 0 else 0.0 for i in range(20)]
    decision = _decide(_outcomes([*ours]), _outcomes([*theirs]))
    assert decision.verdict == "UNDERPOWERED"
    assert "could be proven" in decision.reason


def test_a_promising_candidate_continues_and_is_promoted_on_fresh_groups() -> None:
    ours = [1.0] * 12 + [0.0] * 28 + [1.0] * 10
    theirs = [0.0] * 12 + [1.0] * 3 + [0.0] * 25 + [1.0] * 10
    first = _decide(_outcomes([*ours]), _outcomes([*theirs]))
    assert first.verdict == "CONTINUE"
    assert first.e_value is not None
    seen = {f"g{i}": ClusterPair(baseline=theirs[i], candidate=ours[i], n_cases=1) for i in range(50)}
    prior = PriorEvidence(e_value=first.e_value, clusters=seen, nights=1)
    second = _decide(_outcomes([*ours], first=50), _outcomes([*theirs], first=50), prior=prior)
    assert second.verdict == "PROMOTE"
    at_once = _decide(_outcomes(ours * 2), _outcomes(theirs * 2))
    assert second.e_value == pytest.approx(at_once.e_value)
    assert (second.delta, second.n_clusters, second.n_cases) == (pytest.approx(at_once.delta), 100, 100)


def test_groups_already_bet_on_add_nothing() -> None:
    ours, theirs = [1.0] * 14 + [0.0] * 26, [0.0] * 14 + [1.0] * 4 + [0.0] * 22
    first = _decide(_outcomes([*ours]), _outcomes([*theirs]))
    assert first.e_value is not None
    seen = {f"g{i}": ClusterPair(baseline=theirs[i], candidate=ours[i], n_cases=1) for i in range(40)}
    again = _decide(
        _outcomes([*ours]),
        _outcomes([*theirs]),
        prior=PriorEvidence(e_value=first.e_value, clusters=seen, nights=1),
    )
    assert again.e_value == first.e_value
    assert again.n_clusters == 40
    assert again.verdict != "PROMOTE"


def test_the_last_night_ends_an_unproven_candidate() -> None:
    ours, theirs = [1.0] * 14 + [0.0] * 26, [0.0] * 14 + [1.0] * 8 + [0.0] * 18
    prior = PriorEvidence(nights=4)
    decision = _decide(_outcomes([*ours]), _outcomes([*theirs]), prior=prior)
    assert decision.verdict == "REJECT"
    assert decision.reason.startswith("Not proven in 5 nights")


def test_no_scorable_case_is_underpowered_with_nothing_invented() -> None:
    decision = _decide(_outcomes([None] * 20), _outcomes([None] * 20))
    assert decision.verdict == "UNDERPOWERED"
    assert (decision.delta, decision.e_value, decision.candidate_mean, decision.n_cases) == (None, None, None, 0)
    assert _decide([], []).verdict == "UNDERPOWERED"


def test_unscored_cases_are_left_out_and_counted_never_zero() -> None:
    ours: list[float | None] = [1.0] * 50 + [None] * 5
    theirs: list[float | None] = [0.0] * 50 + [None] * 3 + [1.0] * 2
    decision = _decide(_outcomes(ours), _outcomes(theirs))
    assert decision.verdict == "PROMOTE"
    assert decision.candidate_mean == 1.0
    assert decision.n_cases == 50
    assert "5 of 55 cases unscored" in decision.reason


def test_too_many_unscored_cases_decide_nothing() -> None:
    ours: list[float | None] = [1.0] * 40 + [None] * 20
    theirs: list[float | None] = [0.0] * 40 + [None] * 20
    decision = _decide(_outcomes(ours), _outcomes(theirs))
    assert decision.verdict == "UNDERPOWERED"
    assert "20 of 60 cases" in decision.reason


def test_a_candidate_that_evades_scoring_is_blocked() -> None:
    ours: list[float | None] = [1.0] * 50 + [None] * 10
    decision = _decide(_outcomes(ours), _outcomes([0.0] * 60))
    assert decision.verdict == "BLOCKED"
    assert "nothing to score" in decision.reason


def test_a_case_on_one_side_only_counts_as_unscored() -> None:
    decision = _decide(_outcomes([1.0] * 50), _outcomes([0.0] * 54))
    assert decision.verdict == "BLOCKED"
    assert "4 of 54" in decision.reason


def test_rewards_outside_zero_and_one_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"case t1/0 has reward 3\.0"):
        _decide(_outcomes([1.0, 3.0]), _outcomes([0.0, 0.0]))


@pytest.mark.parametrize(
    "wrong", [{"alpha": 0.0}, {"min_effect": 0.2}, {"min_clusters": 1}, {"max_nights": 0}, {"level": 1.0}]
)
def test_an_impossible_policy_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="gate policy"):
        GatePolicy(**wrong)  # type: ignore[arg-type]


def test_equal_candidates_are_hardly_ever_promoted() -> None:
    promoted = sum(
        _decide(_outcomes(_drawn(60, 0.5, 2 * s)), _outcomes(_drawn(60, 0.5, 2 * s + 1))).verdict == "PROMOTE"
        for s in range(150)
    )
    assert promoted <= 3  # the first test of a life is allowed 0.05 * 0.38


# --- the budget -----------------------------------------------------------------------------------------------------


def _row(decision: Decision, *, at: int, night: str, channel: str = "production") -> dict[str, object]:
    return {
        "verdict_id": f"{night}-{decision.candidate_id}",
        "candidate_id": decision.candidate_id,
        "baseline_id": decision.baseline_id,
        "channel": channel,
        "verdict": decision.verdict,
        "e_value": decision.e_value,
        "alpha": decision.alpha,
        "night_id": night,
        "at": at,
    }


def _decision(candidate: str, verdict: str, *, e_value: float | None = 1.0, alpha: float = 0.01) -> Decision:
    return Decision(
        candidate_id=candidate,
        baseline_id="base",
        site_id="s",
        channel="production",
        verdict=verdict,  # type: ignore[arg-type]
        reason="",
        n_cases=1,
        n_clusters=1,
        baseline_mean=None,
        candidate_mean=None,
        delta=None,
        low=None,
        high=None,
        e_value=e_value,
        alpha=alpha,
    )


def test_both_branches_of_a_night_draw_on_one_budget() -> None:
    wealth = Wealth()
    first = wealth.level(0.05, "a", "base")
    wealth = wealth.after(_decision("a", "REJECT"))
    assert wealth.level(0.05, "b", "base") < first
    promoted = wealth.after(_decision("b", "PROMOTE"))
    assert promoted.level(0.05, "c", "base") > wealth.after(_decision("b", "REJECT")).level(0.05, "c", "base")


def test_a_test_keeps_its_place_while_it_continues() -> None:
    wealth = Wealth().after(_decision("a", "CONTINUE")).after(_decision("b", "REJECT"))
    assert wealth.level(0.05, "a", "base") == Wealth().level(0.05, "a", "base")
    assert wealth.after(_decision("a", "CONTINUE")) == wealth
    assert wealth.level(0.05, "a", "another base") < wealth.level(0.05, "b", "base")


def test_a_test_without_evidence_costs_nothing() -> None:
    assert Wealth().after(_decision("a", "UNDERPOWERED", e_value=None)) == Wealth()


def test_the_budget_is_read_back_from_rows_in_any_order() -> None:
    wealth, rows = Wealth(), []
    for night, verdicts in enumerate([("CONTINUE", "REJECT"), ("PROMOTE", "UNDERPOWERED"), ("BLOCKED", "CONTINUE")]):
        for branch, verdict in enumerate(verdicts):
            name = f"{night}{branch}"
            decision = _decision(name, verdict, alpha=wealth.level(0.05, name, "base"))
            wealth = wealth.after(decision)
            rows.append(_row(decision, at=10 * night + branch, night=str(night)))
    rows.append(_row(_decision("elsewhere", "PROMOTE"), at=0, night="0", channel="staging"))
    random.Random(4).shuffle(rows)
    table = pa.Table.from_pylist(rows, schema=schema.VERDICTS)
    assert Wealth.from_verdicts(table, channel="production") == wealth
    assert Wealth.from_verdicts(schema.VERDICTS.empty_table(), channel="production") == Wealth()


def test_prior_evidence_is_read_back_from_the_lake_rows() -> None:
    ours, theirs = [1.0] * 12 + [0.0] * 28 + [1.0] * 10, [0.0] * 12 + [1.0] * 3 + [0.0] * 25 + [1.0] * 10
    first = _decide(_outcomes([*ours]), _outcomes([*theirs]))
    assert first.verdict == "CONTINUE"
    verdicts = pa.Table.from_pylist([_row(first, at=1, night="n1")], schema=schema.VERDICTS)

    def evaluations(night: str, start: int) -> list[dict[str, object]]:
        return [
            {
                "evaluation_id": f"{night}{side.candidate_id}{one.case_id}",
                "candidate_id": side.candidate_id,
                "case_id": one.case_id,
                "task_group": one.task_group,
                "purpose": "gate",
                "reward": one.reward,
                "night_id": night,
            }
            for side, rewards in ((NEW, ours), (OLD, theirs))
            for one in _outcomes([*rewards], first=start)
        ]

    table = pa.Table.from_pylist(evaluations("n1", 0) + evaluations("n2", 50), schema=schema.EVALUATIONS)
    prior = PriorEvidence.from_rows(
        verdicts, table, candidate_id=NEW.candidate_id, baseline_id=OLD.candidate_id, channel="production"
    )
    assert prior is not None
    assert len(prior.clusters) == 50
    assert prior.nights == 1
    second = _decide(_outcomes([*ours], first=50), _outcomes([*theirs], first=50), prior=prior)
    assert second.e_value == pytest.approx(_decide(_outcomes(ours * 2), _outcomes(theirs * 2)).e_value)
    other = replace(OLD, site_id="other").candidate_id
    assert (
        PriorEvidence.from_rows(verdicts, table, candidate_id=NEW.candidate_id, baseline_id=other, channel="production")
        is None
    )
