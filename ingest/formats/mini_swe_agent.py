"""mini-swe-agent trajectories: an object with `info`, `messages` and `trajectory_format`, or the bare list of messages.

The history is linear and is the prompt, so what a call read is known exactly. Commands stand in a fenced block of the
answer (text models) or in tool calls; each answer's `extra` holds the completion, its cost and its time where logged.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tracemill.chat import text_of
from tracemill.ids import content_id
from tracemill.ingest.attributes import as_float, as_int, as_ns, written
from tracemill.ingest.content.conversation import tool_calls, tool_span
from tracemill.ingest.content.messages import canonical
from tracemill.ingest.documents import Record, guarded, records
from tracemill.ingest.providers.openai import chat_answer
from tracemill.ingest.reader import About, BadRecord, Done, Head, Item, Message, RawSpan, Stream
from tracemill.ingest.runs import mapped, run_of

_FENCE = re.compile(r"```(?:mswea_bash_command|bash)\s*\n(.*?)\n?```", re.DOTALL)
_RETURN = re.compile(r"<returncode>(-?\d+)</returncode>")


class MiniSweAgent:
    """Reader of mini-swe-agent trajectories."""

    name = "mini-swe-agent"
    about = About(
        title="mini-swe-agent trajectories",
        files="`*.traj.json`: objects with `trajectory_format` mini-swe-agent-1…, or lists of messages with its "
        "fenced commands and `<returncode>` answers",
        maps="One trajectory a file; each answer a call with the whole prompt, each command a tool span; tokens, cost "
        "and times where messages carry their completion; else the run's cost stands at its root",
        lacks="Bare lists have no times, tokens, model or outcome; tool definitions are not logged; no reward",
    )

    def sniff(self, head: Head) -> str | None:
        for record in head.records:
            if isinstance(record, dict) and _is_run(record):
                return f"a trajectory of format {record.get('trajectory_format') or 'mini-swe-agent'}"
        if head.records and all(isinstance(r, dict) and isinstance(r.get("role"), str) for r in head.records):
            texts = [(r["role"], str(r.get("content"))) for r in head.records]
            asked = any(role == "assistant" and _FENCE.search(text) for role, text in texts)
            if asked and any(role == "user" and _RETURN.match(text) for role, text in texts):
                return "messages with fenced commands and their return codes"
        return None

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        bare: dict[int, list[tuple[Record, Mapping[str, Any]]]] = {}
        for record in records(stream, head):
            if isinstance(record, BadRecord):
                yield record
                continue
            found = run_of(record, "mini-swe-agent trajectory")
            if isinstance(found, BadRecord):
                yield found
                yield Done()
            elif _is_run(found):
                yield from guarded(_run(found, found["messages"], record), record.bad)
                yield Done()
            elif isinstance(found.get("role"), str):
                bare.setdefault(record.line if head.shape == "jsonl" else 0, []).append((record, found))
            else:
                yield record.bad("no mini-swe-agent trajectory: neither messages nor a message")
                yield Done()
        for messages in bare.values():
            first = messages[0][0]
            yield from guarded(_run({}, [message for _, message in messages], first), first.bad)
            yield Done()


def _is_run(record: Mapping[str, Any]) -> bool:
    if not isinstance(record.get("messages"), list):
        return False
    if str(record.get("trajectory_format") or "").startswith("mini-swe-agent"):
        return True
    info = record.get("info")
    return isinstance(info, Mapping) and "mini_version" in info


def _run(run: Mapping[str, Any], messages: Sequence[Any], record: Record) -> Iterator[Item]:
    turns = [message for message in messages if isinstance(message, Mapping)]
    if not any(turn.get("role") == "assistant" for turn in turns):
        yield record.bad("the trajectory holds no answer of a model")
        return
    info = mapped(run.get("info"))
    config = mapped(info.get("config"))
    asked = mapped(config.get("model"))
    task = run.get("instance_id")
    trace_id = content_id("mini-swe-agent", task, written(turns))
    root_id = content_id(trace_id, "root")[:16]
    base: dict[str, Any] = {"agent_name": "mini-swe-agent", "dialect": "openai", "line": record.line}
    version = info.get("mini_version")
    base["agent_version"] = None if version is None else str(version)
    calls = list(_calls(turns, trace_id, root_id, asked, base))
    yield _root(run, info, calls, trace_id, root_id, None if task is None else f"mini-swe-agent:{task}", base)
    yield from calls


def _root(
    run: Mapping[str, Any],
    info: Mapping[str, Any],
    spans: list[RawSpan],
    trace_id: str,
    root_id: str,
    task: str | None,
    base: Mapping[str, Any],
) -> RawSpan:
    status = info.get("exit_status")
    stats = mapped(info.get("model_stats"))
    ends = [span.end_ns for span in spans if span.end_ns is not None]
    starts = [span.start_ns for span in spans if span.start_ns is not None]
    told = any(span.cost_usd is not None for span in spans)
    return RawSpan(
        trace_id=trace_id,
        span_id=root_id,
        kind="agent",
        name="run",
        seq=-1,
        start_ns=min(starts, default=None),
        end_ns=max(ends, default=None),
        status="unset" if status is None else "ok" if status == "Submitted" else "error",
        error_type=None if status in (None, "Submitted") else str(status),
        # A total of 0 is how the harness says that it could not price the calls.
        cost_usd=None if told else as_float(stats.get("instance_cost")) or None,
        task_key=task,
        attributes={name: value for name, value in run.items() if name != "messages"},
        **base,
    )


def _calls(
    turns: Sequence[Mapping[str, Any]], trace_id: str, root_id: str, asked: Mapping[str, Any], base: Mapping[str, Any]
) -> Iterator[RawSpan]:
    said: list[Message] = []
    known: dict[str, Any] = {}
    command: str | None = None
    before: int | None = None
    for at, turn in enumerate(turns):
        extra = mapped(turn.get("extra"))
        now = as_ns(extra.get("timestamp"))
        if turn.get("role") == "exit":  # what the run ended with, for the harness; no model reads it
            continue
        for message in canonical(turn):
            role, name, parts = message
            if role == "assistant":
                yield _call(turn, message, said, at, trace_id, root_id, asked, base)
                known.update(tool_calls(parts))
                fences = [] if known else _FENCE.findall(text_of(parts))
                command = fences[0] if len(fences) == 1 else None
            elif role == "tool" or (role == "user" and command is not None):
                part = parts[0] if role == "tool" else {"response": text_of(parts)}
                span = tool_span(
                    part,
                    name or "bash",
                    known if role == "tool" else {},
                    trace_id=trace_id,
                    key=f"{at}/{part.get('id')}",
                    parent=root_id,
                    seq=at,
                    base={**base, "start_ns": before, "end_ns": now},
                )
                yield _returned(span, command if role == "user" else None, extra)
                command = None
            said.append(message)
        before = now


def _call(
    turn: Mapping[str, Any],
    message: Message,
    said: list[Message],
    at: int,
    trace_id: str,
    root_id: str,
    asked: Mapping[str, Any],
    base: Mapping[str, Any],
) -> RawSpan:
    extra = mapped(turn.get("extra"))
    answer = extra.get("response")
    name = asked.get("model_name")
    provider, _, model = str(name).rpartition("/") if name is not None else ("", "", None)
    span = RawSpan(
        trace_id=trace_id,
        span_id=content_id(trace_id, "llm", at)[:16],
        parent_span_id=root_id,
        seq=at,
        kind="llm",
        name="chat",
        provider=provider or None,
        model_requested=model,
        params=dict(mapped(asked.get("model_kwargs"))) or None,
        input=list(said),
        cost_usd=as_float(extra.get("cost")),
        **base,
    )
    if isinstance(answer, dict):
        chat_answer(span, answer)
    span.output = [message]
    span.end_ns = as_ns(extra.get("timestamp"))
    created = as_ns(answer.get("created")) if isinstance(answer, dict) else None
    span.start_ns = created if created is not None and (span.end_ns or created) >= created else span.end_ns
    return span


def _returned(span: RawSpan, command: str | None, extra: Mapping[str, Any]) -> RawSpan:
    """The tool span with its command and whether it succeeded."""
    if command is not None:
        span.tool_args = command
    code = as_int(extra.get("returncode"))
    if code is None and isinstance(span.tool_result, str) and (found := _RETURN.match(span.tool_result)):
        code = int(found.group(1))
    if code is not None:
        span.status = "ok" if code == 0 else "error"
        span.error_message = None if code == 0 else f"return code {code}"
    return span
