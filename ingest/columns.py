"""Raw spans into the columns of `spans` and `span_parts`: redacted, checked, their messages stored once.

A delivery that says only what has changed (RawSpan.partial) and messages logged apart (LateContent) become parts; the
warehouse makes spans of them, because what they belong to may have come long ago or is still to come.
"""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date
from itertools import chain
from operator import itemgetter
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from tracemill.chat import as_text
from tracemill.ingest.collecting import Columns
from tracemill.ingest.content.book import MessageBook
from tracemill.ingest.reader import LateContent, Message, RawSpan
from tracemill.ingest.redact import Redactor
from tracemill.ingest.tokens import withheld
from tracemill.schema import SPAN_PARTS, SPANS

DAY_NS = 86_400_000_000_000
_MAX_NS = 2**63 - 1
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_RESOURCES = 1000
_LONG = ("attributes", "tool_args", "tool_result", "params")
_IDS = ("system_ids", "input_ids", "output_ids")
_long = itemgetter(*map(SPANS.get_field_index, _LONG))
_ids = itemgetter(*map(SPANS.get_field_index, _IDS))
_TRACE, _SPAN, _REVISED = (SPANS.get_field_index(name) for name in ("trace_id", "span_id", "revised_ns"))
_ID_BYTES = 36
"""What the id of a message takes in a list of a column."""
KINDS = frozenset(
    ("agent", "llm", "tool", "retriever", "embedding", "reranker", "chain", "guardrail", "evaluator", "event")
)

STATUSES = frozenset(("ok", "error", "unset"))


