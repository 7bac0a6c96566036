"""Logs of OpenAI chat-completions calls: requests with their responses, bare responses, and bare message lists.

Every call repeats the conversation so far. Calls of one conversation get one trace id made from what they all share
(system prompt, first user message, session where one is logged), so it is the same whatever file a call is found in.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from tracemill.chat import text_of
from tracemill.ids import canonical_json, content_id
from tracemill.ingest.attributes import as_float, as_int, as_ns
from tracemill.ingest.conversation import conversation, tool_calls, tool_span
from tracemill.ingest.documents import Record, guarded, loads, records, unwrap
from tracemill.ingest.messages import canonical
from tracemill.ingest.reader import About, BadRecord, Done, Head, Item, Message, RawSpan, Stream

_STARTS = ("start_time", "startTime", "started_at", "request_time")
_STAMPS = ("timestamp", "end_time", "endTime", "created_at", "time", "ts")
_SECONDS = (
    ("latency_sec", 1.0),
    ("latency_s", 1.0),
    ("response_time", 1.0),
    ("latency_ms", 1e-3),
    ("duration_ms", 1e-3),
)
_MAPPED = frozenset(("messages", "response", "request", "tools", "kwargs", "raw_messages", "raw_response", "cost"))


class OpenAIChat:
    """Reader of chat-completions logs."""

    name = "openai-chat"
    about = About(
        title="OpenAI chat completions",
        files="Records with `messages` or `request` and a `response`; bare `chat.completion` objects; message lists",
        maps="One span a call; calls of one conversation share a trace; tool results as tool spans; token ids",
        lacks="Tool spans have no duration; a bare completion has no prompt; message lists have no times or tokens",
    )

    def sniff(self, head: Head) -> str | None:
        if head.records and all(_is_message(record) for record in head.records):
            return "a list of chat messages"
        for record in head.records:
            if not isinstance(record, dict):
                continue
            if record.get("object") == "chat.completion" and isinstance(record.get("choices"), list):
                return "chat.completion objects"
            request = record.get("request")
            if isinstance(request, dict) and _has_messages(request):
                return "records with request and response"
            if _has_messages(record):
                return "records with messages and response" if "response" in record else "records with messages"
        return None

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        if head.records and all(_is_message(record) for record in head.records):
            yield from _lists(stream, head)
            return
        for record in records(stream, head):
            if isinstance(record, BadRecord):
                yield record
            else:
                yield from guarded(_record(record), record.bad)
            yield Done()


def _is_message(value: Any) -> bool:
    return (
        isinstance(value, dict) and isinstance(value.get("role"), str) and ("content" in value or "tool_calls" in value)
    )


def _has_messages(record: Mapping[str, Any]) -> bool:
    messages = record.get("messages")
    return isinstance(messages, list) and bool(messages) and all(isinstance(m, dict) and "role" in m for m in messages)


def _lists(stream: Stream, head: Head) -> Iterator[Item | Done]:
    """A file of messages is one conversation; in JSON lines, each line that holds several is one of its own."""
    found: list[tuple[Record, dict[str, Any]]] = []
    for record in records(stream, head):
        if isinstance(record, BadRecord):
            yield record
            continue
        try:
            message = loads(record.raw)
        except ValueError as error:
            yield record.bad(str(error))
            continue
        if isinstance(message, dict) and isinstance(message.get("role"), str):
            found.append((record, message))
        else:
            yield record.bad("no chat message: role is missing")
    by_line: dict[int, list[tuple[Record, dict[str, Any]]]] = {}
    for record, message in found:
        by_line.setdefault(record.line, []).append((record, message))
    apart = head.shape == "jsonl" and any(len(group) > 1 for group in by_line.values())
    for group in by_line.values() if apart else [found]:
        if group:
            first = group[0][0]
            yield from guarded(_conversation([message for _, message in group], first, {}), first.bad)
        yield Done()


def _conversation(messages: list[dict[str, Any]], record: Record, rest: dict[str, Any]) -> Iterator[Item]:
    trace_id = content_id("openai-conversation", canonical_json(messages))
    root_id = content_id(trace_id, "root")[:16]
    base: dict[str, Any] = {"dialect": "openai", "line": record.line, "flags": ["lossy"]}
    task = rest.get("task_id")
    yield RawSpan(
        trace_id=trace_id,
        span_id=root_id,
        kind="agent",
        name="conversation",
        seq=-1,
        task_key=None if task is None else str(task),
        session_id=_session(rest),
        attributes=rest,
        **{**base, "flags": ["lossy", "synthetic"]},
    )
    yield from conversation(messages, trace_id=trace_id, root_id=root_id, base=base)


def _record(record: Record) -> Iterator[Item]:
    try:
        call = unwrap(loads(record.raw))
    except ValueError as error:
        yield record.bad(str(error))
        return
    if not isinstance(call, dict):
        yield record.bad("no call: not a JSON object")
        return
    try:
        if call.get("object") == "chat.completion":
            yield from _call({}, {}, call, record)
        elif isinstance(request := unwrap(call.get("request")), dict) and _has_messages(request):
            yield from _call(call, request, unwrap(call.get("response")), record)
        elif _has_messages(call) and "response" in call:
            yield from _call(call, call, unwrap(call.get("response")), record)
        elif _has_messages(call):
            rest = {name: value for name, value in call.items() if name != "messages"}
            yield from _conversation(call["messages"], record, rest)
        else:
            yield record.bad("no call: neither messages nor choices")
    except ValueError as error:  # a number that JSON cannot hold, in what the ids are made from
        yield record.bad(str(error))


def _call(call: dict[str, Any], request: dict[str, Any], response: Any, record: Record) -> Iterator[Item]:
    said = [found for message in request.get("messages") or [] for found in canonical(message)]
    # Where a tool-less model was asked, the log has what was really answered beside its reading as tool calls.
    raw = unwrap(call.get("raw_response"))
    answer = raw if isinstance(raw, dict) and raw.get("choices") else response
    answer = answer if isinstance(answer, dict) else {"choices": [{"message": {"content": answer}}] if answer else []}
    choices = [c for c in answer.get("choices") or [] if isinstance(c, dict)]
    kwargs: dict[str, Any] = call["kwargs"] if isinstance(call.get("kwargs"), dict) else {}
    session = _session(call) or _session(request)
    trace_id = _trace_id(said, session, answer)
    ends = next((t for t in (as_ns(call.get(name)) for name in _STAMPS) if t), None)
    starts = next((t for t in (as_ns(call.get(name)) for name in _STARTS) if t), None)
    took = next((s * unit for name, unit in _SECONDS if (s := as_float(call.get(name))) is not None), None)
    if starts is None and ends is not None:
        starts = ends if took is None else ends - int(took * 1e9)
    elif starts is not None and took is not None and ends is None:
        ends = starts + int(took * 1e9)
    if starts is None:
        starts = as_ns(answer.get("created"))
    error = call.get("error") or answer.get("error")
    span = RawSpan(
        trace_id=trace_id,
        span_id=content_id(trace_id, [list(m) for m in said], answer.get("id"), choices, ends)[:16],
        kind="llm",
        name="chat",
        session_id=session,
        seq=len(said),
        start_ns=starts,
        end_ns=ends,
        status="error" if error else "ok",
        input=said or None,
        output=[m for c in choices for m in canonical(c.get("message") or {"content": c.get("text")}, "assistant")],
        finish_reasons=[str(c["finish_reason"]) for c in choices if c.get("finish_reason") is not None] or None,
        tools=request.get("tools") or kwargs.get("tools"),
        cost_usd=as_float(_first(call, "cost", "response_cost", "cost_usd")),
        line=record.line,
        dialect="openai",
        flags=[] if said else ["lossy"],
    )
    if raw is not None or call.get("raw_messages") is not None:
        span.flags.append("lossy")
    user = _first(call, "user", "user_id", "end_user") or request.get("user")
    span.user = None if user is None else str(user)
    _model(span, call, request, kwargs, answer)
    _usage(span, answer.get("usage"))
    _tokens(span, answer, choices)
    if error:
        inner = error if isinstance(error, dict) else {"message": error}
        span.error_message = str(inner.get("message") or error)
        span.error_type = None if inner.get("type") is None else str(inner["type"])
    task = _first(call, "task_key", "task_id")
    span.task_key = None if task is None else str(task)
    yield span
    yield from _tool_results(said, span)


def _model(
    span: RawSpan, call: dict[str, Any], request: dict[str, Any], kwargs: dict[str, Any], answer: dict[str, Any]
) -> None:
    asked = _first(request, "model") or _first(call, "model") or kwargs.get("model")
    span.model = None if answer.get("model") is None else str(answer["model"])
    span.model_requested = span.model if asked is None else str(asked)
    span.model = span.model or span.model_requested
    provider = _first(call, "provider", "custom_llm_provider")
    span.provider = None if provider is None else str(provider)
    own = request if request is not call else {}
    span.params = {k: v for k, v in {**own, **kwargs}.items() if k not in ("messages", "model", "tools", "user")}
    metadata = (kwargs.get("extra_body") or {}).get("metadata") if isinstance(kwargs.get("extra_body"), dict) else None
    tags = metadata.get("tags") if isinstance(metadata, dict) else None
    named = [t.removeprefix("agent:") for t in tags or [] if isinstance(t, str) and t.startswith("agent:")]
    agent = _first(call, "agent_name", "agent") or (named[0] if named else None)
    span.agent_name = agent if isinstance(agent, str) else None
    rest = {k: v for k, v in call.items() if k not in _MAPPED and k not in ("user", "user_id", "end_user")}
    if answer.get("id") is not None:
        rest["response_id"] = span.response_id = str(answer["id"])
    if answer.get("system_fingerprint") is not None:
        rest["system_fingerprint"] = answer["system_fingerprint"]
    span.attributes = rest


def _usage(span: RawSpan, usage: Any) -> None:
    if not isinstance(usage, dict):
        return
    asked = usage.get("prompt_tokens_details")
    said = usage.get("completion_tokens_details")
    asked = asked if isinstance(asked, dict) else {}
    said = said if isinstance(said, dict) else {}
    span.tokens_in = as_int(_first(usage, "prompt_tokens", "input_tokens"))
    span.tokens_out = as_int(_first(usage, "completion_tokens", "output_tokens"))
    span.tokens_cache_read = as_int(_first(usage, "cache_read_input_tokens") or asked.get("cached_tokens"))
    if span.tokens_cache_read is None:
        span.tokens_cache_read = as_int(usage.get("cache_read_input_tokens"))
    span.tokens_cache_write = as_int(usage.get("cache_creation_input_tokens"))
    span.tokens_reasoning = as_int(said.get("reasoning_tokens"))


def _tokens(span: RawSpan, answer: dict[str, Any], choices: list[dict[str, Any]]) -> None:
    """Token ids and log-probabilities as vLLM and tracemill's own server return them."""
    if len(choices) != 1:
        return
    choice = choices[0]
    prompt = _first(answer, "prompt_token_ids") or _first(choice, "prompt_token_ids")
    ids = _first(choice, "token_ids", "response_token_ids") or _first(answer, "response_token_ids")
    span.input_token_ids = prompt if isinstance(prompt, list) else None
    span.output_token_ids = ids if isinstance(ids, list) else None
    logprobs = choice.get("logprobs")
    listed = logprobs.get("content") if isinstance(logprobs, dict) else None
    if isinstance(listed, list) and all(isinstance(item, dict) and "logprob" in item for item in listed):
        span.output_logprobs = [item["logprob"] for item in listed]


