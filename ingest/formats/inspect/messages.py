"""Messages of Inspect logs in canonical parts, their contents that are kept apart put back."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tracemill.chat import Part, as_text, canonical_role
from tracemill.ingest.attributes import as_name
from tracemill.ingest.reader import Message

_REFERENCES = ("attachment://", "tc://")
"""How a long text is referred to, now and in the logs of 2024."""
_MEDIA = ("image", "audio", "video")
_MAX_EXPANDED = 1024 * 1024 * 1024
_MAX_PROMPT = 100_000


class Contents:
    """The contents that a sample keeps apart: long texts by hash or index, messages by position."""

    def __init__(self, attachments: Any, messages: Any) -> None:
        if isinstance(attachments, list):
            attachments = {str(at): text for at, text in enumerate(attachments)}
        self._attachments: Mapping[str, Any] = attachments if isinstance(attachments, Mapping) else {}
        self._pool: list[Any] = messages if isinstance(messages, list) else []
        self._known: dict[bytes, list[Message]] = {}
        self._expanded = 0
        self.missing = 0
        """References so far to something that the log does not hold."""

    def whole(self, value: Any) -> Any:
        """The value with every reference in it replaced by what it refers to.

        Raises ValueError where few bytes refer to a text so often that it would not fit in memory.
        """
        if isinstance(value, str):
            for prefix in _REFERENCES:
                if value.startswith(prefix):
                    found = self._attachments.get(value[len(prefix) :])
                    self.missing += found is None
                    self._expanded += len(found) if isinstance(found, str) else 0
                    if self._expanded > _MAX_EXPANDED:
                        raise ValueError(f"attachments are repeated to more than {_MAX_EXPANDED:,} characters")
                    return value if found is None else found
            return value
        if isinstance(value, list):
            return [self.whole(item) for item in value]
        if isinstance(value, Mapping):
            return {name: self.whole(item) for name, item in value.items()}
        return value

    def prompt(self, event: Mapping[str, Any]) -> list[Message] | None:
        """What a model event says the model read; its parts may be ranges of the pool."""
        references = event.get("input_refs")
        given = event.get("input")
        if isinstance(references, list) and not given:
            if sum(end - start for start, end in references) > _MAX_PROMPT:
                raise ValueError(f"a prompt refers to more than {_MAX_PROMPT:,} messages")
            return [message for reference in references for message in self._range(reference)]
        if isinstance(given, list):
            return [message for item in given for message in self.messages(item)]
        return self.messages({"role": "user", "content": given}) if given else None

    def messages(self, message: Any) -> list[Message]:
        """The canonical messages of one; the history that every call repeats is resolved once."""
        try:
            key = msgspec.json.encode(message)
        except (UnicodeEncodeError, TypeError, ValueError):
            return canonical_messages(self.whole(message))
        if key not in self._known:
            self._known[key] = canonical_messages(self.whole(message))
        return self._known[key]

    def _range(self, reference: Sequence[int]) -> list[Message]:
        start, end = reference
        self.missing += max(0, end - max(start, len(self._pool)))
        return [message for item in self._pool[start:end] for message in self.messages(item)]


def canonical_messages(message: Any) -> list[Message]:
    """An Inspect chat message, its references resolved; what is no message is text that a user said."""
    if not isinstance(message, Mapping):
        return [("user", None, [{"type": "text", "content": as_text(message)}])]
    role = canonical_role(str(message.get("role") or "user"))
    content = message.get("content")
    items = content if isinstance(content, list) else [] if content in (None, "") else [content]
    parts = [_part(item) for item in items]
    if role == "tool":
        return [("tool", as_name(message.get("function")), [_response(message, parts)])]
    calls = message.get("tool_calls")
    parts.extend(_call(call) for call in calls or () if isinstance(call, Mapping))
    if not parts:
        parts.append({"type": "text", "content": ""})
    return [(role, None, parts)]


def plain(parts: Sequence[Part]) -> Any:
    """Parts as a tool result: their text where they are only text."""
    if all(part.get("type") == "text" for part in parts):
        return "\n".join(part["content"] for part in parts)
    return list(parts)


def result(value: Any) -> Any:
    """What a tool gave: text, or its content items in canonical parts."""
    return plain([_part(item) for item in value]) if isinstance(value, list) else value


def _response(message: Mapping[str, Any], parts: list[Part]) -> Part:
    error = message.get("error")
    answer: Any = plain(parts)
    found: Part = {"type": "tool_call_response", "id": message.get("tool_call_id"), "response": answer}
    if error:
        found["is_error"] = True
        if not answer:  # what the model is shown then is the error's own text
            found["response"] = as_text(error.get("message", "") if isinstance(error, Mapping) else error)
    return found


def _part(item: Any) -> Part:
    if not isinstance(item, Mapping):
        return {"type": "text", "content": as_text(item)}
    kind = item.get("type")
    if kind == "text":
        return {"type": "text", "content": as_text(item.get("text", ""))}
    if kind == "reasoning":
        part: Part = {"type": "reasoning", "content": as_text(item.get("reasoning", ""))}
        part.update({name: item[name] for name in ("signature", "redacted", "summary") if item.get(name)})
        return part
    if kind in _MEDIA and isinstance(item.get(kind), str):
        return {"type": "uri", "modality": kind, "uri": item[kind]}
    return dict(item)


def _call(call: Mapping[str, Any]) -> Part:
    part: Part = {
        "type": "tool_call",
        "id": call.get("id"),
        "name": call.get("function"),
        "arguments": call.get("arguments"),
    }
    if call.get("parse_error"):
        part["parse_error"] = call["parse_error"]
    return part
