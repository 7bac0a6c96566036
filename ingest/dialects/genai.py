"""OpenTelemetry GenAI semantic conventions: the current names and the older spellings, in attributes and events.

Source: open-telemetry/semantic-conventions-genai, docs/gen-ai.
"""

from collections.abc import Mapping
from typing import Any

from tracemill.ingest.attributes import (
    Attributes,
    take,
    take_float,
    take_int,
    take_prefixed,
    take_text,
)
from tracemill.ingest.content.messages import canonical, canonical_list, finish_reason
from tracemill.ingest.dialects.event import Event
from tracemill.ingest.dialects.words import Words
from tracemill.ingest.documents import unwrap
from tracemill.ingest.reader import About, Item, Message, RawScore, RawSpan

OPERATIONS = {
    "chat": "llm",
    "generate_content": "llm",
    "text_completion": "llm",
    "completion": "llm",
    "message": "llm",
    "embeddings": "embedding",
    "embedding": "embedding",
    "rerank": "reranker",
    "retrieval": "retriever",
    "search_memory": "retriever",
    "execute_tool": "tool",
    "invoke_agent": "agent",
    "create_agent": "agent",
    "invoke_workflow": "chain",
    "plan": "chain",
    "create_memory": "chain",
    "update_memory": "chain",
    "upsert_memory": "chain",
    "delete_memory": "chain",
    # OpenLLMetry's traceloop.span.kind
    "workflow": "chain",
    "task": "chain",
    "agent": "agent",
    "tool": "tool",
}
TOLD_BY_KIND = frozenset(("chat", "execute_tool", "embeddings", "retrieval", "workflow", "agent", "tool", "rerank"))
"""Operations that the span's kind says as well; the others stay in the attributes."""
_DETAILS = "gen_ai.client.inference.operation.details"
_SAID = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
}
_REFERENCES = ("input.messages", "output.messages", "system_instructions", "tool.definitions")
_PARAMETERS = (
    ("gen_ai.output.type", "output_type"),
    ("gen_ai.retrieval.top_k", "top_k"),
    ("llm.top_k", "top_k"),
    ("llm.is_streaming", "stream"),
    ("llm.frequency_penalty", "frequency_penalty"),
    ("llm.presence_penalty", "presence_penalty"),
    ("llm.chat.stop_sequences", "stop_sequences"),
)

ABOUT = About(
    title="OpenTelemetry GenAI",
    maps="Current and older names, messages with all part types as attributes, events or log records, retrievals, "
    "memory operations; evaluation results as scores. Content that was uploaded elsewhere is flagged `external`",
    lacks="Cost, unless the instrumentation adds it; content, unless it was switched on",
)


def speaks(span: RawSpan, attributes: Mapping[str, Any], words: Words) -> bool:
    return words.begin("gen_ai.")


def fill(span: RawSpan, attributes: Attributes, events: list[Event]) -> list[Item]:
    _logged_events(attributes, events)
    for event in list(events):
        if event.name == _DETAILS:
            events.remove(event)
            for name, value in event.attributes.items():
                attributes.setdefault(name, value)
    span.kind = _kind(span, attributes)
    span.agent_name = take_text(attributes, "gen_ai.agent.name")
    span.agent_version = take_text(attributes, "gen_ai.agent.version")
    span.provider = take_text(attributes, "gen_ai.provider.name", "gen_ai.system")
    span.model_requested = take_text(attributes, "gen_ai.request.model")
    span.model = take_text(attributes, "gen_ai.response.model") or span.model_requested
    span.response_id = take_text(attributes, "gen_ai.response.id")
    span.cost_usd = take_float(
        attributes, "gen_ai.usage.cost", "gen_ai.usage.total_cost", "operation.cost", "llm.cost.total"
    )
    _usage(span, attributes)
    _prompt(span, attributes)
    _messages(span, attributes)
    span.params = {**take_prefixed(attributes, "gen_ai.request."), **take_prefixed(attributes, "llm.request.params.")}
    for name, plain in _PARAMETERS:
        if plain not in span.params and (value := take(attributes, name)) is not None:
            span.params[plain] = value
    scores = told_in_events(span, events)
    reasons = unwrap(take(attributes, "gen_ai.response.finish_reasons", "gen_ai.response.finish_reason"))
    if reasons is not None:
        span.finish_reasons = [str(r) for r in reasons] if isinstance(reasons, list) else [str(reasons)]
    if span.response_id is not None:
        attributes["gen_ai.response.id"] = span.response_id
    if span.kind == "tool":
        span.tool_name = take_text(attributes, "gen_ai.tool.name")
        span.tool_call_id = take_text(attributes, "gen_ai.tool.call.id")
        span.tool_args = unwrap(take(attributes, "gen_ai.tool.call.arguments", "tool_arguments", "input"))
        span.tool_result = take(attributes, "gen_ai.tool.call.result", "tool_response", "output")
    elif span.kind == "retriever":
        span.tool_args = take(attributes, "gen_ai.retrieval.query.text")
        span.tool_result = unwrap(take(attributes, "gen_ai.retrieval.documents"))
    if any(f"gen_ai.{name}_ref" in attributes for name in _REFERENCES):
        span.flags.append("external")
    return scores


