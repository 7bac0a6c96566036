"""Langfuse's OpenTelemetry attributes: what its SDKs send, and what others add to their spans for it."""

from collections.abc import Mapping
from typing import Any

from tracemill.ingest.attributes import Attributes, as_float, take, take_text
from tracemill.ingest.content.exchanges import answered, answered_text, asked, asked_text
from tracemill.ingest.content.usage import fill_usage
from tracemill.ingest.dialects import genai
from tracemill.ingest.dialects.event import Event
from tracemill.ingest.dialects.words import Words
from tracemill.ingest.documents import unwrap
from tracemill.ingest.reader import About, Item, RawSpan

_OBSERVATION = "langfuse.observation."
_KINDS = {"generation": "llm", "span": "chain", "event": "event"}
_NAMED = ("agent", "tool", "chain", "retriever", "embedding", "evaluator", "guardrail")
_SAYS = ("type", "input", "output", "model.name", "usage_details", "level")

ABOUT = About(
    title="Langfuse attributes",
    maps="Observation types, messages, model, parameters, usage and cost details, prompt name and version, level",
    lacks="Scores, which Langfuse keeps apart from the spans",
)


def speaks(span: RawSpan, attributes: Mapping[str, Any], words: Words) -> bool:
    return words.begin(_OBSERVATION) and any(f"{_OBSERVATION}{name}" in attributes for name in _SAYS)


def fill(span: RawSpan, attributes: Attributes, events: list[Event]) -> list[Item]:
    kind = (take_text(attributes, f"{_OBSERVATION}type") or "").lower()
    asked_with = _value(attributes, "input", "langfuse.trace.input")
    answer = _value(attributes, "output", "langfuse.trace.output")
    own_model = take_text(attributes, f"{_OBSERVATION}model.name")
    parameters = unwrap(take(attributes, f"{_OBSERVATION}model.parameters"))
    usage = unwrap(take(attributes, f"{_OBSERVATION}usage_details"))
    cost = unwrap(take(attributes, f"{_OBSERVATION}cost_details"))
    level = take_text(attributes, f"{_OBSERVATION}level")
    message = take_text(attributes, f"{_OBSERVATION}status_message")
    release = take_text(attributes, "langfuse.version", "langfuse.release")
    scores = genai.fill(span, attributes, events)
    if kind:
        span.kind = kind if kind in _NAMED else _KINDS.get(kind, "chain")
    span.model = own_model or span.model
    span.model_requested = span.model_requested or own_model
    span.agent_version = span.agent_version or release
    if isinstance(parameters, Mapping):
        span.params = {**dict(parameters), **(span.params or {})}
    fill_usage(span, usage)
    if isinstance(cost, Mapping) and span.cost_usd is None:
        span.cost_usd = _cost(cost)
    if level is not None and level.upper() == "ERROR":
        span.status = "error"
    elif level is not None:
        attributes[f"{_OBSERVATION}level"] = level
    span.error_message = span.error_message or (message if span.status == "error" else None)
    if message is not None and span.error_message is None:
        attributes[f"{_OBSERVATION}status_message"] = message
    _content(span, attributes, asked_with, answer)
    return scores


def _value(attributes: Attributes, name: str, of_trace: str) -> Any:
    """Input or output; of the trace where the span says none of its own."""
    own = take(attributes, f"{_OBSERVATION}{name}")
    return take(attributes, of_trace) if own is None else own


def _content(span: RawSpan, attributes: Attributes, value: Any, answer: Any) -> None:
    if span.kind in ("llm", "agent"):
        said = asked_text(value) if span.kind == "llm" else _beyond_doubt(value, asked(value), "user")
        if said is not None and span.input is None:
            span.input, value = said.messages, None
            span.tools = span.tools or said.tools or None
        told = answered_text(answer) if span.kind == "llm" else _beyond_doubt(answer, answered(answer), "assistant")
        if told is not None and span.output is None:
            span.output, answer = told.messages, None
            span.finish_reasons = span.finish_reasons or told.finish_reasons or None
    else:
        span.tool_name = span.tool_name or (span.name if span.kind == "tool" else None)
        if span.tool_args is None:
            span.tool_args, value = unwrap(value), None
        if span.tool_result is None:
            span.tool_result, answer = answer, None
    for name, rest in (("input", value), ("output", answer)):
        if rest is not None:
            attributes[f"{_OBSERVATION}{name}"] = rest


def _beyond_doubt(value: Any, said: Any, role: str) -> Any:
    if said is not None or not isinstance(value, str) or unwrap(value) is not value:
        return said
    return asked_text(value) if role == "user" else answered_text(value)


def _cost(cost: Mapping[str, Any]) -> float | None:
    total = as_float(cost.get("total"))
    if total is not None:
        return total
    parts = [as_float(value) for value in cost.values()]
    known = [part for part in parts if part is not None]
    return sum(known) if known and len(known) == len(parts) else None
