"""Records of one model call as applications write them: the request, the response, and around them times, cost, people.

Providers differ in request and response; what applications and gateways put around them is alike. It is read here.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tracemill.chat import text_of
from tracemill.ids import content_id
from tracemill.ingest.attributes import as_float, as_ns
from tracemill.ingest.content.conversation import tool_calls, tool_span
from tracemill.ingest.documents import unwrap
from tracemill.ingest.reader import Message, RawSpan

_STARTS = ("start_time", "startTime", "started_at", "request_time")
_STAMPS = ("timestamp", "end_time", "endTime", "created_at", "time", "ts")
_SECONDS = (
    ("latency_sec", 1.0),
    ("latency_s", 1.0),
    ("response_time", 1.0),
    ("latency_ms", 1e-3),
    ("duration_ms", 1e-3),
)
_SESSIONS = ("session_id", "conversation_id", "thread_id", "chat_id", "trace_id")
PEOPLE = ("user", "user_id", "end_user")
_MAPPED = frozenset(
    (
        *("messages", "input", "response", "request", "tools", "kwargs", "raw_messages", "raw_response", "cost"),
        *("response_body", "request_body", "body", *PEOPLE),
    )
)


def first(record: Mapping[str, Any], *names: str) -> Any:
    """The first of the named values that is not None."""
    return next((record[name] for name in names if record.get(name) is not None), None)


def text(value: Any) -> str | None:
    """A value as text; None for None and for empty text, which gateways write for "not known"."""
    return None if value is None or value == "" else str(value)


def mapping(value: Any) -> dict[str, Any]:
    """The value where it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def exchange(record: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], Any]:
    """What stands around a call, its request and its response, out of the wrappers that HTTP logs put around them.

    The request may be empty. The response is whatever stands there: an object, text of a stream, None.
    """
    request = mapping(unwrap(first(record, "request", "request_body")))
    response = unwrap(first(record, "response", "response_body"))
    call = record
    if isinstance(body := unwrap(request.get("body")), dict):
        call, request = {"start_time": request.get("timestamp"), **record}, body
    if isinstance(response, dict) and not {"object", "choices", "content"} & set(response):
        for name in ("body", "body_raw"):
            if name in response:
                return {"end_time": response.get("timestamp"), **call}, request, unwrap(response[name])
    return call, request, response


def session_of(*records: Mapping[str, Any]) -> str | None:
    """The session that the first of the records names, itself or in its metadata."""
    for record in records:
        for place in (record, mapping(record.get("metadata"))):
            for name in _SESSIONS:
                value = place.get(name)
                if isinstance(value, str | int) and value != "":
                    return str(value)
    return None


def times(call: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Start and end of a call in nanoseconds, from whatever the record tells of them."""
    ends = next((t for t in (as_ns(call.get(name)) for name in _STAMPS) if t), None)
    starts = next((t for t in (as_ns(call.get(name)) for name in _STARTS) if t), None)
    took = next((s * unit for name, unit in _SECONDS if (s := as_float(call.get(name))) is not None), None)
    if starts is None and ends is not None:
        starts = ends if took is None else ends - int(took * 1e9)
    elif starts is not None and took is not None and ends is None:
        ends = starts + int(took * 1e9)
    return starts, ends


def surround(span: RawSpan, call: Mapping[str, Any], request: Mapping[str, Any]) -> None:
    """Fills cost, user, task, agent, provider and the attributes from the record around a call."""
    span.cost_usd = as_float(first(call, "cost", "response_cost", "cost_usd"))
    span.user = text(first(call, *PEOPLE)) or text(request.get("user"))
    span.task_key = text(first(call, "task_key", "task_id"))
    agent = first(call, "agent_name", "agent")
    span.agent_name = agent if isinstance(agent, str) else None
    span.provider = text(first(call, "provider", "custom_llm_provider"))
    span.attributes = {k: v for k, v in call.items() if k not in _MAPPED}


def failed(span: RawSpan, error: Any) -> None:
    """Marks the span as failed with an error in any spelling."""
    inner = error if isinstance(error, dict) else {"message": error}
    if isinstance(inner.get("error"), dict):
        inner = inner["error"]
    span.status = "error"
    span.error_message = str(inner.get("message") or error)
    span.error_type = text(first(inner, "type", "code"))


def conversation_id(kind: str, said: Sequence[Message], session: str | None) -> str:
    """The trace that all calls of one conversation share: they begin with the same system prompt and user message."""
    system = [text_of(parts) for role, _, parts in said if role == "system"][:1]
    opening = next(([text_of(parts)] for role, _, parts in said if role == "user"), [])
    return content_id(kind, system, opening, session)


def new_tool_results(said: Sequence[Message], span: RawSpan) -> Iterator[RawSpan]:
    """Tool spans for the results that are new with this call: those after the last answer in its prompt."""
    last = max((at for at, message in enumerate(said) if message[0] == "assistant"), default=-1)
    calls = tool_calls([part for message in said for part in message[2]])
    base: dict[str, Any] = {
        "session_id": span.session_id,
        "start_ns": span.start_ns,
        "end_ns": span.start_ns,
        "agent_name": span.agent_name,
        "user": span.user,
        "line": span.line,
        "dialect": span.dialect,
        "flags": ["lossy"],
    }
    for at, (role, name, parts) in enumerate(said[last + 1 :], start=last + 1):
        if role == "tool":
            key = str(parts[0].get("id") or at)
            yield tool_span(
                parts[0], name, calls, trace_id=span.trace_id, key=f"{key}/{at}", parent=None, seq=at, base=base
            )
