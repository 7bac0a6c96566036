"""The label model: planted judges are recovered, correlated ones count once, and it refuses what it cannot know."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracemill.agreement import auc, ece
from tracemill.rewards import label_model
from tracemill.rewards.combined import LOW, combination
from tracemill.schema import SCORES


def planted(
    accuracies: list[float], *, n: int = 4000, labels: int = 150, seed: int = 0, answers: float = 1.0
) -> tuple[label_model.Votes, Any]:
    """Judges that are right independently of each other, each with its own accuracy; and the truth."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(size=n) < 0.6
    votes = np.column_stack([np.where(rng.uniform(size=n) < a, truth, ~truth).astype(float) for a in accuracies])
    votes[rng.uniform(size=votes.shape) > answers] = np.nan
    known = np.where(np.arange(n) < labels, truth.astype(float), np.nan)
    return label_model.Votes(
        families=tuple(f"f{k}" for k in range(len(accuracies))),
        votes=votes,
        truth=known,
        people=~np.isnan(known),
        weight=np.ones(n),
        influence=np.ones(n),
        block=rng.integers(0, label_model.BLOCKS, n),
    ), truth


@pytest.mark.parametrize("labels", [0, 150])
def test_planted_accuracies_are_recovered_with_and_without_labels(labels: int) -> None:
    accuracies = [0.9, 0.75, 0.65]
    votes, truth = planted(accuracies, labels=labels)
    found = label_model.judge(votes, epsilon=1.0)
    for name, accuracy in zip(votes.families, accuracies, strict=True):
        good, bad = found.accuracy[name]
        assert (good + bad) / 2 == pytest.approx(accuracy, abs=0.06)
    assert auc(found.value, truth) > max(auc(votes.votes[:, k], truth) for k in range(3))
    assert ece(found.value, truth) < (0.06 if labels else 0.12)
    assert found.n_labels == labels


def test_a_judge_that_is_wrong_more_often_than_right_is_found_out_by_labels() -> None:
    votes, truth = planted([0.85, 0.8, 0.25], labels=400)
    found = label_model.judge(votes, epsilon=1.0)
    good, bad = found.accuracy["f2"]
    assert (good + bad) / 2 < 0.4
    assert auc(found.value, truth) > 0.88


def test_labelled_ones_get_a_value_that_did_not_see_their_label() -> None:
    votes, _ = planted([0.5, 0.5, 0.5], n=600, labels=600)
    found = label_model.judge(votes, epsilon=1.0)
    assert auc(found.held_out, votes.truth) == pytest.approx(0.5, abs=0.08), "noise stays noise"
    assert np.isnan(label_model.judge(planted([0.8, 0.8])[0]).held_out[150:]).all()


def test_more_labels_make_it_surer_and_judges_of_whom_nothing_is_known_do_not() -> None:
    spread = [
        float(np.mean(label_model.judge(planted([0.85, 0.8, 0.75], labels=n)[0], epsilon=1.0).std))
        for n in (0, 60, 1000)
    ]
    assert spread == sorted(spread, reverse=True)
    assert spread[0] == 0.5, "judges that agree are not right for that"
    assert spread[2] < 0.1


def test_one_family_does_not_speak_alone() -> None:
    votes, _ = planted([0.9, 0.8, 0.8], answers=0.5)
    found = label_model.judge(votes, epsilon=1.0)
    n_voted = (~np.isnan(votes.votes)).sum(1)
    assert np.isnan(found.value[n_voted == 1]).all()
    assert not np.isnan(found.value[n_voted >= 2]).any()
    lonely = np.flatnonzero((n_voted == 1) & ~np.isnan(votes.votes[:, 0]))[0]
    assert found.reason[found.refused[lonely]] == "only one family of judges (f0) spoke; it takes two"


def test_who_says_the_same_of_everything_is_no_second_voice() -> None:
    votes, _ = planted([0.8, 0.8], n=60)
    constant = votes.votes.copy()
    constant[:, 1] = 1.0
    constant[:10, 0] = np.nan
    found = label_model.judge(replace(votes, votes=constant))
    assert np.isnan(found.value).all()
    assert found.reason[found.refused[0]] == "only judges spoke that say the same of everything"
    assert found.reason[found.refused[-1]] == "only one family of judges (f0) spoke; it takes two"
    constant[7, 1] = 0.0
    assert not np.isnan(label_model.judge(replace(votes, votes=constant)).value[10:]).any()


