"""Episodes of several sites replayed as one: what is sent, where it stops, and what it is called."""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from triage import Rows

from tracemill.errors import BudgetError
from tracemill.ids import canonical_json
from tracemill.mining.dataflow import linked
from tracemill.optimize.artifact import baseline, with_instructions
from tracemill.optimize.evidence import called
from tracemill.optimize.ladder import Chained, Mark
from tracemill.optimize.replay import Budget, CachedModel, Ledger, named, request_for
from tracemill.records import Artifact, Case, Chain, ChainedCall, ChatRequest, Completion, Site, Template

TOOL = {"id": "c0", "type": "function", "function": {"name": "find", "arguments": '{"order": 7}'}}


def site(name: str, *slots: str) -> Site:
    asked = [piece for slot in slots for piece in (f"\n{slot}: ", {"slot": slot})]
    messages = ({"role": "system", "content": [f"You are the {name}."]}, {"role": "user", "content": asked})
    return Site(
        site_id=name, site_version="v", agent_name=name, model="m", template=Template(messages=messages), n_calls=1
    )


PLANNER, WRITER, CRITIC = site("planner", "ticket"), site("writer", "plan", "ticket"), site("critic", "draft")
RUNS = {one.site_id: baseline(one) for one in (PLANNER, WRITER, CRITIC)}


def call(of: str | None, step: int, answer: str, tools: Sequence[Mapping[str, Any]] = (), **values: Any) -> ChainedCall:
    said: dict[str, Any] = {"role": "assistant", "content": answer or None}
    if tools:
        said["tool_calls"] = list(tools)
    return ChainedCall(site_id=of, step=step, values=values, answer=(said,))


def chain(number: int, *calls: ChainedCall) -> Chain:
    return Chain(trajectory_id=f"t{number}", calls=linked(calls))


def pair(number: int, plan: str | None = None) -> Chain:
    ticket, plan = f"ticket of parcel {number}", plan or f"plan {number}: look it up, then say where"
    return chain(
        number,
        call("planner", 0, plan, ticket=ticket),
        call("writer", 1, f"it is in depot {number}", plan=plan, ticket=ticket),
    )


def case_of(one: Chain, step: int | None = None) -> Case:
    at = one.calls[-1 if step is None else step]
    return Case(
        case_id=f"{one.trajectory_id}/{at.step}", trajectory_id=one.trajectory_id, step=at.step, steps=len(one.calls),
        site_id=at.site_id or "", task_key=None, task_group=one.trajectory_id, pool="learn", values=at.values,
        logged_messages=(), logged_output=str(at.answer[0]["content"]), reward=1.0,
    )  # fmt: skip


class Model:
    """Answers as it is told, by the agent that its system text names; counts and keeps what it was sent."""

    def __init__(self, **answers: Any) -> None:
        self.answers, self.sent = answers, []

    def complete(self, requests: Sequence[ChatRequest]) -> list[Completion]:
        self.sent += requests
        return [self.answer(one) for one in requests]

    def answer(self, request: ChatRequest) -> Completion:
        name = request.messages[0]["content"].split("You are the ")[1].split(".")[0]
        said = self.answers[name]
        said = said(request) if callable(said) else said
        return said if isinstance(said, Completion) else Completion(text=said, tokens_in=3, tokens_out=1)


def chained(model: Model, chains: Sequence[Chain], budget: Budget = Budget(), **more: Any) -> Chained:
    known = {one.trajectory_id: one for one in chains}
    made: dict[str, Any] = {
        "model": CachedModel(model, Rows(), Ledger(budget), now_ns=1),
        "chains": lambda cases: {c.trajectory_id: known[c.trajectory_id] for c in cases if c.trajectory_id in known},
        "held": {name: RUNS[name] for name in ("planner", "writer")},
        "grade": lambda answered: [Mark(reward=float("depot" in text), by="depot@1") for _, text in answered],
        "valid": lambda case, text: True,
        "ends": {one.trajectory_id: case_of(one) for one in chains},
    }
    return Chained(**{**made, **more})


def as_logged(chains: Sequence[Chain]) -> Any:
    """A model that answers every logged request with the logged answer; whatever else it is sent fails the test."""
    known = {}
    for one in chains:
        for at in one.calls:
            if at.site_id in RUNS:
                request = request_for(RUNS[at.site_id], replace(case_of(one), values=at.values), seed=0)
                tools = at.answer[0].get("tool_calls", ())
                known[canonical_json(request.messages)] = Completion(
                    text=at.answer[0].get("content"), tool_calls=tuple(tools), tokens_in=1, tokens_out=1
                )
    model = Model()
    model.answer = lambda request: known[canonical_json(request.messages)]  # type: ignore[method-assign]
    return model