def _tool_results(said: list[Message], span: RawSpan) -> Iterator[Item]:
    """The tool results that are new with this call: those after the last answer in its prompt."""
    last = max((at for at, message in enumerate(said) if message[0] == "assistant"), default=-1)
    calls = tool_calls([part for message in said for part in message[2]])
    base: dict[str, Any] = {
        "session_id": span.session_id,
        "start_ns": span.start_ns,
        "end_ns": span.start_ns,
        "agent_name": span.agent_name,
        "user": span.user,
        "line": span.line,
        "dialect": "openai",
        "flags": ["lossy"],
    }
    for at, (role, name, parts) in enumerate(said[last + 1 :], start=last + 1):
        if role == "tool":
            key = str(parts[0].get("id") or at)
            yield tool_span(
                parts[0], name, calls, trace_id=span.trace_id, key=f"{key}/{at}", parent=None, seq=at, base=base
            )


def _trace_id(said: list[Message], session: str | None, answer: Mapping[str, Any]) -> str:
    if not said:
        return content_id("openai-completion", str(answer.get("id")), answer.get("created"))
    system = [text_of(parts) for role, _, parts in said if role == "system"][:1]
    first = next(([text_of(parts)] for role, _, parts in said if role == "user"), [])
    return content_id("openai-chat", system, first, session)


def _session(record: Mapping[str, Any]) -> str | None:
    metadata = record.get("metadata")
    for place in (record, metadata if isinstance(metadata, Mapping) else {}):
        for name in ("session_id", "conversation_id", "thread_id", "chat_id", "trace_id"):
            value = place.get(name)
            if isinstance(value, str | int) and value != "":
                return str(value)
    return None


def _first(record: Mapping[str, Any], *names: str) -> Any:
    return next((record[name] for name in names if record.get(name) is not None), None)
