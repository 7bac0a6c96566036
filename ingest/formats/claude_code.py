"""Sessions of Claude Code: `~/.claude/projects/<folder>/<session>.jsonl` and `<session>/subagents/agent-<id>.jsonl`.

One answer of the model stands in several records, one a content block, each repeating the usage: they become one span
of which the last usage counts. Records name the one before them; edited, resumed and compacted conversations fork
there. Versions before 2.0.28 continued a session by copying it into a new file under a new session id: the trace of
their sessions is named by its first record, that of later ones by the session, which sub-agents' files name too.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tracemill.chat import text_of
from tracemill.ids import content_id
from tracemill.ingest.attributes import as_name, as_ns
from tracemill.ingest.documents import Record
from tracemill.ingest.reader import About, BadRecord, Done, Head, Item, Stream
from tracemill.ingest.sessions import claude
from tracemill.ingest.sessions.files import Keys, each, read
from tracemill.ingest.sessions.session import Node, Session, Spans, text

_TURNS = ("user", "assistant")
_COPYING_BEFORE = (2, 0, 28)
_SHARED = ("cwd", "gitBranch", "entrypoint", "version")
_LINKS = ("uuid", "parentUuid", "logicalParentUuid", "sessionId", "agentId", "isSidechain", "forkedFrom")
_ENVELOPE = frozenset((*_SHARED, *_LINKS, "type", "message", "timestamp", "userType", "toolUseResult", "isMeta"))


class ClaudeCode:
    """Reader of Claude Code sessions."""

    name = "claude-code"
    about = About(
        title="Claude Code sessions",
        files="`~/.claude/projects/**/*.jsonl`, sub-agents' files included: records with `type`, `uuid` and `message`",
        maps="One call an API message, of its usages the last; tools, sub-agents and branches; prompts rebuilt",
        lacks="No system prompt, tool definitions or cost; forks that do not name their origin count their copies anew",
    )

    def sniff(self, head: Head) -> str | None:
        for record in head.records:
            if not isinstance(record, dict) or "session_id" in record or "parent_tool_use_id" in record:
                continue
            message = record.get("message")
            if record.get("type") in _TURNS and isinstance(record.get("uuid"), str) and isinstance(message, dict):
                return "Claude Code records with type, uuid and message"
            if record.get("type") == "summary" and isinstance(record.get("leafUuid"), str):
                return "Claude Code summaries"
            lines = record.get("loglines")
            if isinstance(lines, list) and any(isinstance(x, dict) and x.get("type") in _TURNS for x in lines):
                return "Claude Code loglines"
        return None

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        yield from read(stream, head, _Reading())


class _Reading:
    def __init__(self) -> None:
        self._records: list[tuple[Node, dict[str, Any]]] = []
        self._seen: set[str] = set()
        self._keys = Keys()

    def add(self, value: dict[str, Any], record: Record) -> Iterable[BadRecord]:
        if isinstance(value.get("loglines"), list):
            return each(value["loglines"], record, self._add)
        self._add(value, record.line)
        return ()

    def _add(self, value: dict[str, Any], line: int) -> None:
        kind = value.get("type")
        if not isinstance(kind, str) or not kind:
            raise ValueError("no record of a Claude Code session: type is missing")
        key = self._keys.of(value, value.get("uuid"))
        node = Node(key=key, line=line, ns=as_ns(value.get("timestamp")))
        node.attributes = {name: found for name, found in value.items() if name not in _ENVELOPE}
        origin = value.get("forkedFrom")
        if isinstance(origin, Mapping) and isinstance(origin.get("messageUuid"), str):
            node.identity = origin["messageUuid"]
        if kind in _TURNS:
            message = value.get("message")
            if not isinstance(message, Mapping):
                raise ValueError(f"no {kind} record: message is missing")
            if kind == "user":
                self._user(node, message, value)
            else:
                self._assistant(node, message, value)
        else:
            node.event = kind if value.get("subtype") is None else f"{kind}/{value['subtype']}"
            if kind == "attachment":
                self._attached(node, value.get("attachment"))
            if value.get("subtype") == "api_error":
                node.fields["status"] = "error"
        node.begins = value.get("subtype") == "compact_boundary"
        node.parent = parent if isinstance(parent := value.get("parentUuid"), str) else None
        node.logical = after if isinstance(after := value.get("logicalParentUuid"), str) else None
        if key not in self._seen:
            self._seen.add(key)
            self._records.append((node, value))

    @staticmethod
    def _user(node: Node, message: Mapping[str, Any], value: Mapping[str, Any]) -> None:
        claude.fill_user(node, message, value.get("toolUseResult"))
        if value.get("isCompactSummary"):
            node.event = "compaction"
        if (value.get("isMeta") or value.get("isCompactSummary")) and "synthetic" not in node.flags:
            node.flags.append("synthetic")

    @staticmethod
    def _attached(node: Node, attachment: Any) -> None:
        """What is added to the prompt beside messages; of these only what the user typed meanwhile stands there."""
        kind = as_name(attachment.get("type")) if isinstance(attachment, Mapping) else None
        if kind is not None:
            node.event = f"attachment/{kind}"
        if kind == "queued_command" and (typed := as_name(attachment.get("prompt"))):
            node.said = [text("user", typed)]
            if attachment.get("commandMode") not in (None, "prompt"):
                node.flags.append("synthetic")

    @staticmethod
    def _assistant(node: Node, message: Mapping[str, Any], value: Mapping[str, Any]) -> None:
        claude.fill_assistant(node, message)
        if value.get("isApiErrorMessage"):
            node.unsaid = True
            node.fields |= {
                "status": "error",
                "error_type": as_name(value.get("error")),
                "error_message": text_of(node.parts) or None,
            }

    def sessions(self) -> Iterable[Spans]:
        if not self._records:
            return
        sessions = self._assign()
        self._relate()
        self._agents(sessions)
        yield Spans(sessions, [node for node, _ in self._records])

    def _assign(self) -> dict[str, Session]:
        """Says of each record which session it belongs to; the sessions by their ids."""
        turns = [(node, value) for node, value in self._records if value["type"] in _TURNS]
        main = next((found for _, value in turns if (found := _session_of(value))), "")
        main = main or next((found for _, value in self._records if (found := _session_of(value))), "")
        groups: dict[str, str] = {}
        firsts: dict[str, tuple[Node, dict[str, Any]]] = {}
        led: set[str] = set()
        for node, value in self._records:
            node.session = _session_of(value) or main
            node.group = groups[node.key] = _group_of(node, value, groups)
            if value.get("uuid") is not None or value["type"] in _TURNS:
                firsts.setdefault(node.session, (node, value))
            if not node.group and value["type"] in _TURNS:
                led.add(node.session)
        sessions: dict[str, Session] = {}
        for node, _ in self._records:
            if node.session not in sessions:
                first, value = firsts.get(node.session, (node, {}))
                sessions[node.session] = _session(node.session, first, value, has_main=node.session in led)
        has_turns = {node.session for node, _ in turns}
        for name, session in sessions.items():
            session.detached = name in has_turns and name not in led
        return sessions

    def _relate(self) -> None:
        """Decides what a record without a parent means: a new conversation, or a log that names no parents at all."""
        unlinked = {
            (node.session, node.group)
            for node, value in self._records
            if value["type"] == "assistant" and value.get("parentUuid") is None
        }
        for node, value in self._records:
            alone = "parentUuid" in value and value["parentUuid"] is None
            if alone and value["type"] in _TURNS and (node.session, node.group) not in unlinked:
                node.begins = True

    def _agents(self, sessions: Mapping[str, Session]) -> None:
        """Finds the tool call that ran each sub-agent: by the agent's id in its result, or by what it was told."""
        told: dict[tuple[str, str], str] = {}
        kinds: dict[str, str] = {}
        calls: dict[str, Any] = {}
        answered: set[str] = set()
        for node, _ in self._records:
            for part in node.parts:
                asked = part.get("arguments")
                if part.get("type") == "tool_call" and isinstance(asked, Mapping):
                    calls[str(part.get("id"))] = asked
            for result in node.results:
                key = result.key or str(result.call_id)
                answered.add(key)
                asked = calls.get(str(result.call_id), {})
                if isinstance(asked.get("subagent_type"), str):
                    kinds[key] = asked["subagent_type"]
                if isinstance(asked.get("prompt"), str):
                    told.setdefault((node.session, asked["prompt"].strip()), key)
        for node, value in self._records:
            session = sessions[node.session]
            if not node.group or node.group in session.agents:
                continue
            key = claude.task_key(node.group)
            if key not in answered and not session.detached:
                key = told.get((node.session, text_of(node.said[0][2]).strip()), "") if node.said else ""
            kind = kinds.get(key) or value.get("attributionAgent")
            fields: dict[str, Any] = {"agent_name": f"claude-code/{kind}" if isinstance(kind, str) else None}
            fields["agent_name"] = fields["agent_name"] or "claude-code/sub-agent"
            if key:
                fields["parent_span_id"] = session.tool_span_id(key)
            if isinstance(value.get("agentId"), str):
                fields["attributes"] = {"agentId": value["agentId"]}
            session.agents[node.group] = fields


