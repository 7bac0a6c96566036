"""The words of the Vercel AI SDK, Google ADK and Monocle."""

import json
from collections.abc import Callable
from typing import Any

import pytest

Make = Callable[..., dict[str, Any]]
TOOL = {
    "type": "function",
    "name": "weather",
    "description": "d",
    "inputSchema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
VERCEL_PROMPT = [
    {"role": "system", "content": "Help."},
    {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
    {
        "role": "assistant",
        "content": [{"type": "tool-call", "toolCallId": "c1", "toolName": "weather", "input": {"city": "Paris"}}],
    },
    {
        "role": "tool",
        "content": [
            {
                "type": "tool-result",
                "toolCallId": "c1",
                "toolName": "weather",
                "output": {"type": "json", "value": {"sky": "rain"}},
            }
        ],
    },
]


def vercel(operation: str, **attributes: Any) -> dict[str, Any]:
    return {
        "ai.operationId": operation,
        "ai.telemetry.functionId": "desk",
        "ai.telemetry.metadata.userId": "bob-4711",
        "ai.telemetry.metadata.sessionId": "s1",
        "ai.model.id": "gpt-4o-mini",
        "ai.model.provider": "openai.responses",
        "ai.settings.maxRetries": 2,
        "ai.response.finishReason": "stop",
        "ai.response.text": "Rain.",
        "ai.usage.promptTokens": 14,
        "ai.usage.completionTokens": 20,
    } | attributes


def test_a_vercel_model_call_has_messages_tools_settings_and_tokens(read: Callable[..., Any]) -> None:
    inner = {
        "ai.prompt.messages": json.dumps(VERCEL_PROMPT),
        "ai.prompt.tools": [json.dumps(TOOL)],
        "ai.prompt.toolChoice": '{"type":"auto"}',
        "ai.response.id": "resp_1",
        "ai.response.model": "gpt-4o-mini-2024",
        "gen_ai.system": "openai.responses",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.usage.input_tokens": 14,
        "gen_ai.usage.output_tokens": 20,
    }
    taken = read(vercel("ai.generateText.doGenerate", **inner))
    span = taken.span
    assert (span["dialect"], span["kind"], span["agent_name"]) == ("vercel-ai-sdk", "llm", "desk")
    assert (span["model_requested"], span["model"]) == ("gpt-4o-mini", "gpt-4o-mini-2024")
    assert (span["tokens_in"], span["tokens_out"], span["finish_reasons"]) == (14, 20, ["stop"])
    assert (span["session_id"], json.loads(span["params"])) == (
        "s1",
        {"maxRetries": 2, "temperature": 0.5, "tool_choice": {"type": "auto"}},
    )
    assert [role for role, _ in taken.said(taken.prompt(span))] == ["system", "user", "assistant", "tool"]
    call, result = [parts[0] for _, parts in taken.said(taken.prompt(span))[2:]]
    assert call == {"type": "tool_call", "id": "c1", "name": "weather", "arguments": {"city": "Paris"}}
    assert (result["id"], result["response"]) == ("c1", {"sky": "rain"})
    assert taken.texts(span["output_ids"]) == ["Rain."]
    ((_, tools),) = taken.said([span["tool_definitions_id"]])
    assert (tools[0]["function"]["name"], "parameters" in tools[0]["function"]) == ("weather", True)
    assert "bob-4711" not in taken.everything()
    assert not any(name.startswith("gen_ai.usage") for name in json.loads(span["attributes"]))


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"ai.usage.promptTokens": 14, "ai.usage.completionTokens": 20}, (14, None, None, 20, None)),
        (
            {
                "ai.usage.inputTokens": 15,
                "ai.usage.outputTokens": 112,
                "ai.usage.reasoningTokens": 7,
                "ai.usage.cachedInputTokens": 5,
            },
            (15, 5, None, 112, 7),
        ),
        (
            {
                "ai.usage.inputTokens": 15,
                "ai.usage.outputTokens": 112,
                "ai.usage.inputTokenDetails.cacheReadTokens": 5,
                "ai.usage.inputTokenDetails.cacheWriteTokens": 2,
                "ai.usage.outputTokenDetails.reasoningTokens": 7,
            },
            (15, 5, 2, 112, 7),
        ),
        ({}, (None, None, None, None, None)),
    ],
)
def test_vercel_usage_of_versions_4_to_6(
    read: Callable[..., Any], usage: dict[str, int], expected: tuple[int | None, ...]
) -> None:
    attributes = {k: v for k, v in vercel("ai.streamText.doStream").items() if not k.startswith("ai.usage")}
    span = read(attributes | usage).span
    names = ("tokens_in", "tokens_cache_read", "tokens_cache_write", "tokens_out", "tokens_reasoning")
    assert tuple(span[name] for name in names) == expected


