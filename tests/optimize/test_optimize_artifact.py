"""Prompt artifacts: the baseline renders production's bytes; demonstrations and instructions change nothing else."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tracemill import client
from tracemill.errors import ConfigError
from tracemill.optimize.artifact import (
    baseline,
    demo_from_case,
    instructions,
    pool_of,
    with_demonstrations,
    with_instructions,
)
from tracemill.records import Artifact, Case, Site, Template

TEXT = st.text(alphabet=st.sampled_from(" \t\n{}abé✓\"'\\x:"), max_size=12)
SLOT = st.sampled_from(["x", "ticket", "copy", "a b", "class"]).map(lambda name: {"slot": name})


def site_of(*messages, params=None):
    template = Template(messages=messages)
    return Site(
        site_id="s1",
        site_version="v1",
        agent_name="a",
        model="m",
        template=template,
        params=params or {"max_tokens": 8},
    )


def item(role, *content):
    return {"role": role, "content": list(content)}


def case_of(number, values, *, reward=1.0, correction=None, output="billing", pool="learn", group=None):
    return Case(
        case_id=f"t{number}/0",
        trajectory_id=f"t{number}",
        step=0,
        site_id="s1",
        task_key=None,
        task_group=group or f"g{number}",
        pool=pool,
        values=values,
        logged_messages=(),
        logged_output=output,
        reward=reward,
        correction=correction,
    )


CONSTANT = st.lists(TEXT, min_size=1, max_size=3)
SLOTTED = st.lists(st.one_of(TEXT, SLOT), min_size=1, max_size=4)
TEMPLATES = st.tuples(
    st.lists(st.builds(lambda c: item("system", *c), SLOTTED), max_size=1),
    st.lists(
        st.tuples(CONSTANT, CONSTANT).map(lambda pair: [item("user", *pair[0]), item("assistant", *pair[1])]),
        max_size=3,
    ),
    st.lists(st.builds(lambda c: item("user", *c), SLOTTED), max_size=2),
    st.booleans(),
    st.lists(st.builds(lambda c: item("user", *c), CONSTANT), max_size=1),
).map(
    lambda parts: (
        *parts[0],
        *(turn for pair in parts[1] for turn in pair),
        *parts[2],
        *([{"conversation": True}] if parts[3] else []),
        *parts[4],
    )
)
VALUES = {
    "x": "  lead",
    "ticket": "{slot}\t✓\n",
    "copy": "",
    "a b": "é",
    "class": "}}",
    "conversation": [{"role": "user", "content": " hi\t"}, {"role": "assistant", "content": ""}],
}


@settings(deadline=None)
@given(TEMPLATES)
def test_the_baseline_renders_what_the_template_renders_byte_for_byte(messages):
    site = site_of(*messages)
    artifact = baseline(site)
    assert client.render(artifact.prompt, VALUES) == client.render({"messages": messages}, VALUES)
    assert Artifact.from_json(artifact.to_json()) == artifact
    assert artifact.prompt["params"] == {"max_tokens": 8}


@settings(deadline=None)
@given(SLOTTED)
@example(["{{x}} {{{x}}}", {"slot": "x"}, "}{"])
def test_instructions_go_out_as_text_and_come_back_as_the_same_prompt(content):
    artifact = baseline(site_of(item("system", *content), item("user", {"slot": "x"})))
    back = with_instructions(artifact, instructions(artifact))
    assert client.render(back.prompt, VALUES) == client.render(artifact.prompt, VALUES)


def test_constant_pairs_before_the_question_become_the_demonstration_pool():
    artifact = baseline(
        site_of(
            item("system", "Route."),
            item("user", "Ticket: lost card\n"),
            item("assistant", "cards"),
            item("user", "Ticket: ", {"slot": "ticket"}, "\n"),
        )
    )
    (demo,) = pool_of(artifact)
    assert demo["messages"][1] == {"role": "assistant", "content": "cards"}
    assert demo["text"] == "lost card"
    assert [sorted(one) for one in artifact.prompt["messages"]][1] == ["demonstrations"]


def test_a_changing_user_turn_followed_by_a_constant_answer_is_no_demonstration():
    artifact = baseline(site_of(item("user", {"slot": "x"}), item("assistant", "ok"), item("user", {"slot": "ticket"})))
    assert pool_of(artifact) == []
    assert "demonstrations" not in json.dumps(artifact.prompt["messages"])


def test_a_demonstration_of_a_case_renders_as_its_own_turn_would():
    artifact = baseline(site_of(item("system", "Route."), item("user", "Ticket: ", {"slot": "ticket"})))
    case = case_of(7, {"ticket": " {late}"}, reward=0.0, correction="delivery")
    demo = demo_from_case(artifact, case)
    assert demo == {
        "messages": [{"role": "user", "content": "Ticket:  {late}"}, {"role": "assistant", "content": "delivery"}],
        "text": " {late}",
        "source": "t7",
    }
    shown = client.render(with_demonstrations(artifact, [demo]).prompt, {"ticket": "new"})
    assert [m["content"] for m in shown] == ["Route.", "Ticket:  {late}", "delivery", "Ticket: new"]


def test_a_constant_turn_that_only_calls_tools_stays_in_the_prompt():
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    messages = (item("user", "look"), call, item("user", {"slot": "x"}))
    artifact = baseline(site_of(*messages))
    assert pool_of(artifact) == []
    assert client.render(artifact.prompt, VALUES) == client.render({"messages": messages}, VALUES)


def test_nearest_demonstrations_keep_the_pool_and_show_k_of_it():
    artifact = baseline(site_of(item("user", {"slot": "ticket"})))
    demos = [
        demo_from_case(artifact, case_of(n, {"ticket": text})) for n, text in enumerate(["red car", "blue car", "cat"])
    ]
    near = with_demonstrations(artifact, demos, "nearest", 1)
    shown = client.render(near.prompt, {"ticket": "a cat"})
    assert len(pool_of(near)) == 3
    assert [m["content"] for m in shown] == ["cat", "billing", "a cat"]


def test_a_conversation_is_shown_turn_by_turn():
    artifact = baseline(site_of(item("system", "Go."), item("user", {"slot": "x"}), {"conversation": True}))
    turns = [{"role": "assistant", "content": "look"}, {"role": "user", "content": "seen"}]
    demo = demo_from_case(artifact, case_of(1, {"x": "task", "conversation": turns}, output="done"))
    assert [m["content"] for m in demo["messages"]] == ["task", "look", "seen", "done"]
    assert with_demonstrations(artifact, [demo]).prompt["messages"][1] == {"demonstrations": True}


def test_instructions_that_lost_a_slot_are_refused():
    artifact = baseline(site_of(item("system", "For ", {"slot": "company"}, "."), item("user", {"slot": "x"})))
    assert instructions(artifact) == "For {{company}}."
    with pytest.raises(ConfigError, match="company"):
        with_instructions(artifact, "Be brief.")
    changed = with_instructions(artifact, "At {{company}}: brief")
    assert client.render(changed.prompt, {"company": "ACME", "x": "?"})[0]["content"] == "At ACME: brief"


def test_a_prompt_without_system_text_gets_one():
    artifact = baseline(site_of(item("user", {"slot": "x"})))
    assert instructions(artifact) is None
    assert client.render(with_instructions(artifact, "Be brief.").prompt, {"x": "?"}) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "?"},
    ]


def test_a_right_output_that_calls_tools_is_no_demonstration():
    artifact = baseline(site_of(item("user", {"slot": "x"})))
    case = case_of(1, {"x": "a"}, output='[{"function":{"name":"route"}}]')
    with pytest.raises(ConfigError, match="calls tools"):
        demo_from_case(Artifact(prompt={**artifact.prompt, "tools": [{"type": "function"}]}), case)
    assert demo_from_case(artifact, case)["messages"][-1]["content"] == case.logged_output


def test_without_a_turn_or_a_right_output_there_is_no_demonstration():
    fixed = baseline(site_of(item("system", "Say ", {"slot": "x"})))
    with pytest.raises(ConfigError, match="no user turn"):
        with_demonstrations(fixed, [])
    with pytest.raises(ConfigError, match="no turn"):
        demo_from_case(fixed, case_of(1, {"x": "a"}))
    with pytest.raises(ConfigError, match="no right output"):
        demo_from_case(baseline(site_of(item("user", {"slot": "x"}))), case_of(1, {"x": "a"}, reward=0.5))
