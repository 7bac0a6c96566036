"""Call sites: recovered incrementally, and every assigned call renders back to exactly what was logged."""

import json
import random
from typing import Any

import pytest
from few_examples import some
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mined_sites import DEMOS, SYSTEM, TICKETS, ask, recover, said, user, versions

from tracemill.chat import to_openai
from tracemill.mining import sites


def test_demonstrations_are_constant_and_the_ticket_is_a_slot(lake: Any) -> None:
    for i, ticket in enumerate(TICKETS):
        lake.call(f"t{i}", [SYSTEM, *DEMOS, ask(ticket)], at=100 + i)
    update = recover(lake)
    assert len(update.unassigned) == 0
    (site,) = sites.load(lake.con)
    assert [item["content"] for item in site.template.messages[:-1]] == [[m["content"]] for m in (SYSTEM, *DEMOS)]
    assert site.template.messages[-1] == {"role": "user", "content": ["Ticket: ", {"slot": "ticket"}, "\nQueue:"]}
    assert (site.agent_name, site.model, site.n_calls, site.params) == ("desk", "small-1", 8, {"temperature": 0.0})
    assert site.unbound == site.flags == ()


def test_a_second_night_joins_the_known_version_and_a_night_without_news_changes_nothing(lake: Any) -> None:
    for i, ticket in enumerate(TICKETS):
        lake.call(f"a{i}", [SYSTEM, ask(ticket)], at=100 + i)
    first = recover(lake).sites.to_pylist()
    assert len(sites.recover(lake.con, now_ns=2).sites) == 0
    for i in range(3):
        lake.call(f"b{i}", [SYSTEM, ask(f"something new {i}")], at=200 + i)
    second = recover(lake, 2).sites.to_pylist()
    assert [row["site_version"] for row in second] == [first[0]["site_version"]]
    assert (second[0]["n_calls"], second[0]["first_ns"], second[0]["last_ns"]) == (11, 100, 202)
    assert second[0]["recovered_at"] == 1


def test_an_edited_prompt_is_a_new_version_of_its_site_and_becomes_the_current_one(lake: Any) -> None:
    edited = {**SYSTEM, "content": SYSTEM["content"] + " Never answer with anything else."}
    for night, (system, demos) in enumerate(((SYSTEM, []), (edited, []), (edited, DEMOS))):
        for i, ticket in enumerate(TICKETS):
            lake.call(f"n{night}-{i}", [system, *demos, ask(ticket)], at=1000 * night + i)
        recover(lake, night)
    ids = lake.con.sql("select count(distinct site_id), count(distinct site_version) from sites").fetchone()
    assert ids == (1, 3)
    (site,) = sites.load(lake.con)
    assert len(site.template.messages) == 6


def test_a_rewritten_prompt_at_the_same_place_is_a_new_version_once_the_old_one_fell_silent(lake: Any) -> None:
    other = {"role": "system", "content": "Sort incoming mail into departments, reply tersely and only by label."}
    for i, ticket in enumerate(TICKETS):
        lake.call(f"a{i}", [SYSTEM, ask(ticket)], at=100 + i)
        lake.call(f"b{i}", [other, ask(ticket)], at=5000 + i)
    recover(lake)
    assert lake.con.sql("select count(distinct site_id), count(*) from sites").fetchone() == (1, 2)


def test_two_places_of_one_agent_are_two_sites(lake: Any) -> None:
    planner = {"role": "system", "content": "Write a numbered plan for the goal, at most five steps, no prose."}
    for i, ticket in enumerate(TICKETS):
        lake.call(f"t{i}", [planner, user(f"Goal: {ticket}")], step=0, at=100 + 10 * i)
        lake.call(f"t{i}", [SYSTEM, ask(ticket)], step=1, at=101 + 10 * i)
    update = recover(lake)
    assert len(set(update.assigned["site_id"].to_pylist())) == 2
    by_step = {(row["step"], row["site_id"]) for row in update.assigned.to_pylist()}
    assert len(by_step) == 2