def test_vercels_outer_span_is_an_agent_and_no_model_call(read: Callable[..., Any]) -> None:
    prompt = {"system": "Help.", "prompt": "Weather?"}
    taken = read(vercel("ai.generateText", **{"ai.prompt": json.dumps(prompt)}))
    assert (taken.span["kind"], taken.texts(taken.prompt(taken.span))) == ("agent", ["Help.", "Weather?"])
    assert taken.texts(taken.span["output_ids"]) == ["Rain."]
    taken = read(vercel("ai.generateText", **{"ai.prompt": json.dumps({"messages": VERCEL_PROMPT})}))
    assert len(taken.prompt(taken.span)) == 4


def test_vercels_tool_calls_objects_and_embeddings(read: Callable[..., Any]) -> None:
    calls = [{"toolCallId": "c1", "toolName": "weather", "args": '{"city":"Paris"}'}]
    attributes = vercel("ai.generateText.doGenerate", **{"ai.response.toolCalls": json.dumps(calls)})
    del attributes["ai.response.text"]
    taken = read(attributes)
    assert taken.said(taken.span["output_ids"]) == [
        ("assistant", [{"type": "tool_call", "id": "c1", "name": "weather", "arguments": '{"city":"Paris"}'}])
    ]
    attributes = vercel("ai.generateObject.doGenerate", **{"ai.response.object": '{"a":1}'})
    del attributes["ai.response.text"]
    taken = read(attributes)
    assert taken.texts(taken.span["output_ids"]) == ['{"a":1}']
    tool = {
        "ai.operationId": "ai.toolCall",
        "ai.toolCall.name": "weather",
        "ai.toolCall.id": "c1",
        "ai.toolCall.args": '{"city":"Paris"}',
        "ai.toolCall.result": '{"sky":"rain"}',
    }
    span = read(tool).span
    assert (span["kind"], span["tool_name"], span["tool_call_id"]) == ("tool", "weather", "c1")
    assert (json.loads(span["tool_args"]), json.loads(span["tool_result"])) == ({"city": "Paris"}, {"sky": "rain"})
    embedding = {"ai.operationId": "ai.embed.doEmbed", "ai.model.id": "e", "ai.usage.tokens": 10}
    span = read(embedding).span
    assert (span["kind"], span["model"], span["tokens_in"], span["tokens_out"]) == ("embedding", "e", 10, None)


ADK_REQUEST = {
    "model": "gemini-2.0-flash",
    "config": {
        "temperature": 0.2,
        "system_instruction": "Help.",
        "tools": [{"function_declarations": [{"name": "weather", "parameters": {"type": "OBJECT"}}]}],
    },
    "contents": [
        {"role": "user", "parts": [{"text": "Weather?"}]},
        {"role": "model", "parts": [{"function_call": {"name": "weather", "args": {"city": "Paris"}}}]},
        {"role": "user", "parts": [{"function_response": {"name": "weather", "response": {"sky": "rain"}}}]},
    ],
}
ADK_RESPONSE = {
    "content": {"role": "model", "parts": [{"text": "Let me think.", "thought": True}, {"text": "Rain."}]},
    "finish_reason": "STOP",
    "usage_metadata": {
        "prompt_token_count": 181,
        "candidates_token_count": 6,
        "thoughts_token_count": 4,
        "cached_content_token_count": 100,
        "total_token_count": 191,
    },
}


def adk(**attributes: Any) -> dict[str, Any]:
    names = {name: f"gcp.vertex.agent.{name}" for name in attributes}
    return {"gen_ai.system": "gcp.vertex.agent", "gcp.vertex.agent.session_id": "s1"} | {
        names[name]: value if isinstance(value, str) else json.dumps(value) for name, value in attributes.items()
    }


