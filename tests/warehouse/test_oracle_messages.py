"""Messages and tool definitions of calls against Agent Lightning 0.3.0's TraceToMessages, on generated calls."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agl_oracle import Oracle, missing
from agl_traces import CALL, Node, Warehouse, agent, logged, trajectory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracemill.chat import to_openai

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))
WORDS = st.text('ab c\n"{[é0', min_size=1, max_size=12).map(lambda text: f"x{text}x")
NAMES = st.sampled_from(("search", "book", "cancel"))


@pytest.fixture(scope="module")
def asked() -> Iterator[Oracle]:
    with Oracle() as running:
        yield running


@st.composite
def calls(draw: st.DrawFn) -> Node:
    """A call as AgentOps logs it: prompt, functions, answer; requested tools in the answer and as spans below it."""
    found: dict[str, Any] = {"gen_ai.request.model": "m", "gen_ai.response.id": draw(st.uuids(version=4)).hex}
    prompt: list[dict[str, Any]] = [{"role": "system", "content": draw(WORDS)}] if draw(st.booleans()) else []
    for turn in range(draw(st.integers(1, 3))):
        prompt.append({"role": "user", "content": draw(WORDS)})
        if draw(st.booleans()):
            prompt.append({"role": "assistant", "content": draw(WORDS)})
        if draw(st.booleans()):
            prompt += [{"role": "assistant", "tool_calls.0.id": f"c{turn}", "tool_calls.0.name": draw(NAMES),
                        "tool_calls.0.arguments": json.dumps({"q": draw(WORDS)})},
                       {"role": "tool", "tool_call_id": f"c{turn}", "content": draw(WORDS)}]  # fmt: skip
    for place, message in enumerate(prompt):
        found |= {f"gen_ai.prompt.{place}.{name}": value for name, value in message.items()}
    for place in range(draw(st.integers(0, 2))):
        function = {"name": draw(NAMES), "description": draw(WORDS), "parameters": '{"type": "object"}'}
        found |= {f"gen_ai.request.functions.{place}.{name}": value for name, value in function.items()}
    found |= {"gen_ai.completion.0.role": "assistant", "gen_ai.completion.0.content": draw(WORDS)}
    below = []
    for place in range(draw(st.integers(0, 2))):
        name, arguments = draw(NAMES), json.dumps({"q": draw(WORDS)})
        said = {"id": f"call-{place}", "name": name, "arguments": arguments}
        found |= {f"gen_ai.completion.0.tool_calls.{place}.{key}": value for key, value in said.items()}
        requested = {"name": name, "parameters": arguments, "call.id": f"call-{place}", "call.type": "function"}
        below.append(Node(name=f"tool_call.{name}", attributes={f"tool.{k}": v for k, v in requested.items()}))
    return Node(name=CALL, attributes=found, below=below)


@settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(said=st.lists(calls(), min_size=1, max_size=6), rollout=st.uuids(version=4))
def test_messages_and_tools_are_the_oracles(said: list[Node], rollout: Any, asked: Oracle, tmp_path: Path) -> None:
    log = logged(agent("writer", *said), rollout=rollout.hex)
    warehouse = Warehouse()
    warehouse.take(tmp_path / "log.jsonl", log)
    theirs, _ = asked.ask("messages", log)
    assert len(theirs) == len(said)
    assert ours(warehouse, trajectory(log)) == theirs


def ours(warehouse: Warehouse, trajectory_id: str) -> list[dict[str, Any]]:
    """The messages of each step in OpenAI's shape, its answer among them, and its tools."""
    told = warehouse.rows(
        "SELECT c.input_messages, c.output_messages, "
        "  (SELECT any_value(m.parts) FROM messages m WHERE m.message_id = t.tool_definitions_id) AS tools "
        "FROM transitions t JOIN llm_calls c USING (trajectory_id, step) WHERE trajectory_id = ? ORDER BY step",
        trajectory_id,
    )
    return [
        {
            "messages": [
                to_openai(message["role"], message["name"], message["parts"])
                for message in json.loads(row["input_messages"]) + json.loads(row["output_messages"])
            ],
            "tools": None if row["tools"] is None else json.loads(row["tools"]),
        }
        for row in told
    ]
