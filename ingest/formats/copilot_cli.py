"""Sessions of the GitHub Copilot CLI: `~/.copilot/session-state/**/events.jsonl`, events with `type` and `data`."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tracemill.chat import Part
from tracemill.ids import content_id
from tracemill.ingest.attributes import as_int, as_name, as_ns
from tracemill.ingest.documents import Record
from tracemill.ingest.reader import About, BadRecord, Done, Head, Item, Stream
from tracemill.ingest.sessions.files import Keys, read
from tracemill.ingest.sessions.session import Node, Result, Session, Spans, plain, text

_ANSWER = frozenset(("content", "reasoningText", "reasoningOpaque", "encryptedContent", "toolRequests"))


class CopilotCli:
    """Reader of Copilot CLI sessions."""

    name = "copilot-cli"
    about = About(
        title="GitHub Copilot CLI sessions",
        files="JSON lines of events such as `session.start`, `assistant.message` and `tool.execution_complete`",
        maps="One call an `assistant.message`; tool executions as tool spans; other events as events; rebuilt prompts",
        lacks="No system prompt, no tool definitions; tokens only where `assistant.usage` is kept",
    )

    def sniff(self, head: Head) -> str | None:
        for record in head.records:
            if not isinstance(record, dict) or not isinstance(record.get("data"), dict):
                continue
            if record.get("type") in ("session.start", "assistant.message", "tool.execution_complete"):
                return f"a Copilot CLI event: {record['type']}"
        return None

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        yield from read(stream, head, _Reading())


class _Reading:
    def __init__(self) -> None:
        self._nodes: list[Node] = []
        self._keys = Keys()
        self._start: dict[str, Any] = {}
        self._model: str | None = None
        self._begun: dict[str, int | None] = {}
        self._asked: dict[str, Node] = {}
        self._last: Node | None = None
        self._hooked: list[tuple[Node, str]] = []
        self._has_users = False

    def add(self, value: dict[str, Any], record: Record) -> Iterable[BadRecord]:
        kind, data = value.get("type"), value.get("data")
        if not isinstance(kind, str) or not isinstance(data, Mapping):
            raise ValueError("no Copilot CLI event: type or data is missing")
        node = Node(key=self._keys.of(value, value.get("id")), line=record.line, ns=as_ns(value.get("timestamp")))
        node.parent = as_name(value.get("parentId"))
        node.attributes = dict(data)
        if kind == "assistant.message":
            self._answer(node, data)
        elif kind == "tool.execution_complete":
            self._result(node, data)
        elif kind == "user.message":
            self._has_users = True
            node.event = "user"
            said = as_name(data.get("transformedContent")) or as_name(data.get("content"))
            node.said = [text("user", said)] if said else []
            node.attributes.pop("transformedContent", None)
        else:
            node.event = kind
            self._note(node, kind, data)
        self._nodes.append(node)
        return ()

    def _note(self, node: Node, kind: str, data: Mapping[str, Any]) -> None:
        """What other events say of the session and its calls."""
        if kind == "session.start" and not self._start:
            self._start = dict(data)
            self._model = as_name(data.get("selectedModel"))
        elif kind == "session.model_change":
            self._model = as_name(data.get("newModel")) or self._model
        elif kind == "tool.execution_start":
            self._begun[str(data.get("toolCallId"))] = node.ns
        elif kind == "hook.start" and data.get("hookType") == "userPromptSubmitted":
            asked = data.get("input")
            prompt = as_name(asked.get("prompt")) if isinstance(asked, Mapping) else None
            if prompt:
                self._hooked.append((node, prompt))
        elif kind == "assistant.usage" and self._last is not None and "tokens_in" not in self._last.fields:
            fresh = as_int(data.get("inputTokens"))
            self._last.fields |= {
                "tokens_in": fresh,
                "tokens_cache_read": as_int(data.get("cacheReadTokens")),
                "tokens_cache_write": as_int(data.get("cacheWriteTokens")),
                "tokens_out": as_int(data.get("outputTokens")),
                "model": as_name(data.get("model")) or self._last.fields.get("model"),
            }
        elif kind == "session.error":
            node.fields = {"status": "error", "error_message": as_name(data.get("message"))}

    def _answer(self, node: Node, data: Mapping[str, Any]) -> None:
        if thought := as_name(data.get("reasoningText")):
            node.parts.append({"type": "reasoning", "content": thought})
        if said := as_name(data.get("content")):
            node.parts.append({"type": "text", "content": said})
        requests = data.get("toolRequests")
        for call in requests if isinstance(requests, list) else []:
            call_id = as_name(call.get("toolCallId"))
            asked = {"name": call.get("name"), "arguments": call.get("arguments")}
            node.parts.append({"type": "tool_call", "id": call_id, **asked})
            self._asked[str(call_id)] = node
        node.call = as_name(data.get("messageId")) or node.key
        node.attributes = {k: v for k, v in data.items() if k not in _ANSWER}
        node.fields = {"model": as_name(data.get("model")) or self._model}
        self._last = node

    def _result(self, node: Node, data: Mapping[str, Any]) -> None:
        call_id = as_name(data.get("toolCallId"))
        failed, found = data.get("error"), data.get("result")
        said = failed.get("message") if isinstance(failed, Mapping) and found is None else found
        if isinstance(said, Mapping) and "content" in said:
            said = said["content"]
        part: Part = {"type": "tool_call_response", "id": call_id, "response": plain(said)}
        if isinstance(data.get("success"), bool):
            part["is_error"] = not data["success"]
        result = Result(call_id=call_id, part=part)
        mapped = ("toolCallId", "success", "result", "error", "model")
        node.attributes = {k: v for k, v in data.items() if k not in mapped}
        if isinstance(failed, Mapping):
            result.fields = {
                "error_type": as_name(failed.get("code")),
                "error_message": as_name(failed.get("message")),
            }
        if self._begun.get(str(call_id)) is not None:
            result.fields["start_ns"] = self._begun[str(call_id)]
        node.results = [result]
        asked = self._asked.get(str(call_id))
        if asked is not None and asked.fields.get("model") is None:
            asked.fields["model"] = as_name(data.get("model"))

    def sessions(self) -> Iterable[Spans]:
        if not self._nodes:
            return
        for node, prompt in [] if self._has_users else self._hooked:
            node.event, node.said = "user", [text("user", prompt)]
        name = as_name(self._start.get("sessionId"))
        version = as_name(self._start.get("copilotVersion"))
        base = {"dialect": "copilot-cli", "session_id": name, "agent_name": "copilot-cli", "agent_version": version}
        rest = {k: v for k, v in self._start.items() if k != "sessionId"}
        trace_id = content_id("copilot-cli", name or self._nodes[0].key)
        yield Spans({"": Session(trace_id=trace_id, base=base, agents={"": {"attributes": rest}})}, self._nodes)
