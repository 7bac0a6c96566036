"""ATIF trajectories as spans: what one document of the Agent Trajectory Interchange Format says, step by step.

A document is a linear history: the prompt of an agent step is every step before it, which is a rebuilt prompt
(`lossy`). Documents that tracemill itself exported carry, in `extra.tracemill`, what ATIF has no place for: which spans
there were, their columns beyond ATIF's, and messages that ATIF cannot spell. With it the spans come back as they were;
other readers see a plain ATIF document. Sub-agents inside a document are sub-trees of its trace; those in files of
their own are traces of their own, and the tool span that called them keeps the reference.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import count
from typing import Any

from tracemill.ids import content_id
from tracemill.ingest.attributes import as_float, as_int, as_name, as_ns, identity
from tracemill.ingest.carried import restored
from tracemill.ingest.documents import guarded, shown
from tracemill.ingest.formats.atif.words import (
    VERSION,
    answer_of,
    bare,
    calls_by_id,
    foreign,
    heard_after,
    message_of,
    native_call,
    native_tool,
    ours,
    results_of,
    scores_of,
    session_of,
)
from tracemill.ingest.reader import BadRecord, Item, Message, RawSpan

_TASKS = ("task_key", "task_id", "task_name", "instance_id")


def items(document: Mapping[str, Any], line: int | None) -> Iterator[Item]:
    """Everything in one document: its spans, those of embedded sub-agents, its scores."""
    own = ours(document)
    trace_id = str(own["trace_id"]) if own.get("trace_id") else _identity(document)
    yield from _Walk(document, trace_id, line=line).items()


class _Walk:
    """One document of a trace: the whole, or an embedded sub-agent."""

    def __init__(
        self,
        document: Mapping[str, Any],
        trace_id: str,
        *,
        line: int | None,
        path: str = "",
        parent: str | None = None,
        order: Iterator[int] | None = None,
    ) -> None:
        agent = document.get("agent")
        self.document, self.trace_id, self.path, self.parent, self.line = document, trace_id, path, parent, line
        self.agent: Mapping[str, Any] = agent if isinstance(agent, Mapping) else {}
        self.exact = ours(document).get("version") == VERSION
        self.steps = [step for step in document["steps"] if isinstance(step, Mapping)]
        self.root_id = content_id(trace_id, "root", path)[:16]
        self.said: list[Message] = []
        self.order = count() if order is None else order
        below = document.get("subagent_trajectories")
        self.below = {
            str(one.get("trajectory_id") or at): one
            for at, one in enumerate(below if isinstance(below, list) else ())
            if isinstance(one, Mapping) and isinstance(one.get("steps"), list)
        }

    def items(self) -> Iterator[Item]:
        extra = self.document.get("extra")
        if self.exact:
            for columns in ours(self.document).get("spans") or ():
                yield restored(RawSpan(trace_id=self.trace_id, span_id="", kind="chain"), columns)
            yield from scores_of({"scores": (extra or {}).get("scores")}, "trajectory", self.trace_id)
        else:
            yield self._root()
            if self.path:
                yield from scores_of(extra, "span", self.root_id)
            else:
                yield from scores_of(extra, "trajectory", self.trace_id)
        for at, step in enumerate(self.steps):
            told = self._exact_step(step) if self.exact else self._step(at, step)
            yield from guarded(told, partial(self._bad, step))
        while self.below:
            yield from self._sub_agent(next(iter(self.below)), self.root_id)

    def _bad(self, step: Mapping[str, Any], reason: str) -> BadRecord:
        """A step of impossible shape costs that step, never the document."""
        where = f"step {step.get('step_id')} of {self.path.removeprefix('/') or 'the trajectory'}"
        return BadRecord(reason=f"{where}: {reason}", line=self.line, excerpt=shown(step))

    def _sub_agent(self, name: str, parent: str) -> Iterator[Item]:
        document = self.below.pop(name)
        path = f"{self.path}/{name}"
        walk = _Walk(document, self.trace_id, line=self.line, path=path, parent=parent, order=self.order)
        yield from walk.items()

    def _root(self) -> RawSpan:
        stamps = [at for step in self.steps if (at := as_ns(step.get("timestamp"))) is not None]
        extra = foreign(self.document)
        names = ("schema_version", "trajectory_id", "notes", "final_metrics", "continued_trajectory_ref")
        rest = {name: self.document[name] for name in names if self.document.get(name) is not None}
        rest |= {"extra": extra, "agent_extra": self.agent.get("extra")}
        totals = self.document.get("final_metrics")
        if not isinstance(totals, Mapping) or any(step.get("metrics") for step in self.steps):
            totals = {}
        return RawSpan(
            trace_id=self.trace_id,
            span_id=self.root_id,
            parent_span_id=self.parent,
            kind="agent",
            name=as_name(self.agent.get("name")),
            seq=next(self.order),
            session_id=session_of(self.document),
            agent_name=as_name(self.agent.get("name")),
            agent_version=as_name(self.agent.get("version")),
            task_key=next((extra[name] for name in _TASKS if extra and isinstance(extra.get(name), str)), None),
            start_ns=min(stamps) if stamps else None,
            end_ns=max(stamps) if stamps else None,
            # Where no step tells its own. Totals of 0 are what harnesses write that counted nothing.
            tokens_in=as_int(totals.get("total_prompt_tokens")) or None,
            tokens_out=as_int(totals.get("total_completion_tokens")) or None,
            tokens_cache_read=as_int(totals.get("total_cached_tokens")) or None,
            cost_usd=as_float(totals.get("total_cost_usd")) or None,
            attributes={name: value for name, value in rest.items() if value},
            dialect="atif",
            line=self.line,
        )

    def _exact_step(self, step: Mapping[str, Any]) -> Iterator[Item]:
        """A step as tracemill wrote it: which spans it stands for, and what of it the model read, is written there."""
        own = ours(step)
        if own.get("span") is not None:
            call = native_call(step, self.agent, self.trace_id, self.said)
            yield restored(bare(call, self.document), own["span"])
        calls = calls_by_id(step)
        for result in results_of(step):
            own = ours(result)
            if own.get("span") is not None:
                tool = native_tool(step, result, calls, self.agent, self.trace_id)
                yield restored(bare(tool, self.document), own["span"])
        self.said.extend(heard_after(step))

    def _step(self, at: int, step: Mapping[str, Any]) -> Iterator[Item]:
        if step.get("source") == "agent":
            call = self._call(native_call(step, self.agent, self.trace_id, self.said), at, step)
            yield call
            yield from scores_of(step.get("extra"), "span", call.span_id)
        message = message_of(step)
        if message[2] != [{"type": "text", "content": ""}]:
            self.said.append(message)
        calls = calls_by_id(step)
        for nth, result in enumerate(results_of(step)):
            span = self._result(native_tool(step, result, calls, self.agent, self.trace_id), at, nth, step, result)
            yield span
            self.said.append(answer_of(result))
            for reference in result.get("subagent_trajectory_ref") or ():
                name = str(reference.get("trajectory_id")) if isinstance(reference, Mapping) else ""
                if name in self.below:
                    yield from self._sub_agent(name, span.span_id)

    def _call(self, span: RawSpan, at: int, step: Mapping[str, Any]) -> RawSpan:
        self._place(span, ("llm", at))
        span.status = "ok"
        span.flags = ["lossy"]
        if step.get("llm_call_count") == 0:
            span.flags.append("synthetic")
        if step.get("is_copied_context"):  # the document that it was copied from counts its tokens
            span.flags.append("copied")
            span.tokens_in = span.tokens_out = span.tokens_cache_read = span.tokens_cache_write = None
            span.tokens_reasoning = span.cost_usd = None
            span.attributes["metrics"] = step.get("metrics")
        return span

    def _result(self, span: RawSpan, at: int, nth: int, step: Mapping[str, Any], result: Mapping[str, Any]) -> RawSpan:
        self._place(span, ("result", at, nth))
        if result.get("source_call_id") is None:
            span.kind, span.name = "event", "observation"
        if step.get("is_copied_context"):
            span.flags = ["copied"]
        return span

    def _place(self, span: RawSpan, key: tuple[Any, ...]) -> None:
        span.span_id = content_id(self.trace_id, self.path, list(key))[:16]
        span.parent_span_id = self.root_id
        span.session_id = session_of(self.document)
        span.seq = next(self.order)
        span.line = self.line


def _identity(document: Mapping[str, Any]) -> str:
    """The trace id of a document: its own id; older ones are known by session, agent and how they begin.

    A continuation shares the session and repeats the beginning as copied context, so only what is new identifies it.
    """
    name = document.get("trajectory_id")
    if name is not None:
        return content_id("atif", str(name), document.get("session_id"))
    steps = [step for step in document["steps"] if isinstance(step, Mapping) and not step.get("is_copied_context")]
    agent = document.get("agent")
    if document.get("session_id") is None:
        return identity("atif", agent, steps)
    first = next((at for at, step in enumerate(steps) if step.get("source") == "agent"), len(steps))
    beginning = [[step.get(key) for key in ("step_id", "timestamp", "message")] for step in steps[: first + 1]]
    return identity("atif", str(document["session_id"]), as_name((agent or {}).get("name")), beginning)
