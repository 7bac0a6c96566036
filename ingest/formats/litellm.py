"""Logs of the LiteLLM gateway: StandardLoggingPayload objects (S3, GCS, callbacks) and rows of its SpendLogs table.

Both name a request by the same id and group its retries and fallbacks by the same trace, so a request that stands in
both is one call. LiteLLM writes 0 and "" where it knows nothing.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from tracemill.ids import content_id
from tracemill.ingest.attributes import as_float, as_int, as_ns, hex_id
from tracemill.ingest.content.messages import canonical_list
from tracemill.ingest.content.usage import fill_usage
from tracemill.ingest.documents import unwrap
from tracemill.ingest.providers.anthropic import anthropic_call, is_answer
from tracemill.ingest.providers.calls import mapping, text
from tracemill.ingest.providers.openai import chat_call
from tracemill.ingest.providers.responses import is_response, response_call
from tracemill.ingest.providers.streams import streamed
from tracemill.ingest.reader import About, Done, Head, Item, RawSpan, Stream
from tracemill.ingest.tables import bad_row, each_row

_KINDS = (("embedding", "embedding"), ("rerank", "reranker"), ("search", "retriever"), ("mcp_tool", "tool"))
_CONTENT = frozenset(("messages", "response", "model_parameters", "proxy_server_request", "model_map_information"))
_NOT_KEPT = _CONTENT | {"end_user", "user", "error_str", "startTime", "endTime"}
_PEOPLE = ("user_api_key_end_user_id", "user_api_key_user_id", "user_api_key_user_email")


class LiteLLM:
    """Reader of LiteLLM's logs."""

    name = "litellm"
    about = About(
        title="LiteLLM gateway",
        files="StandardLoggingPayload objects (`call_type`, `response_cost`, `model_map_information`) and SpendLogs "
        "rows (`request_id`, `spend`, `call_type`; JSON, CSV, Parquet)",
        maps="One call an attempt; retries and fallbacks share a trace; cost, errors, end user, guardrails as spans; "
        "answers from LiteLLM's cache are flagged `cache_hit`",
        lacks="Tokens and cost of failed calls; prompts and answers where LiteLLM was told not to log them; tool spans "
        "have no duration",
    )

    def sniff(self, head: Head) -> str | None:
        if {"request_id", "spend", "call_type"} <= set(head.columns):
            return "SpendLogs of LiteLLM"
        for record in head.records:
            if _is_payload(record):
                return "StandardLoggingPayload of LiteLLM"
            if _is_spend(record):
                return "SpendLogs of LiteLLM"
        return None

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        yield from each_row(stream, head, _row)


def _is_payload(record: Any) -> bool:
    return isinstance(record, dict) and {"call_type", "response_cost", "model_map_information"} <= set(record)


def _is_spend(record: Any) -> bool:
    return isinstance(record, dict) and {"request_id", "spend", "call_type"} <= set(record)


def _row(line: int, row: dict[str, Any]) -> Iterator[Item]:
    row = mapping(unwrap(row.get("standard_logging_object"))) or row
    if not _is_payload(row) and not _is_spend(row) and not {"call_type", "response_cost", "startTime"} <= set(row):
        yield bad_row(line, row, "no call of LiteLLM: call_type or its cost is missing")
        return
    yield from _call(row, line)


def _call(row: dict[str, Any], line: int) -> Iterator[Item]:
    request, answer = _request(row), streamed(unwrap(row.get("response")))
    answer = answer if isinstance(answer, dict) else {"choices": [{"message": {"content": answer}}]} if answer else {}
    failed = row.get("status") == "failure" or bool(text(row.get("error_str")))
    more = _fields(row, failed)
    found = list(_spans(request, answer, line, more))
    call, rest = found[0], found[1:]
    call.attributes = _attributes(row) | {k: v for k, v in call.attributes.items() if k == "response_id"}
    if failed:
        _error(call, row)
    _tokens(call, row, answer, failed)
    yield call
    for span in rest:
        span.session_id = span.session_id or call.session_id
        yield span
    yield from _guardrails(row, call)


