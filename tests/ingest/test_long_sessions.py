"""Twice as long a session costs twice the work: what is looked at again for each call is its prompt, nothing else."""

import io
import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tracemill.ingest.detect import choose, look
from tracemill.ingest.exports import EXPORTERS, Episode
from tracemill.ingest.formats import FORMATS
from tracemill.ingest.reader import BadRecord, Item, RawSpan, Stream


def items(log: Any) -> list[Item]:
    """What the reader of the log makes of it, none of it refused."""
    text = "\n".join(map(json.dumps, log)) if isinstance(log, list) else json.dumps(log)
    stream = Stream(name="log", file=io.BytesIO(text.encode()))
    stream.start()
    head = look(stream)
    reader, why = choose(head, FORMATS)
    assert reader is not None, why
    found = list(reader.read(stream, head))
    assert [item for item in found if isinstance(item, BadRecord)] == []
    return found  # type: ignore[return-value]


def steps(run: Callable[[], Any]) -> int:
    """How many lines of Python a call runs through; each turn of a comprehension is one."""
    count = 0

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(before)
    return count


def hermes(n: int) -> Any:
    rows = []
    for at in range(n):
        row = {"session_id": "s", "id": 2 * at, "observed": 0, "active": 1, "content": f"{at}"}
        call = {"id": None, "function": {"name": "ls", "arguments": "{}"}}
        rows.append(row | {"role": "assistant", "tool_calls": [call]})
        rows.append(row | {"id": 2 * at + 1, "role": "tool", "tool_name": "ls", "tool_call_id": f"c{at}"})
    return rows


def swe_agent(n: int) -> Any:
    turns = [{"role": role, "content": f"{role} {at}"} for at in range(n) for role in ("user", "assistant")]
    steps = [{"action": "ls", "observation": "x", "response": f"assistant {at}", "thought": ""} for at in range(n)]
    return {"trajectory": steps, "history": turns, "info": {"exit_status": "submitted"}}


def who_and_when(n: int) -> Any:
    chat = [{"name": f"agent{at % 3}", "role": "user", "content": f"turn {at}"} for at in range(n)]
    return {"history": chat, "mistake_agent": "agent1", "mistake_step": "1", "question_ID": "q"}


def openhands(n: int) -> Any:
    events: list[dict[str, Any]] = []
    for at in range(n):
        asked = {"id": f"c{at}", "function": {"name": "bash", "arguments": "{}"}}
        answer = {"id": f"a{at}", "choices": [{"message": {"role": "assistant", "tool_calls": [asked]}}]}
        call = {"tool_call_id": f"c{at}", "function_name": "bash", "model_response": answer}
        events.append({"id": 2 * at, "source": "agent", "action": "run", "args": {}, "tool_call_metadata": call})
        seen = {"observation": "run", "content": "x", "cause": 2 * at, "tool_call_metadata": call}
        events.append({"id": 2 * at + 1, "source": "agent", **seen})
    return events


def openhands_sdk(n: int) -> Any:
    events: list[dict[str, Any]] = []
    for at in range(n):
        call = {"tool_call_id": f"c{at}", "tool_name": "bash", "llm_response_id": f"r{at}", "action": {"x": at}}
        events.append({"id": f"a{at}", "kind": "ActionEvent", "source": "agent", **call})
        events.append({"id": f"o{at}", "kind": "ObservationEvent", "action_id": f"a{at}", "tool_call_id": f"c{at}"})
        events.append({"id": f"t{at}", "kind": "TokenEvent", "prompt_token_ids": [1], "response_token_ids": [at]})
    return events


def inspect_deep(n: int) -> Any:
    """Agents in agents: each span below the one before it."""
    events: list[dict[str, Any]] = []
    for at in range(n):
        parent = {"parent_id": f"s{at - 1}"} if at else {}
        events.append({"event": "span_begin", "id": f"s{at}", "type": "x", "name": f"n{at}", **parent})
        output = {"choices": [{"message": {"role": "assistant", "content": "x"}}]}
        events.append({"event": "model", "uuid": f"m{at}", "span_id": f"s{at}", "input": "hi", "output": output})
    sample = {"id": 1, "epoch": 1, "input": "hi", "events": events}
    return {"version": 2, "eval": {"task": "t", "run_id": "r"}, "plan": {}, "samples": [sample]}


def claude_code(n: int) -> Any:
    """As many sub-agents as turns."""
    records = []
    for at in range(n):
        record = {"uuid": f"u{at}", "sessionId": "s", "version": "2.1.0", "timestamp": "2026-01-01T00:00:00Z"}
        record |= {"isSidechain": True, "agentId": f"agent{at}", "parentUuid": None}
        records.append(record | {"type": "assistant", "message": {"id": f"m{at}", "content": f"{at}"}})
    return records


