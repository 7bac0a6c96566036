"""The OpenAI Responses API: its items as messages, a request and its response object as spans."""

from collections.abc import Iterator, Mapping
from typing import Any

from tracemill.chat import Part, as_text, canonical_role
from tracemill.ids import content_id
from tracemill.ingest.attributes import as_ns, identity
from tracemill.ingest.content.usage import fill_usage
from tracemill.ingest.documents import unwrap
from tracemill.ingest.providers.calls import failed, first, mapping, session_of, surround, text, times
from tracemill.ingest.reader import Message, RawSpan

_CALLS = frozenset(
    (
        *("function_call", "custom_tool_call", "local_shell_call", "shell_call", "apply_patch_call", "computer_call"),
        "tool_search_call",
    )
)
"""Tools that the caller runs: their results come back as items of the next input."""
_RESULTS = frozenset(
    (
        *("function_call_output", "custom_tool_call_output", "local_shell_call_output", "shell_call_output"),
        *("apply_patch_call_output", "computer_call_output", "tool_search_output"),
    )
)
_ENVELOPE = frozenset(("id", "type", "status", "object", "created_by"))
_PARAMETERS = (
    *("temperature", "top_p", "max_output_tokens", "max_tool_calls", "parallel_tool_calls", "tool_choice", "text"),
    *("reasoning", "truncation", "store", "service_tier", "background", "top_logprobs", "include", "seed", "stream"),
)
_PLAIN = {
    "temperature": 1.0,
    "top_p": 1.0,
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "text": {"format": {"type": "text"}, "verbosity": "medium"},
    "truncation": "disabled",
    "store": True,
    "service_tier": "default",
    "background": False,
    "top_logprobs": 0,
}


def messages(value: Any) -> list[Message]:
    """The messages of an `input` (text or items) or an `output`; items of one turn of the model are one message.

    A turn that is sent again as input gives the same message that it gave as output.
    """
    value = unwrap(value)
    if isinstance(value, str):
        return [("user", None, [{"type": "text", "content": value}])]
    found: list[Message] = []
    for item in value if isinstance(value, list) else [value]:
        for message in _item(item):
            if message[0] == "assistant" and found and found[-1][0] == "assistant" and _joins(item):
                found[-1][2].extend(message[2])
            else:
                found.append(message)
    return found


def is_item(value: Any) -> bool:
    """Whether this is an item of an input or output."""
    if not isinstance(value, Mapping):
        return False
    kind = value.get("type")
    if kind == "message":
        content = value.get("content")
        return isinstance(value.get("role"), str) and isinstance(content, list | str)
    return isinstance(kind, str) and (kind in _CALLS or kind in _RESULTS or kind.endswith(("_call", "reasoning")))


def is_response(value: Any) -> bool:
    return isinstance(value, dict) and value.get("object") == "response" and isinstance(value.get("output"), list)


def _joins(item: Any) -> bool:
    """Items that carry a type stand for a piece of a turn; a plain `{role, content}` is a turn of its own."""
    return isinstance(item, Mapping) and isinstance(item.get("type"), str)


def _item(item: Any) -> list[Message]:
    item = unwrap(item)
    if not isinstance(item, Mapping):
        return [("user", None, [{"type": "text", "content": as_text(item)}])]
    kind = item.get("type")
    if kind in _CALLS:
        return [("assistant", None, [_call(item)])]
    if kind in _RESULTS:
        output = item.get("output")
        part: Part = {"type": "tool_call_response", "id": item.get("call_id"), "response": _text_of(output)}
        if item.get("status") == "failed" or item.get("is_error"):
            part["is_error"] = True
        return [("tool", None, [part])]
    if kind == "reasoning":
        thought = _reasoning(item)
        return [("assistant", None, [thought])] if thought else []
    if "role" in item:
        role = canonical_role(str(item["role"]))
        content = item.get("content")
        parts = [_content(piece) for piece in content] if isinstance(content, list) else _plain(content)
        return [(role, None, parts)]
    if kind == "compaction":
        return [("assistant", None, [{k: v for k, v in item.items() if k not in ("id", "status")}])]
    if isinstance(kind, str) and kind.endswith("_call"):
        return [("assistant", None, [_server_call(item, kind)])]
    return [("assistant", None, [dict(item)])]


