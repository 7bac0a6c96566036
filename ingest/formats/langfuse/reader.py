"""Langfuse exports: traces with their observations and scores as the UI and the API give them, and the blob-storage
tables `traces`, `observations` (legacy and enriched) and `scores`.

A trace is the root span of its observations; its span id comes from the trace id alone, so that the tables may come in
any order and in different files. Source: Langfuse, fern/apis/server/definition.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from tracemill.ids import content_id
from tracemill.ingest.attributes import as_float, as_ns, hex_id
from tracemill.ingest.documents import MALFORMED, guarded, unwrap
from tracemill.ingest.formats.langfuse.observation import (
    TYPES,
    Row,
    agent_named,
    agent_of,
    fill,
    fill_trace,
    metadata_of,
    service_of,
    text_of,
)
from tracemill.ingest.reader import About, BadRecord, Done, Head, Item, RawScore, RawSpan, Stream
from tracemill.ingest.tables import bad_row, each_row

_SOURCES = {"API": "code", "EVAL": "llm", "ANNOTATION": "human"}
_TARGETS = (
    ("observationId", "span"),
    ("traceId", "trajectory"),
    ("sessionId", "session"),
    ("datasetRunId", "dataset_run"),
)
_TRACE = ("release", "bookmarked", "public", "htmlPath", "tags", "externalId")


class Langfuse:
    """Reader of Langfuse exports."""

    name = "langfuse"
    about = About(
        title="Langfuse exports",
        files="UI and API JSON (`trace` with `observations`, or lists of either), blob-storage tables of traces, "
        "observations and scores as JSON, JSON lines, CSV or Parquet; gzip",
        maps="The trace as root span, an observation a span; messages of the frameworks that Langfuse integrates, "
        "tools, parameters, tokens, cost, prompt name and version; scores of every data type, corrections",
        lacks="The prompt's label and variables; the end of a trace; a token count that Langfuse was not "
        "told: what only its total counts (Gemini's thinking) is in no column, the total in `attributes`",
    )

    def sniff(self, head: Head) -> str | None:
        if head.columns:
            return _table(head.columns)
        for record in head.records:
            found = _kind(record)
            if found is not None:
                return f"Langfuse: {found}"
        return None

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        seen = _Seen()
        yield from each_row(stream, head, partial(_record, seen=seen))
        yield from seen.wrappers()


class _Seen:
    """What rows of one table have to do with each other: roots that were given, and usage that repeats usage below."""

    def __init__(self) -> None:
        self.rooted: set[str] = set()
        self._parents: dict[str, str] = {}
        self._using: dict[str, str] = {}

    def note(self, span: RawSpan) -> None:
        if span.kind == "tool":  # a call below a tool is a call of its own
            return
        if span.parent_span_id is not None:
            self._parents[span.span_id] = span.parent_span_id
        if span.tokens_in is not None or span.tokens_out is not None:
            self._using[span.span_id] = span.trace_id

    def wrappers(self) -> Iterator[RawSpan]:
        """The flag of those whose usage is counted below them, as changes of spans that were given before."""
        found: dict[str, None] = {}
        for span_id in self._using:
            above = self._parents.get(span_id)
            for _ in range(64):  # broken exports may hold rings
                if above is None:
                    break
                if above in self._using and above != span_id:
                    found[above] = None
                above = self._parents.get(above)
        for span_id in found:
            yield RawSpan(
                trace_id=self._using[span_id],
                span_id=span_id,
                kind="chain",
                dialect="langfuse",
                partial=True,
                flags=["wrapper"],
            )


def _table(columns: Sequence[str]) -> str | None:
    names = set(map(_camel, columns))
    if {"traceId", "parentObservationId", "startTime"} <= names:
        return "Langfuse: a table of observations"
    if {"id", "observationId", "dataType", "name"} <= names:
        return "Langfuse: a table of scores"
    if {"id", "timestamp", "sessionId", "bookmarked"} <= names:
        return "Langfuse: a table of traces"
    return None


def _kind(record: Any) -> str | None:
    """What a record is: "trace with observations", "observation", "score", "trace", "list"; None: not Langfuse's."""
    if not isinstance(record, Mapping):
        return None
    if isinstance(record.get("trace"), Mapping) and isinstance(record.get("observations"), list):
        return "trace with observations"
    names = {_camel(name) for name in record}
    listed = _list(record)
    if listed and ("meta" in names or "traces" in names or len(names) == 1):
        return "list" if _kind(listed[0]) is not None else None
    if "traceId" in names and str(record.get("type")) in TYPES and "startTime" in names:
        return "observation"
    if {"name", "source"} <= names and {"dataType", "observationId"} & names:
        return "score" if str(record.get("source")) in _SOURCES else None
    if "id" in names and "timestamp" in names and "traceId" not in names:
        if isinstance(record.get("observations"), list) and record["observations"]:
            return "trace with observations"
        if len(names.intersection(_TRACE)) > 1:
            return "trace"
    return None


