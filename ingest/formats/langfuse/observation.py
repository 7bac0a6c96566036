"""What stands in a row of Langfuse beside ids and times: content, model, tokens, cost, tools and metadata."""

import re
from collections.abc import Mapping
from typing import Any

from tracemill.ingest.attributes import as_float, as_int
from tracemill.ingest.content import shapes
from tracemill.ingest.content.exchanges import Said, answered, answered_text, asked, asked_text, beside, tools_of
from tracemill.ingest.dialects import PEOPLE, Origin, understand
from tracemill.ingest.documents import unwrap
from tracemill.ingest.reader import RawSpan

Row = dict[str, Any]
"""A trace or observation under the API's names, without what is null."""

TYPES = {
    "GENERATION": "llm",
    "SPAN": "chain",
    "EVENT": "event",
    "AGENT": "agent",
    "TOOL": "tool",
    "CHAIN": "chain",
    "RETRIEVER": "retriever",
    "EMBEDDING": "embedding",
    "EVALUATOR": "evaluator",
    "GUARDRAIL": "guardrail",
}
_NO_PARAMS = frozenset(
    (
        *("model", "id", "object", "created_at", "status", "error", "incomplete_details", "instructions", "output"),
        *("tools", "usage", "metadata", "billing", "previous_response_id", "finishReason", "messages", "contents"),
    )
)
"""What integrations put beside the parameters because a response repeats it."""
_CALL_IDS = ("gen_ai.tool.call.id", "ai.toolCall.id", "tool_call.id")
_READ = ("cache_read", "cached_tokens", "cache_read_input_tokens", "cached")
_WRITTEN = ("cache_write", "cache_creation", "cache_creation_input_tokens")
_THOUGHT = ("reasoning", "thought", "thinking")


_RUN = re.compile(r"agent_run \[(.+)\]|invoke_agent (.+)")


def text_of(value: Any) -> str | None:
    """Text or a number as text; None for nothing."""
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
        return None
    return str(value)


def metadata_of(row: Row) -> dict[str, Any]:
    """The metadata, each value decoded: an object, JSON text, or (in tables) JSON text under every key."""
    found = unwrap(_mapped(row.pop("metadata", None)))
    if not isinstance(found, Mapping):
        return {} if found is None else {"metadata": found}
    decoded = {str(name): unwrap(value) for name, value in found.items()}
    attributes = decoded.get("attributes")
    if isinstance(attributes, Mapping):
        decoded["attributes"] = {name: value for name, value in attributes.items() if name not in _PEOPLE}
    return {name: value for name, value in decoded.items() if name not in _PEOPLE}


_PEOPLE = frozenset((*PEOPLE, "user_id", "userId", "langfuse_user_id", "langfuseUserId"))
"""Whoever they name, they do not stay in the attributes."""


def service_of(metadata: Mapping[str, Any]) -> str | None:
    resource = metadata.get("resourceAttributes")
    name = text_of(resource.get("service.name")) if isinstance(resource, Mapping) else None
    return None if name is None or name.startswith("unknown_service") else name


def agent_of(metadata: Mapping[str, Any]) -> str | None:
    attributes = metadata.get("attributes")
    places = [metadata, attributes] if isinstance(attributes, Mapping) else [metadata]
    names = ("gen_ai.agent.name", "agent.name", "agent_name")
    return next((text for place in places for name in names if (text := text_of(place.get(name)))), None)


def agent_named(name: str | None) -> str | None:
    """The agent in the name of its run: "agent_run [hello_agent]" of Google ADK, "invoke_agent planner", "planner"."""
    found = _RUN.fullmatch(name or "")
    return name if found is None else found.group(1) or found.group(2)


def fill_trace(span: RawSpan, row: Row, metadata: dict[str, Any]) -> None:
    """Moves what a trace says into its root span; its metadata may repeat that of its first observation."""
    _content(span, row, {}, RawSpan(trace_id=span.trace_id, span_id=span.span_id, kind=span.kind))
    _rest(span, row, metadata)


def fill(span: RawSpan, row: Row, metadata: dict[str, Any]) -> None:
    """Moves what the row says into the span; what has no place there stays in the attributes.

    Observations that came in as OpenTelemetry spans keep those spans' attributes in their metadata: what Langfuse
    itself did not take over is read from there.
    """
    hints = _hints(span, metadata)
    _model(span, row, hints)
    _usage(span, row)
    _content(span, row, metadata, hints)
    _rest(span, row, metadata)


def _rest(span: RawSpan, row: Row, metadata: dict[str, Any]) -> None:
    if row.get("level") == "DEFAULT":
        del row["level"]
    if metadata:
        row["metadata"] = metadata
    span.attributes = {name: value for name, value in row.items() if value not in ([], {})}


