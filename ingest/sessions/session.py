"""Sessions of coding agents as spans: a tree of records becomes calls with their whole prompts, tools and sub-agents.

A reader maps each record to a `Node`; what all these formats need stands here. A session is one trace: an agent span
at its root, one below it for each sub-agent, an LLM span for each answer of the model (which may have been logged in
several records), a tool span for each result, an event span for everything else, what the user said included.

The files keep no prompts. The prompt of a call is rebuilt: the prompt and answer of the call before it in the tree,
the results of that call's tools, and what was said since. It shares the message objects of the call before, so a long
session costs work only for what is new. The system prompt and the tool definitions are not known: `lossy`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tracemill.chat import Part
from tracemill.ids import content_id
from tracemill.ingest.documents import MALFORMED, unwrap
from tracemill.ingest.limits import REPEATED
from tracemill.ingest.reader import BadRecord, Message, RawSpan
from tracemill.ingest.sessions.tree import Tree

ROOT = "root"


@dataclass(slots=True, kw_only=True)
class Result:
    """What a tool answered."""

    call_id: str | None
    part: Part
    """The tool_call_response."""
    tool: str | None = None
    """Its name, where the record says it; else the call's."""
    key: str | None = None
    """What the span's id is made from; the call's id where it is None."""
    fields: dict[str, Any] = field(default_factory=dict)
    """Fields of the tool span that only this source knows."""
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Node:
    """One record of a session."""

    key: str
    """The record's own id; the later of two nodes with one key is a copy and left out."""
    parent: str | None = None
    """Key of the record before. None, or a key that is not in the file: the one before it in the file."""
    begins: bool = False
    """Nothing stands before it: what was said earlier is in no prompt from here on."""
    logical: str | None = None
    """Where a node that begins anew hangs in the tree all the same: after a compaction."""
    session: str = ""
    """Which of the file's sessions it belongs to: a resumed one may begin with records of the one before."""
    group: str = ""
    """Key of the sub-agent that it belongs to; "" is the main agent."""
    identity: str | None = None
    """What an event's span id is made from; the key where it is None."""
    line: int | None = None
    ns: int | None = None
    """When it was written."""
    said: list[Message] = field(default_factory=list)
    """What it adds to the conversation beside answers and tool results."""
    call: str | None = None
    """Key of the answer that it is a part of."""
    parts: list[Part] = field(default_factory=list)
    """The answer's parts that it holds."""
    results: list[Result] = field(default_factory=list)
    event: str | None = None
    """Name of its event span; None where it needs none."""
    fields: dict[str, Any] = field(default_factory=dict)
    """Fields of the call's or event's span; those of an answer's last record count."""
    attributes: dict[str, Any] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)
    unsaid: bool = False
    """An answer that the model is not shown again: a notice of the harness."""


@dataclass(slots=True, kw_only=True)
class Session:
    """What all spans of one session share, and who its agents are."""

    trace_id: str
    base: dict[str, Any] = field(default_factory=dict)
    """Fields of every span."""
    agents: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Fields of the agent spans by group; those of the main agent under ""."""
    detached: bool = False
    """The main agent's records are in another file, and so is the root span."""

    def agent_span_id(self, group: str) -> str:
        return content_id(self.trace_id, "agent", group)[:16] if group else content_id(self.trace_id, ROOT)[:16]

    def tool_span_id(self, key: str) -> str:
        return content_id(self.trace_id, "tool", key)[:16]


@dataclass(slots=True)
class _Answer:
    """One answer of the model, merged from its records."""

    first: int
    records: list[int]
    message: Message
    asked: dict[str, list[Part]]
    """Tool calls without a result yet, by id."""
    prompt: list[Message] = field(default_factory=list)
    results: list[tuple[int, Message]] = field(default_factory=list)


