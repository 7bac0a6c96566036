"""Raw spans into the columns of the `spans` table: redacted, checked, their messages stored once."""

import math
from collections.abc import Sequence
from datetime import date
from typing import Any

import msgspec
import pyarrow as pa

from tracemill.chat import as_text
from tracemill.ingest.messages import MessageBook
from tracemill.ingest.reader import LateContent, Message, RawSpan
from tracemill.ingest.redact import Redactor
from tracemill.schema import SPANS

DAY_NS = 86_400_000_000_000
_MAX_NS = 2**63 - 1
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_FLUSH_ROWS = 4096
KINDS = frozenset(
    ("agent", "llm", "tool", "retriever", "embedding", "reranker", "chain", "guardrail", "evaluator", "event")
)


def day_of(start_ns: int | None) -> date | None:
    return None if start_ns is None else date.fromordinal(_EPOCH_ORDINAL + start_ns // DAY_NS)


def nanoseconds(value: int | None) -> int | None:
    """A time that the tables can hold; 0 is how OTLP says "not known"."""
    return value if value is not None and 0 < value <= _MAX_NS else None


def _count(value: int | None) -> int | None:
    return value if value is not None and 0 <= value <= _MAX_NS else None


class SpanColumns:
    """Collects spans for one batch. Memory is the columns' own: Python values are turned into Arrow in blocks."""

    def __init__(self, book: MessageBook, redactor: Redactor, *, now_ns: int) -> None:
        self._book = book
        self._redactor = redactor
        self._now_ns = now_ns
        self._blocks: list[pa.RecordBatch] = []
        self._open: dict[str, list[Any]] = {field.name: [] for field in SPANS}
        self._keys: set[tuple[str, str]] = set()
        self._late: list[LateContent] = []
        self.response_ids: dict[tuple[str, str], str] = {}
        self._resource: tuple[dict[str, Any], msgspec.Raw, bool] | None = None
        self.rows = 0
        self.size = 0
        """Characters of the long texts held."""

    def add(self, span: RawSpan, *, uri: str, source_format: str) -> None:
        """Adds a span; a second one with the same trace and span id is the same span and is left out."""
        key = (span.trace_id, span.span_id)
        if key in self._keys:
            return
        redactor, flags = self._redactor, list(span.flags)
        before = redactor.hits
        start, end = nanoseconds(span.start_ns), nanoseconds(span.end_ns)
        if start is not None and end is not None and end < start:
            flags.append("clock")
        day = day_of(start)
        inputs, outputs, system_ids, private_in, private_out = self._messages(span, day)
        tools_id, private_tools = self._book.add_tools(span.tools, day) if span.tools else (None, False)
        row: dict[str, Any] = {
            "day": day,
            "trace_id": span.trace_id,
            "span_id": span.span_id,
            "parent_span_id": span.parent_span_id or None,
            "session_id": redactor.maybe(span.session_id),
            "user_key": redactor.user_key(span.user),
            "seq": span.seq,
            "kind": span.kind if span.kind in KINDS else "chain",
            "start_ns": start,
            "end_ns": end,
            "status": span.status,
            "system_ids": system_ids,
            "input_ids": inputs,
            "output_ids": outputs,
            "tool_definitions_id": tools_id,
            "finish_reasons": [redactor.text(str(r)) for r in span.finish_reasons] if span.finish_reasons else None,
            "tool_args": self._text(span.tool_args),
            "tool_result": self._text(span.tool_result),
            "cost_usd": span.cost_usd if span.cost_usd is not None and math.isfinite(span.cost_usd) else None,
            "params": redactor.json(span.params or None),
            "prompt_variables": self._text(span.prompt_variables),
            # Token ids spell the text out again: what had to be redacted cannot be kept as tokens either.
            "input_token_ids": None if private_in or private_tools else _ints(span.input_token_ids),
            "output_token_ids": None if private_out else _ints(span.output_token_ids),
            "output_logprobs": None if private_out else _floats(span.output_logprobs, span.output_token_ids),
            "attributes": self._attributes(span),
            "source_uri": uri,
            "source_line": span.line,
            "source_format": source_format,
            "dialect": span.dialect,
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
        if span.kind == "llm" and span.response_id:
            self.response_ids[(span.trace_id, span.span_id)] = span.response_id
        self._keys.add(key)
        for column, value in row.items():
            self._open[column].append(value)
        self.rows += 1
        self.size += sum(len(row[name]) for name in ("attributes", "tool_args", "tool_result", "params") if row[name])
        if len(self._open["day"]) >= _FLUSH_ROWS:
            self._flush()

    def add_late(self, content: LateContent) -> None:
        """Messages of a span that came apart from it; they fill what the span itself does not say."""
        self._late.append(content)

    def table(self) -> pa.Table:
        """All spans with the schema of schema.py."""
        self._flush()
        table = pa.Table.from_batches(self._blocks, schema=SPANS)
        return self._join_late(table) if self._late else table

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

    def _text(self, value: Any) -> str | None:
        if value is None:
            return None
        return self._redactor.text(value) if isinstance(value, str) else as_text(self._redactor.value(value))

    def _attributes(self, span: RawSpan) -> str | None:
        if span.resource is None:
            return self._redactor.json(span.attributes or None)
        if self._resource is None or self._resource[0] is not span.resource:
            before = self._redactor.hits
            text = self._redactor.json(span.resource) or "{}"
            self._resource = (span.resource, msgspec.Raw(text.encode()), self._redactor.hits != before)
        _, raw, touched = self._resource
        self._redactor.hits += touched
        return msgspec.json.encode({**self._redactor.value(span.attributes), "resource": raw}).decode()

    def _flush(self) -> None:
        if self._open["day"]:
            arrays = [pa.array(self._open[field.name], field.type) for field in SPANS]
            self._blocks.append(pa.RecordBatch.from_arrays(arrays, schema=SPANS))
            self._open = {field.name: [] for field in SPANS}

    def _join_late(self, table: pa.Table) -> pa.Table:
        late: dict[tuple[str, str], LateContent] = {}
        for content in self._late:
            known = late.setdefault((content.trace_id, content.span_id), content)
            if known is not content:
                known.input = [*known.input, *content.input]
                known.output = [*known.output, *content.output]
        columns = {
            name: table.column(name).to_pylist() for name in ("day", "kind", "input_ids", "output_ids", "system_ids")
        }
        keys = zip(table.column("trace_id").to_pylist(), table.column("span_id").to_pylist(), strict=True)
        for at, key in enumerate(keys):
            content = late.get(key)  # type: ignore[assignment]
            if content is None or columns["kind"][at] != "llm":
                continue
            day = columns["day"][at]
            if columns["input_ids"][at] is None and content.input:
                system, prompt = _apart(None, content.input)
                columns["input_ids"][at] = self._ids(prompt, day)[0]
                columns["system_ids"][at] = columns["system_ids"][at] or self._ids(system, day)[0]
            if columns["output_ids"][at] is None and content.output:
                columns["output_ids"][at] = self._book.add_all(content.output, day)[0]
        for name in ("input_ids", "output_ids", "system_ids"):
            at = table.schema.get_field_index(name)
            table = table.set_column(at, SPANS.field(name), pa.array(columns[name], SPANS.field(name).type))
        return table


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
