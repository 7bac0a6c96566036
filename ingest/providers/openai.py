"""Chat completions of the OpenAI API and all that speak it: one request and its answer as spans."""

from collections.abc import Iterator
from typing import Any

from tracemill.ids import content_id
from tracemill.ingest.attributes import as_ns, identity, written
from tracemill.ingest.content.conversation import conversation
from tracemill.ingest.content.messages import canonical
from tracemill.ingest.content.usage import fill_usage
from tracemill.ingest.documents import unwrap
from tracemill.ingest.providers.calls import (
    conversation_id,
    failed,
    first,
    mapping,
    new_tool_results,
    session_of,
    surround,
    text,
    times,
)
from tracemill.ingest.reader import Item, Message, RawSpan

_STORED = (
    *("temperature", "top_p", "presence_penalty", "frequency_penalty", "seed", "response_format", "tool_choice"),
    *("max_tokens", "max_completion_tokens", "reasoning_effort"),
)
_NO_PARAMETERS = frozenset(("messages", "model", "tools", "user"))


def has_messages(record: dict[str, Any]) -> bool:
    messages = record.get("messages")
    return isinstance(messages, list) and bool(messages) and all(isinstance(m, dict) and "role" in m for m in messages)


def chat_call(
    call: dict[str, Any], request: dict[str, Any], response: Any, *, line: int, more: dict[str, Any] | None = None
) -> Iterator[Item]:
    """The call's span and the tool results that are new with it.

    `call` is the record around request and response, which may be the request itself or empty; `more` are fields of
    the span that the caller knows better.
    """
    said = [found for message in request.get("messages") or [] for found in canonical(message)]
    # Where a tool-less model was asked, the log has what was really answered beside its reading as tool calls.
    raw = unwrap(call.get("raw_response"))
    answer = raw if isinstance(raw, dict) and raw.get("choices") else response
    answer = answer if isinstance(answer, dict) else {"choices": [{"message": {"content": answer}}] if answer else []}
    choices = [c for c in answer.get("choices") or [] if isinstance(c, dict)]
    starts, ends = times(call)
    if starts is None:
        starts = as_ns(answer.get("created"))
    session = session_of(call, request)
    trace_id = conversation_id("openai-chat", said, session) if said else completion_trace(answer)
    error = call.get("error") or answer.get("error")
    span = RawSpan(
        trace_id=trace_id,
        span_id=identity(trace_id, [list(m) for m in said], answer.get("id"), choices, ends)[:16]
        if said
        else completion_span(answer),
        kind="llm",
        name="chat",
        session_id=session,
        seq=len(said),
        start_ns=starts,
        end_ns=ends,
        status="ok",
        input=said or None,
        line=line,
        dialect="openai",
        flags=[] if said else ["lossy"],
    )
    if raw is not None or call.get("raw_messages") is not None:
        span.flags.append("lossy")
    surround(span, call, request)
    chat_request(span, request if request is not call else {}, mapping(call.get("kwargs")), call, request)
    chat_answer(span, answer)
    if error:
        failed(span, error)
    for name, value in (more or {}).items():
        setattr(span, name, value)
    yield span
    yield from new_tool_results(said, span)


def stored(completion: dict[str, Any], *, line: int) -> Iterator[Item]:
    """A bare or stored completion: what it repeats of its request, its metadata, its messages where they are merged in.

    Without messages it is known by its id alone.
    """
    request = {name: completion[name] for name in ("messages", "tools", "user", "metadata") if completion.get(name)}
    for item in chat_call({}, request if has_messages(request) else {**request, "messages": []}, completion, line=line):
        if isinstance(item, RawSpan) and item.kind == "llm":
            item.params = {name: completion[name] for name in _STORED if completion.get(name) is not None}
            if completion.get("metadata"):
                item.attributes["metadata"] = completion["metadata"]
        yield item


