"""What a model was asked and what it answered, out of the request and response objects that frameworks log.

Knows OpenAI (chat, completions, Responses), Anthropic, Gemini, Google ADK, LangChain (`generations`, double lists),
the Vercel AI SDK, Pydantic AI and plain `{"messages": …}`; streamed chunks are put together. `asked` and `answered` say
None where a value is not beyond doubt messages; `asked_text` and `answered_text` then take it as text.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tracemill.chat import Part, as_text
from tracemill.ingest.content import shapes
from tracemill.ingest.content.messages import canonical
from tracemill.ingest.documents import unwrap
from tracemill.ingest.providers.chunks import merged
from tracemill.ingest.reader import Message

_NOT_PARAMS = frozenset(
    (
        *("messages", "contents", "input", "prompt", "prompts", "system", "instructions", "model", "tools"),
        *("functions", "config", "system_instruction", "systemInstruction", "user"),
    )
)

_AROUND = frozenset(("output", "usage_metadata", "model", "id"))
"""What a traced function's answer stands in."""


class Said(msgspec.Struct, kw_only=True):
    """Messages, and what the same object says beside them."""

    messages: list[Message]
    system: list[Message] = []
    """Instructions that an answer repeats."""
    tools: list[Any] = []
    params: dict[str, Any] = {}
    model: str | None = None
    response_id: str | None = None
    finish_reasons: list[str] = []
    usage: Mapping[str, Any] | None = None
    """As the provider wrote it."""


def asked(value: Any) -> Said | None:
    """The prompt in a request, a list of messages, or one message."""
    value = unwrap(value)
    if isinstance(value, list):
        return _listed(value, "user")
    if not isinstance(value, Mapping):
        return None
    for name in ("messages", "contents", "input", "prompt"):
        if name in value and (found := _request(value, name)) is not None:
            return found
    if shapes.is_message(value):
        return Said(messages=canonical(value))
    inner = unwrap(value.get("new_message"))  # Google ADK's invocation
    if isinstance(inner, Mapping) and shapes.is_message(inner):
        return Said(messages=canonical(inner))
    prompts = unwrap(value.get("prompts"))  # LangChain's completion models
    if isinstance(prompts, list) and prompts and all(isinstance(prompt, str) for prompt in prompts):
        return Said(messages=[_text("user", prompt) for prompt in prompts])
    arguments, named = unwrap(value.get("args")), unwrap(value.get("kwargs"))  # a traced function's
    if isinstance(named, Mapping) and named and (found := asked(named)) is not None:
        return found
    if isinstance(arguments, list) and len(arguments) == 1 and not named:
        return asked(arguments[0])
    return None


def answered(value: Any) -> Said | None:
    """The answer in a response, a list of messages or of streamed chunks, or one message."""
    value = unwrap(value)
    if isinstance(value, list):
        return _answers(value)
    if not isinstance(value, Mapping):
        return None
    found: Said | None
    if isinstance(unwrap(value.get("output")), list) and (found := _listed(unwrap(value["output"]), "assistant")):
        return _with_answer(found, value, [value.get("status")] if value.get("object") == "response" else [])
    inner = unwrap(value.get("output"))
    if isinstance(inner, list | Mapping) and inner and set(value) <= _AROUND and (found := answered(inner)) is not None:
        return found if found.usage is not None else _with_answer(found, value, found.finish_reasons)
    for name, read in _ANSWERS.items():
        held = unwrap(value.get(name))
        if isinstance(held, list) and held and (found := read(held)) is not None:
            return _with_answer(found, value, found.finish_reasons)
    if isinstance(unwrap(value.get("messages")), list):
        return _listed(unwrap(value["messages"]), "assistant")
    content = unwrap(value.get("content"))
    if isinstance(content, Mapping) and isinstance(content.get("parts"), list):  # Google ADK
        return _with_answer(Said(messages=canonical(content, "assistant")), value, [value.get("finish_reason")])
    inner = unwrap(value.get("message"))
    if isinstance(inner, Mapping) and shapes.is_message(inner):
        return _with_answer(Said(messages=canonical(inner, "assistant")), inner, [value.get("finish_reason")])
    if shapes.is_message(value) or value.get("type") == "message":
        reason = value.get("finish_reason") or value.get("stop_reason")
        return _with_answer(Said(messages=canonical(value, "assistant")), value, [reason])
    calls = unwrap(value.get("toolCalls"))
    if isinstance(calls, list) and (found := _answers(calls)) is not None:  # Vercel AI SDK
        text = value.get("text")
        if isinstance(text, str) and text:
            role, who, parts = found.messages[0]
            found.messages[0] = (role, who, [{"type": "text", "content": text}, *parts])
        return _with_answer(found, value, [value.get("finishReason")])
    return None


def asked_text(value: Any) -> Said | None:
    """As `asked`; what is in no known shape becomes one message of text. None for nothing."""
    return asked(value) or _as_text(value, "user", ("prompt", "input", "question", "query", "text", "args", "q"))


