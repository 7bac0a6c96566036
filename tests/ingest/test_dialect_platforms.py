"""The words that Langfuse, MLflow and Agent Lightning write into OpenTelemetry spans."""

import json
from collections.abc import Callable
from typing import Any

Make = Callable[..., dict[str, Any]]


def langfuse(kind: str, **attributes: Any) -> dict[str, Any]:
    return {"langfuse.observation.type": kind, "langfuse.session.id": "s1", "langfuse.user.id": "bob-4711"} | {
        f"langfuse.observation.{name.replace('__', '.')}": value if isinstance(value, str) else json.dumps(value)
        for name, value in attributes.items()
    }


def test_a_langfuse_generation(read: Callable[..., Any]) -> None:
    attributes = langfuse(
        "generation",
        input=[{"role": "system", "content": "Help."}, {"role": "user", "content": "Weather?"}],
        output={"role": "assistant", "content": "Rain."},
        model__name="gpt-4o",
        model__parameters={"temperature": 0.5},
        usage_details={"input": 80, "output": 10, "input_cached_tokens": 20, "total": 110},
        cost_details={"input": 0.25, "output": 0.5},
        prompt__name="desk",
        prompt__version="3",
    )
    taken = read(attributes)
    span = taken.span
    assert (span["dialect"], span["kind"], span["session_id"], span["model"]) == ("langfuse", "llm", "s1", "gpt-4o")
    assert taken.texts(taken.prompt(span)) == ["Help.", "Weather?"]
    assert taken.texts(span["output_ids"]) == ["Rain."]
    assert (span["tokens_in"], span["tokens_cache_read"], span["tokens_out"]) == (100, 20, 10)
    assert (span["cost_usd"], json.loads(span["params"])) == (0.75, {"temperature": 0.5})
    assert (span["prompt_name"], span["prompt_version"]) == ("desk", "3")
    assert "bob-4711" not in taken.everything()


def test_langfuse_types_levels_and_steps(read: Callable[..., Any]) -> None:
    failed = langfuse("tool", input={"city": "Paris"}, output="rain", level="ERROR", status_message="timeout")
    span = read(failed, name="weather").span
    assert (span["kind"], span["tool_name"], span["status"]) == ("tool", "weather", "error")
    assert (json.loads(span["tool_args"]), span["tool_result"]) == ({"city": "Paris"}, "rain")
    assert span["error_message"] == "timeout"
    kinds = {"span": "chain", "event": "event", "agent": "agent", "guardrail": "guardrail", "embedding": "embedding"}
    for kind, expected in kinds.items():
        assert read(langfuse(kind)).span["kind"] == expected
    agent = read(langfuse("agent", input="Weather?", output={"state": {"n": 1}}))
    assert (agent.texts(agent.span["input_ids"]), agent.span["output_ids"]) == (["Weather?"], None)
    assert json.loads(json.loads(agent.span["attributes"])["langfuse.observation.output"]) == {"state": {"n": 1}}
    whole = read({"langfuse.observation.type": "span", "langfuse.trace.input": "hi", "langfuse.trace.name": "t"})
    assert whole.span["tool_args"] == "hi"


def mlflow(**attributes: Any) -> dict[str, Any]:
    return {f"mlflow.{name.replace('__', '.')}": json.dumps(value) for name, value in attributes.items()}


def test_an_mlflow_chat_model_whose_every_value_is_json_text(read: Callable[..., Any]) -> None:
    attributes = mlflow(
        spanType="CHAT_MODEL",
        spanInputs={"model": "gpt-4o", "temperature": 0, "messages": [{"role": "user", "content": "Weather?"}]},
        spanOutputs={
            "id": "chatcmpl-1",
            "model": "gpt-4o-2024",
            "choices": [{"message": {"role": "assistant", "content": "Rain."}, "finish_reason": "stop"}],
        },
        chat__tokenUsage={"input_tokens": 9, "output_tokens": 3, "total_tokens": 12},
        chat__tools=[{"type": "function", "function": {"name": "weather"}}],
        llm__provider="openai",
        llm__cost={"input_cost": 0.25, "output_cost": 0.5, "total_cost": 0.75},
        linkedPrompts=[{"name": "desk", "version": "3"}],
        spanFunctionName="create",
    )
    taken = read(attributes | {"session.id": '"s1"'})
    span = taken.span
    assert (span["dialect"], span["kind"], span["session_id"]) == ("mlflow", "llm", "s1")
    assert (span["model_requested"], span["model"], span["provider"]) == ("gpt-4o", "gpt-4o-2024", "openai")
    assert (taken.texts(span["input_ids"]), taken.texts(span["output_ids"])) == (["Weather?"], ["Rain."])
    assert (span["tokens_in"], span["tokens_out"], span["cost_usd"]) == (9, 3, 0.75)
    assert (span["finish_reasons"], json.loads(span["params"])) == (["stop"], {"temperature": 0})
    assert (span["prompt_name"], span["prompt_version"]) == ("desk", "3")
    assert json.loads(span["attributes"])["mlflow.spanFunctionName"] == "create"