def day_of(start_ns: int | None) -> date | None:
    return None if start_ns is None else date.fromordinal(_EPOCH_ORDINAL + start_ns // DAY_NS)


def nanoseconds(value: int | None) -> int | None:
    """A time that the tables can hold; 0 is how OTLP says "not known"."""
    return value if value is not None and 0 < value <= _MAX_NS else None


def _count(value: int | None) -> int | None:
    return value if value is not None and 0 <= value <= _MAX_NS else None


class SpanColumns:
    """Collects the spans of one batch."""

    def __init__(self, book: MessageBook, redactor: Redactor, *, now_ns: int) -> None:
        self._book = book
        self._redactor = redactor
        self._now_ns = now_ns
        self._spans = Columns(SPANS)
        self._parts = Columns(SPAN_PARTS)
        self._newest: dict[tuple[str, str], int] = {}
        self._revised: dict[int, int] = {}
        self._from: list[tuple[int, str]] = []
        self._older: list[int] = []
        self._resources: dict[str, tuple[msgspec.Raw, bool]] = {}
        self._resource: tuple[dict[str, Any], msgspec.Raw, bool] | None = None
        self.duplicates: Counter[str] = Counter()
        """Spans by source uri of which the batch holds a version that counts more."""
        self.size = 0
        """About the bytes of the long texts and of the messages' ids held: a long prompt is mostly ids."""

    @property
    def rows(self) -> int:
        return self._spans.rows + self._parts.rows

    def add(self, span: RawSpan, *, uri: str, source_format: str) -> None:
        """Adds a span. Of a span that comes several times the latest revision counts, without revisions the last."""
        row = self._row(span, uri, source_format)
        if span.partial:
            self._count(map(row.__getitem__, _LONG), map(row.__getitem__, _IDS))
            self._parts.add(_change(row, says_prompt=span.input is not None))
            return
        self._spans.check(row)
        self.add_row([row.get(name) for name in SPANS.names], uri=uri)

    def add_row(self, row: Sequence[Any], *, uri: str) -> None:
        """Adds a span that is a row already, in the order of SPANS: redacted, and what its columns can hold."""
        self._count(_long(row), _ids(row))
        place = self._spans.add_checked(row)
        self._come(place, uri)
        if row[_REVISED]:
            self._revised[place] = row[_REVISED]
        self._weigh((row[_TRACE], row[_SPAN]), place)

    def add_block(self, columns: Sequence[Sequence[Any] | None], rows: int, *, uri: str) -> None:
        """As `add_row`, for several spans of which no one tells when it was revised, by column."""
        self._count(
            chain.from_iterable(column for column in _long(columns) if column),
            chain.from_iterable(column for column in _ids(columns) if column),
        )
        place = self._spans.add_block(columns, rows)
        self._come(place, uri)
        traces, spans = columns[_TRACE], columns[_SPAN]
        assert traces is not None
        assert spans is not None
        keys = list(zip(traces, spans, strict=True))
        if self._newest.keys().isdisjoint(keys) and len(set(keys)) == rows:
            self._newest.update(zip(keys, range(place, place + rows), strict=True))
            return
        for at, key in enumerate(keys, start=place):
            self._weigh(key, at)

    def _come(self, place: int, uri: str) -> None:
        """Says where the spans from this place on come from."""
        if not self._from or self._from[-1][1] != uri:
            self._from.append((place, uri))

    def _weigh(self, key: tuple[str, str], place: int) -> None:
        """Of two versions of a span the later revision counts, else the one that came last."""
        known = self._newest.get(key)
        if known is None:
            self._newest[key] = place
            return
        later = self._revised.get(place, -1) >= self._revised.get(known, -1)
        self._newest[key], left = (place, known) if later else (known, place)
        self._older.append(left)
        self.duplicates[self._from[bisect_right(self._from, left, key=itemgetter(0)) - 1][1]] += 1

    def _count(self, texts: Iterable[str | None], ids: Iterable[Sequence[str] | None]) -> None:
        self.size += sum(map(len, filter(None, texts))) + _ID_BYTES * sum(map(len, filter(None, ids)))

    def add_late(self, content: LateContent, *, uri: str, source_format: str, seq: int) -> None:
        """Messages of a span that came apart from it; they fill what the span itself does not say."""
        start = nanoseconds(content.at)
        day = day_of(start)
        system, prompt = _apart(None, content.input) if content.input else (None, None)
        inputs, private_in = self._ids(prompt, day)
        outputs, private_out = self._ids(content.output or None, day)
        system_ids, private_system = self._ids(system, day)
        self._parts.add(
            {
                "part": "content",
                "day": day,
                "trace_id": self._redactor.identifier(content.trace_id),
                "span_id": self._redactor.identifier(content.span_id),
                "kind": "llm",
                "seq": seq,
                "start_ns": start,
                "system_ids": system_ids,
                "input_ids": inputs or None,
                "output_ids": outputs,
                "flags": ["redacted"] if private_in or private_out or private_system else [],
                "source_uri": uri,
                "source_line": content.line,
                "source_format": source_format,
                "ingested_at": self._now_ns,
            }
        )

    def tables(self) -> tuple[pa.Table, pa.Table]:
        """The spans, each once, and the parts of spans, with the schemas of schema.py."""
        spans = self._spans.table()
        if self._older:
            kept = np.ones(spans.num_rows, dtype=bool)
            kept[self._older] = False
            spans = spans.filter(pa.array(kept))
        return withheld(spans), self._parts.table()

    def _row(self, span: RawSpan, uri: str, source_format: str) -> dict[str, Any]:
        redactor = self._redactor
        flags = [redactor.text(flag) for flag in span.flags]
        before = redactor.hits
        start, end = nanoseconds(span.start_ns), nanoseconds(span.end_ns)
        if start is not None and end is not None and end < start:
            flags.append("clock")
        day = day_of(start)
        inputs, outputs, system_ids, private_in, private_out = self._messages(span, day)
        tools_id, private_tools = self._book.add_tools(span.tools, day) if span.tools else (None, False)
        row: dict[str, Any] = {
            "day": day,
            "trace_id": redactor.identifier(span.trace_id),
            "span_id": redactor.identifier(span.span_id),
            "parent_span_id": redactor.identifier(span.parent_span_id) if span.parent_span_id else None,
            "session_id": redactor.maybe(span.session_id),
            "user_key": redactor.user_key(span.user),
            "seq": span.seq,
            "kind": span.kind if span.kind in KINDS else "chain",
            "start_ns": start,
            "end_ns": end,
            "status": span.status if span.status in STATUSES else "unset",
            "system_ids": system_ids,
            "input_ids": inputs,
            "output_ids": outputs,
            "tool_definitions_id": tools_id,
            "finish_reasons": [redactor.text(str(r)) for r in span.finish_reasons] if span.finish_reasons else None,
            "tool_args": self.text(span.tool_args),
            "tool_result": self.text(span.tool_result),
            "cost_usd": span.cost_usd if span.cost_usd is not None and math.isfinite(span.cost_usd) else None,
            "params": redactor.json(span.params or None),
            "prompt_variables": self.text(span.prompt_variables),
            # Token ids spell the text out again: what had to be redacted cannot be kept as tokens either.
            "input_token_ids": None if private_in or private_tools else _ints(span.input_token_ids),
            "output_token_ids": None if private_out else _ints(span.output_token_ids),
            "output_logprobs": None if private_out else _floats(span.output_logprobs, span.output_token_ids),
            "attributes": self._attributes(span),
            "source_uri": uri,
            "source_line": span.line,
            "source_format": source_format,
            "dialect": redactor.maybe(span.dialect),
            "revised_ns": nanoseconds(span.revised_ns),
            "ingested_at": self._now_ns,
        }
        for name in _TEXTS:
            row[name] = redactor.maybe(getattr(span, name))
        for name in _TOKENS:
            row[name] = _count(getattr(span, name))
        if redactor.hits != before or private_in or private_out or private_tools:
            flags.append("redacted")
        row["flags"] = list(dict.fromkeys(flags))
        return row

    def _messages(
        self, span: RawSpan, day: date | None
    ) -> tuple[list[str] | None, list[str] | None, list[str] | None, bool, bool]:
        system, prompt = _apart(span.system, span.input)
        inputs, private_in = self._ids(prompt, day)
        outputs, private_out = self._ids(span.output, day)
        system_ids, private_system = self._ids(system, day)
        return inputs, outputs, system_ids, private_in or private_system, private_out

    def _ids(self, messages: Sequence[Message] | None, day: date | None) -> tuple[list[str] | None, bool]:
        return (None, False) if messages is None else self._book.add_all(messages, day)

    def text(self, value: Any) -> str | None:
        """A value as the text of a column, redacted."""
        if value is None:
            return None
        return self._redactor.text(value) if isinstance(value, str) else as_text(self._redactor.value(value))

    def _attributes(self, span: RawSpan) -> str | None:
        if span.resource is None:
            return self._redactor.json(span.attributes or None)
        raw, touched = self.resource(span.resource)
        self._redactor.hits += touched
        return msgspec.json.encode({**self._redactor.value(span.attributes), "resource": raw}).decode()

    def resource(self, resource: dict[str, Any]) -> tuple[msgspec.Raw, bool]:
        """A resource's JSON, redacted, and whether redaction changed it."""
        if self._resource is None or self._resource[0] is not resource:
            key = repr(resource)
            found = self._resources.get(key)
            if found is None:
                before = self._redactor.hits
                text = self._redactor.json(resource) or "{}"
                found = msgspec.Raw(text.encode()), self._redactor.hits != before
                if len(self._resources) > _RESOURCES:
                    self._resources.clear()
                self._resources[key] = found
            self._resource = (resource, *found)
        return self._resource[1], self._resource[2]


def _change(row: dict[str, Any], *, says_prompt: bool) -> dict[str, Any]:
    """The row of a delivery that says only what has changed: NULL where it says nothing."""
    row["part"] = "change"
    if row["kind"] == "chain":  # what a span is called of which the delivery does not say the kind
        row["kind"] = None
    if row["status"] == "unset":
        row["status"] = None
    if says_prompt and row["system_ids"] is None:
        row["system_ids"] = []  # a whole prompt without system messages; NULL would leave an earlier one in place
    return row


def _apart(
    system: Sequence[Message] | None, prompt: Sequence[Message] | None
) -> tuple[list[Message] | None, list[Message] | None]:
    """System messages that open a prompt, and what follows them: one after the other they are what the model read.

    A source that gives its system prompt apart and repeats it in the messages means it once.
    """
    if prompt is None:
        return (list(system), None) if system else (None, None)
    opening = next((at for at, message in enumerate(prompt) if message[0] != "system"), len(prompt))
    head = [*prompt[:opening]] or [*(system or [])]
    return head or None, [*prompt[opening:]]


_TEXTS = (
    "name",
    "error_type",
    "error_message",
    "service",
    "agent_name",
    "agent_version",
    "provider",
    "model_requested",
    "model",
    "tool_name",
    "tool_call_id",
    "prompt_name",
    "prompt_version",
    "prompt_label",
    "task_key",
    "response_id",
)
_TOKENS = ("tokens_in", "tokens_cache_read", "tokens_cache_write", "tokens_out", "tokens_reasoning")


def _ints(values: Sequence[int] | None) -> list[int] | None:
    if values is None or not all(type(v) is int and -(2**31) <= v < 2**31 for v in values):
        return None
    return list(values)


def _floats(values: Sequence[float] | None, ids: Sequence[int] | None) -> list[float] | None:
    """Log-probabilities are only good together with their tokens, one each."""
    if values is None or ids is None or len(values) != len(ids):
        return None
    return [float(v) for v in values] if all(isinstance(v, int | float) for v in values) else None
