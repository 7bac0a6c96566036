"""One sample of an Inspect log as one trajectory: its events as spans below a root, its scores beside them.

A sample is known by its uuid, as a retried evaluation copies the finished samples of the one before it; older logs
name it by run, task, id and epoch. Epochs are attempts at the same task and share its `task_key`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tracemill.chat import as_text
from tracemill.ids import content_id
from tracemill.ingest.attributes import as_float, as_int, as_name
from tracemill.ingest.content.conversation import conversation
from tracemill.ingest.documents import MALFORMED, shown
from tracemill.ingest.formats.inspect.messages import Contents, canonical_messages, result
from tracemill.ingest.formats.inspect.scores import moment, score_rows, scores
from tracemill.ingest.reader import BadRecord, Item, RawSpan

_KINDS = {"agent": "agent", "handoff": "agent", "scorer": "evaluator", "scorers": "evaluator"}
_SILENT = frozenset(("state", "store", "sample_init", "score"))
"""Events that are no spans: what they say stands in the prompts, on the root or in the scores."""
_FRAME = ("event", "uuid", "span_id", "timestamp", "completed", "working_start", "working_time", "pending")
_APART = ("events", "messages", "attachments", "message_pool", "call_pool", "events_data", "transcript", "output")
_SPEC = ("eval_id", "eval_set_id", "run_id", "task_id", "task_version", "task_args", "dataset", "solver_args", "tags")


def spans_of(sample: Mapping[str, Any], log: Mapping[str, Any], line: int | None) -> Iterator[Item]:
    """Everything in one sample. `log` is the header of the log: `eval`, `plan`, `results`."""
    sample_id = sample.get("id")
    if sample_id is None or not (sample.get("messages") or sample.get("events") or "input" in sample):
        raise ValueError("no Inspect sample: id or input is missing")
    spec = log["eval"] if isinstance(log.get("eval"), Mapping) else {}
    yield from _Episode(sample, spec, line).items(_scorer(log))


def _scorer(log: Mapping[str, Any]) -> str | None:
    results = log.get("results")
    found = results.get("scores") or results.get("scorer") if isinstance(results, Mapping) else None
    found = found[0] if isinstance(found, list) and found else found
    name = found.get("name") if isinstance(found, Mapping) else None
    return None if name is None else str(name)


class _Episode:
    """The spans of one sample while its events are walked."""

    def __init__(self, sample: Mapping[str, Any], spec: Mapping[str, Any], line: int | None) -> None:
        transcript = sample["transcript"] if isinstance(sample.get("transcript"), Mapping) else {}
        data = sample["events_data"] if isinstance(sample.get("events_data"), Mapping) else {}
        self.sample, self.spec, self.line = sample, spec, line
        self.events: Sequence[Any] = sample.get("events") or transcript.get("events") or ()
        self.contents = Contents(
            sample.get("attachments") or transcript.get("content"), sample.get("message_pool") or data.get("messages")
        )
        self.epoch = as_int(sample.get("epoch"))
        uuid = sample.get("uuid")
        names = [spec.get("run_id"), spec.get("task_id"), sample["id"], self.epoch]
        self.trace_id = content_id("inspect", uuid) if uuid else content_id("inspect", *names)
        self.root_id = content_id(self.trace_id, "root")[:16]
        self.task = as_text(spec.get("task") or "task")
        self.spans: dict[str, RawSpan] = {}
        self.steps: list[str] = []
        self.handed_over: list[tuple[str, RawSpan]] = []
        self.bad: list[BadRecord] = []
        self.intermediate: list[tuple[Mapping[str, Any], int | None]] = []

    def items(self, scorer: str | None) -> Iterator[Item]:
        root = self._root()
        self.spans[self.root_id] = root
        self._walk(self.events, self.root_id, ())
        for agent, tool in self.handed_over:
            self._hand_over(agent, tool)
        if not any(span.kind in ("llm", "tool") for span in self.spans.values()):
            for span in self._retold():
                self.spans[span.span_id] = span
        self._name_agents()
        for seq, span in enumerate(self.spans.values()):
            span.seq = seq
            yield span
        yield from self.bad
        ended = root.end_ns
        yield from scores(
            self.contents.whole(_only(self.sample, "scores", "score", "target")), root.trace_id, ended, scorer
        )
        for score, at in self.intermediate:
            yield from score_rows("intermediate", self.contents.whole(score), root.trace_id, at)

    def _root(self) -> RawSpan:
        sample, spec = self.sample, self.spec
        stamps = [at for at in (moment(_get(event, "timestamp")) for event in self.events) if at]
        ends = [at for at in (moment(_get(event, "completed")) for event in self.events) if at]
        error = sample.get("error")
        rest = {name: value for name, value in sample.items() if name not in _APART and value not in (None, [], {}, "")}
        for name in ("scores", "score", *(("input",) if self.events or sample.get("messages") else ())):
            rest.pop(name, None)
        if "error_retries" in rest:
            rest["error_retries"] = [_without_events(retry) for retry in rest["error_retries"]]
        rest["eval"] = {name: spec[name] for name in _SPEC if spec.get(name) not in (None, [], {})}
        return RawSpan(
            trace_id=self.trace_id,
            span_id=self.root_id,
            kind="agent",
            name=self.task,
            session_id=as_name(spec.get("eval_set_id")),
            agent_name=as_name(spec.get("solver")) or self.task,
            task_key=f"{self.task}/{sample['id']}",
            start_ns=moment(sample.get("started_at")) or (min(stamps) if stamps else None),
            end_ns=moment(sample.get("completed_at")) or (max(stamps + ends) if stamps else None),
            status="error" if error else "ok",
            error_message=None if not error else as_text(_get(error, "message") or error),
            attributes=self.contents.whole(rest),
            dialect="inspect",
            line=self.line,
        )

    def _walk(self, events: Sequence[Any], above: str, path: tuple[int, ...]) -> None:
        for at, event in enumerate(events):
            try:
                if not isinstance(event, Mapping):
                    raise TypeError("not a JSON object")
                self._event(event, above, (*path, at))
            except MALFORMED as error:  # it costs that event, never the sample
                where = "/".join(map(str, (*path, at)))
                reason = f"malformed event {where} of sample {self.sample['id']}: {type(error).__name__}: {error}"
                self.bad.append(BadRecord(reason=reason, line=self.line, excerpt=shown(event)))

    def _event(self, event: Mapping[str, Any], above: str, path: tuple[int, ...]) -> None:
        kind = event.get("event")
        if kind == "span_begin":
            parent = event.get("parent_id")
            self._open(event, str(event.get("id")), str(parent) if parent in self.spans else above)
        elif kind == "span_end":
            self._close(str(event.get("id")), event)
        elif kind == "step" and event.get("action") == "begin":
            step = content_id(self.trace_id, "step", path)[:16]
            self._open(event, step, self.steps[-1] if self.steps else above)
            self.steps.append(step)
        elif kind == "step":
            if self.steps:  # old logs close the innermost step, whatever the name says
                self._close(self.steps.pop(), event)
        elif kind == "score" and event.get("intermediate") and isinstance(event.get("score"), Mapping):
            self.intermediate.append((event["score"], moment(event.get("timestamp"))))
        elif kind not in _SILENT and kind is not None:
            self._leaf(event, str(kind), above, path)

    def _open(self, event: Mapping[str, Any], span_id: str, parent: str) -> None:
        kind = _KINDS.get(str(event.get("type")), "chain")
        name = as_name(event.get("name"))
        self.spans[span_id] = RawSpan(
            trace_id=self.trace_id,
            span_id=span_id,
            parent_span_id=parent,
            kind=kind,
            name=name,
            agent_name=name if kind != "chain" else None,
            start_ns=moment(event.get("timestamp")),
            attributes=self.contents.whole(_only(event, "type", "metadata")),
            dialect="inspect",
            line=self.line,
        )

    def _close(self, span_id: str, event: Mapping[str, Any]) -> None:
        if span_id in self.spans and span_id != self.root_id:
            self.spans[span_id].end_ns = moment(event.get("timestamp"))

    def _leaf(self, event: Mapping[str, Any], kind: str, above: str, path: tuple[int, ...]) -> None:
        within = event.get("span_id")
        parent = str(within) if within in self.spans else self.steps[-1] if self.steps else above
        uuid = event.get("uuid")
        missing = self.contents.missing
        span = RawSpan(
            trace_id=self.trace_id,
            span_id=str(uuid) if uuid else content_id(self.trace_id, "event", path)[:16],
            parent_span_id=parent,
            kind="event",
            name=kind,
            start_ns=moment(event.get("timestamp")),
            end_ns=moment(event.get("completed")),
            dialect="inspect",
            line=self.line,
        )
        if kind == "model":
            self._model(span, event)
        elif kind == "tool":
            self._tool(span, event)
        else:
            if kind == "subtask":
                span.kind, span.name = "chain", as_name(event.get("name")) or "subtask"
            rest = {name: value for name, value in event.items() if name not in _FRAME and name != "events"}
            span.attributes = self.contents.whole({name: value for name, value in rest.items() if value is not None})
        if self.contents.missing != missing:
            span.flags = [*span.flags, "truncated"]
        self.spans[span.span_id] = span
        if isinstance(event.get("events"), list):
            steps, self.steps = self.steps, []
            self._walk(event["events"], span.span_id, path)
            self.steps = steps
        if event.get("agent_span_id") is not None:
            self.handed_over.append((str(event["agent_span_id"]), span))

    def _model(self, span: RawSpan, event: Mapping[str, Any]) -> None:
        whole = self.contents.whole
        output = event["output"] if isinstance(event.get("output"), Mapping) else {}
        choices = [c for c in output.get("choices") or () if isinstance(c, Mapping)]
        span.kind, span.name = "llm", "chat"
        span.provider, span.model_requested = _model_name(event.get("model"))
        span.model = as_name(output.get("model")) or span.model_requested
        config = {name: value for name, value in (event.get("config") or {}).items() if value is not None}
        if event.get("tool_choice") is not None and event.get("tools"):
            config["tool_choice"] = event["tool_choice"]
        span.params = config or None
        span.input = self.contents.prompt(event)
        said = [message for choice in choices for message in self.contents.messages(choice.get("message") or {})]
        span.output = said or None
        span.finish_reasons = [str(c["stop_reason"]) for c in choices if c.get("stop_reason")] or None
        span.tools = whole(event["tools"]) if event.get("tools") else None
        took = as_float(output.get("time"))
        if span.end_ns is None and span.start_ns is not None and took is not None:
            span.end_ns = span.start_ns + int(took * 1e9)
        error = event.get("error") or output.get("error")
        span.status = "error" if error else "unset" if event.get("pending") else "ok"
        span.error_message = as_text(whole(error)) if error else None
        span.attributes = whole(_only(event, "role", "retries", "cache", "working_time", "pending", "traceback"))
        answer = _get(event.get("call"), "response")
        if as_name(_get(answer, "id")) is not None:
            span.attributes["response_id"] = span.response_id = str(answer["id"])
        if choices and choices[0].get("logprobs"):
            span.attributes["logprobs"] = choices[0]["logprobs"]
        if event.get("cache") == "read":  # answered from Inspect's own cache: nobody was asked, nothing was used
            span.attributes["usage"] = output.get("usage")
        else:
            _usage(span, output.get("usage"))

    def _tool(self, span: RawSpan, event: Mapping[str, Any]) -> None:
        whole = self.contents.whole
        error = event.get("error")
        span.kind = "tool"
        span.name = span.tool_name = as_name(event.get("function"))
        span.tool_call_id = as_name(event.get("id"))
        span.tool_args = whole(event.get("arguments"))
        span.tool_result = result(whole(event.get("result")))
        span.status = "error" if error or event.get("failed") else "unset" if event.get("pending") else "ok"
        if error:
            span.error_type = as_name(_get(error, "type"))
            span.error_message = as_text(whole(_get(error, "message") or error))
        span.attributes = whole(_only(event, "agent", "truncated", "failed", "working_time", "message_id"))

    def _hand_over(self, agent_span: str, tool: RawSpan) -> None:
        """The tool span that called a sub-agent is its parent."""
        agent = self.spans.get(agent_span)
        if agent is None or agent.span_id == self.root_id:
            return
        above: RawSpan | None = tool
        for _ in range(len(self.spans)):  # a tool call that the log puts inside its own agent stays there
            if above is agent:
                return
            above = None if above is None else self.spans.get(above.parent_span_id or "")
        agent.parent_span_id = tool.span_id

    def _name_agents(self) -> None:
        """Gives every span the name of the nearest agent or scorer above, which each span is asked for once."""
        root = self.spans[self.root_id]
        known: dict[str, str | None] = {self.root_id: root.agent_name}
        for span in self.spans.values():
            path: dict[str, RawSpan] = {}  # broken logs may hold rings
            at: RawSpan | None = span
            while at is not None and at.span_id not in known and at.span_id not in path:
                path[at.span_id] = at
                at = self.spans.get(at.parent_span_id or "")
            name = known.get(at.span_id, root.agent_name) if at is not None else root.agent_name
            for below in reversed(path.values()):
                if below.kind not in ("agent", "evaluator") or below.agent_name is None:
                    below.agent_name = name
                name = known[below.span_id] = below.agent_name if below.kind in ("agent", "evaluator") else name

    def _retold(self) -> Iterator[RawSpan]:
        """A sample whose calls were not logged, from its messages: which prompt a call had is a guess."""
        messages = self.contents.whole(self.sample.get("messages") or [])
        said = [message for raw in messages for message in canonical_messages(raw)]
        errors = {
            str(raw.get("tool_call_id")): raw["error"]
            for raw in messages
            if isinstance(raw, Mapping) and isinstance(raw.get("error"), Mapping)
        }
        base = {"dialect": "inspect", "line": self.line, "flags": ["lossy"]}
        provider, asked = _model_name(self.spec.get("model"))
        output = self.sample["output"] if isinstance(self.sample.get("output"), Mapping) else {}
        given = [{"role": role, "name": name, "parts": parts} for role, name, parts in said]
        found = list(conversation(given, trace_id=self.trace_id, root_id=self.root_id, base=base))
        calls = [span for span in found if span.kind == "llm"]
        for span in found:
            span.flags = list(span.flags)
            if span.kind == "llm":
                span.provider, span.model_requested = provider, asked
                span.model = as_name(output.get("model")) or asked
            elif span.tool_call_id in errors:
                error = errors[span.tool_call_id]
                span.error_type, span.error_message = as_name(error.get("type")), as_name(error.get("message"))
        if len(calls) == 1:  # the sample's usage is its last call's; of several, the others' is not known
            _usage(calls[0], output.get("usage"))
        yield from found


def _model_name(name: Any) -> tuple[str | None, str | None]:
    """Provider and model of "provider/model"."""
    text = as_name(name)
    if text is None or "/" not in text:
        return None, text
    provider, model = text.split("/", 1)
    return provider, model


def _usage(span: RawSpan, usage: Any) -> None:
    """Tokens by the convention that input counts the cached ones; which one a provider follows shows in the total."""
    if not isinstance(usage, Mapping):
        return
    given, answered = as_int(usage.get("input_tokens")), as_int(usage.get("output_tokens"))
    read, written = as_int(usage.get("input_tokens_cache_read")), as_int(usage.get("input_tokens_cache_write"))
    cached = (read or 0) + (written or 0)
    apart = cached > (given or 0) or as_int(usage.get("total_tokens")) == (given or 0) + cached + (answered or 0)
    span.tokens_in = given + cached if given is not None and cached and apart else given
    span.tokens_cache_read, span.tokens_cache_write = read, written
    span.tokens_out = answered
    span.tokens_reasoning = as_int(usage.get("reasoning_tokens"))
    span.cost_usd = as_float(usage.get("total_cost"))


def _only(record: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: record[name] for name in names if record.get(name) not in (None, [], {})}


def _without_events(retry: Any) -> Any:
    return {name: value for name, value in retry.items() if name != "events"} if isinstance(retry, Mapping) else retry


def _get(record: Any, name: str) -> Any:
    return record.get(name) if isinstance(record, Mapping) else None
