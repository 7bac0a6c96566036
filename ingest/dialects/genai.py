"""OpenTelemetry GenAI semantic conventions: the current names, the older spellings, and OpenLLMetry's.

Source: open-telemetry/semantic-conventions-genai, docs/gen-ai; opentelemetry-semantic-conventions-ai 0.5.
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
    unflatten,
)
from tracemill.ingest.dialects.event import Event
from tracemill.ingest.documents import unwrap
from tracemill.ingest.messages import canonical, canonical_list, finish_reason
from tracemill.ingest.reader import About, Item, Message, RawScore, RawSpan

_OPERATIONS = {
    "chat": "llm",
    "generate_content": "llm",
    "text_completion": "llm",
    "completion": "llm",
    "embeddings": "embedding",
    "retrieval": "retriever",
    "execute_tool": "tool",
    "invoke_agent": "agent",
    "create_agent": "agent",
    "invoke_workflow": "chain",
    "plan": "chain",
    # OpenLLMetry's traceloop.span.kind
    "workflow": "chain",
    "task": "chain",
    "agent": "agent",
    "tool": "tool",
}
_DETAILS = "gen_ai.client.inference.operation.details"
_SAID = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
}

ABOUT = About(
    title="OpenTelemetry GenAI, OpenLLMetry",
    maps="Current and older names, messages as attributes or events, evaluation results as scores",
    lacks="Cost, unless the instrumentation adds it; content, unless it was switched on",
)


def speaks(attributes: Mapping[str, Any]) -> bool:
    return any(name.startswith(("gen_ai.", "traceloop.", "llm.request.", "llm.usage.")) for name in attributes)


def fill(span: RawSpan, attributes: Attributes, events: list[Event]) -> list[Item]:
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
    span.cost_usd = take_float(attributes, "gen_ai.usage.cost", "llm.cost.total")
    _usage(span, attributes)
    _prompt(span, attributes)
    _messages(span, attributes)
    span.params = {**take_prefixed(attributes, "gen_ai.request."), **take_prefixed(attributes, "llm.request.params.")}
    scores = _events(span, events)
    reasons = unwrap(take(attributes, "gen_ai.response.finish_reasons", "gen_ai.response.finish_reason"))
    if reasons is not None:
        span.finish_reasons = [str(r) for r in reasons] if isinstance(reasons, list) else [str(reasons)]
    if span.response_id is not None:
        attributes["gen_ai.response.id"] = span.response_id
    if span.kind == "tool":
        span.tool_name = take_text(attributes, "gen_ai.tool.name", "traceloop.entity.name")
        span.tool_call_id = take_text(attributes, "gen_ai.tool.call.id")
        span.tool_args = unwrap(take(attributes, "gen_ai.tool.call.arguments", "traceloop.entity.input", "input"))
        span.tool_result = take(attributes, "gen_ai.tool.call.result", "traceloop.entity.output", "output")
    return scores


def late_messages(name: str, attributes: Attributes) -> tuple[list[Message], list[Message]]:
    """What one GenAI event says of its span: messages of the prompt, and of the answer."""
    if name == _DETAILS:
        span = RawSpan(trace_id="", span_id="", kind="llm")
        _messages(span, attributes)
        system = [m for m in span.system or [] if not any(i[0] == "system" for i in span.input or [])]
        return [*system, *(span.input or [])], span.output or []
    if name in _SAID:
        body = attributes.get("body")
        message = dict(body) if isinstance(body, Mapping) else dict(attributes)
        message.setdefault("role", _SAID[name])
        if name == "gen_ai.tool.message" and "id" in message:
            message.setdefault("tool_call_id", message["id"])
        if "tool_calls" in message:
            message["tool_calls"] = unwrap(message["tool_calls"])
        return canonical(message), []
    if name == "gen_ai.choice":
        body = attributes.get("body")
        choice = dict(body) if isinstance(body, Mapping) else attributes
        return [], canonical(choice.get("message", choice), "assistant")
    if name == "gen_ai.content.prompt":
        return canonical_list(attributes.get("gen_ai.prompt")) or [], []
    if name == "gen_ai.content.completion":
        return [], canonical_list(attributes.get("gen_ai.completion"), "assistant") or []
    return [], []


def _kind(span: RawSpan, attributes: Attributes) -> str:
    operation = take_text(attributes, "gen_ai.operation.name", "llm.request.type", "traceloop.span.kind")
    if operation is not None:
        if operation in _OPERATIONS:
            return _OPERATIONS[operation]
        attributes["gen_ai.operation.name"] = operation
        return "chain"
    name = span.name or ""
    if name.startswith("execute_tool ") or "gen_ai.tool.name" in attributes:
        return "tool"
    if name.startswith("invoke_agent"):
        return "agent"
    if name.startswith("chat ") or any(
        key.startswith(("gen_ai.request.model", "gen_ai.prompt.0", "gen_ai.usage.")) for key in attributes
    ):
        return "llm"
    return "agent" if "gen_ai.agent.name" in attributes else "chain"


def _usage(span: RawSpan, attributes: Attributes) -> None:
    usage = "gen_ai.usage."
    span.tokens_in = take_int(attributes, f"{usage}input_tokens", f"{usage}prompt_tokens", "llm.usage.prompt_tokens")
    span.tokens_out = take_int(
        attributes, f"{usage}output_tokens", f"{usage}completion_tokens", "llm.usage.completion_tokens"
    )
    span.tokens_cache_read = take_int(attributes, f"{usage}cache_read.input_tokens", f"{usage}cache_read_input_tokens")
    span.tokens_cache_write = take_int(
        attributes,
        f"{usage}cache_write.input_tokens",
        f"{usage}cache_creation.input_tokens",
        f"{usage}cache_creation_input_tokens",
    )
    span.tokens_reasoning = take_int(attributes, f"{usage}reasoning.output_tokens", f"{usage}reasoning_tokens")
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
    span.input = canonical_list(take(attributes, "gen_ai.input.messages"))
    answers = unwrap(take(attributes, "gen_ai.output.messages"))
    system = unwrap(take(attributes, "gen_ai.system_instructions"))
    if system is not None:
        parts = {"role": "system", "parts": system} if isinstance(system, list) else system
        span.system = canonical(parts, "system")
    if span.input is None:
        span.input = _indexed(span, attributes, "gen_ai.prompt") or canonical_list(take(attributes, "gen_ai.prompt"))
    if answers is None:
        answers = _indexed_raw(span, attributes, "gen_ai.completion") or unwrap(take(attributes, "gen_ai.completion"))
    if answers is not None:
        span.output = canonical_list(answers, "assistant")
        listed = answers if isinstance(answers, list) else [answers]
        reasons = [reason for reason in map(finish_reason, listed) if reason is not None]
        span.finish_reasons = reasons or None
    tools = unwrap(take(attributes, "gen_ai.tool.definitions"))
    if tools is None:
        flat = take_prefixed(attributes, "llm.request.functions.")
        tools = unflatten(flat)[0] if flat else None
    span.tools = tools if isinstance(tools, list) else None


def _indexed_raw(span: RawSpan, attributes: Attributes, prefix: str) -> list[Any] | None:
    at = len(prefix) + 1
    names = [name for name in attributes if name.startswith(prefix + ".") and name[at : at + 1].isdigit()]
    if not names:
        return None
    found, gaps = unflatten({name[at:]: attributes.pop(name) for name in names})
    if not isinstance(found, list):
        return None
    if gaps:
        span.flags.append("truncated")
    messages = []
    for message in found:
        if isinstance(message, dict):
            calls = message.get("tool_calls")
            if isinstance(calls, list):
                message["tool_calls"] = [
                    {"id": c.get("id"), "function": {"name": c.get("name"), "arguments": c.get("arguments")}}
                    for c in calls
                    if isinstance(c, dict)
                ]
                if message.get("content") in ("None", ""):  # what str(None) leaves beside tool calls
                    message["content"] = None
        messages.append(message)
    return messages


def _indexed(span: RawSpan, attributes: Attributes, prefix: str) -> list[Message] | None:
    return canonical_list(_indexed_raw(span, attributes, prefix))


def _events(span: RawSpan, events: list[Event]) -> list[Item]:
    """Messages and judgements that were logged as events of the span."""
    prompt: list[Message] = []
    answer: list[Message] = []
    scores: list[Item] = []
    for event in list(events):
        if event.name == "gen_ai.evaluation.result":
            events.remove(event)
            scores.append(evaluation(event.attributes, span.span_id, event.time_ns))
            continue
        said, answered = late_messages(event.name, event.attributes)
        if said or answered:
            events.remove(event)
            prompt.extend(said)
            answer.extend(answered)
            reason = finish_reason(event.attributes)
            if answered and reason is not None:
                span.finish_reasons = [*(span.finish_reasons or []), reason]
    if prompt and span.input is None:
        span.input = prompt
    if answer and span.output is None:
        span.output = answer
    return scores


def evaluation(attributes: Attributes, span_id: str, at: int | None) -> RawScore:
    return RawScore(
        target_kind="span",
        target_id=span_id,
        name=take_text(attributes, "gen_ai.evaluation.name") or "evaluation",
        value=take_float(attributes, "gen_ai.evaluation.score.value"),
        label=take_text(attributes, "gen_ai.evaluation.score.label"),
        source="llm",
        evidence=attributes or None,
        at=at,
    )