def test_two_kinds_of_question_under_one_system_prompt_are_two_sites(lake: Any) -> None:
    helper = {"role": "system", "content": "You are a helpful assistant."}
    for i, ticket in enumerate(TICKETS):
        lake.call(f"a{i}", [helper, user(f"Summarise this mail:\n{ticket}")], at=100 + 10 * i)
        lake.call(f"b{i}", [helper, user(f"Translate to French: {ticket}")], at=101 + 10 * i)
    recover(lake)
    contents = sorted(site.template.messages[-1]["content"][0] for site in sites.load(lake.con))
    assert contents == ["Summarise this mail:\n", "Translate to French: "]


def test_a_conversation_without_system_prompt_keeps_its_question_and_leaves_the_rest_open(lake: Any) -> None:
    for i, ticket in enumerate(TICKETS):
        history = [user(ticket)]
        for step in range(i % 4 + 1):
            lake.call(f"t{i}", history, f"try {step}", step=step)
            history = [*history, said(f"try {step}"), user(f"result {i} {step}")]
    update = recover(lake)
    assert len(update.unassigned) == 0
    (site,) = sites.load(lake.con)
    assert site.template.messages == ({"role": "user", "content": [{"slot": "input"}]}, {"conversation": True})


def test_agents_with_one_prompt_and_different_names_are_different_sites(lake: Any) -> None:
    for agent in ("one", "two", "three"):
        for i, ticket in enumerate(TICKETS):
            lake.call(f"{agent}{i}", [user(ticket)], agent=agent)
    recover(lake)
    assert {site.agent_name for site in sites.load(lake.con)} == {"one", "two", "three"}
    assert lake.con.sql("select count(distinct site_id) from sites").fetchone() == (3,)


def test_numbers_and_names_that_vary_in_the_system_prompt_are_slots_notversions(lake: Any) -> None:
    for i, ticket in enumerate(TICKETS * 3):
        system = {
            "role": "system",
            "content": f"You are the agent of ACME.\nDate: 2026-11-{10 + i % 9}\nAnswer shortly.",
        }
        lake.call(f"t{i}", [system, ask(ticket)], at=i)
    recover(lake)
    (site,) = sites.load(lake.con)
    assert site.template.slots == ("date", "ticket")


def test_names_that_come_again_and_again_fill_a_slot_and_an_edit_of_the_prompt_is_a_version(lake: Any) -> None:
    names = ["Ada", "Luis", "Mei", "Olu", "Petra", "Sam", "Ines", "Karim"]
    for i in range(80):
        rule = "" if i < 40 else "Never promise a date. "
        system = {"role": "system", "content": f"You are the agent of ACME. {rule}You speak with {names[i % 8]}."}
        lake.call(f"t{i}", [system, ask(TICKETS[i % len(TICKETS)])], at=i)
    recover(lake)
    versions = lake.con.sql("SELECT DISTINCT site_id, template FROM sites").fetchall()
    assert len({site_id for site_id, _ in versions}) == 1
    opening = [json.loads(template)["messages"][0]["content"][0] for _, template in versions]
    assert sorted(opening) == [
        "You are the agent of ACME. Never promise a date. You speak with ",
        "You are the agent of ACME. You speak with ",
    ]


def test_what_fills_the_slots_is_summed_up_beside_the_template(lake: Any) -> None:
    names = ["Ada", "Luis", "Mei"]
    for i in range(30):
        question = (
            f"Customer: {names[i % 3]}\nOrdered on: 2026-10-{i + 1:02d}\nItems: {i * 7}\nTicket: {TICKETS[i % 5]}"
        )
        lake.call(f"t{i}", [SYSTEM, user(f"{question}\nAnswer:")], at=i)
    recover(lake)
    (found,) = lake.con.sql("SELECT slot_values FROM sites").fetchone()
    stats = json.loads(found)
    third = pytest.approx(1 / 3, abs=1e-3)
    assert stats["customer"] == {
        "n": 30,
        "distinct": 3,
        "kind": "line",
        "chars": [3, 4],
        "common": {"Ada": third, "Luis": third, "Mei": third},
    }
    assert (stats["items"]["kind"], stats["items"]["distinct"]) == ("number", 30)
    assert stats["ticket"]["distinct"] == 5


