"""Google's Agent Development Kit: whole requests and responses as JSON in `gcp.vertex.agent.*`."""

import re
from collections.abc import Mapping
from typing import Any

from tracemill.ingest.attributes import Attributes, take, take_text
from tracemill.ingest.content.exchanges import answered, asked
from tracemill.ingest.content.messages import finish_reason
from tracemill.ingest.content.usage import fill_usage
from tracemill.ingest.dialects import genai
from tracemill.ingest.dialects.event import Event
from tracemill.ingest.dialects.words import Words
from tracemill.ingest.documents import unwrap
from tracemill.ingest.reader import About, Item, RawSpan

_PREFIX = "gcp.vertex.agent"
_AGENT_RUN = re.compile(r"(?:agent_run \[(?P<old>[^\]]+)\]|invoke_agent (?P<new>.+))\Z")

ABOUT = About(
    title="Google ADK",
    maps="Requests and responses of call_llm with tools and parameters, tool calls, agents, sessions, tokens",
    lacks="Response ids; cost; content where its capture is switched off",
)


def speaks(span: RawSpan, attributes: Mapping[str, Any], words: Words) -> bool:
    return words.scope == _PREFIX or attributes.get("gen_ai.system") == _PREFIX or words.begin("gcp.vertex.agent.")


def fill(span: RawSpan, attributes: Attributes, events: list[Event]) -> list[Item]:
    request = _taken(attributes, "llm_request")
    response = _taken(attributes, "llm_response")
    arguments = _taken(attributes, "tool_call_args")
    result = _taken(attributes, "tool_response")
    scores = genai.fill(span, attributes, events)
    run = _AGENT_RUN.match(span.name or "")
    if run is not None:
        span.kind = "agent"
        span.agent_name = span.agent_name or run["old"] or run["new"]
    elif span.name == "call_llm" or request is not None:
        span.kind = "llm"
    if span.kind == "tool":
        if span.name == "execute_tool (merged tools)":  # sums up parallel tools that have spans of their own
            span.kind, span.tool_name = "chain", None
        span.tool_args = arguments if span.tool_args is None else span.tool_args
        span.tool_result = result if span.tool_result is None else span.tool_result
    elif span.kind == "llm":
        _request(span, request)
        _response(span, response)
    return scores


def _taken(attributes: Attributes, name: str) -> Any:
    """The value of an attribute; `{}` and "N/A" are what ADK writes for nothing."""
    value = unwrap(take(attributes, f"{_PREFIX}.{name}"))
    return None if value in ({}, "N/A", "") else value


def _request(span: RawSpan, request: Any) -> None:
    if not isinstance(request, Mapping):
        return
    said = asked(request)
    if said is not None:
        span.input = span.input or said.messages
        span.tools = span.tools or said.tools or None
    span.model_requested = span.model_requested or take_text(dict(request), "model")
    span.model = span.model or span.model_requested
    config = request.get("config")
    if isinstance(config, Mapping) and not span.params:
        span.params = {name: value for name, value in config.items() if name not in _NO_PARAMETERS}


def _response(span: RawSpan, response: Any) -> None:
    if not isinstance(response, Mapping):
        return
    said = answered(response)
    if said is not None:
        span.output = span.output or said.messages
        if not span.finish_reasons:
            span.finish_reasons = said.finish_reasons or None
    elif span.finish_reasons is None and (reason := finish_reason(response)) is not None:
        span.finish_reasons = [reason]
    span.model = take_text(dict(response), "model_version") or span.model
    usage = response.get("usage_metadata")
    if isinstance(usage, Mapping):
        # The provider's own object knows of thoughts and of the cache; the attributes beside it do not.
        span.tokens_in = span.tokens_out = None
        fill_usage(span, usage)
    if response.get("error_code") is not None:
        span.status = "error"
        span.error_type = span.error_type or str(response["error_code"])
        span.error_message = span.error_message or take_text(dict(response), "error_message")


_NO_PARAMETERS = frozenset(("system_instruction", "tools", "http_options", "labels"))
