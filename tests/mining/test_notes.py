"""What an optimizer hears beside the cases: notes on poor answers, confirmed findings, prompts that ran before."""

import json
from typing import Any

import pytest

from tracemill.mining import cases, notes, sites
from tracemill.study import Note

SYSTEM = {"role": "system", "content": "Route the ticket."}


def turn(*texts: str) -> list[dict[str, Any]]:
    roles = ["user", "assistant"] * len(texts)
    return [SYSTEM, *({"role": role, "content": text} for role, text in zip(roles, texts, strict=False))]


@pytest.fixture
def desk(lake: Any) -> Any:
    for i in range(6):
        lake.call(f"t{i}", turn(f"ticket {i} is here"), f"queue {i}", at=100 + i, seq=0)
        lake.trajectory(f"t{i}", group=f"g{i}", pool="learn" if i < 4 else "gate", n_llm_calls=1)
    return lake


def known(lake: Any) -> dict[str, tuple[Note, ...]]:
    lake.apply(sites.recover(lake.con, now_ns=1))
    (site,) = sites.load(lake.con)
    return notes.notes(lake.con, cases.load(lake.con, site, pool="learn"))


def test_people_users_judges_and_tools_are_heard_on_what_went_wrong(desk: Any) -> None:
    for i in range(4):
        desk.score(f"t{i}", "combined", float(i == 3))
        desk.score(f"t{i}", "combined_low", float(i == 3))
        desk.score(f"t{i}", "review", 0.0, source="human", label="too short")
    evidence = {
        "criteria": {"polite": {"met": 0.0, "quote": "go away"}, "right": {"met": 1.0}, "told": {"abstains": ""}}
    }
    desk.score("t1", "judge", 0.2, source="llm", evidence=json.dumps(evidence))
    desk.score("t1", "judge", 0.2, source="llm", evidence="no json", at=0)
    desk.score("t2/0", "stars", 1.0, kind="step", source="user", label="wrong queue")
    desk.add(
        "spans",
        {"trace_id": "t2", "span_id": "x", "kind": "tool", "tool_name": "lookup", "status": "error",
         "error_message": "locked", "start_ns": 103, "seq": 1},
        {"trace_id": "t2", "span_id": "y", "kind": "tool", "tool_name": "lookup", "status": "ok"},
    )  # fmt: skip
    found = known(desk)
    assert set(found) == {"t0/0", "t1/0", "t2/0"}, "the good one needs no critique"
    assert found["t0/0"] == (Note(voice="person", text="too short"),)
    assert set(found["t1/0"]) == {
        Note(voice="person", text="too short"),
        Note(voice="judge", text="polite is not met: go away"),
    }
    assert set(found["t2/0"]) == {
        Note(voice="person", text="too short"),
        Note(voice="user", text="wrong queue"),
        Note(voice="tool", text="lookup: locked"),
    }


def test_what_a_user_said_next_is_a_note_on_the_answer_before(lake: Any) -> None:
    for i in range(4):
        lake.call(f"t{i}", turn(f"my parcel {i}"), "billing", step=0, at=100 + 10 * i)
        lake.call(f"t{i}", turn(f"my parcel {i}", "billing", f"No! {i} is lost"), "shipping", step=1, at=101 + 10 * i)
        lake.trajectory(f"t{i}", group=f"g{i}", n_llm_calls=2)
        lake.score(f"t{i}", "combined", 0.0)
    found = known(lake)
    assert found["t0/0"] == (Note(voice="user", text="No! 0 is lost"),)
    assert "t0/1" not in found


def test_what_another_conversation_begins_with_is_nothing_that_a_user_said_next(lake: Any) -> None:
    for i in range(4):
        for step, text in enumerate((f"my parcel {i}", f"your bill {i}")):
            lake.call(f"run/{i}", turn(text), "billing", step=step, at=100 + 10 * i + step)
        lake.trajectory(f"run/{i}", group=f"g{i}", n_llm_calls=2)
        lake.score(f"run/{i}", "combined", 0.0)
    lake.score("run/0", "review", 0.0, source="human", label="too short")
    lake.score("run/1/1", "stars", 0.0, kind="step", source="user", label="wrong queue")
    assert known(lake) == {
        "run/0/0": (Note(voice="person", text="too short"),),
        "run/0/1": (Note(voice="person", text="too short"),),
        "run/1/1": (Note(voice="user", text="wrong queue"),),
    }


def test_long_notes_are_cut(desk: Any) -> None:
    desk.score("t0", "combined", 0.0)
    desk.score("t0", "review", 0.0, source="human", label="x" * 5_000)
    assert len(known(desk)["t0/0"][0].text) == 1_000


def test_only_confirmed_findings_of_the_site_or_its_agent_are_hints(desk: Any) -> None:
    known(desk)
    (site,) = sites.load(desk.con)
    base = {"status": "confirmed", "feedback": "The tool fails.", "coverage": 0.1, "agent_name": "desk"}
    desk.add(
        "findings",
        {**base, "finding_id": "a", "site_id": site.site_id, "n_users": 9, "exemplars": ["t1"], "cost_usd_day": 1.0},
        {**base, "finding_id": "b", "site_id": None},
        {**base, "finding_id": "c", "site_id": "other"},
        {**base, "finding_id": "d", "site_id": None, "agent_name": "another"},
        {**base, "finding_id": "e", "site_id": site.site_id, "status": "candidate"},
        {**base, "finding_id": "f", "site_id": site.site_id, "coverage": 0.0},
    )
    found = notes.hints(desk.con, site)
    assert [one.finding_id for one in found] == ["a", "b"]
    assert (found[0].text, found[0].trajectories, found[0].n_users) == ("The tool fails.", ("t1",), 9)


def test_versions_are_compared_by_single_judged_calls_of_the_learn_pool(desk: Any) -> None:
    for i in range(6):
        desk.score(f"t{i}", "combined_low", float(i % 2))
    known(desk)
    (site,) = sites.load(desk.con)
    ((version, mean),) = notes.versions(desk.con, site).items()
    assert version == site.site_version
    assert (mean.estimate, mean.n, mean.n_clusters) == (0.5, 4, 4)
