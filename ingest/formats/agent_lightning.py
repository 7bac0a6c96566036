"""Agent Lightning: the spans of its 0.x store, the events and rollouts of 1.0.

One attempt at a rollout is one trajectory, whatever OpenTelemetry traces its spans came from, and the attempts of a
rollout are one session. Token ids and log-probabilities in these logs are those that the engine sampled; the attributes
say so (`token_ids`: "engine") and name the weights' version where it is logged.
"""

import ast
from collections.abc import Iterator, Mapping
from typing import Any

from tracemill.ids import content_id
from tracemill.ingest.attributes import as_float, as_int, as_ns, identity
from tracemill.ingest.content.messages import canonical
from tracemill.ingest.documents import Record, guarded, loads, records, unwrap
from tracemill.ingest.otel.envelope import events_of, origin_of, spoken
from tracemill.ingest.providers.calls import failed, mapping, new_tool_results, text
from tracemill.ingest.providers.openai import chat_answer, chat_request
from tracemill.ingest.reader import About, BadRecord, Done, Head, Item, RawScore, RawSpan, Stream

_STATES = {"succeeded": "ok", "failed": "error", "cancelled": "error"}
_PROXY = "llm.hosted_vllm."
_LITERAL_CHARS = 4 * 1024 * 1024
"""Longer Python text is not evaluated: Python takes 130 times its size in memory for that."""


class AgentLightning:
    """Reader of Agent Lightning's spans, events and rollouts."""

    name = "agent-lightning"
    about = About(
        title="Agent Lightning",
        files="JSON lines or arrays: 0.x spans (`rollout_id`, `attempt_id`, `span_id`), 1.0 events (`event_type`)",
        maps="An attempt is a trajectory, a rollout a session; calls with token ids and logprobs; rewards as scores",
        lacks="Token ids that no engine logged; tree and tool times in 1.0; a reward made up as a fallback is named so",
    )

    def sniff(self, head: Head) -> str | None:
        for record in head.records:
            if not isinstance(record, Mapping) or not isinstance(record.get("rollout_id"), str):
                continue
            if isinstance(record.get("event_type"), str):
                return "events of rollouts (Agent Lightning 1.0)"
            if "attempt_id" in record and "span_id" in record:
                return "spans of rollouts (Agent Lightning 0.x)"
            if "input" in record and ("is_train" in record or "mode" in record) and "status" in record:
                return "rollouts (Agent Lightning)"
        return None

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        for order, record in enumerate(records(stream, head)):
            if isinstance(record, BadRecord):
                yield record
            else:
                yield from guarded(_items(record, order), record.bad)
            yield Done()


def _items(record: Record, order: int) -> Iterator[Item]:
    found = loads(record.raw)
    if not isinstance(found, Mapping) or not isinstance(found.get("rollout_id"), str):
        yield record.bad("nothing of a rollout: rollout_id is missing")
    elif isinstance(found.get("event_type"), str):
        yield from _event(found, order, record.line)
    elif "span_id" in found:
        yield from _span(found, record.line)
    elif "input" in found or isinstance(found.get("events"), list):
        yield from _rollout(found, order, record.line)
    else:
        yield record.bad("nothing of a rollout that is known: neither event_type, span_id nor input")


def trace_of(rollout: Any, attempt: Any) -> str:
    """The trajectory of one attempt; 1.0 calls the only one "0"."""
    return content_id("agent-lightning", str(rollout), "0" if attempt is None else str(attempt))


