"""Data flow: where an episode's answers went, as far as its log shows it."""

from typing import Any

import pytest

from tracemill.mining import episodes, sites
from tracemill.mining.dataflow import linked
from tracemill.records import ChainedCall, Passed

PLAN = "1. Say hello. 2. Say where the parcel is."


def call(site: str, answer: str | list[dict[str, Any]], **values: Any) -> ChainedCall:
    said = {"role": "assistant", "content": answer} if isinstance(answer, str) else {"tool_calls": answer}
    return ChainedCall(site_id=site, step=0, values=values, answer=(said,))


def told(*calls: ChainedCall, given: list[tuple[str, str]] | None = None) -> list[bool]:
    return [one.told for one in linked(calls, given or ())]


def tool(arguments: str) -> list[dict[str, Any]]:
    return [{"id": "c", "type": "function", "function": {"name": "ask", "arguments": arguments}}]


def test_a_slot_that_is_an_answer_and_a_text_that_holds_one_are_found_to_the_character() -> None:
    _, second, third = linked(
        [
            call("planner", f" {PLAN}\n", ticket="Where is it?"),
            call("writer", "Hello! In depot 7, on its way.", plan=PLAN, ticket="Where is it?"),
            call(
                "checker", "fine", talk=[{"role": "user", "content": f"Plan: {PLAN}\nHello! In depot 7, on its way."}]
            ),
        ]
    )
    assert second.passed == (Passed(source=0, slot="plan", turn=None, start=0, end=len(PLAN)),)
    assert second.told
    assert not third.told, "the last answer went nowhere"
    text = third.values["talk"][0]["content"]
    assert [(one.source, text[one.start : one.end]) for one in third.passed] == [
        (0, PLAN),
        (1, "Hello! In depot 7, on its way."),
    ]


def test_what_is_quoted_inside_another_answer_went_into_that_one() -> None:
    calls = linked(
        [
            call("planner", PLAN, ticket="Where?"),
            call("writer", f"As planned: {PLAN} Hello!", plan=PLAN),
            call("checker", "fine", draft=f"As planned: {PLAN} Hello!"),
        ]
    )
    assert [(one.source, one.slot) for one in calls[2].passed] == [(1, "draft")]
    assert [one.told for one in calls] == [True, True, False]


def test_a_short_answer_is_found_where_a_slot_is_nothing_else() -> None:
    assert told(call("sorter", "billing", ticket="my invoice"), call("writer", "ok", queue="billing")) == [True, False]
    assert told(call("sorter", "billing", ticket="my invoice"), call("writer", "ok", note="to billing")) == [False] * 2


@pytest.mark.parametrize(
    ("why", "calls", "given"),
    [
        ("nobody was sent it", [call("a", PLAN, t="x"), call("b", "ok", t="x")], []),
        ("it repeats what was known", [call("a", "my parcel?", t="my parcel?"), call("b", "ok", q="my parcel?")], []),
        ("two calls said the same", [call("a", PLAN, t="x"), call("a", PLAN, t="y"), call("b", "ok", p=PLAN)], []),
        ("it stands there twice", [call("a", PLAN, t="x"), call("b", "ok", p=f"{PLAN} and {PLAN}")], []),
        ("a part was passed on, too", [call("a", PLAN, t="x"), call("b", "ok", p=PLAN, first="1. Say hello.")], []),
        ("a tool was given it", [call("a", PLAN, t="x"), call("b", "ok", p=PLAN)], [("save", f'{{"text": "{PLAN}"}}')]),
        (
            "a tool was called with it",
            [
                call("a", PLAN, t="x"),
                call("b", "ok", p=PLAN, talk=[{"role": "assistant", "tool_calls": tool(f'{{"q": "{PLAN}"}}')}]),
            ],
            [],
        ),
    ],
)  # fmt: skip
def test_an_answer_is_not_told_where(why: str, calls: list[ChainedCall], given: list[tuple[str, str]]) -> None:
    assert linked(calls, given)[0].told is False


def test_a_tool_that_an_answer_called_is_no_other_way_out() -> None:
    asked = tool(f'{{"text": "{PLAN}"}}')
    calls = [call("a", PLAN, t="x"), call("b", asked, p=PLAN), call("b", "done", p=PLAN)]
    assert linked(calls, [("ask", f'{{"text":"{PLAN}"}}')])[0].told
    assert not linked(calls, [("save", f'{{"text":"{PLAN}"}}')])[0].told


def test_the_talk_so_far_is_no_answer_of_today() -> None:
    before = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Hello, how can I help?"}]
    after = [*before, {"role": "user", "content": "bye"}]
    calls = linked([call("a", "Hello, how can I help?", talk=before), call("a", "Bye!", talk=after)])
    assert calls[1].passed == ()


PLANS = {"t0": "he looks 3 6 9", "t1": "was 5 10 15 20", "t2": "look after a parcel", "t3": "none"}
"""They have so little in common that no template takes a part of them for its own text."""


def log_episode(lake: Any, name: str, *, unknown: bool = False, at: int = 0) -> None:
    plan = PLANS[name]
    question = f"{name} asks where it is, {name}"
    ask = [{"role": "system", "content": "You plan."}, {"role": "user", "content": question}]
    write = [{"role": "system", "content": "You write."}, {"role": "user", "content": f"Plan: {plan}\nWrite."}]
    lake.call(name, ask, plan, agent="planner", at=at)
    lake.call(name, write, None if unknown else f"It is there, {name}.", step=1, agent="writer", at=at + 1)
    lake.call(name, [{"role": "user", "content": f"{at} odd {name}"}, *ask[1:]], "x", step=2, agent=None, at=at + 2)
    lake.trajectory(name, group=f"g{name}", pool="learn")


def test_chains_are_read_from_the_lake_whole_or_not_at_all(lake: Any) -> None:
    for number in range(4):
        log_episode(lake, f"t{number}", unknown=number == 3, at=100 * number)
    lake.add("spans", {"trace_id": "t1", "span_id": "tool", "kind": "tool", "tool_name": "save",
                       "tool_args": '{"plan": "was 5 10 15 20"}'})  # fmt: skip
    lake.apply(sites.recover(lake.con, now_ns=1))
    known = {site.agent_name: site for site in sites.load(lake.con)}
    pair = [known["planner"], known["writer"]]
    asked = [site.site_id for site in pair]
    found = episodes.chains(lake.con, pair, asked, ["t0", "t1", "t2", "t3", "nobody"])
    assert set(found) == {"t0", "t1", "t2"}, "an episode with a call that nothing answered is not told"
    planner, writer, other = found["t0"].calls
    assert (planner.site_id, writer.site_id, other.site_id) == (*asked, None)
    assert planner.told
    assert [one.source for one in writer.passed] == [0]
    assert other.values["conversation"][-1]["content"] == "t0 asks where it is, t0"
    assert not found["t1"].calls[0].told, "a tool was given the plan"
    assert episodes.chains(lake.con, pair, asked, []) == {}
