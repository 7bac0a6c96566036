"""The events of one OpenHands V0 run as spans, in the order of the events."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tracemill.chat import as_text
from tracemill.ids import content_id
from tracemill.ingest.attributes import as_float, as_int
from tracemill.ingest.content.conversation import tool_calls, tool_span
from tracemill.ingest.documents import Record, excerpt, guarded
from tracemill.ingest.providers.openai import chat_answer
from tracemill.ingest.reader import BadRecord, Item, Message, RawSpan
from tracemill.ingest.runs import listed, local_ns, mapped, said

_SILENT = frozenset(("null", "agent_state_changed", "change_agent_state", "recall", "finish", "system", "message"))
"""What no model is told, or is told in another way."""
_PARAMS = ("temperature", "top_p", "top_k", "max_output_tokens", "reasoning_effort", "seed")
_TOTALS = ("prompt_tokens", "completion_tokens", "cache_read_tokens", "cache_write_tokens")


@dataclass(slots=True, kw_only=True)
class _Agent:
    """One agent at work: the run's own, or a delegate."""

    span_id: str
    name: str
    said: list[Message] = field(default_factory=list)
    calls: dict[str, Any] = field(default_factory=dict)
    """The tool calls in what it said, by their ids."""


class Run:
    """Walks over the events; calls, tools and delegates become spans below `root_id`."""

    def __init__(
        self, *, trace_id: str, record: Record, run: Mapping[str, Any], events: Sequence[Mapping[str, Any]]
    ) -> None:
        self.trace_id = trace_id
        self.root_id = content_id(trace_id, "root")[:16]
        self.events = events
        metadata, metrics = mapped(run.get("metadata")), mapped(run.get("metrics"))
        system = next((mapped(e.get("args")) for e in events if e.get("action") == "system"), {})
        agent = str(metadata.get("agent_class") or system.get("agent_class") or "openhands")
        version = system.get("openhands_version")
        self.base: dict[str, Any] = {
            "dialect": "openhands",
            "line": record.line,
            "agent_name": agent,
            "agent_version": None if version is None else str(version),
        }
        self._llm = mapped(metadata.get("llm_config"))
        self._latency = {
            str(mapped(item).get("response_id")): as_float(mapped(item).get("latency"))
            for item in listed(metrics.get("response_latencies"))
        }
        self._costs = listed(metrics.get("costs"))
        self._priced = bool(as_float(metrics.get("accumulated_cost")))
        self._tools: list[Any] | None = None
        self._agents = [_Agent(span_id=self.root_id, name=agent)]
        self._asked: dict[Any, tuple[Mapping[str, Any], Mapping[str, Any]]] = {}
        self._answered: set[str] = set()
        self._totals: dict[str, float] = {}

    def items(self) -> list[Item]:
        """The spans; an event that cannot be used costs only itself."""
        found: list[Item] = []
        for at, event in enumerate(self.events):
            spans = self._action(at, event) if event.get("action") is not None else self._observation(at, event)
            found.extend(guarded(spans, partial(self._refused, event)))
        calls = [span for span in found if isinstance(span, RawSpan) and span.kind == "llm"]
        if self._costs and len(self._costs) == len(calls):
            for span, cost in zip(calls, self._costs, strict=True):
                span.cost_usd = as_float(cost.get("cost") if isinstance(cost, Mapping) else cost)
        return found

    def _refused(self, event: Mapping[str, Any], reason: str) -> BadRecord:
        return BadRecord(reason=reason, line=self.base["line"], excerpt=excerpt(as_text(dict(event))))

    @property
    def _agent(self) -> _Agent:
        return self._agents[-1]

    def _span(self, at: int, event: Mapping[str, Any], kind: str, name: str | None, key: str | None = None) -> RawSpan:
        end, flags = local_ns(event.get("timestamp"))
        return RawSpan(
            trace_id=self.trace_id,
            span_id=content_id(self.trace_id, key or kind, self._id(at, event))[:16],
            parent_span_id=self._agent.span_id,
            seq=at,
            kind=kind,
            name=name,
            start_ns=end,
            end_ns=end,
            flags=flags,
            **{**self.base, "agent_name": self._agent.name},
        )

    def _id(self, at: int, event: Mapping[str, Any]) -> Any:
        return at if event.get("id") is None else event["id"]

    def _action(self, at: int, event: Mapping[str, Any]) -> Iterator[RawSpan]:
        action, source = str(event["action"]), event.get("source")
        args = mapped(event["args"]) if "args" in event else event
        self._asked[self._id(at, event)] = (event, args)
        talk = self._agent.said
        if action == "system":
            talk.append(said("system", args.get("content")))
            self._tools = args.get("tools") if isinstance(args.get("tools"), list) else None
        elif action == "message" and source != "agent" and (source is not None or not talk):
            talk.append(said("user", args.get("content")))
        elif source in (None, "agent") and action not in ("recall", "null", "change_agent_state", "condensation"):
            yield from self._call(at, event, action, args)
        elif action not in _SILENT:
            span = self._span(at, event, "event", action)
            span.attributes = {"args": dict(args)} if args is not event else {"event": dict(event)}
            yield span
        if action == "delegate":
            span = self._span(at, event, "agent", str(args.get("agent") or "delegate"), "delegate")
            span.agent_name = span.name
            self._agents.append(_Agent(span_id=span.span_id, name=str(span.name)))
            self._agent.said.append(said("user", args.get("inputs")))
            yield span

    def _call(self, at: int, event: Mapping[str, Any], action: str, args: Mapping[str, Any]) -> Iterator[RawSpan]:
        """The call that asked for this action, once; its completion is repeated for each action that it asked for."""
        metadata = mapped(event.get("tool_call_metadata"))
        answer = metadata.get("model_response")
        answer = answer if isinstance(answer, dict) else {}
        key = str(answer.get("id")) if answer.get("id") is not None else None
        if key is not None and key in self._answered:
            return
        span = self._span(at, event, "llm", "chat")
        span.flags = ["lossy", *span.flags]
        span.model_requested = None if self._llm.get("model") is None else str(self._llm["model"])
        span.params = {name: self._llm[name] for name in _PARAMS if self._llm.get(name) is not None} or None
        span.input, span.tools = list(self._agent.said), self._tools
        if answer:
            chat_answer(span, answer)
        if not span.output:
            span.output = [_written(action, args)]
        self._measure(span, event)
        latency = self._latency.get(str(key))
        if latency is not None and span.end_ns is not None:
            span.start_ns = span.end_ns - int(latency * 1e9)
        self._agent.said.extend(span.output)
        self._agent.calls |= tool_calls([part for _, _, parts in span.output for part in parts])
        if key is not None:
            self._answered.add(key)
        yield span

    def _measure(self, span: RawSpan, event: Mapping[str, Any]) -> None:
        """Cost, and tokens where the completion does not tell them, as the growth of the running totals."""
        metrics = mapped(event.get("llm_metrics"))
        if not metrics:
            return
        now = {name: as_float(mapped(metrics.get("accumulated_token_usage")).get(name)) for name in _TOTALS}
        now["cost"] = as_float(metrics.get("accumulated_cost"))
        grown: dict[str, float] = {}
        for name, total in now.items():
            if total is not None:
                grown[name] = total - self._totals.get(name, 0.0)
                self._totals[name] = total
        if any(value < 0 for value in grown.values()):  # the totals began anew
            grown = {name: total for name, total in now.items() if total is not None}
        if self._priced or now["cost"]:
            span.cost_usd = grown.get("cost")
        if span.tokens_in is None and grown.get("prompt_tokens"):
            span.tokens_in, span.tokens_out, span.tokens_cache_read, span.tokens_cache_write = (
                as_int(grown.get(name)) for name in _TOTALS
            )

    def _observation(self, at: int, event: Mapping[str, Any]) -> Iterator[RawSpan]:
        kind = str(event.get("observation"))
        if kind == "delegate" and len(self._agents) > 1:
            self._agents.pop()
        if kind in _SILENT:
            if kind == "recall":
                yield from self._recalled(at, event)
            return
        content = event.get("content")
        metadata = mapped(event.get("tool_call_metadata"))
        cause = event.get("cause") if event.get("cause") is not None else self._before(at)
        asked, args = self._asked.get(cause, ({}, {}))
        call_id = metadata.get("tool_call_id") or mapped(asked.get("tool_call_metadata")).get("tool_call_id")
        if not asked and call_id is None:
            span = self._span(at, event, "event", kind)
            span.status = "error" if kind == "error" else "unset"
            span.error_message = str(content) if kind == "error" else None
            span.attributes = {"content": content, "extras": event.get("extras")}
            self._agent.said.append(said("user", content))
            yield span
            return
        part = {"type": "tool_call_response", "id": call_id, "response": content}
        own = self._span(at, event, "tool", kind)
        started, _ = local_ns(asked.get("timestamp"))
        base = {**self.base, "agent_name": self._agent.name, "flags": own.flags, "end_ns": own.end_ns}
        base["start_ns"] = own.start_ns if started is None else started
        name = metadata.get("function_name") or asked.get("action") or kind
        span = tool_span(
            part, str(name), self._agent.calls, trace_id=self.trace_id, key=str(self._id(at, event)),
            parent=self._agent.span_id, seq=at, base=base,
        )  # fmt: skip
        if span.tool_args is None:
            span.tool_args = _arguments(args)
        _outcome(span, event, kind)
        span.attributes = {"observation": kind, "extras": event["extras"]} if event.get("extras") else {}
        self._agent.said.append(("tool", None, [part]) if call_id is not None else said("user", content))
        yield span

    def _before(self, at: int) -> Any:
        """The action that an old observation, which names no cause, follows."""
        previous = self.events[at - 1] if at else {}
        dated = previous.get("timestamp") is not None or previous.get("id") is not None
        return None if dated or previous.get("action") is None else self._id(at - 1, previous)

    def _recalled(self, at: int, event: Mapping[str, Any]) -> Iterator[RawSpan]:
        """What was looked up about the workspace or in the knowledge base, and put into the prompt."""
        span = self._span(at, event, "retriever", "recall")
        span.tool_result = event.get("extras")
        yield span


