"""The book of one batch's messages: each distinct one redacted, named by a keyed hash and stored once."""

from collections.abc import Iterable, Sequence
from datetime import date
from hashlib import blake2b
from operator import attrgetter
from typing import Any

import msgspec
import pyarrow as pa

from tracemill.chat import Part, text_of
from tracemill.ids import canonical_json, keyed_id
from tracemill.ingest.content.messages import canonical, finish_reason, is_cut, tool_message
from tracemill.ingest.content.written import Written, as_written, is_plain, shorter
from tracemill.ingest.documents import MALFORMED
from tracemill.ingest.reader import Message
from tracemill.ingest.redact import HARD, Redactor
from tracemill.schema import MESSAGES

_HELD_BYTES = 8 * 1024 * 1024
"""How much of the messages last seen is held to know them again as objects; beyond it they are known by content."""
_MOST_THREADS = 200
_SHORT_THREAD = 3
"""Lists of so few messages are read faster than remembered."""
_RAW_MESSAGES = msgspec.json.Decoder(list[msgspec.Raw])
_decoded = msgspec.json.Decoder().decode
_sorted = msgspec.json.Encoder(order="sorted").encode
_HEADS = {role: f'["{role}",null,' for role in ("system", "user", "assistant", "tool")}
_Day = date | str | None
_NO_DAY = "none yet"


class Known(msgspec.Struct, gc=False):
    """A message of the book, and what spans ask of it."""

    role: str
    """As it was said."""
    cut: bool
    message_id: str | None = None
    """None until it is settled, and for ever where it cannot be written."""
    touched: bool = False
    """Whether redaction changed it."""
    day: _Day = _NO_DAY
    """The day on which it was said last."""


class Said(msgspec.Struct, gc=False):
    """The messages of one list of a log, in order."""

    known: list[Known]
    reasons: list[str]
    """Why the model stopped, where the messages tell."""
    cut: bool
    before: "Said | None" = None
    """What was said before in the same thread, which the list begins with."""
    ids: list[str] | None = None
    """None until `MessageBook.said`."""
    touched: bool = False
    day: _Day = _NO_DAY


