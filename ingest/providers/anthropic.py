"""The Anthropic Messages API: content blocks as messages, a request and its message object as spans."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tracemill.chat import Part, as_text
from tracemill.ids import content_id
from tracemill.ingest.attributes import identity
from tracemill.ingest.content.messages import canonical
from tracemill.ingest.content.usage import fill_usage
from tracemill.ingest.documents import unwrap
from tracemill.ingest.providers.calls import (
    conversation_id,
    failed,
    mapping,
    new_tool_results,
    session_of,
    surround,
    text,
    times,
)
from tracemill.ingest.reader import Item, Message, RawSpan

_SESSION = re.compile(r"_session_([0-9a-f-]{36})")
_NO_PARAMETERS = frozenset(("messages", "system", "model", "tools", "metadata"))
_MODALITIES = {"image": "image", "document": "document"}


def is_answer(value: Any) -> bool:
    """Whether this is a message object of the API."""
    return (
        isinstance(value, Mapping)
        and value.get("type") == "message"
        and value.get("role") == "assistant"
        and isinstance(value.get("content"), list)
        and ("stop_reason" in value or "usage" in value)
    )


def is_error(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get("type") == "error" and isinstance(value.get("error"), Mapping)


def messages(request: Mapping[str, Any]) -> list[Message]:
    """The prompt of a request: its system text or blocks, then its messages; tool results become messages of tools."""
    found: list[Message] = []
    system = unwrap(request.get("system"))
    if system:
        blocks = system if isinstance(system, list) else [system]
        found.append(("system", None, [_block(block) for block in blocks]))
    for message in request.get("messages") or []:
        found.extend(turn(message))
    return found


def turn(message: Any) -> list[Message]:
    """One message of the API as canonical ones."""
    content = message.get("content") if isinstance(message, Mapping) else None
    if not isinstance(content, list):
        return canonical(message)
    return canonical({"role": message.get("role"), "parts": [_block(block) for block in content]})


def anthropic_call(
    call: dict[str, Any],
    request: dict[str, Any],
    answer: dict[str, Any],
    *,
    line: int,
    more: dict[str, Any] | None = None,
) -> Iterator[Item]:
    """The call's span, the tools that the provider ran below it, and the tool results that are new with it.

    `more` are fields of the span that the caller knows better.
    """
    said = messages(request)
    user = text(mapping(request.get("metadata")).get("user_id"))
    named = _SESSION.search(user or "")
    session = session_of(call, request) or (named.group(1) if named else None)
    known = text(answer.get("id"))
    trace_id = conversation_id("anthropic", said, session) if said else identity("anthropic-message", known or answer)
    starts, ends = times(call)
    span = RawSpan(
        trace_id=trace_id,
        span_id=identity(trace_id, known or [[list(m) for m in said], answer.get("content"), starts, ends])[:16],
        kind="llm",
        name="chat",
        session_id=session,
        seq=len(said),
        start_ns=starts,
        end_ns=ends,
        status="ok",
        input=said or None,
        output=turn({**answer, "role": "assistant"}) if answer.get("content") else [],
        line=line,
        dialect="anthropic",
        response_id=known,
        flags=[] if said else ["lossy"],
    )
    surround(span, call, request)
    span.provider = span.provider or "anthropic"
    span.user = span.user or user
    _fill(span, request, answer)
    error = call.get("error") or answer.get("error")
    if error:
        failed(span, error)
    for name, value in (more or {}).items():
        setattr(span, name, value)
    yield span
    yield from _server_tools(span)
    yield from new_tool_results(said, span)


def _fill(span: RawSpan, request: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
    answered = text(answer.get("model"))
    span.model_requested = text(request.get("model")) or answered
    span.model = answered or span.model_requested
    asked = request if "response" not in request else {k: v for k, v in request.items() if k in _PARAMETERS}
    span.params = {k: v for k, v in asked.items() if k not in _NO_PARAMETERS}
    span.tools = tools(request)
    stopped = text(answer.get("stop_reason"))
    span.finish_reasons = None if stopped is None else [stopped]
    fill_usage(span, answer.get("usage"))
    if span.response_id is not None:
        span.attributes["response_id"] = span.response_id
    for name in ("stop_sequence", "container", "context_management"):
        if answer.get(name) is not None:
            span.attributes[name] = answer[name]
    if isinstance(answer.get("usage"), Mapping):
        span.attributes["usage"] = answer["usage"]


_PARAMETERS = (
    *("max_tokens", "temperature", "top_p", "top_k", "stop_sequences", "tool_choice", "thinking", "stream"),
    *("service_tier", "output_config", "context_management", "betas"),
)


def tools(request: Mapping[str, Any]) -> list[Any] | None:
    """The tool definitions of a request; None where there are none."""
    return [_tool(tool) for tool in request.get("tools") or []] or None


def _tool(tool: Any) -> Any:
    """A tool definition; one that the provider runs keeps its versioned type."""
    if not isinstance(tool, Mapping):
        return tool
    plain = {k: v for k, v in tool.items() if k != "cache_control"}
    if "input_schema" in plain or plain.get("type") in (None, "custom"):
        return {k: v for k, v in plain.items() if k != "type"}
    return {"type": plain.pop("type"), "function": plain}


def _block(block: Any) -> Part:
    if not isinstance(block, Mapping):
        return {"type": "text", "content": as_text(block)}
    kind = block.get("type")
    if kind == "text":
        part: Part = {"type": "text", "content": as_text(block.get("text", ""))}
        return {**part, "citations": block["citations"]} if block.get("citations") else part
    if kind == "thinking":
        return {"type": "reasoning", "content": as_text(block.get("thinking", ""))}
    if kind == "tool_result":
        result: Part = {
            "type": "tool_call_response",
            "id": block.get("tool_use_id"),
            "response": _result(block.get("content")),
        }
        return {**result, "is_error": True} if block.get("is_error") else result
    if kind in ("server_tool_use", "mcp_tool_use"):
        what = {k: block[k] for k in ("input", "server_name") if k in block}
        told = {"type": kind, **what}
        return {"type": "server_tool_call", "id": block.get("id"), "name": block.get("name"), "server_tool_call": told}
    if isinstance(kind, str) and kind.endswith("_tool_result"):
        told = {"type": kind, **{k: block[k] for k in ("content", "is_error") if block.get(k) is not None}}
        return {"type": "server_tool_call_response", "id": block.get("tool_use_id"), "server_tool_call_response": told}
    if kind in _MODALITIES and isinstance(block.get("source"), Mapping):
        return _media(_MODALITIES[kind], block)
    return {k: v for k, v in block.items() if k != "cache_control"}


def _media(modality: str, block: Mapping[str, Any]) -> Part:
    source = block["source"]
    rest = {k: block[k] for k in ("title", "context") if block.get(k)}
    if source.get("type") == "url":
        return {"type": "uri", "modality": modality, "uri": source.get("url"), **rest}
    if source.get("type") == "base64":
        held = {"mime_type": source.get("media_type"), "content": source.get("data")}
        return {"type": "blob", "modality": modality, **held, **rest}
    return {"type": "file", "modality": modality, **{k: v for k, v in source.items() if k != "type"}, **rest}


def _result(content: Any) -> Any:
    """A tool's result: text blocks as their text, anything else as parts."""
    if not isinstance(content, list):
        return content
    if all(isinstance(block, Mapping) and block.get("type") == "text" for block in content):
        return "\n".join(as_text(block.get("text", "")) for block in content)
    return [_block(block) for block in content]


