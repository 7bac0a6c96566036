"""Rollouts of the Codex CLI: `~/.codex/sessions/**/rollout-*.jsonl`, records with `timestamp`, `type` and `payload`.

What the model put out between two inputs is one call: reasoning, messages and tool calls up to the next user message
or tool result, or to the count of its tokens. Counts come as events that say the total so far and the last call's own;
one event may be repeated, so a total that has not grown is no call. Codex speaks in the user's place (environment,
AGENTS.md): that is in the prompts, and flagged `synthetic`.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tracemill.chat import Part, as_text
from tracemill.ids import content_id
from tracemill.ingest.attributes import as_int, as_name, as_ns
from tracemill.ingest.content.messages import canonical
from tracemill.ingest.documents import Record
from tracemill.ingest.reader import About, BadRecord, Done, Head, Item, Message, Stream
from tracemill.ingest.sessions.files import Keys, read
from tracemill.ingest.sessions.session import Node, Result, Session, Spans, plain, text

_KINDS = ("session_meta", "turn_context", "response_item", "event_msg", "compacted")
_INJECTED = (
    "<environment_context>",
    "<user_instructions>",
    "<INSTRUCTIONS>",
    "# AGENTS.md instructions",
    "<permissions instructions>",
    "<collaboration_mode>",
    "<turn_aborted>",
    "<user_shell_command>",
    "<skill>",
    "<skills_instructions>",
    "<subagent_notification>",
)
_TOTALS = {
    "tokens_in": "input_tokens",
    "tokens_cache_read": "cached_input_tokens",
    "tokens_cache_write": "cache_write_input_tokens",
    "tokens_out": "output_tokens",
    "tokens_reasoning": "reasoning_output_tokens",
}


class Codex:
    """Reader of Codex rollouts."""

    name = "codex"
    about = About(
        title="Codex CLI rollouts",
        files="JSON lines with `payload` and a `type` such as `session_meta`, `response_item` or `event_msg`",
        maps="One call for what came out between two inputs, with its tokens; tools; sub-agents; rebuilt prompts",
        lacks="No tool definitions, no cost; reasoning only as summaries; the tokens of a compaction are in no call",
    )

    def sniff(self, head: Head) -> str | None:
        for record in head.records:
            if isinstance(record, dict) and record.get("type") in _KINDS and isinstance(record.get("payload"), dict):
                return f"Codex records: {record['type']} with a payload"
        return None

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        yield from read(stream, head, _Reading())


class _Reading:
    def __init__(self) -> None:
        self._nodes: list[Node] = []
        self._keys = Keys()
        self._meta: dict[str, Any] = {}
        self._asked_with: dict[str, Any] = {}
        self._model: str | None = None
        self._call: Node | None = None
        """The first record of the call whose output is still coming."""
        self._uncounted: Node | None = None
        self._total: dict[str, int] = {}
        self._thoughts: set[str] = set()
        self._copying = False

    def add(self, value: dict[str, Any], record: Record) -> Iterable[BadRecord]:
        kind, payload = value.get("type"), value.get("payload")
        if not isinstance(kind, str) or not isinstance(payload, Mapping):
            raise ValueError("no record of a Codex rollout: type or payload is missing")
        node = Node(key=self._keys.of(value), line=record.line, ns=as_ns(value.get("timestamp")))
        self._copying = self._is_copy(node, kind, payload)
        if self._copying and kind != "turn_context":
            self._copy(node, kind, payload)
        elif kind == "response_item":
            self._item(node, payload)
        elif kind == "event_msg":
            self._event(node, payload)
        elif kind == "compacted":
            self._compacted(node, payload)
        else:
            node.event = kind
            node.attributes = {name: found for name, found in payload.items() if name != "base_instructions"}
            self._set(node, kind, payload)
        self._nodes.append(node)
        return ()

    def _is_copy(self, node: Node, kind: str, payload: Mapping[str, Any]) -> bool:
        """Whether a record was copied from the session that this one was forked off.

        Copies follow the header at once and end where a turn begins that is younger than the session: ids of turns
        and sessions are UUIDs that grow with time. Where a turn has no id, its time has to be a second later.
        """
        own = as_name(self._meta.get("id")) or ""
        if not self._meta or not (self._copying or len(self._nodes) == 1):
            return False
        if len(self._nodes) == 1 and "forked_from_id" not in self._meta and _spawned(self._meta) is None:
            return False
        if kind != "turn_context" and payload.get("type") != "task_started":
            return True
        turn = as_name(payload.get("turn_id"))
        if turn is not None and len(turn) == len(own):
            return turn < own
        begun = self._nodes[0].ns
        return node.ns is None or begun is None or node.ns < begun + 1_000_000_000

    def _copy(self, node: Node, kind: str, payload: Mapping[str, Any]) -> None:
        """A copied record: part of the prompts that follow, but nobody's call here."""
        node.event, node.flags = f"copied/{payload.get('type') or kind}", ["copied", "synthetic"]
        info = payload.get("info")
        if payload.get("type") == "token_count" and isinstance(info, Mapping):
            self._total = _counts(info.get("total_token_usage")) or self._total
        if kind != "response_item":
            return
        item = str(payload.get("type"))
        if item == "message":
            node.said = _messages(payload)
        elif item == "reasoning" or item.endswith("_call"):
            parts = self._new_thoughts(payload) if item == "reasoning" else [_tool_call(item, payload)]
            node.said = [("assistant", None, parts)] if parts else []
        elif item.endswith("_output"):
            node.said = [("tool", None, [_result(payload).part])]

    def _set(self, node: Node, kind: str, payload: Mapping[str, Any]) -> None:
        if kind == "session_meta" and not self._meta:
            self._meta = dict(payload)
            base = payload.get("base_instructions")
            told = base.get("text") if isinstance(base, Mapping) else None
            if isinstance(told, str) and told:
                node.said = [text("system", told)]
        elif kind == "turn_context":
            self._model = as_name(payload.get("model")) or self._model
            self._asked_with = {name: payload[name] for name in ("effort", "summary") if payload.get(name) is not None}

    def _item(self, node: Node, payload: Mapping[str, Any]) -> None:
        kind = str(payload.get("type"))
        if kind == "message":
            role = payload.get("role")
            said = _messages(payload)
            if role == "assistant":
                self._answer(node, [part for _, _, parts in said for part in parts])
            else:
                node.event, node.said = str(role), said
                node.flags = ["synthetic"] if role != "user" or _is_injected(said) else []
                self._call = None
        elif kind == "reasoning":
            self._answer(node, self._new_thoughts(payload))
        elif kind.endswith("_call"):
            self._answer(node, [_tool_call(kind, payload)])
        elif kind.endswith("_output"):
            node.results = [_result(payload)]
            self._call = None
        else:
            node.event, node.attributes = kind, {k: v for k, v in payload.items() if k != "type"}

    def _answer(self, node: Node, parts: list[Part]) -> None:
        first = self._call
        if first is None:
            first = self._call = self._uncounted = node
            self._thoughts = set()
        node.call, node.parts = first.key, parts
        node.fields = {
            "model": self._model,
            "model_requested": self._model,
            "provider": as_name(self._meta.get("model_provider")) or "openai",
            "params": dict(self._asked_with) or None,
        }

    def _new_thoughts(self, payload: Mapping[str, Any]) -> list[Part]:
        """The summaries of a reasoning item that no event has said before it."""
        found: list[Part] = []
        for name in ("summary", "content"):
            items = payload.get(name)
            for item in items if isinstance(items, list) else []:
                thought = as_name(item.get("text")) if isinstance(item, Mapping) else None
                if thought is not None and (self._call is None or thought not in self._thoughts):
                    found.append({"type": "reasoning", "content": thought})
        return found

    def _event(self, node: Node, payload: Mapping[str, Any]) -> None:
        kind = str(payload.get("type"))
        thought = as_name(payload.get("text")) if kind == "agent_reasoning" else None
        if thought is not None:
            self._answer(node, [] if thought in self._thoughts and self._call is not None else [_thought(thought)])
            self._thoughts.add(thought)
            return
        node.event, node.attributes = kind, {k: v for k, v in payload.items() if k != "type"}
        if kind == "token_count":
            self._count(payload.get("info"))
        elif kind in ("error", "stream_error"):
            node.fields = {"status": "error", "error_message": as_name(payload.get("message"))}

    def _count(self, info: Any) -> None:
        total = info.get("total_token_usage") if isinstance(info, Mapping) else None
        last = info.get("last_token_usage") if isinstance(info, Mapping) else None
        counted = _counts(total)
        if counted and counted == self._total:
            return
        own = _counts(last) or {name: found - self._total.get(name, 0) for name, found in counted.items()}
        self._total = counted or self._total
        if self._uncounted is not None and own:
            self._uncounted.fields |= own
            self._uncounted = None
        self._call = None

    def _compacted(self, node: Node, payload: Mapping[str, Any]) -> None:
        node.event, node.flags = "compaction", ["synthetic"]
        node.begins, node.logical = True, self._nodes[-1].key if self._nodes else None
        history = payload.get("replacement_history")
        if isinstance(history, list):
            node.said = [m for item in history if isinstance(item, Mapping) for m in _messages(item)]
        elif as_name(payload.get("message")):
            node.said = [text("user", str(payload["message"]))]
        node.attributes = {k: v for k, v in payload.items() if k not in ("message", "replacement_history")}
        self._call = self._uncounted = None

    def sessions(self) -> Iterable[Spans]:
        if not self._nodes:
            return
        name = as_name(self._meta.get("id"))
        base = {
            "dialect": "codex",
            "session_id": name,
            "agent_name": "codex",
            "agent_version": as_name(self._meta.get("cli_version")),
        }
        rest = {key: found for key, found in self._meta.items() if key not in ("id", "base_instructions")}
        above = _spawned(self._meta)
        root = (as_name(self._meta.get("session_id")) or above) if above is not None else name
        session = Session(trace_id=content_id("codex", root or self._nodes[0].key), base=base)
        session.agents[""] = {"attributes": rest}
        if above is not None and name is not None and root != name:
            session.detached = True
            session.agents[name] = {
                "agent_name": f"codex/{as_name(self._meta.get('agent_role')) or 'sub-agent'}",
                "attributes": rest,
                "parent_span_id": session.agent_span_id("" if above == root else above),
            }
            for node in self._nodes:
                node.group = name
        yield Spans({"": session}, self._nodes)


