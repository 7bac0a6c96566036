"""Sessions of Factory's Droid: `~/.factory/sessions/**/*.jsonl`, a `session_start` and `message` records."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tracemill.ids import content_id
from tracemill.ingest.attributes import as_name, as_ns
from tracemill.ingest.documents import Record
from tracemill.ingest.reader import About, BadRecord, Done, Head, Item, Stream
from tracemill.ingest.sessions import claude
from tracemill.ingest.sessions.files import Keys, read
from tracemill.ingest.sessions.session import Node, Session, Spans


class Droid:
    """Reader of Droid sessions."""

    name = "droid"
    about = About(
        title="Factory Droid sessions",
        files="JSON lines of which the first is `session_start`; then `message` records with Anthropic content",
        maps="One call what the assistant says between two inputs; tool results as tool spans; rebuilt prompts",
        lacks="No model, tokens, cost or system prompt; times only where the records have them",
    )

    def sniff(self, head: Head) -> str | None:
        for record in head.records:
            if isinstance(record, dict) and record.get("type") == "session_start" and isinstance(record.get("id"), str):
                return "Droid records: session_start"
        return None

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        yield from read(stream, head, _Reading())


class _Reading:
    def __init__(self) -> None:
        self._nodes: list[Node] = []
        self._keys = Keys()
        self._start: dict[str, Any] = {}
        self._turns = claude.Turns()

    def add(self, value: dict[str, Any], record: Record) -> Iterable[BadRecord]:
        kind = value.get("type")
        if not isinstance(kind, str) or not kind:
            raise ValueError("no Droid record: type is missing")
        own = value.get("id") if kind != "session_start" else None
        node = Node(key=self._keys.of(value, own), line=record.line, ns=as_ns(value.get("timestamp")))
        node.parent = as_name(value.get("parentId"))
        node.attributes = {
            k: v for k, v in value.items() if k not in ("type", "id", "parentId", "message", "timestamp")
        }
        if kind == "message":
            self._message(node, value.get("message"))
        else:
            node.event = kind
            if kind == "session_start" and not self._start:
                self._start = value
        self._nodes.append(node)
        return ()

    def _message(self, node: Node, message: Any) -> None:
        if not isinstance(message, Mapping):
            raise ValueError("no Droid message: message is missing")
        self._turns.take(node, message.get("role"), message)

    def sessions(self) -> Iterable[Spans]:
        if not self._nodes:
            return
        name = as_name(self._start.get("id"))
        rest = {k: v for k, v in self._start.items() if k not in ("type", "id")}
        base = {"dialect": "droid", "session_id": name, "agent_name": "droid"}
        trace_id = content_id("droid", name or self._nodes[0].key)
        yield Spans({"": Session(trace_id=trace_id, base=base, agents={"": {"attributes": rest}})}, self._nodes)
