"""tau-bench run files: `{task_id, trial, reward, info, traj}`, as an array or as JSON lines.

There are no times; the order is the order of the messages. A run is one trace, named by file, task and trial.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

from tracemill.ids import content_id
from tracemill.ingest.attributes import as_float
from tracemill.ingest.content.conversation import conversation
from tracemill.ingest.documents import Record, each, loads, records
from tracemill.ingest.reader import About, Done, Head, Item, RawScore, RawSpan, Stream


class TauBench:
    """Reader of tau-bench runs."""

    name = "tau-bench"
    about = About(
        title="tau-bench runs",
        files="JSON records with `task_id`, `reward`, `info` and `traj`",
        maps="One trajectory a trial; each assistant message a call with its prompt, each tool result a tool span; "
        "the reward as a score, the task as `task_key`",
        lacks="No times, tokens or cost; the model is not named; prompts are rebuilt from the conversation",
    )

    def sniff(self, head: Head) -> str | None:
        for record in head.records:
            if isinstance(record, dict) and {"task_id", "reward", "traj"} <= record.keys():
                return "runs with task_id, reward and traj"
        return None

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        yield from each(records(stream, head), partial(_run, file=stream.name))


def _run(record: Record, file: str) -> Iterator[Item]:
    run = loads(record.raw)
    if not isinstance(run, dict) or not isinstance(run.get("traj"), list) or run.get("task_id") is None:
        yield record.bad("no tau-bench run: task_id or traj is missing")
        return
    traj: list[Any] = [message for message in run["traj"] if isinstance(message, dict)]
    if not traj:
        yield record.bad("the run has no messages")
        return
    task = str(run["task_id"])
    trial = run.get("trial")
    trace_id = content_id("tau-bench", file, task, trial)
    root_id = content_id(trace_id, "root")[:16]
    agent = f"tau-bench/{file.split('.', 1)[0]}"
    base: dict[str, Any] = {"agent_name": agent, "dialect": "openai", "line": record.line}
    reward = as_float(run.get("reward"))
    rest = {name: value for name, value in run.items() if name not in ("traj", "task_id")}
    yield RawSpan(
        trace_id=trace_id,
        span_id=root_id,
        kind="agent",
        name="run",
        seq=-1,
        task_key=f"tau-bench:{task}",
        attributes=rest,
        **base,
    )
    yield from conversation(traj, trace_id=trace_id, root_id=root_id, base=base)
    if reward is not None:
        yield RawScore(target_kind="trajectory", target_id=trace_id, name="reward", value=reward, source="env")
