"""Spans in the words of OpenTelemetry GenAI straight into columns: the common case, at a tenth of its price.

What the general way (`dialects.understand`, then `SpanColumns.add`) asks of a span one by one is here asked once of all
spans that have the same attribute names: which vocabulary they speak, and what becomes of each attribute. The general
way itself is watched while it understands the first of them. The values of one attribute are then looked at together,
as a column. A span that has anything unusual about it goes the general way, so that there is one truth; both give the
same rows.

All texts of some bundles are redacted in one pass: mostly nothing is found, and the texts stay as they are.
"""

from collections.abc import Iterator, Sequence
from itertools import chain, compress, repeat
from operator import itemgetter
from typing import Any

import msgspec

from tracemill.chat import as_text
from tracemill.ingest.columns import SpanColumns
from tracemill.ingest.content.book import MessageBook, Said
from tracemill.ingest.documents import MALFORMED
from tracemill.ingest.otel.drafts import CORE, Draft, Drafting
from tracemill.ingest.otel.plans import Plans
from tracemill.ingest.reader import Bundle, Item, Origin
from tracemill.ingest.redact import Redactor
from tracemill.schema import SPANS

_NAMES = tuple(SPANS.names)
_json = msgspec.json.Encoder().encode
_lines = msgspec.json.Encoder().encode_lines


class Block(msgspec.Struct):
    """Rows of some bundles: the spans that went straight, in their order."""

    columns: list[list[Any] | None]
    """In the order of SPANS; None where all of a column is NULL."""
    places: list[int]
    """Which spans of all these bundles they are."""
    scores: dict[int, list[Item]]
    """What was found in the spans of these places."""

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """The values of one span after the other."""
        size = len(self.places)
        return zip(*(repeat(None, size) if column is None else column for column in self.columns), strict=True)


class _Shared(msgspec.Struct, gc=False):
    """What the rows of one bundle have in common."""

    origin: Origin
    line: int | None
    seq: int
    """What a span's place is added to."""
    closing: str | None
    """What ends their attributes; None where they have to go the general way."""
    touched: bool
    """Whether redaction changed what they share."""


