"""One batch while it is put together: its columns, its messages, its ledger and what was refused."""

from typing import Any

import pyarrow as pa

from tracemill.ids import content_id
from tracemill.ingest import links
from tracemill.ingest.columns import SpanColumns, nanoseconds
from tracemill.ingest.documents import MALFORMED
from tracemill.ingest.messages import MessageBook
from tracemill.ingest.reader import BadRecord, Done, Item, LateContent, RawScore, RawSpan
from tracemill.ingest.redact import Redactor
from tracemill.ingest.source import SourceObject
from tracemill.records import Batch
from tracemill.schema import INGEST_LOG, QUARANTINE, SCORES, TASKS

_EXCERPT = 500
_ROW_BYTES = 400
"""About what a row takes beside its texts."""


class _Source:
    """What is known of the object that is being read."""

    def __init__(self, source: SourceObject, part: int) -> None:
        self.source = source
        self.part = part
        self.format: str | None = None
        self.reason = ""
        self.records = 0
        self.quarantined = 0
        self.seq = 0


class Building:
    """Takes items in, gives a Batch. Everything that leaves it is redacted."""

    def __init__(self, *, key: bytes, now_ns: int) -> None:
        self._key = key
        self._now_ns = now_ns
        self._redactor = Redactor(key)
        self._book = MessageBook(key, self._redactor)
        self._spans = SpanColumns(self._book, self._redactor, now_ns=now_ns)
        self._scores: dict[str, dict[str, Any]] = {}
        self._ledger: list[dict[str, Any]] = []
        self._quarantine: list[dict[str, Any]] = []
        self._content: list[tuple[str, str, int]] = []
        self._at: _Source | None = None
        self.bytes_in = 0
        """Bytes of the whole objects taken in."""

    @property
    def empty(self) -> bool:
        return not self._content

    @property
    def size(self) -> int:
        """About the bytes that the batch holds in memory."""
        rows = self._spans.rows + len(self._scores) + len(self._quarantine)
        return self._spans.size + self._book.size + rows * _ROW_BYTES

    def begin(self, source: SourceObject, *, part: int) -> None:
        self._at = _Source(source, part)
        self._content.append((source.uri, source.content_hash, part))

    def successor(self, part: int) -> "Building":
        """An empty batch that goes on with the object that this one was cut in."""
        following = Building(key=self._key, now_ns=self._now_ns)
        assert self._at is not None
        following.begin(self._at.source, part=part)
        at = following._at
        assert at is not None
        at.format, at.reason = self._at.format, self._at.reason
        at.records, at.quarantined = self._at.records, self._at.quarantined
        return following

    def recognised(self, format: str | None, reason: str) -> None:
        """Says what the current object is."""
        assert self._at is not None
        self._at.format, self._at.reason = format, reason

    def add(self, item: Item | Done) -> None:
        at = self._at
        assert at is not None
        try:
            if isinstance(item, RawSpan):
                if item.seq is None:
                    item.seq = at.seq
                at.seq += 1
                self._spans.add(item, uri=at.source.uri, source_format=str(at.format))
            elif isinstance(item, RawScore):
                self._add_score(item)
            elif isinstance(item, LateContent):
                self._spans.add_late(item)
            elif isinstance(item, BadRecord):
                self._refuse(item)
            else:
                at.records += item.count
                at.seq = 0
        except (*MALFORMED, pa.ArrowException) as error:
            line = item.line if isinstance(item, RawSpan) else None
            self._refuse(BadRecord(reason=f"malformed record: {type(error).__name__}: {error}", line=line))

    def end(self, source: SourceObject) -> None:
        """Closes an object: its ledger row."""
        at = self._at
        assert at is not None
        self._ledger.append(
            {
                "source_uri": source.uri,
                "content_hash": source.content_hash,
                "size_bytes": source.size_bytes,
                "source_format": at.format,
                "format_reason": self._redactor.text(at.reason),
                "n_records": at.records,
                "n_quarantined": at.quarantined,
                "ingested_at": self._now_ns,
            }
        )
        self.bytes_in += source.size_bytes

    def finish(self) -> Batch:
        batch_id = content_id("batch", [list(part) for part in self._content])
        for row in self._ledger:
            row["batch_id"] = batch_id
        spans = links.mark(self._spans.table(), self._spans.response_ids)
        return Batch(
            batch_id=batch_id,
            tables={
                "spans": spans,
                "messages": self._book.table(),  # after the spans: late content adds messages
                "scores": _table(list(self._scores.values()), SCORES),
                "tasks": TASKS.empty_table(),
                "ingest_log": _table(self._ledger, INGEST_LOG),
                "quarantine": _table(self._quarantine, QUARANTINE),
            },
        )

    def _add_score(self, score: RawScore) -> None:
        redactor = self._redactor
        row: dict[str, Any] = {
            "target_kind": score.target_kind,
            "target_id": redactor.text(score.target_id),
            "name": redactor.text(score.name),
            "value": score.value,
            "label": redactor.maybe(score.label),
            "source": score.source,
            "version": redactor.maybe(score.version),
            "confidence": score.confidence,
            "evidence": redactor.json(score.evidence),
            "propensity": score.propensity,
            "user_key": redactor.user_key(score.user),
            "at": nanoseconds(score.at),
        }
        row["score_id"] = content_id(row)
        self._scores.setdefault(row["score_id"], row)

    def _refuse(self, bad: BadRecord) -> None:
        at = self._at
        assert at is not None
        at.quarantined += 1
        text = self._redactor.text(bad.excerpt[:2000])
        if len(text) <= _EXCERPT < len(bad.excerpt):  # what stood at the cut may be half a secret
            text = text[: max(0, len(text) - 100)]
        self._quarantine.append(
            {
                "source_uri": at.source.uri,
                "content_hash": at.source.content_hash,
                "line": bad.line,
                "offset_bytes": bad.offset,
                "source_format": at.format,
                "reason": self._redactor.text(bad.reason)[:_EXCERPT],
                "excerpt": text[:_EXCERPT].replace("\x00", "�") or None,
                "ingested_at": self._now_ns,
            }
        )


def _table(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    return pa.table([pa.array([row.get(field.name) for row in rows], field.type) for field in schema], schema=schema)