def _request(row: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked, as a request of the API that was called."""
    asked = mapping(unwrap(row.get("model_parameters")))
    sent = mapping(unwrap(row.get("proxy_server_request")))  # SpendLogs, where the prompt is stored at all
    sent = mapping(unwrap(sent.get("body"))) or sent
    said = unwrap(row.get("messages")) or sent.get("messages") or sent.get("input")
    params = {**{k: v for k, v in sent.items() if k not in ("messages", "input", "metadata")}, **asked}
    return {**params, "messages": said}


def _spans(request: dict[str, Any], answer: dict[str, Any], line: int, more: dict[str, Any]) -> list[RawSpan]:
    said = request.pop("messages", None)
    if is_response(answer):
        span = response_call({}, {**request, "input": said or None}, answer, trace_id=more["trace_id"], line=line)
        for name, value in more.items():
            setattr(span, name, value)
        return [span]
    listed = isinstance(said, list) and all(isinstance(message, dict) for message in said)
    asked = {**request, "messages": said} if listed and said else request
    read = anthropic_call if is_answer(answer) else chat_call
    spans = [item for item in read({}, asked, answer, line=line, more=more) if isinstance(item, RawSpan)]
    if not listed and said:
        spans[0].input = canonical_list(said)
    if not answer.get("choices") and not is_answer(answer) and answer and spans[0].kind != "llm":
        spans[0].attributes["response"] = answer
    spans[0].flags = [] if spans[0].input else ["lossy"]
    return spans


def _fields(row: Mapping[str, Any], failed: bool) -> dict[str, Any]:
    """What the row around request and answer says of the call."""
    spend = "request_id" in row and "spend" in row
    metadata = mapping(unwrap(row.get("metadata")))
    identity = text(row.get("request_id" if spend else "id"))
    # In SpendLogs the trace stands in session_id; what applications call a session may be either.
    traced = text(row.get("session_id" if spend else "trace_id")) or identity or "?"
    starts, ends = as_ns(row.get("startTime")), as_ns(row.get("endTime"))
    # Attempts that failed may all carry the id of the request that they tried to answer.
    attempt = [identity, starts // 1_000_000 if starts is not None and failed else None]
    person = text(row.get("end_user")) or next((text(metadata.get(p)) for p in _PEOPLE if metadata.get(p)), None)
    kind = next((kind for part, kind in _KINDS if part in str(row.get("call_type"))), "llm")
    return {
        "trace_id": hex_id(traced, 16) or content_id("litellm", traced),
        "span_id": content_id("litellm", attempt)[:16],
        "kind": kind,
        "name": text(row.get("call_type")),
        "session_id": text(row.get("session_id")),
        "user": person or text(row.get("user")) or text(mapping(row.get("model_parameters")).get("user")),
        "start_ns": starts,
        "end_ns": ends,
        "status": "error" if failed else "ok",
        "provider": text(row.get("custom_llm_provider")),
        "model_requested": text(row.get("model_group")) or text(row.get("model")),
        "cost_usd": _cost(row, failed),
        "agent_name": text(row.get("agent_id")),
    }


def _cost(row: Mapping[str, Any], failed: bool) -> float | None:
    cost = as_float(row.get("response_cost", row.get("spend")))
    return None if failed and not cost else cost


def _tokens(call: RawSpan, row: Mapping[str, Any], answer: Mapping[str, Any], failed: bool) -> None:
    """The answer's own usage counts; the row's totals where there is none. All 0 without usage is not known."""
    metadata = mapping(unwrap(row.get("metadata")))
    fill_usage(call, mapping(metadata.get("usage_object")))
    counts = [as_int(row.get(name)) for name in ("prompt_tokens", "completion_tokens")]
    known = any(counts) or bool(answer.get("usage") or metadata.get("usage_object"))
    if known and not (failed and not any(counts)):
        call.tokens_in = counts[0] if call.tokens_in is None else call.tokens_in
        call.tokens_out = counts[1] if call.tokens_out is None else call.tokens_out
    model = text(row.get("model"))
    call.model = call.model or model
    if str(row.get("cache_hit")).lower() == "true":
        call.flags.append("cache_hit")
    if not call.output and not failed:
        call.output = None  # LiteLLM was told not to log it


def _error(call: RawSpan, row: Mapping[str, Any]) -> None:
    metadata = mapping(unwrap(row.get("metadata")))
    told = mapping(row.get("error_information")) or mapping(metadata.get("error_information"))
    call.status = "error"
    call.error_type = text(told.get("error_class")) or text(told.get("error_code")) or call.error_type
    call.error_message = text(told.get("error_message")) or text(row.get("error_str")) or call.error_message


def _attributes(row: Mapping[str, Any]) -> dict[str, Any]:
    """Everything else that says something."""
    kept = {k: _said(unwrap(v)) for k, v in row.items() if k not in _NOT_KEPT}
    return {k: v for k, v in kept.items() if v not in (None, "", [], {})}


def _said(value: Any) -> Any:
    return {k: v for k, v in value.items() if v not in (None, "", [], {})} if isinstance(value, dict) else value


def _guardrails(row: Mapping[str, Any], call: RawSpan) -> Iterator[RawSpan]:
    told = unwrap(row.get("guardrail_information"))
    if told is None:
        told = mapping(unwrap(row.get("metadata"))).get("guardrail_information")
    for at, rail in enumerate(told if isinstance(told, list) else [told] if told else []):
        if not isinstance(rail, Mapping):
            continue
        status = text(rail.get("guardrail_status"))
        yield RawSpan(
            trace_id=call.trace_id,
            span_id=content_id("litellm", call.span_id, "guardrail", at)[:16],
            parent_span_id=call.span_id,
            session_id=call.session_id,
            user=call.user,
            kind="guardrail",
            name=text(rail.get("guardrail_name")) or "guardrail",
            seq=(call.seq or 0) + at,
            start_ns=as_ns(rail.get("start_time")),
            end_ns=as_ns(rail.get("end_time")),
            status="error" if status == "guardrail_failed_to_respond" else "ok" if status else "unset",
            provider=text(rail.get("guardrail_provider")),
            attributes={k: v for k, v in rail.items() if v is not None},
            line=call.line,
            dialect="litellm",
        )
