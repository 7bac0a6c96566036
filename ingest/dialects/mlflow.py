"""MLflow's span attributes, each value a JSON text."""

from collections.abc import Mapping
from typing import Any

from tracemill.ingest.attributes import Attributes, as_float, take, take_text
from tracemill.ingest.content.exchanges import answered, answered_text, asked, asked_text, tools_of
from tracemill.ingest.content.usage import fill_usage
from tracemill.ingest.dialects.event import Event
from tracemill.ingest.dialects.words import Words
from tracemill.ingest.documents import loads, unwrap
from tracemill.ingest.reader import About, Item, RawSpan

_KINDS = {
    "CHAT_MODEL": "llm",
    "LLM": "llm",
    "AGENT": "agent",
    "TOOL": "tool",
    "RETRIEVER": "retriever",
    "EMBEDDING": "embedding",
    "RERANKER": "reranker",
    "GUARDRAIL": "guardrail",
    "EVALUATOR": "evaluator",
}
_CHUNK = "mlflow.chunk.item."

ABOUT = About(
    title="MLflow attributes",
    maps="Span types, inputs and outputs as messages or tool calls, streamed chunks, model, tools, tokens, cost",
    lacks="Assessments, which MLflow keeps beside the spans",
)


def speaks(span: RawSpan, attributes: Mapping[str, Any], words: Words) -> bool:
    return words.begin("mlflow.spanType", "mlflow.spanInputs", "mlflow.spanOutputs")


def decode(attributes: Attributes) -> None:
    """Takes every value out of the JSON text that MLflow makes of it."""
    for name, value in attributes.items():
        attributes[name] = _decoded(value)


def fill(span: RawSpan, attributes: Attributes, events: list[Event]) -> list[Item]:
    kind = take_text(attributes, "mlflow.spanType") or "UNKNOWN"
    span.kind = _KINDS.get(kind.upper(), "chain")
    if span.kind == "chain" and kind.upper() not in ("CHAIN", "UNKNOWN"):
        attributes["mlflow.spanType"] = kind
    span.provider = take_text(attributes, "mlflow.llm.provider", "mlflow.message.format")
    span.model = take_text(attributes, "mlflow.llm.model", "mlflow.chat.model")
    span.tools = tools_of(take(attributes, "mlflow.chat.tools") or []) or None
    fill_usage(span, unwrap(take(attributes, "mlflow.chat.tokenUsage")))
    cost = unwrap(take(attributes, "mlflow.llm.cost"))
    if isinstance(cost, Mapping):
        span.cost_usd = as_float(cost.get("total_cost", cost.get("total")))
    prompts = unwrap(attributes.get("mlflow.linkedPrompts"))
    if isinstance(prompts, list) and len(prompts) == 1 and isinstance(prompts[0], Mapping):
        del attributes["mlflow.linkedPrompts"]
        span.prompt_name = take_text(dict(prompts[0]), "name")
        span.prompt_version = take_text(dict(prompts[0]), "version")
    inputs, outputs = take(attributes, "mlflow.spanInputs"), take(attributes, "mlflow.spanOutputs")
    chunks = _chunks(events)
    if span.kind == "llm":
        _call(span, inputs, chunks or outputs)
    elif span.kind == "agent":
        said, told = asked(inputs), answered(outputs)
        span.input = None if said is None else said.messages
        span.output = None if told is None else told.messages
    else:
        span.tool_args, span.tool_result = inputs, outputs
        inputs = outputs = None
        if span.kind == "tool":
            span.tool_name = span.name
    if span.input is None and inputs is not None:
        attributes["mlflow.spanInputs"] = inputs
    if span.output is None and outputs is not None:
        attributes["mlflow.spanOutputs"] = outputs
    return []


def _call(span: RawSpan, inputs: Any, outputs: Any) -> None:
    said, told = asked_text(inputs), answered_text(outputs)
    if said is not None:
        span.input = said.messages
        span.params = said.params or None
        span.model_requested = said.model
        span.tools = span.tools or said.tools or None
    if told is not None:
        span.output = told.messages
        span.model = told.model or span.model
        span.response_id = told.response_id
        span.finish_reasons = told.finish_reasons or None
        fill_usage(span, told.usage)
    span.model_requested = span.model_requested or span.model
    span.model = span.model or span.model_requested


def _chunks(events: list[Event]) -> list[Any]:
    """The streamed pieces of an answer, in their order; they are taken out of the events."""
    found: list[tuple[int, Any]] = []
    for event in list(events):
        number = event.name.removeprefix(_CHUNK)
        if event.name.startswith(_CHUNK) and number.isdigit():
            events.remove(event)
            found.append((int(number), unwrap(_decoded(event.attributes.get("mlflow.chunk.value")))))
    return [value for _, value in sorted(found, key=lambda item: item[0])]


def _decoded(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return loads(value.encode("utf-8", "surrogatepass"))
    except ValueError:
        return value