class Straight:
    """Makes rows of bundles for one batch. Many at a time cost little more than their values."""

    def __init__(self, book: MessageBook, redactor: Redactor, columns: SpanColumns, *, now_ns: int) -> None:
        self._book = book
        self._redactor = redactor
        self._columns = columns
        self._now_ns = now_ns
        self._plans = Plans(redactor)
        self._drafting = Drafting(book, redactor)

    def block(self, bundles: Sequence[tuple[Bundle, int]], *, uri: str, source_format: str) -> Block | None:
        """The rows of the spans that can go straight; None where none can. With each bundle comes its first seq."""
        heard = [bundle for bundle, _ in bundles]
        spans = list(chain.from_iterable(bundle.spans for bundle in heard))
        drafts = []
        for plan, places in self._plans.grouped(heard):
            try:
                draft = self._drafting.draft(plan, places, spans)
            except MALFORMED:
                continue
            if draft is not None:
                drafts.append(draft)
        shared = {text for bundle in heard for text in (bundle.origin.service, bundle.origin.scope) if text is not None}
        texts = self._book.unsettled().union(shared, *(draft.texts for draft in drafts))
        try:
            dirty = self._redactor.changed(texts)
        except MALFORMED:  # one that is too long: each is judged by itself
            self._book.settle(texts)
            return None
        self._book.settle(dirty)
        of: list[_Shared] = []
        for bundle, seq in bundles:
            one = self._shared(bundle, seq - len(of), dirty)
            of += [one] * len(bundle.spans)
        drafts = [draft for draft in drafts if self._finished(draft, dirty, [of[place] for place in draft.places])]
        if not drafts:
            return None
        places, columns = _in_order(drafts)
        theirs = [of[place] for place in places]
        columns["seq"] = [one.seq + place for one, place in zip(theirs, places, strict=True)]
        columns["service"] = [one.origin.service for one in theirs]
        columns["source_line"] = [one.line for one in theirs]
        columns["ingested_at"] = [self._now_ns] * len(places)
        columns["source_uri"] = [uri] * len(places)
        columns["source_format"] = [source_format] * len(places)
        scores = {place: said for draft in drafts for place, said in draft.scores.items()}
        return Block(list(map(columns.get, _NAMES)), places, scores)

    def _shared(self, bundle: Bundle, seq: int, dirty: set[str]) -> _Shared:
        origin = bundle.origin
        if origin.service in dirty or origin.scope in dirty:
            return _Shared(origin, bundle.line, seq, None, False)
        closing, touched = "", False
        if origin.scope:
            closing = f',"otel.scope.name":{_json(origin.scope).decode()}'
        if origin.resource:
            resource, touched = self._columns.resource(origin.resource)
            closing += f',"resource":{bytes(resource).decode()}'
        return _Shared(origin, bundle.line, seq, closing, touched)

    def _finished(self, draft: Draft, dirty: set[str], of: Sequence[_Shared]) -> bool:
        """Makes rows of a draft, but for those that have to go the general way; False where none is left."""
        lost = {row for row, one in enumerate(of) if one.closing is None}
        lost |= self._redacted(draft, dirty & draft.texts) | self._identified(draft)
        if len(lost) == len(draft.places):
            return False
        columns = draft.columns
        lines = _lines(draft.free).decode().split("\n")[:-1]
        columns["attributes"] = [
            (f"{line[:-1]}{one.closing}}}" if len(line) > 2 else f"{{{one.closing[1:]}}}")
            if one.closing
            else (line if len(line) > 2 else None)
            for line, one in zip(lines, of, strict=True)
        ]
        for name in ("tool_args", "tool_result"):
            if name in columns:
                columns[name] = [text if type(text) is str else as_text(text) for text in columns[name]]
        flags = columns["flags"]
        for row in draft.touched.union(row for row, one in enumerate(of) if one.touched):
            flags[row] = [*flags[row], "redacted"]
        if lost:
            kept = [row not in lost for row in range(len(flags))]
            draft.places = list(compress(draft.places, kept))
            draft.columns = {name: list(compress(column, kept)) for name, column in columns.items()}
            draft.scores = {place: scores for place, scores in draft.scores.items() if place in draft.places}
        return True

    def _redacted(self, draft: Draft, dirty: set[str]) -> set[int]:
        """Redacts attributes, arguments and results; gives the rows of which redaction changes more."""
        lost: set[int] = set()
        redo = set(draft.hard)
        columns = draft.columns
        if dirty:
            for name in CORE:
                column = columns.get(name)
                if column is not None and not dirty.isdisjoint(column):
                    lost.update(row for row, text in enumerate(column) if text in dirty)
            for row, reasons in enumerate(columns.get("finish_reasons") or ()):
                if reasons and not dirty.isdisjoint(reasons):
                    lost.add(row)
            for column in (columns.get("tool_args"), columns.get("tool_result")):
                redo.update(row for row, text in enumerate(column or ()) if type(text) is str and text in dirty)
            for row, free in enumerate(draft.free):
                if any(type(text) is str and text in dirty for text in free.values()):
                    redo.add(row)
            redo.update(row for row, texts in draft.inner if not dirty.isdisjoint(texts))
        for row in redo - lost:
            before = self._redactor.hits
            for name in ("tool_args", "tool_result"):
                if name in columns:
                    columns[name][row] = self._columns.text(columns[name][row])
            draft.free[row] = self._redactor.value(draft.free[row])
            if self._redactor.hits != before:
                draft.touched.add(row)
        return lost

    def _identified(self, draft: Draft) -> set[int]:
        """Names the messages of the rows; gives the rows with one that cannot be written."""
        lost: set[int] = set()
        columns = draft.columns
        days = columns["day"]

        def ids_of(row: int, said: Said) -> list[str]:
            if not self._book.said(said, days[row]):
                lost.add(row)
            elif said.touched:
                draft.touched.add(row)
            return said.ids or []

        openings: list[list[str] | None] = [None] * len(days)
        for name in ("input", "output"):
            if name in draft.said:
                columns[f"{name}_ids"] = [ids_of(row, said) for row, said in enumerate(draft.said[name])]
        for row, said in enumerate(draft.said.get("input") or ()):
            if said.known and said.known[0].role == "system":
                length = next((at for at, one in enumerate(said.known) if one.role != "system"), len(said.known))
                ids = columns["input_ids"][row]
                openings[row], columns["input_ids"][row] = ids[:length], ids[length:]
        for row, said in enumerate(draft.said.get("system") or ()):
            if openings[row] is None:
                openings[row] = ids_of(row, said) or None
        columns["system_ids"] = openings
        if draft.tools:
            found = [None if said is None else ids_of(row, said) for row, said in enumerate(draft.tools)]
            columns["tool_definitions_id"] = [ids[0] if ids else None for ids in found]
        return lost


def _in_order(drafts: Sequence[Draft]) -> tuple[list[int], dict[str, list[Any]]]:
    """The places and columns of all drafts, in the order in which the spans came."""
    if len(drafts) == 1:
        return drafts[0].places, drafts[0].columns
    every = list(chain.from_iterable(draft.places for draft in drafts))
    sort = itemgetter(*sorted(range(len(every)), key=every.__getitem__))
    columns: dict[str, list[Any]] = {}
    for name in dict.fromkeys(chain.from_iterable(draft.columns for draft in drafts)):
        parts = [draft.columns.get(name) or repeat(None, len(draft.places)) for draft in drafts]
        columns[name] = list(sort(list(chain.from_iterable(parts))))
    return list(sort(every)), columns