def retries(n: int) -> Any:
    """Calls that all go on from one place, far behind the beginning."""
    common = {"sessionId": "s", "version": "2.1.0"}
    ways = [common | {"uuid": f"p{at}", "parentUuid": f"p{at - 1}", "type": "progress"} for at in range(n)]
    call = {"type": "assistant", "parentUuid": f"p{n - 1}"}
    calls = [common | call | {"uuid": f"u{at}", "message": {"id": f"m{at}", "content": "x"}} for at in range(n)]
    asked = common | {"uuid": "p-1", "parentUuid": None, "type": "user", "message": {"content": "hi"}}
    return [asked, *ways, *calls]


def atif(n: int) -> Any:
    """One step that calls a tool as often."""
    calls = [{"tool_call_id": f"c{at}", "function_name": "f", "arguments": {}} for at in range(n)]
    results = [{"source_call_id": f"c{at}", "content": "x"} for at in range(n)]
    step = {"step_id": 1, "source": "agent", "message": "", "tool_calls": calls, "observation": {"results": results}}
    return {"schema_version": "ATIF-v1.8", "agent": {"name": "a", "version": "1"}, "steps": [step]}


def langsmith(n: int) -> Any:
    """A streamed run whose events stand in its post and again in its patch."""
    events = [{"name": "new_token", "time": f"{at}", "kwargs": {"token": "x"}} for at in range(n)]
    run = {"id": "r", "trace_id": "r", "dotted_order": "20260101T000000000000Zr", "run_type": "llm", "name": "m"}
    return {"post": [run | {"events": events}], "patch": [run | {"events": events}]}


def streams(n: int) -> Any:
    """Streams that are begun and never ended."""
    piece = {"choices": [{"index": 0, "delta": {"content": "x"}}]}
    return [{"id": f"c{at}", "object": "chat.completion.chunk", "model": "m", **piece} for at in range(n)]


LOGS = [hermes, swe_agent, openhands, openhands_sdk, inspect_deep, claude_code, retries, atif, langsmith, streams]
CHATS = [hermes, swe_agent, who_and_when, openhands, openhands_sdk]


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.__name__)
def test_work_grows_with_the_length(log: Callable[[int], Any]) -> None:
    size = 400 if log is streams else 60  # streams are ended when some hundreds are open
    short, long = log(size), log(3 * size)
    items(short)  # what is done once is done
    once, thrice = steps(lambda: items(short)), steps(lambda: items(long))
    assert thrice < 4 * once


@pytest.mark.parametrize("log", CHATS, ids=lambda log: log.__name__)
def test_the_prompts_of_a_session_hold_the_very_messages_of_those_before_them(log: Callable[[int], Any]) -> None:
    """So each is looked at, redacted and encoded once, however often it is read."""
    prompts = [item.input for item in items(log(50)) if isinstance(item, RawSpan) and item.input]
    read = sum(map(len, prompts))
    assert read > 10 * len({id(message) for prompt in prompts for message in prompt})


def episode(n: int, *, linked: bool) -> Episode:
    """A trajectory of calls and tools in turn; not `linked`: no tool says which call asked for it."""
    messages: dict[str, Any] = {"u": ("user", None, [{"type": "text", "content": "go"}])}
    spans: list[dict[str, Any]] = []
    heard = ["u"]
    for at in range(n):
        call = {"type": "tool_call", "id": f"c{at}", "name": "ls", "arguments": "{}"}
        messages[f"a{at}"] = ("assistant", None, [call])
        messages[f"r{at}"] = ("tool", None, [{"type": "tool_call_response", "id": f"c{at}", "response": "x"}])
        common = {"trace_id": "t", "parent_span_id": None, "status": "ok", "flags": [], "marks": []}
        said = {"system_ids": [], "input_ids": list(heard), "output_ids": [f"a{at}"]}
        spans.append(common | {"span_id": f"l{at}", "kind": "llm", "name": "chat", "seq": 2 * at, **said})
        tool = {"span_id": f"t{at}", "kind": "tool", "name": "ls", "tool_name": "ls", "seq": 2 * at + 1}
        spans.append(common | tool | {"tool_call_id": f"c{at}" if linked else None, "tool_result": "x"})
        heard += [f"a{at}", f"r{at}"]
    row = {"trajectory_id": "t"}
    return Episode(trajectory=row, spans=spans, transitions=[], scores=[], messages=messages)


@pytest.mark.parametrize("linked", [True, False])
def test_an_atif_document_is_written_in_steps_that_grow_with_its_length(linked: bool) -> None:
    (atif_export,) = (one for one in EXPORTERS if one.name == "atif")

    def write(n: int) -> int:
        whole = episode(n, linked=linked)
        return steps(lambda: list(atif_export.records(whole)))

    write(2)
    assert write(90) < 4 * write(30)
