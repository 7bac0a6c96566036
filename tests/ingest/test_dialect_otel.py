"""GenAI and OpenLLMetry in full: every part type, every place where content may stand; dialects mixed."""

import json
from collections.abc import Callable
from typing import Any

import pytest

Make = Callable[..., dict[str, Any]]
CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}
PARTS = [
    {"type": "text", "content": "look"},
    {"type": "reasoning", "content": "hm"},
    {"type": "blob", "modality": "image", "mime_type": "image/png", "content": "aGk="},
    {"type": "file", "modality": "audio", "file_id": "f1"},
    {"type": "uri", "modality": "image", "uri": "https://x/y.png"},
    {"type": "server_tool_call", "id": "s1", "name": "search", "server_tool_call": {"type": "web_search", "q": "x"}},
    {"type": "server_tool_call_response", "id": "s1", "server_tool_call_response": {"type": "web_search", "n": 1}},
    {"type": "compaction", "id": "k1", "content": "so far"},
    {"type": "hologram", "depth": 3},
]


def test_all_part_types_come_through_as_they_are(read: Callable[..., Any]) -> None:
    taken = read(CHAT | {"gen_ai.input.messages": json.dumps([{"role": "user", "parts": PARTS}])})
    assert taken.said(taken.span["input_ids"]) == [("user", PARTS)]


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("chat", "llm"),
        ("generate_content", "llm"),
        ("text_completion", "llm"),
        ("embeddings", "embedding"),
        ("retrieval", "retriever"),
        ("search_memory", "retriever"),
        ("execute_tool", "tool"),
        ("invoke_agent", "agent"),
        ("create_agent", "agent"),
        ("invoke_workflow", "chain"),
        ("plan", "chain"),
        ("upsert_memory", "chain"),
        ("delete_memory", "chain"),
        ("levitate", "chain"),
    ],
)
def test_operations_are_kinds_and_those_without_a_kind_of_their_own_stay(
    read: Callable[..., Any], operation: str, kind: str
) -> None:
    span = read({"gen_ai.operation.name": operation}).span
    assert span["kind"] == kind
    kept = json.loads(span["attributes"]).get("gen_ai.operation.name")
    assert kept == (None if operation in ("chat", "embeddings", "retrieval", "execute_tool") else operation)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"input_tokens": 9, "output_tokens": 3, "cache_read.input_tokens": 4}, (9, 4, None, 3, None)),
        ({"input_tokens": 9, "output_tokens": 3, "cache_write.input_tokens": 4}, (9, None, 4, 3, None)),
        ({"input_tokens": 9, "cache_creation.input_tokens": 4}, (9, None, 4, None, None)),
        ({"input_tokens": 9, "cache_read_input_tokens": 4, "reasoning_tokens": 1}, (9, 4, None, None, 1)),
        ({"input_tokens": 9, "output_tokens": 3, "reasoning.output_tokens": 2}, (9, None, None, 3, 2)),
        ({"prompt_tokens": 9, "completion_tokens": 3}, (9, None, None, 3, None)),
        # more was cached than there was input: Anthropic's numbers, which leave the cache out
        ({"input_tokens": 9, "cache_read.input_tokens": 100}, (109, 100, None, None, None)),
        ({"input_tokens": 0, "output_tokens": 0}, (0, None, None, 0, None)),
    ],
)
def test_usage_in_old_and_current_names_counts_cached_tokens_once(
    read: Callable[..., Any], usage: dict[str, int], expected: tuple[int | None, ...]
) -> None:
    span = read(CHAT | {f"gen_ai.usage.{name}": value for name, value in usage.items()}).span
    names = ("tokens_in", "tokens_cache_read", "tokens_cache_write", "tokens_out", "tokens_reasoning")
    assert tuple(span[name] for name in names) == expected


def test_parameters_prompts_and_costs(read: Callable[..., Any]) -> None:
    attributes = CHAT | {
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.reasoning.level": "high",
        "gen_ai.output.type": "json",
        "llm.is_streaming": True,
        "gen_ai.prompt.name": "desk",
        "gen_ai.prompt.version": "3",
        "gen_ai.prompt.variable.city": "Paris",
        "gen_ai.usage.cost": 0.25,
    }
    span = read(attributes).span
    assert json.loads(span["params"]) == {
        "temperature": 0.5,
        "reasoning.level": "high",
        "output_type": "json",
        "stream": True,
    }
    assert (span["prompt_name"], span["prompt_version"]) == ("desk", "3")
    assert (json.loads(span["prompt_variables"]), span["cost_usd"]) == ({"city": "Paris"}, 0.25)


def test_a_retrieval_has_its_query_and_documents(read: Callable[..., Any]) -> None:
    documents = [{"id": "d1", "score": 0.5}]
    attributes = {
        "gen_ai.operation.name": "retrieval",
        "gen_ai.retrieval.query.text": "Weather?",
        "gen_ai.retrieval.documents": documents,
        "gen_ai.data_source.id": "kb",
    }
    span = read(attributes).span
    assert (span["kind"], span["tool_args"], json.loads(span["tool_result"])) == ("retriever", "Weather?", documents)
    assert json.loads(span["attributes"])["gen_ai.data_source.id"] == "kb"


