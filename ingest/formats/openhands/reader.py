"""OpenHands V0: evaluation records (`output.jsonl`) with their event history, and bare lists of events.

An event is an action (of user, agent or environment) or an observation that names its cause. Every event of an answer
repeats the whole completion in `tool_call_metadata`; `llm_metrics` are running totals. Before completions were logged,
the history held plain actions and observations, first as pairs. A delegate's events are a sub-tree.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from tracemill.ids import content_id
from tracemill.ingest.attributes import as_float, as_int, written
from tracemill.ingest.documents import Record, guarded, records
from tracemill.ingest.formats.openhands.events import Run
from tracemill.ingest.reader import About, BadRecord, Done, Head, Item, RawScore, RawSpan, Stream
from tracemill.ingest.runs import judged, local_ns, mapped, rewards, run_of

_RUN = ("instance_id", "issue", "instance")


class OpenHands:
    """Reader of OpenHands V0 runs."""

    name = "openhands"
    about = About(
        title="OpenHands V0",
        files="`output.jsonl` with `instance_id` (or `issue`) and `history`; lists of events with `action` or "
        "`observation`",
        maps="One trajectory a run; each completion one call however many actions it asked for, each observation a "
        "tool span; tokens by completion, else differences of the running totals; `resolved` as the reward",
        lacks="Times have no zone (taken as UTC, flag `clock`); prompts are rebuilt from the events; old histories "
        "have no times or completions; lists of events have no tokens but those of their completions",
    )

    def sniff(self, head: Head) -> str | None:
        for record in head.records:
            if isinstance(record, dict) and _is_run(record):
                return f"runs with {next(name for name in _RUN if name in record)} and history"
        if any(isinstance(record, dict) and _is_event(record) for record in head.records):
            return "events with action or observation, source and id"
        return None

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        loose: list[tuple[Record, dict[str, Any]]] = []
        for record in records(stream, head):
            if isinstance(record, BadRecord):
                yield record
                continue
            found = run_of(record, "OpenHands run or event")
            if isinstance(found, BadRecord):
                yield found
            elif _is_run(found):
                yield from guarded(_run(found, record), record.bad)
                yield Done()
            elif _is_event(found):
                loose.append((record, found))
            else:
                yield record.bad("no OpenHands run or event")
                yield Done()
        if loose:
            first = loose[0][0]
            yield from guarded(_run({"history": [event for _, event in loose]}, first), first.bad)
            yield Done(count=len(loose))


def _is_run(record: Mapping[str, Any]) -> bool:
    history = record.get("history")
    if not isinstance(history, list) or not any(name in record for name in _RUN):
        return False
    first = next(iter(history), None)
    first = first[0] if isinstance(first, list) and first else first
    return first is None or (isinstance(first, Mapping) and ("action" in first or "observation" in first))


def _is_event(record: Mapping[str, Any]) -> bool:
    if not isinstance(record.get("source"), str) or not ("action" in record or "observation" in record):
        return False
    return "id" in record and ("args" in record or "extras" in record or "content" in record)


def _run(run: Mapping[str, Any], record: Record) -> Iterator[Item]:
    events: list[Mapping[str, Any]] = []
    for entry in run.get("history") or []:
        events.extend(e for e in (entry if isinstance(entry, list) else [entry]) if isinstance(e, Mapping))
    if not events:
        yield record.bad("the run has no events")
        return
    task = _task(run)
    trace_id = _trace(run, task, events)
    times = [ns for ns, _ in (local_ns(event.get("timestamp")) for event in events) if ns is not None]
    error = run.get("error")
    walk = Run(trace_id=trace_id, record=record, run=run, events=events)
    items = walk.items()
    yield RawSpan(
        trace_id=trace_id,
        span_id=walk.root_id,
        kind="agent",
        name="run",
        seq=-1,
        start_ns=min(times, default=None),
        end_ns=max(times, default=None),
        status="error" if error else "ok" if any(e.get("action") == "finish" for e in events) else "unset",
        error_message=None if not error else str(error),
        task_key=None if task is None else f"openhands:{task}",
        # Where no call tells its own cost, the run's stands here; 0 is how it says that there was no price.
        cost_usd=None
        if any(isinstance(item, RawSpan) and item.cost_usd is not None for item in items)
        else as_float(mapped(run.get("metrics")).get("accumulated_cost")) or None,
        attributes={name: value for name, value in run.items() if name not in ("history", "instruction")},
        flags=["clock"] if times and local_ns(next(e["timestamp"] for e in events if e.get("timestamp")))[1] else [],
        **walk.base,
    )
    yield from items
    yield from _scores(run, trace_id)


def _task(run: Mapping[str, Any]) -> str | None:
    if run.get("instance_id") is not None:
        return str(run["instance_id"])
    issue = mapped(run.get("issue"))
    if issue.get("number") is None:
        return None
    return f"{issue.get('owner')}/{issue.get('repo')}#{as_int(issue['number'])}"


def _trace(run: Mapping[str, Any], task: str | None, events: list[Mapping[str, Any]]) -> str:
    """A conversation that goes on is the same trace: known by its first events, where these carry times."""
    dated = [event for event in events if event.get("timestamp")]
    known = dated[:3] if dated else events
    return content_id("openhands", task, written([dict(event) for event in known]))


def _scores(run: Mapping[str, Any], trace_id: str) -> Iterator[RawScore]:
    result = mapped(run.get("test_result"))
    report = {**mapped(run.get("report")), **mapped(result.get("report"))}
    resolved = next(
        (v for v in (report.get("resolved"), result.get("resolved"), result.get("result")) if _yes(v)), None
    )
    yield from rewards(trace_id, {"reward": resolved})
    if _yes(run.get("success")):  # the issue resolver asks a model whether the issue was resolved
        yield RawScore(
            target_kind="trajectory",
            target_id=trace_id,
            name="success",
            value=judged(run["success"]),
            source="llm",
            evidence=run.get("result_explanation"),
        )


def _yes(value: Any) -> bool:
    return isinstance(value, bool)
