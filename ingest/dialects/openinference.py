"""OpenInference (Arize, Phoenix): flat indexed attributes, `openinference.span.kind`.

Source: openinference-semantic-conventions 0.1.
"""

from collections.abc import Mapping
from typing import Any

from tracemill.ingest.attributes import (
    Attributes,
    as_float,
    take,
    take_float,
    take_int,
    take_prefixed,
    take_text,
    unflatten,
)
from tracemill.ingest.dialects.event import Event
from tracemill.ingest.documents import unwrap
from tracemill.ingest.messages import canonical_list, finish_reason
from tracemill.ingest.reader import About, Item, Message, RawScore, RawSpan

_KINDS = ("llm", "tool", "agent", "chain", "retriever", "embedding", "reranker", "guardrail", "evaluator")
_SOURCES = {"HUMAN": "human", "LLM": "llm", "CODE": "code"}

ABOUT = About(
    title="OpenInference (Arize, Phoenix)",
    maps="Messages, tools, parameters, tokens, cost, prompt template variables; annotations and evaluations as scores",
    lacks="Tool spans do not name the call they answer",
)


def speaks(attributes: Mapping[str, Any]) -> bool:
    return "openinference.span.kind" in attributes or any(
        name.startswith(("llm.input_messages.", "llm.output_messages.")) for name in attributes
    )


def fill(span: RawSpan, attributes: Attributes, events: list[Event]) -> list[Item]:
    kind = (take_text(attributes, "openinference.span.kind") or "llm").lower()
    span.kind = kind if kind in _KINDS else "chain"
    span.agent_name = take_text(attributes, "agent.name", "gen_ai.agent.name")
    span.provider = take_text(attributes, "llm.provider", "llm.system")
    params = unwrap(take(attributes, "llm.invocation_parameters"))
    span.params = dict(params) if isinstance(params, dict) else None
    asked = span.params.pop("model", None) if span.params else None
    span.model_requested = take_text(attributes, "llm.request.model_name") or (None if asked is None else str(asked))
    span.model = take_text(attributes, "llm.response.model_name", "llm.model_name") or span.model_requested
    span.model_requested = span.model_requested or span.model
    span.tokens_in = take_int(attributes, "llm.token_count.prompt")
    span.tokens_out = take_int(attributes, "llm.token_count.completion")
    details = "llm.token_count.prompt_details."
    span.tokens_cache_read = take_int(attributes, f"{details}cache_read", f"{details}cache_input")
    span.tokens_cache_write = take_int(attributes, f"{details}cache_write")
    span.tokens_reasoning = take_int(attributes, "llm.token_count.completion_details.reasoning")
    span.cost_usd = take_float(attributes, "llm.cost.total")
    template = take(attributes, "llm.prompt_template.template")
    if template is not None:
        attributes["llm.prompt_template.template"] = template
    span.prompt_name = take_text(attributes, "prompt.id")
    span.prompt_version = take_text(attributes, "llm.prompt_template.version")
    span.prompt_variables = unwrap(take(attributes, "llm.prompt_template.variables"))
    reason = take_text(attributes, "llm.finish_reason")
    span.finish_reasons = [reason] if reason is not None else None
    if span.kind == "tool":
        span.tool_name = take_text(attributes, "tool.name") or span.name
        span.tool_call_id = take_text(attributes, "tool_call.id", "tool.id")
        span.tool_args = unwrap(take(attributes, "tool.parameters", "input.value"))
        span.tool_result = take(attributes, "output.value")
    elif span.kind in ("llm", "agent"):
        _messages(span, attributes)
    return _judgements(span, attributes)