def test_an_adk_call_has_its_request_response_and_usage_with_thoughts(read: Callable[..., Any]) -> None:
    attributes = adk(llm_request=ADK_REQUEST, llm_response=ADK_RESPONSE, invocation_id="e-1")
    attributes |= {"gen_ai.request.model": "gemini-2.0-flash", "gen_ai.usage.output_tokens": 6}
    taken = read(attributes, name="call_llm")
    span = taken.span
    assert (span["dialect"], span["kind"], span["session_id"]) == ("google-adk", "llm", "s1")
    assert [role for role, _ in taken.said(taken.prompt(span))] == ["system", "user", "assistant", "tool"]
    assert taken.said(taken.prompt(span))[2][1][0]["arguments"] == {"city": "Paris"}
    ((_, answer),) = taken.said(span["output_ids"])
    assert [part["type"] for part in answer] == ["reasoning", "text"]
    assert (span["tokens_in"], span["tokens_cache_read"], span["tokens_out"], span["tokens_reasoning"]) == (
        181,
        100,
        10,
        4,
    )
    assert (span["finish_reasons"], json.loads(span["params"])) == (["STOP"], {"temperature": 0.2})
    assert taken.said([span["tool_definitions_id"]])[0][1][0]["function"]["name"] == "weather"


def test_adk_tools_agents_and_invocations(read: Callable[..., Any]) -> None:
    tool = adk(tool_call_args={"city": "Paris"}, tool_response={"sky": "rain"}, llm_request="{}", llm_response="{}")
    tool |= {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "weather", "gen_ai.tool.call.id": "c1"}
    span = read(tool, name="execute_tool weather").span
    assert (span["kind"], span["tool_name"], span["tool_call_id"], span["input_ids"]) == ("tool", "weather", "c1", None)
    assert (json.loads(span["tool_args"]), json.loads(span["tool_result"])) == ({"city": "Paris"}, {"sky": "rain"})
    merged = read(tool | {"gen_ai.tool.name": "(merged tools)"}, name="execute_tool (merged tools)").span
    assert (merged["kind"], merged["tool_name"]) == ("chain", None)
    agent = read({}, name="agent_run [weather_agent]", scope="gcp.vertex.agent").span
    assert (agent["kind"], agent["agent_name"], agent["dialect"]) == ("agent", "weather_agent", "google-adk")
    assert read({}, name="invocation", scope="gcp.vertex.agent").span["kind"] == "chain"
    failed = adk(llm_request=ADK_REQUEST, llm_response={"error_code": "429", "error_message": "slow down"})
    span = read(failed, name="call_llm").span
    assert (span["status"], span["error_type"], span["error_message"]) == ("error", "429", "slow down")
    assert (span["tokens_in"], span["output_ids"]) == (None, None)


def monocle(kind: str, **attributes: Any) -> dict[str, Any]:
    return {
        "monocle_apptrace.version": "0.8.0",
        "span.type": kind,
        "workflow.name": "travel",
        "scope.agentic.session": "s1",
        **attributes,
    }


INFERENCE = {
    "entity.1.type": "inference.openai",
    "entity.1.provider_name": "api.openai.com",
    "entity.2.type": "model.llm.gpt-4o",
    "entity.2.name": "gpt-4o",
    "entity.10.type": "tool.function",
    "entity.10.name": "weather",
    "entity.count": 3,
}


def said(prompt: list[Any], answer: Any, **meta: Any) -> list[tuple[str, dict[str, Any]]]:
    told = {} if answer is None else {"response": answer if isinstance(answer, str) else json.dumps(answer)}
    asked = {"input": [item if isinstance(item, str) else json.dumps(item) for item in prompt]}
    return [("data.input", asked), ("data.output", told), ("metadata", meta)]


def test_a_monocle_inference_says_everything_in_its_events(read: Callable[..., Any]) -> None:
    prompt = [{"system": "Help."}, {"human": "Weather?"}]
    meta = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12, "finish_reason": "stop", "finish_type": "x"}
    taken = read(monocle("inference.framework", **INFERENCE), events=said(prompt, {"ai": "Rain."}, **meta))
    span = taken.span
    assert (span["dialect"], span["kind"], span["session_id"]) == ("monocle", "llm", "s1")
    assert (span["model"], span["provider"], span["tool_name"]) == ("gpt-4o", "api.openai.com", None)
    assert taken.texts(taken.prompt(span)) == ["Help.", "Weather?"]
    assert taken.texts(span["output_ids"]) == ["Rain."]
    assert (span["tokens_in"], span["tokens_out"], span["finish_reasons"]) == (9, 3, ["stop"])
    assert span["flags"] == []


