"""What a format reader gets and gives: a stream of bytes in; raw spans, raw scores and bad records out.

A new format is one file in `ingest/formats/` with a Reader, and one line in its registry.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Protocol

import msgspec

from tracemill.chat import Part
from tracemill.ingest.limits import Limits, TooLargeError
from tracemill.ingest.source import BROKEN

HEAD_BYTES = 256 * 1024
_BLANK_LINES = re.compile(rb"\n{1024,}")
_KEPT_BYTES = 4096
"""What is kept of a line that is too long, to be shown."""

Message = tuple[str, str | None, list[Part]]
"""Role, name, canonical parts: tracemill/chat.py."""


class RawSpan(msgspec.Struct, kw_only=True):
    """One span as a format says it: decoded, mapped to canonical names, neither redacted nor checked."""

    trace_id: str
    span_id: str
    kind: str
    parent_span_id: str | None = None
    session_id: str | None = None
    user: str | None = None
    """Raw user id; only its pseudonym is ever written."""
    seq: int | None = None
    name: str | None = None
    start_ns: int | None = None
    end_ns: int | None = None
    status: str = "unset"
    error_type: str | None = None
    error_message: str | None = None
    service: str | None = None
    agent_name: str | None = None
    agent_version: str | None = None
    provider: str | None = None
    model_requested: str | None = None
    model: str | None = None
    params: dict[str, Any] | None = None
    system: list[Message] | None = None
    """System messages; they are also where they stood in `input`. None: derived from `input`."""
    input: list[Message] | None = None
    """The whole prompt in order, system messages included. None: not logged."""
    output: list[Message] | None = None
    tools: Sequence[Any] | None = None
    finish_reasons: list[str] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None
    tool_args: Any = None
    tool_result: Any = None
    tokens_in: int | None = None
    tokens_cache_read: int | None = None
    tokens_cache_write: int | None = None
    tokens_out: int | None = None
    tokens_reasoning: int | None = None
    cost_usd: float | None = None
    prompt_name: str | None = None
    prompt_version: str | None = None
    prompt_label: str | None = None
    prompt_variables: Any = None
    input_token_ids: Sequence[int] | None = None
    output_token_ids: Sequence[int] | None = None
    output_logprobs: Sequence[float] | None = None
    task_key: str | None = None
    response_id: str | None = None
    """The provider's id of the answer; twice-instrumented calls share it. Not a column."""
    attributes: dict[str, Any] = {}
    resource: dict[str, Any] | None = None
    """What all spans of one process share; stands in the attributes as "resource"."""
    line: int | None = None
    dialect: str | None = None
    revised_ns: int | None = None
    """When the source last changed this span; the later of two deliveries counts. None: it does not say."""
    partial: bool = False
    """Says only what has changed since an earlier delivery of the span: None means unchanged, not unknown."""
    flags: list[str] = []


class RawScore(msgspec.Struct, kw_only=True):
    """One judgement as a source says it; columns of schema.SCORES before redaction."""

    target_kind: str
    target_id: str
    name: str
    value: float | None = None
    label: str | None = None
    source: str
    version: str | None = None
    confidence: float | None = None
    evidence: Any = None
    propensity: float | None = None
    user: str | None = None
    at: int | None = None


class LateContent(msgspec.Struct, kw_only=True):
    """Messages of a span that were logged elsewhere (OTLP logs); joined by trace and span id, whichever comes first."""

    trace_id: str
    span_id: str
    input: list[Message] = []
    output: list[Message] = []
    at: int | None = None
    """When they were logged, in nanoseconds: the order of several of one span."""
    line: int | None = None


class BadRecord(msgspec.Struct, kw_only=True):
    """A record that cannot be used, and why."""

    reason: str
    line: int | None = None
    offset: int | None = None
    excerpt: str = ""


class Origin(msgspec.Struct, kw_only=True):
    """What the OpenTelemetry spans of one resource and scope share."""

    resource: dict[str, Any]
    scope: str | None = None
    service: str | None = None


class Heard(msgspec.Struct, gc=False):
    """An OpenTelemetry span as its envelope says it, of which the vocabulary is not read yet."""

    trace_id: str
    span_id: str
    parent_id: str | None
    """The ids are lower-case hex."""
    name: str | None
    start_ns: int | None
    end_ns: int | None
    status: int | str | None
    message: str | None
    names: tuple[str, ...]
    values: list[Any]
    """Of the attributes, in their order."""
    events: list[Any] = []
    """Of type dialects.event.Event."""
    links: list[Any] | None = None
    flags: list[str] = []


class Bundle(msgspec.Struct, gc=False):
    """Spans of one record that share their origin: understood together, or one by one, by whoever takes them in."""

    spans: list[Heard]
    origin: Origin
    line: int | None
    bad: Callable[[str], "BadRecord"]
    """What stands for a span that turns out to be malformed."""


Item = RawSpan | RawScore | LateContent | BadRecord | Bundle


