"""Cases: what learning gets of a site, and what it must never get."""

from typing import Any

import pytest

from tracemill.client import render
from tracemill.mining import cases, sites

SYSTEM = {"role": "system", "content": "Route the ticket. Answer with the name of one queue."}
TICKETS = ["I lost my card", "My order has not come", "Refund me!", "login\nfails", "Damaged kettle", "wrong size"]


def ask(ticket: str, system: dict[str, Any] = SYSTEM) -> list[dict[str, Any]]:
    return [system, {"role": "user", "content": f"Ticket: {ticket}\nQueue:"}]


@pytest.fixture
def desk(lake: Any) -> Any:
    """Six tickets, one call each, the last two for the gate."""
    for i, ticket in enumerate(TICKETS):
        lake.call(f"t{i}", ask(ticket), f"queue {i}", at=100 + i)
        pool = "gate" if i >= 4 else "learn"
        lake.trajectory(f"t{i}", group=f"g{i}", pool=pool, session_id=f"s{i}", task_key=f"k{i}")
    return lake


def learn(lake: Any, **options: Any) -> dict[str, Any]:
    update = sites.recover(lake.con, now_ns=1)
    lake.apply(update)
    (site,) = sites.load(lake.con)
    return {case.trajectory_id: case for case in cases.load(lake.con, site, **{"pool": "learn", **options})}


def test_a_case_renders_to_what_was_logged_and_knows_its_output(desk: Any) -> None:
    desk.add("tasks", {"task_key": "k0", "attributes": '{"gold": "shipping"}'})
    found = learn(desk)
    (site,) = sites.load(desk.con)
    for case in found.values():
        assert tuple(render({"messages": site.template.messages}, case.values)) == case.logged_messages
    first = found["t0"]
    assert (first.case_id, first.values, first.logged_output) == ("t0/0", {"ticket": "I lost my card"}, "queue 0")
    assert (first.task_key, first.task_group, first.pool, first.task) == ("k0", "g0", "learn", {"gold": "shipping"})
    assert (first.reward, first.correction, first.weight, first.expected) == (None, None, 1.0, None)


def test_learning_sees_nothing_of_the_gate_and_the_gate_nothing_of_learning(desk: Any) -> None:
    assert set(learn(desk)) == {"t0", "t1", "t2", "t3"}
    assert set(learn(desk, pool="gate")) == {"t4", "t5"}
    assert len(learn(desk, pool=None)) == 6
    desk.call("loose", ask("no group yet"), "x", at=110)
    desk.trajectory("loose", group="g", pool=None)
    assert "loose" not in learn(desk, pool=None)


def test_since_keeps_what_is_known_to_be_later(desk: Any) -> None:
    desk.call("undated", ask("no time"), "x")
    desk.trajectory("undated")
    assert set(learn(desk, since_ns=102)) == {"t2", "t3"}


def test_combined_comes_before_reward_and_the_latest_of_a_name_wins(desk: Any) -> None:
    desk.score("t0", "reward", 0.0, source="env")
    desk.score("t0", "combined", 1.0, source="code", propensity=0.25)
    desk.score("t1", "reward", 0.0, source="env", at=1)
    desk.score("t1", "reward", 0.5, source="env", at=2)
    desk.score("s2", "reward", 1.0, kind="session", source="human")
    desk.score("t3", "combined", 1.0, at=1)
    desk.score("t3", "combined", None, at=2)
    found = learn(desk)
    assert {key: case.reward for key, case in found.items()} == {"t0": 1.0, "t1": 0.5, "t2": 1.0, "t3": None}
    assert (found["t0"].weight, found["t1"].weight) == (4.0, 1.0)
    assert found["t0"].expected == "queue 0"


def test_the_lower_bound_is_of_the_reward_that_counts(desk: Any) -> None:
    desk.score("t0", "reward", 1.0, source="env")
    desk.score("t0", "combined", 1.0)
    desk.score("t0", "combined_low", 0.95)
    desk.score("t1", "combined", 1.0, at=1)
    desk.score("t1", "combined_low", 0.55, at=1)
    desk.score("t2", "reward", 1.0, source="env")
    desk.score("s3", "combined", 0.8, kind="session")
    desk.score("s3", "combined_low", 0.3, kind="session")
    found = learn(desk)
    assert {key: case.reward_low for key, case in found.items()} == {"t0": 0.95, "t1": 0.55, "t2": 1.0, "t3": 0.3}
    rights = {key: case.expected for key, case in found.items()}
    assert rights == {"t0": "queue 0", "t1": None, "t2": "queue 2", "t3": None}, "a vote of little weight is no proof"
    assert (found["t3"].reward, found["t3"].sure_reward) == (0.8, 0.3)


