"""Logs of OpenAI chat-completions calls: requests with their responses, bare responses, and bare message lists.

Every call repeats the conversation so far. Calls of one conversation get one trace id made from what they all share
(system prompt, first user message, session where one is logged), so it is the same whatever file a call is found in.
"""

from collections.abc import Iterator
from typing import Any

from tracemill.ingest.documents import Record, each, guarded, loads, records, unwrap
from tracemill.ingest.providers.openai import bare_conversation, chat_call, has_messages, stored
from tracemill.ingest.providers.streams import streamed
from tracemill.ingest.reader import About, BadRecord, Done, Head, Item, Stream


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
            if isinstance(request, dict) and has_messages(request):
                return "records with request and response"
            if has_messages(record):
                return "records with messages and response" if "response" in record else "records with messages"
        return None

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        if head.records and all(_is_message(record) for record in head.records):
            yield from _lists(stream, head)
            return
        yield from each(records(stream, head), _record)


def _is_message(value: Any) -> bool:
    return (
        isinstance(value, dict) and isinstance(value.get("role"), str) and ("content" in value or "tool_calls" in value)
    )


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
            yield from guarded(
                bare_conversation([message for _, message in group], line=first.line, rest={}), first.bad
            )
        yield Done()


def _record(record: Record) -> Iterator[Item]:
    call = unwrap(loads(record.raw))
    if not isinstance(call, dict):
        yield record.bad("no call: not a JSON object")
        return
    if call.get("object") == "chat.completion":
        yield from stored(call, line=record.line)
    elif isinstance(request := unwrap(call.get("request")), dict) and has_messages(request):
        yield from chat_call(call, request, streamed(unwrap(call.get("response"))), line=record.line)
    elif has_messages(call) and "response" in call:
        yield from chat_call(call, call, streamed(unwrap(call.get("response"))), line=record.line)
    elif has_messages(call):
        rest = {name: value for name, value in call.items() if name != "messages"}
        yield from bare_conversation(call["messages"], line=record.line, rest=rest)
    else:
        yield record.bad("no call: neither messages nor choices")