def _call(item: Mapping[str, Any]) -> Part:
    kind = str(item.get("type"))
    arguments = first(item, "arguments", "input", "action", "operation")
    return {
        "type": "tool_call",
        "id": first(item, "call_id", "id"),
        "name": item.get("name") or kind.removesuffix("_call"),
        "arguments": arguments,
    }


def _server_call(item: Mapping[str, Any], kind: str) -> Part:
    """A tool that the provider ran itself: question and result in one item."""
    what = {k: v for k, v in item.items() if k not in _ENVELOPE and k != "name"}
    return {
        "type": "server_tool_call",
        "id": item.get("id"),
        "name": item.get("name") or kind.removesuffix("_call"),
        "server_tool_call": {"type": kind, **what},
    }


def _reasoning(item: Mapping[str, Any]) -> Part | None:
    pieces = item.get("content") or item.get("summary") or []
    said = "\n".join(str(piece.get("text", "")) for piece in pieces if isinstance(piece, Mapping))
    part: Part = {"type": "reasoning", "content": said}
    if item.get("encrypted_content"):
        part["encrypted_content"] = item["encrypted_content"]
    return part if said or len(part) > 2 else None


def _plain(content: Any) -> list[Part]:
    return [] if content is None else [{"type": "text", "content": as_text(content)}]


def _content(piece: Any) -> Part:
    if not isinstance(piece, Mapping):
        return {"type": "text", "content": as_text(piece)}
    kind = piece.get("type")
    if kind in ("input_text", "output_text", "text", "summary_text", "reasoning_text"):
        part: Part = {"type": "text", "content": as_text(piece.get("text", ""))}
        if piece.get("annotations"):
            part["annotations"] = piece["annotations"]
        return part
    if kind == "refusal":
        return {"type": "refusal", "content": as_text(piece.get("refusal", ""))}
    if kind in ("input_image", "image_url") and piece.get("image_url"):
        image = piece["image_url"]
        return {"type": "uri", "modality": "image", "uri": image.get("url") if isinstance(image, Mapping) else image}
    if kind in ("input_file", "input_image", "input_audio"):
        modality = {"input_image": "image", "input_audio": "audio"}.get(kind, "file")
        return {"type": "file", "modality": modality, **{k: v for k, v in piece.items() if k != "type"}}
    return dict(piece)


def _text_of(output: Any) -> Any:
    """A tool's output: a list of texts as its text, everything else as it is."""
    if isinstance(output, list) and output and all(isinstance(o, Mapping) and "text" in o for o in output):
        return "\n".join(as_text(piece["text"]) for piece in output)
    return output


def response_call(
    call: dict[str, Any], request: dict[str, Any], response: dict[str, Any], *, trace_id: str | None, line: int
) -> RawSpan:
    """The span of one call, its prompt being what the request itself says: `instructions` and `input`.

    `trace_id` None: the response's own chain, or the conversation's.
    """
    asked = [*_instructions(request, response), *(messages(request["input"]) if _has(request, "input") else [])]
    conversation = _conversation(response) or _conversation(request)
    known = text(response.get("id"))
    starts, ends = times(call)
    span = RawSpan(
        trace_id=trace_id or chain(response, request),
        span_id=content_id("openai-response", known)[:16]
        if known
        else identity("openai-response", [list(m) for m in asked], starts, ends)[:16],
        kind="llm",
        name="response",
        session_id=conversation or session_of(call, request, response),
        start_ns=starts or as_ns(response.get("created_at")),
        end_ns=ends or as_ns(response.get("completed_at")),
        status=_STATUS.get(str(response.get("status")), "unset"),
        line=line,
        dialect="openai-responses",
        output=messages(response.get("output") or []),
        response_id=known,
    )
    if _has(request, "input"):
        span.input = asked
    else:
        span.system = asked or None
        span.flags.append("lossy")
    surround(span, call, request)
    span.user = span.user or text(response.get("user")) or text(mapping(response.get("metadata")).get("user_id"))
    _fill(span, request, response)
    return span


_STATUS = {"completed": "ok", "incomplete": "ok", "failed": "error", "cancelled": "error"}