def _list(record: Mapping[str, Any]) -> list[Any]:
    """What a page of the API holds, or a session with its traces."""
    return next((record[name] for name in ("data", "traces") if isinstance(record.get(name), list)), [])


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _row(record: Mapping[str, Any]) -> Row:
    """The record under the API's names."""
    return {_camel(name): value for name, value in record.items()}


def _record(line: int, record: Mapping[str, Any], seen: _Seen) -> Iterator[Item]:
    kind = _kind(record)
    if kind == "list":
        for item in _list(record):
            held = item if isinstance(item, Mapping) else {"value": item}
            yield from guarded(_record(line, held, seen), partial(bad_row, line, held))
    elif kind == "trace with observations":
        yield from _whole(line, record, seen)
    elif kind == "observation":
        row = _row(record)
        span = _observation(line, row)
        root = _root(span.trace_id, line, row)
        seen.note(span)
        if root is not None and (span.trace_id not in seen.rooted or root.status == "error"):
            seen.rooted.add(span.trace_id)
            yield root
        yield span
    elif kind == "score":
        yield from _score(line, _row(record))
    elif kind == "trace":
        seen.rooted.add(_trace_id(record["id"]))
        yield _trace(line, _row(record))
    else:
        yield bad_row(line, record, "neither a trace nor an observation nor a score of Langfuse")


def _whole(line: int, record: Mapping[str, Any], seen: _Seen) -> Iterator[Item]:
    """A trace with everything that belongs to it."""
    inner = record.get("trace")
    trace = _row(inner if isinstance(inner, Mapping) else record)
    listed = record.get("observations")
    root = _trace(line, {k: v for k, v in trace.items() if k not in ("observations", "scores", "corrections")})
    seen.rooted.add(root.trace_id)
    latest: dict[str, tuple[RawSpan, Row]] = {}
    bad: list[BadRecord] = []
    for item in listed if isinstance(listed, list) else []:
        row = _row(item) if isinstance(item, Mapping) else {}
        try:
            span = _observation(line, {"traceId": trace.get("id"), **row})
        except MALFORMED as error:
            bad.append(bad_row(line, item, f"malformed observation: {type(error).__name__}: {error}"))
            continue
        known = latest.get(span.span_id)
        if known is None or (span.revised_ns or 0) >= (known[0].revised_ns or 0):
            latest[span.span_id] = (span, row)
    spans = sorted((span for span, _ in latest.values()), key=lambda span: span.start_ns or 0)
    if any(span.status == "error" and span.parent_span_id == root.span_id for span in spans):
        root.status = "error"
    _wrappers(spans)
    yield root
    for seq, span in enumerate(spans):
        span.seq = seq
        span.session_id, span.user = root.session_id, root.user
        yield span
    yield from bad
    for place in (trace, record):
        for name in ("scores", "corrections"):
            scores = place.get(name)
            for score in scores if isinstance(scores, list) else []:
                if isinstance(score, Mapping):
                    yield from guarded(_score(line, _row(score)), partial(bad_row, line, score))
                else:
                    yield bad_row(line, score, "no score: not a JSON object")
        if place is record or record.get("trace") is None:
            break


def _wrappers(spans: Sequence[RawSpan]) -> None:
    """Flags what repeats the usage of observations below it; a tool in between makes a call of its own."""
    by_id = {span.span_id: span for span in spans}
    for span in spans:
        if span.tokens_in is None and span.tokens_out is None:
            continue
        above = by_id.get(span.parent_span_id or "")
        for _ in range(64):  # broken exports may hold rings
            if above is None or above.kind == "tool":
                break
            if (above.tokens_in is not None or above.tokens_out is not None) and "wrapper" not in above.flags:
                above.flags = [*above.flags, "wrapper"]
            above = by_id.get(above.parent_span_id or "")


def _trace_id(value: Any) -> str:
    return hex_id(value, 16) or str(value)


def _root_id(trace_id: str) -> str:
    return content_id("langfuse-trace", trace_id)[:16]


def _trace(line: int, row: Row) -> RawSpan:
    """The root span that a trace is."""
    row = {name: value for name, value in row.items() if value is not None and value != ""}
    trace_id = _trace_id(row.pop("id"))
    revised = row.get("updatedAt", row.get("eventTs"))
    metadata = metadata_of(row)
    span = RawSpan(
        trace_id=trace_id,
        span_id=_root_id(trace_id),
        kind="chain",
        name=text_of(row.pop("name", None)),
        seq=-1,
        start_ns=as_ns(row.pop("timestamp", None)),
        session_id=text_of(row.pop("sessionId", None)),
        user=text_of(row.pop("userId", None)),
        agent_version=text_of(row.get("version")) or text_of(row.get("release")),
        agent_name=agent_of(metadata),
        service=service_of(metadata),
        revised_ns=as_ns(revised),
        line=line,
        dialect="langfuse",
    )
    for name in ("input", "output"):
        if name in row:
            row[name] = _decoded(row[name])
    fill_trace(span, row, metadata)
    return span