def test_content_that_was_uploaded_elsewhere_is_flagged_and_its_place_kept(read: Callable[..., Any]) -> None:
    span = read(CHAT | {"gen_ai.input.messages_ref": "s3://bucket/a.json"}).span
    assert (span["flags"], span["input_ids"]) == (["external"], None)
    assert json.loads(span["attributes"])["gen_ai.input.messages_ref"] == "s3://bucket/a.json"


@pytest.mark.parametrize("text", ["It rained and [truncated]", "<redacted>", "[sanitized: 3 items]"])
def test_content_that_was_cut_or_blanked_is_flagged_truncated(read: Callable[..., Any], text: str) -> None:
    messages = json.dumps([{"role": "user", "parts": [{"type": "text", "content": text}]}])
    assert read(CHAT | {"gen_ai.input.messages": messages}).span["flags"] == ["truncated"]
    assert read(CHAT, droppedAttributesCount=3).span["flags"] == ["truncated"]
    assert read(CHAT).span["flags"] == []


def test_hand_offs_stay_readable(read: Callable[..., Any]) -> None:
    transfer = {"gen_ai.transfer.mode": "pass_control", "gen_ai.transfer.target.name": "billing"}
    span = read({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "desk"} | transfer).span
    assert (span["kind"], span["agent_name"]) == ("agent", "desk")
    kept = json.loads(span["attributes"])
    assert {name: kept[name] for name in transfer} == transfer


def test_events_of_azure_bedrock_and_pydantic_ai_hold_the_messages(read: Callable[..., Any]) -> None:
    azure = [
        ("gen_ai.user.message", {"gen_ai.event.content": '{"role": "user", "content": "Weather?"}'}),
        (
            "gen_ai.choice",
            {"gen_ai.event.content": '{"message": {"content": "Rain."}, "finish_reason": "stop", "index": 0}'},
        ),
    ]
    strands = [
        ("gen_ai.user.message", {"content": '[{"text": "Weather?"}]'}),
        ("gen_ai.choice", {"message": '[{"text": "Rain."}]', "finish_reason": "end_turn"}),
    ]
    for events, reason in ((azure, "stop"), (strands, "end_turn")):
        taken = read(CHAT, events=events)
        assert taken.texts(taken.span["input_ids"]) == ["Weather?"]
        assert taken.texts(taken.span["output_ids"]) == ["Rain."]
        assert taken.span["finish_reasons"] == [reason]
    logged = [
        {"event.name": "gen_ai.system.message", "content": "Help.", "role": "system"},
        {"event.name": "gen_ai.user.message", "content": "Weather?", "role": "user"},
        {"event.name": "gen_ai.choice", "index": 0, "message": {"role": "assistant", "content": "Rain."}},
    ]
    taken = read(CHAT | {"events": json.dumps(logged)})
    assert taken.texts(taken.prompt(taken.span)) == ["Help.", "Weather?"]
    assert taken.texts(taken.span["output_ids"]) == ["Rain."]


JUDGED = {"gen_ai.evaluation.name": "relevance", "gen_ai.evaluation.score.value": 0.25, "gen_ai.response.id": "r1"}


