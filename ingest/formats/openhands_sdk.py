"""OpenHands V1 (software-agent-sdk): the typed events of one conversation, as a list, as JSON lines or as `{items}`.

Actions with one `llm_response_id` are one answer of the model; an observation names its action. A condensation takes
events out of the prompt and puts a summary in their place.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from tracemill.chat import Part, as_text
from tracemill.ids import content_id
from tracemill.ingest.attributes import as_int, written
from tracemill.ingest.content.messages import canonical
from tracemill.ingest.documents import Record, elements, excerpt, guarded, records, values
from tracemill.ingest.reader import About, BadRecord, Done, Head, Item, Message, RawSpan, Stream
from tracemill.ingest.runs import listed, local_ns, mapped, run_of, said

_KINDS = frozenset(
    ("MessageEvent", "ActionEvent", "ObservationEvent", "AgentErrorEvent", "UserRejectObservation", "Condensation")
)
_RESULTS = ("ObservationEvent", "AgentErrorEvent", "UserRejectObservation")
_Event = Mapping[str, Any]


class OpenHandsSdk:
    """Reader of OpenHands V1 conversations."""

    name = "openhands-sdk"
    about = About(
        title="OpenHands V1 conversations",
        files="Events with `kind` MessageEvent, ActionEvent, ObservationEvent, …: a list, JSON lines or `{items: […]}`",
        maps="One trajectory a file; actions of one answer are one call, observations tool spans, condensations "
        "change the prompt; token ids from token events, usage from state events",
        lacks="Times have no zone (taken as UTC, flag `clock`); no tokens or cost where no state event tells the "
        "usage; a folder with a file for each event comes out as a trajectory for each",
    )

    def sniff(self, head: Head) -> str | None:
        for record in head.records:
            items = record.get("items") if isinstance(record, dict) else None
            for event in items[:50] if isinstance(items, list) else [record]:
                if isinstance(event, dict) and str(event.get("kind")) in _KINDS and "source_type" not in event:
                    return f"events of kind {event['kind']}"
        return None

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        events: list[_Event] = []
        first: Record | None = None
        for record in _events(stream, head):
            event = record if isinstance(record, BadRecord) else _checked(record)
            if isinstance(event, BadRecord):
                yield event
                yield Done()
            else:
                first = first or (record if isinstance(record, Record) else None)
                events.append(event)
        if first is not None:
            yield from guarded(_Conversation(events, first).items(), first.bad)
            yield Done(count=len(events))


def _events(stream: Stream, head: Head) -> Iterator[Record | BadRecord]:
    for record in records(stream, head):
        found = record if isinstance(record, BadRecord) else run_of(record, "event")
        if isinstance(found, dict) and "kind" not in found and isinstance(found.get("items"), list):
            for value in values(record):  # type: ignore[arg-type]
                if isinstance(value, BadRecord):
                    yield value
                elif value.key == "items":
                    yield from elements(value)
        else:
            yield record


def _checked(record: Record) -> _Event | BadRecord:
    event = run_of(record, "event")
    if isinstance(event, BadRecord):
        return event
    if not isinstance(event.get("kind"), str) or event.get("id") is None:
        return record.bad("no OpenHands event: kind or id is missing")
    return event


class _Conversation:
    """The events of one conversation while they become spans."""

    def __init__(self, events: Sequence[_Event], first: Record) -> None:
        self.events = list({str(event["id"]): event for event in events}.values())
        self.trace_id = content_id("openhands-sdk", written(dict(self.events[0])))
        self.root_id = content_id(self.trace_id, "root")[:16]
        self.base: dict[str, Any] = {"dialect": "openhands-sdk", "line": first.line, "agent_name": "openhands"}
        self._view: list[tuple[str, Message]] = []
        self._tools: list[Any] | None = None
        self._first = first
        self._usage = _usages(self.events)
        self._actions = {str(e["id"]): e for e in self.events if e["kind"] == "ActionEvent"}
        self._answers: dict[str, list[_Event]] = {}
        for action in self._actions.values():
            self._answers.setdefault(str(action.get("llm_response_id")), []).append(action)
        self._by_call = {str(e["tool_call_id"]): e for e in self._actions.values() if e.get("tool_call_id") is not None}
        self._answered: set[str] = set()

    def items(self) -> Iterator[Item]:
        """The conversation's spans; an event that cannot be used costs only itself."""
        found: list[Item] = []
        call: RawSpan | None = None
        for at, event in enumerate(self.events):
            if event["kind"] == "TokenEvent":
                _token_ids(event, call)
                continue
            for item in guarded(self._event(at, event), partial(_refused, event, self._first)):
                found.append(item)
                call = item if isinstance(item, RawSpan) and item.kind == "llm" else call
        yield self._root()
        yield from found

    def _event(self, at: int, event: _Event) -> Iterator[Item]:
        kind = str(event["kind"])
        if kind == "SystemPromptEvent":
            self._system(event)
        elif kind == "MessageEvent":
            yield from self._message(at, event)
        elif kind == "ActionEvent":
            yield from self._action(at, event)
        elif kind in _RESULTS:
            yield self._result(at, event)
        elif kind == "Condensation":
            yield self._condensation(at, event)
        elif kind != "ConversationStateUpdateEvent":
            span = self._span(at, event, "event", kind)
            span.attributes = {name: value for name, value in event.items() if name not in ("id", "timestamp")}
            yield span

    def _root(self) -> RawSpan:
        times = [local_ns(event.get("timestamp")) for event in self.events]
        known = [ns for ns, _ in times if ns is not None]
        return RawSpan(
            trace_id=self.trace_id,
            span_id=self.root_id,
            kind="agent",
            name="conversation",
            seq=-1,
            start_ns=min(known, default=None),
            end_ns=max(known, default=None),
            flags=["clock"] if any(flags for _, flags in times) else [],
            **self.base,
        )

    def _span(self, at: int, event: _Event, kind: str, name: str | None) -> RawSpan:
        end, flags = local_ns(event.get("timestamp"))
        return RawSpan(
            trace_id=self.trace_id,
            span_id=content_id(self.trace_id, kind, str(event["id"]))[:16],
            parent_span_id=self.root_id,
            seq=at,
            kind=kind,
            name=name,
            start_ns=end,
            end_ns=end,
            flags=flags,
            **self.base,
        )

    def _system(self, event: _Event) -> None:
        texts = [mapped(event.get(name)).get("text") for name in ("system_prompt", "dynamic_context")]
        parts: list[Part] = [{"type": "text", "content": text} for text in texts if isinstance(text, str)]
        self._view.append((str(event["id"]), ("system", None, parts)))
        self._tools = event.get("tools") if isinstance(event.get("tools"), list) else None

    def _message(self, at: int, event: _Event) -> Iterator[RawSpan]:
        given = dict(mapped(event.get("llm_message")))
        extended = event.get("extended_content")
        if isinstance(extended, list) and isinstance(given.get("content"), list):
            given["content"] = [*given["content"], *extended]
        mine = event.get("source") == "agent"
        (message,) = canonical(given, "assistant" if mine else "user")[:1]
        if mine:
            yield self._call(at, event, [("assistant", None, message[2])])
        self._view.append((str(event["id"]), message))

    def _action(self, at: int, event: _Event) -> Iterator[RawSpan]:
        """The answer that this action is part of, once."""
        response = event.get("llm_response_id")
        if response is not None and str(response) in self._answered:
            return
        group = [event]
        if response is not None:
            self._answered.add(str(response))
            group = self._answers[str(response)]
        parts: list[Part] = []
        for action in group:
            blocks = listed(action.get("thinking_blocks"))
            thoughts = [mapped(block).get("thinking") for block in blocks] or [action.get("reasoning_content")]
            parts.extend({"type": "reasoning", "content": t} for t in thoughts if isinstance(t, str) and t)
            for thought in listed(action.get("thought")):
                text = thought if isinstance(thought, str) else mapped(thought).get("text")
                parts.extend([{"type": "text", "content": text}] if text else [])
        parts.extend(_tool_call(action) for action in group)
        message: Message = ("assistant", None, parts)
        yield self._call(at, event, [message])
        self._view.append((str(event["id"]), message))

    def _call(self, at: int, event: _Event, output: list[Message]) -> RawSpan:
        span = self._span(at, event, "llm", "chat")
        span.input, span.output, span.tools = [message for _, message in self._view], output, self._tools
        self._measure(span, event)
        return span

    def _measure(self, span: RawSpan, event: _Event) -> None:
        response = event.get("llm_response_id")
        if response is None:
            return
        span.response_id = str(response)
        span.attributes = {"response_id": span.response_id}
        usage = self._usage.get(span.response_id)
        if usage is not None:
            span.model = None if usage.get("model") is None else str(usage["model"])
            span.tokens_in, span.tokens_out = as_int(usage.get("prompt_tokens")), as_int(usage.get("completion_tokens"))
            span.tokens_cache_read = as_int(usage.get("cache_read_tokens"))
            span.tokens_cache_write = as_int(usage.get("cache_write_tokens"))
            span.tokens_reasoning = as_int(usage.get("reasoning_tokens"))

    def _result(self, at: int, event: _Event) -> RawSpan:
        action = self._actions.get(str(event.get("action_id"))) or self._by_call.get(str(event.get("tool_call_id")))
        content, failed = _observed(event)
        if action is None:
            span = self._span(at, event, "event", str(event["kind"]))
            span.attributes = {"content": content}
            self._view.append((str(event["id"]), said("user", content)))
            return span
        call = _tool_call(action)
        started, _ = local_ns(action.get("timestamp"))
        span = self._span(at, event, "tool", call["name"])
        span.start_ns = span.start_ns if started is None else started
        span.tool_name, span.tool_call_id, span.tool_args = call["name"], call["id"], call["arguments"]
        span.tool_result = content
        span.status = "unset" if failed is None else "error" if failed else "ok"
        if failed:
            span.error_message = content
            span.error_type = None if event["kind"] == "ObservationEvent" else str(event["kind"])
        part: Part = {"type": "tool_call_response", "id": call["id"], "response": content}
        self._view.append((str(event["id"]), ("tool", None, [part])))
        return span

    def _condensation(self, at: int, event: _Event) -> RawSpan:
        summary = event.get("summary")
        span = self._span(at, event, "llm" if summary else "event", "condense")
        span.attributes = {"forgotten_event_ids": event.get("forgotten_event_ids")}
        if summary:  # a call whose prompt is not logged
            span.output = [said("assistant", summary)]
            span.flags = [*span.flags, "lossy"]
            self._measure(span, event)
        gone = {str(name) for name in listed(event.get("forgotten_event_ids"))}
        self._view = [(name, message) for name, message in self._view if name not in gone]
        if summary:
            place = as_int(event.get("summary_offset"))
            self._view.insert(len(self._view) if place is None else place, (str(event["id"]), said("user", summary)))
        return span