def test_two_variants_of_a_prompt_that_take_turns_stay_apart(lake: Any) -> None:
    for i in range(40):
        tone = "Be short and friendly in all answers." if i % 2 else "Be exact and formal in all answers."
        system = {"role": "system", "content": f"You are the agent of the shop ACME in Bremen. {tone}"}
        lake.call(f"t{i}", [system, ask(TICKETS[i % len(TICKETS)])], at=i)
    recover(lake)
    assert lake.con.sql("SELECT count(DISTINCT template) FROM sites").fetchone() == (2,)


def test_one_call_alone_has_its_last_user_message_as_the_slot_and_gives_way_to_better_evidence(lake: Any) -> None:
    lake.call("t", [SYSTEM, *DEMOS, ask("alone")], at=1)
    first = recover(lake)
    assert sites.load(lake.con)[0].template.messages[-1] == {"role": "user", "content": [{"slot": "input"}]}
    for i, ticket in enumerate(TICKETS):
        lake.call(f"t{i}", [SYSTEM, *DEMOS, ask(ticket)], at=100 + i)
    second = recover(lake, 2)
    assert set(second.assigned["site_id"].to_pylist()) == set(first.assigned["site_id"].to_pylist())
    assert sites.load(lake.con)[0].template.slots == ("ticket",)


def test_a_single_call_that_does_not_fit_is_aligned_with_what_was_logged_before(lake: Any) -> None:
    for i in range(24):
        lake.call(f"t{i}", [SYSTEM, user(f"Ticket: I am lost {i}x{i}\nQueue:")], at=100 + i)
    recover(lake)
    assert sites.load(lake.con)[0].template.messages[-1]["content"][0] == "Ticket: I am lost "
    lake.call("late", [SYSTEM, user("Ticket: Where is it?\nQueue:")], at=500)
    recover(lake, 2)
    contents = {
        str(versions(lake, row)[0].template.messages[-1]["content"])
        for row in lake.con.sql("from sites").to_arrow_table().to_pylist()
    }
    assert "['Ticket: ', {'slot': 'ticket'}, '\\nQueue:']" in contents
    assert lake.con.sql("select count(distinct site_id) from sites").fetchone() == (1,)


def test_pseudonyms_in_constant_text_are_listed_as_unbound(lake: Any) -> None:
    system = {"role": "system", "content": "You answer for [EMAIL_0123abcd]. Escalate to [EMAIL_ffffffff]."}
    for i, ticket in enumerate(TICKETS):
        lake.call(f"t{i}", [system, ask(f"{ticket} from [USER_{i:08x}]")])
    recover(lake)
    (site,) = sites.load(lake.con)
    assert site.unbound == ("email_1", "email_2")
    assert site.template.slots == ("email_1", "email_2", "ticket")


def test_slots_are_named_by_logged_prompt_variables(lake: Any) -> None:
    for i, ticket in enumerate(TICKETS):
        lake.call(f"t{i}", [SYSTEM, ask(ticket)], variables={"customer_text": ticket, "n": i})
    recover(lake)
    assert sites.load(lake.con)[0].template.slots == ("customer_text",)


def test_demonstrations_chosen_for_each_call_are_told_from_the_question(lake: Any) -> None:
    draw = random.Random(0)
    pairs = [(f"Ticket: example {i}\nQueue:", f"queue {i % 3}") for i in range(6)]
    for i in range(20):
        demos = [m for text, answer in draw.sample(pairs, 3) for m in (user(text), said(answer))]
        lake.call(f"t{i}", [SYSTEM, *demos, ask(f"{TICKETS[i % 8]} {i}")])
    recover(lake)
    (site,) = sites.load(lake.con)
    assert site.flags == ("dynamic_demonstrations",)
    assert site.template.messages[1:] == (
        {"conversation": True},
        {"role": "user", "content": ["Ticket: ", {"slot": "ticket"}, "\nQueue:"]},
    )


