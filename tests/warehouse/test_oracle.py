"""Steps, agents and rewards against Agent Lightning 0.3.0's own adapters, on generated traces.

What differs on purpose is listed in docs/trajectories.md, and each difference is a test in test_oracle_differences.py.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from agl_oracle import Oracle, missing
from agl_traces import GIVEN, NAMED, Node, Warehouse, agent, call, logged, reward, trajectory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))
AGENTS = ("writer", "rewriter", "checker")
SLOW = settings(
    max_examples=4,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def asked() -> Iterator[Oracle]:
    with Oracle() as running:
        yield running


@pytest.fixture(scope="module")
def warehouse() -> Warehouse:
    return Warehouse()


@pytest.fixture(scope="module")
def rollouts() -> Iterator[int]:
    return count()


@st.composite
def trees(draw: st.DrawFn, *, lossy: bool = False) -> Node:
    """An episode: agents within agents, calls with tools and agents below them, judged now and then, repeated, lost."""
    numbers = count(1)
    left = count()

    def some(depth: int, named: bool) -> list[Node]:
        return [one(depth, named) for _ in range(draw(st.integers(0, 3)))] if depth < 5 and next(left) < 14 else []

    def one(depth: int, named: bool) -> Node:
        kind = draw(st.sampled_from(("call", "call", "agent", "tool", "step", "reward", "judged", "twice", "again")))
        if kind == "agent":
            spelled = draw(st.integers(0, len(NAMED) - 1))
            return agent(draw(st.sampled_from(AGENTS)), *some(depth + 1, named), spelled=spelled)
        if kind in ("reward", "judged"):
            inner = [call(next(numbers))] if kind == "judged" else []
            return reward(next(left) / 64, *inner, spelled=draw(st.integers(0, len(GIVEN) - 1)))
        if kind == "tool":
            return Node(name="tool", attributes={"tool.name": "search"}, below=some(depth + 1, named))
        if kind == "step":
            return Node(below=some(depth + 1, named), lost=lossy and draw(st.booleans()))
        number = next(numbers)
        if kind == "twice":  # a client's span within a framework's
            return call(number, call(number))
        if kind == "again":  # side by side
            return Node(below=[call(number), call(number)])
        below = some(depth + 1, True)
        # Below a call the oracle wants response ids, and a call right above a call is one for us where it has its own.
        known = named or any("prompt_token_ids" in node.attributes for node in below) or draw(st.booleans())
        return call(number, *below, response_id="" if known else None)

    return agent(draw(st.sampled_from(AGENTS)), *some(0, False), *some(0, False), call(next(numbers)))


Step = tuple[list[int], list[int], str | None]


def ours(warehouse: Warehouse, logs: Sequence[Sequence[dict[str, Any]]]) -> list[list[dict[str, Any]]]:
    """The steps of trajectories, without those of judges, each with the rewards that were given after it."""
    names = [trajectory(log) for log in logs]
    steps: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for row in warehouse.rows(
        "WITH given AS ("
        "  SELECT trajectory_id, step, list(value ORDER BY judged_at) AS rewards FROM step_rewards GROUP BY ALL"
        ") "
        "SELECT t.trajectory_id, t.agent_name, t.input_token_ids, t.output_token_ids, s.response_id, g.rewards "
        "FROM transitions t JOIN spans s ON s.trace_id = t.trajectory_id AND s.span_id = t.span_id "
        "LEFT JOIN given g ON g.trajectory_id = t.trajectory_id AND g.step = t.step "
        "WHERE list_contains(?, t.trajectory_id) AND t.untrainable_reason IS DISTINCT FROM 'judge' "
        "ORDER BY t.trajectory_id, t.step",
        names,
    ):
        steps[row["trajectory_id"]].append(row)
    return [steps[name] for name in names]


def step_of(found: dict[str, Any]) -> Step:
    if "prompt" in found:
        return found["prompt"]["token_ids"], found["response"]["token_ids"], found["metadata"]["response_id"]
    return found["input_token_ids"], found["output_token_ids"], found["response_id"]


def same_agents(mine: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]]) -> None:
    """Where the oracle knows no agent ("*"), we may."""
    known = {str(step_of(triplet)): triplet["metadata"]["agent_name"] for triplet in theirs}
    for row in mine:
        if known[str(step_of(row))] != "*":
            assert row["agent_name"] == known[str(step_of(row))]


def same_rewards(mine: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]]) -> None:
    """The oracle gives a call the first reward after it, and what is left over to calls before it that have none."""
    given = {str(step_of(triplet)): triplet["reward"] for triplet in theirs}
    left = Counter(value for row in mine for value in (row["rewards"] or ())[1:])
    for row in mine:
        found = given[str(step_of(row))]
        if row["rewards"]:
            assert found == row["rewards"][0]
        elif found is not None:
            left.subtract([found])
    assert all(number >= 0 for number in left.values())


def logs_of(drawn: Sequence[Node], rollouts: Iterator[int]) -> list[list[dict[str, Any]]]:
    return [logged(tree, rollout=f"rollout-{next(rollouts)}") for tree in drawn]


@SLOW
@given(drawn=st.lists(trees(), min_size=4, max_size=8), pattern=st.sampled_from(("writer", "^re", "er$", "nobody")))
def test_steps_agents_and_rewards_are_the_oracles(
    drawn: list[Node], pattern: str, warehouse: Warehouse, asked: Oracle, rollouts: Iterator[int], tmp_path: Path
) -> None:
    logs = logs_of(drawn, rollouts)
    warehouse.take(tmp_path / "log.jsonl", [span for log in logs for span in log])
    for log, mine in zip(logs, ours(warehouse, logs), strict=True):
        theirs, _ = asked.ask("tracer", log)
        assert [step_of(row) for row in mine] == [step_of(triplet) for triplet in theirs]
        same_agents(mine, theirs)
        same_rewards(mine, theirs)
        (matched, _) = asked.ask("tracer", log, agent_match=pattern)
        chosen = [row for row in mine if re.search(pattern, row["agent_name"])]
        assert [step_of(row) for row in chosen] == [step_of(triplet) for triplet in matched]


@SLOW
@given(drawn=st.lists(trees(), min_size=4, max_size=8))
def test_the_reward_of_a_trajectory_is_the_last_as_the_oracle_finds_it(
    drawn: list[Node], warehouse: Warehouse, asked: Oracle, rollouts: Iterator[int], tmp_path: Path
) -> None:
    logs = logs_of(drawn, rollouts)
    warehouse.take(tmp_path / "log.jsonl", [span for log in logs for span in log])
    last = warehouse.rows("SELECT trajectory_id, value FROM rewards WHERE name = 'reward'")
    found = {row["trajectory_id"]: row["value"] for row in last}
    for log in logs:
        # The oracle takes the order that it is given, and a store gives spans as they ended.
        final, _ = asked.ask("final", sorted(log, key=lambda span: float(span["end_time"])))
        assert found.get(trajectory(log)) == final


@SLOW
@given(drawn=st.lists(trees(lossy=True), min_size=4, max_size=8))
def test_below_spans_that_never_came_the_steps_are_the_oracles(
    drawn: list[Node], warehouse: Warehouse, asked: Oracle, rollouts: Iterator[int], tmp_path: Path
) -> None:
    logs = logs_of(drawn, rollouts)
    warehouse.take(tmp_path / "log.jsonl", [span for log in logs for span in log])
    for log, mine in zip(logs, ours(warehouse, logs), strict=True):
        theirs, _ = asked.ask("tracer", log)
        # The oracle visits trees whose root is lost in no particular order.
        assert [step_of(row) for row in mine] == sorted(map(step_of, theirs), key=lambda step: step[0])
        same_agents(mine, theirs)
        same_rewards(mine, theirs)


@SLOW
@given(
    drawn=st.lists(trees(), min_size=4, max_size=8),
    times=st.randoms(use_true_random=False),
)
def test_whatever_the_times_and_the_order_of_arrival_the_steps_are_the_oracles(
    drawn: list[Node], times: Any, warehouse: Warehouse, asked: Oracle, rollouts: Iterator[int], tmp_path: Path
) -> None:
    logs = logs_of(drawn, rollouts)
    for log in logs:
        for span in log:  # many at the same time, side by side, before their parents
            span["start_time"] = span["start_time"] - span["start_time"] % 8 + times.randrange(4)
            span["end_time"] = span["start_time"] + times.randrange(1, 6)
    came = [span for log in logs for span in log]
    warehouse.take(tmp_path / "log.jsonl", times.sample(came, len(came)))
    for log, mine in zip(logs, ours(warehouse, logs), strict=True):
        theirs, _ = asked.ask("tracer", log, repair_hierarchy=False)
        assert sorted(map(step_of, mine), key=str) == sorted(map(step_of, theirs), key=str)
        same_agents(mine, theirs)