@pytest.mark.parametrize(
    "answer",
    [
        {"ai": {"type": "tool_call", "id": "c1", "name": "weather", "args": {"city": "Paris"}}},
        {"ai": '[{"type": "tool_call", "id": "c1", "name": "weather", "args": {"city": "Paris"}}]'},
        {"tools": [{"tool_id": "c1", "tool_name": "weather", "tool_arguments": {"city": "Paris"}}]},
        {"tool_function": "weather", "tool_arguments": {"city": "Paris"}, "call_id": "c1"},
        {"assistant": "{'toolUseId': 'c1', 'name': 'weather', 'input': {'city': 'Paris'}, 'type': 'tool_use'}"},
    ],
)
def test_monocles_ways_to_write_a_tool_call(read: Callable[..., Any], answer: dict[str, Any]) -> None:
    taken = read(monocle("inference", **INFERENCE), events=said([{"user": "Weather?"}, answer], answer))
    call = ("assistant", [{"type": "tool_call", "id": "c1", "name": "weather", "arguments": {"city": "Paris"}}])
    assert taken.said(taken.span["output_ids"]) == [call]
    assert taken.said(taken.span["input_ids"])[1] == call


def test_what_monocle_writes_as_null_is_lossy_and_not_empty(read: Callable[..., Any]) -> None:
    taken = read(monocle("inference", **INFERENCE), events=said([{"user": "Weather?"}, {"model": None}], None))
    assert (taken.span["flags"], taken.span["output_ids"]) == (["lossy"], None)
    assert taken.texts(taken.span["input_ids"]) == ["Weather?"]
    by_address = said(["<agent_framework.ChatMessage object at 0x10eedc7d0>"], None)
    taken = read(monocle("agentic.invocation"), events=by_address)
    assert (taken.span["kind"], taken.span["input_ids"], taken.span["flags"]) == ("agent", None, ["lossy"])


def test_monocles_error_text_is_no_answer(read: Callable[..., Any]) -> None:
    events = said([{"user": "x"}], "(401) Access denied")
    events[1][1].update(error_code="error", finish_reason="error")
    span = read(monocle("inference", **INFERENCE), events=events, status={"code": 2}).span
    assert (span["status"], span["error_message"], span["output_ids"]) == ("error", "(401) Access denied", None)


def test_monocles_transport_spans_are_no_second_call(read: Callable[..., Any]) -> None:
    assert read(monocle("inference.modelapi")).span["kind"] == "chain"
    alone = read(monocle("inference.modelapi"), events=said([{"user": "x"}], {"assistant": "y"}, prompt_tokens=3))
    assert (alone.span["kind"], alone.span["tokens_in"]) == ("llm", 3)


def test_monocle_agents_tools_and_retrievals(read: Callable[..., Any]) -> None:
    agent = {"entity.1.type": "agent.langgraph", "entity.1.name": "supervisor"}
    taken = read(monocle("agentic.invocation", **agent), events=said(["Weather?"], "Rain."))
    assert (taken.span["kind"], taken.span["agent_name"]) == ("agent", "supervisor")
    assert (taken.texts(taken.span["input_ids"]), taken.texts(taken.span["output_ids"])) == (["Weather?"], ["Rain."])
    listed = [{"type": "tool.langgraph", "name": "weather"}, {"type": "agent.langgraph", "name": "desk"}]
    for arguments in ('{"city": "Paris"}', "{'city': 'Paris'}", "input: {'city': 'Paris'}"):
        result = '{"type": "text", "text": "rain", "annotations": null}'
        span = read(monocle("agentic.tool.invocation", entity=listed), events=said([arguments], result)).span
        assert (span["kind"], span["tool_name"], span["agent_name"]) == ("tool", "weather", "desk")
        assert (json.loads(span["tool_args"]), span["tool_result"]) == ({"city": "Paris"}, "rain")
    span = read(monocle("retrieval"), events=said(['"What?"'], "found")).span
    assert (span["kind"], span["tool_args"], span["tool_result"]) == ("retriever", "What?", "found")
