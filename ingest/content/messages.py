"""Chat messages of all dialects into canonical parts."""

from collections.abc import Mapping, Sequence
from typing import Any

from tracemill.chat import Part, as_text, canonical_role, from_openai, tools_from_openai
from tracemill.ingest.content import shapes
from tracemill.ingest.documents import unwrap
from tracemill.ingest.reader import Message


def canonical(message: Any, default_role: str = "user") -> list[Message]:
    """A message of any dialect as canonical ones; one that carries several tool results becomes several.

    Understands OTel GenAI (`parts`), OpenAI (`content`, `tool_calls`) and Anthropic (`tool_use`, `tool_result`)
    spellings and those of `shapes.py`; anything else is kept as text.
    """
    message = unwrap(message)
    if not isinstance(message, Mapping):
        return [(default_role, None, [{"type": "text", "content": as_text(message)}])]
    if isinstance(message.get("message"), Mapping) and "role" not in message:
        message = message["message"]
    message = shapes.plain(message)
    if "role" not in message:
        message = {**message, "role": default_role}
    if isinstance(message.get("text"), str) and "content" not in message and "parts" not in message:
        message = {**message, "content": message["text"]}
    parts = unwrap(message.get("parts"))
    if isinstance(parts, list):
        role = canonical_role(str(message.get("role") or "user"))
        name = message.get("name")
        found: list[Part] = [_part(part) for part in parts]
        return _split(role, None if name is None else str(name), found)
    content = message.get("content")
    if isinstance(content, str) and content[:2] == "[{":
        inner = unwrap(content)
        if isinstance(inner, list) and all(isinstance(i, Mapping) and "type" in i for i in inner):
            message = {**message, "content": inner}
    role, name, found = from_openai(message)
    return _split(role, name, [_part(part) for part in found])


def canonical_list(value: Any, default_role: str = "user") -> list[Message] | None:
    """The messages of a list, of one message, of `{"messages": […]}` or of plain text; None for nothing at all."""
    value = unwrap(value)
    if value is None or value == "":
        return None
    if isinstance(value, Mapping) and isinstance(value.get("messages"), list):
        value = value["messages"]
    if isinstance(value, list):
        return [found for item in value for found in canonical(item, default_role)]
    if isinstance(value, Mapping) and any(name in value for name in ("role", "parts", "content", "text", "message")):
        return canonical(value, default_role)
    return [(default_role, None, [{"type": "text", "content": as_text(value)}])]


_CUT_ENDS = ("[truncated]", "<truncated>", "(truncated)", "...[TRUNCATED]", "[TRUNCATED]")
_BLANKED = frozenset(("<redacted>", "[redacted]", "[REDACTED]", "[sanitized]", "[filtered]", "[Filtered]"))


def is_cut(message: Message) -> bool:
    """Whether a message ends in a mark of truncation, or stands for what was taken out of the log."""
    return any(cut_off(part.get("content", part.get("response"))) for part in message[2])


def cut_off(text: Any) -> bool:
    """Whether a text ends in a mark of truncation, or is itself one of what was taken out."""
    return isinstance(text, str) and (text.endswith(_CUT_ENDS) or text in _BLANKED or text.startswith("[sanitized"))


def tool_message(tools: Sequence[Any]) -> Message | None:
    """The message that holds tool definitions; None where there are none."""
    parts = tools_from_openai([unwrap(tool) for tool in tools])
    return ("tools", None, parts) if parts else None


def finish_reason(message: Any) -> str | None:
    message = unwrap(message)
    reason = message.get("finish_reason") if isinstance(message, Mapping) else None
    return None if reason is None else str(reason)


def _part(part: Any) -> Part:
    if isinstance(part, str):
        return {"type": "text", "content": part}
    if not isinstance(part, Mapping):
        return {"type": "text", "content": as_text(part)}
    part = shapes.part(part)
    kind = part.get("type")
    if kind == "text":
        return {"type": "text", "content": as_text(part.get("content", part.get("text", "")))}
    if kind in ("reasoning", "thinking"):
        return {"type": "reasoning", "content": as_text(part.get("content", part.get("thinking", "")))}
    if kind in ("tool_call", "tool_use", "toolCall"):
        arguments = part.get("arguments", part.get("input", part.get("args")))
        return {"type": "tool_call", "id": part.get("id"), "name": part.get("name"), "arguments": arguments}
    if kind in ("tool_call_response", "tool_result"):
        response = part.get("response", part.get("result", part.get("content")))
        found: Part = {
            "type": "tool_call_response",
            "id": part.get("id", part.get("tool_use_id")),
            "response": response,
        }
        if found["id"] is None and part.get("name") is not None:
            found["name"] = part["name"]  # without an id, the name says which call it answers
        if part.get("is_error"):
            found["is_error"] = True
        return found
    return dict(part)


def _split(role: str, name: str | None, parts: list[Part]) -> list[Message]:
    responses = [part for part in parts if part.get("type") == "tool_call_response"]
    if not responses or (role == "tool" and len(parts) == 1):
        return [(role, name, parts)]
    rest = [part for part in parts if part.get("type") != "tool_call_response"]
    split: list[Message] = [("tool", name if role == "tool" else None, [part]) for part in responses]
    if rest:
        split.append(("user" if role == "tool" else role, name, rest))
    return split
