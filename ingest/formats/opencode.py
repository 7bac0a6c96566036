"""Sessions that `opencode export` writes: `{info, messages: [{info, parts}]}`.

An assistant message holds all calls of a turn, one after the other: a call begins with `step-start`, or where text
follows a tool's answer. Tokens and cost are those of its `step-finish`.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tracemill.chat import Part
from tracemill.ids import content_id
from tracemill.ingest.attributes import as_float, as_int, as_name, as_ns
from tracemill.ingest.documents import Record
from tracemill.ingest.reader import About, BadRecord, Done, Head, Item, Stream
from tracemill.ingest.sessions.files import Keys, each, read
from tracemill.ingest.sessions.session import Node, Result, Session, Spans, plain, text


class OpenCode:
    """Reader of OpenCode sessions."""

    name = "opencode"
    about = About(
        title="OpenCode sessions",
        files="Objects with `info` and `messages`, each of these with `info` and `parts`",
        maps="One call a step of an assistant message, with tokens and cost; tools with durations; rebuilt prompts",
        lacks="No system prompt, no tool definitions; messages without steps give tokens only where they are one call",
    )

    def sniff(self, head: Head) -> str | None:
        for record in head.records:
            if not isinstance(record, dict) or not isinstance(record.get("info"), dict):
                continue
            messages = record.get("messages")
            if isinstance(messages, list) and any(_is_message(message) for message in messages[:10]):
                return "an OpenCode session with info, messages and parts"
        return None

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        yield from read(stream, head, _Reading())


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("info"), dict) and isinstance(value.get("parts"), list)


class _Reading:
    def __init__(self) -> None:
        self._found: list[Spans] = []

    def add(self, value: dict[str, Any], record: Record) -> Iterator[BadRecord]:
        info, messages = value.get("info"), value.get("messages")
        if not isinstance(info, Mapping) or not isinstance(messages, list):
            raise ValueError("no OpenCode session: info or messages is missing")
        keys, nodes = Keys(), list[Node]()

        def take(message: Any, line: int) -> None:
            if not _is_message(message):
                raise ValueError("no message of OpenCode: info or parts is missing")
            key = keys.of(message, message["info"].get("id"))
            fill = _answers if message["info"].get("role") == "assistant" else _said
            nodes.extend(fill(key, message["info"], message["parts"], line))

        yield from each(messages, record, take)
        if not nodes:
            return
        name = as_name(info.get("id"))
        base = {
            "dialect": "opencode",
            "session_id": name,
            "agent_name": "opencode",
            "agent_version": as_name(info.get("version")),
        }
        rest = {k: v for k, v in info.items() if k not in ("id", "version")}
        session = Session(
            trace_id=content_id("opencode", name or nodes[0].key), base=base, agents={"": {"attributes": rest}}
        )
        self._found.append(Spans({"": session}, nodes))

    def sessions(self) -> Iterable[Spans]:
        return self._found


def _said(key: str, info: Mapping[str, Any], parts: list[Any], line: int) -> list[Node]:
    node = Node(key=key, line=line, ns=_time(info, "created"), event=str(info.get("role") or "message"))
    texts = [part for part in parts if isinstance(part, Mapping) and part.get("type") == "text"]
    node.said = [("user", None, [_text(part) for part in texts])] if texts else []
    if texts and all(part.get("synthetic") for part in texts):
        node.flags = ["synthetic"]
    rest = [part for part in parts if part not in texts]
    node.attributes = _rest(info, rest)
    return [node]


def _answers(key: str, info: Mapping[str, Any], parts: list[Any], line: int) -> list[Node]:
    """The calls of a turn."""
    nodes: list[Node] = []
    for part in parts:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if not nodes or (kind == "step-start" and _holds(nodes[-1])) or (_speaks(kind) and nodes[-1].results):
            number = len(nodes)
            node = Node(key=f"{key}/{number}", line=line, call=f"{key}/{number}")
            node.attributes = _rest(info, []) if number == 0 else {}
            node.fields = {
                "model": as_name(info.get("modelID")),
                "provider": as_name(info.get("providerID")),
                "start_ns": _time(info, "created") if number == 0 else None,
            }
            nodes.append(node)
        _take(nodes[-1], kind, part)
    for node in nodes:
        node.ns = node.ns if node.ns is not None else _time(info, "completed") or _time(info, "created")
    counted = any(node.fields.get("tokens_in") is not None for node in nodes)
    if len(nodes) == 1 and not counted:
        nodes[0].fields |= _usage(info.get("tokens"), info.get("cost"))
    failed = info.get("error")
    if nodes and isinstance(failed, Mapping):
        data = failed.get("data")
        nodes[-1].fields |= {
            "status": "error",
            "error_type": as_name(failed.get("name")),
            "error_message": as_name(data.get("message")) if isinstance(data, Mapping) else None,
        }
    return nodes


def _holds(node: Node) -> bool:
    return bool(node.parts or node.attributes.get("parts"))


def _speaks(kind: Any) -> bool:
    return kind in ("text", "reasoning")


def _take(node: Node, kind: Any, part: Any) -> None:
    if kind == "text":
        node.parts.append(_text(part))
        node.ns = _time(part, "end") or node.ns
    elif kind == "reasoning":
        node.parts.append({"type": "reasoning", "content": str(part.get("text") or "")})
    elif kind == "tool":
        _tool(node, part)
    elif kind == "step-finish":
        node.fields |= _usage(part.get("tokens"), part.get("cost"))
        reason = as_name(part.get("reason"))
        node.fields["finish_reasons"] = None if reason is None else [reason]
    elif kind != "step-start":
        node.attributes.setdefault("parts", []).append(part)


def _tool(node: Node, part: Mapping[str, Any]) -> None:
    state = part.get("state")
    state = state if isinstance(state, Mapping) else {}
    call_id = as_name(part.get("callID"))
    node.parts.append({"type": "tool_call", "id": call_id, "name": part.get("tool"), "arguments": state.get("input")})
    begun, ended = _time(state, "start"), _time(state, "end")
    node.ns = node.ns if node.ns is not None else begun
    status = state.get("status")
    if status not in ("completed", "error"):
        return
    said = state.get("error") if status == "error" else state.get("output")
    answer: Part = {"type": "tool_call_response", "id": call_id, "response": plain(said), "is_error": status == "error"}
    result = Result(call_id=call_id, part=answer)
    result.fields = {name: time for name, time in (("start_ns", begun), ("end_ns", ended)) if time is not None}
    if status == "error":
        result.fields["error_message"] = as_name(said)
    result.attributes = {k: v for k, v in state.items() if k not in ("status", "input", "output", "error", "time")}
    node.results.append(result)


def _text(part: Mapping[str, Any]) -> Part:
    return text("user", str(part.get("text") or ""))[2][0]


def _time(value: Mapping[str, Any], name: str) -> int | None:
    times = value.get("time")
    return as_ns(times.get(name)) if isinstance(times, Mapping) else None


def _rest(info: Mapping[str, Any], parts: list[Any]) -> dict[str, Any]:
    mapped = ("id", "role", "sessionID", "modelID", "providerID", "tokens", "cost", "time", "error")
    rest = {k: v for k, v in info.items() if k not in mapped}
    return {**rest, "parts": parts} if parts else rest


def _usage(tokens: Any, cost: Any) -> dict[str, Any]:
    """Columns of OpenCode's counts, whose input leaves out what is cached. All 0: it was never counted."""
    if not isinstance(tokens, Mapping):
        return {}
    cache = tokens.get("cache")
    cache = cache if isinstance(cache, Mapping) else {}
    fresh, out, thought = (as_int(tokens.get(name)) for name in ("input", "output", "reasoning"))
    read, written = as_int(cache.get("read")), as_int(cache.get("write"))
    if not any((fresh, out, thought, read, written)):
        return {}
    return {
        "tokens_in": None if fresh is None else fresh + (read or 0) + (written or 0),
        "tokens_cache_read": read,
        "tokens_cache_write": written,
        "tokens_out": out,
        "tokens_reasoning": thought,
        "cost_usd": as_float(cost) or None,
    }
