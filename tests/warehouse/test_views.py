"""The views that analysts read, on one small lake."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from tracemill.schema import CLUSTER_MEMBERS, CLUSTERS, SCORES, TRAJECTORIES
from tracemill.warehouse import Lake, layout


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, build: Callable[..., Any]) -> Iterator[Callable[[str], Any]]:
    made = build()
    made.episode("a", session_id="s")
    made.episode("b", "close my account", session_id="s")
    made.episode("alone", start_ns=None)
    made.call("c", "broken", [("user", "x")], "y", cost_usd=None, status="error", error_type="timeout")
    made.rows["messages"][-2]["parts"] = "not JSON"  # what the user said
    # The same message first said on two days: two rows, one text.
    twice = made.rows["messages"][0]
    made.rows["messages"].append({**twice, "day": twice["day"].replace(day=1)})
    made.score("a", 0.0, at=1)
    made.score("a", 1.0, at=2)
    made.score("b", None, at=3)
    made.score("s", 0.25, target_kind="session", at=4)
    made.score("c", 1.0, name="combined", at=5)
    made.score("c", None, name="combined", at=6)  # withdrawn
    made.score("alone", 1.0, name="combined", at=5)
    made.score("alone", None, name="combined", label="only a label", at=6)
    made.score("a", None, name="correction", label="billing", at=1)
    made.score("a/1", None, name="correction", label="old", target_kind="step", at=1)
    made.score("a/1", None, name="correction", label="new", target_kind="step", at=2)
    with Lake.create(tmp_path_factory.mktemp("views") / "lake") as lake:
        with lake.transaction("night") as tx:
            tx.rebuild(tx.take(made.batch()).trace_ids)
            tx.assign_sites(
                pa.table(
                    {
                        "trajectory_id": ["a", "b", "c"],
                        "step": pa.array([0, 0, 0], pa.int32()),
                        "site_id": ["site"] * 3,
                        "site_version": ["v1", "v1", "v2"],
                    }
                )
            )
            tx.insert("clusters", pa.Table.from_pylist([{"cluster_id": "k", "name": "accounts"}], schema=CLUSTERS))
            members = [
                {"trajectory_id": one, "kind": "intent", "cluster_id": None if one == "alone" else "k"}
                for one in ("a", "b", "c", "alone", "erased")
            ]
            tx.insert("cluster_members", pa.Table.from_pylist(members, schema=CLUSTER_MEMBERS))

        def rows(statement: str) -> list[dict[str, Any]]:
            with lake.reader() as con:
                return list(con.execute(statement).to_arrow_table().to_pylist())

        yield rows


def test_every_view_says_what_it_is_for() -> None:
    for name, text in layout.views().items():
        comments = [line for line in text.splitlines() if line.startswith("-- ") and not line.startswith("-- after:")]
        assert comments, name


def test_llm_calls_give_messages_back_as_text_and_json(told: Callable[[str], Any]) -> None:
    assert told("SELECT count(*) AS n, sum(tokens_in) AS tokens FROM llm_calls") == [{"n": 7, "tokens": 70}]
    (row,) = told("SELECT * FROM llm_calls WHERE trajectory_id = 'a' AND step = 1")
    assert row["input_text"] == (
        "system: You route tickets.\nuser: refund please\nassistant: look it up\ntool: no such queue"
    )
    assert row["output_text"] == "billing a"
    assert [said["role"] for said in json.loads(row["input_messages"])] == ["system", "user", "assistant", "tool"]
    assert json.loads(row["output_messages"])[0]["parts"] == [{"type": "text", "content": "billing a"}]
    assert row["latency_ms"] == 1000.0


def test_undated_calls_are_in_the_views_too(told: Callable[[str], Any]) -> None:
    (row,) = told("SELECT input_text, started_at FROM llm_calls WHERE trajectory_id = 'alone' AND step = 0")
    assert row == {"input_text": "system: You route tickets.\nuser: refund please", "started_at": None}


def test_a_message_whose_parts_are_not_json_spoils_no_query(told: Callable[[str], Any]) -> None:
    (row,) = told("SELECT input_text, input_messages FROM llm_calls WHERE trajectory_id = 'c'")
    assert row["input_text"] == "user: x"
    assert json.loads(row["input_messages"]) == [{"role": "user", "name": None, "parts": None}]


def test_conversations_hold_each_message_once_in_order(told: Callable[[str], Any]) -> None:
    rows = told("SELECT turn, role, text FROM conversations WHERE trajectory_id = 'a' ORDER BY turn")
    assert [(row["turn"], row["role"], row["text"]) for row in rows] == [
        (0, "system", "You route tickets."),
        (1, "user", "refund please"),
        (2, "assistant", "look it up"),
        (3, "tool", "no such queue"),
        (4, "assistant", "billing a"),
    ]


def test_sessions_join_episodes(told: Callable[[str], Any]) -> None:
    rows = told("SELECT session_id, trajectory_ids, tokens_in, n_errors FROM sessions ORDER BY session_id")
    assert rows == [
        {"session_id": "alone", "trajectory_ids": ["alone"], "tokens_in": 20, "n_errors": 1},
        {"session_id": "c", "trajectory_ids": ["c"], "tokens_in": 10, "n_errors": 1},
        {"session_id": "s", "trajectory_ids": ["a", "b"], "tokens_in": 40, "n_errors": 2},
    ]


def test_tool_calls_and_failures(told: Callable[[str], Any]) -> None:
    assert told("SELECT DISTINCT tool_name, tool_args FROM tool_calls") == [
        {"tool_name": "route", "tool_args": '{"queue":"x"}'}
    ]
    assert told("SELECT trajectory_id, kind, what, error_type FROM failures WHERE kind = 'llm'") == [
        {"trajectory_id": "c", "kind": "llm", "what": "chat", "error_type": "timeout"}
    ]
    assert told("SELECT count(*) AS n FROM failures") == [{"n": 4}]


def test_clusters_are_counted_by_day(told: Callable[[str], Any]) -> None:
    rows = told("SELECT kind, name, day IS NULL AS undated, n, n_judged, n_failed FROM cluster_days ORDER BY ALL")
    assert [tuple(row.values()) for row in rows] == [("intent", "accounts", False, 3, 1, 1)]


def test_groups_whose_episodes_end_alike_have_no_variance() -> None:
    ends = {"g-alike": (1.0, 1.0), "g-apart": (0.0, 1.0, None), "g-one": (1.0,), "g-none": (None,)}
    episodes, scores = [], []
    for group, rewards in ends.items():
        for i, reward in enumerate(rewards):
            episodes.append({"trajectory_id": f"{group}/{i}", "task_group": group, "pool": "learn"})
            judged = {"target_kind": "trajectory", "target_id": f"{group}/{i}", "name": "combined", "value": reward}
            scores.append({"score_id": f"{group}/{i}", **judged})
    with duckdb.connect() as con:
        con.register("trajectories", pa.Table.from_pylist(episodes, schema=TRAJECTORIES))
        con.register("scores", pa.Table.from_pylist(scores, schema=SCORES))
        view = layout.views()["group_outcomes"]
        rows = con.execute(
            f"SELECT task_group, n, n_judged, mean_reward, variance FROM ({view}) ORDER BY ALL"
        ).fetchall()
    assert rows == [
        ("g-alike", 2, 2, 1.0, 0.0),
        ("g-apart", 3, 2, 0.5, 0.25),
        ("g-none", 1, 0, None, None),
        ("g-one", 1, 1, 1.0, None),
    ]


def test_costs_are_by_day_and_unknown_costs_are_counted(told: Callable[[str], Any]) -> None:
    rows = told("SELECT day IS NULL AS undated, agent_name, n_calls, cost_usd FROM costs_daily ORDER BY ALL")
    assert [tuple(row.values()) for row in rows] == [
        (False, "triage", 4, 2.0),
        (False, None, 1, None),
        (True, "triage", 2, 1.0),
    ]


def test_rewards_are_the_latest_of_each_episode_else_of_its_session(told: Callable[[str], Any]) -> None:
    rows = told("SELECT trajectory_id, name, value, target_kind FROM rewards ORDER BY ALL")
    assert [tuple(row.values()) for row in rows] == [
        ("a", "reward", 1.0, "trajectory"),
        ("alone", "combined", 1.0, "trajectory"),
        ("b", "reward", 0.25, "session"),
    ]


def test_corrections_are_the_latest_of_each_target(told: Callable[[str], Any]) -> None:
    rows = told("SELECT trajectory_id, step, correction FROM corrections ORDER BY ALL")
    assert [tuple(row.values()) for row in rows] == [("a", 1, "new"), ("a", None, "billing")]


def test_site_health_is_one_row_per_version(told: Callable[[str], Any]) -> None:
    rows = told("SELECT site_version, n_calls, n_errors, n_judged, mean_reward, cost_usd FROM site_health ORDER BY 1")
    assert [tuple(row.values()) for row in rows] == [("v1", 2, 0, 2, 0.625, 1.0), ("v2", 1, 1, 0, None, None)]


def test_who_has_many_episodes_does_not_decide_the_mean_of_a_version(told: Callable[[str], Any]) -> None:
    # Three users of one good episode each; one with 100 bad ones, of 10 calls each; hardly believed ones of a fifth.
    about = {
        "transitions": "SELECT 'site' AS site_id, 'v' AS site_version, 't' || i AS trajectory_id, 'a' AS agent_name, "
        "'m' AS model, true AS trainable, 'ok' AS status, 1 AS tokens_in, 1 AS tokens_out, 0.1 AS cost_usd, "
        "0 AS start_ns, 1 AS end_ns FROM range(203) r(i), range(CASE WHEN i < 3 THEN 1 ELSE 10 END)",
        "trajectories": "SELECT 't' || i AS trajectory_id, 'a' AS agent_name, '1' AS agent_version, 0 AS start_ns, "
        "CASE WHEN i < 3 THEN 'u' || i WHEN i < 103 THEN 'busy' ELSE 'unsure' END AS user_key, NULL AS session_id, "
        "[]::VARCHAR[] AS flags FROM range(203) r(i)",
        "rewards": "SELECT 't' || i AS trajectory_id, 'combined' AS name, true AS combined, "
        "CASE WHEN i < 3 THEN 1.0 ELSE 0.0 END AS value, CASE WHEN i >= 103 THEN 0.0 END AS confidence "
        "FROM range(203) r(i)",
    }
    ctes = ", ".join(f"{name} AS ({text})" for name, text in about.items())
    mean = pytest.approx(3 / (3 + 3 + 0.1**0.5))
    views = layout.views()
    (row,) = told(f"WITH {ctes} SELECT n_calls, n_judged, n_users, mean_reward FROM ({views['site_health']})")
    assert row == {"n_calls": 2003, "n_judged": 2003, "n_users": 5, "mean_reward": mean}
    (row,) = told(
        f"WITH {ctes} SELECT agent_version, n_trajectories, n_users, mean_value FROM ({views['version_rewards']})"
    )
    assert row == {"agent_version": "1", "n_trajectories": 203, "n_users": 5, "mean_value": mean}


def test_calls_are_llm_calls_without_what_was_said(told: Callable[[str], Any]) -> None:
    texts = {"input_text", "output_text", "input_messages", "output_messages"}
    full = told("SELECT * FROM llm_calls ORDER BY trajectory_id, step")
    assert told("SELECT * FROM calls ORDER BY trajectory_id, step") == [
        {name: value for name, value in row.items() if name not in texts} for row in full
    ]


def test_calls_tell_what_their_spans_tell(told: Callable[[str], Any]) -> None:
    columns = "session_id, user_key, status, error_type, service, provider, tokens_in, tokens_out, cost_usd, flags"
    of_spans = told(
        f"SELECT t.trajectory_id, t.step, {columns} FROM spans s "
        "JOIN (SELECT trajectory_id, step, span_id FROM transitions) t ON t.trajectory_id = s.trace_id "
        "AND t.span_id = s.span_id ORDER BY ALL"
    )
    assert told(f"SELECT trajectory_id, step, {columns} FROM calls ORDER BY ALL") == of_spans
    assert {row["status"] for row in of_spans} == {"ok", "error"}


@pytest.mark.parametrize("chosen", ["day IS NULL", "site_version = 'v1'", "step = 1", "status = 'error'"])
def test_what_was_said_comes_for_calls_chosen_by_any_column(told: Callable[[str], Any], chosen: str) -> None:
    every = {(row["trajectory_id"], row["step"]): row for row in told("SELECT * FROM llm_calls")}
    rows = told(f"SELECT * FROM llm_calls WHERE {chosen}")
    assert rows
    assert all(row == every[row["trajectory_id"], row["step"]] for row in rows)


@pytest.mark.parametrize("trace_id", ["a", "alone", "nowhere"])
def test_trace_spans_are_the_spans_of_a_trace_dated_or_not(told: Callable[[str], Any], trace_id: str) -> None:
    rows = told(f"SELECT * FROM trace_spans WHERE trace_id = '{trace_id}' ORDER BY seq")
    assert rows == told(f"SELECT * FROM spans WHERE trace_id = '{trace_id}' ORDER BY seq")
    assert len(rows) == (0 if trace_id == "nowhere" else 4)


def test_what_is_stored_under_another_day_than_its_call_is_found(lake: Lake, build: Callable[..., Any]) -> None:
    made = build()
    made.call("t", "late", [("user", "said before")], "yes")
    moved = made.rows["messages"][0]
    moved["day"] = moved["day"].replace(day=2)
    with lake.transaction("write") as tx:
        tx.rebuild(tx.take(made.batch()).trace_ids)
    with lake.reader() as con:
        assert con.execute("SELECT input_text, output_text FROM llm_calls").fetchall() == [("user: said before", "yes")]
        assert con.execute("SELECT turn, text FROM conversations ORDER BY turn").fetchall() == [
            (0, "said before"),
            (1, "yes"),
        ]
