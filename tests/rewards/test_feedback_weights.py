"""Whose feedback weighs what: caps by user, users' habits, who rates at all, and names and scales that formats use."""

import json
from typing import Any

import pytest

from tracemill.errors import ConfigError
from tracemill.rewards.feedback import Feedback
from tracemill.rewards.report import Thresholds, report


def votes(lake: Any, user: str, arm: str, *values: float) -> None:
    for place, value in enumerate(values):
        trajectory = f"{arm}-{user}-{place}"
        lake.trajectory(trajectory, user_key=user, agent_name="desk", n_llm_calls=1)
        lake.score(trajectory, "thumbs", value, source="user", user_key=user)


def by_target(lake: Any, model: Feedback) -> dict[str, dict[str, Any]]:
    return {row["target_id"]: row for row in model.score(lake.con, now_ns=1).to_pylist()}


def test_the_votes_of_one_user_weigh_together_at_most_the_cap(lake: Any) -> None:
    votes(lake, "once", "a", 1.0)
    votes(lake, "often", "a", *([1.0] * 4))
    votes(lake, "always", "a", *([1.0] * 256))
    rows = by_target(lake, Feedback(user_cap=8))
    assert rows["a-once-0"]["confidence"] == pytest.approx(0.6)
    assert rows["a-often-3"]["confidence"] == pytest.approx(0.6 * 2 / 4)
    assert rows["a-always-9"]["confidence"] == pytest.approx(0.6 * 8 / 256)
    assert json.loads(rows["a-always-9"]["evidence"])["influence"] == pytest.approx(8 / 256, abs=1e-4)
    free = by_target(lake, Feedback(user_cap=0))
    assert {round(row["confidence"], 6) for row in free.values()} == {0.6}


def test_users_who_all_say_much_are_not_silenced(lake: Any) -> None:
    votes(lake, "u", "a", *([1.0] * 64))
    votes(lake, "v", "a", *([0.0] * 64))
    assert {round(row["confidence"], 6) for row in by_target(lake, Feedback()).values()} == {0.6}


def test_within_one_target_a_crowd_of_one_does_not_outvote_others(lake: Any) -> None:
    votes(lake, "troll", "x", *([0.0] * 63))
    lake.trajectory("t", "x", session_id="s")
    lake.score("t", "thumbs", 0.0, source="user", user_key="troll")
    lake.score("t", "thumbs", 1.0, source="user", user_key="ann")
    assert by_target(lake, Feedback(user_cap=10))["t"]["value"] == pytest.approx(8 / 9)  # 64 votes: each counts 1/8
    assert by_target(lake, Feedback(user_cap=0))["t"]["value"] == 0.5


def test_reviewers_count_in_full_however_much_they_say(lake: Any) -> None:
    votes(lake, "ann", "a", 1.0)
    for place in range(40):
        lake.score(f"r{place}", "verdict", 1.0, source="human", user_key="reviewer")
    rows = by_target(lake, Feedback())
    assert {rows[f"r{place}"]["confidence"] for place in range(40)} == {0.9}
    assert (rows["r0"]["family"], rows["a-ann-0"]["family"]) == ("people", "users")


def test_votes_that_name_nobody_count_as_one_voters(lake: Any) -> None:
    votes(lake, "ann", "a", 1.0)
    for place in range(16):
        lake.score(f"n{place}", "thumbs", 0.0, source="user")
    rows = by_target(lake, Feedback(user_cap=10))
    assert rows["n3"]["confidence"] == pytest.approx(0.6 * 4 / 16)
    assert rows["a-ann-0"]["confidence"] == pytest.approx(0.6)


def test_a_row_is_written_again_when_its_users_votes_double_and_not_before(lake: Any) -> None:
    votes(lake, "ann", "a", 1.0)
    votes(lake, "bob", "b", 1.0, 1.0, 1.0)
    model = Feedback()
    assert len(lake.run(model)) == 4
    votes(lake, "bob", "c", 1.0)
    assert set(lake.run(model, now=2)) == {"c-bob-0"}
    votes(lake, "bob", "d", 1.0)
    assert len(lake.run(model, now=3)) == 5
    assert lake.run(model, now=4) == {}