def _hints(span: RawSpan, metadata: Mapping[str, Any]) -> RawSpan:
    found = RawSpan(trace_id=span.trace_id, span_id=span.span_id, kind=span.kind, name=span.name)
    attributes = metadata.get("attributes")
    if isinstance(attributes, Mapping) and attributes:
        understand(found, dict(attributes), [], Origin(resource={}))
    return found


def _model(span: RawSpan, row: Row, hints: RawSpan) -> None:
    model = text_of(row.pop("model", None)) or text_of(row.pop("providedModelName", None))
    params = unwrap(_mapped(row.pop("modelParameters", None)))
    if isinstance(params, Mapping):
        kept = {name: unwrap(value) for name, value in params.items() if value is not None and value != ""}
        span.params = {name: value for name, value in kept.items() if name not in _NO_PARAMS} or None
    span.model = model or hints.model
    span.model_requested = hints.model_requested or span.model
    span.provider = hints.provider
    if span.kind == "llm":
        span.response_id = hints.response_id
        span.finish_reasons = hints.finish_reasons
    span.agent_name = span.agent_name or hints.agent_name


def _usage(span: RawSpan, row: Row) -> None:
    """Tokens by what they count; Langfuse's own totals tell whether cached tokens are in the input already."""
    details = unwrap(_mapped(row.pop("usageDetails", None)))
    usage = unwrap(row.pop("usage", None))
    if not details and isinstance(usage, Mapping) and str(usage.get("unit") or "TOKENS") == "TOKENS":
        details = {n: usage.get(n) for n in ("input", "output", "total") if usage.get(n)}  # the old API fills with 0
    if not details:
        names = {"promptTokens": "input", "completionTokens": "output", "totalTokens": "total"}
        details = {new: row[old] for old, new in names.items() if as_int(row.get(old))}
    for name in ("inputUsage", "outputUsage", "totalUsage", "promptTokens", "completionTokens", "totalTokens"):
        row.pop(name, None)
    if isinstance(details, Mapping):
        counts = {str(name): n for name, value in details.items() if (n := as_int(value)) is not None}
        _tokens(span, counts)
        extra = {n: v for n, v in details.items() if n not in ("input", "output", "total")}
        if counts.get("total", known := (span.tokens_in or 0) + (span.tokens_out or 0)) != known:
            # It counts what no key names: thinking, or what tools put into the prompt. Nothing tells which.
            extra["total"] = details["total"]
        if extra:
            row["usageDetails"] = extra
    costs = unwrap(_mapped(row.get("costDetails")))
    total = as_float(row.pop("totalCost", None))
    if isinstance(costs, Mapping) and costs:
        span.cost_usd = total if total is not None else as_float(costs.get("total"))
    elif total:  # 0 stands there too where nobody knows the price
        span.cost_usd = total
    for name in ("inputCost", "outputCost", "calculatedTotalCost", "calculatedInputCost", "calculatedOutputCost"):
        row.pop(name, None)


def _tokens(span: RawSpan, counts: Mapping[str, int]) -> None:
    span.tokens_in, span.tokens_out = counts.get("input"), counts.get("output")
    parts = {n: v for n, v in counts.items() if n not in ("input", "output", "total")}
    read = {n: v for n, v in parts.items() if n.rsplit(".", 1)[-1].removeprefix("input_") in _READ or _is(n, _READ)}
    written = {n: v for n, v in parts.items() if n not in read and _is(n, _WRITTEN)}
    span.tokens_cache_read = max(read.values(), default=None)
    span.tokens_cache_write = max(written.values(), default=None)
    thought = {n: v for n, v in parts.items() if any(word in n.lower() for word in _THOUGHT)}
    span.tokens_reasoning = max(thought.values(), default=None)
    total = counts.get("total")
    apart_in = sum(v for n, v in parts.items() if n in read or n in written or n.startswith("input_"))
    # Gemini counts thoughts beside the answer.
    apart_out = sum(v for n, v in parts.items() if n.startswith("output_") or (n in thought and "thought" in n.lower()))
    plain = (span.tokens_in or 0) + (span.tokens_out or 0)
    if total is None:
        dotted = any("." in n for n in (*read, *written))  # as the instrumentation said it: input counts them
        more_in, more_out = (0, 0) if dotted else (apart_in, apart_out)
    else:
        told = ((0, 0), (apart_in, apart_out), (0, apart_out), (apart_in, 0))
        more_in, more_out = next((more for more in told if total == plain + sum(more)), (0, 0))
    if span.tokens_in is not None:
        span.tokens_in += more_in
    if span.tokens_out is not None:
        span.tokens_out += more_out


