"""Monocle: entities as `entity.N.*`, everything said in the events data.input, data.output and metadata."""

import ast
import re
from collections.abc import Mapping
from typing import Any

from tracemill.chat import Part, as_text
from tracemill.ingest.attributes import Attributes, take, take_prefixed, take_text, unflatten
from tracemill.ingest.content.messages import canonical
from tracemill.ingest.content.usage import fill_usage
from tracemill.ingest.dialects.event import Event
from tracemill.ingest.dialects.words import Words
from tracemill.ingest.documents import loads, unwrap
from tracemill.ingest.reader import About, Item, Message, RawSpan

_KINDS = {
    "inference": "llm",
    "inference.framework": "llm",
    "inference.modelapi": "llm",
    "agentic.request": "agent",
    "agentic.turn": "agent",
    "agentic.invocation": "agent",
    "agentic.tool.invocation": "tool",
    "retrieval": "retriever",
    "embedding": "embedding",
    "evaluation": "evaluator",
}
_MAX_LITERAL = 100_000
_OBJECT = re.compile(r"<[^<>]* at 0x[0-9a-f]+>\Z")

ABOUT = About(
    title="Monocle",
    maps="Inferences with prompt, answer and tokens, agents, turns, tools, retrievals, sessions, finish reasons",
    lacks="Parameters, tool definitions, cost; function calls and results of some frameworks, which it writes as null",
)


def speaks(span: RawSpan, attributes: Mapping[str, Any], words: Words) -> bool:
    return "monocle_apptrace.version" in attributes or (
        "span.type" in attributes and ("entity" in attributes or words.begin("entity."))
    )


def fill(span: RawSpan, attributes: Attributes, events: list[Event]) -> list[Item]:
    kind = take_text(attributes, "span.type") or "generic"
    span.kind = _KINDS.get(kind, "chain")
    if span.kind == "chain":
        attributes["span.type"] = kind
    workflow = take_text(attributes, "workflow.name")
    span.service = span.service or workflow
    _entities(span, attributes)
    said = {event.name: event.attributes for event in events if event.name in ("data.input", "data.output")}
    meta = next((dict(event.attributes) for event in events if event.name == "metadata"), {})
    events[:] = [event for event in events if event.name not in ("data.input", "data.output", "metadata")]
    asked = take(said.get("data.input", {}), "input", "query", "question")
    told = said.get("data.output", {})
    answer = take(told, "response", "output")
    fill_usage(span, meta)
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        meta.pop(name, None)
    reason = take_text(told, "finish_reason") or take_text(meta, "finish_reason")
    failed = told.get("error_code") is not None and span.status == "error"
    if failed and answer is not None:  # the exception's text stands where the answer would
        span.error_message = span.error_message or as_text(answer)
        span.error_type = span.error_type or str(told["error_code"])
        answer = None
    span.finish_reasons = [reason] if reason is not None else None
    span.model = take_text(meta, "model") or span.model
    for name, rest in (("data.input", said.get("data.input")), ("data.output", told), ("metadata", meta)):
        if rest:
            attributes[name] = rest
    if kind == "inference.modelapi" and asked is None and answer is None and span.tokens_in is None:
        span.kind = "chain"  # the transport of the inference.framework span above, which says it all
    if span.kind == "llm":
        span.input, lost_in = _prompt(asked)
        span.output, lost_out = _answer(answer)
        if lost_in or lost_out:
            span.flags.append("lossy")
    elif span.kind == "agent":
        span.input, span.output = _plain(asked, "user"), _plain(answer, "assistant")
        if (asked and span.input is None) or (answer and span.output is None):
            span.flags.append("lossy")
    else:
        given = asked[0] if isinstance(asked, list) and len(asked) == 1 else asked
        span.tool_args = _literal(given.removeprefix("input: ") if isinstance(given, str) else given)
        span.tool_result = _result(answer)
    return []


def _entities(span: RawSpan, attributes: Attributes) -> None:
    found, _ = unflatten(take_prefixed(attributes, "entity."))
    if isinstance(found, dict):
        found.pop("count", None)
        found = [found[key] for key in sorted(found, key=lambda k: int(k) if k.isdigit() else 0)]
    entities = [*(found or []), *(e for e in attributes.pop("entity", None) or () if isinstance(e, Mapping))]
    for entity in entities:
        if not isinstance(entity, Mapping):
            continue
        kind, name = str(entity.get("type") or ""), entity.get("name")
        if kind.startswith("model.llm"):
            span.model_requested = span.model = None if name is None else str(name)
        elif kind.startswith("inference."):
            span.provider = str(entity.get("provider_name") or kind.removeprefix("inference."))
        elif kind.startswith("agent.") and name is not None:
            span.agent_name = str(name)
        elif span.kind == "tool" and kind.startswith("tool.") and name is not None:
            span.tool_name = str(name)
    if entities:
        attributes["entities"] = entities