def _spawned(meta: Mapping[str, Any]) -> str | None:
    """The thread that ran this one as its sub-agent."""
    source = meta.get("source")
    agent = source.get("subagent") if isinstance(source, Mapping) else None
    spawn = agent.get("thread_spawn") if isinstance(agent, Mapping) else None
    told = spawn.get("parent_thread_id") if isinstance(spawn, Mapping) else None
    return as_name(told) or (as_name(meta.get("parent_thread_id")) if agent is not None else None)


def _counts(usage: Any) -> dict[str, int]:
    """Token columns of a usage of Codex, whose input holds what is cached."""
    if not isinstance(usage, Mapping):
        return {}
    return {name: found for name, key in _TOTALS.items() if (found := as_int(usage.get(key))) is not None}


def _messages(item: Mapping[str, Any]) -> list[Message]:
    content = item.get("content")
    return canonical({"role": item.get("role"), "content": content}) if isinstance(content, str | list) else []


def _is_injected(said: list[Message]) -> bool:
    texts = [part.get("content") for _, _, parts in said for part in parts if part.get("type") == "text"]
    return bool(texts) and all(isinstance(t, str) and t.lstrip().startswith(_INJECTED) for t in texts)


def _thought(content: str) -> Part:
    return {"type": "reasoning", "content": content}


def _tool_call(kind: str, payload: Mapping[str, Any]) -> Part:
    if kind == "custom_tool_call":
        arguments: Any = {"input": payload.get("input")}
    else:
        arguments = payload.get("arguments", payload.get("action"))
    name = payload.get("name") or kind.removesuffix("_call")
    return {"type": "tool_call", "id": payload.get("call_id"), "name": str(name), "arguments": arguments}


def _result(payload: Mapping[str, Any]) -> Result:
    call_id = payload.get("call_id")
    output = payload.get("output", payload.get("tools"))
    part: Part = {"type": "tool_call_response", "id": call_id}
    if isinstance(output, Mapping) and "content" in output:
        if isinstance(output.get("success"), bool):
            part["is_error"] = not output["success"]
        output = output["content"]
    part["response"] = as_text(plain(output)) if output is not None else ""
    return Result(call_id=as_name(call_id), part=part)