def test_a_users_habit_is_taken_out_where_votes_prove_it(lake: Any) -> None:
    for place in range(12):
        votes(lake, f"fair{place}", "f", *([1.0, 0.0] * 8))
    for name in ("grumbler", "moaner", "critic"):
        votes(lake, name, "g", *([0.0] * 16))
    votes(lake, "new", "n", 0.0)
    rows = by_target(lake, Feedback())
    assert rows["f-fair3-0"]["value"] == 1.0
    assert rows["f-fair3-1"]["value"] == 0.0
    assert rows["n-new-0"]["value"] == 0.0
    assert 0.2 < rows["g-grumbler-5"]["value"] <= 0.5
    assert json.loads(rows["g-grumbler-5"]["evidence"])["shift"] < -0.2


def test_the_propensity_is_how_often_episodes_like_it_are_rated(lake: Any) -> None:
    for place in range(400):
        long = place % 2 == 0
        lake.trajectory(f"t{place}", agent_name="desk", outcome="ok", n_llm_calls=9 if long else 1)
        if place % (4 if long else 40) in (0, 1):
            lake.score(f"t{place}", "thumbs", 1.0, source="user", user_key=f"u{place}")
    lake.score("t0", "verdict", 1.0, source="human")
    lake.score("t3", "verdict", 1.0, source="human")
    rows = by_target(lake, Feedback(min_propensity=0.02))
    assert rows["t4"]["propensity"] == pytest.approx(0.5, abs=0.01)
    assert 0.04 < rows["t1"]["propensity"] < 0.1
    assert rows["t3"]["propensity"] is None
    assert by_target(lake, Feedback(min_propensity=0.2))["t1"]["propensity"] == 0.2
    assert by_target(lake, Feedback(min_propensity=0))["t1"]["propensity"] is None


def test_one_odd_vote_does_not_change_what_the_others_mean(lake: Any) -> None:
    for place in range(5):
        votes(lake, f"u{place}", "a", 0.0)
    for place in range(50):
        lake.score(f"o{place}", "thumbs", -1.0, source="user", user_key="odd")
        lake.score(f"p{place}", "my rating", 5.0, source="user", user_key="odd")
    for place in range(5):
        lake.score(f"q{place}", "my rating", 0.5, source="user", user_key=f"u{place}")
    rows = by_target(lake, Feedback())
    assert (rows["a-u1-0"]["value"], rows["o1"]["value"]) == (0.0, None)
    assert (rows["q1"]["value"], rows["p1"]["value"]) == (0.5, None)


def test_a_reviewers_correction_outranks_a_users(lake: Any) -> None:
    lake.trajectory("t", "billing")
    lake.score("t", "correction", label="billing", source="human", at=1)
    lake.score("t", "correction", label="shipping", source="user", at=9)
    assert lake.run(Feedback()) == {"t": 1.0}


def test_names_labels_and_scales_of_other_programs(lake: Any) -> None:
    lake.score("a", "User Score", 1.0, source="code")
    lake.score("b", "nps", 9.0, source="user")
    lake.score("c", "vote", None, label="👎", source="user")
    lake.score("d", "vote", None, label="Thumbs-Up", source="user")
    lake.score("e", "CSAT", 5.0, source="user")
    lake.score("f", "accuracy", 1.0, source="code")
    lake.score("g", "User Score", 0.0, source="code")
    rows = by_target(lake, Feedback())
    assert {name: row["value"] for name, row in rows.items()} == {"a": 1, "b": 0.9, "c": 0, "d": 1, "e": 1, "g": 0}
    assert rows["a"]["source"] == "user"


def test_options_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="scale of csat has no two ends"):
        Feedback(scales={"csat": (1, 1)})
    with pytest.raises(ConfigError, match="user_cap"):
        Feedback(user_cap=-1)


def test_of_a_users_thousand_votes_reports_hold_as_many_against_a_judge_as_they_count_for(lake: Any) -> None:
    for n in range(460):
        lake.trajectory(f"t{n:03}")
        told = {"score_ids": ["x"], "influence": 0.1} if n < 390 else {"score_ids": ["x"]}
        said = float(n % 2 if n < 390 else n % 5 == 0)
        lake.score(f"t{n:03}", "feedback", said, source="user", evidence=json.dumps(told, separators=(",", ":")))
        lake.score(f"t{n:03}", "judge", 1 - said if n < 390 else said, source="llm", version="1")
    found = report(lake.con, "judge", "1", thresholds=Thresholds())
    metrics = found.metrics
    assert (found.n_labelled, metrics["label_weight"]) == (460, 109.0), "no label is thrown away"
    # By count the one who is always against the judge would decide; so the 70 others do.
    assert (metrics["brier"]["value"], metrics["auc"]) == pytest.approx((39 / 109, 0.5798), abs=0.001)
    few = report(lake.con, "judge", "1", thresholds=Thresholds(min_labels=110))
    assert few.passed is None
