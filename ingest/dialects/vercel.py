"""Vercel AI SDK, versions 4 to 6 (`ai.*`). Version 7 speaks OpenTelemetry GenAI.

Every call has two spans: `ai.generateText` for what the application asked, which may take several steps, and
`ai.generateText.doGenerate` for each call of the model. Only the latter is a model call.
"""

from collections.abc import Mapping
from typing import Any

from tracemill.chat import Part, as_text
from tracemill.ingest.attributes import Attributes, as_float, as_int, take, take_int, take_prefixed, take_text
from tracemill.ingest.content.messages import canonical, canonical_list
from tracemill.ingest.dialects.event import Event
from tracemill.ingest.dialects.words import Words
from tracemill.ingest.documents import unwrap
from tracemill.ingest.reader import About, Item, Message, RawSpan

_STEPS = (".doGenerate", ".doStream")
_MIRRORED = (
    *("gen_ai.system", "gen_ai.request.model", "gen_ai.response.model", "gen_ai.response.id"),
    *("gen_ai.response.finish_reasons", "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"),
    *("gen_ai.request.frequency_penalty", "gen_ai.request.max_tokens", "gen_ai.request.presence_penalty"),
    *("gen_ai.request.stop_sequences", "gen_ai.request.temperature", "gen_ai.request.top_k", "gen_ai.request.top_p"),
)

ABOUT = About(
    title="Vercel AI SDK 4 to 6",
    maps="Model calls with messages, tools, settings, tokens; the function that asked as agent; tool calls; embeddings",
    lacks="Cost; parents, where spans were written with JSON.stringify",
)


def speaks(span: RawSpan, attributes: Mapping[str, Any], words: Words) -> bool:
    return "ai.operationId" in attributes or "ai.toolCall.name" in attributes


def fill(span: RawSpan, attributes: Attributes, events: list[Event]) -> list[Item]:
    operation = take_text(attributes, "ai.operationId") or span.name or ""
    span.kind = _kind(operation)
    mirrored = {name: attributes.pop(name, None) for name in _MIRRORED}
    span.provider = take_text(attributes, "ai.model.provider") or _text(mirrored["gen_ai.system"])
    span.model_requested = take_text(attributes, "ai.model.id") or _text(mirrored["gen_ai.request.model"])
    span.model = (
        take_text(attributes, "ai.response.model") or _text(mirrored["gen_ai.response.model"]) or span.model_requested
    )
    span.response_id = take_text(attributes, "ai.response.id") or _text(mirrored["gen_ai.response.id"])
    if span.response_id is not None:
        attributes["ai.response.id"] = span.response_id
    span.agent_name = take_text(attributes, "ai.telemetry.functionId")
    if attributes.get("resource.name") == span.agent_name:
        attributes.pop("resource.name", None)
    settings = take_prefixed(attributes, "ai.settings.")
    asked = {
        name.removeprefix("gen_ai.request."): value
        for name, value in mirrored.items()
        if name.startswith("gen_ai.request.") and name != "gen_ai.request.model" and value is not None
    }
    span.params = {**settings, **asked}
    choice = unwrap(take(attributes, "ai.prompt.toolChoice"))
    if choice is not None:
        span.params["tool_choice"] = choice
    reason = take_text(attributes, "ai.response.finishReason")
    reasons = [reason] if reason is not None else unwrap(mirrored["gen_ai.response.finish_reasons"])
    span.finish_reasons = [str(r) for r in reasons] if isinstance(reasons, list) else None
    _usage(span, attributes, mirrored)
    _prompt(span, attributes)
    if span.kind == "tool":
        span.tool_name = take_text(attributes, "ai.toolCall.name")
        span.tool_call_id = take_text(attributes, "ai.toolCall.id")
        span.tool_args = unwrap(take(attributes, "ai.toolCall.args", "ai.toolCall.input"))
        span.tool_result = take(attributes, "ai.toolCall.result", "ai.toolCall.output")
    elif span.kind in ("llm", "agent"):
        _messages(span, attributes)
        _tools(span, attributes)
    return []