def _fill(span: RawSpan, request: dict[str, Any], response: dict[str, Any]) -> None:
    answered = text(response.get("model"))
    span.model_requested = text(request.get("model")) or answered
    span.model = answered or span.model_requested
    # The response repeats every parameter, those that nobody chose included.
    chosen = {k: response[k] for k in _PARAMETERS if response.get(k) is not None and response[k] != _PLAIN.get(k)}
    if chosen.get("reasoning") and not any(mapping(chosen["reasoning"]).values()):
        del chosen["reasoning"]
    span.params = chosen | {k: request[k] for k in _PARAMETERS if request.get(k) is not None}
    span.tools = first(response, "tools") or request.get("tools")
    fill_usage(span, response.get("usage"))
    prompt = mapping(first(request, "prompt") or response.get("prompt"))
    span.prompt_name, span.prompt_version = text(prompt.get("id")), text(prompt.get("version"))
    span.prompt_variables = prompt.get("variables")
    reason = mapping(response.get("incomplete_details")).get("reason")
    if reason is not None:
        span.finish_reasons = [str(reason)]
    elif response.get("status") in _STATUS:
        span.finish_reasons = [str(response["status"])]
    for name in ("previous_response_id", "metadata", "service_tier", "status"):
        value = first(response, name) or request.get(name)
        if value:
            span.attributes[name] = value
    if span.response_id is not None:
        span.attributes["response_id"] = span.response_id
    if response.get("error"):
        failed(span, response["error"])


def chain(response: Mapping[str, Any], request: Mapping[str, Any]) -> str:
    """The trace of a response as it says itself: its conversation, else the chain that its id belongs to.

    Ids that OpenAI gives end (48 digits) or begin (50 digits) with 16 digits that are equal for all of a
    conversation, and in the newer form for all of a chain. Other ids only tell their predecessor.
    """
    conversation = _conversation(response) or _conversation(request)
    known = text(response.get("id"))
    before = text(first(response, "previous_response_id") or request.get("previous_response_id"))
    if conversation:
        return content_id("openai-chain", _key(conversation) or conversation)
    own = None if known is None else _key(known)
    if before is not None and (own is None or own != _key(before)):
        return content_id("openai-chain", _key(before) or before)
    return content_id("openai-chain", own or known)


def _key(identity: str) -> str | None:
    digits = identity.rsplit("_", 1)[-1]
    if len(digits) not in (48, 50) or not set(digits) <= set("0123456789abcdef"):
        return None
    return digits[:16] if len(digits) == 50 else digits[-16:]


def _conversation(record: Mapping[str, Any]) -> str | None:
    conversation = record.get("conversation")
    return text(conversation.get("id") if isinstance(conversation, Mapping) else conversation)


def _instructions(request: Mapping[str, Any], response: Mapping[str, Any]) -> list[Message]:
    given = first(request, "instructions") or response.get("instructions")
    if not given:
        return []
    if isinstance(given, str):
        return [("system", None, [{"type": "text", "content": given}])]
    return messages(given)


def _has(request: Mapping[str, Any], name: str) -> bool:
    return request.get(name) is not None


def server_tools(span: RawSpan) -> Iterator[RawSpan]:
    """Tool spans below a call for the tools that the provider ran while it answered."""
    for role, _, parts in span.output or []:
        for at, part in enumerate(parts):
            if role == "assistant" and part.get("type") == "server_tool_call":
                said = mapping(part.get("server_tool_call"))
                error = said.get("error")
                yield RawSpan(
                    trace_id=span.trace_id,
                    span_id=content_id(span.trace_id, span.span_id, "server-tool", part.get("id"), at)[:16],
                    parent_span_id=span.span_id,
                    session_id=span.session_id,
                    kind="tool",
                    name=text(part.get("name")),
                    seq=(span.seq or 0) + at,
                    start_ns=span.start_ns,
                    end_ns=span.start_ns,
                    status="error" if error else "unset",
                    error_message=None if not error else as_text(error),
                    tool_name=text(part.get("name")),
                    tool_call_id=text(part.get("id")),
                    tool_args=unwrap(first(said, "action", "arguments", "queries", "code", "input")),
                    tool_result=first(said, "output", "outputs", "results", "result"),
                    line=span.line,
                    dialect=span.dialect,
                    flags=["lossy"],
                )
