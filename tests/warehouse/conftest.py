"""A small builder of ingest batches, made from schema.py alone."""

import hashlib
import shutil
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tracemill.records import Batch
from tracemill.schema import TABLES
from tracemill.warehouse import Lake

# What several test files and bench/triplets.py share (agl_oracle.py, agl_traces.py).
sys.path.insert(0, str(Path(__file__).parent))

NOW_NS = 1_760_000_000_000_000_000
SECOND = 1_000_000_000


def table(name: str, records: Sequence[dict[str, Any]]) -> pa.Table:
    """Rows of a declared table; columns left out are NULL."""
    schema = TABLES[name].schema
    return pa.Table.from_pylist([{field: row.get(field) for field in schema.names} for row in records], schema=schema)


def message(role: str, text: str, day: Any = None) -> dict[str, Any]:
    parts = '[{"type":"text","content":"' + text + '"}]'
    digest = hashlib.sha256(f"{role}|{text}".encode()).hexdigest()[:32]
    return {"day": day, "message_id": digest, "role": role, "parts": parts, "text": text, "n_chars": len(text)}


def day_of(start_ns: int | None) -> Any:
    return None if start_ns is None else datetime.fromtimestamp(start_ns / 1e9, tz=UTC).date()


class BatchBuilder:
    """Collects spans, messages and the rest of one batch of one source object."""

    def __init__(self, uri: str = "file:///logs/a.jsonl", content: str = "1", at: int = NOW_NS) -> None:
        self.uri = uri
        self.content = content
        self.at = at
        self.rows: dict[str, list[dict[str, Any]]] = {
            name: [] for name in ("spans", "messages", "scores", "quarantine")
        }

    def say(self, role: str, text: str, start_ns: int | None = NOW_NS) -> str:
        said = message(role, text, day_of(start_ns))
        known = {(row["day"], row["message_id"]) for row in self.rows["messages"]}
        if (said["day"], said["message_id"]) not in known:
            self.rows["messages"].append(said)
        return str(said["message_id"])

    def span(self, trace_id: str, span_id: str, **columns: Any) -> dict[str, Any]:
        start = columns.get("start_ns", NOW_NS)
        row = {
            "trace_id": trace_id,
            "span_id": span_id,
            "kind": "chain",
            "status": "ok",
            "seq": len(self.rows["spans"]),
            "start_ns": start,
            "end_ns": None if start is None else start + SECOND,
            "source_uri": self.uri,
            "source_line": len(self.rows["spans"]) + 1,
            "source_format": "test",
            "ingested_at": self.at,
            **columns,
        }
        row["day"] = day_of(row["start_ns"])
        self.rows["spans"].append(row)
        return row

    def call(
        self, trace_id: str, span_id: str, inputs: Sequence[tuple[str, str]], output: str | None, **columns: Any
    ) -> None:
        """A model call that says `inputs` (role, text) and gets `output`."""
        start = columns.get("start_ns", NOW_NS)
        self.span(
            trace_id,
            span_id,
            **{
                "kind": "llm",
                "name": "chat",
                "model": "m1",
                "provider": "test",
                "input_ids": [self.say(role, text, start) for role, text in inputs],
                "output_ids": None if output is None else [self.say("assistant", output, start)],
                "finish_reasons": ["stop"],
                "tokens_in": 10,
                "tokens_out": 2,
                "cost_usd": 0.5,
                **columns,
            },
        )

    def episode(
        self, trace_id: str, question: str = "refund please", start_ns: int | None = NOW_NS, **root: Any
    ) -> None:
        """Agent root, a model call, a tool call, and a model call that repeats the history."""

        def at(seconds: int) -> int | None:
            return None if start_ns is None else start_ns + seconds * SECOND

        system, user = ("system", "You route tickets."), ("user", question)
        self.span(trace_id, "root", **{"kind": "agent", "agent_name": "triage", "start_ns": start_ns, **root})
        self.call(trace_id, "c1", [system, user], "look it up", parent_span_id="root", start_ns=at(1))
        self.span(
            trace_id,
            "t1",
            kind="tool",
            tool_name="route",
            tool_args='{"queue":"x"}',
            status="error",
            error_message="no such queue",
            parent_span_id="root",
            start_ns=at(2),
        )
        self.call(
            trace_id,
            "c2",
            [system, user, ("assistant", "look it up"), ("tool", "no such queue")],
            f"billing {trace_id}",
            parent_span_id="root",
            start_ns=at(3),
        )

    def score(self, target_id: str, value: float | None, **columns: Any) -> None:
        row = {
            "target_kind": "trajectory",
            "target_id": target_id,
            "name": "reward",
            "value": value,
            "source": "human",
            "version": "1",
            "at": self.at,
            **columns,
        }
        row.setdefault("score_id", hashlib.sha256(repr(sorted(row.items())).encode()).hexdigest()[:32])
        self.rows["scores"].append(row)

    def refuse(self, line: int, reason: str) -> None:
        self.rows["quarantine"].append(
            {
                "source_uri": self.uri,
                "content_hash": self.content,
                "line": line,
                "reason": reason,
                "ingested_at": self.at,
            }
        )

    def batch(self) -> Batch:
        ledger = {
            "source_uri": self.uri,
            "content_hash": self.content,
            "size_bytes": 1,
            "source_format": "test",
            "n_records": len(self.rows["spans"]),
            "n_quarantined": len(self.rows["quarantine"]),
            "batch_id": f"{self.uri}#{self.content}",
            "ingested_at": self.at,
        }
        tables = {name: table(name, rows) for name, rows in self.rows.items()}
        return Batch(
            batch_id=f"{self.uri}#{self.content}", tables=tables | {"ingest_log": table("ingest_log", [ledger])}
        )


@pytest.fixture(scope="session")
def build() -> type[BatchBuilder]:
    return BatchBuilder


@pytest.fixture(scope="session")
def rows_of() -> Any:
    return table


@pytest.fixture(scope="session")
def empty_lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new lake to copy: copying is faster than creating, and a copied lake must work anyway."""
    root = tmp_path_factory.mktemp("empty") / "lake"
    Lake.create(root).close()
    return root


@pytest.fixture
def lake(tmp_path: Path, empty_lake: Path) -> Iterator[Lake]:
    shutil.copytree(empty_lake, tmp_path / "lake")
    with Lake.open(tmp_path / "lake") as opened:
        yield opened
