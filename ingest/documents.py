"""JSON in the shapes that logs have it: lines, one document, an array of records; lenient, and record by record."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from tracemill.chat import as_text
from tracemill.ingest.limits import REPEATED
from tracemill.ingest.reader import BadRecord, Done, Head, Item, RawSpan, Stream

_BOM = b"\xef\xbb\xbf"
_MAX_DEPTH = 3
_BLANK = re.compile(r"[ \t\r\n]*+")
_LENIENT = json.JSONDecoder()


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The bytes of one JSON value and where they stand."""

    raw: bytes
    line: int
    offset: int
    key: str | None = None
    """The value's key, where the records are the values of one object."""

    def bad(self, reason: str) -> BadRecord:
        return BadRecord(reason=reason, line=self.line, offset=self.offset, excerpt=excerpt(self.raw))


MALFORMED = (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError, RecursionError)
"""What a record of impossible shape raises somewhere in the decoding; it costs that record, never the others."""


def each(found: Iterable[Record | BadRecord], items: Callable[[Record], Iterator[Item]]) -> Iterator[Item | Done]:
    """The items of every record, one record after the other; what goes wrong with one costs only that one."""
    for record in found:
        if isinstance(record, BadRecord):
            yield record
        else:
            yield from told(guarded(items(record), record.bad), record.bad)
        yield Done()


def guarded(items: Iterator[Item], bad: Callable[[str], BadRecord]) -> Iterator[Item]:
    """The items of one record; where it is malformed, a bad record instead of all of them.

    Logs are written by programs that nobody here has seen: any field may hold any value.
    """
    found: list[Item] = []
    repeated = 0
    try:
        for item in items:
            found.append(item)
            if isinstance(item, RawSpan) and item.input:
                repeated += len(item.input)
                if repeated > REPEATED:
                    raise ValueError(f"the prompts of its calls repeat more than {REPEATED:,} messages")
    except MALFORMED as error:
        yield bad(why(error))
        return
    yield from found


def told(
    items: Iterator[Item], bad: Callable[[str], BadRecord], why: str = "nothing in it makes a row"
) -> Iterator[Item]:
    """The items of one record; where there are none, a bad record: whatever comes in is accounted for."""
    said = False
    for item in items:
        said = True
        yield item
    if not said:
        yield bad(why)


def why(error: Exception) -> str:
    """The reason that is shown for a MALFORMED record; what a reader itself says in a ValueError is said as it is."""
    return str(error) if type(error) is ValueError else f"malformed record: {type(error).__name__}: {error}"


def excerpt(raw: bytes | str) -> str:
    """The first 2,000 characters, whatever the bytes are; more than is kept, so that redaction sees what it cuts."""
    return raw[:2000].decode("utf-8", "replace") if isinstance(raw, bytes) else raw[:2000]


def shown(value: Any) -> str:
    """A decoded value as an excerpt; empty where it is nested too deeply to be written."""
    try:
        return excerpt(as_text(value))
    except (TypeError, ValueError):  # what tables hold is not always JSON
        return excerpt(repr(value))
    except RecursionError:
        return ""


def loads(raw: bytes) -> Any:
    """A JSON value; NaN, lone surrogates and a byte order mark are taken as they come. Raises ValueError."""
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        try:
            text = raw.decode("utf-8-sig")
            return json.loads(text)
        except RecursionError:
            raise ValueError("the JSON is nested too deeply") from None
        except (ValueError, UnicodeDecodeError):
            raise ValueError(f"not valid JSON: {error}") from None


def unwrap(value: Any) -> Any:
    """JSON inside a string, decoded up to three levels; a string that is no JSON object or array stays as it is."""
    for _ in range(_MAX_DEPTH):
        if not isinstance(value, str):
            return value
        text = value.strip()
        if text[:1] not in ("{", "[", '"') or text[-1:] not in ("}", "]", '"'):
            return value
        try:
            decoded = loads(text.encode("utf-8", "surrogatepass"))
        except ValueError:
            return value
        if isinstance(decoded, str) and decoded.strip()[:1] not in ("{", "[", '"'):
            return value
        value = decoded
    return value


def records(stream: Stream, head: Head) -> Iterator[Record | BadRecord]:
    """The records of JSON lines, of an array, or the one document; a torn array still gives its whole elements."""
    if head.shape == "jsonl":
        yield from _lines(stream)
        return
    data = stream.read()
    start = len(_BOM) if data.startswith(_BOM) else 0
    body = data[start:].lstrip()
    if body[:1] == b"[":
        for element in _elements(data, start):
            if isinstance(element, Record) and len(element.raw) > stream.limits.record_bytes:
                element = element.bad(stream.limits.record_too_large(len(element.raw)))
            yield element
    elif body:
        yield from _documents(data, start)