class Spans:
    """The spans of one session, record by record."""

    def __init__(self, sessions: Mapping[str, Session], nodes: Sequence[Node]) -> None:
        self._sessions = sessions
        unique: dict[str, Node] = {}
        for node in nodes:
            unique.setdefault(node.key, node)
        self._nodes = list(unique.values())
        self._tree = Tree(self._nodes)
        self._answers: dict[tuple[str, str], _Answer] = {}
        self._owners: dict[tuple[int, int], tuple[_Answer | None, Part | None]] = {}
        self._asked_at: dict[int, int | None] = {}
        self._used: dict[str, int] = {}
        self._seq = 0
        self._repeated = 0
        self._opened: set[tuple[str, str]] = set()
        self._between = _lifetimes(self._nodes)
        self._merge()

    def __iter__(self) -> Iterator[tuple[Node, list[RawSpan | BadRecord]]]:
        """Each record with its spans; a record without one went into the span of an earlier record."""
        for at, node in enumerate(self._nodes):
            try:
                yield node, [*self._open(node), *self._spans(at, node)]
            except MALFORMED as error:
                reason = f"malformed record: {type(error).__name__}: {error}"
                yield node, [BadRecord(reason=reason, line=node.line)]

    def _merge(self) -> None:
        asked: dict[tuple[str, str], _Answer] = {}
        for at, node in enumerate(self._nodes):
            if node.call is not None:
                key = (node.group, node.call)
                answer = self._answers.get(key)
                if answer is None:
                    answer = self._answers[key] = _Answer(at, [], ("assistant", None, []), {})
                answer.records.append(at)
                answer.message[2].extend(node.parts)
                for part in node.parts:
                    if part.get("type") == "tool_call" and part.get("id") is not None:
                        answer.asked.setdefault(str(part["id"]), []).append(part)
                        self._asked_at[id(part)] = node.ns
                        asked[node.group, str(part["id"])] = answer
            for place, result in enumerate(node.results):
                owner = None if result.call_id is None else asked.get((node.group, result.call_id))
                waiting = owner.asked[str(result.call_id)] if owner is not None else []
                if owner is not None and waiting:
                    owner.results.append((at, ("tool", None, [result.part])))
                    self._owners[at, place] = (owner, waiting.pop(0))
                else:
                    self._owners[at, place] = (None, None)

    def _open(self, node: Node) -> list[RawSpan]:
        """The agent's span, before the first of its records."""
        group, session = node.group, self._sessions[node.session]
        if (node.session, group) in self._opened or (not group and session.detached):
            return []
        self._opened.add((node.session, group))
        found = [] if not group else self._open(Node(key="", session=node.session))
        begun, ended = self._between.get((node.session, group), (None, None))
        given = session.agents.get(group, {})
        parent = session.agent_span_id("") if group else None
        fields: dict[str, Any] = {
            "parent_span_id": parent,
            "name": "session" if not group else "sub-agent",
            "start_ns": begun,
            "end_ns": ended,
            "revised_ns": ended,
            "line": node.line,
            "seq": self._next(),
            **given,
        }
        return [*found, self._span(node, "agent", session.agent_span_id(group), fields, ["lossy"])]

    def _spans(self, at: int, node: Node) -> Iterator[RawSpan]:
        session = self._sessions[node.session]
        parent = session.agent_span_id(node.group)
        branch, forked_ns = self._tree.branch(at)
        attributes = dict(node.attributes) if branch is None else {**node.attributes, "branch": branch}
        flags = ["lossy"] if branch is None else ["lossy", "branch"]
        common: dict[str, Any] = {"parent_span_id": parent, "line": node.line}
        if (agent := session.agents.get(node.group, {}).get("agent_name")) is not None:
            common["agent_name"] = agent
        if node.call is not None:
            answer = self._answers[node.group, node.call]
            if answer.first == at:
                yield self._call(answer, {**common, "attributes": attributes}, flags, forked_ns)
        revised = _latest(node.ns, forked_ns)
        for place, result in enumerate(node.results):
            shared = attributes if node.call is None and node.event is None else {}
            place_in_tree = {} if branch is None else {"branch": branch}
            its = {**common, "revised_ns": revised, "attributes": {**shared, **place_in_tree, **result.attributes}}
            yield self._tool(at, place, node, its, flags)
        if node.event is not None:
            fields = {
                **common,
                "name": node.event,
                "start_ns": node.ns,
                "end_ns": node.ns,
                "revised_ns": revised,
                "attributes": attributes,
                "input": node.said or None,
                "seq": self._next(),
                **node.fields,
            }
            span_id = content_id(session.trace_id, "event", node.identity or node.key)[:16]
            yield self._span(node, "event", span_id, fields, [*flags[1:], *node.flags])

    def _call(self, answer: _Answer, common: dict[str, Any], flags: list[str], forked_ns: int | None) -> RawSpan:
        records = [self._nodes[at] for at in answer.records]
        first = records[0]
        answer.prompt, since = self._prompt(answer)
        times = [record.ns for record in records if record.ns is not None]
        written = min(times, default=None)
        attributes = dict(common.pop("attributes"))
        fields: dict[str, Any] = {}
        for record in records:
            fields |= {name: value for name, value in record.fields.items() if value is not None}
            attributes |= record.attributes
        own = [flag for record in records for flag in record.flags]
        # An answer begins after what it answers was written, and before it was written itself.
        begun = _latest(since, fields.pop("start_ns", None))
        defaults = {
            "name": "chat",
            "status": "ok",
            "start_ns": begun if begun is not None and written is not None and begun <= written else written,
            "end_ns": max(times, default=None),
            "revised_ns": _latest(max(times, default=None), forked_ns),
            "input": answer.prompt or None,
            "output": [answer.message] if answer.message[2] else [],
            "attributes": attributes,
            "seq": self._next(),
        }
        span_id = content_id(self._sessions[first.session].trace_id, "call", first.call)[:16]
        return self._span(first, "llm", span_id, {**common, **defaults, **fields}, [*flags, *own])

    def _prompt(self, answer: _Answer) -> tuple[list[Message], int | None]:
        """What the model read, and when the last of it was written."""
        nodes, collected = self._nodes, []
        before: _Answer | None = None
        for at in self._tree.before(answer.first):
            node = nodes[at]
            if before is not None and at < before.first:
                break
            if node.call is not None:
                found = self._answers[node.group, node.call]
                if before is not None and found is not before:
                    break
                before = found
                if at == before.first:
                    break
            elif node.said or node.results:
                collected.append(at)
        said: list[Message] = []
        times: list[int] = []
        if self._repeated > REPEATED:
            raise ValueError(f"the prompts of the session's calls repeat more than {REPEATED:,} messages")
        if before is not None:
            times = [nodes[at].ns or 0 for at in before.records if at < answer.first]
            said = list(before.prompt)
            if not nodes[before.first].unsaid and before.message[2]:
                said.append(before.message)
            for at, message in before.results:
                if at < answer.first:
                    said.append(message)
                    times.append(nodes[at].ns or 0)
        for at in reversed(collected):
            node = nodes[at]
            for place, result in enumerate(node.results):
                owner = self._owners[at, place][0]
                if owner is not None and owner is not before:
                    said.append(("tool", None, [result.part]))
            said.extend(node.said)
            times.append(node.ns or 0)
        self._repeated += len(said)
        return said, max(times, default=0) or None

    def _tool(self, at: int, place: int, node: Node, common: dict[str, Any], flags: list[str]) -> RawSpan:
        result = node.results[place]
        asked = self._owners[at, place][1]
        key = result.key or result.call_id or f"{node.key}/{place}"
        again = self._used.get(key, 0)
        self._used[key] = again + 1
        name = (asked or {}).get("name") or result.tool
        failed = result.part.get("is_error")
        started = self._asked_at.get(id(asked)) if asked is not None else None
        fields: dict[str, Any] = {
            **common,
            "name": None if name is None else str(name),
            "status": "error" if failed else "ok" if failed is False else "unset",
            "start_ns": started if started is not None and (node.ns is None or started <= node.ns) else node.ns,
            "end_ns": node.ns,
            "tool_name": None if name is None else str(name),
            "tool_call_id": result.call_id,
            "tool_args": unwrap(asked.get("arguments")) if asked is not None else None,
            "tool_result": result.part.get("response"),
            "seq": self._next(),
            **result.fields,
        }
        own = [] if asked is not None else ["unmatched"]
        span_id = self._sessions[node.session].tool_span_id(f"{key}/{again}" if again else key)
        return self._span(node, "tool", span_id, fields, [*flags[1:], *own, *node.flags])

    def _span(self, node: Node, kind: str, span_id: str, fields: Mapping[str, Any], flags: Sequence[str]) -> RawSpan:
        session = self._sessions[node.session]
        merged = {**session.base, **fields}
        flags = list(dict.fromkeys([*flags, *merged.pop("flags", ())]))
        return RawSpan(trace_id=session.trace_id, span_id=span_id, kind=kind, flags=flags, **merged)

    def _next(self) -> int:
        self._seq += 1
        return self._seq - 1


def _lifetimes(nodes: Sequence[Node]) -> dict[tuple[str, str], tuple[int, int]]:
    """When the first and the last record of each agent were written, by session and group; "" is the whole session."""
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for node in nodes:
        times = [time for time in (node.ns, node.fields.get("start_ns")) if time is not None]
        for key in {(node.session, ""), (node.session, node.group)} if times else ():
            first, last = found.get(key, (times[0], times[0]))
            found[key] = min(first, *times), max(last, *times)
    return found


def _latest(*times: int | None) -> int | None:
    return max((time for time in times if time is not None), default=None)


def plain(content: Any) -> Any:
    """A list of text blocks as their text, everything else as it is."""
    if isinstance(content, list) and all(isinstance(i, Mapping) and isinstance(i.get("text"), str) for i in content):
        return "\n".join(item["text"] for item in content)
    return content


def text(role: str, content: str) -> Message:
    return role, None, [{"type": "text", "content": content}]
