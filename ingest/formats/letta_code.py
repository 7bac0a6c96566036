"""Transcripts of Letta Code: JSON lines of `{kind, text, captured_at}`; tool calls hold their results.

The file's own name is the session's only identity. Which tool calls were asked for together is not told: what comes
after a tool's result is taken as another call's.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from tracemill.chat import Part
from tracemill.ids import content_id
from tracemill.ingest.attributes import as_name, as_ns
from tracemill.ingest.documents import Record
from tracemill.ingest.reader import About, BadRecord, Done, Head, Item, Stream
from tracemill.ingest.sessions.files import Keys, named, read
from tracemill.ingest.sessions.session import Node, Result, Session, Spans, text

_MAPPED = frozenset(("kind", "text", "captured_at", "name", "argsText", "resultText", "resultOk"))


class LettaCode:
    """Reader of Letta Code transcripts."""

    name = "letta-code"
    about = About(
        title="Letta Code transcripts",
        files="JSON lines with `kind` and `captured_at`",
        maps="One call the reasoning, text and tool calls between two inputs; tools with results; rebuilt prompts",
        lacks="No model, tokens, cost or system prompt; tools have no duration; the file's name is the session",
    )

    def sniff(self, head: Head) -> str | None:
        for record in head.records:
            if isinstance(record, dict) and isinstance(record.get("kind"), str) and "captured_at" in record:
                return "Letta Code records with kind and captured_at"
        return None

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        yield from read(stream, head, _Reading(stream.name))


class _Reading:
    def __init__(self, file: str) -> None:
        self._file = file
        self._nodes: list[Node] = []
        self._keys = Keys()
        self._call: Node | None = None
        self._message: str | None = None
        self._answered = False
        """Whether one of the call's tools has answered: what comes after that is another call's."""

    def add(self, value: dict[str, Any], record: Record) -> Iterable[BadRecord]:
        kind = value.get("kind")
        if not isinstance(kind, str) or not kind:
            raise ValueError("no Letta Code record: kind is missing")
        node = Node(key=self._keys.of(value), line=record.line, ns=as_ns(value.get("captured_at")))
        node.attributes = {k: v for k, v in value.items() if k not in _MAPPED}
        said = str(value.get("text") or "")
        if kind == "user":
            node.event, node.said = "user", [text("user", said)]
            self._call = None
        elif kind in ("reasoning", "assistant"):
            self._says(node, "reasoning" if kind == "reasoning" else "text", said, value)
        elif kind == "tool_call":
            self._asks(node, value, record.line)
        else:
            node.event, node.attributes["text"] = kind, said
            if kind == "error":
                node.fields = {"status": "error", "error_message": said or None}
        self._nodes.append(node)
        return ()

    def _says(self, node: Node, part: str, said: str, value: dict[str, Any]) -> None:
        message = as_name(value.get("source_message_id"))
        if self._call is None or self._answered or message != self._message:
            self._call, self._message, self._answered = node, message, False
        node.call, node.parts = self._call.key, [{"type": part, "content": said}]

    def _asks(self, node: Node, value: dict[str, Any], line: int) -> None:
        if self._call is None or self._answered:
            self._call, self._message, self._answered = node, None, False
        call_id = as_name(value.get("source_line_id")) or f"line-{line}"
        asked = {"name": value.get("name"), "arguments": value.get("argsText")}
        node.call, node.parts = self._call.key, [{"type": "tool_call", "id": call_id, **asked}]
        if value.get("resultText") is not None:
            part: Part = {"type": "tool_call_response", "id": call_id, "response": value["resultText"]}
            if isinstance(value.get("resultOk"), bool):
                part["is_error"] = not value["resultOk"]
            node.results = [Result(call_id=call_id, part=part)]
            self._answered = True

    def sessions(self) -> Iterable[Spans]:
        if not self._nodes:
            return
        name = named(self._file)
        base = {"dialect": "letta-code", "session_id": name, "agent_name": "letta-code"}
        yield Spans({"": Session(trace_id=content_id("letta-code", name, self._nodes[0].key), base=base)}, self._nodes)
