"""Messages as the agent frameworks write them, put into the spellings that `messages.canonical` reads.

LangChain (objects, dumps and constructors), Gemini, Bedrock Converse, the Vercel AI SDK and items of the OpenAI
Responses API. One message or part at a time; what holds messages (requests, responses) is in `exchanges.py`.
"""

from collections.abc import Mapping
from typing import Any

from tracemill.chat import Part, as_text

_LANGCHAIN = {
    "human": "user",
    "humanmessage": "user",
    "ai": "assistant",
    "aimessage": "assistant",
    "system": "system",
    "systemmessage": "system",
    "tool": "tool",
    "toolmessage": "tool",
    "function": "tool",
    "functionmessage": "tool",
    "developer": "system",
}
_ITEMS = ("function_call", "function_call_output", "reasoning", "custom_tool_call", "custom_tool_call_output")
_VERCEL_OUTPUT = ("text", "json", "error-text", "error-json", "content")


def langchain_role(message: Mapping[str, Any]) -> str | None:
    """The role of a LangChain message by its type; None where it is none."""
    kind = message.get("type")
    return _LANGCHAIN.get(kind.lower().removesuffix("chunk")) if isinstance(kind, str) else None


def is_item(message: Mapping[str, Any]) -> bool:
    """Whether this is an item of the Responses API that is no plain message."""
    kind = message.get("type")
    return isinstance(kind, str) and "role" not in message and (kind in _ITEMS or kind.endswith("_call"))


def is_message(value: Any) -> bool:
    """Whether a value is a chat message in any known spelling, beyond doubt."""
    if not isinstance(value, Mapping):
        return False
    if isinstance(value.get("role"), str):
        return any(name in value for name in ("content", "parts", "tool_calls", "function_call", "reasoning"))
    if value.get("lc") is not None and value.get("type") == "constructor":
        return _constructed(value) is not value
    if is_item(value):
        return True
    inner = value.get("data")
    held = inner if isinstance(inner, Mapping) else value
    return langchain_role(value) is not None and "content" in held


def tool_message(value: Any) -> Mapping[str, Any] | None:
    """A LangChain tool result with its `content`, `tool_call_id`, `name` and `status`; None for anything else."""
    if not isinstance(value, Mapping):
        return None
    message = _constructed(value)
    role = message.get("role") if message is not value else langchain_role(value)
    return message if role == "tool" and message.get("tool_call_id") is not None else None


