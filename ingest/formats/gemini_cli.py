"""Chats of the Gemini CLI: `~/.gemini/tmp/*/chats/session-*.json`, or the same message by message as JSON lines.

A message of type `gemini` is one call: thoughts, text and tool calls, each with its result beside it.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tracemill.chat import Part
from tracemill.ids import content_id
from tracemill.ingest.attributes import as_int, as_name, as_ns
from tracemill.ingest.content.messages import canonical
from tracemill.ingest.documents import Record
from tracemill.ingest.reader import About, BadRecord, Done, Head, Item, Stream
from tracemill.ingest.sessions.files import Keys, each, read
from tracemill.ingest.sessions.session import Node, Result, Session, Spans, plain

_MAPPED = frozenset(("id", "type", "timestamp", "content", "thoughts", "toolCalls", "tokens", "model"))
_CALL = frozenset(("id", "name", "args", "result", "status", "timestamp"))


class GeminiCli:
    """Reader of Gemini CLI chats."""

    name = "gemini-cli"
    about = About(
        title="Gemini CLI chats",
        files="Objects with `sessionId`, `projectHash` and `messages`; or that header and its messages as JSON lines",
        maps="One call a `gemini` message with thoughts, tokens and tool calls; results as tool spans; rebuilt prompts",
        lacks="No system prompt, tool definitions or cost; tools have no duration",
    )

    def sniff(self, head: Head) -> str | None:
        for record in head.records:
            if isinstance(record, dict) and isinstance(record.get("sessionId"), str) and "projectHash" in record:
                return "a Gemini CLI chat with sessionId and projectHash"
        return None

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        yield from read(stream, head, _Reading())


class _Reading:
    def __init__(self) -> None:
        self._header: dict[str, Any] = {}
        self._nodes: dict[str, Node] = {}
        self._keys = Keys()

    def add(self, value: dict[str, Any], record: Record) -> Iterable[BadRecord]:
        if "sessionId" in value and "projectHash" in value:
            self._header = self._header or {k: v for k, v in value.items() if k != "messages"}
            return each(value.get("messages"), record, self._add)
        self._add(value, record.line)
        return ()

    def _add(self, value: Any, line: int) -> None:
        kind = value.get("type") if isinstance(value, Mapping) else None
        if not isinstance(kind, str) or not kind:
            raise ValueError("no message of a Gemini CLI chat: type is missing")
        node = Node(key=self._keys.of(value, value.get("id")), line=line, ns=as_ns(value.get("timestamp")))
        node.attributes = {k: v for k, v in value.items() if k not in _MAPPED}
        content = value.get("content")
        if kind == "gemini":
            self._answer(node, value, content)
        else:
            node.event = kind
            if kind == "user":
                node.said = canonical({"role": "user", "content": _blocks(content)})
            elif content is not None:
                node.attributes["content"] = content
        self._nodes[node.key] = node  # a message may be logged again when its tools have answered: the last counts

    @staticmethod
    def _answer(node: Node, value: Mapping[str, Any], content: Any) -> None:
        thoughts, calls = value.get("thoughts"), value.get("toolCalls")
        for thought in thoughts if isinstance(thoughts, list) else []:
            said = [t for name in ("subject", "description") if (t := as_name(thought.get(name)))]
            node.parts.append({"type": "reasoning", "content": " — ".join(said)})
        if content:
            node.parts += [p for _, _, ps in canonical({"role": "model", "content": _blocks(content)}) for p in ps]
        for call in calls if isinstance(calls, list) else []:
            call_id = as_name(call.get("id"))
            asked = {"type": "tool_call", "id": call_id, "name": call.get("name"), "arguments": call.get("args")}
            node.parts.append(asked)
            if call.get("result") is not None or call.get("status") in ("error", "cancelled"):
                node.results.append(_result(call, call_id))
        node.call = node.key
        node.fields = {"model": as_name(value.get("model")), "provider": "google", **_usage(value.get("tokens"))}

    def sessions(self) -> Iterable[Spans]:
        nodes = list(self._nodes.values())
        if not nodes:
            return
        name = as_name(self._header.get("sessionId"))
        base = {"dialect": "gemini-cli", "session_id": name, "agent_name": "gemini-cli"}
        rest = {k: v for k, v in self._header.items() if k != "sessionId"}
        trace_id = content_id("gemini-cli", name or nodes[0].key)
        yield Spans({"": Session(trace_id=trace_id, base=base, agents={"": {"attributes": rest}})}, nodes)


def _blocks(content: Any) -> Any:
    """Gemini's parts, of which those of text have no type."""
    if not isinstance(content, list):
        return content if isinstance(content, str) else [] if content is None else [content]
    return [{"type": "text", **part} if isinstance(part, Mapping) and "text" in part else part for part in content]


def _result(call: Mapping[str, Any], call_id: str | None) -> Result:
    found = call.get("result")
    if isinstance(found, list) and len(found) == 1 and isinstance(found[0], Mapping):
        answer = found[0].get("functionResponse")
        found = answer.get("response") if isinstance(answer, Mapping) else found
    if isinstance(found, Mapping) and list(found) == ["output"]:
        found = found["output"]
    part: Part = {"type": "tool_call_response", "id": call_id, "response": plain(found)}
    if call.get("status") is not None:
        part["is_error"] = call["status"] != "success"
    result = Result(call_id=call_id, part=part, tool=as_name(call.get("name")))
    result.attributes = {k: v for k, v in call.items() if k not in _CALL}
    ended = as_ns(call.get("timestamp"))
    result.fields = {} if ended is None else {"end_ns": ended}
    return result


def _usage(tokens: Any) -> dict[str, int | None]:
    """Columns of Gemini's counts: input holds what is cached, output leaves out the thoughts."""
    if not isinstance(tokens, Mapping):
        return {}
    read, out, thoughts = (as_int(tokens.get(name)) for name in ("input", "output", "thoughts"))
    return {
        "tokens_in": None if read is None else read + (as_int(tokens.get("tool")) or 0),
        "tokens_cache_read": as_int(tokens.get("cached")),
        "tokens_out": None if out is None else out + (thoughts or 0),
        "tokens_reasoning": thoughts,
    }
