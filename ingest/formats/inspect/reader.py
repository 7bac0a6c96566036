"""Logs of Inspect AI evaluations: `.eval` archives, those of unfinished runs included, and `.json` documents.

An archive is read entry by entry: the header first (`header.json`, or `_journal/start.json` while the run has not
finished), then each sample, which is either one entry or a folder of numbered pieces. How a sample becomes a
trajectory stands in `samples.py`.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tracemill.ingest.documents import Record, elements, guarded, loads, records, scan, values
from tracemill.ingest.formats.inspect.samples import spans_of
from tracemill.ingest.reader import About, BadRecord, Done, Head, Item, Stream
from tracemill.ingest.zipped import Archive, EntryError, unzipped

_HEADERS = ("header.json", "_journal/start.json")
_SAMPLE = re.compile(r"samples/.+_epoch_\d+\.json\Z")
_SHELL = re.compile(r"(samples/.+_epoch_\d+/)sample\.json\Z")
_PIECE = re.compile(r"(samples/.+_epoch_\d+/)(messages|events|calls|attachments)/(\d+)\.json\Z")


class InspectEval:
    """Reader of Inspect logs."""

    name = "inspect"
    about = About(
        title="Inspect AI evaluations",
        files="`.eval` archives, unfinished and torn ones too, and `.json` logs (an object with `eval`, `samples`)",
        maps="One trajectory a sample and epoch: model and tool events, solvers, sub-agents; a score row a scorer",
        lacks="Raw provider requests and state changes; samples without events have guessed prompts and no usage",
    )

    def sniff(self, head: Head) -> str | None:
        if head.shape == "zip":
            if any(name in _HEADERS or _SAMPLE.match(name) or _SHELL.match(name) for name in head.columns):
                return "a zip archive of Inspect samples"
            return None
        return "an object with eval, plan and samples" if any(map(_is_log, head.records)) else None

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        if head.shape == "zip":
            try:
                with unzipped(stream) as archive:
                    yield from _archive(archive, stream.limits.record_bytes)
            except EntryError as error:
                yield BadRecord(reason=str(error))
            return
        for record in records(stream, head):
            if isinstance(record, BadRecord):
                yield record
                yield Done()
            else:
                yield from _document(record)


def _archive(archive: Archive, limit: int) -> Iterator[Item | Done]:
    if archive.torn is not None:
        yield BadRecord(reason=archive.torn)
    log: Any = {}
    for name in _HEADERS:
        if name in archive.entries:
            try:
                log = loads(archive.read(name, limit))
                break
            except ValueError as error:
                yield BadRecord(reason=f"{name}: {error}")
    log = log if isinstance(log, Mapping) else {}
    pieces: dict[str, list[str]] = {}
    for name in archive.entries:
        if piece := _PIECE.match(name):
            pieces.setdefault(piece[1], []).append(name)
    samples = [name for name in archive.entries if _SHELL.match(name) or _SAMPLE.match(name)]
    if not samples:
        yield BadRecord(reason="the log holds no samples")
    for name in samples:
        shell = _SHELL.match(name)
        yield from _sample(archive, limit, name, pieces.get(shell[1], []) if shell else [], log)
        yield Done()


def _sample(archive: Archive, limit: int, name: str, pieces: list[str], log: Mapping[str, Any]) -> Iterator[Item]:
    try:
        sample = loads(archive.read(name, limit))
        if isinstance(sample, dict) and pieces:
            left = limit
            for sequence, names in _sequences(pieces).items():
                found: list[Any] = []
                for piece in names:
                    raw = archive.read(piece, left)
                    left -= len(raw)
                    found.extend(loads(raw))
                sample[{"messages": "message_pool"}.get(sequence, sequence)] = found
    except (EntryError, ValueError, TypeError) as error:
        yield BadRecord(reason=f"{name}: {error}", excerpt=name)
        return
    yield from guarded(_spans(sample, log, None), lambda reason: BadRecord(reason=f"{name}: {reason}", excerpt=name))


def _sequences(pieces: list[str]) -> dict[str, list[str]]:
    """The pieces of each sequence of one sample in their order: they are named by the index of their first item."""
    found: dict[str, list[tuple[int, str]]] = {}
    for name in pieces:
        piece = _PIECE.match(name)
        assert piece is not None
        found.setdefault(piece[2], []).append((int(piece[3]), name))
    return {sequence: [name for _, name in sorted(names)] for sequence, names in found.items()}


def _is_log(value: Any) -> bool:
    if not isinstance(value, Mapping) or not isinstance(value.get("eval"), Mapping):
        return False
    named = "task" in value["eval"] and ("run_id" in value["eval"] or "task_id" in value["eval"])
    return named and ("samples" in value or "plan" in value or "results" in value)


def _spans(sample: Any, log: Mapping[str, Any], line: int | None) -> Iterator[Item]:
    if not isinstance(sample, Mapping):
        raise ValueError("no Inspect sample: not a JSON object")
    yield from spans_of(sample, log, line)


def _document(record: Record) -> Iterator[Item | Done]:
    """The samples of one JSON log, those before a tear included."""
    header: dict[str, Any] = {}
    samples: list[Record | BadRecord] = []
    for value in values(record):
        if isinstance(value, BadRecord):
            samples.extend(_torn(value, record))
        elif value.key == "samples":
            samples.extend(elements(value) if value.raw.strip() != b"null" else ())
        elif value.key in ("eval", "plan", "results", "version", "status"):
            header[value.key] = loads(value.raw)
    if "eval" not in header:
        yield record.bad("no Inspect log: eval is missing")
        yield Done()
        return
    for sample in samples:
        if isinstance(sample, BadRecord):
            yield sample
        else:
            yield from guarded(_loaded(sample, header), sample.bad)
        yield Done()
    if not samples:
        yield record.bad("the log holds no samples")
        yield Done()


def _loaded(sample: Record, log: Mapping[str, Any]) -> Iterator[Item]:
    yield from _spans(loads(sample.raw), log, sample.line)


def _torn(bad: BadRecord, record: Record) -> Iterator[Record | BadRecord]:
    """The whole samples of a torn list of samples, then the tear; any other tear as it is."""
    start = (bad.offset or 0) - record.offset
    rest = record.raw[start:]
    listed = re.match(rb'\s*"samples"\s*:\s*(?=\[)', rest)
    if listed is None:
        yield bad
    else:
        yield from scan(rest[listed.end() :], bad.line or record.line, (bad.offset or 0) + listed.end())