def _span(found: Mapping[str, Any], line: int) -> Iterator[Item]:
    status, resource = mapping(found.get("status")), mapping(found.get("resource"))
    attributes = {str(name): value for name, value in mapping(unwrap(found.get("attributes"))).items()}
    prompt_ids, answer_ids, logprobs = _proxied(attributes)
    context, parent = mapping(found.get("context")), mapping(found.get("parent"))
    items = spoken(
        trace_id=trace_of(found["rollout_id"], found.get("attempt_id")),
        span_id=found.get("span_id") or context.get("span_id"),
        parent_id=found.get("parent_id") or parent.get("span_id"),
        name=text(found.get("name")),
        start_ns=as_ns(found.get("start_time")),
        end_ns=as_ns(found.get("end_time")),
        status=status.get("status_code"),
        message=text(status.get("description")),
        attributes=attributes,
        events=events_of(found.get("events")),
        links=found.get("links") or None,
        origin=origin_of(mapping(resource.get("attributes")), None),
        line=line,
        seq=as_int(found.get("sequence_id")),
        foreign_ids=True,
    )
    for item in items:
        if isinstance(item, RawSpan):
            item.session_id = str(found["rollout_id"])
            item.input_token_ids = item.input_token_ids or prompt_ids
            item.output_token_ids = item.output_token_ids or answer_ids
            item.output_logprobs = item.output_logprobs or logprobs
            item.attributes["agentlightning.attempt_id"] = found.get("attempt_id")
            item.attributes["agentlightning.trace_id"] = found.get("trace_id")
            _provenance(item)
        yield item


def _proxied(attributes: dict[str, Any]) -> tuple[list[int] | None, list[int] | None, list[float] | None]:
    """Token ids and log-probabilities as the LLM proxy of 0.3 logs them: vLLM's answer as the text of Python values."""
    prompt = _literal(attributes, f"{_PROXY}prompt_token_ids")
    answer = _literal(attributes, f"{_PROXY}response_token_ids")
    choices = _literal(attributes, f"{_PROXY}choices")
    choice = choices[0] if isinstance(choices, list) and len(choices) == 1 and isinstance(choices[0], dict) else {}
    ids = answer if isinstance(answer, list) else choice.get("token_ids")
    if isinstance(ids, list) and len(ids) == 1 and isinstance(ids[0], list):  # one list for each choice
        ids = ids[0]
    return _listed(prompt), _listed(ids), _logprobs(choice.get("logprobs"))


def _literal(attributes: dict[str, Any], name: str) -> Any:
    """Takes the value of JSON or Python text out of the attributes; what is neither stays there."""
    found = unwrap(attributes.get(name))
    if isinstance(found, str):
        if len(found) > _LITERAL_CHARS:
            return None
        try:
            found = ast.literal_eval(found)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return None
    attributes.pop(name, None)
    return found


def _event(found: Mapping[str, Any], order: int, line: int | None) -> Iterator[Item]:
    kind, data = str(found["event_type"]), mapping(found.get("data"))
    rollout, attempt = str(found["rollout_id"]), found.get("attempt_id")
    trace_id = trace_of(rollout, attempt)
    at = as_ns(found.get("timestamp"))
    if kind == "reward":
        yield _reward(data, trace_id, at)
        return
    span = RawSpan(
        trace_id=trace_id,
        span_id=identity(trace_id, kind, at, data if at is None else data.get("response"))[:16],
        session_id=rollout,
        kind="llm" if kind == "model_request" else "event",
        name="chat" if kind == "model_request" else kind,
        seq=order,
        start_ns=at,
        end_ns=at,
        line=line,
        dialect="agent-lightning",
    )
    if kind == "model_request":
        _model_request(span, data)
        span.attributes["agentlightning.attempt_id"] = attempt
        yield span
        yield from new_tool_results(span.input or [], span)
    else:
        span.attributes = {**data, "agentlightning.attempt_id": attempt}
        yield span