def _root(trace_id: str, line: int, row: Row) -> RawSpan | None:
    """What an observation without parent says of its trace, whose own row may stand elsewhere or nowhere."""
    if text_of(row.get("parentObservationId")):
        return None
    return RawSpan(
        trace_id=trace_id,
        span_id=_root_id(trace_id),
        kind="chain",
        name=text_of(row.get("traceName")),
        seq=-1,
        session_id=text_of(row.get("sessionId")),
        user=text_of(row.get("userId")),
        status="error" if row.get("level") == "ERROR" else "unset",
        line=line,
        dialect="langfuse",
        partial=True,
    )


def _observation(line: int, row: Row) -> RawSpan:
    row = {name: value for name, value in row.items() if value is not None and value != ""}
    trace_id = _trace_id(row.pop("traceId"))
    own, parent = str(row.pop("id")), text_of(row.pop("parentObservationId", None))
    failed = row.get("level") == "ERROR"
    metadata = metadata_of(row)
    span = RawSpan(
        trace_id=trace_id,
        span_id=hex_id(own, 8) or own,
        parent_span_id=_root_id(trace_id) if parent is None else hex_id(parent, 8) or parent,
        kind=TYPES[str(row.pop("type", "SPAN"))],
        name=text_of(row.pop("name", None)),
        start_ns=as_ns(row.pop("startTime", None)),
        end_ns=as_ns(row.pop("endTime", None)),
        session_id=text_of(row.pop("sessionId", None)),
        user=text_of(row.pop("userId", None)),
        status="error" if failed else "unset",
        error_message=text_of(row.pop("statusMessage", None)) if failed else None,
        agent_version=text_of(row.get("version")),
        agent_name=agent_of(metadata),
        service=service_of(metadata),
        prompt_name=text_of(row.pop("promptName", None)),
        prompt_version=text_of(row.pop("promptVersion", None)),
        prompt_label=text_of(row.pop("promptLabel", None)),
        revised_ns=as_ns(row.get("updatedAt", row.get("eventTs"))),
        line=line,
        dialect="langfuse",
    )
    if span.kind == "agent":
        span.agent_name = span.agent_name or agent_named(span.name)
    fill(span, row, metadata)
    return span


def _decoded(value: Any) -> Any:
    """Text that was encoded as JSON twice: traces of the API hold even plain text in quotes."""
    text = unwrap(value)
    if isinstance(text, str) and len(text) > 1 and text[0] == text[-1] == '"':
        inner = unwrap(f"[{text}]")
        if isinstance(inner, list) and len(inner) == 1 and isinstance(inner[0], str):
            return inner[0]
    return text


def _score(line: int, row: Row) -> Iterator[Item]:
    found = next(((kind, target) for name, kind in _TARGETS if (target := text_of(row.get(name))) is not None), None)
    if found is None:
        yield bad_row(line, row, "a score without target")
        return
    kind, target = found
    n_bytes = {"span": 8, "trajectory": 16}.get(kind)
    value, label, name = _judgement(row)
    evidence = {k: unwrap(row[k]) for k in _EVIDENCE if row.get(k) not in (None, "", {}, "{}")}
    yield RawScore(
        target_kind=kind,
        target_id=(hex_id(target, n_bytes) if n_bytes else None) or target,
        name=name,
        value=value,
        label=label,
        source=_SOURCES.get(str(row.get("source")), "code"),
        evidence=evidence or None,
        user=text_of(row.get("authorUserId")),
        at=as_ns(row.get("timestamp")) or as_ns(row.get("createdAt")),
    )


def _judgement(row: Row) -> tuple[float | None, str | None, str]:
    """Value, label and name of a score by its data type."""
    value, label = as_float(row.get("value")), text_of(row.get("stringValue"))
    name = text_of(row.get("name")) or "score"
    kind = str(row.get("dataType") or ("NUMERIC" if label is None else "CATEGORICAL")).upper()
    if kind == "CORRECTION":
        return None, text_of(row.get("longStringValue")) or label, "correction"
    if kind == "TEXT":
        return None, text_of(row.get("longStringValue")) or label, name
    if kind == "CATEGORICAL":
        # Without a configuration that maps labels to numbers the value is a filler.
        return (value if text_of(row.get("configId")) else None), label or text_of(row.get("value")), name
    if kind == "BOOLEAN" and value is None:
        said = {"true": 1.0, "false": 0.0}
        value = said.get(str(row.get("value")).lower(), said.get(str(label).lower()))
    return value, label, name


_EVIDENCE = ("id", "comment", "metadata", "environment", "configId", "queueId", "traceId", "executionTraceId")
