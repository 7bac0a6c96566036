"""InterCode run files: an object of runs by task, or `{meta, logs}` of the plan-and-solve experiment.

The logs hold the question, the agent's actions and what the environment answered, but neither the prompt (flag
`lossy`) nor times. Six ways of prompting are told apart by what a record holds: thoughts (ReAct), steps (plan and
solve), or neither (one turn or several, Try Again); whether the tables were shown stands only in the file's name.
In Try Again of several turns the agent goes on until the gold reward is shown to it: `reward_leak`.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

from tracemill.ids import content_id
from tracemill.ingest.attributes import as_float, as_int
from tracemill.ingest.documents import Record, each, loads, records, values
from tracemill.ingest.reader import About, BadRecord, Done, Head, Item, Message, RawScore, RawSpan, Stream
from tracemill.ingest.runs import listed, mapped, said


class InterCode:
    """Reader of InterCode runs."""

    name = "intercode"
    about = About(
        title="InterCode runs",
        files="JSON objects of episodes with `environment`, `dataset`, `turn_history` and `summary`",
        maps="One trajectory an episode; each action a call, each observation a tool span; the best reward as a score",
        lacks="No times, tokens or cost; rebuilt prompts; those showing the gold reward are flagged `reward_leak`",
    )

    def sniff(self, head: Head) -> str | None:
        for record in head.records:
            if not isinstance(record, dict):
                continue
            runs = record.get("logs") if "meta" in record else record
            if _is_run(record) or (isinstance(runs, dict) and any(map(_is_run, list(runs.values())[:50]))):
                return "runs with turn_history and summary"
        return None

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        yield from each(chain.from_iterable(map(_runs, records(stream, head))), partial(_run, file=stream.name))


def _is_run(value: Any) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("turn_history"), Mapping) and "query" in value


def _runs(record: Record | BadRecord) -> Iterator[Record | BadRecord]:
    """The runs of a document: its values, or those of its `logs`; a line that is a run itself."""
    if isinstance(record, BadRecord):
        yield record
        return
    try:
        if _is_run(loads(record.raw)):
            yield record
            return
    except ValueError:
        pass
    for value in values(record):
        if isinstance(value, Record) and value.key == "logs":
            yield from values(value)
        elif isinstance(value, BadRecord) or value.key != "meta":
            yield value


def _run(record: Record, file: str) -> Iterator[Item]:
    run = loads(record.raw)
    if not _is_run(run):
        yield record.bad("no InterCode run: query or turn_history is missing")
        return
    history = run["turn_history"]
    actions = listed(history.get("actions"))
    summary = mapped(run.get("summary"))
    agent = _agent(run, summary, file)
    task = str(run.get("task_id", record.key))
    trace_id = content_id("intercode", file, record.key, task)
    root_id = content_id(trace_id, "root")[:16]
    flags = ["lossy"]
    if _leaks(history, summary):
        flags.append("reward_leak")
    base: dict[str, Any] = {"agent_name": agent, "dialect": "intercode", "line": record.line, "flags": flags}
    rest = {name: value for name, value in run.items() if name not in ("turn_history", "query", "task_id")}
    yield RawSpan(
        trace_id=trace_id,
        span_id=root_id,
        kind="agent",
        name="run",
        seq=-1,
        task_key=f"intercode:{task}",
        attributes={**rest, "rewards": history.get("rewards")},
        **base,
    )
    heard: list[Message] = [said("user", str(run["query"]))]
    thoughts, steps = listed(history.get("thoughts")), listed(history.get("steps"))
    observations, rewards = listed(history.get("observations")), listed(history.get("rewards"))
    valid = listed(history.get("valid_action"))
    for turn, action in enumerate(actions):
        thought, step = _at(thoughts, turn), _at(steps, turn)
        answer = str(action) if thought is None else f"{thought}\n{action}"
        if step is not None:  # a step of the plan is asked for, not said by the model in this turn
            heard.append(said("user", str(step)))
        attributes = {"turn": turn, "reward": _at(rewards, turn), "valid_action": _at(valid, turn)}
        yield RawSpan(
            trace_id=trace_id,
            span_id=content_id(trace_id, "llm", turn)[:16],
            parent_span_id=root_id,
            seq=2 * turn,
            kind="llm",
            name="turn",
            input=list(heard),
            output=[said("assistant", answer)],
            attributes=attributes,
            **base,
        )
        heard.append(said("assistant", answer))
        observation = _at(observations, turn)
        if observation is None:
            continue
        failed = _at(valid, turn) is False or str(observation).startswith("Error")
        yield RawSpan(
            trace_id=trace_id,
            span_id=content_id(trace_id, "tool", turn)[:16],
            parent_span_id=root_id,
            seq=2 * turn + 1,
            kind="tool",
            name="execute",
            status="error" if failed else "ok",
            error_message=str(observation) if failed else None,
            tool_name="execute",
            tool_args=str(action),
            tool_result=observation,
            attributes=attributes,
            **base,
        )
        heard.append(said("user", str(observation)))
    reward = as_float(summary.get("max_reward"))
    if reward is not None:
        yield RawScore(target_kind="trajectory", target_id=trace_id, name="reward", value=reward, source="env")


def _agent(run: Mapping[str, Any], summary: Mapping[str, Any], file: str) -> str:
    history = run["turn_history"]
    family = str(run.get("environment") or "intercode").removeprefix("ic_")
    if "thoughts" in history:
        kind = "react"
    elif "steps" in history:
        kind = "plan-solve"
    else:
        turns = as_int(summary.get("turns_max"))
        kind = "multiturn" if turns is None else f"multiturn-{turns}"
    shown = "-handicap" if "handicap" in file.lower() else ""
    return f"intercode-{family}/{kind}{shown}"


def _leaks(history: Mapping[str, Any], summary: Mapping[str, Any]) -> bool:
    if "thoughts" in history or "steps" in history:
        return False
    turns = as_int(summary.get("turns_max"))
    return (len(listed(history.get("actions"))) if turns is None else turns) > 1


def _at(items: Sequence[Any], index: int) -> Any:
    return items[index] if index < len(items) else None
