"""Anthropic Message Batches: result lines, and the requests that asked for them."""

from collections.abc import Iterator
from typing import Any

from tracemill.ids import content_id
from tracemill.ingest.attributes import identity
from tracemill.ingest.documents import Record, each, loads, records
from tracemill.ingest.providers import batched
from tracemill.ingest.providers.anthropic import anthropic_call, messages, tools
from tracemill.ingest.providers.calls import failed, mapping, text
from tracemill.ingest.providers.openai import has_messages
from tracemill.ingest.reader import About, Done, Head, Item, RawSpan, Stream

_NOT_PARAMS = frozenset(("model", "messages", "system", "tools", "metadata"))
_RESULTS = frozenset(("succeeded", "errored", "canceled", "expired"))


class AnthropicBatch:
    """Reader of Message Batches."""

    name = "anthropic-batch"
    about = About(
        title="Anthropic Message Batches",
        files="Result lines (`custom_id`, `result`) and requests (`custom_id`, `params`; alone or below `requests`)",
        maps="One call a result; errored, canceled and expired requests are calls with that error; the request of its "
        "custom_id becomes its prompt where both files are taken in together. Requests without a result are events "
        "(`unanswered`), not calls",
        lacks="Times; cost; prompts where the requests are not there, or where their custom_ids stand in several",
    )

    def sniff(self, head: Head) -> str | None:
        for record in head.records:
            if _is_result(record):
                return "results of a message batch"
            inner = record.get("requests") if isinstance(record, dict) else None
            if _is_request(record) or (isinstance(inner, list) and any(map(_is_request, inner[:20]))):
                return "requests of a message batch"
        return None

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        yield from each(records(stream, head), _line)


def _is_result(record: Any) -> bool:
    return (
        isinstance(record, dict)
        and "custom_id" in record
        and text(mapping(record.get("result")).get("type")) in _RESULTS
    )


def _is_request(record: Any) -> bool:
    return isinstance(record, dict) and "custom_id" in record and has_messages(mapping(record.get("params")))


def _line(record: Record) -> Iterator[Item]:
    row = loads(record.raw)
    if _is_result(row):
        yield from _answer(row, record)
        return
    inner = row.get("requests") if isinstance(row, dict) else None
    for request in inner if isinstance(inner, list) else [row]:
        if not _is_request(request):
            yield record.bad("no line of a message batch: neither custom_id with a result nor with params")
            continue
        params = request["params"]
        span = batched.waiting(
            request["custom_id"],
            messages(params),
            {**params, "tools": tools(params)},
            not_params=_NOT_PARAMS,
            line=record.line,
            dialect="anthropic",
        )
        span.user = text(mapping(params.get("metadata")).get("user_id"))
        yield span


def _answer(row: dict[str, Any], record: Record) -> Iterator[Item]:
    result = row["result"]
    message = mapping(result.get("message"))
    trace_id = identity("anthropic-batch", text(message.get("id")) or [row["custom_id"], result])
    more: dict[str, Any] = {"trace_id": trace_id, "span_id": content_id(trace_id, "answer")[:16], "flags": ["lossy"]}
    spans = anthropic_call({}, {}, message, line=record.line, more=more)
    found = [span for span in spans if isinstance(span, RawSpan)]
    call = found[0]
    call.attributes["custom_id"] = row["custom_id"]
    if result["type"] == "errored":
        failed(call, result.get("error") or "errored")
    elif result["type"] != "succeeded":
        failed(call, {"type": result["type"], "message": f"the request was {result['type']} before it was answered"})
    yield from found