def test_answers_as_logged_are_sent_as_logged_and_the_last_is_judged() -> None:
    chains = [pair(1), pair(2)]
    model = as_logged(chains)
    found = chained(model, chains)(RUNS["writer"], [case_of(one) for one in chains])
    assert [(one.fidelity, one.reward, one.reached, one.judged_by) for one in found] == [
        ("chained:exact", 1.0, 2, "depot@1")
    ] * 2
    assert [one.completion.text for one in found] == ["it is in depot 1", "it is in depot 2"]
    assert found[0].completion.tokens_in == 2, "what both calls cost"


def test_a_new_answer_stands_where_the_old_one_stood_and_carries_whose_values_it_came_from() -> None:
    one = pair(1)
    model = Model(planner="  PLAN: deny everything\n", writer=lambda request: request.messages[1]["content"])
    (found,) = chained(model, [one])(RUNS["writer"], [case_of(one)])
    assert found.fidelity == "chained:substituted"
    assert found.completion.text == "\nplan: PLAN: deny everything\nticket: ticket of parcel 1"
    assert found.reward == 0.0
    shown = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    pool = {"select": "fixed", "k": 1, "pool": [{**shown, "text": "q", "source": "elsewhere"}]}
    items = RUNS["planner"].prompt["messages"]
    demonstrated = Artifact(
        prompt={
            **RUNS["planner"].prompt,
            "messages": [items[0], {"demonstrations": True}, *items[1:]],
            "demonstrations": pool,
        }
    )
    chained(model, [one])(demonstrated, [case_of(one, 0)])
    assert named("elsewhere") in model.sent[-1].asked_by, "the writer was sent what a demonstration taught the planner"


def test_a_case_on_the_way_has_its_own_answer_and_the_reward_of_the_end() -> None:
    one = pair(1)
    found = chained(Model(planner="another plan", writer="in the depot"), [one])(
        RUNS["planner"], [case_of(one, 0), case_of(one)]
    )
    assert [(o.case_id, o.completion.text, o.reward) for o in found] == [
        ("t1/0", "another plan", 1.0),
        ("t1/1", "in the depot", 1.0),
    ]
    (line,) = called(found[0])
    assert line == 'With that, the whole system answered in the end: <log>"in the depot"</log>'
    assert called(found[1]) == [], "that was its own answer"


def test_several_prompts_are_tried_as_one() -> None:
    one = pair(1)
    model = Model(planner=lambda r: r.messages[0]["content"], writer=lambda r: canonical_json(r.messages))
    both = replace(
        with_instructions(RUNS["writer"], "You are the writer. Be brief."),
        others={"planner": with_instructions(RUNS["planner"], "You are the planner. Use a tag.").prompt},
    )
    (found,) = chained(model, [one])(both, [case_of(one)])
    assert json.loads(str(found.completion.text)) == [
        {"role": "system", "content": "You are the writer. Be brief."},
        {"role": "user", "content": "\nplan: You are the planner. Use a tag.\nticket: ticket of parcel 1"},
    ]


@pytest.mark.parametrize(
    ("calls", "answers"),
    [
        # Nobody was sent the plan.
        ([call("planner", 0, "a plan", ticket="x"), call("writer", 1, "y", plan="p", ticket="x")], {"planner": "new"}),
        # A tool was called that the log does not know.
        (
            [call("planner", 0, "", [TOOL], ticket="x"), call("writer", 1, "y", plan="p", ticket="x")],
            {"planner": Completion(text=None, tool_calls=({"function": {"name": "find", "arguments": "{}"}},))},
        ),
        # A call of no known site was sent it.
        (
            [
                call("planner", 0, "a plan of parcel 7", ticket="x"),
                call(None, 1, "ok", conversation=[{"role": "user", "content": "a plan of parcel 7"}]),
                call("writer", 2, "y", plan="p", ticket="x"),
            ],
            {"planner": "new"},
        ),
    ],
)  # fmt: skip
def test_where_the_log_does_not_tell_the_replay_stops_without_a_reward(
    calls: list[ChainedCall], answers: dict[str, Any]
) -> None:
    one = chain(1, *calls)
    model = Model(**answers)
    (found,) = chained(model, [one])(RUNS["writer"], [case_of(one)])
    assert (found.fidelity, found.reward, found.reached, found.completion.error) == ("chained:divergent", None, 1, None)
    assert len(model.sent) == 1


