"""Call sites in portions, and which of the logged calls a portion reads."""

from datetime import date
from typing import Any

import pytest
from mined_sites import DEMOS, SYSTEM, TICKETS, ask, recover, said, user

from tracemill.mining import sites
from tracemill.mining.calls import mined


def test_calls_in_portions_are_as_well_recovered_as_all_at_once(new_lake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = [(agent, ticket, at) for at, ticket in enumerate(TICKETS * 3) for agent in ("desk", "clerk")]
    lakes = [new_lake(), new_lake()]
    for lake in lakes:
        for n, (agent, ticket, at) in enumerate(calls):
            turns = [said("Which one?"), user("that one")] if at % 3 == 0 else []
            lake.call(f"t{n}", [SYSTEM, *DEMOS, ask(ticket), *turns], agent=agent, at=None if at > 20 else at // 2)
        lake.call("lost", [], agent="desk", at=0)
    recover(lakes[0])
    monkeypatch.setattr("tracemill.mining.calls.MOST_CALLS", 7)
    monkeypatch.setattr("tracemill.mining.calls.MOST_REFS", 40)
    seen, unassigned, last = [], 0, None
    while True:
        update = sites.recover(lakes[1].con, now_ns=1, after=last)
        lakes[1].apply(update)
        seen.append(len(update.assigned) + len(update.unassigned))
        unassigned += len(update.unassigned)
        last = update.last
        if last is None:
            break
    assert (unassigned, sum(seen)) == (1, len(calls) + 1)
    assert max(seen) <= 7
    found = [
        lake.con.execute("select trajectory_id, step, site_id, site_version from transitions order by all").fetchall()
        for lake in lakes
    ]
    assert found[0] == found[1]
    told = [
        lake.con.execute("select site_id, site_version, template, n_calls, last_ns from sites order by all").fetchall()
        for lake in lakes
    ]
    assert told[0] == told[1]


def test_what_was_said_on_another_day_than_the_call_is_found(lake: Any) -> None:
    for n, ticket in enumerate(TICKETS):
        lake.call(f"t{n}", [SYSTEM, ask(ticket)], at=n, day=date(2026, 9, 2))
    lake.con.execute("update messages set day = date '2026-09-02'")
    lake.con.execute("update messages set day = date '2026-08-01' where role = 'system'")
    update = recover(lake)
    assert (len(update.assigned), len(update.unassigned)) == (len(TICKETS), 0)


def test_the_calls_that_a_version_is_compared_with_are_its_latest(lake: Any) -> None:
    for n in range(60):
        lake.call(f"t{n}", [SYSTEM, ask(TICKETS[n % 8])], at=None if n % 2 else n)
    recover(lake)
    lake.call("new", [SYSTEM, ask("x")], at=100)
    with mined(lake.con, per_version=40) as found:
        assert [t for t in found.calls.rows["trajectory_id"].to_pylist() if t != "new"] == [
            *(f"t{n}" for n in range(0, 60, 2)),
            *sorted(f"t{n}" for n in range(1, 60, 2))[:10],
        ]
    with mined(lake.con, per_version=3) as found:
        assert found.calls.rows["trajectory_id"].to_pylist() == ["t54", "t56", "t58", "new"]
