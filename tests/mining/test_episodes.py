"""Episodes: whole conversations of one site as they are in the lake, or none."""

from typing import Any

from tracemill.mining import cases, episodes, sites

SYSTEM = {"role": "system", "content": "You book flights for the customer."}


def call(number: int) -> dict[str, Any]:
    tool = {"id": f"c{number}", "type": "function", "function": {"name": "find", "arguments": '{"to": "OSL"}'}}
    return {"role": "assistant", "content": None, "tool_calls": [tool]}


def logged(lake: Any, name: str, *, at: int) -> None:
    talk = [SYSTEM, {"role": "user", "content": f"Oslo for {name}"}]
    lake.call(name, talk, call(at), at=at)
    talk = [*talk, call(at), {"role": "tool", "tool_call_id": f"c{at}", "content": "flight 7"}]
    lake.call(name, talk, f"Booked for {name}.", step=1, at=at + 1)
    lake.trajectory(name, group=f"g{name}", pool="learn")


def test_an_episode_is_told_from_its_first_call_to_its_last_or_not_at_all(lake: Any) -> None:
    for at, name in enumerate(("t0", "t1", "t2")):
        logged(lake, name, at=100 + 10 * at)
    title = [{"role": "system", "content": "Write a title."}, {"role": "user", "content": "Oslo"}]
    lake.call("t2", title, "Oslo!", step=2, at=190)
    lake.apply(sites.recover(lake.con, now_ns=1))
    site = next(one for one in sites.load(lake.con) if "conversation" in one.template.slots)
    found = episodes.load(lake.con, site, ["t0", "t1", "t2", "unknown"])
    assert set(found) == {"t0", "t1"}, "what another site ended is not this site's episode"
    first, last = found["t0"].calls
    assert (first.step, last.step) == (0, 1)
    assert first.answer[0]["tool_calls"][0]["function"]["name"] == "find"
    assert last.values["conversation"][: len(first.values["conversation"])] == first.values["conversation"]
    assert last.answer == ({"role": "assistant", "content": "Booked for t0."},)
    assert episodes.load(lake.con, site, []) == {}
    assert {case.trajectory_id for case in cases.load(lake.con, site, pool="learn")} == {"t0", "t1", "t2"}