def test_mlflow_tools_chunks_and_other_types(read: Callable[..., Any]) -> None:
    tool = mlflow(spanType="TOOL", spanInputs={"city": "Paris"}, spanOutputs="rain")
    span = read(tool, name="weather").span
    assert (span["kind"], span["tool_name"], span["tool_result"]) == ("tool", "weather", "rain")
    assert json.loads(span["tool_args"]) == {"city": "Paris"}
    pieces = ((10, "."), (2, "Ra"), (3, "in"))
    chunk = {"object": "chat.completion.chunk", "id": "c"}
    chunks = [
        (f"mlflow.chunk.item.{n}", {"mlflow.chunk.value": json.dumps(chunk | {"choices": [{"delta": {"content": t}}]})})
        for n, t in pieces
    ]
    taken = read(mlflow(spanType="LLM", spanInputs={"prompt": "Weather?"}), events=chunks)
    assert (taken.texts(taken.span["input_ids"]), taken.texts(taken.span["output_ids"])) == (["Weather?"], ["Rain."])
    for kind, expected in {"RETRIEVER": "retriever", "PARSER": "chain", "AGENT": "agent", "UNKNOWN": "chain"}.items():
        assert read(mlflow(spanType=kind)).span["kind"] == expected


def test_agent_lightning_rewards_are_scores_of_what_they_link_to(read: Callable[..., Any]) -> None:
    reward = {
        "agentlightning.reward.0.name": "success",
        "agentlightning.reward.0.value": 0.5,
        "agentlightning.reward.1.name": "brevity",
        "agentlightning.reward.1.value": 1.0,
    }
    taken = read(reward, name="agentlightning.annotation")
    assert (taken.span["kind"], taken.span["dialect"]) == ("evaluator", "agent-lightning")
    assert [(s["name"], s["value"], s["target_kind"], s["target_id"], s["source"]) for s in taken.scores] == [
        ("success", 0.5, "trajectory", taken.span["trace_id"], "env"),
        ("brevity", 1.0, "trajectory", taken.span["trace_id"], "env"),
    ]
    assert json.loads(taken.scores[0]["evidence"]) == {"span_id": taken.span["span_id"], "primary": True}
    link = {"agentlightning.link.0.key_match": "span_id", "agentlightning.link.0.value_match": "0x00000000000000b1"}
    (score, _) = read(reward | link, name="agentlightning.annotation").scores
    assert (score["target_kind"], score["target_id"]) == ("span", "00000000000000b1")
    link = {"agentlightning.link.0.key_match": "gen_ai.response.id", "agentlightning.link.0.value_match": "chatcmpl-1"}
    (score, _) = read(reward | link, name="agentlightning.annotation").scores
    assert (score["target_kind"], score["target_id"]) == ("response", "chatcmpl-1")


def test_older_rewards_of_agent_lightning(read: Callable[..., Any]) -> None:
    old = {"agentops.task.output": '{"type": "reward", "value": 0.25}'}
    for attributes, name in ((old, "task"), ({"reward": 0.25}, "agentlightning.annotation")):
        (score,) = read(attributes, name=name).scores
        assert (score["name"], score["value"]) == ("reward", 0.25)
    nothing = {"agentops.task.output": '{"type": "reward", "value": null}'}
    assert read(nothing, name="agentlightning.reward").scores == []


def test_agent_lightning_operations_and_rollouts(read: Callable[..., Any], take: Any, otlp: Make) -> None:
    operation = {
        "agentlightning.operation.name": "plan",
        "agentlightning.operation.input": '{"goal": "x"}',
        "agentlightning.operation.output": "done",
        "agentlightning.tag.0": "a",
        "agentlightning.tag.1": "b",
    }
    span = read(operation, name="agentlightning.operation").span
    assert (span["kind"], span["name"], span["tool_result"]) == ("chain", "plan", "done")
    assert json.loads(span["attributes"])["agentlightning.tags"] == ["a", "b"]
    rollout = {"key": "agentlightning.rollout_id", "value": {"stringValue": "ro-1"}}
    call = otlp("a", attributes={"gen_ai.operation.name": "chat"})
    taken = take({"resourceSpans": [{"resource": {"attributes": [rollout]}, "scopeSpans": [{"spans": [call]}]}]})
    assert (taken.span["session_id"], taken.span["dialect"]) == ("ro-1", "otel-genai")
