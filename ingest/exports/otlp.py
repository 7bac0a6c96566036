"""OTLP/JSON: the spans of a trajectory in ExportTraceServiceRequests, in the OpenTelemetry GenAI conventions.

Every call says its whole prompt again, so a long trajectory comes in several requests of a size that collectors take.

Any OpenTelemetry backend reads it; tracemill reads every column of it again: those for which the conventions have a
name under that name, the others in the attribute `tracemill.span` (JSON). Scores are `gen_ai.evaluation.result` events
of the span that they judge, those of the trajectory of its first span.

Ids that are no OpenTelemetry ids are hashed for others and kept in `tracemill.span`. Where a row came from
(`source_uri`, `source_line`, `source_format`, `ingested_at`) is told in `tracemill.source.*`, but the new file is the
source of what is taken in again. `user_key` is `user.id`: taken in again, it is a pseudonym of the pseudonym.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tracemill.ids import canonical_json, content_id
from tracemill.ingest.carried import beyond
from tracemill.ingest.dialects import tracemill as words
from tracemill.ingest.exports.episode import Episode, Row, raw_span, score_columns
from tracemill.ingest.reader import RawSpan

_REQUEST_CHARS = 4 * 1024 * 1024
_STATUS = {"unset": 0, "ok": 1, "error": 2}
_SOURCES = ("source_uri", "source_line", "source_format", "ingested_at")


class OtlpExport:
    """Writer of OTLP/JSON requests."""

    name = "otlp"
    about = "OTLP/JSON, GenAI conventions, a request a line; tracemill takes them in again as the same spans"
    table = None

    def records(self, episode: Episode) -> Iterator[dict[str, Any]]:
        spans = {row["span_id"]: raw_span(row, episode) for row in episode.spans}
        events: dict[str | None, list[dict[str, Any]]] = {}
        first = next(iter(spans), None)
        for score in episode.scores:
            target = score["target_id"] if score["target_kind"] == "span" and score["target_id"] in spans else first
            events.setdefault(target, []).append(_event(score))
        resourced: dict[str, dict[str, Any]] = {}
        known: dict[int, str] = {}
        size = 0
        for row in episode.spans:
            span = spans[row["span_id"]]
            written = _span(span, row, events.get(span.span_id, []), known)
            size += sum(len(pair["value"].get("stringValue", "")) for pair in written["attributes"])
            if resourced and size > _REQUEST_CHARS:
                yield {"resourceSpans": list(resourced.values())}
                resourced, size = {}, 0
            resource = _resource(span)
            place = resourced.setdefault(
                canonical_json(resource),
                {
                    "resource": {"attributes": _pairs(resource)},
                    "scopeSpans": [{"scope": {"name": "tracemill"}, "spans": []}],
                },
            )
            place["scopeSpans"][0]["spans"].append(written)
        if resourced:
            yield {"resourceSpans": list(resourced.values())}


def _span(span: RawSpan, row: Row, events: list[dict[str, Any]], known: dict[int, str]) -> dict[str, Any]:
    trace_id, span_id, parent = _hex(span.trace_id, 32), _hex(span.span_id, 16), span.parent_span_id
    attributes = words.spelled(span, known)
    # Messages are the same when they are read again; finding that out would take as long as writing them.
    plain = {name: value for name, value in attributes.items() if name not in words.MESSAGES}
    read = words.native(
        RawSpan(
            trace_id=trace_id,
            span_id=span_id,
            parent_span_id=None if parent is None else _hex(parent, 16),
            kind="chain",
            name=span.name or "",
            start_ns=span.start_ns,
            end_ns=span.end_ns,
            status=span.status if span.status in _STATUS else "unset",
            error_message=span.error_message or None,  # an empty one says nothing where it is read
            service=span.service,
        ),
        plain,
    )
    read.input, read.output = span.input, span.output
    if span.user is not None:
        attributes["user.id"] = read.user = span.user
    attributes[words.SPAN] = canonical_json(beyond(span, read))
    for name in _SOURCES:
        if row.get(name) is not None:
            attributes[f"tracemill.source.{name.removeprefix('source_')}"] = row[name]
    status: dict[str, Any] = {"code": _STATUS.get(span.status, 0)}
    if span.error_message is not None:
        status["message"] = span.error_message
    found: dict[str, Any] = {
        "traceId": trace_id,
        "spanId": span_id,
        "name": span.name or "",
        "kind": 1,
        "startTimeUnixNano": str(span.start_ns or 0),
        "endTimeUnixNano": str(span.end_ns or 0),
        "attributes": _pairs(attributes),
        "status": status,
    }
    if parent is not None:
        found["parentSpanId"] = _hex(parent, 16)
    if events:
        found["events"] = events
    return found


def _event(score: Row) -> dict[str, Any]:
    columns = score_columns(score)
    attributes: dict[str, Any] = {"gen_ai.evaluation.name": score["name"]}
    for column, name in (("value", "score.value"), ("label", "score.label")):
        if score.get(column) is not None:
            attributes[f"gen_ai.evaluation.{name}"] = score[column]
    explanation = columns["evidence"].get("explanation") if isinstance(columns.get("evidence"), Mapping) else None
    if isinstance(explanation, str):
        attributes["gen_ai.evaluation.explanation"] = explanation
    attributes[words.SCORE] = canonical_json(columns)
    return {"name": words.RESULT, "timeUnixNano": str(score.get("at") or 0), "attributes": _pairs(attributes)}


def _resource(span: RawSpan) -> dict[str, Any]:
    """What the span's process said of itself, as far as it is plain."""
    known = span.attributes.get("resource")
    found = {name: value for name, value in known.items() if isinstance(value, str)} if isinstance(known, dict) else {}
    found.pop("service.name", None)
    return ({} if span.service is None else {"service.name": span.service}) | found


def _hex(identifier: str, length: int) -> str:
    if len(identifier) == length and re.fullmatch("[0-9a-f]+", identifier) and identifier.strip("0"):
        return identifier
    return content_id("otlp", identifier)[:length]


def _pairs(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": name, "value": _value(value)} for name, value in attributes.items()]


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list | tuple):
        return {"arrayValue": {"values": [_value(item) for item in value]}}
    return {"stringValue": str(value)}
