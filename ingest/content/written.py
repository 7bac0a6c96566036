"""Messages in the spelling of OpenTelemetry GenAI, which is the canonical one: read in one pass, the common case."""

from typing import Any

import msgspec

from tracemill.chat import Part
from tracemill.ingest.content.messages import cut_off
from tracemill.ingest.redact import Redactor

_MEMBERS = frozenset(("role", "parts", "finish_reason"))
_ROLES = frozenset(("system", "user", "assistant", "tool"))
_PARTS = ("text", "tool_call", "tool_call_response")
_NAMES = ("type", "content", "id", "name", "arguments", "response")
_CALL = frozenset(("type", "id", "name", "arguments"))
_RESPONSE = frozenset(("type", "id", "response"))
_encoded = msgspec.json.Encoder().encode


class Written(msgspec.Struct, gc=False):
    """A canonical message, and what is asked of it."""

    role: str
    parts: list[Part]
    texts: list[str]
    """What decides whether redaction changes it."""
    bits: int
    """As `Redactor.gather` gives them."""
    said: list[str]
    """What `chat.text_of` joins."""
    cut: bool
    reason: str | None


def is_plain(redactor: Redactor) -> bool:
    """Whether redaction leaves the words alone that all such messages have, so that nobody needs to ask again."""
    return not redactor.changed((*_ROLES, *_PARTS, *_NAMES)) and not any(map(redactor.tells, _NAMES))


def as_written(message: Any, redactor: Redactor) -> Written | None:
    """A decoded message that is canonical as it stands; None where it is in another spelling."""
    if type(message) is not dict or not message.keys() <= _MEMBERS:
        return None
    role, parts, reason = message.get("role"), message.get("parts"), message.get("finish_reason")
    if type(role) is not str or role not in _ROLES or type(parts) is not list:
        return None
    texts: list[str] = []
    said: list[str] = []
    bits, cut = 0, False
    for part in parts:
        if type(part) is not dict:
            return None
        kind = part.get("type")
        if kind == "text":
            content = part.get("content")
            if len(part) != 2 or type(content) is not str:
                return None
            texts.append(content)
            said.append(content)
            cut = cut or cut_off(content)
        elif kind == "tool_call":
            if part.keys() != _CALL:
                return None
            for value in (part["id"], part["name"], part["arguments"]):
                if type(value) is str:
                    texts.append(value)
                else:
                    bits |= redactor.gather(value, texts)
        elif kind == "tool_call_response":
            if part.keys() != _RESPONSE or role != "tool" or len(parts) > 1 or part["id"] is None:
                return None
            response = part["response"]
            bits |= redactor.gather(part["id"], texts) | redactor.gather(response, texts)
            if type(response) is str:
                said.append(response)
                cut = cut or cut_off(response)
        else:
            return None
    return Written(role, parts, texts, bits, said, cut, None if reason is None else str(reason))


def shorter(raw: bytes, reason: str) -> bytes | None:
    """The JSON of the same message without its finish reason, where that stands last in it; otherwise None."""
    if b"\\u" in raw:
        return None  # a name could be written in another way
    told = _encoded(reason)
    for ending in (b',"finish_reason":' + told + b"}", b', "finish_reason": ' + told + b"}"):
        if raw.endswith(ending) and raw.count(b'"finish_reason"') == 1:
            return raw[: -len(ending)] + b"}"
    return None