Told = tuple[tuple[Known, ...], str | None, bool]
"""What one message of a log is in canonical ones, its finish reason, and whether one of them was cut."""
_id = attrgetter("message_id")
_touched = attrgetter("touched")


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
        self._written: dict[bytes, Told] = {}
        self._told: dict[str, dict[bytes, Told]] = {}
        self._told_bytes = 0
        self._threads: dict[str, tuple[str, Said]] = {}
        self._plain = is_plain(redactor)
        self._pending: list[tuple[Known, Message, Written | None]] = []
        self._waiting: list[tuple[Known, Message, list[str], int, str | None]] = []
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

    def told(self, text: str, default_role: str, thread: str | None = None) -> Said | None:
        """The messages of a JSON list, as `canonical_list` reads it; None where the text is no such list.

        Each distinct message is read, redacted and written once. Lists of one `thread` mostly begin with all of the
        one before: only what follows is looked at.
        """
        if text[:1] != "[" or text[-1:] != "]":
            return None
        if thread is None:
            return self._each(text, default_role, None)
        if (earlier := self._threads.get(thread)) is not None:
            opening, before = earlier
            if text.startswith(opening) and text[len(opening)] == ",":
                said = self._each("[" + text[len(opening) + 1 :], default_role, before)
                self._threads[thread] = (text[:-1], said)
                return said
        said = self._each(text, default_role, None)
        if len(said.known) > _SHORT_THREAD:
            self._threads[thread] = (text[:-1], said)
            if len(self._threads) > _MOST_THREADS:
                del self._threads[next(iter(self._threads))]
        return said

    def _each(self, text: str, default_role: str, before: Said | None) -> Said:
        found: list[Known] = [] if before is None else before.known.copy()
        reasons: list[str] = [] if before is None else before.reasons.copy()
        cut = before is not None and before.cut
        written, told = self._written, self._told.get(default_role) or {}
        for raw in map(bytes, _RAW_MESSAGES.decode(text)):
            one = written.get(raw) or told.get(raw) or self._read(raw, default_role)
            found += one[0]
            if one[1] is not None:
                reasons.append(one[1])
            cut = cut or one[2]
        return Said(found, reasons, cut, before)

    def _read(self, raw: bytes, default_role: str) -> Told:
        self._told_bytes += len(raw)
        if self._told_bytes > _HELD_BYTES:
            self._written.clear()
            self._told.clear()
            self._told_bytes = len(raw)
        message = _decoded(raw)
        written = as_written(message, self._redactor) if self._plain else None
        told: Told
        if written is None:
            known = self.known(canonical(message, default_role))
            told = tuple(known), finish_reason(message), any(one.cut for one in known)
            self._told.setdefault(default_role, {})[raw] = told
            return told
        one = Known(written.role, written.cut)
        self._pending.append((one, (written.role, None, written.parts), written))
        reason = written.reason
        told = self._written[raw] = (one,), reason, written.cut
        if reason is not None and (later := shorter(raw, reason)) is not None:
            # an answer comes again in the next prompt, without saying why it ended
            self._told_bytes += len(later)
            self._written.setdefault(later, ((one,), None, written.cut))
        return told

    def known(self, messages: Sequence[Message]) -> list[Known]:
        """The messages, which `settle` puts into the book."""
        found = [Known(message[0], is_cut(message)) for message in messages]
        self._pending += [(one, message, None) for one, message in zip(found, messages, strict=True)]
        return found

    def unsettled(self) -> set[str]:
        """The texts that decide whether redaction changes the messages that are not in the book yet."""
        self._waiting = []
        every: set[str] = set()
        for known, message, written in self._pending:
            if written is None:
                texts: list[str] = [message[0]] if message[1] is None else [message[0], message[1]]
                bits = self._redactor.gather(message[2], texts)
                self._waiting.append((known, message, texts, bits, None))
            else:
                texts = written.texts
                self._waiting.append((known, message, texts, written.bits, "\n".join(written.said)))
            every.update(texts)
        self._pending = []
        return every

    def settle(self, changed: set[str]) -> None:
        """Puts messages into the book: those after `unsettled`, of whose texts redaction changes these."""
        for known, message, texts, bits, text in self._waiting:
            try:
                if bits & HARD or (changed and not changed.isdisjoint(texts)):
                    known.message_id, known.touched = self._store(message)
                else:
                    role, name, parts = message
                    # fractions are written in a way of Python's own
                    clean = canonical_json(parts) if bits else _sorted(parts).decode()
                    known.message_id = self._put(role, name, clean, text_of(parts) if text is None else text)
            except MALFORMED:
                pass  # whoever takes it in by itself says what is wrong with it
        self._waiting = []

    def said(self, said: Said, day: date | None) -> bool:
        """Says that messages were said on a day, and fills in their `ids`; False where one cannot be written."""
        if said.ids is not None and said.day is day:
            return True
        known, before = said.known, said.before
        said.before = None
        opening: list[str] = []
        if before is not None and before.ids is not None and before.day is day:
            opening, said.touched = before.ids, before.touched
            known = known[len(opening) :]
        ids = list(map(_id, known))
        if None in ids:
            return False
        rows = self._rows
        for one, message_id in zip(known, ids, strict=True):
            if one.day is not day:
                one.day = day
                rows.setdefault((day, message_id), message_id)
        said.touched = said.touched or any(map(_touched, known))
        said.ids = opening + ids if opening else ids
        said.day = day
        return True

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

    def again(self, ids: Iterable[str], day: date | None) -> None:
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
        clean: list[Part] = self._redactor.value(parts)
        touched = self._redactor.hits != before
        return self._put(role, name, canonical_json(clean), text_of(clean)), touched

    def _put(self, role: str, name: str | None, parts: str, text: str) -> str:
        # what canonical_json([role, name, parts]) would give, without writing the parts a second time
        head = _HEADS.get(role) if name is None else None
        if head is None:
            head = f"[{canonical_json(role)},{canonical_json(name)},"
        message_id = keyed_id(self._key, f"{head}{parts}]")
        if message_id not in self._content:
            self._content[message_id] = (role, name, parts, text)
            self.size += len(parts) + len(text)
        return message_id

    def table(self) -> pa.Table:
        """The rows of `messages`: each message once a day."""
        content = self._content
        roles, names, parts, texts = (
            zip(*map(content.__getitem__, self._rows.values()), strict=True) if self._rows else ((), (), (), ())
        )
        columns: dict[str, Sequence[Any]] = {
            "day": [day for day, _ in self._rows],
            "message_id": list(self._rows.values()),
            "role": roles,
            "name": names,
            "parts": parts,
            "text": texts,
            "n_chars": list(map(len, texts)),
        }
        return pa.table([pa.array(columns[f.name], f.type) for f in MESSAGES], schema=MESSAGES)


def _encode(message: Message) -> bytes:
    try:
        return msgspec.json.encode(message)
    except (UnicodeEncodeError, TypeError):
        return repr(message).encode("utf-8", "surrogatepass")
