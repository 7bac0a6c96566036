"""What every credit assigner must do. A new one is one line in OPTIONS."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracemill.errors import ConfigError
from tracemill.protocols import CreditAssigner
from tracemill.records import ChatRequest, Completion
from tracemill.rewards.credit import ASSIGNERS, build
from tracemill.schema import CREDITS

OTHER: dict[str, dict[str, Any]] = {  # an option at another value than the default
    "uniform": {},
    "discounted": {"gamma": 0.5},
    "tool_potential": {"scale": 0.2},
    "anchor_group": {"shrink": 3.0},
    "value_delta": {"lam": 0.9},
    "hindsight": {"share": 1.0},
}


class FirstStep:
    """Names the first step of each run that it reads; keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[ChatRequest] = []

    def complete(self, requests: Sequence[ChatRequest]) -> list[Completion]:
        self.asked += requests
        return [Completion(text=str(self.story(one)["steps"][0]["step"])) for one in requests]

    @staticmethod
    def story(request: ChatRequest) -> dict[str, Any]:
        body = request.messages[1]["content"]
        assert body.startswith("<log>\n")
        assert body.endswith("\n</log>")
        told: dict[str, Any] = json.loads(body.removeprefix("<log>\n").removesuffix("\n</log>"))
        return told


def assigner(method: str, **options: Any) -> CreditAssigner:
    return build(method, options, chat=FirstStep(), model="reader")


def episode(lake: Any, name: str, calls: Sequence[str], reward: float | None, **about: Any) -> None:
    """A run whose calls each have one tool, which answers `ok`, fails (`error`) or was called wrongly (`bad`)."""
    lake.trajectory(name, *(f"{name} says {at}" for at in range(len(calls))), **about)
    for at, status in enumerate(calls):
        if status == "none":
            continue
        known, args = "ok" if status == "ok" else "error", '{"q": ' if status == "bad" else '{"q": 1}'
        row = {"trace_id": name, "span_id": f"{name}-{at}-tool", "kind": "tool", "seq": at, "tool_name": "find"}
        lake.add("spans", {**row, "status": known, "tool_args": args})
    if reward is not None:
        lake.score(name, "combined", reward, source="code")


def totals(rows: Any) -> dict[str, float]:
    found: dict[str, float] = {}
    for row in rows.to_pylist():
        found[row["trajectory_id"]] = found.get(row["trajectory_id"], 0.0) + row["credit"]
    return found


@pytest.fixture
def filled(lake: Any) -> Any:
    for at in range(6):
        episode(lake, f"good{at}", ["ok", "ok", "none"], 1.0, user_key=f"u{at}")
        episode(lake, f"bad{at}", ["ok", "error", "error", "none"], 0.0, user_key=f"v{at}")
    episode(lake, "single", ["none"], 0.5)
    episode(lake, "unknown", ["ok", "none"], None)
    return lake


def test_every_method_is_in_this_suite() -> None:
    assert set(OTHER) == set(ASSIGNERS)


@pytest.mark.parametrize("method", ASSIGNERS)
def test_credits_add_up_to_the_advantage_and_unknown_rewards_have_none(method: str, filled: Any) -> None:
    one = assigner(method)
    rows = one.assign(filled.con)
    assert rows.schema == CREDITS
    assert len({(row["trajectory_id"], row["step"]) for row in rows.to_pylist()}) == len(rows) == 6 * 3 + 6 * 4 + 1
    assert {(row["method"], row["version"]) for row in rows.to_pylist()} == {(one.name, one.version)}
    mean = (6 * 1.0 + 0.5) / 13
    for name, total in totals(rows).items():
        reward = 0.5 if name == "single" else float(name.startswith("good"))
        assert total == pytest.approx(reward - mean, abs=1e-9)


@pytest.mark.parametrize("method", ASSIGNERS)
def test_the_same_lake_gives_the_same_rows(method: str, filled: Any) -> None:
    assert assigner(method).assign(filled.con).equals(assigner(method).assign(filled.con))


