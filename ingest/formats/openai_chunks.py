"""Streams of chat completion chunks, as server-sent events or JSON lines; those of several calls may be interleaved."""

from collections.abc import Iterator
from typing import Any

from tracemill.ingest.documents import MALFORMED, Record, guarded, loads
from tracemill.ingest.providers.calls import text
from tracemill.ingest.providers.openai import chat_call
from tracemill.ingest.providers.sse import delivered, sampled
from tracemill.ingest.providers.streams import ChatChunks
from tracemill.ingest.reader import About, BadRecord, Done, Head, Item, Stream

_WAITING = 256
"""So many calls may have begun after one before its usage, or its end, is no longer waited for."""


class OpenAIChunks:
    """Reader of `chat.completion.chunk` streams."""

    name = "openai-chunks"
    about = About(
        title="OpenAI chat completion streams",
        files="`chat.completion.chunk` objects: JSON lines, or `data:` lines of server-sent events",
        maps="One call for each completion id, put together from its chunks; tool calls by their index",
        lacks="Prompts; usage, unless the stream was asked to include it; end times. A stream without its end is "
        "flagged `truncated`",
    )

    def sniff(self, head: Head) -> str | None:
        for record in sampled(head):
            if isinstance(record, dict) and record.get("object") == "chat.completion.chunk":
                return "chat completion chunks"
        return None

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        open_calls: dict[str, _Open] = {}
        unnamed: list[tuple[dict[str, Any], Record]] = []
        last = ""
        for record in delivered(stream, head):
            if isinstance(record, BadRecord):
                yield record
                yield Done()
                continue
            chunk = _chunk(record)
            if isinstance(chunk, BadRecord):
                yield chunk
                yield Done()
                continue
            # Some servers send what they have to say of the prompt before there is an id.
            identity = text(chunk.get("id")) or last
            if not identity:
                unnamed.append((chunk, record))
                continue
            if identity not in open_calls:
                open_calls[identity] = _Open(unnamed[0][1] if unnamed else record)
                for early, place in unnamed:
                    yield from open_calls[identity].add(early, place)
                unnamed = []
                yield from _overdue(open_calls)
            yield from open_calls[identity].add(chunk, record)
            last = identity
        for _, record in unnamed:
            yield record.bad("a chunk without an id, and none after it")
            yield Done()
        for held in open_calls.values():
            yield from held.ended()


class _Open:
    """A call that is still being streamed."""

    def __init__(self, record: Record) -> None:
        self.chunks = ChatChunks()
        self._record = record
        self._count = 0

    def add(self, chunk: dict[str, Any], record: Record) -> Iterator[BadRecord]:
        self._count += 1
        try:
            self.chunks.add(chunk)
        except MALFORMED as error:
            yield record.bad(f"malformed chunk: {type(error).__name__}: {error}")

    def ended(self) -> Iterator[Item | Done]:
        flags = ["lossy"] if self.chunks.done else ["lossy", "truncated"]
        more = {"flags": flags, "status": "ok" if self.chunks.done else "unset"}
        answer = self.chunks.answer()
        if answer.get("error"):
            more = {"flags": flags}
        yield from guarded(chat_call({}, {}, answer, line=self._record.line, more=more), self._record.bad)
        yield Done(count=self._count)


def _overdue(open_calls: dict[str, _Open]) -> Iterator[Item | Done]:
    """Ends calls when too many are open: those that are finished first, then those that began first."""
    if len(open_calls) <= 2 * _WAITING:  # half of them at once: to look for them at each new call would take longer
        return
    for identity in sorted(open_calls, key=lambda known: not open_calls[known].chunks.done)[:_WAITING]:
        yield from open_calls.pop(identity).ended()


def _chunk(record: Record) -> dict[str, Any] | BadRecord:
    try:
        chunk = loads(record.raw)
    except ValueError as error:
        return record.bad(str(error))
    if not isinstance(chunk, dict) or not ("choices" in chunk or "error" in chunk or "usage" in chunk):
        return record.bad("no chunk of a chat completion")
    if not isinstance(chunk.get("choices") or [], list):
        return record.bad("no chunk of a chat completion: choices is no list")
    return chunk
