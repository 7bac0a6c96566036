"""The reward models one by one: what they make of what was logged."""

import json
from typing import Any

import pytest

from tracemill.errors import ConfigError, QueryError
from tracemill.rewards.exact_match import ExactMatch
from tracemill.rewards.feedback import Feedback
from tracemill.rewards.regex import Regex
from tracemill.rewards.sql_expression import SqlExpression
from tracemill.rewards.tool_steps import ToolSteps
from tracemill.rewards.tools import ToolStatus
from tracemill.rewards.verifying import VerifiedLogs


def test_feedback_of_every_kind_lands_on_one_scale(lake: Any) -> None:
    for trajectory in "abcdefghi":
        lake.trajectory(trajectory, "x", session_id=f"s-{trajectory}")
    lake.score("a", "thumb", 1.0, source="user")
    lake.score("b", "thumb", -1.0, source="user")
    lake.score("c", "stars", 4.0, source="human")
    lake.score("d", "verdict", None, label="Incorrect", source="human")
    lake.score("e", "csat", 7.0, source="user")
    lake.score("f", "mystery", 42.0, source="user")
    lake.score("s-g", "helpful", 0.5, source="human", target_kind="session")
    lake.score("h-0", "thumb", 1.0, source="user", target_kind="span")
    lake.score("i/0", "thumb", -1.0, source="user", target_kind="step")
    found = lake.run(Feedback(scales={"csat": (1, 7)}))
    assert found == {"a": 1, "b": 0, "c": 0.75, "d": 0, "e": 1, "f": None, "g": 0.5, "h": 1, "i": 0}


def test_a_correction_outranks_thumbs_and_compares_with_what_was_said(lake: Any) -> None:
    lake.trajectory("right", " Billing\n", "You are welcome")
    lake.trajectory("wrong", "shipping")
    lake.trajectory(
        "silent", {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]}
    )
    for target in ("right", "wrong", "silent"):
        lake.score(target, "correction", label="billing", source="human", propensity=0.2)
        lake.score(target, "thumbs", 0.5, source="user")
    rows = Feedback().score(lake.con, now_ns=1).to_pylist()
    assert {row["target_id"]: row["value"] for row in rows} == {"right": 1.0, "wrong": 0.0, "silent": 0.5}
    assert {row["propensity"] for row in rows} == {0.2}


def test_a_correction_of_one_step_looks_at_that_step_only(lake: Any) -> None:
    lake.trajectory("t", "billing", "shipping")
    lake.score("t/1", "correction", label="billing", source="human", target_kind="step")
    assert lake.run(Feedback()) == {"t": 0.0}


def test_the_latest_word_of_each_user_counts_and_new_words_are_judged_again(lake: Any) -> None:
    lake.trajectory("t", "x")
    lake.score("t", "thumbs", 0.0, source="user", user_key="u", at=1)
    lake.score("t", "thumbs", 1.0, source="user", user_key="u", at=2)
    lake.score("t", "thumbs", 0.0, source="user", user_key="v", at=1)
    assert lake.run(Feedback()) == {"t": 0.5}
    lake.score("t", "thumbs", 1.0, source="user", user_key="v", at=3)
    assert lake.run(Feedback()) == {"t": 1.0}


def test_an_environments_reward_passes_through_in_a_row_of_its_own(lake: Any) -> None:
    lake.trajectory("t", "x")
    lake.score("t", "reward", 0.25, source="env")
    lake.score("t", "thumbs", 1.0, source="human")
    lake.score("t", "steps", 12.0, source="env")
    rows = Feedback().score(lake.con, now_ns=1).to_pylist()
    assert {row["source"]: row["value"] for row in rows} == {"env": 0.25, "human": 1.0}


def test_tools_share_of_good_calls_and_zero_where_the_last_one_failed(lake: Any) -> None:
    lake.tool("good", "ok", "unset")
    lake.tool("mended", "error", "ok")
    lake.tool("failed", "ok", "ok", "error")
    lake.trajectory("none", "x")
    assert lake.run(ToolStatus()) == {"good": 1.0, "mended": 0.5, "failed": 0.0}
    lake.add("spans", {"trace_id": "good", "span_id": "late", "kind": "tool", "status": "error", "seq": 999})
    assert lake.run(ToolStatus()) == {"good": 0.0}


