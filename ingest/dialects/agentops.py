"""AgentOps, the default tracer of Agent Lightning 0.x, and the frameworks that write beside it which agent is at work.

Model calls speak OpenLLMetry's indexed names. Source: agentops 0.4, `agentops/semconv`; Agent Lightning 0.3.
"""

from collections.abc import Mapping
from typing import Any

from tracemill.ingest.attributes import Attributes, take, take_text
from tracemill.ingest.dialects import openllmetry
from tracemill.ingest.dialects.event import Event
from tracemill.ingest.dialects.words import Words
from tracemill.ingest.documents import unwrap
from tracemill.ingest.reader import About, Item, RawSpan

_KIND = "agentops.span.kind"
_KINDS = {
    "agent": "agent",
    "tool": "tool",
    "llm": "llm",
    "guardrail": "guardrail",
    "session": "chain",
    "operation": "chain",
    "task": "chain",
    "workflow": "chain",
    "chain": "chain",
}
_AGENTS = ("agent.name", "recipient_agent_type", "langchain.chain.type", "executor.id")
"""Which agent is at work: OpenAI Agents SDK, AutoGen, LangGraph, Agent Framework."""

ABOUT = About(
    title="AgentOps",
    maps="Kinds, agents and tools; agent names as AutoGen, LangGraph, Agent Framework and LangChain under Weave "
    "write them; model calls as OpenLLMetry",
    lacks="Results of tools, where the model's request for a tool is all that is logged",
)


def speaks(span: RawSpan, attributes: Mapping[str, Any], words: Words) -> bool:
    return (
        words.begin("agentops.", "tool.call.", "tool.parameters")
        or any(name in attributes for name in _AGENTS)
        or _is_chain(span, attributes)
    )


def fill(span: RawSpan, attributes: Attributes, events: list[Event]) -> list[Item]:
    own = take_text(attributes, _KIND)
    agent = take_text(attributes, *_AGENTS)
    if agent is None and own == "agent":
        agent = take_text(attributes, "operation.name", "agentops.entity.name")
    if agent is None and _is_chain(span, attributes):
        agent = take_text(attributes, "lc_name")
    tool = {name: take(attributes, f"tool.{name}") for name in ("name", "parameters", "result", "call.id", "id")}
    is_tool = own == "tool" or (own is None and tool["name"] is not None)
    scores = openllmetry.fill(span, attributes, events)
    span.kind = "tool" if is_tool else _KINDS.get(own or "", span.kind)
    span.agent_name = span.agent_name or agent
    if agent is not None and own is None and span.kind == "chain":
        span.kind = "agent"
    if not is_tool:
        for name, value in tool.items():
            if value is not None:
                attributes[f"tool.{name}"] = value
        return scores
    span.tool_name = str(tool["name"]) if tool["name"] is not None else span.tool_name or span.name
    called = tool["call.id"] if tool["call.id"] is not None else tool["id"]
    span.tool_call_id = span.tool_call_id or (None if called is None else str(called))
    for field, value, entity in (
        ("tool_args", tool["parameters"], "input"),
        ("tool_result", tool["result"], "output"),
    ):
        if getattr(span, field) is None:
            setattr(
                span,
                field,
                unwrap(value) if value is not None else unwrap(take(attributes, f"agentops.entity.{entity}")),
            )
    return scores


def _is_chain(span: RawSpan, attributes: Mapping[str, Any]) -> bool:
    return (span.name or "").startswith("langchain.Chain.") and "lc_name" in attributes
