"""Logs of the Anthropic Messages API: message objects, requests with their responses, event streams."""

from collections.abc import Iterator
from typing import Any

from tracemill.ingest.documents import MALFORMED, Record, guarded
from tracemill.ingest.providers.anthropic import anthropic_call, is_answer, is_error
from tracemill.ingest.providers.calls import exchange, text
from tracemill.ingest.providers.openai import has_messages
from tracemill.ingest.providers.sse import decoded, sampled
from tracemill.ingest.providers.streams import MessageEvents, streamed
from tracemill.ingest.reader import About, BadRecord, Done, Head, Item, Stream

_EVENTS = frozenset(
    (
        *("message_start", "content_block_start", "content_block_delta", "content_block_stop"),
        *("message_delta", "message_stop", "ping"),
    )
)


class AnthropicMessages:
    """Reader of Messages API logs."""

    name = "anthropic"
    about = About(
        title="Anthropic Messages API",
        files="`message` objects; records with `request` and `response` (bodies of HTTP logs too) or with `messages` "
        "and `response`; event streams",
        maps="One call an answer; calls of one conversation share a trace; thinking, images, documents; tool results "
        "and the provider's own tools as tool spans. Input tokens count what was read from and written to the cache",
        lacks="Prompts and times of bare messages and streams; cost; tool spans have no duration",
    )

    def sniff(self, head: Head) -> str | None:
        for record in sampled(head):
            if not isinstance(record, dict):
                continue
            if is_answer(record):
                return "message objects of the Anthropic API"
            if record.get("type") == "message_start" and isinstance(record.get("message"), dict):
                return "events of Anthropic messages"
            _, request, response = exchange(record)
            answer = streamed(response)
            if is_answer(answer) or (is_error(answer) and has_messages(request or record)):
                return "records with request and response of the Anthropic API"
        return None

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        open_message: _Open | None = None
        for found in decoded(stream, head):
            if isinstance(found, BadRecord):
                yield found
                yield Done()
                continue
            record, value = found
            kind = text(value.get("type")) if isinstance(value, dict) else None
            if kind in _EVENTS or (kind == "error" and open_message is not None):
                # The events of one message follow one another: nothing in them names the message.
                if kind == "message_start" and open_message is not None:
                    yield from open_message.ended()
                    open_message = None
                open_message = open_message or _Open(record)
                try:
                    open_message.add(value)
                except MALFORMED as error:
                    yield record.bad(f"malformed event: {type(error).__name__}: {error}")
                if open_message.events.done:
                    yield from open_message.ended()
                    open_message = None
                continue
            yield from guarded(_call(value, record), record.bad)
            yield Done()
        if open_message is not None:
            yield from open_message.ended()


class _Open:
    """A message that is still being streamed."""

    def __init__(self, record: Record) -> None:
        self.events = MessageEvents()
        self._record = record
        self._count = 0

    def add(self, event: dict[str, Any]) -> None:
        self._count += 1
        self.events.add(event)

    def ended(self) -> Iterator[Item | Done]:
        answer = self.events.answer()
        if not answer.get("id") and not answer["content"] and not answer.get("error"):
            if self._count > 1 or self.events.done:
                yield self._record.bad("events of a message whose beginning is missing")
        else:
            flags = ["lossy", *(["truncated"] if self.events.torn else [])]
            more: dict[str, Any] = {"flags": flags}
            if self.events.torn and not answer.get("error"):
                more["status"] = "unset"
                if not answer.get("stop_reason"):  # what message_start counts is not yet the answer
                    more["tokens_out"] = None
            yield from guarded(anthropic_call({}, {}, answer, line=self._record.line, more=more), self._record.bad)
        yield Done(count=self._count)


def _call(value: Any, record: Record) -> Iterator[Item]:
    if not isinstance(value, dict):
        yield record.bad("no call: not a JSON object")
        return
    if is_answer(value):
        yield from anthropic_call({}, {}, value, line=record.line)
        return
    call, request, response = exchange(value)
    answer = streamed(response)
    request = request or value
    if is_answer(answer) or is_error(answer):
        yield from anthropic_call(call, request, answer, line=record.line)
    elif has_messages(request) and (call.get("error") or (isinstance(answer, dict) and answer.get("error"))):
        yield from anthropic_call(call, request, answer if isinstance(answer, dict) else {}, line=record.line)
    else:
        yield record.bad("no call of the Anthropic API: no message object")