def test_the_tool_calls_of_one_user_weigh_together_at_most_the_cap(lake: Any) -> None:
    for user in range(4):
        lake.trajectory(f"honest{user}", "out", user_key=f"u{user}")
        lake.tool(f"honest{user}", "ok")
    for episode in range(64):
        lake.trajectory(f"busy{episode:02d}", "out", user_key="busy")
        lake.tool(f"busy{episode:02d}", "error")
    for model, end in ((ToolStatus(), ""), (ToolSteps(), "/0")):
        rows = {row["target_id"]: row for row in model.score(lake.con, now_ns=1).to_pylist()}
        assert len(rows) == 68
        assert rows["honest0" + end]["confidence"] == 1.0
        assert rows["busy00" + end]["confidence"] == pytest.approx(3 / 64, abs=1e-4)
        assert json.loads(rows["busy00" + end]["evidence"])["influence"] == pytest.approx(3 / 64, abs=1e-4)
        assert "influence" not in json.loads(rows["honest0" + end]["evidence"])
    uncapped = ToolStatus(user_cap=0).score(lake.con, now_ns=1)
    assert set(uncapped["confidence"].to_pylist()) == {1.0}
    for kind in (ToolStatus, ToolSteps):
        with pytest.raises(ConfigError, match="user_cap"):
            kind(user_cap=-1)


def test_a_verifier_judges_the_last_output_worth_judging(lake: Any) -> None:
    lake.trajectory("t", "billing", "submit", agent_name="desk")
    lake.trajectory("u", "nothing like it", agent_name="other")
    model = VerifiedLogs(verifier=Regex(pattern="billing"), needs_truth=False, agent="desk", skip_output="^submit$")
    assert lake.run(model) == {"t": 1.0}


def test_a_verifier_may_judge_all_agents_of_a_family(lake: Any) -> None:
    for agent in ("desk/one", "desk/two", "other/desk/one", "desk"):
        lake.trajectory(agent.replace("/", "-"), "billing", agent_name=agent)
    model = VerifiedLogs(verifier=Regex(pattern="billing"), needs_truth=False, agent="desk/*")
    assert lake.run(model) == {"desk-one": 1.0, "desk-two": 1.0}


def test_a_later_correction_is_judged_again(lake: Any) -> None:
    lake.trajectory("t", "billing")
    lake.trajectory("never", "billing")
    model = VerifiedLogs(verifier=ExactMatch())
    assert lake.run(model) == {}
    lake.score("t", "correction", label="shipping", source="human", at=1)
    assert lake.run(model) == {"t": 0.0}
    lake.score("t", "correction", label="billing", source="human", at=2)
    assert lake.run(model) == {"t": 1.0}
    assert lake.run(model) == {}


def test_a_rewarded_output_does_not_prove_itself(lake: Any) -> None:
    lake.add("tasks", {"task_key": "k", "attributes": "{}"})
    lake.trajectory("t", "anything", task_key="k")
    lake.score("t", "reward", 1.0, source="env")
    assert lake.run(VerifiedLogs(verifier=ExactMatch())) == {"t": None}


def test_exact_match_normalises_what_it_is_told_to() -> None:
    def same(a: str, b: str, **options: Any) -> bool:
        return ExactMatch(**options)._normal(a) == ExactMatch(**options)._normal(b)

    assert same(" Billing\n", "billing")
    assert not same("Billing", "billing", casefold=False)
    assert not same(" billing", "billing", strip=False)
    assert not same("billing.", "billing")
    assert same("Billing, please!", "billing please", punctuation=True)


def test_an_sql_expression_over_a_view_is_folded_by_target(lake: Any) -> None:
    lake.trajectory("a", "x", "y")
    lake.trajectory("b", "x")
    con = lake.con
    con.execute("create view llm_calls as select trajectory_id as trace_id, step from transitions")
    assert lake.run(SqlExpression(view="llm_calls", expression="step < 1")) == {"a": 0.0, "b": 1.0}
    assert lake.run(SqlExpression(view="llm_calls", expression="step < 1", fold="max", name="m")) == {
        "a": 1.0,
        "b": 1.0,
    }
    halves = SqlExpression(view="transitions", expression="case when step = 1 then 0.5 end", name="h")
    assert lake.run(halves) == {"a": 0.5, "b": None}
    assert lake.run(SqlExpression(view="transitions", expression="step + 2", name="big")) == {"a": None, "b": None}


@pytest.mark.parametrize(
    "expression", ["1) from transitions; delete from scores; select (1", "nothing_there", "1; select 2", "("]
)
def test_an_expression_that_is_no_expression_is_refused(lake: Any, expression: str) -> None:
    lake.trajectory("a", "x")
    with pytest.raises(QueryError, match="sql_expression"):
        SqlExpression(view="transitions", expression=expression).score(lake.con, now_ns=1)


def test_a_view_that_is_not_there_or_has_no_target_is_named(lake: Any) -> None:
    with pytest.raises(QueryError, match="no view nowhere"):
        SqlExpression(view="nowhere", expression="1").score(lake.con, now_ns=1)
    with pytest.raises(ConfigError, match="cannot be scored at level trajectory"):
        SqlExpression(view="tasks", expression="1").score(lake.con, now_ns=1)
    with pytest.raises(ConfigError, match="no name of a view"):
        SqlExpression(view="scores; drop table scores", expression="1")