def bare_conversation(messages: list[dict[str, Any]], *, line: int, rest: dict[str, Any]) -> Iterator[RawSpan]:
    """A conversation that is logged by its messages alone, `rest` being what stands beside them.

    An answer that its author gave the weight 0 is flagged `weight_0`: it is context, not an example.
    """
    rest = dict(rest)
    trace_id = content_id("openai-conversation", written(messages))
    root_id = content_id(trace_id, "root")[:16]
    base: dict[str, Any] = {"dialect": "openai", "line": line, "flags": ["lossy"]}
    tools = rest.pop("tools", None) or rest.pop("functions", None)
    yield RawSpan(
        trace_id=trace_id,
        span_id=root_id,
        kind="agent",
        name="conversation",
        seq=-1,
        task_key=text(rest.get("task_id")),
        session_id=session_of(rest),
        attributes=rest,
        **{**base, "flags": ["lossy", "synthetic"]},
    )
    for span in conversation(messages, trace_id=trace_id, root_id=root_id, base=base):
        if span.kind == "llm":
            span.tools = tools if isinstance(tools, list) else None
            if messages[span.seq or 0].get("weight") == 0:
                span.flags = [*span.flags, "weight_0"]
        yield span


def completion_trace(answer: dict[str, Any]) -> str:
    """The trace of a completion whose prompt is not there: one for each."""
    return content_id("openai-completion", str(answer.get("id")))


def completion_span(answer: dict[str, Any]) -> str:
    """As for the trace: a stored completion is known by its id alone, its messages come apart from it."""
    if answer.get("id") is None:
        return identity(completion_trace(answer), answer.get("created"), answer.get("choices"))[:16]
    return content_id(completion_trace(answer), "llm")[:16]


def chat_request(
    span: RawSpan, own: dict[str, Any], kwargs: dict[str, Any], call: dict[str, Any], request: dict[str, Any]
) -> None:
    """Fills what was asked for: the model, its parameters and tools, and who asked where the tags say it."""
    span.model_requested = text(first(request, "model") or first(call, "model") or kwargs.get("model"))
    span.params = {k: v for k, v in {**own, **kwargs}.items() if k not in _NO_PARAMETERS}
    span.tools = request.get("tools") or kwargs.get("tools")
    tags = mapping(mapping(kwargs.get("extra_body")).get("metadata")).get("tags")
    named = [t.removeprefix("agent:") for t in tags or [] if isinstance(t, str) and t.startswith("agent:")]
    span.agent_name = span.agent_name or (named[0] if named else None)


def chat_answer(span: RawSpan, answer: dict[str, Any]) -> None:
    """Fills what a `chat.completion` object says: the answer, the model, usage, token ids."""
    choices = [c for c in answer.get("choices") or [] if isinstance(c, dict)]
    span.output = chat_output(choices)
    span.finish_reasons = [str(c["finish_reason"]) for c in choices if c.get("finish_reason") is not None] or None
    said = text(answer.get("model"))
    span.model_requested = span.model_requested or said
    span.model = said or span.model_requested
    if answer.get("id") is not None:
        span.attributes["response_id"] = span.response_id = str(answer["id"])
    for name in ("system_fingerprint", "service_tier"):
        if answer.get(name) is not None:
            span.attributes[name] = answer[name]
    fill_usage(span, answer.get("usage"))
    token_ids(span, answer, choices)


def chat_output(choices: list[dict[str, Any]]) -> list[Message]:
    return [m for c in choices for m in canonical(c.get("message") or {"content": c.get("text")}, "assistant")]


def token_ids(span: RawSpan, answer: dict[str, Any], choices: list[dict[str, Any]]) -> None:
    """Token ids and log-probabilities as vLLM and tracemill's own server return them."""
    if len(choices) != 1:
        return
    choice = choices[0]
    prompt = first(answer, "prompt_token_ids") or first(choice, "prompt_token_ids")
    ids = first(choice, "token_ids", "response_token_ids") or first(answer, "response_token_ids")
    span.input_token_ids = prompt if isinstance(prompt, list) else None
    span.output_token_ids = ids if isinstance(ids, list) else None
    logprobs = choice.get("logprobs")
    listed = logprobs.get("content") if isinstance(logprobs, dict) else None
    if isinstance(listed, list) and all(isinstance(item, dict) and "logprob" in item for item in listed):
        span.output_logprobs = [item["logprob"] for item in listed]
