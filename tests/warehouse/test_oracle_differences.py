"""Where tracemill differs from Agent Lightning 0.3.0 on purpose: each line of the list in docs/trajectories.md."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from agl_oracle import Oracle, missing
from agl_traces import CALL, Node, Warehouse, agent, call, logged, made, reward, trajectory

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))
Log = list[dict[str, Any]]


@pytest.fixture(scope="module")
def asked() -> Iterator[Oracle]:
    with Oracle() as running:
        yield running


@pytest.fixture
def land(tmp_path: Path) -> Callable[[Log], Warehouse]:
    def run(log: Log) -> Warehouse:
        warehouse = Warehouse()
        warehouse.take(tmp_path / "log.jsonl", log)
        return warehouse

    return run


Land = Callable[[Log], Warehouse]


def steps(warehouse: Warehouse, columns: str = "input_token_ids[1] AS number") -> list[Any]:
    found = warehouse.rows(f"SELECT {columns} FROM transitions ORDER BY step")
    return [next(iter(row.values())) if len(row) == 1 else tuple(row.values()) for row in found]


def rewards(warehouse: Warehouse, place: str = "step") -> list[tuple[int, float]]:
    found = warehouse.rows(f"SELECT {place} AS place, value FROM step_rewards ORDER BY judged_at, value")
    return [(row["place"], row["value"]) for row in found]


def theirs(asked: Oracle, log: Sequence[dict[str, Any]], **options: Any) -> list[tuple[int, float | None]]:
    return [(found["prompt"]["token_ids"][0], found["reward"]) for found in asked.ask("tracer", log, **options)[0]]


def test_a_reward_belongs_to_the_call_before_it_and_never_to_an_earlier_one(land: Land, asked: Oracle) -> None:
    log = logged(agent("w", call(1), call(2), reward(0.25), reward(1.0)))
    assert theirs(asked, log) == [(1, 1.0), (2, 0.25)]
    warehouse = land(log)
    assert rewards(warehouse) == [(1, 0.25), (1, 1.0)]
    assert warehouse.rows("SELECT value FROM rewards") == [{"value": 1.0}], "the trajectory's is the last"


def test_a_reward_stays_with_its_call_whichever_agents_are_asked_for(land: Land, asked: Oracle) -> None:
    log = logged(agent("boss", agent("writer", call(1)), agent("checker", call(2)), reward(1.0)))
    assert theirs(asked, log, agent_match="writer") == [(1, 1.0)]
    assert rewards(land(log)) == [(1, 1.0)]


def test_a_linked_reward_belongs_to_the_call_that_it_names(land: Land, asked: Oracle) -> None:
    judged = reward(0.5)
    judged.attributes |= {
        "agentlightning.link.0.key_match": "span_id",
        "agentlightning.link.0.value_match": f"{2:016x}",
    }
    log = logged(agent("w", call(1), call(2), judged))
    assert theirs(asked, log) == [(1, None), (2, 0.5)]
    warehouse = land(log)
    assert rewards(warehouse) == [(0, 0.5)]
    assert warehouse.rows("SELECT how FROM step_rewards") == [{"how": "linked"}]


def test_every_dimension_of_a_reward_counts_and_the_first_is_the_main_one(land: Land, asked: Oracle) -> None:
    named = {"0.name": "success", "0.value": 1.0, "1.name": "brevity", "1.value": 0.25}
    judged = Node(
        name="agentlightning.annotation", attributes={f"agentlightning.reward.{k}": v for k, v in named.items()}
    )
    log = logged(agent("w", call(1), judged))
    assert theirs(asked, log) == [(1, 1.0)]
    found = land(log).rows("SELECT name, value, main FROM step_rewards ORDER BY name")
    assert [tuple(row.values()) for row in found] == [("brevity", 0.25, False), ("success", 1.0, True)]


def test_rewards_of_siblings_are_beside_those_of_calls_before(land: Land, asked: Oracle) -> None:
    log = logged(agent("w", call(1), agent("c", call(2)), reward(0.5)))
    assert theirs(asked, log, reward_match="first_sibling") == [(1, 0.5), (2, None)]
    warehouse = land(log)
    assert (rewards(warehouse), rewards(warehouse, "sibling_step")) == ([(1, 0.5)], [(0, 0.5)])


def test_a_call_is_told_by_what_it_says_not_by_its_spans_name(land: Land, asked: Oracle) -> None:
    said = {"gen_ai.operation.name": "chat", "prompt_token_ids": [1, 1], "response_token_ids": [1, 2]}
    log = logged(agent("w", Node(name="chat gpt-4o", attributes=said)))
    assert theirs(asked, log) == []
    assert steps(land(log)) == [1]


def test_steps_are_in_the_order_of_time_also_where_agents_work_side_by_side(land: Land, asked: Oracle) -> None:
    names = (agent("boss"), agent("a"), call(1), call(3), agent("b"), call(2))
    parents, starts = (None, 1, 2, 2, 1, 5), (0, 1, 2, 6, 3, 4)
    log = [
        made(
            node,
            f"{at + 1:016x}",
            parent and f"{parent:016x}",
            start=start,
            end=9 if node.name == "agent" else start + 1,
        )
        for at, (node, parent, start) in enumerate(zip(names, parents, starts, strict=True))
    ]
    assert [number for number, _ in theirs(asked, log, repair_hierarchy=False)] == [1, 3, 2]
    assert steps(land(log), "input_token_ids[1] AS number, agent_name") == [(1, "a"), (2, "b"), (3, "a")]


def test_a_parent_that_is_there_is_believed_and_time_only_helps_out(land: Land, asked: Oracle) -> None:
    own = {"gen_ai.response.id": "x"}
    log = [
        made(agent("boss"), f"{1:016x}", start=0, end=9),
        made(agent("background"), f"{2:016x}", f"{1:016x}", start=1, end=8),
        made(call(1, **own), f"{3:016x}", f"{1:016x}", start=2, end=3),
    ]
    (found,) = asked.ask("tracer", log)[0]
    assert found["metadata"]["agent_name"] == "background"
    assert steps(land(log), "agent_name") == ["boss"]
    # Without an agent above it, the one at work meanwhile is it for both.
    log[0]["attributes"] = {}
    (found,) = asked.ask("tracer", log)[0]
    assert found["metadata"]["agent_name"] == "background"
    assert steps(land(log), "agent_name") == ["background"]


def test_a_call_that_names_its_agent_is_its_agents(land: Land, asked: Oracle) -> None:
    log = logged(agent("boss", call(1, **{"gen_ai.agent.name": "helper"})))
    assert asked.ask("tracer", log)[0][0]["metadata"]["agent_name"] == "boss"
    assert steps(land(log), "agent_name") == ["helper"]


def test_of_a_call_within_a_call_the_inner_one_counts(land: Land, asked: Oracle) -> None:
    log = logged(agent("w", call(1, call(2, response_id=None), response_id=None)))
    assert theirs(asked, log) == [(1, None)]
    assert steps(land(log)) == [2]


def test_a_call_of_a_tool_of_a_call_counts_without_a_response_id_too(land: Land, asked: Oracle) -> None:
    log = logged(agent("w", call(1, Node(name="tool", below=[call(2, response_id=None)]))))
    assert theirs(asked, log) == [(1, None)]
    assert steps(land(log)) == [1, 2]


def test_one_response_id_on_two_answers_is_two_calls(land: Land, asked: Oracle) -> None:
    log = logged(agent("w", call(1, response_id="chatcmpl-42"), call(2, response_id="chatcmpl-42")))
    assert theirs(asked, log) == [(1, None)]
    assert steps(land(log)) == [1, 2]


def test_a_failed_call_is_a_step_that_nothing_is_learned_from(land: Land, asked: Oracle) -> None:
    log = logged(agent("w", call(1)))
    log[1]["status"] = {"status_code": "ERROR", "description": "overloaded"}
    assert theirs(asked, log) == [(1, None)]
    assert steps(land(log), "trainable, untrainable_reason") == [(False, "error")]


def test_a_judges_call_is_a_step_that_nothing_is_learned_from(land: Land, asked: Oracle) -> None:
    log = logged(agent("w", call(1), reward(1.0, call(2))))
    assert theirs(asked, log) == [(1, 1.0)]
    assert steps(land(log), "input_token_ids[1], untrainable_reason") == [(1, None), (2, "judge")]


def test_messages_of_the_current_conventions_are_read(land: Land, asked: Oracle) -> None:
    said = [{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]
    answered = [{"role": "assistant", "parts": [{"type": "text", "content": "yo"}]}]
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.input.messages": json.dumps(said),
        "gen_ai.output.messages": json.dumps(answered),
    }
    log = logged(agent("w", Node(name="chat m", attributes=attributes)))
    assert asked.ask("messages", log)[0] == []
    assert land(log).rows("SELECT input_text, output_text FROM llm_calls") == [
        {"input_text": "user: hi", "output_text": "yo"}
    ]


def test_what_was_said_beside_tool_calls_is_kept_and_calls_come_from_the_answer(land: Land, asked: Oracle) -> None:
    said = {
        "gen_ai.prompt.0.role": "assistant",
        "gen_ai.prompt.0.content": "I look.",
        **{f"gen_ai.prompt.0.tool_calls.0.{k}": v for k, v in {"id": "c", "name": "f", "arguments": "{}"}.items()},
        "gen_ai.completion.0.role": "assistant",
        "gen_ai.completion.0.content": "Done.",
    }
    requested = {"tool.name": "f", "tool.parameters": "{}", "tool.call.id": "c2", "tool.call.type": "function"}
    log = logged(agent("w", Node(name=CALL, attributes=said, below=[Node(attributes=requested)])))
    ((found,), _) = asked.ask("messages", log)
    assert found["messages"][0]["content"] is None
    assert [called["id"] for called in found["messages"][1]["tool_calls"]] == ["c2"]
    (row,) = land(log).rows("SELECT input_messages, output_messages FROM llm_calls")
    assert [part["type"] for part in json.loads(row["input_messages"])[0]["parts"]] == ["text", "tool_call"]
    assert [part["type"] for part in json.loads(row["output_messages"])[0]["parts"]] == ["text"]


def test_log_probabilities_and_token_ids_are_kept_with_where_they_come_from(land: Land, asked: Oracle) -> None:
    logprobs = json.dumps([{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -1.5}])
    log = logged(agent("w", call(1, **{"logprobs.content": logprobs})))
    assert asked.ask("tracer", log)[0][0]["response"]["logprobs"] == json.loads(logprobs)
    warehouse = land(log)
    assert steps(warehouse, "output_token_ids, output_logprobs") == [([1, 2], [-0.5, -1.5])]
    assert warehouse.rows("SELECT attributes ->> '$.token_ids' AS source FROM spans WHERE kind = 'llm'") == [
        {"source": "engine"}
    ]
    assert warehouse.rows("SELECT DISTINCT trajectory_id FROM transitions") == [{"trajectory_id": trajectory(log)}]
