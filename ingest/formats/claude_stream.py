"""What `claude -p --output-format stream-json` prints, and recordings of the Claude Agent SDK (`{direction, message}`).

The same messages as in Claude Code's own session files, with the same ids, so that a session which was both recorded
and kept is one trace. The final `result` says what the whole session cost: that stands on the session's own span and
in no call, except where the session was one call. Answers are printed before their tokens are counted, so the output
tokens of a call are not known unless the answer says why it stopped.

With `--include-partial-messages` the pieces of each answer are printed before it. They are read for what was cut off:
blocks of an answer that were never printed whole.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tracemill.ids import content_id
from tracemill.ingest.attributes import as_float, as_name, as_ns
from tracemill.ingest.documents import Record
from tracemill.ingest.providers.streams import MessageEvents
from tracemill.ingest.reader import About, BadRecord, Done, Head, Item, Stream
from tracemill.ingest.sessions import claude
from tracemill.ingest.sessions.files import Keys, each, read
from tracemill.ingest.sessions.session import Node, Session, Spans

_TURNS = ("user", "assistant")
_ENVELOPE = frozenset(
    ("uuid", "type", "message", "timestamp", "session_id", "parent_tool_use_id", "tool_use_result", "subtype")
)


class ClaudeStream:
    """Reader of Claude stream-json and of Agent SDK recordings."""

    name = "claude-stream"
    about = About(
        title="Claude stream-json and Agent SDK recordings",
        files="JSON lines of `claude -p --output-format stream-json`; the same wrapped as `{direction, message}`",
        maps="As Claude Code sessions; of answers that were cut off the pieces that came (`truncated`); cost and "
        "output tokens of the whole session on its agent span, once",
        lacks="Few times; no output tokens of single calls; no system prompt; names of tools without definitions",
    )

    def sniff(self, head: Head) -> str | None:
        for record in head.records:
            if not isinstance(record, dict):
                continue
            if isinstance(record.get("messages"), list) and any(_is_wrapped(m) for m in record["messages"][:50]):
                return "a recording of Claude stream-json messages"
            value = record["message"] if _is_wrapped(record) else record
            if value.get("type") == "system" and value.get("subtype") == "init" and "session_id" in value:
                return "Claude stream-json: an init record"
            if value.get("type") in _TURNS and "parent_tool_use_id" in value and "session_id" in value:
                return "Claude stream-json messages"
        return None

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        yield from read(stream, head, _Reading())


def _is_wrapped(record: Any) -> bool:
    return isinstance(record, dict) and "direction" in record and isinstance(record.get("message"), dict)


@dataclass(slots=True, kw_only=True)
class _Streamed:
    """An answer of which pieces were printed."""

    node: Node
    pieces: MessageEvents = field(default_factory=MessageEvents)
    at: int = 0
    """How many nodes there were when its last piece came."""


class _Reading:
    def __init__(self) -> None:
        self._nodes: list[Node] = []
        self._streamed: dict[tuple[str, str], _Streamed] = {}
        """By sub-agent and message id, those that may lack something."""
        self._coming: dict[str, tuple[str, str]] = {}
        """Which of them each agent is giving."""
        self._printed: dict[tuple[str, str], int] = {}
        """How many blocks of an answer were printed whole."""
        self._keys = Keys()
        self._init: dict[str, Any] = {}
        self._session: str | None = None
        self._results: list[dict[str, Any]] = []
        self._recorded: dict[str, Any] = {}
        self._ran: dict[str, str] = {}
        """Which sub-agent a tool call ran."""
        self._calls: dict[str, Any] = {}

    def add(self, value: dict[str, Any], record: Record) -> Iterable[BadRecord]:
        if isinstance(value.get("messages"), list):
            self._recorded = {name: found for name, found in value.items() if name != "messages"}
            return each(value["messages"], record, self._add)
        self._add(value, record.line)
        return ()

    def _add(self, value: dict[str, Any], line: int) -> None:
        direction = None
        if _is_wrapped(value):
            direction, value = value["direction"], value["message"]
        kind = value.get("type")
        if not isinstance(kind, str) or not kind:
            raise ValueError("no Claude stream-json record: type is missing")
        if kind == "stream_event":
            self._piece(value, line)
            return
        node = Node(key=self._keys.of(value, value.get("uuid")), line=line, ns=as_ns(value.get("timestamp")))
        node.attributes = {name: found for name, found in value.items() if name not in _ENVELOPE}
        if direction is not None:
            node.attributes["direction"] = direction
        if isinstance(value.get("parent_tool_use_id"), str):
            node.group = value["parent_tool_use_id"]
        if value.get("session_id") not in (None, "default"):
            self._session = self._session or str(value["session_id"])
        self._fill(node, kind, value)
        self._nodes.append(node)

    def _piece(self, value: Mapping[str, Any], line: int) -> None:
        """A piece of an answer, most of which follow as a whole."""
        event, group = value.get("event"), value.get("parent_tool_use_id")
        if not isinstance(event, Mapping):
            return
        group = group if isinstance(group, str) else ""
        began = event.get("message") if event.get("type") == "message_start" else None
        if isinstance(began, Mapping) and began.get("id") is not None:
            key = self._coming[group] = (group, str(began["id"]))
            node = Node(key=self._keys.of(value, value.get("uuid")), line=line, group=group)
            node.ns = as_ns(value.get("timestamp"))
            self._streamed[key] = _Streamed(node=node)
        held = self._streamed.get(self._coming.get(group, ("", "")))
        if held is None:
            return
        held.pieces.add(event)
        held.at = len(self._nodes)
        if event.get("type") == "message_stop":
            key = self._coming.pop(group)
            if len(held.pieces.answer()["content"]) <= self._printed.get(key, 0):
                del self._streamed[key]

    def _cut_off(self) -> None:
        """What of the answers was never printed whole, in the place of their last pieces."""
        backwards = list(self._streamed.items())[::-1]
        backwards.sort(key=lambda one: -one[1].at)
        for key, held in backwards:
            answer, printed = held.pieces.answer(), self._printed.get(key, 0)
            left = answer["content"][printed:]
            unfinished = not held.pieces.done and self._coming.get(key[0]) == key
            if not left and not unfinished and printed:
                continue
            node = held.node
            self._answer(node, {**answer, "content": left})
            if held.pieces.torn:
                node.flags.append("truncated")
            if isinstance(error := answer.get("error"), Mapping):
                node.fields |= {"status": "error", "error_message": as_name(error.get("message"))}
            self._nodes.insert(held.at, node)

    def _answer(self, node: Node, message: Mapping[str, Any]) -> None:
        claude.fill_assistant(node, message)
        self._calls |= {str(p.get("id")): p.get("arguments") for p in node.parts if p.get("type") == "tool_call"}
        if message.get("stop_reason") is None:
            node.fields.pop("tokens_out", None)

    def _fill(self, node: Node, kind: str, value: dict[str, Any]) -> None:
        message = value.get("message")
        if kind in _TURNS:
            if not isinstance(message, Mapping):
                raise ValueError(f"no {kind} record: message is missing")
            if kind == "user":
                used = value.get("tool_use_result")
                claude.fill_user(node, message, used)
                agent = claude.agent_of(used)
                if agent is not None and node.results:
                    self._ran[str(node.results[0].call_id)] = agent
            else:
                self._answer(node, message)
                key, content = (node.group, str(message.get("id"))), message["content"]
                self._printed[key] = self._printed.get(key, 0) + (len(content) if isinstance(content, list) else 1)
            return
        node.event = kind if value.get("subtype") is None else f"{kind}/{value['subtype']}"
        if kind == "result":
            self._results.append(value)
            node.attributes |= {"subtype": value.get("subtype")}
            node.fields = {"status": "error" if value.get("is_error") else "ok"}
        elif kind == "system" and value.get("subtype") == "init":
            self._init = self._init or value

    def sessions(self) -> Iterable[Spans]:
        self._cut_off()
        if not self._nodes:
            return
        name = self._session
        model, version = self._init.get("model"), self._init.get("claude_code_version")
        base: dict[str, Any] = {
            "dialect": "claude-code",
            "session_id": name,
            "agent_name": "claude-code",
            "agent_version": as_name(version),
        }
        session = Session(trace_id=content_id("claude-code", name or self._nodes[0].key), base=base)
        rest = {k: v for k, v in self._init.items() if k not in ("type", "subtype", "session_id", "uuid")}
        session.agents[""] = {"attributes": {**self._recorded, **rest}}
        calls: dict[str, list[Node]] = {}
        for node in self._nodes:
            if node.group:
                self._place(session, node)
            if node.call is not None:
                calls.setdefault(node.call, []).append(node)
                if isinstance(model, str) and "model" in node.fields:
                    node.fields["model_requested"] = node.fields["model"] if node.group else model
        if len(self._results) == 1:
            self._cost(session, self._results[0], list(calls.values()))
        yield Spans({"": session}, self._nodes)

    def _place(self, session: Session, node: Node) -> None:
        """Names a sub-agent as its own session file does, by its id where the stream tells it."""
        asked = self._calls.get(node.group)
        agent = self._ran.get(node.group)
        key = node.group if agent is None else claude.task_key(agent)
        node.group = agent or node.group
        kind = asked.get("subagent_type") if isinstance(asked, Mapping) else None
        kind = kind if isinstance(kind, str) else "sub-agent"
        session.agents[node.group] = {
            "agent_name": f"claude-code/{kind}",
            "parent_span_id": session.tool_span_id(key),
        }

    @staticmethod
    def _cost(session: Session, result: Mapping[str, Any], calls: list[list[Node]]) -> None:
        """What the session cost in all: on its only call, else on the agent's span, but no number in two places."""
        counted: dict[str, Any] = claude.usage(result.get("usage"), finished=True)
        counted["cost_usd"] = as_float(result.get("total_cost_usd"))
        session.agents[""]["status"] = "error" if result.get("is_error") else "ok"
        last = [call[-1].fields for call in calls]
        if len(calls) == 1 and last[0].get("tokens_in") == counted.get("tokens_in"):
            last[0] |= counted
        else:
            told = {name for fields in last for name, found in fields.items() if found is not None}
            session.agents[""] |= {name: found for name, found in counted.items() if name not in told}