def test_tools_that_are_called_alike_go_on_with_what_the_log_says_next() -> None:
    talk = [{"role": "assistant", "content": None, "tool_calls": [TOOL]}, {"role": "tool", "content": "depot 7"}]
    one = chain(
        1,
        call("planner", 0, "", [TOOL], ticket="x"),
        call("planner", 1, "say that it is in depot 7", ticket=canonical_json(talk)),
        call("writer", 2, "it is in depot 7", plan="say that it is in depot 7", ticket="x"),
    )
    alike = {"id": "mine", "type": "function", "function": {"name": "find", "arguments": '{ "order": 7 }'}}
    model = as_logged([one])
    (found,) = chained(model, [one])(RUNS["writer"], [case_of(one)])
    assert (found.fidelity, found.reached) == ("chained:exact", 3)
    plain = model.answer
    model.answer = lambda r: replace(plain(r), tool_calls=(alike,)) if plain(r).tool_calls else plain(r)
    (found,) = chained(model, [one])(RUNS["writer"], [case_of(one)])
    assert (found.fidelity, found.reward) == ("chained:substituted", 1.0)


def test_other_sites_answer_as_logged_to_what_was_logged_and_anew_to_anything_else() -> None:
    draft = "it is in the depot of parcel 1"
    one = chain(
        1,
        call("planner", 0, "a plan that says where", ticket="x"),
        call("critic", 1, "fine, but say please", draft="a plan that says where"),
        call("writer", 2, draft, plan="a plan that says where", ticket="fine, but say please"),
    )
    held = {"others": {"critic": RUNS["critic"]}}
    model = as_logged([one])
    (found,) = chained(model, [one], **held)(RUNS["writer"], [case_of(one)])
    assert (found.fidelity, found.reached) == ("chained:exact", 2), "the critic was not asked"
    model = Model(planner="another", critic=lambda r: r.messages[1]["content"] + "?", writer=lambda r: str(r.messages))
    (found,) = chained(model, [one], **held)(RUNS["writer"], [case_of(one)])
    assert found.reached == 3
    assert r"draft: another?" in str(found.completion.text)


def test_episodes_that_are_missing_or_of_unequal_length_cost_nobody_else() -> None:
    short = chain(1, call("writer", 0, "it is in the depot", plan="", ticket="x"))
    gone = pair(3)
    chains = [short, pair(2)]
    level = chained(as_logged(chains), chains)
    found = level(RUNS["writer"], [case_of(short), case_of(chains[1]), case_of(gone)])
    assert [(one.fidelity, one.reached) for one in found] == [
        ("chained:exact", 1),
        ("chained:exact", 2),
        ("chained:divergent", 0),
    ]
    assert "does not tell" in str(found[2].completion.error)
    cut = replace(case_of(chains[1], 0), case_id="t2/0")
    assert chained(Model(), chains, ends={})(RUNS["writer"], [cut])[0].reached == 0, "another call ended the episode"


def test_a_call_that_fails_and_a_budget_that_ends_are_told() -> None:
    chains = [pair(1), pair(2)]
    cases = [case_of(one) for one in chains]
    failed = Model(planner=Completion(text=None, error="timeout"))
    assert [one.completion.error for one in chained(failed, chains)(RUNS["writer"], cases)] == ["timeout"] * 2
    model = as_logged(chains)
    with pytest.raises(BudgetError):
        chained(model, chains, Budget(calls=3))(RUNS["writer"], cases)
    assert len(model.sent) <= 3


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=30)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT, TEXT, TEXT), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_production_that_answers_as_it_did_is_sent_every_logged_request_to_the_byte(
    texts: list[tuple[str, str, str, str]], rng: random.Random
) -> None:
    chains = []
    for number, (ticket, plan, around, draft) in enumerate(texts):
        shown = plan.strip() if rng.random() < 0.5 else f"{number} {around}{plan}{around}"
        calls = [call("planner", 0, plan, ticket=f"{number} {ticket}")]
        if rng.random() < 0.3:
            calls.append(call("planner", 1, draft, ticket=f"{plan}{number}"))
        calls.append(call("writer", len(calls), draft, plan=shown, ticket=f"{number} {ticket}"))
        chains.append(chain(number, *calls))
    model = as_logged(chains)
    level = chained(model, chains)
    found = level(RUNS["planner"], [case_of(one, 0) for one in chains])
    assert {one.fidelity for one in found} == {"chained:exact"}
    assert [one.reached for one in found] == [len(one.calls) for one in chains]