def late_messages(name: str, attributes: Attributes) -> tuple[list[Message], list[Message]]:
    """What one GenAI event says of its span: messages of the prompt, and of the answer."""
    if name == _DETAILS:
        span = RawSpan(trace_id="", span_id="", kind="llm")
        _messages(span, attributes)
        system = [m for m in span.system or [] if not any(i[0] == "system" for i in span.input or [])]
        return [*system, *(span.input or [])], span.output or []
    if name in _SAID:
        message = _body(attributes)
        message.setdefault("role", _SAID[name])
        if name == "gen_ai.tool.message" and "id" in message:
            message.setdefault("tool_call_id", message["id"])
        for key in ("tool_calls", "content"):
            inner = unwrap(message.get(key))
            if isinstance(inner, list) and all(isinstance(item, Mapping) for item in inner):
                message[key] = inner
        return canonical(message), []
    if name == "gen_ai.choice":
        choice = _body(attributes)
        said = unwrap(choice.get("message", choice))
        return [], canonical({"role": "assistant", "content": said} if isinstance(said, list) else said, "assistant")
    if name == "gen_ai.content.prompt":
        return canonical_list(attributes.get("gen_ai.prompt")) or [], []
    if name == "gen_ai.content.completion":
        return [], canonical_list(attributes.get("gen_ai.completion"), "assistant") or []
    return [], []


def evaluation(attributes: Attributes, span_id: str | None, at: int | None) -> RawScore:
    """The judgement of one evaluation event: of the span, else of the response that the event names.

    Raises ValueError where it names neither.
    """
    response = attributes.get("gen_ai.response.id")
    if span_id is None and not isinstance(response, str):
        raise ValueError("the evaluation names neither a span nor a response")
    return RawScore(
        target_kind="response" if span_id is None else "span",
        target_id=str(response) if span_id is None else span_id,
        name=take_text(attributes, "gen_ai.evaluation.name") or "evaluation",
        value=take_float(attributes, "gen_ai.evaluation.score.value"),
        label=take_text(attributes, "gen_ai.evaluation.score.label"),
        source="llm",
        evidence=attributes or None,
        at=at,
    )


def _logged_events(attributes: Attributes, events: list[Event]) -> None:
    """Pydantic AI's first versions wrote the events of a call into an attribute."""
    logged = unwrap(attributes.get("events"))
    if isinstance(logged, list) and logged and all(isinstance(e, Mapping) and "event.name" in e for e in logged):
        del attributes["events"]
        events.extend(Event(name=str(event["event.name"]), attributes=dict(event)) for event in logged)


def _body(attributes: Attributes) -> dict[str, Any]:
    """The body of an event: of a log record, as JSON in `gen_ai.event.content` (Azure), or the attributes."""
    for name in ("body", "gen_ai.event.content"):
        body = unwrap(attributes.get(name))
        if isinstance(body, Mapping):
            return dict(body)
    return dict(attributes)


def _kind(span: RawSpan, attributes: Attributes) -> str:
    operation = take_text(attributes, "gen_ai.operation.name", "llm.request.type", "traceloop.span.kind")
    if operation is not None:
        if operation not in TOLD_BY_KIND:
            attributes["gen_ai.operation.name"] = operation
        return OPERATIONS.get(operation, "chain")
    name = span.name or ""
    if name.startswith(("execute_tool ", "running tool")) or "gen_ai.tool.name" in attributes:
        return "tool"
    if name.startswith("invoke_agent"):
        return "agent"
    if (
        name.startswith(("chat ", "openai.chat.completion"))
        or span.output_token_ids is not None
        or any(key.startswith(("gen_ai.request.model", "gen_ai.input.messages", "gen_ai.usage.")) for key in attributes)
    ):
        return "llm"
    return "agent" if "gen_ai.agent.name" in attributes else "chain"