def _tool_call(action: _Event) -> Part:
    call = mapped(action.get("tool_call"))
    own = {name: value for name, value in mapped(action.get("action")).items() if name != "kind"}
    name = action.get("tool_name") or call.get("name")
    return {
        "type": "tool_call",
        "id": str(action.get("tool_call_id") or call.get("id") or action["id"]),
        "name": None if name is None else str(name),
        "arguments": call["arguments"] if call.get("arguments") is not None else own,
    }


def _observed(event: _Event) -> tuple[str, bool | None]:
    """What the model was told, and whether it was a failure; None where the log does not say."""
    if event["kind"] == "AgentErrorEvent":
        return str(event.get("error")), True
    if event["kind"] == "UserRejectObservation":
        return str(event.get("rejection_reason")), True
    seen = mapped(event.get("observation"))
    content = seen.get("content", seen.get("output"))
    if isinstance(content, list):
        content = "".join(str(mapped(item).get("text", "")) for item in content)
    code = as_int(mapped(seen.get("metadata")).get("exit_code", seen.get("exit_code")))
    failed = seen.get("is_error", seen.get("error"))
    if code is not None and code > 0:
        return str(content), True
    return ("" if content is None else str(content)), None if failed is None else bool(failed)


def _refused(event: _Event, first: Record, reason: str) -> BadRecord:
    return BadRecord(reason=reason, line=first.line, excerpt=excerpt(as_text(dict(event))))


def _token_ids(event: _Event, call: RawSpan | None) -> None:
    """Token ids come after the answer that they are of, the last one."""
    prompt, answer = event.get("prompt_token_ids"), event.get("response_token_ids")
    if call is not None and call.output_token_ids is None and isinstance(prompt, list) and isinstance(answer, list):
        call.input_token_ids, call.output_token_ids = prompt, answer


def _usages(events: Sequence[_Event]) -> dict[str, Mapping[str, Any]]:
    """Token usage by response id, from the statistics in state events; told again and again, the last wins."""
    found: dict[str, Mapping[str, Any]] = {}
    for event in events:
        if event["kind"] != "ConversationStateUpdateEvent":
            continue
        value = mapped(event.get("value"))
        stats = mapped(value.get("stats")) or value
        for metrics in mapped(stats.get("usage_to_metrics")).values():
            for usage in listed(mapped(metrics).get("token_usages")):
                if mapped(usage).get("response_id"):
                    found[str(usage["response_id"])] = usage
    return found