def _model_request(span: RawSpan, data: dict[str, Any]) -> None:
    request, answer = mapping(unwrap(data.get("request"))), mapping(unwrap(data.get("response")))
    server, adjusted = mapping(data.get("server")), mapping(data.get("adjusted_params"))
    prompt = request.get("messages") or (
        [{"role": "user", "content": request["prompt"]}] if "prompt" in request else []
    )
    span.input = [message for item in prompt for message in canonical(item)] or None
    known = ("request", "response", "usage", "finish_reason", "model", "adjusted_params", "status")
    span.attributes = {name: value for name, value in data.items() if name not in known and value is not None}
    chat_request(span, {**request, **adjusted}, {}, {}, request)
    chat_answer(span, answer)
    span.model_requested = text(request.get("model")) or text(data.get("model")) or span.model_requested
    span.model = text(data.get("model")) or text(server.get("model")) or span.model
    span.input_token_ids = span.input_token_ids or _listed(data.get("prompt_token_ids"))
    span.output_token_ids = span.output_token_ids or _listed(data.get("response_token_ids"))
    span.output_logprobs = span.output_logprobs or _logprobs(data.get("response_log_probs"))
    for name in ("prompt_token_ids", "response_token_ids", "response_log_probs"):
        span.attributes.pop(name, None)
    _provenance(span)
    if span.finish_reasons is None and data.get("finish_reason") is not None:
        span.finish_reasons = [str(data["finish_reason"])]
    if span.tokens_in is None and isinstance(data.get("usage"), Mapping):
        span.tokens_in = as_int(data["usage"].get("prompt_tokens"))
        span.tokens_out = as_int(data["usage"].get("completion_tokens"))
    took = as_float(data.get("latency_ms"))
    if span.end_ns is not None and took is not None:  # events are stamped when they are written
        span.start_ns = span.end_ns - int(took * 1e6)
    span.status = "ok"
    status = as_int(data.get("http_status"))
    if (status is not None and status >= 400) or str(data.get("status")).lower() in ("error", "failed"):
        failed(span, answer.get("error") or data.get("error") or f"HTTP status {status}")
    if span.input is None and span.input_token_ids is None:
        span.flags.append("lossy")


def _reward(data: dict[str, Any], trace_id: str, at: int | None) -> RawScore:
    """A reward that nobody gave, put in for a missing one, must not look like a judgement: it has another name."""
    made_up = data.get("source") == "fallback"
    evidence = {name: data[name] for name in ("message", "source", "reason") if data.get(name) is not None}
    return RawScore(
        target_kind="trajectory",
        target_id=trace_id,
        name="reward_fallback" if made_up else "reward",
        value=as_float(data.get("value")),
        source="env",
        evidence=evidence or None,
        at=at,
    )


def _rollout(found: Mapping[str, Any], order: int, line: int) -> Iterator[Item]:
    """A rollout of either version; exports hold its events too."""
    state = found.get("status")
    status = state if isinstance(state, Mapping) else {"state": state}
    attempt = (
        found.get("attempt_id") or mapping(found.get("attempt")).get("attempt_id") or status.get("last_attempt_id")
    )
    trace_id = trace_of(found["rollout_id"], attempt)
    rest = {name: value for name, value in found.items() if name not in ("events", "rollout_id") and value is not None}
    starts = as_ns(found.get("start_time")) or as_ns(status.get("created_at"))
    ends = as_ns(found.get("end_time")) or as_ns(status.get("updated_at"))
    yield RawSpan(
        trace_id=trace_id,
        span_id=content_id(trace_id, "rollout")[:16],
        kind="agent",
        name="rollout",
        seq=order - 1 if isinstance(found.get("events"), list) else -1,
        session_id=str(found["rollout_id"]),
        start_ns=starts,
        end_ns=ends if str(status.get("state")) in _STATES else None,
        status=_STATES.get(str(status.get("state")), "unset"),
        error_message=text(status.get("error_message")),
        attributes=rest,
        line=line,
        dialect="agent-lightning",
    )
    for at, event in enumerate(found.get("events") or ()):
        if isinstance(event, Mapping) and isinstance(event.get("event_type"), str):
            yield from _event({"rollout_id": found["rollout_id"], "attempt_id": attempt, **event}, at, line)


def _provenance(span: RawSpan) -> None:
    if span.input_token_ids is not None or span.output_token_ids is not None:
        span.attributes["token_ids"] = "engine"


def _listed(value: Any) -> list[int] | None:
    return value if isinstance(value, list) and value and all(type(item) is int for item in value) else None


def _logprobs(value: Any) -> list[float] | None:
    """Log-probabilities as numbers, or in the shape of the OpenAI API."""
    found = value.get("content") if isinstance(value, Mapping) else value
    if not isinstance(found, list) or not found:
        return None
    numbers = [as_float(item.get("logprob") if isinstance(item, Mapping) else item) for item in found]
    return [number for number in numbers if number is not None] if None not in numbers else None