def _messages(span: RawSpan, attributes: Attributes) -> None:
    span.input = _indexed(span, attributes, "llm.input_messages")
    span.output = _indexed(span, attributes, "llm.output_messages")
    if span.kind != "llm":
        return
    if span.input is None:
        prompts = [p.get("prompt", p).get("text") for p in _listed(attributes, "llm.prompts.") if isinstance(p, dict)]
        span.input = canonical_list(prompts or take(attributes, "input.value"))
    if span.output is None:
        choices = [
            c.get("completion", c).get("text") for c in _listed(attributes, "llm.choices.") if isinstance(c, dict)
        ]
        value = unwrap(choices or take(attributes, "output.value"))
        span.output = canonical_list(value, "assistant")
        reason = finish_reason(value)
        if reason is not None and span.finish_reasons is None:
            span.finish_reasons = [reason]
    # The messages say it already, structured.
    attributes.pop("input.value", None)
    attributes.pop("output.value", None)
    tools = [unwrap(tool.get("tool", tool).get("json_schema")) for tool in _listed(attributes, "llm.tools.")]
    span.tools = [tool for tool in tools if tool is not None] or None


def _listed(attributes: Attributes, prefix: str) -> list[Any]:
    found, _ = unflatten(take_prefixed(attributes, prefix))
    return found if isinstance(found, list) else []


def _indexed(span: RawSpan, attributes: Attributes, name: str) -> list[Message] | None:
    whole = unwrap(take(attributes, name))
    flat = take_prefixed(attributes, f"{name}.")
    if flat:
        whole, gaps = unflatten(flat)
        if gaps:
            span.flags.append("truncated")
    if not isinstance(whole, list):
        return None
    return canonical_list([_message(item) for item in whole], "assistant" if "output" in name else "user")


def _message(item: Any) -> Any:
    message = item.get("message", item) if isinstance(item, Mapping) else item
    if not isinstance(message, Mapping):
        return message
    plain = {name: message[name] for name in ("role", "name", "content", "tool_call_id") if name in message}
    contents = message.get("contents")
    if isinstance(contents, list):
        plain["content"] = [_content(c.get("message_content", c)) for c in contents if isinstance(c, Mapping)]
    calls = message.get("tool_calls")
    if isinstance(calls, list):
        plain["tool_calls"] = [_call(c.get("tool_call", c)) for c in calls if isinstance(c, Mapping)]
    if message.get("function_call_name") is not None:
        arguments = unwrap(message.get("function_call_arguments_json"))
        plain["function_call"] = {"name": message["function_call_name"], "arguments": arguments}
    return plain


def _content(content: Any) -> Any:
    if not isinstance(content, Mapping):
        return content
    kind = content.get("type")
    if kind == "image":
        image = content.get("image")
        inner = image.get("image", image) if isinstance(image, Mapping) else image
        url = inner.get("url") if isinstance(inner, Mapping) else inner
        return {"type": "image_url", "image_url": {"url": url}}
    return {"type": kind or "text", "text": content.get("text")} if "text" in content else dict(content)


def _call(call: Any) -> Any:
    if not isinstance(call, Mapping):
        return call
    function = call.get("function")
    inner = function if isinstance(function, Mapping) else {}
    # Flat attributes hold arguments as JSON text only because they can hold nothing else.
    return {"id": call.get("id"), "function": {"name": inner.get("name"), "arguments": unwrap(inner.get("arguments"))}}


def _judgements(span: RawSpan, attributes: Attributes) -> list[Item]:
    scores: list[Item] = []
    for prefix, one in (("annotations.", "annotation"), ("evaluations.", "evaluation")):
        for item in _listed(attributes, prefix):
            said = item.get(one, item) if isinstance(item, dict) else {}
            if not isinstance(said, dict) or not said.get("name"):
                continue
            label = said.get("label")
            rest = {k: v for k, v in said.items() if k not in ("name", "score", "label", "annotator_kind")}
            scores.append(
                RawScore(
                    target_kind="span",
                    target_id=span.span_id,
                    name=str(said["name"]),
                    value=as_float(said.get("score")),
                    label=None if label is None else str(label),
                    source=_SOURCES.get(str(said.get("annotator_kind")), "llm" if one == "evaluation" else "human"),
                    evidence=rest or None,
                )
            )
    return scores
