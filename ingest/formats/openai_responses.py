"""Logs of the OpenAI Responses API: response objects, requests with their responses, and event streams.

A response may go on from a stored one (`previous_response_id`): then the request says only what is new. Where the
earlier response stands before it in the same file, the prompt is put together as the server did it; else the call is
flagged `history_external`. A conversation object can be changed from outside, so its history is always external.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tracemill.ingest.documents import MALFORMED, Record, guarded
from tracemill.ingest.providers.calls import exchange, first, mapping, new_tool_results, text
from tracemill.ingest.providers.responses import is_response, response_call, server_tools
from tracemill.ingest.providers.sse import decoded, sampled
from tracemill.ingest.providers.streams import ResponseEvents, streamed
from tracemill.ingest.reader import About, BadRecord, Done, Head, Item, Message, Stream

_HELD_BYTES = 64 * 1024 * 1024
_POINTER_BYTES = 8
_OPEN = 256
"""So many streams may be told at the same time; beyond, the one that began first is taken for torn."""


class OpenAIResponses:
    """Reader of Responses API logs."""

    name = "openai-responses"
    about = About(
        title="OpenAI Responses API",
        files="`response` objects; records with `request` and `response`; event streams (`event: response.…` or JSONL)",
        maps="One span a call; responses that follow one another share a trace, their prompts put together again where "
        "the file holds them; tools that the provider ran as tool spans; function results as tool spans",
        lacks="End times in older responses; prompts of bare responses; history that only the server keeps "
        "(`history_external`); tool spans have no duration",
    )

    def sniff(self, head: Head) -> str | None:
        for record in sampled(head):
            if is_response(record):
                return "response objects"
            if isinstance(record, dict):
                if _is_event(record):
                    return "events of responses"
                _, request, response = exchange(record)
                request = request or record
                if is_response(streamed(response)):
                    return "records with request and response of the Responses API"
                if "input" in request and "model" in request and "response" in record and _failed(record, response):
                    return "records with request and response of the Responses API"
        return None

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        chains, open_streams = _Chains(), _Streams()
        for found in decoded(stream, head):
            if isinstance(found, BadRecord):
                yield found
                yield Done()
                continue
            record, value = found
            if isinstance(value, dict) and _is_event(value):
                try:
                    ended = list(open_streams.add(value, record))
                except MALFORMED as error:
                    yield record.bad(f"malformed event: {type(error).__name__}: {error}")
                    continue
                for merged, count in ended:
                    yield from guarded(_call(merged.answer(), merged.record, chains), merged.record.bad)
                    yield Done(count=count)
                continue
            yield from guarded(_call(value, record, chains), record.bad)
            yield Done()
        for merged, count in open_streams.rest():
            yield from guarded(_call(merged.answer(), merged.record, chains), merged.record.bad)
            yield Done(count=count)


def _is_event(record: Mapping[str, Any]) -> bool:
    kind = record.get("type")
    return isinstance(kind, str) and (
        (kind.startswith("response.") and ("sequence_number" in record or "response" in record or "delta" in record))
        or (kind == "error" and "sequence_number" in record)
    )


def _failed(record: Mapping[str, Any], response: Any) -> bool:
    return bool(record.get("error") or mapping(response).get("error"))


class _Merged:
    """A stream that is being put together, and where it began."""

    def __init__(self, record: Record) -> None:
        self.events = ResponseEvents()
        self.record = record
        self.count = 0
        self.items: set[str] = set()

    def answer(self) -> dict[str, Any]:
        found = self.events.answer()
        return found if self.events.done else {**found, "status": "torn"}


class _Streams:
    """Streams of one file, which may stand one after the other or interleaved."""

    def __init__(self) -> None:
        self._open: dict[str, _Merged] = {}
        self._items: dict[str, str] = {}
        self._last = ""

    def add(self, event: dict[str, Any], record: Record) -> Iterator[tuple[_Merged, int]]:
        """Gives what this event ends."""
        named = text(mapping(event.get("response")).get("id"))
        item = text(event.get("item_id") or mapping(event.get("item")).get("id"))
        identity = named or self._items.get(item or "") or self._last
        held = self._open.get(identity)
        if held is None:
            held = self._open[identity] = _Merged(record)
            if len(self._open) > _OPEN:
                yield self._close(next(iter(self._open)))
        if item:
            self._items[item] = identity
        self._last = identity
        held.count += 1
        held.events.add(event)
        held.items.update({item} if item else ())
        if held.events.done:
            yield self._close(identity)

    def _close(self, identity: str) -> tuple[_Merged, int]:
        held = self._open.pop(identity)
        for item in held.items:
            self._items.pop(item, None)
        return held, held.count

    def rest(self) -> Iterator[tuple[_Merged, int]]:
        for held in self._open.values():
            yield held, held.count


@dataclass(slots=True, kw_only=True)
class _Turn:
    """What a later response goes on from."""

    trace_id: str
    said: list[Message]
    """The whole prompt without instructions, which the server does not carry over, and the answer."""
    whole: bool
    size: int
    """About the bytes that it holds."""


class _Chains:
    """The responses of a file so far, the oldest forgotten where they are too many to hold."""

    def __init__(self) -> None:
        self._turns: OrderedDict[str, _Turn] = OrderedDict()
        self._size = 0

    def find(self, response_id: str | None) -> _Turn | None:
        return None if response_id is None else self._turns.get(response_id)

    def put(self, response_id: str, turn: _Turn) -> None:
        self._turns[response_id] = turn
        self._size += turn.size
        while self._size > _HELD_BYTES and len(self._turns) > 1:
            self._size -= self._turns.popitem(last=False)[1].size


def _call(value: Any, record: Record, chains: _Chains) -> Iterator[Item]:
    if not isinstance(value, dict):
        yield record.bad("no call: not a JSON object")
        return
    if value.get("object") == "response":
        call: dict[str, Any] = {}
        request: dict[str, Any] = {k: value[k] for k in ("input",) if k in value}
        response = value
    else:
        call, request, answer = exchange(value)
        request, answer = request or value, streamed(answer)
        response = answer if isinstance(answer, dict) else {}
        if not is_response(response) and not (_failed(value, answer) and "input" in request):
            yield record.bad("no call of the Responses API: no response object")
            return
        response = {**response, "error": first(value, "error") or response.get("error")}
    before = text(first(response, "previous_response_id") or request.get("previous_response_id"))
    earlier = chains.find(before)
    span = response_call(
        call, request, response, trace_id=None if earlier is None else earlier.trace_id, line=record.line
    )
    if response.get("status") == "torn":
        span.flags.append("truncated")
    external = bool(first(response, "conversation") or request.get("conversation"))
    own = [message for message in span.input or [] if message[0] != "system"]
    if span.input is not None and before is not None and earlier is not None:
        opening = [message for message in span.input if message[0] == "system"]
        span.input = [*opening, *earlier.said, *own]
        external = external or not earlier.whole
    elif before is not None:
        external = True
    if external or _refers(own):
        span.flags.append("history_external")
    span.seq = len(span.input or ())
    yield span
    if span.response_id is not None:
        said = [*(earlier.said if earlier else []), *own, *(span.output or [])]
        whole = span.input is not None and "history_external" not in span.flags
        size = len(record.raw) + _POINTER_BYTES * len(said)
        chains.put(span.response_id, _Turn(trace_id=span.trace_id, said=said, whole=whole, size=size))
    yield from server_tools(span)
    yield from new_tool_results(span.input or (), span)


def _refers(said: list[Message]) -> bool:
    """Whether a part only names an item that the server keeps."""
    return any(part.get("type") == "item_reference" for message in said for part in message[2])
