"""OpenAI Batch API files: outputs and errors, and the inputs that asked for them."""

from collections.abc import Iterator
from typing import Any

from tracemill.ids import content_id
from tracemill.ingest.attributes import identity
from tracemill.ingest.content.messages import canonical
from tracemill.ingest.documents import Record, each, loads, records, unwrap
from tracemill.ingest.providers import batched
from tracemill.ingest.providers.calls import failed, mapping, text
from tracemill.ingest.providers.openai import chat_call
from tracemill.ingest.providers.responses import is_response, messages, response_call, server_tools
from tracemill.ingest.reader import About, Done, Head, Item, RawSpan, Stream

_NOT_PARAMS = frozenset(("model", "messages", "input", "instructions", "tools", "user"))


class OpenAIBatch:
    """Reader of Batch API files."""

    name = "openai-batch"
    about = About(
        title="OpenAI Batch API",
        files="Output and error files (`custom_id` with `response` or `error`) and input files (`custom_id`, `url`, "
        "`body`)",
        maps="One call an output line; the request of its custom_id becomes its prompt where both files are taken in "
        "together. Requests without an answer are events (`unanswered`), not calls",
        lacks="End times; prompts where the input file is not there, or where its custom_ids stand in several",
    )

    def sniff(self, head: Head) -> str | None:
        for record in head.records:
            if _is_output(record):
                return "output lines of the Batch API"
            if _is_input(record):
                return "input lines of the Batch API"
        return None

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        yield from each(records(stream, head), _line)


def _is_output(record: Any) -> bool:
    return isinstance(record, dict) and "custom_id" in record and ("response" in record or "error" in record)


def _is_input(record: Any) -> bool:
    return isinstance(record, dict) and {"custom_id", "body", "url"} <= set(record)


def _line(record: Record) -> Iterator[Item]:
    row = loads(record.raw)
    if _is_output(row):
        yield from _answer(row, record)
    elif _is_input(row) and (body := mapping(unwrap(row["body"]))):
        said = [*_instructions(body), *_prompt(body)]
        span = batched.waiting(
            row["custom_id"], said, body, not_params=_NOT_PARAMS, line=record.line, dialect=_dialect(body)
        )
        span.user = text(body.get("user"))
        yield span
    else:
        yield record.bad("no line of a batch: neither custom_id with response or error, nor custom_id with a body")


def _answer(row: dict[str, Any], record: Record) -> Iterator[Item]:
    response = mapping(row.get("response"))
    body = mapping(unwrap(response.get("body")))
    known = text(row.get("id")) or text(response.get("request_id")) or text(body.get("id"))
    trace_id = identity("openai-batch", known or [row.get("custom_id"), response])
    more: dict[str, Any] = {"trace_id": trace_id, "span_id": content_id(trace_id, "answer")[:16], "flags": ["lossy"]}
    spans: list[RawSpan]
    if is_response(body):
        call = response_call({}, {}, body, trace_id=trace_id, line=record.line)
        call.span_id = more["span_id"]
        spans = [call, *server_tools(call)]
    else:
        spans = [s for s in chat_call({}, {}, body, line=record.line, more=more) if isinstance(s, RawSpan)]
        call = spans[0]
        call.kind = "embedding" if body.get("object") == "list" else "llm"
    call.provider = "openai"
    kept = {k: v for k, v in call.attributes.items() if k in ("response_id", "system_fingerprint", "metadata")}
    call.attributes = {"custom_id": row["custom_id"], "batch_line": text(row.get("id")), **kept}
    status = response.get("status_code")
    if row.get("error") or body.get("error") or (isinstance(status, int) and status >= 400):
        failed(call, row.get("error") or body.get("error") or f"HTTP status {status}")
        call.output = []
    yield from spans


def _prompt(body: dict[str, Any]) -> list[Any]:
    if body.get("messages"):
        return [found for message in body["messages"] for found in canonical(message)]
    return messages(body["input"]) if body.get("input") is not None else []


def _instructions(body: dict[str, Any]) -> list[Any]:
    given = body.get("instructions")
    return [("system", None, [{"type": "text", "content": given}])] if isinstance(given, str) and given else []


def _dialect(body: dict[str, Any]) -> str:
    return "openai" if "messages" in body else "openai-responses"
