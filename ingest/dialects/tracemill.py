"""Spans that tracemill exported: GenAI names where the conventions have one, `tracemill.span` for all that is beyond.

`spelled` writes the attributes and `fill` reads them; what a span says comes back exactly as it was, whatever other
dialects make of the same names.
"""

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from tracemill.ids import canonical_json
from tracemill.ingest.attributes import Attributes
from tracemill.ingest.carried import restored
from tracemill.ingest.dialects.event import Event
from tracemill.ingest.dialects.words import Words
from tracemill.ingest.documents import loads
from tracemill.ingest.reader import About, Item, Message, RawScore, RawSpan

SPAN = "tracemill.span"
SCORE = "tracemill.score"
RESULT = "gen_ai.evaluation.result"
MESSAGES = ("gen_ai.input.messages", "gen_ai.output.messages")
_OPERATIONS = {
    "llm": "chat",
    "tool": "execute_tool",
    "agent": "invoke_agent",
    "retriever": "retrieval",
    "embedding": "embeddings",
}
_KINDS = {operation: kind for kind, operation in _OPERATIONS.items()}
_PLAIN = {
    "session_id": "gen_ai.conversation.id",
    "agent_name": "gen_ai.agent.name",
    "agent_version": "gen_ai.agent.version",
    "provider": "gen_ai.provider.name",
    "model_requested": "gen_ai.request.model",
    "model": "gen_ai.response.model",
    "response_id": "gen_ai.response.id",
    "finish_reasons": "gen_ai.response.finish_reasons",
    "tool_name": "gen_ai.tool.name",
    "tool_call_id": "gen_ai.tool.call.id",
    "tool_args": "gen_ai.tool.call.arguments",
    "tool_result": "gen_ai.tool.call.result",
    "tokens_in": "gen_ai.usage.input_tokens",
    "tokens_cache_read": "gen_ai.usage.cache_read.input_tokens",
    "tokens_cache_write": "gen_ai.usage.cache_write.input_tokens",
    "tokens_out": "gen_ai.usage.output_tokens",
    "tokens_reasoning": "gen_ai.usage.reasoning.output_tokens",
    "cost_usd": "gen_ai.usage.cost",
    "prompt_name": "gen_ai.prompt.name",
    "prompt_version": "gen_ai.prompt.version",
    "error_type": "error.type",
    "task_key": "tracemill.task_key",
    "input_token_ids": "gen_ai.prompt.token_ids",
    "output_token_ids": "gen_ai.response.token_ids",
    "output_logprobs": "gen_ai.response.logprobs",
}
"""Columns that one attribute holds as they are."""
_REQUEST = "gen_ai.request."
_RESERVED = ("gen_ai.", "tracemill.", "error.type", "service.name", "user.id")

ABOUT = About(
    title="tracemill's own export",
    maps="Every column; the spans come back as they were",
    lacks="The user's own id: what was exported is a pseudonym",
)


def speaks(span: RawSpan, attributes: Mapping[str, Any], words: Words) -> bool:
    return isinstance(attributes.get(SPAN), str)


def spelled(span: RawSpan, known: dict[int, str]) -> Attributes:
    """The attributes of a span in the words of the conventions, without what is beyond them.

    `known` keeps the JSON of messages by identity, as every call repeats those before it; it must not outlive them.
    """
    found: Attributes = {}
    if span.kind in _OPERATIONS:
        found["gen_ai.operation.name"] = _OPERATIONS[span.kind]
    for column, name in _PLAIN.items():
        value = getattr(span, column)
        if value is not None and value != "" and value != []:
            found[name] = value
    if span.input is not None:
        found["gen_ai.input.messages"] = _messages(span.input, known)
    if span.output is not None:
        found["gen_ai.output.messages"] = _messages(span.output, known)
    if span.system is not None:
        found["gen_ai.system_instructions"] = canonical_json([part for message in span.system for part in message[2]])
    if span.tools:
        found["gen_ai.tool.definitions"] = canonical_json(list(span.tools))
    for name, value in (span.params or {}).items():
        if f"{_REQUEST}{name}" not in found and _is_scalar(value):
            found[f"{_REQUEST}{name}"] = value
    for name, value in span.attributes.items():
        if not name.startswith(_RESERVED) and name not in found and _is_scalar(value):
            found[name] = value
    return found


def native(span: RawSpan, attributes: Attributes) -> RawSpan:
    """What `spelled` wrote, read back into the span."""
    attributes = dict(attributes)
    span.dialect = "tracemill"
    span.kind = _KINDS.get(str(attributes.pop("gen_ai.operation.name", None)), "chain")
    for column, name in _PLAIN.items():
        if name in attributes:
            setattr(span, column, attributes.pop(name))
    span.input = _read(attributes.pop("gen_ai.input.messages", None))
    span.output = _read(attributes.pop("gen_ai.output.messages", None))
    attributes.pop("gen_ai.system_instructions", None)
    tools = attributes.pop("gen_ai.tool.definitions", None)
    span.tools = None if tools is None else loads(tools.encode())
    names = [name for name in attributes if name.startswith(_REQUEST)]
    span.params = {name[len(_REQUEST) :]: attributes.pop(name) for name in names} or None
    span.attributes = {name: value for name, value in attributes.items() if not name.startswith(_RESERVED)}
    span.start_ns, span.end_ns = span.start_ns or None, span.end_ns or None
    return span


def fill(span: RawSpan, attributes: Attributes, events: list[Event]) -> list[Item]:
    user = attributes.pop("user.id", None)
    span.user = None if user is None else str(user)
    columns = loads(str(attributes.pop(SPAN)).encode("utf-8", "surrogatepass"))
    restored(native(span, attributes), columns)
    scores: list[Item] = []
    for event in events:
        if event.name == RESULT and isinstance(event.attributes.get(SCORE), str):
            scores.append(msgspec.convert(json.loads(event.attributes[SCORE]), RawScore))
    return scores


def _messages(messages: list[Message], known: dict[int, str]) -> str:
    return f"[{','.join(known.get(id(one)) or known.setdefault(id(one), _message(one)) for one in messages)}]"


def _message(message: Message) -> str:
    role, name, parts = message
    return canonical_json({"role": role, "parts": parts} | ({} if name is None else {"name": name}))


def _read(text: Any) -> list[Message] | None:
    if text is None:
        return None
    return [(item["role"], item.get("name"), item["parts"]) for item in loads(text.encode("utf-8", "surrogatepass"))]


def _is_scalar(value: Any) -> bool:
    if isinstance(value, int) and not isinstance(value, bool):
        return -(2**63) <= value < 2**63
    return isinstance(value, bool | str | float)
