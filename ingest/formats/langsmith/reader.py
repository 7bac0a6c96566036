"""LangSmith: runs as the API, the SDK's batches and the bulk export give them, and feedback rows.

A batch is `{"post": […], "patch": […]}`; a patch says what its post could not know yet and comes into its span, or is a
delivery of its own where the post stands in another file. The project's `session_id` is no conversation: that is the
thread in the metadata. Source: LangSmith, run data format; langsmith 0.15 schemas.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from tracemill.chat import as_text
from tracemill.ingest.attributes import as_float, as_ns, hex_id
from tracemill.ingest.documents import guarded, unwrap
from tracemill.ingest.formats.langsmith.run import place_of, run_span
from tracemill.ingest.reader import About, Done, Head, Item, RawScore, Stream
from tracemill.ingest.tables import bad_row, each_row

_SOURCES = {"app": "human", "model": "llm", "auto_eval": "llm", "api": "code"}


class LangSmith:
    """Reader of LangSmith runs and feedback."""

    name = "langsmith"
    about = About(
        title="LangSmith runs and feedback",
        files="Runs with `run_type` and `dotted_order` or `trace_id` as JSON, JSON lines or bulk Parquet; batches with "
        "`post` and `patch`; feedback rows with `run_id` and `key`",
        maps="A run a span, in dotted order; messages of LangChain and OpenAI, streamed ones put together, tools, "
        "parameters, tokens, cost, prompt hub name and commit; feedback and corrections as scores",
        lacks="Feedback statistics are kept as attributes: only feedback rows become scores; attachments' bytes",
    )

    def sniff(self, head: Head) -> str | None:
        if {"run_type", "dotted_order"} <= set(head.columns):
            return "LangSmith: a table of runs"
        if {"run_id", "key", "score"} <= set(head.columns):
            return "LangSmith: a table of feedback"
        for record in head.records:
            found = _kind(record)
            if found is not None:
                return f"LangSmith: {found}"
        return None

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        yield from each_row(stream, head, _record)


def _kind(record: Any) -> str | None:
    """What a record is: "run", "batch", "feedback", "runs"; None: not LangSmith's."""
    if not isinstance(record, Mapping):
        return None
    if "run_type" in record and ("dotted_order" in record or "trace_id" in record):
        return "run"
    for name in ("post", "patch"):
        listed = record.get(name)
        first = listed[0] if isinstance(listed, list) and listed else None
        if isinstance(first, Mapping) and {"dotted_order", "trace_id", "run_type"} & first.keys():
            return "batch"
    if "run_id" in record and "key" in record and {"score", "feedback_source", "correction"} & record.keys():
        return "feedback"
    listed = record.get("runs")
    if isinstance(listed, list) and listed and _kind(listed[0]) == "run":
        return "runs"
    return None


def _record(line: int, record: Mapping[str, Any]) -> Iterator[Item]:
    kind = _kind(record)
    if kind == "run":
        yield from _run(line, record)
    elif kind == "runs":
        for run in record["runs"]:
            yield from _guarded(line, run if isinstance(run, Mapping) else {})
    elif kind == "batch":
        yield from _batch(line, record)
    elif kind == "feedback":
        yield from _feedback(line, record)
    else:
        yield bad_row(line, record, "neither a run nor a batch of runs nor feedback")


def _guarded(line: int, run: Mapping[str, Any], *, patch: bool = False) -> Iterator[Item]:
    """One run among several: where it is malformed, the others still land."""
    yield from guarded(_run(line, run, patch=patch), partial(bad_row, line, run))


def _run(line: int, run: Mapping[str, Any], *, patch: bool = False) -> Iterator[Item]:
    place = place_of(run)
    if place is None:
        yield bad_row(line, run, "a run without id")
        return
    yield run_span(place, run, line=line, partial=patch)
    children = unwrap(run.get("child_runs"))
    for child in children if isinstance(children, list) else []:
        if isinstance(child, Mapping):
            yield from _guarded(line, {"trace_id": run.get("trace_id") or run.get("id"), **child})
        else:
            yield bad_row(line, child, "a child run that is no JSON object")