def plain(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """The message in the spelling of OpenAI or OTel GenAI; one in no known spelling comes back as it is."""
    message = _constructed(message)
    if "role" not in message:
        if is_item(message):
            return _item(message)
        role = langchain_role(message)
        if role is not None:
            inner = message.get("data")
            message = {**(inner if isinstance(inner, Mapping) else message), "role": role}
    if isinstance(message.get("additional_kwargs"), Mapping) or message.get("invalid_tool_calls") is not None:
        message = _langchain(message)
    content = message.get("content")
    parts = content if message.get("role") == "tool" and isinstance(content, list) else []
    if any(isinstance(part, Mapping) and part.get("type") == "tool-result" for part in parts):
        return {"role": "tool", "parts": parts}
    if message.get("role") == "tool" and message.get("status") == "error":
        said = {"type": "tool_call_response", "id": message.get("tool_call_id"), "response": content, "is_error": True}
        return {"role": "tool", "name": message.get("name"), "parts": [said]}
    return message


def part(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """A content part of Gemini, Bedrock or the Vercel AI SDK in the canonical spelling; others as they are."""
    kind = value.get("type")
    if kind == "tool-call":
        arguments = value.get("input", value.get("args"))
        return {
            "type": "tool_call",
            "id": value.get("toolCallId"),
            "name": value.get("toolName"),
            "arguments": arguments,
        }
    if kind == "tool-result":
        return _vercel_result(value)
    if kind == "reasoning" and "content" not in value and "thinking" not in value and "text" in value:
        return {"type": "reasoning", "content": value["text"]}
    return value if kind is not None else _untyped(value)


def _constructed(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """LangChain's `{"lc": 1, "type": "constructor", "id": […, "HumanMessage"], "kwargs": {…}}` as its arguments."""
    path, kwargs = message.get("id"), message.get("kwargs")
    if message.get("type") != "constructor" or not isinstance(path, list) or not isinstance(kwargs, Mapping):
        return message
    role = _LANGCHAIN.get(str(path[-1]).lower().removesuffix("chunk")) if path else None
    if role is None:
        role = kwargs.get("role") if isinstance(kwargs.get("role"), str) else None
    return message if role is None else {**kwargs, "role": role}


def _langchain(message: Mapping[str, Any]) -> Mapping[str, Any]:
    extra = message.get("additional_kwargs")
    extra = extra if isinstance(extra, Mapping) else {}
    found = {name: message[name] for name in ("role", "content", "name", "tool_call_id", "status") if name in message}
    calls = message.get("tool_calls")
    written = extra.get("tool_calls")
    # What the provider sent has the arguments as the model wrote them; LangChain's own list has them decoded.
    calls = written if isinstance(written, list) and written else calls
    content = message.get("content")
    said = {p.get("id") for p in content if isinstance(p, Mapping)} if isinstance(content, list) else set()
    if isinstance(calls, list):
        calls = [call for call in calls if not (isinstance(call, Mapping) and call.get("id") in said)]
        if calls:
            found["tool_calls"] = calls
    if not found.get("tool_calls") and isinstance(extra.get("function_call"), Mapping):
        found["function_call"] = extra["function_call"]
    for name in ("reasoning_content", "refusal"):
        if extra.get(name):
            found[name] = extra[name]
    return found


def _item(item: Mapping[str, Any]) -> Mapping[str, Any]:
    kind = str(item.get("type"))
    if kind in ("function_call", "custom_tool_call"):
        arguments = item.get("arguments", item.get("input"))
        call = {"id": item.get("call_id"), "function": {"name": item.get("name"), "arguments": arguments}}
        return {"role": "assistant", "content": None, "tool_calls": [call]}
    if kind in ("function_call_output", "custom_tool_call_output"):
        output = item.get("output")
        said = {"type": "tool_call_response", "id": item.get("call_id"), "response": _texts(output) or output}
        return {"role": "tool", "parts": [said]}
    if kind == "reasoning":
        text = _texts(item.get("content")) or _texts(item.get("summary")) or ""
        thought: Part = {"type": "reasoning", "content": text}
        if item.get("encrypted_content"):
            thought["encrypted_content"] = item["encrypted_content"]
        return {"role": "assistant", "parts": [thought] if len(thought) > 2 or text else []}
    return {"role": "assistant", "parts": [dict(item)]}


def _texts(value: Any) -> str | None:
    """The text of a list of text items; None for anything else."""
    if not isinstance(value, list) or not all(isinstance(i, Mapping) and isinstance(i.get("text"), str) for i in value):
        return None
    return "\n".join(item["text"] for item in value)


def _vercel_result(value: Mapping[str, Any]) -> Part:
    result = value.get("output", value.get("result"))
    failed = bool(value.get("isError"))
    if isinstance(result, Mapping) and result.get("type") in _VERCEL_OUTPUT and "value" in result:
        failed = failed or str(result["type"]).startswith("error")
        result = result["value"]
    found: Part = {"type": "tool_call_response", "id": value.get("toolCallId"), "response": result}
    if value.get("toolName") is not None:
        found["name"] = value["toolName"]
    if failed:
        found["is_error"] = True
    return found


def _untyped(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Parts that say what they are by their only key."""
    if isinstance(value.get("text"), str):
        thought = value.get("thought") is True
        return {"type": "reasoning" if thought else "text", "content": value["text"]}
    call = value.get("function_call", value.get("functionCall"))
    if isinstance(call, Mapping):
        return {"type": "tool_call", "id": call.get("id"), "name": call.get("name"), "arguments": call.get("args")}
    answer = value.get("function_response", value.get("functionResponse"))
    if isinstance(answer, Mapping):
        response = {"type": "tool_call_response", "id": answer.get("id"), "response": answer.get("response")}
        return response if answer.get("name") is None else {**response, "name": answer["name"]}
    use = value.get("toolUse")
    if isinstance(use, Mapping):
        return {
            "type": "tool_call",
            "id": use.get("toolUseId"),
            "name": use.get("name"),
            "arguments": use.get("input"),
        }
    result = value.get("toolResult")
    if isinstance(result, Mapping):
        content = result.get("content")
        found = {"type": "tool_call_response", "id": result.get("toolUseId"), "response": _texts(content) or content}
        return {**found, "is_error": True} if result.get("status") == "error" else found
    blob = value.get("inline_data", value.get("inlineData"))
    if isinstance(blob, Mapping):
        mime = as_text(blob.get("mime_type", blob.get("mimeType", "")))
        return {"type": "blob", "modality": mime.split("/")[0], "mime_type": mime, "content": blob.get("data")}
    file = value.get("file_data", value.get("fileData"))
    if isinstance(file, Mapping):
        mime = as_text(file.get("mime_type", file.get("mimeType", "")))
        uri = file.get("file_uri", file.get("fileUri"))
        return {"type": "uri", "modality": mime.split("/")[0], "mime_type": mime, "uri": uri}
    return value