def _is(name: str, kinds: tuple[str, ...]) -> bool:
    plain = name.replace("input_", "", 1) if name.startswith("input_") else name
    return any(kind in plain for kind in kinds)


def _content(span: RawSpan, row: Row, metadata: dict[str, Any], hints: RawSpan) -> None:
    given, got = row.pop("input", None), row.pop("output", None)
    if span.kind == "llm":
        prompt, answer = asked_text(given), answered_text(got)
    elif span.kind == "agent":
        prompt, answer = asked(given) or _words(given, asked_text), answered(got) or _words(got, answered_text)
    else:
        prompt, answer = asked(given), answered(got)
    if span.kind == "chain" and answer is not None and shapes.tool_message(unwrap(got)) is not None:
        span.kind = "tool"  # LangGraph's tools are logged as spans
    if span.kind == "tool":
        _tool(span, given, got, hints, metadata)
        return
    definitions = tools_of(_definitions(row.pop("toolDefinitions", None)))
    span.input = prompt.messages if prompt else hints.input
    span.output = answer.messages if answer else hints.output
    for name, value, said, held in (("input", given, prompt, span.input), ("output", got, answer, span.output)):
        rest = unwrap(value) if held is None else beside(value) if said is not None and span.kind != "llm" else None
        if rest not in (None, "", {}, []):
            row[name] = rest
    if answer is not None and answer.system and span.input is not None:
        span.system = answer.system
    listed = next((said.tools for said in (prompt, answer) if said is not None and said.tools), [])
    span.tools = definitions or listed or _tools(metadata) or hints.tools
    if prompt is not None and prompt.params and span.kind == "llm":
        span.params = {**prompt.params, **(span.params or {})}
    if answer is not None and span.kind == "llm":
        span.finish_reasons = span.finish_reasons or answer.finish_reasons or None
        span.response_id = span.response_id or answer.response_id
    if span.input is not None or span.output is not None:
        for name in ("toolCalls", "toolCallNames"):  # the messages hold them
            row.pop(name, None)


def _words(value: Any, read: Any) -> Said | None:
    return read(value) if isinstance(unwrap(value), str) else None


def _tool(span: RawSpan, given: Any, got: Any, hints: RawSpan, metadata: Mapping[str, Any]) -> None:
    arguments, result = unwrap(given), unwrap(got)
    if isinstance(arguments, Mapping) and len(arguments) == 1 and isinstance(arguments.get("input"), Mapping):
        arguments = arguments["input"]  # LangSmith's wrapper of a traced function
    message = shapes.tool_message(result)
    if message is not None:
        span.tool_call_id = str(message["tool_call_id"])
        span.tool_name = text_of(message.get("name"))
        if message.get("status") == "error":
            span.status = "error"
        result = message.get("content")
    name = span.name or ""
    for prefix in ("execute_tool ", "running tool: "):
        name = name.removeprefix(prefix)
    span.tool_name = span.tool_name or hints.tool_name or name or None
    attributes = metadata.get("attributes")
    held = attributes if isinstance(attributes, Mapping) else {}
    said = next((text for key in _CALL_IDS if (text := text_of(held.get(key)))), None)
    span.tool_call_id = span.tool_call_id or said or hints.tool_call_id
    span.tool_args = arguments if arguments not in (None, {}, "") else hints.tool_args or arguments
    span.tool_result = result if result not in (None, {}, "") else hints.tool_result or result


def _tools(metadata: Mapping[str, Any]) -> list[Any] | None:
    """Tool definitions in the metadata of integrations that keep them there."""
    if metadata.get("tools"):  # the Vercel AI SDK's
        return tools_of(metadata["tools"]) or None
    attributes = metadata.get("attributes")
    request = unwrap(attributes.get("model_request_parameters")) if isinstance(attributes, Mapping) else None
    if not isinstance(request, Mapping):
        return None
    found = []
    for name in ("function_tools", "output_tools"):  # Pydantic AI's
        for tool in tools_of(request.get(name)):
            schema = tool.get("parameters_json_schema")
            found.append({"name": tool.get("name"), "description": tool.get("description"), "parameters": schema})
    return found or None


def _definitions(value: Any) -> Any:
    """`{name: definition}` as a list of definitions that say their name."""
    value = unwrap(_mapped(value))
    if not isinstance(value, Mapping):
        return value
    found = []
    for name, tool in value.items():
        inner = unwrap(tool)
        found.append({"name": name, **inner} if isinstance(inner, Mapping) and "function" not in inner else inner)
    return found


def _mapped(value: Any) -> Any:
    """Parquet gives maps as lists of pairs."""
    if isinstance(value, list) and value and all(isinstance(pair, tuple) and len(pair) == 2 for pair in value):
        return dict(value)
    return value
