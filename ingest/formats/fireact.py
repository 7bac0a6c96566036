"""FireAct run files: an object of question-answering runs by task, `{traj, em, f1, reward, gt, pred}`.

`traj` is a list of messages, or the one text that a completion model went on with; both hold thoughts, actions and
observations in turn.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import re2  # type: ignore[import-untyped]

from tracemill.ids import content_id
from tracemill.ingest.attributes import written
from tracemill.ingest.content.messages import canonical
from tracemill.ingest.documents import Record, each, records, values
from tracemill.ingest.reader import About, BadRecord, Done, Head, Item, Message, RawSpan, Stream
from tracemill.ingest.runs import rewards, run_of, said

_NEEDED = {"traj", "em", "f1", "reward"}
# In linear time: an action goes on to the last bracket, which other engines look for anew at each line.
_ACTION = re2.compile(r"(?ms)^Action(?: \d+)?: *(\w+)\[(.*)\] *$")
_OBSERVED = re.compile(r"^(Observation(?: \d+)?:.*?)(?=^(?:Thought|Action|Observation)(?: \d+)?:|\Z)", re.M | re.S)
_FIRST = re.compile(r"^(?:Thought|Action)(?: \d+)?:", re.MULTILINE)


class FireAct:
    """Reader of FireAct runs."""

    name = "fireact"
    about = About(
        title="FireAct runs",
        files="JSON objects of runs by task with `traj`, `em`, `f1` and `reward`",
        maps="One trajectory a run; each turn a call, each observation a tool span; `reward`, `em` and `f1` as scores",
        lacks="No times, tokens, cost or model; prompts are rebuilt from the conversation",
    )

    def sniff(self, head: Head) -> str | None:
        for record in head.records:
            if isinstance(record, dict):
                runs = [record, *list(record.values())[:50]]
                if any(isinstance(run, dict) and run.keys() >= _NEEDED for run in runs):
                    return "runs with traj, em, f1 and reward"
        return None

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        yield from each(chain.from_iterable(map(_runs, records(stream, head))), _run)


def _runs(record: Record | BadRecord) -> Iterator[Record | BadRecord]:
    """The runs of a document by task, or the record itself where it is a run."""
    if isinstance(record, BadRecord):
        yield record
        return
    run = run_of(record, "run")
    if isinstance(run, dict) and "traj" in run:
        yield record
    else:
        yield from list(values(record)) or [record.bad("no FireAct runs: the object is empty")]


def _run(record: Record) -> Iterator[Item]:
    run = run_of(record, "FireAct run")
    if isinstance(run, BadRecord):
        yield run
        return
    turns = _turns(run.get("traj"))
    if not turns:
        yield record.bad("no FireAct run: traj holds no messages")
        return
    task = record.key if record.key is not None else run.get("task_id", run.get("idx"))
    trace_id = content_id("fireact", task, written(run))
    root_id = content_id(trace_id, "root")[:16]
    base: dict[str, Any] = {"agent_name": "fireact", "dialect": "fireact", "line": record.line}
    prompt = [found for message in run.get("prompt") or [] for found in canonical(message)]
    observed = [at for at, (role, _, _) in enumerate(turns) if role == "user" and at > 0]
    # The last observation tells the reward. Where the agent went on after it, it went on knowing.
    leaks = any("reward =" in _text(turns[at]) for at in observed if at + 1 < len(turns))
    base["flags"] = ["lossy", "reward_leak"] if leaks else ["lossy"]
    yield RawSpan(
        trace_id=trace_id,
        span_id=root_id,
        kind="agent",
        name="run",
        seq=-1,
        task_key=None if task is None else f"fireact:{task}",
        attributes={name: value for name, value in run.items() if name not in ("traj", "prompt")},
        **base,
    )
    action: Any = None
    for at, turn in enumerate(turns):
        if turn[0] == "assistant":
            action = _ACTION.search(_text(turn))
            yield RawSpan(
                trace_id=trace_id,
                span_id=content_id(trace_id, "llm", at)[:16],
                parent_span_id=root_id,
                seq=at,
                kind="llm",
                name="turn",
                input=[*prompt, *turns[:at]],
                output=[turn],
                **base,
            )
        elif at > 0:
            tool = None if action is None else action.group(1)
            yield RawSpan(
                trace_id=trace_id,
                span_id=content_id(trace_id, "tool", at)[:16],
                parent_span_id=root_id,
                seq=at,
                kind="tool",
                name=tool,
                tool_name=tool,
                tool_args=None if action is None else action.group(2),
                tool_result=re.sub(r"^Observation(?: \d+)?: *", "", _text(turn)),
                **base,
            )
    yield from rewards(trace_id, {name: run.get(name) for name in ("reward", "em", "f1")})


def _text(message: Message) -> str:
    return "\n".join(str(part.get("content", "")) for part in message[2] if part.get("type") == "text")


def _turns(traj: Any) -> list[Message]:
    """The question, then what the model and the environment said in turn."""
    if isinstance(traj, list):
        return [found for message in traj if isinstance(message, Mapping) for found in canonical(message)]
    if not isinstance(traj, str) or not traj.strip():
        return []
    first = _FIRST.search(traj)
    if first is None:
        return [said("user", traj)]
    turns = [said("user", traj[: first.start()].strip())]
    for piece in _OBSERVED.split(traj[first.start() :]):
        if piece.strip():
            turns.append(said("user" if piece.startswith("Observation") else "assistant", piece.strip()))
    return turns