def _session_of(value: Mapping[str, Any]) -> str:
    origin = value.get("forkedFrom")
    copied = origin.get("sessionId") if isinstance(origin, Mapping) else None
    found = copied or value.get("sessionId")
    return found if isinstance(found, str) else ""


def _group_of(node: Node, value: Mapping[str, Any], groups: Mapping[str, str]) -> str:
    """The sub-agent: its id, or in older logs the first record of its chain."""
    if not value.get("isSidechain"):
        return ""
    if isinstance(value.get("agentId"), str):
        return str(value["agentId"])
    return groups.get(node.parent or "") or node.key


def _session(name: str, first: Node, value: Mapping[str, Any], *, has_main: bool) -> Session:
    version = value.get("version")
    numbers = tuple(int(n) for n in re.findall(r"\d+", version)[:3]) if isinstance(version, str) else ()
    if not name or (numbers and numbers < _COPYING_BEFORE and has_main):
        trace_id = content_id("claude-code", "first", first.identity or first.key, first.ns)
    else:
        trace_id = content_id("claude-code", name)
    base: dict[str, Any] = {
        "dialect": "claude-code",
        "session_id": name or None,
        "agent_name": "claude-code",
        "agent_version": as_name(version),
    }
    shared = {key: value[key] for key in _SHARED if value.get(key) is not None}
    return Session(trace_id=trace_id, base=base, agents={"": {"attributes": shared}})