def test_corrections_reach_their_calls(desk: Any) -> None:
    desk.score("s0", "correction", kind="session", label="billing", propensity=0.5)
    desk.score("t1", "correction", label="old", at=1)
    desk.score("t1", "correction", label="new", at=2)
    desk.score("t2/0", "correction", kind="step", label="exact")
    desk.score("t2", "correction", label="whole")
    desk.call("t3", ask("again"), "queue 9", step=1, at=120)
    desk.score("t3", "correction", label="both attempts")
    found = learn(desk)
    assert {key: case.correction for key, case in found.items()} == {
        "t0": "billing",
        "t1": "new",
        "t2": "exact",
        "t3": "both attempts",
    }
    assert found["t0"].weight == 2.0
    assert found["t0"].expected == "billing"


def test_a_correction_of_a_session_with_several_trajectories_says_nothing_of_either(desk: Any) -> None:
    desk.call("other", ask("second in the session"), "x", at=130)
    desk.trajectory("other", session_id="s0")
    desk.score("s0", "correction", kind="session", label="billing")
    found = learn(desk)
    assert found["t0"].correction is None
    assert found["other"].correction is None


def test_in_a_conversation_a_trajectorys_correction_is_of_its_last_call(lake: Any) -> None:
    for i, ticket in enumerate(TICKETS):
        turns = [{"role": "assistant", "content": f"ask {i}"}, {"role": "user", "content": f"more {i}"}]
        lake.call(f"t{i}", ask(ticket), f"ask {i}", step=0)
        lake.call(f"t{i}", [*ask(ticket), *turns], "done", step=1)
        lake.trajectory(f"t{i}")
    lake.score("t0", "correction", label="right")
    lake.apply(sites.recover(lake.con, now_ns=1))
    (site,) = sites.load(lake.con)
    found = {case.case_id: case.correction for case in cases.load(lake.con, site, pool="learn")}
    assert (found["t0/0"], found["t0/1"], found["t1/1"]) == (None, "right", None)


def test_calls_of_an_older_version_are_kept_where_the_current_template_binds_them(desk: Any) -> None:
    desk.apply(sites.recover(desk.con, now_ns=1))
    edited = {**SYSTEM, "content": SYSTEM["content"] + " Be short."}
    for i, ticket in enumerate(TICKETS):
        desk.call(f"n{i}", ask(ticket, edited), "x", at=500 + i)
        desk.trajectory(f"n{i}")
    assert {key[0] for key in learn(desk)} == {"n"}
    (site,) = sites.load(desk.con)
    assert desk.con.sql("select count(*) from sites").fetchone() == (2,)
    old = next(row for row in desk.con.sql("from sites").to_arrow_table().to_pylist() if row["last_ns"] < 500)
    (before,) = sites.load(desk.con, site.site_id, version=old["site_version"])
    assert {case.trajectory_id[0] for case in cases.load(desk.con, before, pool="learn")} == {"t"}


def test_what_shows_the_reward_or_cannot_be_trained_on_is_left_out(desk: Any) -> None:
    desk.trajectory("leaky", flags=["reward_leak"])
    desk.call("leaky", ask("leaky"), "x")
    desk.trajectory("broken")
    desk.call("broken", ask("broken"), "x", trainable=False, untrainable_reason="truncated")
    assert set(learn(desk)) == {"t0", "t1", "t2", "t3"}
    assert set(learn(desk, allow_leak=True)) == {"t0", "t1", "t2", "t3", "leaky"}


def test_a_site_flagged_as_leaking_gives_no_cases_for_learning(lake: Any) -> None:
    for i, ticket in enumerate(TICKETS):
        lake.call(f"t{i}", ask(ticket), "x", flags=["reward_leak"])
        lake.trajectory(f"t{i}")
    assert learn(lake) == {}
    assert len(learn(lake, allow_leak=True)) == 6


def test_an_output_of_tool_calls_is_their_canonical_json(desk: Any) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "route", "arguments": '{"queue": "a"}'}}
    desk.call("tool", ask("with a tool"), {"role": "assistant", "content": None, "tool_calls": [call]})
    desk.trajectory("tool")
    expected = '[{"function":{"arguments":"{\\"queue\\": \\"a\\"}","name":"route"},"id":"c1","type":"function"}]'
    assert learn(desk)["tool"].logged_output == expected


def test_calls_with_other_demonstrations_stay_cases(desk: Any) -> None:
    learn(desk)
    demos = [{"role": "user", "content": "Ticket: Late\nQueue:"}, {"role": "assistant", "content": "shipping"}]
    for i, ticket in enumerate(["cup cracked", "no parcel", "card stolen"]):
        question = ask(ticket)
        desk.call(f"n{i}", [question[0], *demos, question[1]], "q", at=1_000 + i)
        desk.trajectory(f"n{i}", group=f"n{i}", pool="learn")
    found = learn(desk)
    assert len(sites.load(desk.con)) == 1
    assert set(found) == {"t0", "t1", "t2", "t3", "n0", "n1", "n2"}
    assert found["t0"].values == {"ticket": "I lost my card"}
    assert found["n0"].values == {"ticket": "cup cracked"}
