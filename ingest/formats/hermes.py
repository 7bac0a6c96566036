"""Sessions of the Hermes agent: `{session, messages}`, or only the rows of its `messages` table.

Rows that were taken back (`active` 0) are kept as a branch; the conversation goes on where it was before them.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tracemill.chat import Part
from tracemill.ids import content_id
from tracemill.ingest.attributes import as_int, as_name, as_ns
from tracemill.ingest.content.messages import canonical
from tracemill.ingest.documents import Record, unwrap
from tracemill.ingest.reader import About, BadRecord, Done, Head, Item, Stream
from tracemill.ingest.sessions.files import each, read
from tracemill.ingest.sessions.session import Node, Result, Session, Spans, plain, text

_PACKED = "\x00json:"
_MAPPED = frozenset(
    ("id", "session_id", "role", "content", "reasoning", "reasoning_content", "tool_calls", "tool_call_id")
) | {"tool_name", "finish_reason", "timestamp", "active"}


class Hermes:
    """Reader of Hermes sessions."""

    name = "hermes"
    about = About(
        title="Hermes agent sessions",
        files="Objects of `session` and `messages`, or message rows with `session_id`, `role`, `observed` and `active`",
        maps="One call an assistant row; tools; taken-back rows as a branch; the system prompt where it is kept",
        lacks="No tool definitions, tokens or cost; the model only where the session is kept",
    )

    def sniff(self, head: Head) -> str | None:
        for record in head.records:
            if not isinstance(record, dict):
                continue
            messages = record.get("messages")
            if _is_row(record):
                return "Hermes rows with session_id, role and active"
            if isinstance(record.get("session"), dict) and isinstance(messages, list) and any(map(_is_row, messages)):
                return "a Hermes session with messages"
        return None

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        yield from read(stream, head, _Reading())


def _is_row(value: Any) -> bool:
    return isinstance(value, dict) and all(name in value for name in ("session_id", "role", "observed", "active"))


class _Reading:
    def __init__(self) -> None:
        self._rows: dict[str, list[tuple[dict[str, Any], int]]] = {}
        self._sessions: dict[str, dict[str, Any]] = {}

    def add(self, value: dict[str, Any], record: Record) -> Iterable[BadRecord]:
        if isinstance(value.get("messages"), list) and isinstance(value.get("session"), dict):
            self._sessions[str(value["session"].get("id"))] = value["session"]
            return each(value["messages"], record, self._row)
        self._row(value, record.line)
        return ()

    def _row(self, row: Any, line: int) -> None:
        if not isinstance(row, dict) or not isinstance(row.get("role"), str) or row.get("session_id") is None:
            raise ValueError("no Hermes row: role or session_id is missing")
        calls = unwrap(row.get("tool_calls"))
        if isinstance(calls, list) and not all(isinstance(call, Mapping) for call in calls):
            raise ValueError("no Hermes row: a tool call is not a JSON object")
        self._rows.setdefault(str(row["session_id"]), []).append((row, line))

    def sessions(self) -> Iterable[Spans]:
        for name, rows in self._rows.items():
            rows.sort(key=lambda found: as_int(found[0].get("id")) or 0)
            known = self._sessions.get(name, {})
            base = {"dialect": "hermes", "session_id": name, "agent_name": "hermes"}
            rest = {k: v for k, v in known.items() if k not in ("id", "system_prompt")}
            session = Session(trace_id=content_id("hermes", name), base=base, agents={"": {"attributes": rest}})
            yield Spans({"": session}, _nodes(rows, known))


def _nodes(rows: list[tuple[dict[str, Any], int]], session: Mapping[str, Any]) -> list[Node]:
    nodes: list[Node] = []
    prompt = as_name(session.get("system_prompt"))
    if prompt:
        begun = as_ns(session.get("started_at"))
        nodes.append(Node(key="session", event="session", ns=begun, said=[text("system", prompt)]))
    kept = nodes[-1].key if nodes else None
    results = _results(row for row, _ in rows)
    for row, line in rows:
        node = Node(key=f"{row.get('id')}", line=line, ns=as_ns(row.get("timestamp")))
        node.attributes = {k: v for k, v in row.items() if k not in _MAPPED}
        active = row.get("active") not in (0, False)
        node.parent = kept if active else None
        if row["role"] == "assistant":
            _answer(node, row, as_name(session.get("model")), next(results))
        elif row["role"] == "tool":
            call_id = as_name(row.get("tool_call_id"))
            part: Part = {"type": "tool_call_response", "id": call_id, "response": plain(_content(row))}
            node.results = [Result(call_id=call_id, part=part, tool=as_name(row.get("tool_name")))]
        else:
            node.event = row["role"]
            node.said = canonical({"role": row["role"], "content": _content(row)})
        kept = node.key if active else kept
        nodes.append(node)
    return nodes


def _content(row: Mapping[str, Any]) -> Any:
    """Content as it was said; lists are packed into text."""
    content = row.get("content")
    if isinstance(content, str) and content.startswith(_PACKED):
        return unwrap(content.removeprefix(_PACKED))
    return "" if content is None else content


def _results(rows: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Iterator[str]]]:
    """For each answer, the ids of the results between it and the next answer, by their tools."""
    found: list[dict[str, list[str]]] = []
    for row in rows:
        if row.get("role") == "assistant":
            found.append({})
        elif row.get("role") == "tool" and found and (call_id := as_name(row.get("tool_call_id"))):
            found[-1].setdefault(str(row.get("tool_name")), []).append(call_id)
    for by_tool in found:
        yield {tool: iter(ids) for tool, ids in by_tool.items()}


def _answer(node: Node, row: Mapping[str, Any], model: str | None, results: Mapping[str, Iterator[str]]) -> None:
    thought = as_name(str(row.get("reasoning") or row.get("reasoning_content") or "").strip())
    if thought:
        node.parts.append({"type": "reasoning", "content": thought})
    if content := _content(row):
        node.parts += [part for _, _, parts in canonical({"role": "assistant", "content": content}) for part in parts]
    calls = unwrap(row.get("tool_calls"))
    taken: set[str | None] = set()
    for call in calls if isinstance(calls, list) else []:
        function = call["function"] if isinstance(call.get("function"), Mapping) else call
        name, call_id = function.get("name"), as_name(call.get("id"))
        # A call without an id has that of the next result of its tool.
        call_id = call_id or next((one for one in results.get(str(name), ()) if one not in taken), None)
        taken.add(call_id)
        asked = {"name": name, "arguments": function.get("arguments")}
        node.parts.append({"type": "tool_call", "id": call_id, **asked})
    stop = as_name(row.get("finish_reason"))
    node.call = node.key
    node.fields = {"model": model, "finish_reasons": None if stop is None else [stop]}