def _batch(line: int, record: Mapping[str, Any]) -> Iterator[Item]:
    """Posts with their patches, in dotted order, then the patches whose posts are elsewhere."""
    posts: dict[str, dict[str, Any]] = {}
    for post in _listed(record, "post"):
        place = place_of(post) if isinstance(post, Mapping) else None
        if place is None:
            yield bad_row(line, post, "a run without id")
        else:
            posts[place.run_id] = _patched(posts.get(place.run_id, {}), post)
    alone: dict[str, dict[str, Any]] = {}
    for patch in _listed(record, "patch"):
        place = place_of(patch) if isinstance(patch, Mapping) else None
        if place is None:
            yield bad_row(line, patch, "a patch without id")
            continue
        known = posts if place.run_id in posts else alone
        known[place.run_id] = _patched(known.get(place.run_id, {}), patch)
    for run in sorted(posts.values(), key=lambda run: str(run.get("dotted_order") or "")):
        yield from _guarded(line, run)
    for patch in alone.values():
        yield from _guarded(line, patch, patch=True)


def _listed(record: Mapping[str, Any], name: str) -> list[Any]:
    listed = record.get(name)
    return listed if isinstance(listed, list) else []


def _patched(run: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """The run with what the patch says; what the patch leaves empty stays as it was."""
    found = {**run, **{name: value for name, value in patch.items() if value not in (None, {}, [])}}
    if isinstance(run.get("extra"), Mapping) and isinstance(patch.get("extra"), Mapping):
        found["extra"] = {**run["extra"], **patch["extra"]}
    if isinstance(run.get("events"), list) and isinstance(patch.get("events"), list):
        known = {as_text(event) for event in run["events"]}
        found["events"] = [*run["events"], *(event for event in patch["events"] if as_text(event) not in known)]
    return found


def _feedback(line: int, row: Mapping[str, Any]) -> Iterator[Item]:
    run_id, trace = (str(row[name]) if row.get(name) else None for name in ("run_id", "trace_id"))
    if run_id is None and trace is None:
        yield bad_row(line, row, "feedback without run and trace")  # feedback on a whole project is about no trace
        return
    # What is said of the root run is said of the trace.
    whole = run_id is None or run_id == trace
    target = (hex_id(trace, 16) or str(trace)) if whole else str(run_id)
    origin = unwrap(row.get("feedback_source"))
    origin = origin if isinstance(origin, Mapping) else {}
    score, value, correction = row.get("score"), unwrap(row.get("value")), unwrap(row.get("correction"))
    number = float(score) if isinstance(score, bool) else as_float(score)
    if number is None and isinstance(value, int | float):
        number, value = float(value), None
    user = origin.get("user_id") or row.get("created_by")
    evidence = {name: row[name] for name in ("id", "comment", "source_info") if row.get(name)}
    if origin.get("metadata"):
        evidence["metadata"] = unwrap(origin["metadata"])
    given: dict[str, Any] = {
        "target_kind": "trajectory" if whole else "span",
        "target_id": target,
        "source": _SOURCES.get(str(origin.get("type")), "code"),
        "evidence": evidence or None,
        "user": None if user is None else str(user),
        "at": as_ns(row.get("created_at")),
    }
    label = None if value in (None, "", {}) else as_text(value)
    if number is not None or label is not None or correction in (None, "", {}):
        yield RawScore(name=str(row["key"]), value=number, label=label, **given)
    if correction not in (None, "", {}):
        yield RawScore(name="correction", label=as_text(_only(correction)), **given)


def _only(correction: Any) -> Any:
    """A correction that holds one text is that text."""
    if isinstance(correction, Mapping) and len(correction) == 1:
        (value,) = correction.values()
        return value if isinstance(value, str) else correction
    return correction