def _prompt(value: Any) -> tuple[list[Message] | None, bool]:
    """The messages of a prompt, and whether some of their content was not logged."""
    if value is None:
        return None, False
    messages: list[Message] = []
    lost = False
    for item in value if isinstance(value, list) else [value]:
        found, gone = _message(item, "user")
        messages.extend(found)
        lost = lost or gone
    return messages or None, lost


def _answer(value: Any) -> tuple[list[Message] | None, bool]:
    if value is None:
        return None, False
    found, lost = _message(value, "assistant")
    return found or None, lost


def _message(item: Any, default: str) -> tuple[list[Message], bool]:
    """Messages of one entry, `{"user": "…"}` with the role as its key, a call, or a result."""
    decoded = unwrap(item)
    if not isinstance(decoded, Mapping):
        return canonical({"role": default, "content": _unquoted(as_text(decoded))}, default), False
    if "tool_function" in decoded or isinstance(decoded.get("tools"), list):
        return canonical({"role": "assistant", "parts": _calls(decoded)}), False
    if "call_id" in decoded and "output" in decoded:
        part = {"type": "tool_call_response", "id": decoded["call_id"], "response": decoded["output"]}
        return canonical({"role": "tool", "parts": [part]}), False
    if len(decoded) != 1:
        return canonical({"role": default, "content": as_text(decoded)}, default), False
    ((role, content),) = decoded.items()
    if role not in _ROLES:
        return canonical({"role": default, "content": as_text(decoded)}, default), False
    if content is None or content == "":
        return [], True
    inner = _literal(content)
    calls = _calls(inner)
    if calls and role in ("assistant", "ai", "model"):
        return canonical({"role": role, "parts": calls}), False
    if role == "tool":
        return canonical({"role": role, "content": content}), False
    return canonical({"role": role, "content": inner if _is_blocks(inner) else as_text(content)}), False


def _calls(value: Any) -> list[Part]:
    """Tool calls in the several shapes that Monocle's frameworks give them; empty where it is none."""
    if isinstance(value, list):
        found = [_calls(unwrap(item)) for item in value]
        return [part for parts in found for part in parts] if found and all(found) else []
    if not isinstance(value, Mapping):
        return []
    if isinstance(value.get("tools"), list):
        return _calls(value["tools"])
    if "tool_function" in value or "tool_name" in value:
        name, call_id = value.get("tool_function", value.get("tool_name")), value.get("call_id", value.get("tool_id"))
        return [{"type": "tool_call", "id": call_id, "name": name, "arguments": value.get("tool_arguments")}]
    if value.get("type") in ("tool_call", "tool_use") and "name" in value:
        arguments = value.get("args", value.get("input"))
        call_id = value.get("id", value.get("toolUseId"))
        return [{"type": "tool_call", "id": call_id, "name": value["name"], "arguments": arguments}]
    return []


def _is_blocks(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(i, Mapping) and "type" in i for i in value)


def _plain(value: Any, role: str) -> list[Message] | None:
    texts = value if isinstance(value, list) else [value]
    said = [as_text(text) for text in texts if text not in (None, "")]
    # A framework's own object was logged by its address: what it said is lost.
    known = [text for text in said if not _OBJECT.match(text)]
    return [message for text in known for message in canonical({"role": role, "content": _unquoted(text)})] or None


def _result(value: Any) -> Any:
    """What a tool gave back; MCP puts its text into a content block."""
    decoded = _literal(value[0] if isinstance(value, list) and len(value) == 1 else value)
    if isinstance(decoded, Mapping) and decoded.get("type") == "text" and isinstance(decoded.get("text"), str):
        return decoded["text"]
    return value if isinstance(value, str) else decoded


def _unquoted(text: str) -> str:
    """The text of a JSON string; other text as it is."""
    if text[:1] == '"' and text[-1:] == '"' and len(text) > 1:
        try:
            decoded = loads(text.encode("utf-8", "surrogatepass"))
        except ValueError:
            return text
        return decoded if isinstance(decoded, str) else text
    return text


def _literal(text: Any) -> Any:
    """The value that JSON or Python's repr ("{'city': 'Rome'}") wrote; anything else as it is."""
    decoded = unwrap(_unquoted(text) if isinstance(text, str) else text)
    if not isinstance(decoded, str) or decoded[:1] not in ("{", "[") or len(decoded) > _MAX_LITERAL:
        return decoded
    try:
        return ast.literal_eval(decoded)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return decoded


_ROLES = frozenset(("system", "developer", "user", "human", "assistant", "ai", "model", "tool", "function"))
