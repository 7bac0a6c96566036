"""One batch while it is put together: its columns, its messages, its ledger and what was refused."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from tracemill.ids import content_id, keyed_id
from tracemill.ingest.collecting import Checks
from tracemill.ingest.columns import SpanColumns, nanoseconds
from tracemill.ingest.content.book import MessageBook
from tracemill.ingest.documents import MALFORMED, guarded
from tracemill.ingest.limits import Limits
from tracemill.ingest.otel.envelope import understood
from tracemill.ingest.otel.straight import Straight
from tracemill.ingest.providers import batched
from tracemill.ingest.reader import BadRecord, Bundle, Done, Item, LateContent, RawScore, RawSpan
from tracemill.ingest.redact import Redactor, Ruleset
from tracemill.ingest.source import SourceObject
from tracemill.records import Batch
from tracemill.schema import INGEST_LOG, INGEST_PROGRESS, QUARANTINE, SCORES, TASKS

_EXCERPT = 500
_SCORE = Checks(SCORES)
TOGETHER = 128
"""How many OpenTelemetry spans are understood together: more would not cost less each."""
_ROW_BYTES = 400
"""About what a row takes beside its texts."""


class _Source:
    """What is known of the object that is being read, and what of it stands in this batch."""

    def __init__(
        self, source: SourceObject, uri: str, content_hash: str | None, begun: int, fingerprint: str | None
    ) -> None:
        self.source = source
        self.uri = uri
        self.content_hash = content_hash
        self.fingerprint = fingerprint
        self.begun = begun
        self.format: str | None = None
        self.reason = ""
        self.records = 0
        self.position = 0
        self.seq = 0
        self.late = 0
        self.items = 0


class Building:
    """Takes items in, gives a Batch. Everything that leaves it is redacted."""

    def __init__(
        self,
        *,
        key: bytes,
        now_ns: int,
        readers: str | None = None,
        rules: Ruleset | None = None,
        limits: Limits | None = None,
        together: int = TOGETHER,
    ) -> None:
        self._key = key
        self._together = together
        self._now_ns = now_ns
        self._readers = readers
        self._rules = rules
        self.limits = limits or Limits()
        self._redactor = Redactor(key, rules, max_text=self.limits.text_chars)
        self._book = MessageBook(key, self._redactor)
        self._spans = SpanColumns(self._book, self._redactor, now_ns=now_ns)
        self._straight = Straight(self._book, self._redactor, self._spans, now_ns=now_ns)
        self._scores: dict[str, dict[str, Any]] = {}
        self._score_uris: list[str] = []
        self._ledger: list[dict[str, Any]] = []
        self._progress: list[dict[str, Any]] = []
        self._quarantine: list[dict[str, Any]] = []
        self._content: list[tuple[str, str | None, int]] = []
        self._outgrown: list[tuple[str, str]] = []
        self._at: _Source | None = None
        self._heard: list[tuple[Bundle, int]] = []
        """Bundles that wait for others to be taken in together with, and the seq of the first span of each."""
        self._n_heard = 0
        self.bytes_in = 0
        """Bytes of the whole objects taken in."""

    @property
    def empty(self) -> bool:
        return not self._content

    @property
    def size(self) -> int:
        """About the bytes that the batch holds in memory."""
        rows = self._spans.rows + self._n_heard + len(self._scores) + len(self._quarantine)
        return self._spans.size + self._book.size + rows * _ROW_BYTES

    @property
    def at_new(self) -> bool:
        """Whether the current object has come to what no earlier batch holds."""
        return self._at is not None and self._at.position >= self._at.begun

    def begin(
        self,
        source: SourceObject,
        *,
        content_hash: str | None = None,
        position: int = 0,
        fingerprint: str | None = None,
    ) -> None:
        """Opens an object, of which earlier batches hold `position` records. No hash: it cannot be read."""
        uri = self.written(source.uri)
        self._at = _Source(source, uri, content_hash, position, fingerprint)
        self._content.append((uri, content_hash, position))

    def outgrow(self, content_hash: str) -> None:
        """The current object begins with what had that hash, and was taken in under its name before."""
        assert self._at is not None
        self._outgrown.append((self._at.uri, content_hash))

    def written(self, uri: str) -> str:
        """A source's URI as the lake holds it: without what signs it, redacted like any text."""
        return self._redactor.uri(uri)

    def fingerprint(self, source: SourceObject) -> str | None:
        """Names an object in its present state, without reading it; None where its store does not tell states apart."""
        if source.version is None:
            return None
        # What signs a URL is another each day; redaction takes longer than all the rest, so only where it could be.
        uri = self.written(source.uri) if "?" in source.uri or "@" in source.uri else source.uri
        return keyed_id(self._key, "source", uri, source.version)

    def shown(self, text: str) -> str:
        """A text of the source as it may be printed."""
        return self._redactor.text(text)

    def successor(self) -> "Building":
        """An empty batch that goes on with the object that this one is cut in."""
        at = self._at
        assert at is not None
        self._take_heard()
        self._progress.append(self._account(at) | {"position": at.position})
        following = Building(
            key=self._key,
            now_ns=self._now_ns,
            readers=self._readers,
            rules=self._rules,
            limits=self.limits,
            together=self._together,
        )
        following.begin(at.source, content_hash=at.content_hash, position=at.position, fingerprint=at.fingerprint)
        after = following._at
        assert after is not None
        after.format, after.reason = at.format, at.reason
        after.records, after.position = at.records, at.position
        return following

    def recognised(self, format: str | None, reason: str) -> None:
        """Says what the current object is."""
        assert self._at is not None
        self._at.format, self._at.reason = format, reason

    def add(self, item: Item | Done) -> None:
        at = self._at
        assert at is not None
        if isinstance(item, Done):
            at.records += item.count
            at.position += 1
            at.seq = at.late = 0
            return
        if at.position < at.begun:
            return  # an earlier batch holds it
        if isinstance(item, Bundle):
            self._heard.append((item, at.seq))
            at.seq += len(item.spans)
            self._n_heard += len(item.spans)
            if self._n_heard >= self._together:
                self._take_heard()
            return
        if isinstance(item, RawSpan | RawScore):
            self._take_heard()  # of two versions of a span the last may count
            if isinstance(item, RawSpan):
                if item.seq is None and not item.partial:
                    item.seq = at.seq
                at.seq += 1
        self._add(item)

    def _add(self, item: Item) -> None:
        at = self._at
        assert at is not None
        at.items += 1
        uri, name = at.uri, str(at.format)
        try:
            if isinstance(item, RawSpan):
                self._spans.add(item, uri=uri, source_format=name)
            elif isinstance(item, RawScore):
                self._add_score(item, uri)
            elif isinstance(item, LateContent):
                at.late += 1
                self._spans.add_late(item, uri=uri, source_format=name, seq=at.late)
            elif isinstance(item, BadRecord):
                self._refuse(item)
        except (*MALFORMED, pa.ArrowException) as error:
            line = item.line if isinstance(item, RawSpan) else None
            self._refuse(BadRecord(reason=f"malformed record: {type(error).__name__}: {error}", line=line))

    def _take_heard(self) -> None:
        """Takes in the bundles that wait."""
        at, bundles = self._at, self._heard
        if not bundles:
            return
        assert at is not None
        self._heard, self._n_heard = [], 0
        spans = [(bundle, heard) for bundle, _ in bundles for heard in bundle.spans]
        block = self._straight.block(bundles, uri=at.uri, source_format=str(at.format))
        if block is not None and len(block.places) == len(spans):
            at.items += len(spans)
            self._spans.add_block(block.columns, len(spans), uri=at.uri)
            for place in sorted(block.scores):
                self._add_each(block.scores[place])
            return
        rows = {} if block is None else dict(zip(block.places, block.rows(), strict=True))
        seqs = (seq + place for bundle, seq in bundles for place in range(len(bundle.spans)))
        for place, ((bundle, heard), seq) in enumerate(zip(spans, seqs, strict=True)):
            row = rows.get(place)
            if row is None or block is None:
                self._add_each(guarded(understood(heard, bundle), bundle.bad), seq)
            else:
                at.items += 1
                self._spans.add_row(row, uri=at.uri)
                self._add_each(block.scores.get(place, ()))

    def _add_each(self, items: Iterable[Item], seq: int | None = None) -> None:
        for item in items:
            if isinstance(item, RawSpan) and item.seq is None:
                item.seq = seq
            self._add(item)

    def fail(self, reason: str) -> None:
        """The current object cannot be read (any further); it gets no ledger row, so that it is tried again."""
        assert self._at is not None
        self._take_heard()
        self._at.items += 1
        self._refuse(BadRecord(reason=reason))

    def end(self) -> None:
        """Closes the object: its ledger row."""
        assert self._at is not None
        self._take_heard()
        self._ledger.append(self._account(self._at))
        self.bytes_in += self._at.source.size_bytes

    def _account(self, at: _Source) -> dict[str, Any]:
        return {
            "source_uri": at.uri,
            "content_hash": at.content_hash,
            "size_bytes": at.source.hashed_bytes,
            "source_format": at.format,
            "format_reason": self._redactor.text(at.reason),
            "n_records": at.records,
            "n_items": at.items,
            "readers": self._readers,
            "redaction": self._redactor.version,
            "ingested_at": self._now_ns,
            "fingerprint": at.fingerprint,
        }

    def finish(self) -> Batch:
        batch_id = content_id("batch", [list(part) for part in self._content])
        spans, parts = self._spans.tables()
        spans, answered = batched.join(spans, self._book)
        self._spans.duplicates.update(answered)
        refused = Counter(row["source_uri"] for row in self._quarantine)
        for row in (*self._ledger, *self._progress):
            row["batch_id"] = batch_id
            row["n_quarantined"] = refused[row["source_uri"]]
            row["n_duplicates"] = self._spans.duplicates[row["source_uri"]]
        return Batch(
            batch_id=batch_id,
            tables={
                "spans": spans,
                "span_parts": parts,
                "messages": self._book.table(),
                "scores": _table(list(self._scores.values()), SCORES),
                "tasks": TASKS.empty_table(),
                "ingest_log": _table(self._ledger, INGEST_LOG),
                "ingest_progress": _table(self._progress, INGEST_PROGRESS),
                "quarantine": _table(self._quarantine, QUARANTINE),
            },
            score_uris=tuple(self._score_uris),
            duplicates=self._spans.duplicates.total(),
            outgrown=tuple(self._outgrown),
        )

    def _add_score(self, score: RawScore, uri: str) -> None:
        redactor = self._redactor
        row: dict[str, Any] = {
            "target_kind": redactor.text(score.target_kind),
            "target_id": redactor.target(score.target_kind, score.target_id),
            "name": redactor.text(score.name),
            "value": score.value,
            "label": redactor.maybe(score.label),
            "source": redactor.text(score.source),
            "version": redactor.maybe(score.version),
            "confidence": score.confidence,
            "evidence": redactor.json(score.evidence),
            "propensity": score.propensity,
            "user_key": redactor.user_key(score.user),
            "at": nanoseconds(score.at),
        }
        _SCORE.check(row)
        row["score_id"] = content_id(row)
        if row["score_id"] in self._scores:
            self._spans.duplicates[uri] += 1
            return
        self._scores[row["score_id"]] = row
        self._score_uris.append(uri)

    def _refuse(self, bad: BadRecord) -> None:
        at = self._at
        assert at is not None
        text = self._redactor.excerpt(bad.excerpt[:2000])
        if len(text) <= _EXCERPT < len(bad.excerpt):  # what stood at the cut may be half a secret
            text = text[: max(0, len(text) - 100)]
        self._quarantine.append(
            {
                "source_uri": at.uri,
                "content_hash": at.content_hash,
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