def values(record: Record) -> Iterator[Record | BadRecord]:
    """The values of one JSON object as records of their own, those before a tear included."""
    try:
        found = msgspec.json.decode(record.raw, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        yield from scan(record.raw, record.line, record.offset)
        return
    place = _Place(record.raw, record.line, record.offset)
    for key, value in found.items():
        yield place.of(bytes(value), key)


def elements(record: Record) -> Iterator[Record | BadRecord]:
    """The elements of one JSON array as records of their own, those before a tear included."""
    for item in _elements(record.raw, 0):
        line = record.line + (item.line or 1) - 1
        offset = record.offset + (item.offset or 0)
        if isinstance(item, BadRecord):
            yield msgspec.structs.replace(item, line=line, offset=offset)
        else:
            yield Record(raw=item.raw, line=line, offset=offset, key=record.key)


def _lines(stream: Stream) -> Iterator[Record | BadRecord]:
    for line in stream.lines():
        raw = line.raw
        offset = line.offset
        if line.size is not None:
            yield BadRecord(
                reason=stream.limits.record_too_large(line.size), line=line.line, offset=offset, excerpt=excerpt(raw)
            )
            continue
        if line.line == 1 and raw.startswith(_BOM):
            raw, offset = raw[len(_BOM) :], len(_BOM)
        raw = raw.strip()
        if not raw:
            continue
        if raw[:1] == b"[":
            for item in _elements(raw, 0):
                yield (
                    msgspec.structs.replace(item, line=line.line, offset=offset)
                    if isinstance(item, BadRecord)
                    else Record(raw=item.raw, line=line.line, offset=offset + item.offset)
                )
        else:
            yield Record(raw=raw, line=line.line, offset=offset)


def _documents(data: bytes, start: int) -> Iterator[Record | BadRecord]:
    """The one document; where several follow one another (exporters print them so), each of them."""
    whole = Record(raw=data[start:], line=1, offset=start)
    try:
        msgspec.json.decode(whole.raw, type=msgspec.Raw)
        yield whole
        return
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = whole.raw.decode("utf-8", "surrogateescape")
    position = _blank(text, 0)
    try:
        after = _blank(text, _LENIENT.raw_decode(text, position)[1])
    except (ValueError, RecursionError):
        after = len(text)
    if text[after : after + 1] != "{":
        yield whole
        return
    place = _Place(data, 1, 0)
    while position < len(text):
        try:
            _, end = _LENIENT.raw_decode(text, position)
            yield place.of(text[position:end].encode("utf-8", "surrogateescape"), None)
        except (ValueError, RecursionError) as error:
            following = text.find("\n{", position)
            end = len(text) if following < 0 else following
            raw = text[position:end].encode("utf-8", "surrogateescape")
            yield place.of(raw, None).bad(f"not valid JSON: {error}")
        position = _blank(text, end)


def _elements(data: bytes, start: int) -> Iterator[Record | BadRecord]:
    try:
        found = msgspec.json.decode(data[start:], type=list[msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        yield from scan(data[start:], 1, start)
        return
    place = _Place(data[start:], 1, start)
    for value in found:
        yield place.of(bytes(value), None)


class _Place:
    """Finds line and offset of values that follow one another in a document."""

    def __init__(self, data: bytes, line: int, offset: int) -> None:
        self._data = data
        self._line = line
        self._base = offset
        self._at = 0

    def of(self, raw: bytes, key: str | None) -> Record:
        at = self._data.find(raw, self._at)
        at = self._at if at < 0 else at
        self._line += self._data.count(b"\n", self._at, at)
        record = Record(raw=raw, line=self._line, offset=self._base + at, key=key)
        self._line += raw.count(b"\n")
        self._at = at + len(raw)
        return record


def scan(data: bytes, line: int, base: int) -> Iterator[Record | BadRecord]:
    """Walks a broken array or object value by value until the tear; what follows the tear is one bad record."""
    text = data.decode("utf-8", "surrogateescape")
    position = _blank(text, 0)
    closing = {"[": "]", "{": "}"}.get(text[position : position + 1])
    if closing is None:
        yield BadRecord(reason="neither a JSON object nor an array", line=line, offset=base, excerpt=excerpt(data))
        return
    keyed = closing == "}"
    position += 1
    counted, offset = position, base + position
    while True:
        position = _blank(text, position)
        line += text.count("\n", counted, position)
        offset += len(text[counted:position].encode("utf-8", "surrogateescape"))
        counted = position
        if text[position : position + 1] == closing and not text[position + 1 :].strip():
            return
        try:
            key = None
            if keyed:
                key, position = _LENIENT.raw_decode(text, position)
                position = _blank(text, position)
                if text[position : position + 1] != ":" or not isinstance(key, str):
                    raise ValueError("a key is missing")
                position = _blank(text, position + 1)
            begin = position
            _, position = _LENIENT.raw_decode(text, position)
            after = _blank(text, position)
            if text[after : after + 1] not in (",", closing):
                raise ValueError("the document is torn here")
        except (ValueError, RecursionError) as error:
            rest = text[counted : counted + 2000].encode("utf-8", "surrogateescape")
            yield BadRecord(
                reason=f"not valid JSON from here on: {error}", line=line, offset=offset, excerpt=excerpt(rest)
            )
            return
        raw = text[begin:position].encode("utf-8", "surrogateescape")
        yield Record(raw=raw, line=line, offset=offset, key=key)
        position = after + 1 if text[after] == "," else after


def _blank(text: str, position: int) -> int:
    found = _BLANK.match(text, position)
    return position if found is None else found.end()
