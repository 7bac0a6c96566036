"""MLflow traces, version 3 and 2: `{"info": {…}, "data": {"spans": […]}}`, with their assessments.

What `mlflow.*` attributes mean is known to the dialect alone. Source: mlflow 3.17, entities/trace.py, constant.py.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from tracemill.chat import as_text
from tracemill.ids import content_id
from tracemill.ingest.attributes import as_float, as_ns, hex_id
from tracemill.ingest.dialects import Origin
from tracemill.ingest.documents import MALFORMED, guarded, unwrap
from tracemill.ingest.otel.envelope import TRACE_BYTES, NoSpanError, events_of, own_id, spoken, status_of
from tracemill.ingest.reader import About, Done, Head, Item, RawScore, RawSpan, Stream
from tracemill.ingest.tables import bad_row, each_row

_SOURCES = {"HUMAN": "human", "LLM_JUDGE": "llm", "AI_JUDGE": "llm", "CODE": "code"}
_ANSWERS = ("expected_response", "expected_answer", "expected_output", "ground_truth")
_YES, _NO = ("yes", "true", "pass"), ("no", "false", "fail")
_PREVIEW = 1000


class MLflow:
    """Reader of MLflow traces."""

    name = "mlflow"
    about = About(
        title="MLflow traces",
        files="`info` with `data.spans`, versions 3 and 2, as JSON or JSON lines; tables of `mlflow.search_traces`",
        maps="Spans by their type, messages, tools, tokens, cost, session, user, linked prompt; assessments as scores, "
        "expected answers as corrections",
        lacks="Tokens summed over a trace are kept as attributes; traces without spans hold previews only",
    )

    def sniff(self, head: Head) -> str | None:
        if {"trace_id", "spans", "trace_metadata"} <= set(head.columns):
            return "MLflow: a table of traces"
        for record in head.records:
            for trace in _traces(record):
                if _is_trace(trace):
                    return "MLflow: info with data.spans"
                break
        return None

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        yield from each_row(stream, head, _record)


def _record(line: int, row: Mapping[str, Any]) -> Iterator[Item]:
    for trace in _traces(row):
        held: Mapping[str, Any] = trace if isinstance(trace, Mapping) else {}
        yield from guarded(_trace(line, held), partial(bad_row, line, held))


def _traces(record: Any) -> list[Any]:
    """The traces in a record: itself, those of a list, or the row of a table put together as one."""
    if not isinstance(record, Mapping):
        return []
    if isinstance(record.get("traces"), list):
        return list(record["traces"])
    if "info" not in record and isinstance(record.get("trace"), str):
        return [unwrap(record["trace"])]
    if "info" not in record and "trace_metadata" in record and "spans" in record:
        info = {name: unwrap(value) for name, value in record.items() if name not in ("spans", "trace")}
        return [{"info": info, "data": {"spans": unwrap(record["spans"])}}]
    return [record]


def _is_trace(trace: Any) -> bool:
    info = trace.get("info") if isinstance(trace, Mapping) else None
    return isinstance(info, Mapping) and ("trace_id" in info or "request_id" in info)


def _trace_id(value: Any) -> str | None:
    """The id of a trace: `tr-` and its OpenTelemetry id, or the last part of a `trace:/` location."""
    if not isinstance(value, str) or not value:
        return None
    return own_id(value.rsplit("/", 1)[-1].removeprefix("tr-"), TRACE_BYTES)


def _trace(line: int, trace: Mapping[str, Any]) -> Iterator[Item]:
    if not _is_trace(trace):
        yield bad_row(line, trace, "no MLflow trace: info is missing or has no trace_id")
        return
    info = {name: unwrap(value) for name, value in trace["info"].items()}
    trace_id = _trace_id(info.get("trace_id") or info.get("request_id"))
    data = unwrap(trace.get("data"))
    listed = unwrap(data.get("spans")) if isinstance(data, Mapping) else None
    metadata = _object(info.get("trace_metadata") or info.get("request_metadata"))
    session, user = metadata.pop("mlflow.trace.session", None), metadata.pop("mlflow.trace.user", None)
    metadata.pop("mlflow.user", None)  # who ran the program; only a pseudonym of the user is ever kept
    found: list[RawSpan] = []
    for seq, raw in enumerate(listed if isinstance(listed, list) else []):
        span = unwrap(raw)
        try:
            items = _span(span if isinstance(span, Mapping) else {}, trace_id, line, seq)
        except NoSpanError as error:
            yield bad_row(line, span, str(error))
            continue
        except MALFORMED as error:
            yield bad_row(line, span, f"malformed span: {type(error).__name__}: {error}")
            continue
        for item in items:
            if isinstance(item, RawSpan):
                item.session_id = item.session_id or (None if session is None else str(session))
                item.user = item.user or (None if user is None else str(user))
                found.append(item)
            else:
                yield item
    root = next((span for span in found if span.parent_span_id is None), None)
    if root is None and not found:
        root = _preview(info, str(trace_id), line)
        root.session_id, root.user = (None if v is None else str(v) for v in (session, user))
        found.append(root)
    if root is not None:
        _about(root, info, metadata)
    yield from found
    assessments = info.get("assessments")
    for assessment in assessments if isinstance(assessments, list) else [assessments] if assessments else []:
        if not isinstance(assessment, Mapping):
            yield bad_row(line, assessment, "an assessment that is no JSON object")
        elif assessment.get("valid") is not False:  # False: somebody has replaced it
            yield from guarded(_assessed(line, assessment, str(trace_id)), partial(bad_row, line, assessment))


def _span(span: Mapping[str, Any], trace_id: str | None, line: int, seq: int) -> list[Item]:
    context = _object(span.get("context"))  # version 2
    status = span.get("status")
    said = status if isinstance(status, Mapping) else {"code": span.get("status_code") or status}
    message = said.get("message") or span.get("status_message")
    attributes = unwrap(span.get("attributes"))
    return spoken(
        trace_id=trace_id or span.get("trace_id") or context.get("trace_id"),
        span_id=span.get("span_id") or context.get("span_id"),
        parent_id=span.get("parent_span_id") or span.get("parent_id"),
        name=None if span.get("name") is None else str(span["name"]),
        start_ns=as_ns(span.get("start_time_unix_nano") or span.get("start_time")),
        end_ns=as_ns(span.get("end_time_unix_nano") or span.get("end_time")),
        status=said.get("code"),
        message=None if not message else str(message),
        attributes=dict(attributes) if isinstance(attributes, Mapping) else {},
        events=events_of(span.get("events")),
        links=span.get("links") or None,
        origin=Origin(resource={}),
        line=line,
        seq=seq,
        foreign_ids=True,
    )


def _preview(info: Mapping[str, Any], trace_id: str, line: int) -> RawSpan:
    """A trace whose spans are not in the file, as its info tells it."""
    starts = as_ns(info.get("request_time") or info.get("timestamp_ms"))
    took = as_float(
        info.get("execution_duration_ms") or info.get("execution_time_ms") or info.get("execution_duration")
    )
    previews = [str(info[name]) for name in ("request_preview", "response_preview") if info.get(name)]
    return RawSpan(
        trace_id=trace_id,
        span_id=content_id("mlflow-trace", trace_id)[:16],
        kind="chain",
        start_ns=starts,
        end_ns=None if starts is None or took is None else starts + int(took * 1e6),
        line=line,
        dialect="mlflow",
        flags=["lossy", "truncated"] if any(len(preview) >= _PREVIEW for preview in previews) else ["lossy"],
    )


def _about(root: RawSpan, info: dict[str, Any], metadata: dict[str, Any]) -> None:
    """What is said of the whole trace, on its root."""
    tags = _object(info.get("tags"))
    name = tags.get("mlflow.traceName")
    root.name = root.name or (None if name is None else str(name))
    if root.status == "unset":
        root.status = status_of(info.get("state") or info.get("status"))
    prompts = unwrap(tags.get("mlflow.linkedPrompts"))
    if isinstance(prompts, list) and len(prompts) == 1 and isinstance(prompts[0], Mapping) and not root.prompt_name:
        prompt = prompts[0]
        root.prompt_name = None if prompt.get("name") is None else str(prompt["name"])
        root.prompt_version = None if prompt.get("version") is None else str(prompt["version"])
    rest = {name: value for name, value in info.items() if name not in _MAPPED and value not in (None, "", {}, [])}
    replaced = [a for a in info.get("assessments") or () if isinstance(a, Mapping) and a.get("valid") is False]
    if replaced:
        rest["replaced_assessments"] = replaced
    if tags:
        rest["tags"] = tags
    if metadata:
        rest["trace_metadata"] = metadata
    root.attributes = {**root.attributes, "mlflow.info": rest}


_MAPPED = frozenset(("assessments", "tags", "trace_metadata", "request_metadata", "state", "status"))


def _assessed(line: int, assessment: Mapping[str, Any], trace_id: str) -> Iterator[Item]:
    name = assessment.get("assessment_name") or assessment.get("name")
    feedback, expected = (unwrap(assessment.get(key)) for key in ("feedback", "expectation"))
    if not isinstance(name, str) or not (isinstance(feedback, Mapping) or isinstance(expected, Mapping)):
        yield bad_row(line, assessment, "an assessment without name, or with neither feedback nor expectation")
        return
    source = _object(assessment.get("source"))
    kind, who = str(source.get("source_type") or ""), source.get("source_id")
    span_id = assessment.get("span_id")
    evidence = {k: unwrap(assessment[k]) for k in ("assessment_id", "rationale", "metadata") if assessment.get(k)}
    given: dict[str, Any] = {
        "target_kind": "trajectory" if not span_id else "span",
        "target_id": trace_id if not span_id else hex_id(span_id, 8) or str(span_id),
        "source": _SOURCES.get(kind, "code"),
        "version": str(who) if who and kind != "HUMAN" else None,
        "user": str(who) if who and kind == "HUMAN" else None,
        "at": as_ns(assessment.get("last_update_time")) or as_ns(assessment.get("create_time")),
    }
    if isinstance(feedback, Mapping):
        value, label = _judged(unwrap(feedback.get("value")))
        if feedback.get("error"):
            evidence["error"] = feedback["error"]
        yield RawScore(name=name, value=value, label=label, evidence=evidence or None, **given)
    if isinstance(expected, Mapping):
        value = expected.get("value")
        serialized = _object(expected.get("serialized_value"))
        text = as_text(serialized.get("value") if value is None else value)
        wanted = "correction" if name in _ANSWERS else name
        yield RawScore(name=wanted, label=text, evidence={**evidence, "expectation": name}, **given)


def _judged(value: Any) -> tuple[float | None, str | None]:
    """Value and label; what judges answer with yes or no is 1 or 0."""
    if isinstance(value, bool):
        return float(value), None
    if isinstance(value, str):
        word = value.strip().lower()
        return (1.0 if word in _YES else 0.0 if word in _NO else as_float(value)), value
    number = as_float(value)
    return number, None if number is not None or value is None else as_text(value)


def _object(value: Any) -> dict[str, Any]:
    """An object, or version 2's list of keys and values, as an object of its own."""
    value = unwrap(value)
    if isinstance(value, list):
        return {str(item["key"]): item.get("value") for item in value if isinstance(item, Mapping) and "key" in item}
    return dict(value) if isinstance(value, Mapping) else {}
