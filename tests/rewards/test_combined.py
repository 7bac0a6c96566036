"""The combined score: who is believed first, and nothing made of nothing."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracemill.errors import ConfigError
from tracemill.rewards.combined import combine
from tracemill.schema import SCORES


def combined(lake: Any, now: int = 10, **options: Any) -> dict[str, dict[str, Any]]:
    rows = combine(lake.con, now_ns=now, **options)
    assert rows.schema == SCORES
    lake.put("scores", rows)
    return {row["target_id"]: row for row in rows.to_pylist()}


FEEDBACK = '{"score_ids":["what someone said"]}'


def values(found: dict[str, dict[str, Any]]) -> dict[str, float | None]:
    return {key: row["value"] for key, row in found.items()}


def test_people_come_before_the_environment_and_that_before_verifiers(lake: Any) -> None:
    for target in ("a", "b", "c"):
        lake.score(target, "exact", 0.0, source="code")
    for target in ("a", "b"):
        lake.score(target, "reward", 0.5, source="env")
    used = lake.score("a", "feedback", 1.0, source="human", evidence=FEEDBACK, propensity=0.25)
    found = combined(lake)
    assert values(found) == {"a": 1.0, "b": 0.5, "c": 0.0}
    assert json.loads(found["a"]["evidence"]) == {"tier": "human", "score_ids": [used], "vetoed": False}
    assert [found[key]["propensity"] for key in "abc"] == [0.25, None, None]
    assert found["a"]["confidence"] > found["c"]["confidence"]
    again = combined(lake, precedence=("verifier", "env"))
    assert values(again) == {"a": 0.0, "b": 0.0, "c": 0.0}


def test_tool_status_only_vetoes(lake: Any) -> None:
    for target, tool, verified in (("ok", 1.0, None), ("failed", 0.0, None), ("vetoed", 0.0, 1.0), ("half", 0.5, 1.0)):
        lake.score(target, "tools", tool, source="code")
        if verified is not None:
            lake.score(target, "exact", verified, source="code")
    lake.score("human", "tools", 0.0, source="code")
    lake.score("human", "feedback", 1.0, source="human", evidence=FEEDBACK)
    assert values(combined(lake)) == {"vetoed": 0.0, "half": 1.0, "human": 1.0}


def test_verifiers_are_averaged_by_weight_and_disagreement_costs_confidence(lake: Any) -> None:
    lake.score("t", "one", 1.0, source="code")
    lake.score("t", "two", 0.0, source="model")
    lake.score("t", "three", None, source="llm")
    lake.score("u", "one", 1.0, source="code")
    found = combined(lake, weights={"one": 3.0})
    assert values(found) == {"t": 0.75, "u": 1.0}
    assert found["t"]["confidence"] < found["u"]["confidence"]
    assert values(combined(lake, weights={"two": 0.0})) == {"t": 1.0, "u": 1.0}


def test_the_surer_of_two_judges_counts_for_more(lake: Any) -> None:
    lake.score("t", "one", 1.0, source="code", confidence=0.6)
    lake.score("t", "two", 0.0, source="code", confidence=0.2)
    assert combined(lake)["t"]["value"] == pytest.approx(0.75)


def test_what_users_said_stands_until_a_reviewer_speaks(lake: Any) -> None:
    lake.score("t", "feedback", 0.0, source="user", evidence=FEEDBACK, confidence=0.6, at=1)
    assert values(combined(lake)) == {"t": 0.0}
    # The feedback model's newest row knows what both said.
    lake.score("t", "feedback", 1.0, source="human", evidence='{"score_ids":["both"]}', confidence=0.9, at=20)
    assert values(combined(lake, now=30)) == {"t": 1.0}


def test_only_what_is_new_or_changed_is_written(lake: Any) -> None:
    lake.score("t", "reward", 1.0, source="env", at=1)
    lake.score("u", "reward", 1.0, source="env", at=1)
    first = combined(lake, now=10)
    assert combined(lake, now=11) == {}
    lake.score("t", "reward", 0.0, source="env", at=2)
    second = combined(lake, now=12)
    assert values(second) == {"t": 0.0}
    assert second["t"]["version"] == first["t"]["version"]
    assert set(combined(lake, now=13, veto="none")) == {"t", "u"}


def test_a_judgement_that_is_withdrawn_becomes_null_once(lake: Any) -> None:
    lake.score("t", "exact", 1.0, source="code", at=1)
    combined(lake, now=10)
    lake.score("t", "exact", None, source="code", at=2)
    assert values(combined(lake, now=11)) == {"t": None}
    assert combined(lake, now=12) == {}


def test_nothing_known_gives_nothing(lake: Any) -> None:
    lake.trajectory("t", "x")
    lake.score("t", "exact", None, source="code")
    lake.score("t", "feedback", None, source="human", evidence=FEEDBACK)
    lake.score("t", "reward", 17.0, source="env")
    assert combined(lake) == {}


def test_feedbacks_copy_of_a_reward_is_not_a_second_judge(lake: Any) -> None:
    raw = lake.score("t", "reward", 0.5, source="env")
    lake.score("t", "feedback", 0.5, source="env", evidence=FEEDBACK)
    assert json.loads(combined(lake)["t"]["evidence"])["score_ids"] == [raw]


def test_an_unknown_tier_or_a_negative_weight_is_refused(lake: Any) -> None:
    with pytest.raises(ConfigError, match="unknown tier judge; known: human, env, verifier"):
        combine(lake.con, now_ns=1, precedence=("judge",))
    with pytest.raises(ConfigError, match="negative weight for one"):
        combine(lake.con, now_ns=1, weights={"one": -1.0})


_SCORE = st.tuples(
    st.sampled_from(["feedback", "reward", "exact", "tools", "other"]),
    st.sampled_from(["human", "user", "env", "code", "model"]),
    st.sampled_from([None, 0.0, 0.5, 1.0, -1.0, 7.0]),
)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(_SCORE, max_size=8))
def test_a_combined_score_lies_within_what_was_said_and_running_again_adds_nothing(
    new_lake: Any, said: list[Any]
) -> None:
    lake = new_lake()
    for i, (name, source, value) in enumerate(said):
        lake.score("t", name, value, source=source, at=i, evidence=FEEDBACK if name == "feedback" else None)
    found = combined(lake, now=50)
    known = [value for _, _, value in said if value is not None and 0 <= value <= 1]
    if found:
        assert found["t"]["value"] is not None
        assert min(known) <= found["t"]["value"] <= max(known)
        assert 0 <= found["t"]["confidence"] <= 1
    assert combined(lake, now=51) == {}
