"""Chat messages of all dialects into canonical parts, and the book that stores each message once."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import msgspec
import pyarrow as pa

from tracemill.chat import Part, as_text, canonical_role, from_openai, text_of, tools_from_openai
from tracemill.ids import canonical_json, keyed_id
from tracemill.ingest.content import shapes
from tracemill.ingest.documents import unwrap
from tracemill.ingest.reader import Message
from tracemill.ingest.redact import Redactor
from tracemill.schema import MESSAGES


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


_HELD_BYTES = 16 * 1024 * 1024
"""How much of the messages last seen is held to know them again as objects; beyond it they are known by content."""


class MessageBook:
    """The distinct messages of one batch, redacted and named by a keyed hash of their canonical JSON."""

    def __init__(self, key: bytes, redactor: Redactor) -> None:
        self._key = key
        self._redactor = redactor
        self._known: dict[bytes, tuple[str, bool]] = {}
        self._same: dict[int, tuple[Message, tuple[str, bool]]] = {}
        self._held = 0
        self._rows: dict[tuple[date | None, str], str] = {}
        self._content: dict[str, tuple[str, str | None, str, str]] = {}
        self.size = 0
        """Characters held."""

    def add(self, message: Message, day: date | None) -> tuple[str, bool]:
        """The message's id, and whether redaction changed it."""
        # The prompts of a long session repeat the very same objects: those need not be encoded again. The message is
        # held so that no other one gets its address.
        same = self._same.get(id(message))
        found = self._find(message) if same is None else same[1]
        self._rows.setdefault((day, found[0]), found[0])
        return found

    def _find(self, message: Message) -> tuple[str, bool]:
        raw = _encode(message)
        found = self._known.get(raw)
        if found is None:
            found = self._known[raw] = self._store(message)
        self._held += len(raw)
        if self._held > _HELD_BYTES:
            self._same.clear()
            self._held = len(raw)
        self._same[id(message)] = (message, found)
        return found

    def add_all(self, messages: Sequence[Message], day: date | None) -> tuple[list[str], bool]:
        found = [self.add(message, day) for message in messages]
        return [message_id for message_id, _ in found], any(touched for _, touched in found)

    def again(self, ids: Sequence[str], day: date | None) -> None:
        """Says that messages known by their ids were also said on a day."""
        for message_id in ids:
            self._rows.setdefault((day, message_id), message_id)

    def add_tools(self, tools: Sequence[Any], day: date | None) -> tuple[str | None, bool]:
        """The id of the tool definitions' message; None for no definitions."""
        parts = tools_from_openai([unwrap(tool) for tool in tools])
        return self.add(("tools", None, parts), day) if parts else (None, False)

    def _store(self, message: Message) -> tuple[str, bool]:
        role, name, parts = message
        before = self._redactor.hits
        role = self._redactor.text(role)
        name = self._redactor.maybe(name)
        clean = self._redactor.value(parts)
        touched = self._redactor.hits != before
        canonical_parts = canonical_json(clean)
        # what canonical_json([role, name, parts]) would give, without writing the parts a second time
        message_id = keyed_id(self._key, f"[{canonical_json(role)},{canonical_json(name)},{canonical_parts}]")
        text = text_of(clean)
        self._content[message_id] = (role, name, canonical_parts, text)
        self.size += len(canonical_parts) + len(text)
        return message_id, touched

    def table(self) -> pa.Table:
        days = [day for day, _ in self._rows]
        rows = [self._content[message_id] for message_id in self._rows.values()]
        columns = {
            "day": days,
            "message_id": list(self._rows.values()),
            "role": [row[0] for row in rows],
            "name": [row[1] for row in rows],
            "parts": [row[2] for row in rows],
            "text": [row[3] for row in rows],
            "n_chars": [len(row[3]) for row in rows],
        }
        return pa.table([pa.array(columns[f.name], f.type) for f in MESSAGES], schema=MESSAGES)


def _encode(message: Message) -> bytes:
    try:
        return msgspec.json.encode(message)
    except (UnicodeEncodeError, TypeError):
        return repr(message).encode("utf-8", "surrogatepass")
