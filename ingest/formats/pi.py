"""Sessions of the pi coding agent and its kin (OMP, OpenClaw): JSON lines that begin with a `session` record.

A session that was branched off another begins with copies of its records, older than its own header. The trace of a
session is therefore named by its first message and a span by its record, so that a copied record is the same span
whatever file it is found in. Times are those of the records, order is that of the file or of their `parentId`.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tracemill.chat import Part
from tracemill.ids import content_id
from tracemill.ingest.attributes import as_float, as_int, as_name, as_ns
from tracemill.ingest.content.messages import canonical
from tracemill.ingest.documents import Record
from tracemill.ingest.reader import About, BadRecord, Done, Head, Item, Message, Stream
from tracemill.ingest.sessions.files import Keys, read
from tracemill.ingest.sessions.session import Node, Result, Session, Spans, plain, text

_ROLES = ("user", "assistant", "toolResult", "bashExecution")
_LINKS = frozenset(("type", "id", "parentId", "timestamp", "message"))
_SAID = frozenset(("role", "content", "timestamp", "usage", "model", "provider", "stopReason", "errorMessage"))
_CUT_SHORT = ("aborted", "length", "error")


class Pi:
    """Reader of pi sessions."""

    name = "pi"
    about = About(
        title="pi, OMP and OpenClaw sessions",
        files="JSON lines of which the first is `session`; then `message`, `model_change`, `compaction` and the like",
        maps="One call an assistant message with tokens and cost; tools; compactions and branches; prompts rebuilt",
        lacks="No system prompt, no tool definitions; a cost of 0 is an unknown price",
    )

    def sniff(self, head: Head) -> str | None:
        for record in head.records:
            if not isinstance(record, dict):
                continue
            message = record.get("message")
            if record.get("type") == "session" and isinstance(record.get("id"), str) and "timestamp" in record:
                return "pi records: a session header"
            if record.get("type") == "message" and isinstance(message, dict) and message.get("role") == "toolResult":
                return "pi records: messages with tool results"
        return None

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        yield from read(stream, head, _Reading())


class _Reading:
    def __init__(self) -> None:
        self._nodes: list[Node] = []
        self._entries: list[Node | None] = []
        self._places: dict[str, int] = {}
        self._keys = Keys()
        self._header: dict[str, Any] = {}
        self._first: str | None = None
        self._settings: dict[str, Any] = {}
        self._model: str | None = None
        self._name = "pi"
        self._version: str | None = None

    def add(self, value: dict[str, Any], record: Record) -> Iterable[BadRecord]:
        kind = value.get("type")
        if not isinstance(kind, str) or not kind:
            raise ValueError("no record of a pi session: type is missing")
        if kind == "session" and not self._header:
            self._header = value
            self._entries.append(None)
            self._set(value)
            return ()
        node = self._node(kind, value, record)
        if kind == "message":
            self._message(node, value.get("message"))
        else:
            self._other(node, kind, value)
        self._places[node.key] = len(self._entries)
        self._entries.append(node)
        self._nodes.append(node)
        return ()

    def _node(self, kind: str, value: Mapping[str, Any], record: Record) -> Node:
        key = self._keys.of(value, value.get("id"))
        node = Node(key=key, line=record.line, ns=as_ns(value.get("timestamp")))
        node.identity = content_id(key, value.get("timestamp"))
        parent = value.get("parentId")
        node.parent = parent if isinstance(parent, str) else None
        node.begins = "parentId" in value and parent is None and kind == "message"
        node.attributes = {name: found for name, found in value.items() if name not in _LINKS}
        return node

    def _message(self, node: Node, message: Any) -> None:
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise ValueError("no message: message or its role is missing")
        role = message["role"]
        started = as_ns(message.get("timestamp"))
        node.ns = node.ns if node.ns is not None else started
        node.attributes |= {name: found for name, found in message.items() if name not in _SAID}
        if role == "assistant":
            self._answer(node, message, started)
        elif role == "toolResult":
            _result(node, message)
        elif role == "bashExecution":
            node.event, node.flags = role, ["synthetic"]
            if not message.get("excludeFromContext"):
                node.said = [text("user", f"Ran `{message.get('command')}`\n```\n{message.get('output') or ''}\n```")]
        else:
            node.event = role
            node.flags = [] if role == "user" else ["synthetic"]
            node.said = canonical({"role": "user", "content": message.get("content") or ""})
        if self._first is None and role in _ROLES:
            self._first = node.identity

    def _answer(self, node: Node, message: Mapping[str, Any], started: int | None) -> None:
        content = message.get("content")
        found = canonical({"role": "assistant", "content": content}) if content else []
        node.parts = [part for _, _, parts in found for part in parts]
        node.call = node.identity
        stop, model, provider = (as_name(message.get(name)) for name in ("stopReason", "model", "provider"))
        node.fields = {
            "model": model,
            "model_requested": self._model or model,
            "provider": provider,
            "params": dict(self._settings) or None,
            "finish_reasons": None if stop is None else [stop],
            "response_id": as_name(message.get("responseId")),
            **_usage(message.get("usage")),
        }
        node.fields["start_ns"] = started
        if stop in ("error", "aborted"):
            node.fields |= {
                "status": "error",
                "error_type": stop,
                "error_message": as_name(message.get("errorMessage")),
            }
        if stop in _CUT_SHORT:
            node.flags.append("truncated")
        if provider == "openclaw":  # what the gateway delivered beside the model
            node.flags.append("synthetic")

    def _other(self, node: Node, kind: str, value: Mapping[str, Any]) -> None:
        node.event = kind
        self._set(value)
        if kind == "session_init":
            self._name, self._version = "omp", as_name(value.get("cliVersion"))
        elif kind == "compaction":
            kept = value.get("firstKeptEntryIndex")
            start = kept if isinstance(kept, int) else self._places.get(str(value.get("firstKeptEntryId")))
            node.begins, node.logical = True, node.parent or (self._nodes[-1].key if self._nodes else None)
            node.said = [text("user", str(value.get("summary") or "")), *self._kept(start)]
            node.flags = ["synthetic"]
            node.attributes.pop("summary", None)
        elif kind in ("branch_summary", "custom_message"):
            said = value.get("summary") if kind == "branch_summary" else value.get("content")
            node.said = canonical({"role": "user", "content": said or ""})
            node.flags = ["synthetic"]

    def _kept(self, start: int | None) -> list[Message]:
        """What a compaction leaves of the conversation: the messages from an entry on."""
        found: list[Message] = []
        for node in self._entries[start:] if start is not None and start >= 0 else []:
            if node is None or node.event == "compaction":
                continue
            found += [("assistant", None, node.parts)] if node.parts else []
            found += [("tool", None, [result.part]) for result in node.results]
            found += node.said
        return found

    def _set(self, value: Mapping[str, Any]) -> None:
        """Keeps what later calls are asked with."""
        if as_name(value.get("thinkingLevel")) is not None:
            self._settings = {"thinkingLevel": value["thinkingLevel"]}
        self._model = as_name(value.get("modelId")) or self._model

    def sessions(self) -> Iterable[Spans]:
        if not self._header and not self._nodes:
            return
        header = self._header
        name = as_name(header.get("id"))
        begun = as_ns(header.get("timestamp"))
        base = {"dialect": "pi", "session_id": name, "agent_name": self._name, "agent_version": self._version}
        rest = {key: found for key, found in header.items() if key not in ("type", "id")}
        session = Session(trace_id=content_id("pi", self._first or name), base=base, agents={"": {"attributes": rest}})
        if not self._nodes:
            self._nodes.append(Node(key="header", event="session", ns=begun, line=1))
        yield Spans({"": session}, self._nodes)


def _result(node: Node, message: Mapping[str, Any]) -> None:
    call_id = message.get("toolCallId")
    part: Part = {"type": "tool_call_response", "id": call_id, "response": plain(message.get("content"))}
    if isinstance(message.get("isError"), bool):
        part["is_error"] = message["isError"]
    for name in ("toolCallId", "toolName", "isError", "role"):
        node.attributes.pop(name, None)
    node.results = [Result(call_id=as_name(call_id), part=part, tool=as_name(message.get("toolName")))]


def _usage(value: Any) -> dict[str, Any]:
    """Columns of pi's usage, whose input leaves out what is cached. All 0: the answer was cut before it was counted."""
    if not isinstance(value, Mapping):
        return {}
    counts = {name: as_int(value.get(name)) for name in ("input", "output", "cacheRead", "cacheWrite")}
    if not any(counts.values()):
        return {}
    cost = value.get("cost")
    total = as_float(cost.get("total")) if isinstance(cost, Mapping) else None
    fresh = counts["input"]
    return {
        "tokens_in": None if fresh is None else fresh + (counts["cacheRead"] or 0) + (counts["cacheWrite"] or 0),
        "tokens_cache_read": counts["cacheRead"],
        "tokens_cache_write": counts["cacheWrite"],
        "tokens_out": counts["output"],
        "cost_usd": total or None,
    }