def answered_text(value: Any) -> Said | None:
    """As `answered`; what is in no known shape becomes one message of text. None for nothing."""
    return answered(value) or _as_text(value, "assistant", ("output", "text", "content", "completion"))


def beside(value: Any) -> dict[str, Any]:
    """What an object holds beside the messages that `asked` or `answered` finds in it: a graph's state, settings."""
    value = unwrap(value)
    if not isinstance(value, Mapping) or shapes.is_message(value) or "object" in value:
        return {}
    rest = {name: held for name, held in value.items() if name not in _MESSAGES and name not in _PEOPLE}
    return {name: held for name, held in rest.items() if held not in (None, "", [], {})}


_MESSAGES = frozenset(
    (
        *("messages", "contents", "input", "prompt", "prompts", "system", "new_message", "args", "kwargs", "tools"),
        *("output", "choices", "candidates", "generations", "content", "message", "toolCalls", "text"),
    )
)
_PEOPLE = frozenset(("user", "user_id", "userId"))


def _as_text(value: Any, role: str, names: Sequence[str]) -> Said | None:
    decoded = unwrap(value)
    if decoded is None or decoded == "" or decoded == {} or decoded == []:
        return None
    if isinstance(decoded, list) and all(isinstance(piece, str) for piece in decoded):
        return Said(messages=[_text(role, "".join(decoded))])  # a generator's pieces
    if isinstance(decoded, Mapping):
        held = [decoded[name] for name in names if decoded.get(name)]
        text = held[0] if len(held) == 1 and len([v for v in decoded.values() if v]) == 1 else None
        if isinstance(text, list) and all(isinstance(piece, str) for piece in text):
            text = "".join(text)
        if isinstance(text, str):
            return Said(messages=[_text(role, text)])
    return Said(messages=[_text(role, as_text(value))])


def _request(value: Mapping[str, Any], name: str) -> Said | None:
    held = unwrap(value[name])
    if isinstance(held, list):
        found = _listed(held, "user")
    elif isinstance(held, str) and held and (name in ("contents", "prompt") or "model" in value):
        found = Said(messages=[_text("user", held)])
    elif isinstance(held, Mapping) and (shapes.is_message(held) or "messages" in held):
        found = asked(held)
    else:
        found = None
    if found is None:
        return None
    config = unwrap(value.get("config"))
    config = config if isinstance(config, Mapping) else {}
    for place in (value, config):
        for key in ("system", "instructions", "system_instruction", "systemInstruction"):
            system = unwrap(place.get(key))
            if system and not any(message[0] == "system" for message in found.messages):
                content = system if isinstance(system, Mapping) else {"role": "system", "content": system}
                said = [("system", None, parts) for _, _, parts in canonical(content, "system")]
                found.messages = [*said, *found.messages]
        found.tools = found.tools or tools_of(place.get("tools") or place.get("functions"))
    found.model = _string(value.get("model"))
    params = {k: v for k, v in {**value, **config}.items() if k not in _NOT_PARAMS and v is not None}
    found.params = params if name in ("messages", "contents") or found.model is not None else {}
    return found


def tools_of(value: Any) -> list[Any]:
    """Tool definitions of a request, from lists, Gemini's declarations or JSON text; what is none is left out."""
    value = unwrap(value)
    found: list[Any] = []
    for tool in value if isinstance(value, list) else [value]:
        tool = unwrap(tool)
        if not isinstance(tool, Mapping):
            continue
        declared = tool.get("function_declarations", tool.get("functionDeclarations"))
        if isinstance(declared, list):
            found.extend(item for item in declared if isinstance(item, Mapping))
        else:
            found.append(tool)
    return found


def _listed(values: Sequence[Any], role: str) -> Said | None:
    """A list of messages; LangChain puts one list for each prompt of a batch around them."""
    values = [unwrap(value) for value in values]
    if values and all(isinstance(value, list) for value in values):
        values = [unwrap(message) for inner in values for message in inner]
    tools = [value["content"] for value in values if _is_tool(value)]
    values = [value for value in values if not _is_tool(value)]
    if not values or not all(shapes.is_message(value) for value in values):
        return None
    messages: list[Message] = []
    joined = False
    for value in values:
        found = canonical(value, role)
        item = shapes.is_item(value)
        # The items of one answer are one message: its reasoning, its text and its calls.
        follows = messages and messages[-1][0] == "assistant" and found and found[0][0] == "assistant"
        if follows and (item or joined) and len(found) == 1:
            last = messages.pop()
            messages.append((last[0], last[1], [*last[2], *found[0][2]]))
        else:
            messages.extend(found)
        joined = item
    return Said(messages=[message for message in messages if message[2]], tools=tools)


def _is_tool(value: Any) -> bool:
    """LangChain's tracers log tool definitions as messages of role "tool"."""
    content = value.get("content") if isinstance(value, Mapping) and value.get("role") == "tool" else None
    return isinstance(content, Mapping) and content.get("type") == "function" and "function" in content