@pytest.mark.parametrize("method", ASSIGNERS)
def test_nothing_is_credited_twice_at_one_reward_and_again_at_another(method: str, filled: Any) -> None:
    one = assigner(method)
    filled.put("credits", one.assign(filled.con))
    assert len(one.assign(filled.con)) == 0
    filled.score("good0", "combined", 0.25, source="code", at=2)
    again = one.assign(filled.con)  # the mean of all has moved
    assert totals(again)["good0"] == pytest.approx(0.25 - (5 * 1.0 + 0.25 + 0.5) / 13, abs=1e-9)


@pytest.mark.parametrize("method", ASSIGNERS)
def test_a_judgement_withdrawn_takes_its_credits_back(method: str, filled: Any) -> None:
    one = assigner(method)
    filled.put("credits", one.assign(filled.con))
    filled.score("good0", "combined", None, source="code", at=2)
    back = [row for row in one.assign(filled.con).to_pylist() if row["trajectory_id"] == "good0"]
    assert [(row["step"], row["credit"], row["variance"]) for row in back] == [(at, None, None) for at in range(3)]


@pytest.mark.parametrize("method", ASSIGNERS)
def test_an_empty_lake_gives_no_rows(method: str, lake: Any) -> None:
    rows = assigner(method).assign(lake.con)
    assert (rows.schema, len(rows)) == (CREDITS, 0)


@pytest.mark.parametrize("method", ASSIGNERS)
def test_the_version_follows_the_options_and_nothing_else(method: str) -> None:
    assert assigner(method).version == assigner(method).version
    if OTHER[method]:
        assert assigner(method, **OTHER[method]).version != assigner(method).version


@pytest.mark.parametrize("method", ASSIGNERS)
def test_pools_are_never_compared_with_each_other(method: str, lake: Any) -> None:
    episode(lake, "learned", ["ok", "none"], 1.0, task_group="g1", pool="learn")
    episode(lake, "gated", ["ok", "none"], 0.0, task_group="g2", pool="gate")
    assert totals(assigner(method).assign(lake.con)) == {"learned": 0.0, "gated": 0.0}


_EPISODES = st.lists(
    st.tuples(
        st.lists(st.sampled_from(["ok", "error", "bad", "none"]), min_size=1, max_size=6),
        st.floats(0, 1),
        st.sampled_from(["g", "h", None]),
        st.sampled_from(["u", "v", None]),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(told=_EPISODES)
def test_whatever_happened_the_sum_is_the_advantage(told: Any, new_lake: Any) -> None:
    lake = new_lake()
    for at, (calls, reward, group, user) in enumerate(told):
        episode(lake, f"t{at}", calls, reward, task_group=group, user_key=user)
    everyone = [reward for _, reward, _, _ in told]
    groups: dict[Any, list[float]] = {}
    for _, reward, group, _ in told:
        groups.setdefault(group, []).append(reward)
    for method in ASSIGNERS:
        found = totals(assigner(method).assign(lake.con))
        assert len(found) == len(told)
        for at, (_, reward, group, _) in enumerate(told):
            own = groups[group] if group is not None and len(groups[group]) > 1 else everyone
            assert found[f"t{at}"] == pytest.approx(reward - sum(own) / len(own), abs=1e-9)


def test_an_unknown_method_or_option_says_what_is_known() -> None:
    with pytest.raises(ConfigError, match="unknown credit method 'magic'; known: uniform, discounted"):
        build("magic")
    with pytest.raises(ConfigError, match="credit 'discounted' has no option gama; known: gamma"):
        build("discounted", {"gama": 1})
    with pytest.raises(ConfigError, match="asks a model"):
        build("hindsight")
    with pytest.raises(ConfigError, match="gamma must lie"):
        build("discounted", {"gamma": 2.0})