def test_tools_belong_to_the_version_and_tool_calls_in_the_history_stay_exact(lake: Any) -> None:
    tools = lake.tools("lookup", "route")
    call = {"id": "c1", "type": "function", "function": {"name": "lookup", "arguments": '{"order": 7}'}}
    turn = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "shipped"},
    ]
    for i, ticket in enumerate(TICKETS):
        lake.call(f"t{i}", [SYSTEM, ask(ticket)], {"role": "assistant", "tool_calls": [call]}, tools=tools)
        lake.call(f"t{i}", [SYSTEM, ask(ticket), *turn], "billing", step=1, tools=tools)
    update = recover(lake)
    assert len(update.assigned) == 16
    (site,) = sites.load(lake.con)
    assert site.template.tools is not None
    assert [tool["function"]["name"] for tool in site.template.tools] == ["lookup", "route"]
    assert site.template.slots == ("ticket", "conversation")


@pytest.mark.parametrize("by_span", [True, False])
def test_a_site_whose_observations_show_the_reward_is_flagged(lake: Any, by_span: bool) -> None:
    for i, ticket in enumerate(TICKETS):
        shown = "[(1,)]" if by_span else f"Output: [(1,)]\nReward: {i % 2}.0"
        lake.call(
            f"t{i}", [user(ticket), said("SELECT 1"), user(shown)], flags=["reward_leak", "lossy"] if by_span else []
        )
    recover(lake)
    assert sites.load(lake.con)[0].flags == (("lossy", "reward_leak") if by_span else ("reward_leak",))


def test_a_call_without_its_messages_stays_unassigned_with_the_reason(lake: Any) -> None:
    lake.call("empty", [])
    lake.call("whole", [SYSTEM, ask("hello")])
    lake.add("transitions", {"trajectory_id": "gone", "step": 0, "agent_name": "desk", "input_ids": ["nowhere"]})
    update = recover(lake)
    assert update.assigned["trajectory_id"].to_pylist() == ["whole"]
    reasons = {row["trajectory_id"]: row["reason"] for row in update.unassigned.to_pylist()}
    assert set(reasons) == {"empty", "gone"}
    assert "no messages" in reasons["empty"]
    assert "not in the lake" in reasons["gone"]


def test_an_empty_lake_has_no_sites(lake: Any) -> None:
    update = recover(lake)
    assert (len(update.sites), len(update.assigned), len(update.unassigned)) == (0, 0, 0)
    assert sites.load(lake.con) == []


def test_a_version_of_a_handful_of_calls_is_not_the_current_one(lake: Any) -> None:
    for i, ticket in enumerate(TICKETS * 5):
        lake.call(f"t{i}", [SYSTEM, ask(f"{ticket} {i}")], at=i)
    lake.call("odd", [SYSTEM], at=10_000)
    recover(lake)
    assert lake.con.sql("select count(distinct site_id), count(*) from sites").fetchone() == (1, 2)
    assert sites.load(lake.con)[0].n_calls == 40


_WORD = st.sampled_from(["a", "b ", "Ticket: ", "\n", "x1", "[EMAIL_0123abcd]", "?", "<q>", "reply with one word"])
_TEXT = st.lists(_WORD, max_size=5).map("".join)
_MESSAGE = st.tuples(st.sampled_from(["user", "assistant"]), _TEXT)
_CALL = st.tuples(_TEXT, st.lists(_MESSAGE, max_size=4))


def _has_messages(call: Any) -> bool:
    return bool(call[0] or call[1])


@settings(
    max_examples=some(80),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    deadline=None,
)
@given(st.lists(st.lists(_CALL, max_size=8), min_size=1, max_size=2))
def test_whatever_was_logged_every_assigned_call_renders_back_exactly(new_lake: Any, nights: list[list[Any]]) -> None:
    lake = new_lake()
    n = 0
    for night, calls in enumerate(nights):
        for system, turns in calls:
            head = [{"role": "system", "content": system}] if system else []
            lake.call(f"t{n}", [*head, *({"role": role, "content": text} for role, text in turns)], at=n)
            n += 1
        update = recover(lake, night)
        blank = sum(not _has_messages(call) for done in nights[: night + 1] for call in done)
        assert (len(update.assigned), len(update.unassigned)) == (sum(map(_has_messages, calls)), blank)
        assert {row["reason"] for row in update.unassigned.to_pylist()} <= {"the log has no messages for this call"}
    assert to_openai("user", None, [{"type": "text", "content": "x"}]) == user("x")