def _answers(values: Sequence[Any]) -> Said | None:
    values = [unwrap(value) for value in values]
    if (found := _listed(values, "assistant")) is not None:
        return found
    if not values or not all(isinstance(value, Mapping) for value in values):
        return None
    if any(_is_chunk(value) for value in values):
        return answered(merged(values))
    if all("toolCallId" in value and "toolName" in value for value in values):
        return _one([{"type": "tool-call", **value} for value in values])
    if all(value.get("type") == "function" and "function" in value for value in values):
        return Said(messages=canonical({"role": "assistant", "content": None, "tool_calls": values}))
    if all(value.get("type") in ("text", "tool_use", "thinking", "reasoning", "tool_call") for value in values):
        return _one(values)
    return None


def _is_chunk(value: Mapping[str, Any]) -> bool:
    if str(value.get("object", "")).endswith(".chunk") or "delta" in value:
        return True
    choices = value.get("choices")
    return isinstance(choices, list) and any(isinstance(choice, Mapping) and "delta" in choice for choice in choices)


def _one(parts: Sequence[Any]) -> Said:
    return Said(messages=canonical({"role": "assistant", "parts": list(parts)}))


def _choices(choices: Sequence[Any]) -> Said | None:
    messages: list[Message] = []
    reasons: list[str] = []
    for choice in choices:
        if not isinstance(choice, Mapping):
            return None
        said = choice.get("message") or choice.get("delta") or {"content": choice.get("text")}
        messages.extend(canonical(said, "assistant"))
        reason = choice.get("finish_reason")
        if isinstance(reason, Mapping):  # LangSmith's JavaScript client puts the last chunk there
            reason = reason.get("finish_reason")
        if reason is not None:
            reasons.append(str(reason))
    return Said(messages=messages, finish_reasons=reasons)


def _candidates(candidates: Sequence[Any]) -> Said | None:
    messages: list[Message] = []
    reasons: list[str] = []
    for candidate in candidates:
        content = candidate.get("content") if isinstance(candidate, Mapping) else None
        if not isinstance(content, Mapping):
            return None
        messages.extend(canonical(content, "assistant"))
        reason = candidate.get("finish_reason", candidate.get("finishReason"))
        if reason is not None:
            reasons.append(str(reason))
    return Said(messages=messages, finish_reasons=reasons)


def _generations(generations: Sequence[Any]) -> Said | None:
    messages: list[Message] = []
    reasons: list[str] = []
    usage = model = identifier = None
    for generation in generations[0] if isinstance(generations[0], list) else generations:
        if not isinstance(generation, Mapping):
            return None
        info = generation.get("generation_info")
        info = info if isinstance(info, Mapping) else {}
        message = generation.get("message")
        if isinstance(message, Mapping):
            messages.extend(canonical(message, "assistant"))
            held = message.get("kwargs", message.get("data", message))
            meta = held.get("response_metadata") if isinstance(held, Mapping) else None
            info = {**info, **(meta if isinstance(meta, Mapping) else {})}
            if isinstance(held, Mapping):
                usage = held.get("usage_metadata") or usage
                identifier = info.get("id") or held.get("id") or identifier
        else:
            messages.append(_text("assistant", as_text(generation.get("text", ""))))
        reason = info.get("finish_reason") or info.get("stop_reason")
        model = info.get("model_name") or info.get("model") or model
        if reason is not None:
            reasons.append(str(reason))
    return Said(
        messages=messages,
        finish_reasons=reasons,
        usage=usage if isinstance(usage, Mapping) else None,
        model=_string(model),
        response_id=_string(identifier),
    )


_ANSWERS = {"choices": _choices, "candidates": _candidates, "generations": _generations}


def _with_answer(found: Said, value: Mapping[str, Any], reasons: Sequence[Any]) -> Said:
    """What an answer says of itself."""
    meta = value.get("response_metadata")
    meta = meta if isinstance(meta, Mapping) else {}
    found.model = found.model or _string(
        value.get("model") or value.get("model_version") or value.get("modelVersion") or meta.get("model_name")
    )
    found.response_id = found.response_id or _string(meta.get("id") or value.get("id"))
    found.finish_reasons = [str(reason) for reason in reasons if reason is not None] or [
        str(meta[name]) for name in ("finish_reason", "stop_reason") if meta.get(name) is not None
    ]
    usage = next((value[name] for name in _USAGES if isinstance(value.get(name), Mapping)), None)
    if usage is None:
        llm_output = value.get("llm_output")
        usage = llm_output.get("token_usage") if isinstance(llm_output, Mapping) else None
    found.usage = found.usage or (usage if isinstance(usage, Mapping) else None)
    if value.get("object") == "response":
        found.tools = tools_of(value.get("tools"))
        instructions = value.get("instructions")
        found.system = [_text("system", instructions)] if isinstance(instructions, str) and instructions else []
        details = value.get("incomplete_details")
        if isinstance(details, Mapping) and details.get("reason"):
            found.finish_reasons = [str(details["reason"])]
    return found


_USAGES = ("usage_metadata", "usageMetadata", "usage", "token_usage")


def _text(role: str, text: str) -> Message:
    content: Part = {"type": "text", "content": text}
    return role, None, [content]


def _string(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
