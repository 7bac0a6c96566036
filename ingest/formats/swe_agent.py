"""SWE-agent trajectories (`.traj`): `{trajectory, history, info}`, old and version 1; or a bare `history`.

A step of `trajectory` is one answer of the model and what its action gave. The prompt is the step's `query`, or the
`messages` up to the answer, or what `history` holds before it. Demonstrations are part of the prompt, never answers.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

from tracemill.ids import content_id
from tracemill.ingest.attributes import as_float, as_int, written
from tracemill.ingest.content.conversation import tool_calls
from tracemill.ingest.content.messages import canonical
from tracemill.ingest.documents import Record, each, records, unwrap
from tracemill.ingest.reader import About, BadRecord, Done, Head, Item, Message, RawSpan, Stream
from tracemill.ingest.runs import mapped, run_of, said

_REPLAYS = frozenset(("replay", "human", "human_thought", "instant_empty_submit"))
"""Models of SWE-agent that are none: what they "answer" was written before, or by people."""


class SweAgent:
    """Reader of SWE-agent trajectories."""

    name = "swe-agent"
    about = About(
        title="SWE-agent trajectories",
        files="`.traj` files: objects with `trajectory`, `history` and `info`; demonstrations with only a `history`",
        maps="One trajectory a file; each step a call and a tool span; demonstrations stay in the prompt and are never "
        "answers; replayed and hand-written runs are flagged `copied`; tokens and cost of the run at its root",
        lacks="No times and no tokens or cost of single calls; prompts are rebuilt from the history unless steps log "
        "their `query`; old files name no model; no reward, only how the run ended",
    )

    def sniff(self, head: Head) -> str | None:
        for record in head.records:
            if isinstance(record, dict) and isinstance(record.get("history"), list):
                if isinstance(record.get("trajectory"), list) and "info" in record:
                    return "an object with trajectory, history and info"
                if record.keys() == {"history"} and all(map(_is_turn, record["history"])):
                    return "a history of SWE-agent"
        return None

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        yield from each(records(stream, head), partial(_run, file=stream.name))


def _is_turn(value: Any) -> bool:
    return isinstance(value, dict) and {"role", "content", "agent"} <= value.keys()


def _run(record: Record, file: str) -> Iterator[Item]:
    run = run_of(record, "SWE-agent trajectory")
    if isinstance(run, BadRecord):
        yield run
        return
    history = [turn for turn in run.get("history") or [] if isinstance(turn, Mapping)]
    given = run.get("trajectory")
    steps: list[Mapping[str, Any]] = [step for step in given or [] if isinstance(step, Mapping)]
    answers = [at for at, turn in enumerate(history) if turn.get("role") == "assistant" and not turn.get("is_demo")]
    if given is None:
        steps = [_step(history, at) for at in answers]
    if not steps:
        yield record.bad("no SWE-agent trajectory: it has no steps")
        return
    info, config = mapped(run.get("info")), mapped(unwrap(run.get("replay_config")))
    stats = mapped(info.get("model_stats"))
    asked = mapped(mapped(config.get("agent")).get("model"))
    # The file is named for its instance; old files say it nowhere else.
    task = mapped(config.get("problem_statement")).get("id") or file.removesuffix(".traj")
    trace_id = content_id("swe-agent", written([history, given]))
    root_id = content_id(trace_id, "root")[:16]
    flags = ["copied"] if _replayed(run, stats, asked) else []
    base: dict[str, Any] = {"agent_name": "swe-agent", "dialect": "swe-agent", "line": record.line}
    status = info.get("exit_status")
    yield RawSpan(
        trace_id=trace_id,
        span_id=root_id,
        kind="agent",
        name="run",
        seq=-1,
        status="unset" if status is None else "ok" if str(status).startswith("submitted") else "error",
        error_type=None if status is None or str(status).startswith("submitted") else str(status),
        # Totals of 0 are what the harness writes where nothing was counted.
        tokens_in=as_int(stats.get("tokens_sent")) or None,
        tokens_out=as_int(stats.get("tokens_received")) or None,
        cost_usd=as_float(stats.get("instance_cost")) or None,
        task_key=f"swe-agent:{task}",
        attributes={name: value for name, value in run.items() if name not in ("trajectory", "history")},
        flags=flags,
        **base,
    )
    told = [_messages([turn]) for turn in history]
    for number, step in enumerate(steps):
        at = answers[number] if number < len(answers) else None
        prompt, exact = _prompt(step, told[:at])
        # The history knows the tool calls; a step only says what the model wrote.
        answer = told[at][0] if at is not None else said("assistant", step.get("response") or step.get("thought"))
        yield RawSpan(
            trace_id=trace_id,
            span_id=content_id(trace_id, "llm", number)[:16],
            parent_span_id=root_id,
            seq=2 * number,
            kind="llm",
            name="step",
            model_requested=None if flags or asked.get("name") is None else str(asked["name"]),
            params={k: asked[k] for k in ("temperature", "top_p") if asked.get(k) is not None} or None,
            input=prompt,
            output=[answer],
            flags=[*flags, *([] if exact else ["lossy"])],
            **base,
        )
        if step.get("observation") is not None or step.get("action"):
            yield _tool(step, answer, number, trace_id, root_id, flags, base)


def _step(history: Sequence[Mapping[str, Any]], at: int) -> dict[str, Any]:
    """A step of a bare history: an answer, and what follows it."""
    after = history[at + 1] if at + 1 < len(history) else {}
    observed = after.get("content") if after.get("role") in ("user", "tool") else None
    return {"response": history[at].get("content"), "action": history[at].get("action"), "observation": observed}


def _replayed(run: Mapping[str, Any], stats: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    """Whether no model wrote the answers: replays, people, and demonstrations, which hold nothing but a history."""
    if str(asked.get("name")) in _REPLAYS or run.get("trajectory") is None:
        return True
    return as_int(stats.get("api_calls")) == 0


def _prompt(step: Mapping[str, Any], before: Sequence[list[Message]]) -> tuple[list[Message], bool]:
    """What the model read, and whether that is logged rather than rebuilt out of the history before the answer.

    A rebuilt prompt holds the very messages of the history: what is said once is looked at once.
    """
    for name in ("query", "messages"):
        turns = step.get(name)
        if not isinstance(turns, list) or not turns:
            continue
        if name == "messages":  # the history after the step: the prompt ends before its last answer
            ends = [i for i, turn in enumerate(turns) if mapped(turn).get("role") == "assistant"]
            turns = turns[: ends[-1]] if ends else turns
        return _messages(turns), name == "query"
    return list(chain.from_iterable(before)), False


def _messages(turns: Sequence[Any]) -> list[Message]:
    found: list[Message] = []
    for turn in turns:
        if isinstance(turn, Mapping):
            ids = turn.get("tool_call_ids")
            call = {"tool_call_id": ids[0]} if isinstance(ids, list) and ids else {}
            kept = {
                name: turn[name] for name in ("role", "content", "tool_calls", "name") if turn.get(name) is not None
            }
            found.extend(canonical({**kept, **call}))
    return found


def _tool(
    step: Mapping[str, Any],
    answer: Message,
    number: int,
    trace_id: str,
    root_id: str,
    flags: list[str],
    base: Mapping[str, Any],
) -> RawSpan:
    call_id, call = next(iter(tool_calls(answer[2]).items()), (None, {}))
    name = str(call.get("name") or "bash")
    seconds = as_float(step.get("execution_time"))
    attributes = {"action": step.get("action"), "state": unwrap(step.get("state")), "execution_time": seconds}
    return RawSpan(
        trace_id=trace_id,
        span_id=content_id(trace_id, "tool", number)[:16],
        parent_span_id=root_id,
        seq=2 * number + 1,
        kind="tool",
        name=name,
        tool_name=name,
        tool_call_id=call_id,
        tool_args=unwrap(call.get("arguments")) if call else step.get("action"),
        tool_result=step.get("observation"),
        attributes={key: value for key, value in attributes.items() if value is not None},
        flags=flags,
        **base,
    )