def _written(action: str, args: Mapping[str, Any]) -> Message:
    """What the model wrote, rebuilt from an action that was logged without its completion."""
    if action == "message":
        return said("assistant", args.get("content"))
    thought = args.get("thought")
    parts = said("assistant", thought)[2] if thought else []
    if action == "finish":
        return "assistant", None, parts or said("assistant", args.get("final_thought"))[2]
    return "assistant", None, [*parts, {"type": "tool_call", "id": None, "name": action, "arguments": _arguments(args)}]


def _arguments(args: Mapping[str, Any]) -> dict[str, Any]:
    """What an action was told to do, without what the framework adds to it."""
    return {name: value for name, value in args.items() if name not in _FRAMEWORK and value is not None}


_FRAMEWORK = frozenset(
    (
        "thought", "action", "action_risk", "is_confirmed", "confirmation_state", "keep_prompt", "kernel_init_code",
        "blocking", "hidden", "is_static", "is_input", "impl_source", "id", "timestamp", "source", "message",
    )
)  # fmt: skip


def _outcome(span: RawSpan, event: Mapping[str, Any], kind: str) -> None:
    extras = mapped(event.get("extras"))
    code = as_int(mapped(extras.get("metadata")).get("exit_code"))
    code = as_int(event.get("exit_code", extras.get("exit_code"))) if code is None else code
    if kind == "error" or (code is not None and code != 0) or event.get("success") is False:
        span.status = "error"
        span.error_message = str(event.get("content"))
    elif code == 0 or event.get("success") is True:
        span.status = "ok"
