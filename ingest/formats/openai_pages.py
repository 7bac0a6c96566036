"""Pages of the OpenAI API's lists: stored chat completions, the messages of one, and responses.

A stored completion is known by its id alone. Its messages are listed apart from it, each named by the completion's id
and a number; they become the prompt of the completion, whichever of the two pages comes first.
"""

import re
from collections.abc import Iterator
from typing import Any

from tracemill.ids import content_id
from tracemill.ingest.content.conversation import conversation
from tracemill.ingest.content.messages import canonical
from tracemill.ingest.documents import Record, each, loads, records
from tracemill.ingest.providers.openai import completion_span, completion_trace, stored
from tracemill.ingest.providers.responses import is_item, is_response, messages, response_call, server_tools
from tracemill.ingest.reader import About, Done, Head, Item, LateContent, RawSpan, Stream

_NUMBERED = re.compile(r"(.+)-(\d+)\Z")


class OpenAIPages:
    """Reader of list pages."""

    name = "openai-pages"
    about = About(
        title="OpenAI stored completions and list pages",
        files='`{"object": "list", "data": […]}` of stored chat completions, of their messages, of responses or items',
        maps="One call a completion, its metadata as attributes; the messages page of a completion becomes its prompt; "
        "items of a conversation become its calls and tool spans",
        lacks="Prompts of completions whose messages page is not there; end times; tokens of conversation items",
    )

    def sniff(self, head: Head) -> str | None:
        for record in head.records:
            if isinstance(record, dict) and record.get("object") == "list" and isinstance(record.get("data"), list):
                found = {kind for item in record["data"][:20] if (kind := _kind(item))}
                if len(found) == 1:
                    return f"a page of {found.pop()}"
        return None

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        yield from each(records(stream, head), _page)


def _kind(item: Any) -> str | None:
    if not isinstance(item, dict):
        return None
    if item.get("object") == "chat.completion":
        return "stored completions"
    if is_response(item):
        return "responses"
    if "role" in item and _NUMBERED.match(str(item.get("id"))) and "type" not in item:
        return "messages of a stored completion"
    return "items of a conversation" if is_item(item) else None


def _page(record: Record) -> Iterator[Item]:
    page = loads(record.raw)
    data = page.get("data") if isinstance(page, dict) else None
    if not isinstance(data, list):
        yield record.bad("no page of a list: data is missing")
        return
    kinds = [_kind(item) for item in data]
    for item, kind in zip(data, kinds, strict=True):
        if kind is None:
            yield record.bad(f"an entry of the page is none that is known: {str(item)[:100]}")
    yield from _messages([item for item, kind in zip(data, kinds, strict=True) if kind and kind.startswith("messages")])
    yield from _items(
        [item for item, kind in zip(data, kinds, strict=True) if kind and kind.startswith("items")], record
    )
    for item, kind in zip(data, kinds, strict=True):
        if kind == "stored completions":
            yield from stored(item, line=record.line)
        elif kind == "responses":
            span = response_call({}, {}, item, trace_id=None, line=record.line)
            yield span
            yield from server_tools(span)


def _messages(listed: list[dict[str, Any]]) -> Iterator[Item]:
    found: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    for message in listed:
        named = _NUMBERED.match(str(message["id"]))
        if named:
            found.setdefault(named.group(1), []).append((int(named.group(2)), message))
    for completion, numbered in found.items():
        answer = {"id": completion}
        yield LateContent(
            trace_id=completion_trace(answer),
            span_id=completion_span(answer),
            input=[said for _, message in sorted(numbered, key=lambda pair: pair[0]) for said in canonical(message)],
        )


def _items(listed: list[dict[str, Any]], record: Record) -> Iterator[Item]:
    if not listed:
        return
    trace_id = content_id("openai-items", [item.get("id") for item in listed])
    root_id = content_id(trace_id, "root")[:16]
    base: dict[str, Any] = {"dialect": "openai-responses", "line": record.line, "flags": ["lossy"]}
    root = {**base, "flags": ["lossy", "synthetic"]}
    yield RawSpan(trace_id=trace_id, span_id=root_id, kind="agent", name="conversation", seq=-1, **root)
    said = [{"role": role, "parts": parts} for role, _, parts in messages(listed)]
    yield from conversation(said, trace_id=trace_id, root_id=root_id, base=base)