def test_where_one_family_alone_decides_nothing_is_said() -> None:
    votes, _ = planted([0.95, 0.52, 0.5])
    found = label_model.judge(votes)
    assert "f0 alone decides" in found.reason
    assert np.isnan(found.value).all()
    equals = label_model.judge(planted([0.8, 0.8, 0.8])[0])
    assert equals.reason == ()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(0, 60))
def test_values_are_probabilities_and_the_order_of_rows_and_families_means_nothing(seed: int, labels: int) -> None:
    votes, _ = planted([0.8, 0.7, 0.6], n=200, labels=labels, seed=seed, answers=0.7)
    found = label_model.judge(votes)
    known = found.value[~np.isnan(found.value)]
    assert ((known >= 0) & (known <= 1)).all()
    assert ((found.std >= 0) & (found.std <= 0.5)).all()
    rows, columns = np.random.default_rng(seed).permutation(200), [2, 0, 1]
    other = label_model.judge(
        label_model.Votes(
            families=tuple(votes.families[c] for c in columns),
            votes=votes.votes[rows][:, columns],
            truth=votes.truth[rows],
            people=votes.people[rows],
            weight=votes.weight[rows],
            influence=votes.influence[rows],
            block=votes.block[rows],
        )
    )
    np.testing.assert_allclose(other.value, found.value[rows], atol=1e-4)


def test_the_many_labels_of_one_user_teach_as_much_as_a_few() -> None:
    votes, _ = planted([0.9, 0.8], n=3000, labels=100)
    lies = np.where(np.arange(3000) >= 1000, 1 - votes.votes[:, 0], votes.truth)  # 2,000 labels against the first judge
    influence = np.where(np.arange(3000) >= 1000, 3 / 2048, 1.0)

    def leans(influence: Any) -> float:
        lied_to = replace(votes, truth=lies, people=~np.isnan(lies), influence=influence)
        good, bad = label_model.judge(lied_to, epsilon=1.0).accuracy["f0"]
        return (good + bad) / 2

    assert leans(influence) > 0.8
    assert leans(np.ones(3000)) < 0.2


# --- in the lake


def vote(lake: Any, target: str, name: str, value: float | None, **more: Any) -> str:
    found: str = lake.score(target, name, value, **{"source": "code", "family": name, **more})
    return found


def fill(lake: Any, n: int = 120, copies: int = 1, labels: int = 0) -> None:
    """Two weak families: `copies` judges of one model that always agree, and what users did."""
    rng = np.random.default_rng(3)
    for i in range(n):
        good = rng.uniform() < 0.5
        judged = good if rng.uniform() < 0.85 else not good
        acted = good if rng.uniform() < 0.85 else not good
        for copy in range(copies):
            vote(lake, f"t{i:03}", f"rubric{copy}", float(judged), source="llm", family="judge:m")
        vote(lake, f"t{i:03}", "signals", float(acted))
        if i < labels:
            evidence = '{"score_ids":["x"]}'
            lake.score(f"t{i:03}", "feedback", float(good), source="human", evidence=evidence, propensity=0.5)


def by_target(table: Any) -> dict[str, dict[str, Any]]:
    return {row["target_id"]: row for row in table.to_pylist()}


def test_ten_judges_of_one_model_weigh_as_much_as_one(new_lake: Any) -> None:
    once, often = new_lake(), new_lake()
    fill(once)
    fill(often, copies=10)
    one, ten = (by_target(combination(lake.con, now_ns=9).rows) for lake in (once, often))
    assert {key: row["value"] for key, row in one.items()} == {key: row["value"] for key, row in ten.items()}
    assert len({row["value"] for row in one.values()}) == 4


def test_truths_decide_where_they_speak_and_the_label_model_elsewhere(lake: Any) -> None:
    fill(lake, labels=50)
    lake.score("t100", "reward", 0.25, source="env")
    lake.score("t101", "exact", 1.0, source="code")
    found = combination(lake.con, now_ns=9)
    assert found.rows.schema == SCORES
    rows = by_target(found.rows)
    assert rows["t100"]["value"] == 0.25
    assert rows["t101"]["value"] == 1.0
    assert {json.loads(rows[f"t{i:03}"]["evidence"])["tier"] for i in range(50)} == {"human"}
    evidence = json.loads(rows["t119"]["evidence"])
    assert (evidence["tier"], evidence["families"]) == ("label_model", ["judge:m", "signals"])
    assert len(evidence["score_ids"]) == 2
    assert 0 < rows["t119"]["value"] < 1
    machine = {row["target_id"]: row["value"] for row in found.machine.to_pylist()}
    assert set(machine) == set(rows)
    assert all(machine[f"t{i:03}"] not in (0.0, 1.0) for i in range(50)), "people's own labels are not in it"
    assert (machine["t100"], machine["t101"]) == (0.25, 1.0)