def _kind(operation: str) -> str:
    if operation.endswith(_STEPS):
        return "llm"
    if operation.startswith("ai.toolCall"):
        return "tool"
    if operation.startswith("ai.embed"):
        return "embedding" if ".do" in operation else "chain"
    if operation.startswith("ai.rerank"):
        return "reranker" if ".do" in operation else "chain"
    return "agent"


def _usage(span: RawSpan, attributes: Attributes, mirrored: Mapping[str, Any]) -> None:
    usage = "ai.usage."
    span.tokens_in = take_int(attributes, f"{usage}inputTokens", f"{usage}promptTokens", f"{usage}tokens")
    span.tokens_out = take_int(attributes, f"{usage}outputTokens", f"{usage}completionTokens")
    if span.tokens_in is None:
        span.tokens_in = as_int(mirrored["gen_ai.usage.input_tokens"])
    if span.tokens_out is None:
        span.tokens_out = as_int(mirrored["gen_ai.usage.output_tokens"])
    span.tokens_cache_read = take_int(
        attributes, f"{usage}inputTokenDetails.cacheReadTokens", f"{usage}cachedInputTokens"
    )
    span.tokens_cache_write = take_int(attributes, f"{usage}inputTokenDetails.cacheWriteTokens")
    span.tokens_reasoning = take_int(
        attributes, f"{usage}outputTokenDetails.reasoningTokens", f"{usage}reasoningTokens"
    )
    # The older names say the same again.
    for name in ("promptTokens", "completionTokens", "cachedInputTokens", "reasoningTokens"):
        attributes.pop(f"{usage}{name}", None)
    cached = (span.tokens_cache_read or 0) + (span.tokens_cache_write or 0)
    if span.tokens_in is not None and cached > span.tokens_in:  # Anthropic's numbers, passed through by version 4
        span.tokens_in += cached


def _prompt(span: RawSpan, attributes: Attributes) -> None:
    """The prompt of Langfuse that the application linked, if it did."""
    linked = unwrap(attributes.get("ai.telemetry.metadata.langfusePrompt"))
    if isinstance(linked, Mapping):
        del attributes["ai.telemetry.metadata.langfusePrompt"]
        span.prompt_name = take_text(dict(linked), "name")
        version = linked.get("version")
        span.prompt_version = None if as_float(version) is None and not isinstance(version, str) else str(version)


def _messages(span: RawSpan, attributes: Attributes) -> None:
    messages = take(attributes, "ai.prompt.messages")
    whole = unwrap(take(attributes, "ai.prompt"))
    if messages is not None:
        span.input = canonical_list(messages)
    elif isinstance(whole, Mapping):
        prompt = whole.get("messages") or whole.get("prompt")
        span.input = canonical_list(prompt) or None
        if isinstance(system := whole.get("system"), str) and system:
            span.input = [("system", None, [{"type": "text", "content": system}]), *(span.input or [])]
    elif whole is not None:
        span.input = canonical_list(whole)
    span.output = _answer(attributes)


def _answer(attributes: Attributes) -> list[Message] | None:
    parts: list[Part] = []
    if reasoning := take(attributes, "ai.response.reasoning"):
        parts.append({"type": "reasoning", "content": as_text(_joined(reasoning))})
    text = take(attributes, "ai.response.text")
    if text:
        parts.append({"type": "text", "content": as_text(text)})
    answer = take(attributes, "ai.response.object")
    if answer is not None:
        parts.append({"type": "text", "content": as_text(answer)})
    calls = unwrap(take(attributes, "ai.response.toolCalls", "ai.result.toolCalls"))
    listed = [{**call, "type": "tool-call"} for call in calls if isinstance(call, Mapping)] if _is_list(calls) else []
    if not parts and not listed:
        return None
    return canonical({"role": "assistant", "parts": [*parts, *listed]})


def _joined(reasoning: Any) -> Any:
    found = unwrap(reasoning)
    if _is_list(found) and all(isinstance(item, Mapping) and isinstance(item.get("text"), str) for item in found):
        return "\n".join(item["text"] for item in found)
    return reasoning


def _tools(span: RawSpan, attributes: Attributes) -> None:
    tools = unwrap(take(attributes, "ai.prompt.tools"))
    found = [unwrap(tool) for tool in tools] if _is_list(tools) else []
    span.tools = [tool for tool in found if isinstance(tool, Mapping)] or None


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
