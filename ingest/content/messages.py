"""Chat messages of all dialects into canonical parts, and the book that stores each message once."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from hashlib import blake2b
from typing import Any

import msgspec
import pyarrow as pa

from tracemill.chat import Part, as_text, canonical_role, from_openai, text_of, tools_from_openai
from tracemill.ids import canonical_json, keyed_id
from tracemill.ingest.content import shapes
from tracemill.ingest.documents import MALFORMED, unwrap
from tracemill.ingest.reader import Message
from tracemill.ingest.redact import HARD, Redactor
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


_CUT_ENDS = ("[truncated]", "<truncated>", "(truncated)", "...[TRUNCATED]", "[TRUNCATED]")
_BLANKED = frozenset(("<redacted>", "[redacted]", "[REDACTED]", "[sanitized]", "[filtered]", "[Filtered]"))


def is_cut(message: Message) -> bool:
    """Whether a message ends in a mark of truncation, or stands for what was taken out of the log."""
    for part in message[2]:
        text = part.get("content", part.get("response"))
        if isinstance(text, str) and (text.endswith(_CUT_ENDS) or text in _BLANKED or text.startswith("[sanitized")):
            return True
    return False


_WRITTEN = frozenset(("role", "parts", "finish_reason"))
_ROLES = frozenset(("system", "user", "assistant", "tool"))
_PARTS = {
    "text": frozenset(("type", "content")),
    "tool_call": frozenset(("type", "id", "name", "arguments")),
    "tool_call_response": frozenset(("type", "id", "response")),
}


def _as_written(message: Any) -> list[Message] | None:
    """A message in the spelling of OTel GenAI, which is the canonical one; None where it is in another."""
    if type(message) is not dict or not message.keys() <= _WRITTEN:
        return None
    role, parts = message.get("role"), message.get("parts")
    if role not in _ROLES or type(parts) is not list:
        return None
    for part in parts:
        if type(part) is not dict:
            return None
        kind = part.get("type")
        if type(kind) is not str or part.keys() != _PARTS.get(kind):
            return None
        if kind == "text":
            if type(part["content"]) is not str:
                return None
        elif kind == "tool_call_response" and (role != "tool" or len(parts) > 1 or part["id"] is None):
            return None
    return [(role, None, parts)]


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


_HELD_BYTES = 8 * 1024 * 1024
"""How much of the messages last seen is held to know them again as objects; beyond it they are known by content."""
_MOST_THREADS = 200
_SHORT_THREAD = 3
"""Lists of so few messages are read faster than remembered."""
_RAW_MESSAGES = msgspec.json.Decoder(list[msgspec.Raw])


class Known(msgspec.Struct, gc=False):
    """A message of the book, and what spans ask of it."""

    role: str
    """As it was said."""
    cut: bool
    message_id: str | None = None
    """None until it is settled, and for ever where it cannot be written."""
    touched: bool = False
    """Whether redaction changed it."""
    day: date | str | None = "none yet"
    """The day on which it was said last."""


Told = tuple[tuple[Known, ...], str | None]
"""What one message of a log is in canonical ones, and its finish reason."""


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
        self._told: dict[str, dict[bytes, Told]] = {}
        self._threads: dict[str, tuple[str, list[Told]]] = {}
        self._told_bytes = 0
        self._pending: list[tuple[Known, Message]] = []
        self._waiting: list[tuple[Known, Message, list[str], int]] = []
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

    def told(self, text: str, default_role: str, thread: str | None = None) -> list[Told] | None:
        """The messages of a JSON list, as `canonical_list` reads it; None where the text is no such list.

        Each distinct message is read, redacted and written once. Lists of one `thread` mostly begin with all of the
        one before: only what follows is looked at.
        """
        if text[:1] != "[" or text[-1:] != "]":
            return None
        if thread is not None and (before := self._threads.get(thread)) is not None:
            opening, found = before
            if text.startswith(opening) and text[len(opening)] == ",":
                found = found + self._each("[" + text[len(opening) + 1 :], default_role)
                self._threads[thread] = (text[:-1], found)
                return found
        found = self._each(text, default_role)
        if thread is not None and len(found) > _SHORT_THREAD:
            self._threads[thread] = (text[:-1], found)
            if len(self._threads) > _MOST_THREADS:
                del self._threads[next(iter(self._threads))]
        return found

    def _each(self, text: str, default_role: str) -> list[Told]:
        known = self._told.setdefault(default_role, {})
        found = []
        for raw in map(bytes, _RAW_MESSAGES.decode(text)):
            told = known.get(raw)
            if told is None:
                self._told_bytes += len(raw)
                if self._told_bytes > _HELD_BYTES:
                    known.clear()
                    self._told_bytes = len(raw)
                message = msgspec.json.decode(raw)
                said = _as_written(message) or canonical(message, default_role)
                told = known[raw] = (tuple(self.known(said)), finish_reason(message))
            found.append(told)
        return found

    def known(self, messages: Sequence[Message]) -> list[Known]:
        """The messages, which `settle` puts into the book."""
        found = [Known(message[0], is_cut(message)) for message in messages]
        self._pending += zip(found, messages, strict=True)
        return found

    def unsettled(self) -> set[str]:
        """The texts that decide whether redaction changes the messages that are not in the book yet."""
        self._waiting = []
        every: set[str] = set()
        for known, message in self._pending:
            texts: list[str] = [message[0]] if message[1] is None else [message[0], message[1]]
            bits = self._redactor.gather(message[2], texts)
            self._waiting.append((known, message, texts, bits))
            every.update(texts)
        self._pending = []
        return every

    def settle(self, changed: set[str]) -> None:
        """Puts messages into the book: those after `unsettled`, of whose texts redaction changes these."""
        for known, message, texts, bits in self._waiting:
            try:
                if bits & HARD or not changed.isdisjoint(texts):
                    known.message_id, known.touched = self._store(message)
                else:
                    role, name, parts = message
                    text = canonical_json(parts) if bits else msgspec.json.encode(parts, order="sorted").decode()
                    known.message_id = self._put(role, name, parts, text)
            except MALFORMED:
                pass  # whoever takes it in by itself says what is wrong with it
        self._waiting = []

    def say(self, said: Iterable[Known], day: date | None) -> None:
        """Says that messages were said on a day."""
        for one in said:
            if one.day is not day and one.message_id is not None:
                one.day = day
                self._rows.setdefault((day, one.message_id), one.message_id)

    def _find(self, message: Message) -> tuple[str, bool]:
        raw = _encode(message)
        digest = blake2b(raw, digest_size=16).digest()
        found = self._known.get(digest)
        if found is None:
            found = self._known[digest] = self._store(message)
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
        message = tool_message(tools)
        return (None, False) if message is None else self.add(message, day)

    def _store(self, message: Message) -> tuple[str, bool]:
        role, name, parts = message
        before = self._redactor.hits
        role = self._redactor.text(role)
        name = self._redactor.maybe(name)
        clean = self._redactor.value(parts)
        touched = self._redactor.hits != before
        return self._put(role, name, clean, canonical_json(clean)), touched

    def _put(self, role: str, name: str | None, parts: Sequence[Part], canonical_parts: str) -> str:
        # what canonical_json([role, name, parts]) would give, without writing the parts a second time
        message_id = keyed_id(self._key, f"[{canonical_json(role)},{canonical_json(name)},{canonical_parts}]")
        if message_id not in self._content:
            text = text_of(parts)
            self._content[message_id] = (role, name, canonical_parts, text)
            self.size += len(canonical_parts) + len(text)
        return message_id

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