def test_the_lower_bound_stands_beside_the_mean_and_is_never_above_it(lake: Any) -> None:
    fill(lake, labels=20)
    found = combination(lake.con, now_ns=9, k=2.0)
    rows, low = by_target(found.rows), by_target(found.low)
    assert set(rows) == set(low)
    assert {row["name"] for row in low.values()} == {LOW}
    assert all(low[key]["value"] <= rows[key]["value"] for key in rows)
    sure = by_target(combination(lake.con, now_ns=9, k=0.0).low)
    assert {key: row["value"] for key, row in sure.items()} == {key: row["value"] for key, row in rows.items()}
    lake.put("scores", found.rows)
    lake.put("scores", found.low)
    again = combination(lake.con, now_ns=10, k=2.0)
    assert (again.rows.num_rows, again.low.num_rows) == (0, 0)


def test_one_weak_family_alone_gives_null_with_the_reason_and_another_family_a_value(lake: Any) -> None:
    vote(lake, "t", "signals", 1.0)
    first = combination(lake.con, now_ns=9)
    (row,) = first.rows.to_pylist()
    assert row["value"] is None
    assert json.loads(row["evidence"])["refused"] == "only one family of judges (signals) spoke; it takes two"
    assert first.remarks == (
        "the label model says nothing yet: only one family of judges (signals) spoke; it takes two",
    )
    lake.put("scores", first.rows)
    assert combination(lake.con, now_ns=10).rows.num_rows == 0
    vote(lake, "t", "judge", 1.0, source="llm", family="judge:m")
    (row,) = combination(lake.con, now_ns=11).rows.to_pylist()
    assert row["value"] > 0.5


def test_logged_scores_of_models_are_one_family(lake: Any) -> None:
    for name in ("helpful", "correct", "polite"):
        lake.score("t", name, 1.0, source="llm")
    (row,) = combination(lake.con, now_ns=9).rows.to_pylist()
    assert row["value"] is None
    assert json.loads(row["evidence"])["families"] == ["llm"]


def test_sealed_judges_are_never_read_and_failed_versions_are_left_out_aloud(lake: Any) -> None:
    vote(lake, "t", "signals", 1.0, version="1")
    vote(lake, "t", "judge", 0.0, source="llm", family="judge:m", version="1")
    vote(lake, "t", "sealed", 0.0, source="llm", family="judge:other", version="1")
    used = json.loads(by_target(combination(lake.con, now_ns=9, sealed=("sealed",)).rows)["t"]["evidence"])
    assert used["families"] == ["judge:m", "signals"]
    found = combination(lake.con, now_ns=9, sealed=("sealed",), distrusted={"judge": "1"})
    assert found.rows.to_pylist()[0]["value"] is None
    assert found.remarks[0] == "judge is not used: its latest report failed"
    newer = combination(lake.con, now_ns=9, sealed=("sealed",), distrusted={"judge": "0"})
    assert newer.rows.to_pylist()[0]["value"] is not None
    stopped = combination(lake.con, now_ns=9, sealed=("sealed",), distrusted={"combined": "1"})
    assert json.loads(stopped.rows.to_pylist()[0]["evidence"])["refused"] == "its report failed"
    assert stopped.machine.num_rows == 1, "it is still measured, so that it can come back"


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([None, 0.0, 0.3, 1.0])), max_size=8))
def test_what_a_sealed_judge_says_changes_nothing(new_lake: Any, said: list[tuple[str, float | None]]) -> None:
    lakes = new_lake(), new_lake()
    for lake in lakes:
        fill(lake, n=3)
        vote(lake, "a", "signals", 1.0)
    for i, (target, value) in enumerate(said):
        vote(lakes[1], target, "sealed", value, at=i, family="learned", source="model")
    one, other = (combination(lake.con, now_ns=9, sealed=("sealed",)).rows.to_pylist() for lake in lakes)
    assert one == other
