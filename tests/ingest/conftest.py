"""Takes in hand-written logs and gives the rows back in a form that reads well in a test."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from otlp_lines import otlp_value

from tracemill import ingest
from tracemill.schema import TABLES
from tracemill.warehouse import spans
from tracemill.warehouse.layout import table_ddl

KEY = b"the lake's key, thirty-two bytes"
NOW = 1_723_456_789_123_456_789


@dataclass(frozen=True)
class Taken:
    """The rows of all batches, by table."""

    batches: list[Any]

    def rows(self, table: str) -> list[dict[str, Any]]:
        return [row for batch in self.batches for row in batch.tables[table].to_pylist()]

    @cached_property
    def spans(self) -> list[dict[str, Any]]:
        """The spans that the batches make in a lake: whole, each once, marked; in the order of the log."""
        return settled(self.batches)

    @property
    def span(self) -> dict[str, Any]:
        (only,) = self.spans
        return only

    def kind(self, kind: str) -> list[dict[str, Any]]:
        return [span for span in self.spans if span["kind"] == kind]

    @property
    def quarantine(self) -> list[dict[str, Any]]:
        return self.rows("quarantine")

    @property
    def ledger(self) -> list[dict[str, Any]]:
        return self.rows("ingest_log")

    @property
    def scores(self) -> list[dict[str, Any]]:
        return self.rows("scores")

    def said(self, ids: Sequence[str] | None) -> list[tuple[str, list[dict[str, Any]]]] | None:
        """Roles and parts of messages."""
        known = {row["message_id"]: row for row in self.rows("messages")}
        return None if ids is None else [(known[i]["role"], json.loads(known[i]["parts"])) for i in ids]

    def texts(self, ids: Sequence[str] | None) -> list[str] | None:
        known = {row["message_id"]: row["text"] for row in self.rows("messages")}
        return None if ids is None else [known[i] for i in ids]

    @staticmethod
    def prompt(span: dict[str, Any]) -> list[str]:
        """Ids of what the model read: the opening system messages, then the rest."""
        return [*(span["system_ids"] or []), *(span["input_ids"] or [])]

    def everything(self) -> str:
        """All that would be written, the source's own path left out."""
        rows = [row for name in self.batches[0].tables for row in self.rows(name)]
        return json.dumps([{k: v for k, v in row.items() if k != "source_uri"} for row in rows], default=str)


@cache
def tables() -> duckdb.DuckDBPyConnection:
    """The tables of spans, empty whenever nobody writes: making them costs more than most logs here."""
    con = duckdb.connect()
    for name in ("spans", "span_parts", "trace_days"):
        con.execute(table_ddl(TABLES[name])[0])
    return con


def settled(batches: Sequence[Any]) -> list[dict[str, Any]]:
    """The spans that batches make in a lake, in the order in which they first came."""
    con = tables()
    con.execute("BEGIN")
    places: dict[tuple[str, str], None] = {}
    try:
        for batch in batches:
            spans.write(con, batch.tables["spans"], batch.tables["span_parts"], [])
            for name in ("spans", "span_parts"):
                table = batch.tables[name]
                places |= dict.fromkeys(zip(*(table[key].to_pylist() for key in ("trace_id", "span_id")), strict=True))
        found = con.execute("SELECT * FROM spans").to_arrow_table().to_pylist()
    finally:
        con.execute("ROLLBACK")
    known = {(row["trace_id"], row["span_id"]): row for row in found}
    return [known[key] for key in places]


Take = Callable[..., Taken]


def checked(batches: list[Any]) -> Taken:
    for batch in batches:
        for name, table in batch.tables.items():
            assert table.schema.equals(TABLES[name].schema), name
            table.validate(full=True)
        for name in ("spans", "messages", "scores"):
            key = TABLES[name].key
            keys = list(zip(*(batch.tables[name].column(column).to_pylist() for column in key), strict=True))
            assert len(keys) == len(set(keys)), f"{name} has a key twice"
        known = set(batch.tables["messages"]["message_id"].to_pylist())
        spans = batch.tables["spans"]
        for column in ("input_ids", "output_ids", "system_ids"):
            assert (
                set(pa.chunked_array(spans[column].chunks, spans[column].type).combine_chunks().flatten().to_pylist())
                <= known
            )
        assert set(spans["tool_definitions_id"].drop_null().to_pylist()) <= known
    return Taken(batches)


@pytest.fixture
def take(tmp_path: Path) -> Take:
    """Writes a log (bytes, text, one JSON value, or `lines=[…]`) and takes it in."""

    def run(
        content: Any = None, *, name: str = "log.jsonl", lines: Sequence[Any] | None = None, **options: Any
    ) -> Taken:
        if lines is not None:
            content = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
        elif not isinstance(content, str | bytes):
            content = json.dumps(content)
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return checked(list(ingest.batches(ingest.find([path]), key=KEY, now_ns=NOW, **options)))

    return run


def _attributes(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": name, "value": otlp_value(value)} for name, value in attributes.items()]


@pytest.fixture
def otlp() -> Callable[..., dict[str, Any]]:
    """An OTLP/JSON span: `otlp("a", parent="b", attributes={…}, events=[(name, {…})], **fields)`."""

    def span(
        name: str = "a",
        *,
        parent: str | None = None,
        attributes: dict[str, Any] | None = None,
        events: Sequence[tuple[str, dict[str, Any]]] = (),
        **fields: Any,
    ) -> dict[str, Any]:
        found = {
            "traceId": "0af7651916cd43dd8448eb211c80319c",
            "spanId": name.encode().hex().rjust(16, "0"),
            "name": name,
            "startTimeUnixNano": "1700000000000000000",
            "endTimeUnixNano": "1700000001000000000",
            "attributes": _attributes(attributes or {}),
        }
        if parent is not None:
            found["parentSpanId"] = parent.encode().hex().rjust(16, "0")
        if events:
            found["events"] = [{"name": n, "timeUnixNano": "1", "attributes": _attributes(a)} for n, a in events]
        return found | fields

    return span


@pytest.fixture
def request_of() -> Callable[..., dict[str, Any]]:
    """An ExportTraceServiceRequest in JSON that holds these spans."""

    def request(*spans: dict[str, Any], resource: dict[str, Any] | None = None) -> dict[str, Any]:
        resource = {"service.name": "desk"} if resource is None else resource
        scoped = {"scope": {"name": "test"}, "spans": list(spans)}
        return {"resourceSpans": [{"resource": {"attributes": _attributes(resource)}, "scopeSpans": [scoped]}]}

    return request


@pytest.fixture
def read(
    take: Any, otlp: Callable[..., dict[str, Any]], request_of: Callable[..., dict[str, Any]]
) -> Callable[..., Any]:
    """What one span with these attributes (and events, name, scope) becomes."""

    def run(attributes: dict[str, Any], *, scope: str = "test", **options: Any) -> Any:
        name = options.pop("name", "a")
        events = options.pop("events", ())
        request = request_of(otlp("a", attributes=attributes, events=events) | {"name": name} | options)
        request["resourceSpans"][0]["scopeSpans"][0]["scope"]["name"] = scope
        return take(request)

    return run
