"""One LangSmith run as a span."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tracemill.ingest.attributes import as_float, as_int, as_name, as_ns, hex_id
from tracemill.ingest.content import shapes
from tracemill.ingest.content.exchanges import Said, answered, answered_text, asked, asked_text, beside, tools_of
from tracemill.ingest.content.usage import fill_usage
from tracemill.ingest.documents import unwrap
from tracemill.ingest.providers.chunks import merged
from tracemill.ingest.reader import RawSpan

_KINDS = {"llm": "llm", "chat": "llm", "tool": "tool", "retriever": "retriever", "embedding": "embedding"}
_STATUS = {"success": "ok", "error": "error"}
_THREADS = ("thread_id", "session_id", "conversation_id")
_MAPPED = frozenset(
    (
        *("id", "trace_id", "parent_run_id", "name", "run_type", "start_time", "end_time", "inputs", "outputs"),
        *("error", "child_runs", "session_name", "total_cost", "events", "extra", "status"),
    )
)
_COUNTS = ("prompt_tokens", "completion_tokens")
_ERROR = re.compile(r"\s*([A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt))\b")
_SEGMENT = re.compile(r"(\d{8}T\d{6})(\d{6})Z(.+)")
_TICKS = 64
"""Places for runs of one trace that start in the same microsecond, parents before their children."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a run stands: its ids, and its order in the trace by the clock of the one who started it."""

    run_id: str
    trace_id: str
    parent_id: str | None
    seq: int | None


def place_of(run: Mapping[str, Any]) -> Place | None:
    """The run's ids, from its fields or from its dotted order; None where it has neither id."""
    path = [found for part in str(run.get("dotted_order") or "").split(".") if (found := _SEGMENT.fullmatch(part))]
    own = run.get("id") or (path[-1][3] if path else None)
    if not isinstance(own, str):
        return None
    trace = run.get("trace_id") or (path[0][3] if path else own)
    parent = run.get("parent_run_id") or (path[-2][3] if len(path) > 1 else None)
    seq = None
    begun, started = (_micros(path[0]), _micros(path[-1])) if path else (None, None)
    if begun is not None and started is not None:
        seq = (started - begun) * _TICKS + min(len(path), _TICKS - 1)
    return Place(
        run_id=own,
        trace_id=hex_id(trace, 16) or str(trace),
        parent_id=None if parent is None or parent == own else str(parent),
        seq=seq,
    )


