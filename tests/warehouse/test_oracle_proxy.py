"""Steps and token ids of a LiteLLM proxy's spans against Agent Lightning 0.3.0's LlmProxyTraceToTriplet.

What differs on purpose is listed in docs/trajectories.md.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from agl_oracle import Oracle, missing
from agl_traces import Node, Warehouse, logged, reward
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))


@pytest.fixture(scope="module")
def asked() -> Iterator[Oracle]:
    with Oracle() as running:
        yield running


def proxied(number: int, *, known: bool = True, said: str = "", choices: bool = False) -> Node:
    """A call as LiteLLM's proxy logs it: its own span, and below it vLLM's answer as the text of Python values."""
    raw: dict[str, Any] = {"llm.hosted_vllm.model": "m", "llm.hosted_vllm.prompt_token_ids": f"[{number}, 1]"}
    if choices:
        raw["llm.hosted_vllm.choices"] = f"[{{'token_ids': [{number}, 2]}}]"
    else:
        raw["llm.hosted_vllm.response_token_ids"] = f"[[{number}, 2]]"
    own: dict[str, Any] = {
        "gen_ai.request.model": "m",
        "gen_ai.prompt.0.role": "user",
        "gen_ai.prompt.0.content": said or f"question {number}",
        "gen_ai.completion.0.role": "assistant",
        "gen_ai.completion.0.content": f"answer {number}",
        "gen_ai.usage.prompt_tokens": 2**number,
        "gen_ai.usage.completion_tokens": 1,
    }
    if known:
        raw["llm.hosted_vllm.id"] = own["gen_ai.response.id"] = f"chatcmpl-{number}"
    return Node(name="litellm_request", attributes=own, below=[Node(name="raw_gen_ai_request", attributes=raw)])


def steps(warehouse: Warehouse) -> list[tuple[list[int] | None, list[int] | None, str | None]]:
    found = warehouse.rows(
        "SELECT t.input_token_ids, t.output_token_ids, s.response_id "
        "FROM transitions t JOIN spans s ON s.trace_id = t.trajectory_id AND s.span_id = t.span_id ORDER BY t.step"
    )
    return [(row["input_token_ids"], row["output_token_ids"], row["response_id"]) for row in found]


def triplets(asked: Oracle, log: Sequence[dict[str, Any]]) -> list[tuple[list[int], list[int], str | None]]:
    return [
        (one["prompt"]["token_ids"], one["response"]["token_ids"], one["metadata"]["response_id"])
        for one in asked.ask("proxy", log)[0]
    ]


@settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    drawn=st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=8),
    order=st.randoms(use_true_random=False),
)
def test_steps_and_token_ids_of_a_proxy_are_the_oracles(
    drawn: list[tuple[bool, bool, bool]], order: Any, asked: Oracle, tmp_path: Path
) -> None:
    nodes: list[Node] = []
    for number, (known, choices, judged) in enumerate(drawn):
        nodes += [proxied(number, known=known, choices=choices), *([reward(number / 8)] if judged else [])]
    log = logged(Node(name="proxy", below=nodes))
    warehouse = Warehouse()
    warehouse.take(tmp_path / "log.jsonl", order.sample(log, len(log)))
    assert steps(warehouse) == triplets(asked, log)


def test_the_engines_token_ids_do_not_say_what_was_redacted(asked: Oracle, tmp_path: Path) -> None:
    log = logged(Node(name="proxy", below=[proxied(1, said="I am ada@example.org"), proxied(2)]))
    assert triplets(asked, log) == [([1, 1], [1, 2], "chatcmpl-1"), ([2, 1], [2, 2], "chatcmpl-2")]
    warehouse = Warehouse()
    warehouse.take(tmp_path / "log.jsonl", log)
    assert steps(warehouse) == [(None, None, "chatcmpl-1"), ([2, 1], [2, 2], "chatcmpl-2")]
    raw = warehouse.rows("SELECT * FROM spans WHERE name = 'raw_gen_ai_request' ORDER BY start_ns")
    assert [(row["input_token_ids"], row["output_token_ids"]) for row in raw] == [(None, None), ([2, 1], [2, 2])]
    assert ["redacted" in row["flags"] for row in raw] == [True, False]
    assert '"[1, ' not in str([row["attributes"] for row in raw])


def test_token_ids_whose_call_is_not_known_are_not_kept(tmp_path: Path) -> None:
    (call,) = logged(Node(name="proxy", below=proxied(1).below))[1:] or [None]
    warehouse = Warehouse()
    warehouse.take(tmp_path / "log.jsonl", [call])
    (raw,) = warehouse.rows("SELECT * FROM spans WHERE name = 'raw_gen_ai_request'")
    assert (raw["input_token_ids"], raw["output_token_ids"], raw["output_logprobs"]) == (None, None, None)


def test_an_engines_answer_without_a_call_is_no_step(asked: Oracle, tmp_path: Path) -> None:
    log = logged(Node(name="proxy", below=proxied(1).below))
    assert len(triplets(asked, log)) == 1
    warehouse = Warehouse()
    warehouse.take(tmp_path / "log.jsonl", log)
    assert steps(warehouse) == []
