"""Transcripts of Cursor's agent: JSON lines of `{role, message: {content}}`, without times or an id of the session.

The file's own name is the session's only identity: `agent-transcripts/<id>.jsonl`.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tracemill.ids import content_id
from tracemill.ingest.documents import Record
from tracemill.ingest.reader import About, BadRecord, Done, Head, Item, Stream
from tracemill.ingest.sessions import claude
from tracemill.ingest.sessions.files import Keys, named, read
from tracemill.ingest.sessions.session import Node, Session, Spans


class Cursor:
    """Reader of Cursor transcripts."""

    name = "cursor"
    about = About(
        title="Cursor agent transcripts",
        files="JSON lines of `role` and `message`, the latter with `content`; no `type`",
        maps="One call what the assistant says between two inputs; tool results as tool spans; rebuilt prompts",
        lacks="No times, tokens, cost or system prompt; the session is known by the file's name",
    )

    def sniff(self, head: Head) -> str | None:
        for record in head.records:
            if not isinstance(record, dict) or not isinstance(record.get("role"), str) or "type" in record:
                continue
            message = record.get("message")
            if isinstance(message, dict) and isinstance(message.get("content"), str | list) and "role" not in message:
                return "Cursor records with role and message"
        return None

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        yield from read(stream, head, _Reading(stream.name))


class _Reading:
    def __init__(self, file: str) -> None:
        self._file = file
        self._nodes: list[Node] = []
        self._keys = Keys()
        self._turns = claude.Turns()

    def add(self, value: dict[str, Any], record: Record) -> Iterable[BadRecord]:
        role, message = value.get("role"), value.get("message")
        if not isinstance(role, str) or not isinstance(message, Mapping):
            raise ValueError("no Cursor record: role or message is missing")
        node = Node(key=self._keys.of(value, value.get("id")), line=record.line)
        node.attributes = {k: v for k, v in value.items() if k not in ("id", "role", "message")}
        self._turns.take(node, role, message)
        self._nodes.append(node)
        return ()

    def sessions(self) -> Iterable[Spans]:
        if not self._nodes:
            return
        name = named(self._file)
        base = {"dialect": "cursor", "session_id": name, "agent_name": "cursor"}
        yield Spans({"": Session(trace_id=content_id("cursor", name, self._nodes[0].key), base=base)}, self._nodes)