def _micros(segment: re.Match[str]) -> int | None:
    try:
        moment = datetime.strptime(segment[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    except ValueError:  # digits that are no date
        return None
    return int(moment.timestamp()) * 1_000_000 + int(segment[2])


def run_span(place: Place, run: Mapping[str, Any], *, line: int, partial: bool) -> RawSpan:
    """The span of a run; `partial` where only a patch of it is known."""
    extra = _object(run.get("extra"))
    metadata = _object(extra.get("metadata"))
    starts, ends = as_ns(run.get("start_time")), as_ns(run.get("end_time"))
    error = run.get("error") or None
    status = _STATUS.get(str(run.get("status")), "unset")
    if run.get("status") is None and ends is not None:
        status = "ok" if error is None else "error"
    project = run.get("session_name")
    span = RawSpan(
        trace_id=place.trace_id,
        span_id=place.run_id,
        parent_span_id=place.parent_id,
        seq=place.seq,
        kind=_KINDS.get(str(run.get("run_type") or _guessed(metadata)), "chain"),
        name=as_name(run.get("name")),
        start_ns=starts,
        end_ns=ends,
        status="error" if error is not None else status,
        error_message=None if error is None else str(error),
        service=as_name(project),
        session_id=next((text for name in _THREADS if (text := as_name(metadata.get(name))) is not None), None),
        user=as_name(metadata.get("user_id")),
        agent_name=as_name(metadata.get("agent_name")) or as_name(metadata.get("lc_agent_name")),
        agent_version=as_name(metadata.get("revision_id")),
        task_key=as_name(run.get("reference_example_id")),
        revised_ns=ends or starts,
        line=line,
        dialect="langsmith",
        partial=partial,
    )
    if error is not None and (found := _ERROR.match(str(error))):
        span.error_type = found[1]
    repo = as_name(metadata.get("lc_hub_repo"))
    if repo is not None:
        owner = as_name(metadata.get("lc_hub_owner"))
        span.prompt_name = repo if owner is None else f"{owner}/{repo}"
        span.prompt_version = as_name(metadata.get("lc_hub_commit_hash"))
    rest = {name: unwrap(value) for name, value in run.items() if name not in _MAPPED}
    for name in ("tags", "serialized", "attachments", "feedback_stats", "manifest_id", "child_run_ids"):
        if rest.get(name) in (None, [], {}):
            rest.pop(name, None)
    span.attributes = {name: value for name, value in rest.items() if value is not None}
    kept = {name: value for name, value in extra.items() if name != "invocation_params" and value not in (None, {})}
    if metadata:
        kept["metadata"] = {name: value for name, value in metadata.items() if name not in ("user_id", "user")}
    if kept:
        span.attributes["extra"] = kept
    _content(span, run, extra, metadata)
    return span


def _guessed(metadata: Mapping[str, Any]) -> str:
    """A patch may come without run type; the model's name is only on calls of it."""
    return "llm" if metadata.get("ls_model_type") or metadata.get("ls_model_name") else "chain"


def _content(span: RawSpan, run: Mapping[str, Any], extra: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    given, got = unwrap(run.get("inputs")), unwrap(run.get("outputs"))
    if span.kind == "llm":
        prompt = asked_text(given)
        answer = answered_text(_without_usage(got)) or _streamed(span, run)
        _call(span, prompt, answer, extra, metadata)
        _usage(span, run, got, answer)
    elif span.kind == "tool":
        _tool(span, given, got)
        return
    else:
        prompt, answer = asked(given), answered(got)
    span.input = None if prompt is None else prompt.messages
    span.output = None if answer is None else answer.messages
    for name, value, said in (("inputs", given, prompt), ("outputs", got, answer)):
        rest = value if said is None else beside(value) if span.kind != "llm" else None
        if rest not in (None, {}, "", []):
            span.attributes[name] = rest


def _without_usage(value: Any) -> Any:
    """The outputs of a function that also reports what it used."""
    if isinstance(value, Mapping) and len(value) == 2 and "usage_metadata" in value:
        return {name: held for name, held in value.items() if name != "usage_metadata"}
    return value


def _call(
    span: RawSpan, prompt: Said | None, answer: Said | None, extra: Mapping[str, Any], metadata: Mapping[str, Any]
) -> None:
    invocation = _object(extra.get("invocation_params"))
    params = {} if prompt is None else dict(prompt.params)
    params |= {name: value for name, value in invocation.items() if name not in _NO_PARAMS}
    for name in ("temperature", "max_tokens", "stop"):
        if metadata.get(f"ls_{name}") is not None:
            params.setdefault(name, metadata[f"ls_{name}"])
    span.params = {name: value for name, value in params.items() if value is not None} or None
    span.tools = (prompt.tools if prompt else []) or tools_of(invocation.get("tools") or invocation.get("functions"))
    span.tools = span.tools or None
    asked_model = (prompt.model if prompt else None) or as_name(metadata.get("ls_model_name"))
    span.model_requested = asked_model or as_name(invocation.get("model")) or as_name(invocation.get("model_name"))
    span.model = (answer.model if answer else None) or span.model_requested
    span.model_requested = span.model_requested or span.model
    span.provider = as_name(metadata.get("ls_provider"))
    if answer is not None:
        span.finish_reasons = answer.finish_reasons or None
        span.response_id = answer.response_id
        span.system = answer.system or None if prompt is not None else None


_NO_PARAMS = frozenset(("tools", "functions", "model", "model_name", "_type", "messages", "user"))


def _streamed(span: RawSpan, run: Mapping[str, Any]) -> Said | None:
    """The answer out of the tokens that were logged while it streamed, where no output was logged at its end."""
    events = unwrap(run.get("events"))
    tokens = [
        token
        for event in (events if isinstance(events, list) else [])
        if isinstance(event, Mapping) and event.get("name") == "new_token"
        for token in (_object(event.get("kwargs")).get("token"),)
        if token is not None
    ]
    if not tokens:
        return None
    span.flags = [*span.flags, "lossy"] if run.get("end_time") else [*span.flags, "truncated"]
    if all(isinstance(token, str) for token in tokens):
        return answered_text("".join(tokens))
    return answered(merged([token for token in tokens if isinstance(token, Mapping)]))


def _usage(span: RawSpan, run: Mapping[str, Any], got: Any, answer: Said | None) -> None:
    """Tokens of a model call. Those of other runs are sums over the runs below them: they stay attributes."""
    usage: Any = got.get("usage_metadata") if isinstance(got, Mapping) else None
    usage = usage or _object(_object(run.get("extra")).get("metadata")).get("usage_metadata")
    if not isinstance(usage, Mapping) or not usage:
        usage = answer.usage if answer is not None else None
    fill_usage(span, usage)
    counts = [as_int(run.get(name)) for name in _COUNTS]
    if span.tokens_in is None and span.tokens_out is None and any(counts):  # the API fills unknown counts with 0
        span.tokens_in, span.tokens_out = counts
        span.tokens_cache_read = _count(_object(run.get("prompt_token_details")), "cache_read")
        span.tokens_reasoning = _count(_object(run.get("completion_token_details")), "reasoning")
    cost = as_float(run.get("total_cost"))
    span.cost_usd = cost if cost or (cost is not None and span.tokens_in) else None


def _tool(span: RawSpan, given: Any, got: Any) -> None:
    arguments, result = given, got
    if isinstance(arguments, Mapping) and set(arguments) == {"input"}:
        arguments = unwrap(arguments["input"])
    if isinstance(arguments, Mapping) and arguments.get("type") == "tool_call" and "args" in arguments:
        span.tool_call_id = as_name(arguments.get("id"))
        arguments = arguments["args"]
    if isinstance(result, Mapping) and set(result) == {"output"}:
        result = result["output"]
    message = shapes.tool_message(unwrap(result))
    if message is not None:
        span.tool_call_id = span.tool_call_id or as_name(message.get("tool_call_id"))
        result = message.get("content")
        if message.get("status") == "error" and span.status != "error":
            span.status = "error"
    span.tool_name, span.tool_args, span.tool_result = span.name, arguments, result


def _object(value: Any) -> Mapping[str, Any]:
    value = unwrap(value)
    return value if isinstance(value, Mapping) else {}


def _count(counts: Mapping[str, Any], *names: str) -> int | None:
    return next((count for name in names if (count := as_int(counts.get(name))) is not None), None)