def test_an_evaluation_judges_its_call_or_the_response_that_it_names(read: Callable[..., Any], take: Any) -> None:
    event = [("gen_ai.evaluation.result", JUDGED)]
    taken = read(CHAT, events=event)
    assert (taken.scores[0]["target_kind"], taken.scores[0]["target_id"]) == ("span", taken.span["span_id"])
    (score,) = read({"gen_ai.agent.name": "judge"}, events=event).scores
    assert (score["target_kind"], score["target_id"]) == ("response", "r1")
    (score,) = read({"gen_ai.agent.name": "judge"}, events=[(event[0][0], {"gen_ai.evaluation.name": "x"})]).scores
    assert (score["target_kind"], score["value"]) == ("span", None)

    def logged(**ids: str) -> Any:
        values = [{"key": k, "value": {"stringValue": v}} for k, v in JUDGED.items() if isinstance(v, str)]
        record = {"eventName": "gen_ai.evaluation.result", "attributes": values, **ids}
        return take({"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]})

    (score,) = logged(traceId="1" * 32, spanId="2" * 16).scores
    assert (score["target_kind"], score["target_id"]) == ("span", "2" * 16)
    for ids in ({"traceId": "1" * 32}, {}):
        taken = logged(**ids)
        assert (taken.scores[0]["target_kind"], taken.scores[0]["target_id"]) == ("response", "r1")
        assert taken.spans == []


def test_tool_spans_of_openllmetry_and_pydantic_ai(read: Callable[..., Any]) -> None:
    entity = {"traceloop.span.kind": "tool", "traceloop.entity.name": "weather"}
    inputs = [
        '{"args": [], "kwargs": {"city": "Paris"}}',
        '{"input_str": "x", "tags": [], "metadata": {}, "inputs": {"city": "Paris"}, "kwargs": {}}',
        '{"city": "Paris"}',
    ]
    outputs = ["rain", '{"output": "rain", "kwargs": {}}', '{"output": "rain"}']
    for given, gave in zip(inputs, outputs, strict=True):
        span = read(entity | {"traceloop.entity.input": given, "traceloop.entity.output": gave}).span
        assert (span["dialect"], span["kind"], span["tool_name"]) == ("openllmetry", "tool", "weather")
        assert (json.loads(span["tool_args"]), span["tool_result"]) == ({"city": "Paris"}, "rain")
    pydantic = {"gen_ai.tool.name": "weather", "tool_arguments": '{"city": "Paris"}', "tool_response": "rain"}
    span = read(pydantic | {"gen_ai.tool.call.id": "c1"}).span
    assert (json.loads(span["tool_args"]), span["tool_result"], span["kind"]) == ({"city": "Paris"}, "rain", "tool")


def test_openllmetry_writes_nothing_as_the_text_none(read: Callable[..., Any]) -> None:
    attributes = {
        "llm.request.type": "chat",
        "gen_ai.prompt.0.role": "user",
        "gen_ai.prompt.0.content": "None",
        "gen_ai.prompt.1.role": "tool",
        "gen_ai.prompt.1.content": "rain",
        "gen_ai.prompt.1.tool_call_id": "c1",
        "gen_ai.completion.0.role": "assistant",
        "gen_ai.completion.0.content": "None",
        "gen_ai.completion.0.finish_reason": "tool_calls",
        "gen_ai.completion.0.tool_calls.0.id": "None",
        "gen_ai.completion.0.tool_calls.0.name": "weather",
        "gen_ai.completion.1.role": "assistant",
        "gen_ai.completion.1.content": "hi",
        "gen_ai.completion.1.finish_reason": "None",
    }
    taken = read(attributes)
    assert taken.texts(taken.span["input_ids"]) == ["None", "rain"], "a user may well say None"
    first, second = taken.said(taken.span["output_ids"])
    assert first == ("assistant", [{"type": "tool_call", "id": None, "name": "weather", "arguments": None}])
    assert second == ("assistant", [{"type": "text", "content": "hi"}])
    assert taken.span["finish_reasons"] == ["tool_calls"]


def test_openllmetry_steps_agents_and_association_properties(read: Callable[..., Any]) -> None:
    attributes = {
        "traceloop.span.kind": "agent",
        "traceloop.entity.name": "planner",
        "traceloop.entity.input": '{"inputs": {"n": 1}}',
        "traceloop.association.properties.session_id": "s1",
        "traceloop.association.properties.user_id": "bob-4711",
        "traceloop.association.properties.plan": "pro",
        "traceloop.prompt.key": "desk",
        "traceloop.prompt.version": 3,
        "traceloop.prompt.template_variables": '{"city": "Paris"}',
    }
    taken = read(attributes)
    span = taken.span
    assert (span["kind"], span["agent_name"], span["session_id"]) == ("agent", "planner", "s1")
    assert (span["prompt_name"], span["prompt_version"]) == ("desk", "3")
    kept = json.loads(span["attributes"])
    assert kept["traceloop.entity.input"] == '{"inputs": {"n": 1}}'
    assert kept["traceloop.association.properties.plan"] == "pro"
    assert span["user_key"] is not None
    assert "bob-4711" not in taken.everything()


def test_openllmetry_is_known_by_its_scope_too(read: Callable[..., Any]) -> None:
    assert read(CHAT, scope="opentelemetry.instrumentation.openai.v1").span["dialect"] == "openllmetry"
    assert read(CHAT, scope="my.scope").span["dialect"] == "otel-genai"


def test_one_trace_may_mix_every_dialect(take: Any, otlp: Make, request_of: Make) -> None:
    spoken = {
        "agent-lightning": {"agentlightning.reward.0.value": 1.0},
        "vercel-ai-sdk": {"ai.operationId": "ai.generateText", "gen_ai.system": "openai"},
        "monocle": {"monocle_apptrace.version": "1", "span.type": "workflow"},
        "google-adk": {"gen_ai.system": "gcp.vertex.agent"},
        "mlflow": {"mlflow.spanType": '"LLM"'},
        "openinference": {"openinference.span.kind": "LLM", "langfuse.session.id": "s"},
        "langfuse": {"langfuse.observation.type": "span", "gen_ai.system": "openai"},
        "openllmetry": {"traceloop.span.kind": "task"},
        "otel-genai": {"gen_ai.operation.name": "chat"},
        "plain": {"http.method": "GET"},
    }
    spans = [otlp(chr(97 + n), attributes=attributes) for n, attributes in enumerate(spoken.values())]
    taken = take(request_of(*spans))
    assert [span["dialect"] for span in taken.spans] == list(spoken)
    assert taken.quarantine == []
