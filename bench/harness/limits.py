"""python limits.py NAME FILE…: what reading OTLP/JSON lines costs at the least; prints one JSON object.

read      the bytes of the files
decode    each line decoded by msgspec into dicts and lists
typed     each line decoded by msgspec into typed spans with their attributes
duckdb    DuckDB's read_json, one row a span, into a table of a DuckDB file; one thread
"""

import json
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import msgspec


class _Value(msgspec.Struct):
    stringValue: str | None = None  # noqa: N815
    intValue: str | None = None  # noqa: N815
    doubleValue: float | None = None  # noqa: N815
    boolValue: bool | None = None  # noqa: N815
    arrayValue: Any = None  # noqa: N815


class _Pair(msgspec.Struct):
    key: str
    value: _Value


class _Event(msgspec.Struct):
    name: str
    timeUnixNano: str  # noqa: N815
    attributes: list[_Pair] = []


class _Span(msgspec.Struct):
    traceId: str  # noqa: N815
    spanId: str  # noqa: N815
    parentSpanId: str  # noqa: N815
    name: str
    startTimeUnixNano: str  # noqa: N815
    endTimeUnixNano: str  # noqa: N815
    attributes: list[_Pair] = []
    events: list[_Event] = []
    status: dict[str, Any] = {}


class _Scoped(msgspec.Struct):
    spans: list[_Span]


class _Resource(msgspec.Struct):
    attributes: list[_Pair] = []


class _Resourced(msgspec.Struct):
    resource: _Resource
    scopeSpans: list[_Scoped]  # noqa: N815


class _Request(msgspec.Struct):
    resourceSpans: list[_Resourced]  # noqa: N815


def read(paths: list[str]) -> int | None:
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            while file.read(1 << 20):
                pass
    return None


def decode(paths: list[str]) -> int:
    decoder, spans = msgspec.json.Decoder(), 0
    for path in paths:
        with open(path, "rb") as file:
            for line in file:
                for resourced in decoder.decode(line)["resourceSpans"]:
                    spans += sum(len(scoped["spans"]) for scoped in resourced["scopeSpans"])
    return spans


def typed(paths: list[str]) -> int:
    decoder, spans = msgspec.json.Decoder(_Request), 0
    for path in paths:
        with open(path, "rb") as file:
            for line in file:
                for resourced in decoder.decode(line).resourceSpans:
                    spans += sum(len(scoped.spans) for scoped in resourced.scopeSpans)
    return spans


def in_duckdb(paths: list[str]) -> int:
    with TemporaryDirectory(dir=Path(paths[0]).parent) as folder:
        con = duckdb.connect(str(Path(folder) / "spans.duckdb"), config={"threads": 1})
        con.execute("SET preserve_insertion_order = false")
        con.execute(
            """
            CREATE TABLE spans AS
            SELECT resource, unnest(scoped.spans, recursive := false) AS span
            FROM (
                SELECT resourced.resource AS resource, unnest(resourced.scopeSpans) AS scoped
                FROM (
                    SELECT unnest(resourceSpans) AS resourced
                    FROM read_json($paths, format = 'newline_delimited', maximum_object_size = 268435456)
                )
            )
            """,
            {"paths": paths},
        )
        row = con.execute("SELECT count(*) FROM spans").fetchone()
        con.execute("CHECKPOINT")
        con.close()
    return int(row[0]) if row else 0


LIMITS = {"read": read, "decode": decode, "typed": typed, "duckdb": in_duckdb}

if __name__ == "__main__":
    cpu, began = time.process_time(), time.perf_counter()
    count = LIMITS[sys.argv[1]](sys.argv[2:])
    print(json.dumps({"spans": count, "wall_s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu}))