def _server_tools(span: RawSpan) -> Iterator[RawSpan]:
    parts = [part for message in span.output or [] for part in message[2]]
    results = {part.get("id"): part for part in parts if part.get("type") == "server_tool_call_response"}
    for at, part in enumerate(parts):
        if part.get("type") == "server_tool_call":
            answer = mapping(mapping(results.get(part.get("id"))).get("server_tool_call_response"))
            content = answer.get("content")
            broken = bool(answer.get("is_error")) or str(mapping(content).get("type")).endswith("_error")
            yield RawSpan(
                trace_id=span.trace_id,
                span_id=content_id(span.trace_id, span.span_id, "server-tool", part.get("id"), at)[:16],
                parent_span_id=span.span_id,
                session_id=span.session_id,
                user=span.user,
                kind="tool",
                name=text(part.get("name")),
                seq=(span.seq or 0) + at,
                start_ns=span.start_ns,
                end_ns=span.start_ns,
                status="error" if broken else "unset",
                error_type=text(mapping(content).get("error_code")) if broken else None,
                tool_name=text(part.get("name")),
                tool_call_id=text(part.get("id")),
                tool_args=mapping(part.get("server_tool_call")).get("input"),
                tool_result=content,
                line=span.line,
                dialect=span.dialect,
                flags=["lossy"],
            )
