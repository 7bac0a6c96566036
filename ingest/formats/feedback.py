"""Feedback rows: what people, programs or environments thought of a session, a trace or a span, joined by a key.

`{session_id | trace_id | trajectory_id | span_id, name?, value?, label?, correction?, propensity?, confidence?,
source?, version?, user?, at?}` as JSON lines, CSV or Parquet. A correction becomes a score of its own, "correction".
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from tracemill.chat import as_text
from tracemill.ingest.attributes import as_float, as_ns, hex_id
from tracemill.ingest.reader import About, BadRecord, Done, Head, Item, RawScore, Stream
from tracemill.ingest.tables import bad_row, each_row

KEYS = {"span_id": "span", "trace_id": "trajectory", "trajectory_id": "trajectory", "session_id": "session"}
"""What a row can be joined on, the most specific first, and the kind of target it names."""

_JUDGEMENTS = ("value", "label", "correction")
_SOURCES = ("env", "human", "user", "llm", "code", "model")
_OTHER_FORMATS = frozenset(("messages", "response", "request", "traj", "turn_history", "attributes", "resourceSpans"))
_TRUE, _FALSE = ("true", "yes", "1", "1.0"), ("false", "no", "0", "0.0")


class Feedback:
    """Reader of feedback rows; each row is joined on the most specific key that it has."""

    name = "feedback"
    about = About(
        title="Feedback rows",
        files="JSON lines, CSV or Parquet with `session_id`, `trace_id`, `trajectory_id` or `span_id` and a judgement",
        maps="A score a row; a correction is a second score that holds the right output",
        lacks="No spans: the rows are joined to what other files hold",
    )

    def sniff(self, head: Head) -> str | None:
        rows = [head.columns] if head.columns else [list(r) for r in head.records if isinstance(r, dict)]
        for names in rows:
            found = [key for key in KEYS if key in names]
            said = [name for name in _JUDGEMENTS if name in names]
            if found and said and not _OTHER_FORMATS.intersection(names):
                return f"rows with {found[0]} and {said[0]}"
        return None

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        yield from judgements(stream, head, None)


def judgements(stream: Stream, head: Head, on: str | None, column: str | None = None) -> Iterator[Item | Done]:
    """Scores of every row, joined `on` that key, or on the most specific one of each row.

    `column` holds the key where it is not called so. On a key that is none of KEYS, the kind of target is the key.
    """
    yield from each_row(stream, head, partial(_row, on=on, column=column))


def _row(line: int, row: Mapping[str, Any], *, on: str | None, column: str | None) -> Iterator[Item]:
    key = on or next((name for name in KEYS if _text(row.get(name)) is not None), None)
    target = None if key is None else _text(row.get(column or key))
    if key is None or target is None:
        yield _bad(line, row, f"no {column or on or ' or '.join(KEYS)}")
        return
    n_bytes = {"span_id": 8, "trace_id": 16, "trajectory_id": 16}.get(key)
    if n_bytes is not None:
        target = hex_id(target, n_bytes) or target
    try:
        value, label = _value(row)
        propensity, confidence = (_number(row, name) for name in ("propensity", "confidence"))
    except ValueError as error:
        yield _bad(line, row, str(error))
        return
    if propensity is not None and not 0 < propensity <= 1:
        yield _bad(line, row, f"propensity {propensity} is no probability above 0")
        return
    source = _text(row.get("source")) or "human"
    if source not in _SOURCES:
        yield _bad(line, row, f"unknown source {source!r}; known: {', '.join(_SOURCES)}")
        return
    at = as_ns(row.get("at"))
    if at is None and row.get("at") is not None:
        yield _bad(line, row, "at is no time")
        return
    correction = row.get("correction")
    if value is None and label is None and correction is None:
        yield _bad(line, row, f"neither value nor label nor correction among {', '.join(row)}")
        return
    mapped = {*_COLUMNS, *KEYS, column or key}
    rest = {name: v for name, v in row.items() if name not in mapped and v is not None}
    score = RawScore(
        target_kind=KEYS.get(key, key),
        target_id=target,
        name=_text(row.get("name")) or "feedback",
        value=value,
        label=label,
        source=source,
        version=_text(row.get("version")),
        confidence=confidence,
        evidence=rest or None,
        propensity=propensity,
        user=_text(row.get("user")),
        at=at,
    )
    if value is not None or label is not None:
        yield score
    if correction is not None:
        yield _correction(score, correction)


def _correction(score: RawScore, correction: Any) -> RawScore:
    return RawScore(
        target_kind=score.target_kind,
        target_id=score.target_id,
        name="correction",
        label=as_text(correction),
        source=score.source,
        version=score.version,
        confidence=score.confidence,
        propensity=score.propensity,
        user=score.user,
        at=score.at,
    )


_COLUMNS = frozenset(
    ("name", "value", "label", "correction", "propensity", "confidence", "source", "version", "user", "at")
)


def _value(row: Mapping[str, Any]) -> tuple[float | None, str | None]:
    value, label = row.get("value"), _text(row.get("label"))
    if value is None or value == "":
        return None, label
    if isinstance(value, bool):
        return float(value), label
    if isinstance(value, str) and value.strip().lower() in (*_TRUE, *_FALSE):
        return float(value.strip().lower() in _TRUE), label
    number = as_float(value)
    if number is None:
        raise ValueError(f"value {as_text(value)[:40]!r} is no finite number")
    return number, label


def _number(row: Mapping[str, Any], name: str) -> float | None:
    value = row.get(name)
    if value is None or value == "":
        return None
    number = as_float(value)
    if number is None:
        raise ValueError(f"{name} {as_text(value)[:40]!r} is no finite number")
    return number


def _text(value: Any) -> str | None:
    return None if value is None or value == "" else as_text(value)


def _bad(line: int, row: Mapping[str, Any], reason: str) -> BadRecord:
    return bad_row(line, row, f"no feedback row: {reason}")
