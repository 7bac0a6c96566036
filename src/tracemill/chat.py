"""Chat messages in two shapes: the lake's canonical parts, and the messages of the OpenAI API.

Canonical: a role (system|user|assistant|tool), an optional name, and a list of parts:

    {"type": "text", "content": "…"}                                  {"type": "reasoning", "content": "…"}
    {"type": "tool_call", "id": "…", "name": "…", "arguments": …}     {"type": "refusal", "content": "…"}
    {"type": "tool_call_response", "id": "…", "response": …}          {"type": "uri", "modality": "image", "uri": "…"}

`arguments` is the very string that the model wrote where the log has it, else the decoded value. Tool definitions are
kept as one message of role "tools" whose parts are the definitions in OpenAI shape.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tracemill.ids import canonical_json

_JSON = json.JSONEncoder(ensure_ascii=False)
ChatMessage = dict[str, Any]
Part = dict[str, Any]

FAILED_ANSWER = (
    r"(?i)^\W*(error|exception|traceback|fatal|invalid|failed|could not|cannot|no such|unknown|exitcode: [1-9])"
)
"""How a tool's answer begins that tells an error where the log has no status (RE2, of its first 60 characters)."""

_ROLES = {"developer": "system", "function": "tool", "model": "assistant", "ai": "assistant", "human": "user"}


def canonical_role(role: str) -> str:
    """The role under its usual name: developer is system, function is tool, human is user, ai and model assistant."""
    lowered = role.lower()
    return _ROLES.get(lowered, lowered)


def text_of(parts: Sequence[Mapping[str, Any]]) -> str:
    """The text parts and text tool responses joined by newlines: what `messages.text` holds."""
    texts = []
    for part in parts:
        if part.get("type") == "text":
            texts.append(str(part.get("content", "")))
        elif part.get("type") == "tool_call_response" and isinstance(part.get("response"), str):
            texts.append(part["response"])
    return "\n".join(texts)


def as_text(value: Any) -> str:
    """A string as it is, anything else as its JSON text."""
    return value if isinstance(value, str) else _JSON.encode(value)


def from_openai(message: Mapping[str, Any]) -> tuple[str, str | None, list[Part]]:
    """Role, name and parts of an OpenAI chat message; nothing that a model reads is lost."""
    role = canonical_role(str(message.get("role") or "user"))
    name = message.get("name")
    content = message.get("content")
    parts: list[Part] = []
    if reasoning := message.get("reasoning_content"):
        parts.append({"type": "reasoning", "content": as_text(reasoning)})
    if role == "tool":
        response = _plain(content)
        parts.append({"type": "tool_call_response", "id": message.get("tool_call_id"), "response": response})
    elif isinstance(content, list):
        parts.extend(_from_item(item) for item in content)
    elif content is not None:
        parts.append({"type": "text", "content": as_text(content)})
    if refusal := message.get("refusal"):
        parts.append({"type": "refusal", "content": as_text(refusal)})
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        if isinstance(call, Mapping):
            parts.append(_from_call(call))
    if isinstance(message.get("function_call"), Mapping) and not calls:
        parts.append(_from_call({"function": message["function_call"]}))
    return role, None if name is None else str(name), parts


def to_openai(role: str, name: str | None, parts: Sequence[Mapping[str, Any]]) -> ChatMessage:
    """The message as an OpenAI-compatible server takes it; the inverse of `from_openai` on text and tool calls.

    Several text parts become one string joined by newlines, as most servers' chat templates do; content is a list
    only where a part is no text. A message without any text has the content None.
    """
    message: ChatMessage = {"role": role}
    if name is not None:
        message["name"] = name
    responses = [part for part in parts if part.get("type") == "tool_call_response"]
    if role == "tool" and responses:
        if responses[0].get("id") is not None:
            message["tool_call_id"] = responses[0]["id"]
        message["content"] = "\n".join(as_text(part.get("response")) for part in responses)
        return message
    items: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    for part in parts:
        kind = part.get("type")
        if kind == "tool_call":
            calls.append(_to_call(part, len(calls)))
        elif kind == "reasoning":
            message["reasoning_content"] = as_text(part.get("content"))
        elif kind == "refusal":
            message["refusal"] = as_text(part.get("content"))
        else:
            items.append(_to_item(part))
    if any(item["type"] != "text" for item in items):
        message["content"] = items
    else:
        message["content"] = "\n".join(item["text"] for item in items) if items else None
    if calls:
        message["tool_calls"] = calls
    return message


def answer_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """What a call answered (OpenAI messages): its text, or its tool calls as canonical JSON where it has no text."""
    text = "\n".join(m["content"] for m in messages if isinstance(m.get("content"), str) and m["content"])
    calls = [call for message in messages for call in message.get("tool_calls", ())]
    return text or (canonical_json(calls) if calls else "")


def tools_from_openai(tools: Sequence[Any]) -> list[Part]:
    """Tool definitions, nested (`{"type": "function", "function": {…}}`) or flat, all in the nested shape."""
    parts: list[Part] = []
    for tool in tools:
        if not isinstance(tool, Mapping):
            continue
        if isinstance(tool.get("function"), Mapping):
            parts.append(dict(tool))
        elif "name" in tool:
            function = {k: v for k, v in tool.items() if k not in ("type", "input_schema", "inputSchema")}
            schema = tool.get("input_schema", tool.get("inputSchema"))
            if schema is not None and "parameters" not in function:
                function["parameters"] = schema
            parts.append({"type": "function", "function": function})
        else:
            parts.append(dict(tool))
    return parts


def _plain(content: Any) -> Any:
    """A list of text items as its text; everything else as it is."""
    if isinstance(content, list) and all(isinstance(i, Mapping) and i.get("type") == "text" for i in content):
        return "\n".join(as_text(item.get("text", item.get("content", ""))) for item in content)
    return "" if content is None else content


def _from_item(item: Any) -> Part:
    if not isinstance(item, Mapping):
        return {"type": "text", "content": as_text(item)}
    kind = item.get("type")
    if kind in ("text", "input_text", "output_text"):
        return {"type": "text", "content": as_text(item.get("text", item.get("content", "")))}
    if kind == "image_url":
        image = item.get("image_url")
        uri = image.get("url") if isinstance(image, Mapping) else image
        return {"type": "uri", "modality": "image", "uri": as_text(uri)}
    return dict(item)


def _to_item(part: Mapping[str, Any]) -> dict[str, Any]:
    kind = part.get("type")
    if kind == "text":
        return {"type": "text", "text": as_text(part.get("content", ""))}
    if kind == "uri" and part.get("modality") == "image":
        return {"type": "image_url", "image_url": {"url": part.get("uri")}}
    if kind == "tool_call_response":
        return {"type": "text", "text": as_text(part.get("response"))}
    return {"type": "unknown", **part}


def _from_call(call: Mapping[str, Any]) -> Part:
    function = call.get("function")
    inner = function if isinstance(function, Mapping) else call
    name = function if isinstance(function, str) else inner.get("name")
    return {
        "type": "tool_call",
        "id": call.get("id"),
        "name": name,
        "arguments": inner.get("arguments", inner.get("args")),
    }


def _to_call(part: Mapping[str, Any], index: int) -> dict[str, Any]:
    arguments = part.get("arguments")
    return {
        "id": part.get("id") or f"call_{index}",
        "type": "function",
        "function": {"name": part.get("name"), "arguments": "{}" if arguments is None else as_text(arguments)},
    }