def _usage(span: RawSpan, attributes: Attributes) -> None:
    usage = "gen_ai.usage."
    span.tokens_in = take_int(attributes, f"{usage}input_tokens", f"{usage}prompt_tokens", "llm.usage.prompt_tokens")
    span.tokens_out = take_int(
        attributes, f"{usage}output_tokens", f"{usage}completion_tokens", "llm.usage.completion_tokens"
    )
    span.tokens_cache_read = take_int(
        attributes,
        f"{usage}cache_read.input_tokens",
        f"{usage}cache_read_input_tokens",
        f"{usage}details.cache_read_tokens",
        f"{usage}details.cached_tokens",
    )
    span.tokens_cache_write = take_int(
        attributes,
        f"{usage}cache_write.input_tokens",
        f"{usage}cache_creation.input_tokens",
        f"{usage}cache_creation_input_tokens",
        f"{usage}details.cache_write_tokens",
    )
    span.tokens_reasoning = take_int(
        attributes,
        f"{usage}reasoning.output_tokens",
        f"{usage}reasoning_tokens",
        f"{usage}details.reasoning_tokens",
    )
    cached = (span.tokens_cache_read or 0) + (span.tokens_cache_write or 0)
    # The convention counts cached tokens as input. Instrumentations that pass Anthropic's numbers through do not, and
    # give themselves away where more was cached than there was input.
    if span.tokens_in is not None and cached > span.tokens_in:
        span.tokens_in += cached


def _prompt(span: RawSpan, attributes: Attributes) -> None:
    span.prompt_name = take_text(
        attributes, "gen_ai.prompt.name", "traceloop.prompt.key", "langfuse.observation.prompt.name"
    )
    span.prompt_version = take_text(
        attributes, "gen_ai.prompt.version", "traceloop.prompt.version", "langfuse.observation.prompt.version"
    )
    span.prompt_label = take_text(attributes, "gen_ai.prompt.label", "traceloop.prompt.version_name")
    variables = take_prefixed(attributes, "gen_ai.prompt.variable.")
    span.prompt_variables = variables or unwrap(take(attributes, "traceloop.prompt.template_variables"))


def _messages(span: RawSpan, attributes: Attributes) -> None:
    span.input = canonical_list(take(attributes, "gen_ai.input.messages", "pydantic_ai.all_messages", "gen_ai.prompt"))
    answers = unwrap(take(attributes, "gen_ai.output.messages", "gen_ai.completion"))
    system = unwrap(take(attributes, "gen_ai.system_instructions"))
    if system is not None:
        parts = {"role": "system", "parts": system} if isinstance(system, list) else system
        span.system = canonical(parts, "system")
    if answers is not None:
        span.output = canonical_list(answers, "assistant")
        listed = answers if isinstance(answers, list) else [answers]
        reasons = [reason for reason in map(finish_reason, listed) if reason is not None]
        span.finish_reasons = reasons or None
    tools = unwrap(take(attributes, "gen_ai.tool.definitions"))
    span.tools = tools if isinstance(tools, list) else None


def told_in_events(span: RawSpan, events: list[Event]) -> list[Item]:
    """Messages and judgements that were logged as events of the span."""
    prompt: list[Message] = []
    answer: list[Message] = []
    scores: list[Item] = []
    for event in list(events):
        if event.name == "gen_ai.evaluation.result":
            events.remove(event)
            # An evaluator's span is not what it judges: there, the event says which response that is.
            own = span.kind == "llm" or "gen_ai.response.id" not in event.attributes
            scores.append(evaluation(event.attributes, span.span_id if own else None, event.time_ns))
            continue
        said, answered = late_messages(event.name, event.attributes)
        if said or answered:
            events.remove(event)
            prompt.extend(said)
            answer.extend(answered)
            reason = finish_reason(_body(event.attributes))
            if answered and reason is not None:
                span.finish_reasons = [*(span.finish_reasons or []), reason]
    if prompt and span.input is None:
        span.input = prompt
    if answer and span.output is None:
        span.output = answer
    return scores
