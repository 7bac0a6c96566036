"""Who&When run files: one failed run of a team of agents, with the agent and the step that people hold responsible.

Two teams: AG2 group chats (messages with `name`; a terminal runs code) and Magentic-One (the speaker stands in `role`;
the orchestrator's thoughts are its own words, what it hands on repeats them, surfers tell what a program did for them).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tracemill.ids import content_id
from tracemill.ingest.attributes import as_int, written
from tracemill.ingest.documents import Record, each, records
from tracemill.ingest.reader import About, BadRecord, Done, Head, Item, Message, RawScore, RawSpan, Stream
from tracemill.ingest.runs import judged, rewards, run_of, said

_NEEDED = {"history", "mistake_agent", "mistake_step"}
_TERMINALS = ("computer_terminal", "computerterminal")
_SURFERS = ("websurfer", "filesurfer")
_SPEAKER = re.compile(r"(.+?) \((.+)\)\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """One turn of the chat, as the messages that all prompts after it share."""

    speaker: str
    own: Message
    """As the speaker reads it."""
    heard: Message
    """As the others read it: with the speaker's name, unless it is the human."""


class WhoAndWhen:
    """Reader of Who&When runs."""

    name = "who-and-when"
    about = About(
        title="Who&When failure attributions",
        files="JSON objects with `history`, `mistake_agent` and `mistake_step`",
        maps="One trajectory a run; what agents wrote as calls, terminals as tool spans; failure as reward 0; the "
        "mistake as scores of the run and, with value 0, of the span it was made in",
        lacks="No times, tokens, cost or model; prompts are rebuilt from the chat; web and file surfers only tell what "
        "they did: agent spans without calls",
    )

    def sniff(self, head: Head) -> str | None:
        if any(isinstance(record, dict) and record.keys() >= _NEEDED for record in head.records):
            return "runs with mistake_agent and mistake_step"
        return None

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        yield from each(records(stream, head), _run)


def _run(record: Record) -> Iterator[Item]:
    run = run_of(record, "Who&When run")
    if isinstance(run, BadRecord):
        yield run
        return
    history = run.get("history")
    if not isinstance(history, list) or not history or not all(isinstance(turn, Mapping) for turn in history):
        yield record.bad("no Who&When run: history holds no messages")
        return
    task = run.get("question_ID")
    trace_id = content_id("who-and-when", None if task is None else str(task), written(history))
    root_id = content_id(trace_id, "root")[:16]
    grouped = "name" in history[0]
    team = "who-and-when/group-chat" if grouped else "who-and-when/magentic-one"
    base: dict[str, Any] = {"dialect": "who-and-when", "line": record.line}
    rest = {name: value for name, value in run.items() if name not in ("history", "system_prompt")}
    yield RawSpan(
        trace_id=trace_id,
        span_id=root_id,
        kind="agent",
        name="run",
        seq=-1,
        agent_name=team,
        task_key=None if task is None else f"who-and-when:{task}",
        attributes=rest,
        flags=["lossy"],
        **base,
    )
    prompts = run.get("system_prompt")
    prompts = prompts if isinstance(prompts, Mapping) else {}
    chat: list[_Said] = []
    spans: dict[int, str] = {}
    for at, turn in enumerate(history):
        speaker, kind = _speaker(turn, at, grouped)
        text = said("assistant", turn.get("content"))[2][0]["content"]
        if kind != "human":
            span = _span(trace_id, root_id, at, speaker, kind, text, base)
            if kind == "llm":
                span.input = _prompt(speaker, prompts.get(speaker), chat)
            spans[at] = span.span_id
            yield span
        named = said("user", text, None if speaker == "human" else speaker)
        chat.append(_Said(speaker=speaker, own=said("assistant", text), heard=named))
    yield from _judgements(run, trace_id, spans)


def _speaker(turn: Mapping[str, Any], at: int, grouped: bool) -> tuple[str, str]:
    """Who said it, and what it is: llm, tool, agent, event, or the human's question."""
    if grouped:
        name = str(turn.get("name"))
        if name.lower() in _TERMINALS:
            return name, "tool"
        return name, "event" if at == 0 else "llm"  # a chat is opened with the task, in the first speaker's name
    role = str(turn.get("role"))
    if role == "human":
        return role, "human"
    if found := _SPEAKER.match(role):
        thinks = found.group(2) == "thought" and not str(turn.get("content")).startswith("Next speaker ")
        return found.group(1), "llm" if thinks else "event"
    if role.lower() in _TERMINALS:
        return role, "tool"
    return role, "agent" if role.lower() in _SURFERS else "llm"


def _span(trace_id: str, parent: str, at: int, speaker: str, kind: str, text: str, base: Mapping[str, Any]) -> RawSpan:
    span = RawSpan(
        trace_id=trace_id,
        span_id=content_id(trace_id, "turn", at)[:16],
        parent_span_id=parent,
        seq=at,
        kind=kind,
        name=speaker,
        agent_name=speaker,
        flags=["lossy", "synthetic"] if kind == "event" else ["lossy"],
        **base,
    )
    if kind == "tool":
        span.tool_name, span.tool_result, span.agent_name = speaker, text, None
        failed = re.match(r"exitcode: (\d+)", text)
        if failed is not None:
            span.status = "ok" if failed.group(1) == "0" else "error"
            span.error_message = None if span.status == "ok" else text
    else:
        span.output = [said("assistant", text)]
    return span


def _prompt(speaker: str, system: Any, chat: Sequence[_Said]) -> list[Message]:
    """The chat as this agent read it."""
    read = [one.own if one.speaker == speaker else one.heard for one in chat]
    return [said("system", system), *read] if isinstance(system, str) and system else read


def _judgements(run: Mapping[str, Any], trace_id: str, spans: Mapping[int, str]) -> Iterator[Item]:
    correct = judged(run["is_correct"] if "is_correct" in run else run.get("is_corrected"))
    yield from rewards(trace_id, {"reward": correct})
    agent, step = run.get("mistake_agent"), as_int(run.get("mistake_step"))
    for name, label in (("mistake_agent", agent), ("mistake_step", run.get("mistake_step"))):
        if label is not None:
            yield RawScore(target_kind="trajectory", target_id=trace_id, name=name, label=str(label), source="human")
    if step is not None and step in spans:
        evidence = {key: run.get(f"mistake_{key}") for key in ("agent", "step", "reason", "type")}
        yield RawScore(
            target_kind="span",
            target_id=spans[step],
            name="step_correct",
            value=0.0,
            label="mistake",
            source="human",
            evidence={key: value for key, value in evidence.items() if value is not None},
        )