class Done(msgspec.Struct, kw_only=True):
    """One source record was read to its end: `count` records, however many items they gave."""

    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line without its line break; `line` is 1-based, `offset` counts bytes of the decompressed object."""

    line: int
    offset: int
    raw: bytes
    complete: bool
    """False for a last line without line break: it may be torn."""
    size: int | None = None
    """Of a line longer than the limit: its bytes, of which `raw` holds only the first."""


@dataclass(slots=True, kw_only=True)
class Stream:
    """One source object while it is read, decompressed. Reads forward once; `head` can be looked at any time."""

    name: str
    file: IO[bytes]
    head: bytes = b""
    broken: str | None = None
    """Set when reading failed on the way: what was read until then is good, the rest is lost."""
    limits: Limits = field(default_factory=Limits)
    stored: int | None = None
    """Bytes of the object before decompression."""
    _rest: bytes = field(default=b"")
    _given: int = 0

    def start(self) -> None:
        """Fills `head`."""
        self.head = self._rest = self._fill(HEAD_BYTES)

    def _fill(self, wanted: int) -> bytes:
        chunks: list[bytes] = []
        while wanted > 0:
            chunk = self._read(wanted)
            if not chunk:
                break
            chunks.append(chunk)
            wanted -= len(chunk)
        return b"".join(chunks)

    def _read(self, size: int) -> bytes:
        if self.broken is not None:
            return b""
        try:
            found = self.file.read(size)
        except BROKEN as error:
            self.broken = f"the compressed data is torn or broken: {error}"
            return b""
        self._given += len(found)
        if self._given > (most := self.limits.source_bytes(self.stored)):
            self.broken = f"it decompresses to more than {most:,} bytes ([limits] source_gib and ratio)"
            return b""
        return found

    def chunks(self) -> Iterator[bytes]:
        """The whole object in pieces."""
        if self._rest:
            rest, self._rest = self._rest, b""
            yield rest
        while chunk := self._read(1 << 20):
            yield chunk

    def read(self) -> bytes:
        """The whole object; for formats that are one document. Raises TooLargeError beyond the limit."""
        most = self.limits.document_bytes
        too_large = f"the document holds more than the {most:,} bytes that are read at once ([limits] document_mib)"
        if self.stored is not None and self.stored > most:
            raise TooLargeError(too_large)
        chunks, size = [], 0
        for chunk in self.chunks():
            chunks.append(chunk)
            size += len(chunk)
            if size > most:
                raise TooLargeError(too_large)
        return b"".join(chunks)

    def keep(self) -> bytes:
        """The whole object, which a later `read` gives again."""
        self._rest = self.read()
        return self._rest

    def lines(self) -> Iterator[Line]:
        """The lines, with one line and one piece of the object in memory; of one too long only the beginning."""
        number, offset = 1, 0
        held: list[bytes] = []
        size = 0
        for chunk in self.chunks():
            start = 0
            while (end := chunk.find(b"\n", start)) >= 0:
                held.append(chunk[start:end])
                size += end - start
                yield self._line(number, offset, held, size, complete=True)
                number += 1
                offset += size + 1
                held, size, start = [], 0, end + 1
                if blank := _BLANK_LINES.match(chunk, start):  # a bomb of line breaks is not walked one by one
                    skipped = len(blank[0])
                    number, offset, start = number + skipped, offset + skipped, start + skipped
            if start < len(chunk):
                size += len(chunk) - start
                if size <= self.limits.record_bytes or not held:
                    held.append(chunk[start:])
        if size:
            yield self._line(number, offset, held, size, complete=False)

    def _line(self, number: int, offset: int, held: list[bytes], size: int, *, complete: bool) -> Line:
        if size <= self.limits.record_bytes:
            return Line(line=number, offset=offset, raw=b"".join(held), complete=complete)
        return Line(line=number, offset=offset, raw=held[0][:_KEPT_BYTES], complete=complete, size=size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What detection looks at: the first bytes, and what they decode to."""

    name: str
    data: bytes
    shape: str
    """jsonl | json | csv | parquet | zip | binary"""
    records: Sequence[Any]
    """Up to 50 decoded records: lines, elements of an array, or the one document."""
    columns: Sequence[str] = ()
    """Column names of a table; of a zip archive, the names of the entries that begin in `data`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """A row of docs/formats.md: what a user wants to know of a format or dialect before relying on it."""

    title: str
    """As its users call it: "Claude Code sessions"."""
    files: str = ""
    """The files that hold it and how they are recognised. Empty for dialects."""
    maps: str
    """What becomes of it in the lake, in a sentence or two."""
    lacks: str
    """What this format cannot give, so that it is NULL in the lake: "no times, no tokens"."""


class Reader(Protocol):
    """One log format. Holds no state: one reader reads many streams."""

    @property
    def about(self) -> About: ...

    @property
    def name(self) -> str:
        """What `--format` takes and `source_format` shows."""
        ...

    def sniff(self, head: Head) -> str | None:
        """Why this is the format, in a few words; None where it is not. Never raises."""
        ...

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        """Everything in the stream, good and bad, in order. Bad input never raises; it is a BadRecord.

        `Done` follows the items of each source record, so that a long object can be cut between records.
        """
        ...
