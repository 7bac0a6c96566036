"""Sessions of the smaller coding agents: Gemini CLI, Copilot CLI, OpenCode, Cursor, Droid, Letta Code, Hermes."""

import io
import json
import random
from typing import Any

import pytest

from tracemill.ingest.detect import look
from tracemill.ingest.formats import FORMATS
from tracemill.ingest.reader import BadRecord, Done, Stream

GEMINI: dict[str, Any] = {
    "sessionId": "g1",
    "projectHash": "h",
    "startTime": "2026-01-03T00:00:00.000Z",
    "messages": [
        {"id": "i", "type": "info", "timestamp": "2026-01-03T00:00:00.000Z", "content": "Notice"},
        {"id": "u", "type": "user", "timestamp": "2026-01-03T00:00:01.000Z", "content": [{"text": "read it"}]},
        {
            "id": "a",
            "type": "gemini",
            "timestamp": "2026-01-03T00:00:02.000Z",
            "model": "gemini-3",
            "thoughts": [{"subject": "Plan", "description": "read"}],
            "content": "Reading.",
            "tokens": {"input": 50, "output": 8, "cached": 20, "thoughts": 4, "tool": 0, "total": 62},
            "toolCalls": [
                {
                    "id": "t1",
                    "name": "read_file",
                    "args": {"path": "a"},
                    "status": "success",
                    "timestamp": "2026-01-03T00:00:03.000Z",
                    "result": [{"functionResponse": {"id": "t1", "response": {"output": "text"}}}],
                }
            ],
        },
        {"id": "b", "type": "gemini", "timestamp": "2026-01-03T00:00:04.000Z", "model": "gemini-3", "content": "Done."},
    ],
}


def event(kind: str, second: int, **data: Any) -> dict[str, Any]:
    return {"id": f"e{second}", "type": kind, "timestamp": f"2026-01-05T00:00:{second:02d}.000Z", "data": data}


COPILOT = [
    event("session.start", 0, sessionId="c1", copilotVersion="0.0.400", context={"cwd": "/w"}),
    event("hook.start", 1, hookType="userPromptSubmitted", input={"prompt": "read it"}),
    event("user.message", 2, content="read it"),
    event("assistant.message", 3, messageId="m1", reasoningText="hm", content="", toolRequests=[
        {"toolCallId": "t1", "name": "view", "arguments": {"path": "a"}}
    ]),
    event("assistant.usage", 4, model="gpt-5", inputTokens=90, outputTokens=9, cacheReadTokens=30, cacheWriteTokens=0),
    event("tool.execution_start", 5, toolCallId="t1", toolName="view"),
    event("tool.execution_complete", 7, toolCallId="t1", success=False, error={"code": "gone", "message": "no file"}),
    event("assistant.message", 8, messageId="m2", content="It is gone.", toolRequests=[]),
]  # fmt: skip


def _opencode_tool(call_id: str, status: str, **state: Any) -> dict[str, Any]:
    time = {"start": 1_767_225_603_000, "end": 1_767_225_604_000}
    return {"type": "tool", "callID": call_id, "tool": "glob", "state": {"status": status, "time": time, **state}}


def _finish(fresh: int, out: int) -> dict[str, Any]:
    tokens = {"input": fresh, "output": out, "reasoning": 0, "cache": {"read": 10, "write": 5}}
    return {"type": "step-finish", "reason": "stop", "tokens": tokens, "cost": 0.01}


OPENCODE: dict[str, Any] = {
    "info": {"id": "o1", "directory": "/w", "version": "1.2.21"},
    "messages": [
        {
            "info": {"id": "u", "role": "user", "time": {"created": 1_767_225_601_000}},
            "parts": [{"type": "text", "text": "find notes"}],
        },
        {
            "info": {"id": "a", "role": "assistant", "modelID": "gpt-5", "time": {"created": 1_767_225_602_000}},
            "parts": [
                {"type": "step-start"},
                {"type": "reasoning", "text": "glob"},
                _opencode_tool("t1", "completed", input={"pattern": "*"}, output="a.md"),
                _finish(7, 3),
                {"type": "step-start"},
                {"type": "text", "text": "Found a.md."},
                _finish(20, 4),
            ],
        },
    ],
}

CURSOR = [
    {"id": "u", "role": "user", "message": {"content": [{"type": "text", "text": "build"}]}},
    {"role": "assistant", "message": {"model": "cursor-1", "content": [{"type": "thinking", "thinking": "api"}]}},
    {
        "role": "assistant",
        "message": {"content": [{"type": "tool_use", "id": "t1", "name": "write", "input": {"path": "a"}}]},
    },
    {"role": "user", "message": {"content": [{"type": "tool_result", "tool_use_id": "t1", "content": "ok"}]}},
    {"role": "assistant", "message": {"content": "Built."}},
]

DROID = [
    {"type": "session_start", "id": "d1", "title": "t", "cwd": "/w"},
    {"type": "message", "message": {"role": "user", "content": [{"type": "text", "text": "list"}]}},
    {"type": "message", "message": {"role": "assistant", "content": [{"type": "thinking", "thinking": "ls"}]}},
    {
        "type": "message",
        "message": {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "Bash", "input": {}}]},
    },
    {
        "type": "message",
        "message": {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "a"}]},
    },
    {"type": "message", "message": {"role": "assistant", "content": [{"type": "text", "text": "a."}]}},
]

LETTA = [
    {"kind": "user", "text": "check", "captured_at": "2026-07-22T13:00:00.000Z"},
    {"kind": "reasoning", "text": "run", "captured_at": "2026-07-22T13:00:01.000Z", "source_message_id": "m1"},
    {
        "kind": "tool_call",
        "name": "Bash",
        "argsText": '{"command":"t"}',
        "resultText": "bad",
        "resultOk": False,
        "captured_at": "2026-07-22T13:00:02.000Z",
        "source_line_id": "t1",
    },
    {"kind": "status", "text": "working", "captured_at": "2026-07-22T13:00:02.500Z"},
    {"kind": "assistant", "text": "It fails.", "captured_at": "2026-07-22T13:00:03.000Z", "source_message_id": "m2"},
]


def _row(number: int, role: str, content: Any, *, active: int = 1, **more: Any) -> dict[str, Any]:
    found = {"id": number, "session_id": "h1", "role": role, "content": content, "timestamp": 1_783_000_000.5 + number}
    return {**found, "observed": 0, "active": active, **more}


HERMES = [
    _row(1, "user", '\x00json:[{"type": "text", "text": "look"}]'),
    _row(2, "assistant", "", reasoning=" ", tool_calls='[{"name": "see", "arguments": "{}"}]'),
    _row(4, "assistant", "A window.", reasoning="sum up", finish_reason="stop"),
    _row(3, "tool", "window", tool_call_id="t1", tool_name="see"),
    _row(5, "user", "no, wrong", active=0),
    _row(6, "user", "thanks"),
    _row(7, "assistant", "Welcome."),
]

LOGS: dict[str, Any] = {
    "gemini-cli": GEMINI,
    "copilot-cli": COPILOT,
    "opencode": OPENCODE,
    "cursor": CURSOR,
    "droid": DROID,
    "letta-code": LETTA,
    "hermes": HERMES,
}


def taken(take: Any, name: str, log: Any = None) -> Any:
    log = LOGS[name] if log is None else log
    if isinstance(log, dict) or name == "hermes":
        return take(log, name="session.json")
    return take(lines=log, name="session.jsonl")


@pytest.mark.parametrize("name", LOGS)
def test_each_is_a_session_with_calls_tools_and_rebuilt_prompts(take: Any, name: str) -> None:
    found = taken(take, name)
    assert {s["source_format"] for s in found.spans} == {name}
    assert found.quarantine == []
    assert len({s["trace_id"] for s in found.spans}) == len(found.kind("agent")) == 1
    calls, (tool,) = found.kind("llm"), found.kind("tool")
    assert tool["tool_call_id"] == "t1"
    assert [len(c["input_ids"]) for c in calls[:2]] == [1, 3]
    assert found.prompt(calls[1])[:2] == [*calls[0]["input_ids"], *calls[0]["output_ids"]]
    assert all("lossy" in c["flags"] for c in calls)
    assert sum(row["n_records"] for row in found.ledger) == (1 if isinstance(LOGS[name], dict) else len(LOGS[name]))


def test_gemini_counts_thoughts_as_output_and_cached_tokens_as_input(take: Any) -> None:
    first, last = taken(take, "gemini-cli").kind("llm")
    assert (first["tokens_in"], first["tokens_cache_read"], first["tokens_out"], first["tokens_reasoning"]) == (
        *(50, 20, 12),
        4,
    )
    assert (last["tokens_in"], last["tokens_out"], last["model"]) == (None, None, "gemini-3")


def test_gemini_chats_as_lines_are_the_same_and_the_last_state_of_a_message_counts(take: Any) -> None:
    header = {k: v for k, v in GEMINI.items() if k != "messages"}
    unanswered = {**GEMINI["messages"][2], "toolCalls": []}
    lines = [header, *GEMINI["messages"][:2], unanswered, *GEMINI["messages"][2:]]
    found = take(lines=lines)
    assert [s["span_id"] for s in found.spans] == [s["span_id"] for s in taken(take, "gemini-cli").spans]
    assert found.kind("tool")[0]["tool_result"] == "text"


def test_copilot_prompts_are_said_once_and_failed_tools_are_errors(take: Any) -> None:
    found = taken(take, "copilot-cli")
    first, _ = found.kind("llm")
    assert (first["model"], first["tokens_in"], first["tokens_cache_read"], first["tokens_out"]) == ("gpt-5", 90, 30, 9)
    (tool,) = found.kind("tool")
    assert (tool["status"], tool["error_type"], tool["tool_result"]) == ("error", "gone", "no file")
    assert (tool["end_ns"] - tool["start_ns"]) / 1e9 == 2.0
    hooked = taken(take, "copilot-cli", [r for r in COPILOT if r["type"] != "user.message"])
    assert hooked.texts(hooked.kind("llm")[0]["input_ids"]) == ["read it"]


def test_opencode_steps_are_calls_with_their_own_tokens(take: Any) -> None:
    found = taken(take, "opencode")
    calls = found.kind("llm")
    assert [(c["tokens_in"], c["tokens_cache_read"], c["tokens_cache_write"], c["tokens_out"]) for c in calls] == [
        (22, 10, 5, 3),
        (35, 10, 5, 4),
    ]
    assert [c["cost_usd"] for c in calls] == [0.01, 0.01]
    assert found.texts(calls[1]["output_ids"]) == ["Found a.md."]
    assert calls[0]["start_ns"] == 1_767_225_602_000_000_000


def test_records_of_one_answer_are_one_call(take: Any) -> None:
    for name in ("cursor", "droid"):
        found = taken(take, name)
        kinds = [[part["type"] for part in parts] for _, parts in found.said(found.kind("llm")[0]["output_ids"])]
        assert kinds == [["reasoning", "tool_call"]]
        assert len(found.kind("llm")) == 2


def test_cursor_sessions_are_told_apart_by_their_file(take: Any) -> None:
    one, two = take(lines=CURSOR, name="one.jsonl"), take(lines=CURSOR, name="two.jsonl")
    assert one.spans[0]["session_id"] == "one"
    assert not {s["trace_id"] for s in one.spans} & {s["trace_id"] for s in two.spans}


def test_hermes_rows_are_ordered_by_id_and_taken_back_ones_are_a_branch(take: Any) -> None:
    found = taken(take, "hermes")
    calls = found.kind("llm")
    assert found.texts(calls[-1]["input_ids"]) == ["look", "", "window", "A window.", "thanks"]
    assert found.kind("tool")[0]["tool_name"] == "see"
    left = [s for s in found.kind("event") if "branch" in s["flags"]]
    assert [found.texts(s["input_ids"]) for s in left] == [["no, wrong"]]
    session = {"id": "h1", "model": "gpt-5.2", "system_prompt": "You are Hermes.", "started_at": 1_783_000_000.0}
    whole = take({"session": session, "messages": HERMES}, name="export.json")
    assert [whole.texts(c["system_ids"]) for c in whole.kind("llm")] == [["You are Hermes."]] * 3
    assert {c["model"] for c in whole.kind("llm")} == {"gpt-5.2"}
    assert [c["span_id"] for c in whole.kind("llm")] == [c["span_id"] for c in calls]


def test_a_bad_message_of_a_document_costs_only_itself(take: Any) -> None:
    for name, bad in (("gemini-cli", {"id": "x"}), ("opencode", {"info": {}})):
        log = {**LOGS[name], "messages": [LOGS[name]["messages"][0], bad, *LOGS[name]["messages"][1:]]}
        found = taken(take, name, log)
        assert len(found.quarantine) == 1
        assert [s["span_id"] for s in found.spans] == [s["span_id"] for s in taken(take, name).spans]


_ODD = (None, True, 0, -1, 1.5, "", "x", "\ud800", [], [None], [{}], {}, {"type": "text"}, {"id": [1]})


def _mutated(value: Any, rng: random.Random) -> Any:
    """The value with one thing in it replaced or gone."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        if rng.random() < 0.15:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: _mutated(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.85:
        at = rng.randrange(len(value))
        return [*value[:at], _mutated(value[at], rng), *value[at + 1 :]]
    return rng.choice(_ODD)


def _read(name: str, data: bytes) -> tuple[int, list[Any]]:
    """The records and items of a log in a format, past detection."""
    stream = Stream(name="s.json", file=io.BytesIO(data))
    stream.start()
    reader = next(reader for reader in FORMATS if reader.name == name)
    items = list(reader.read(stream, look(stream)))
    return sum(item.count for item in items if isinstance(item, Done)), [i for i in items if not isinstance(i, Done)]


@pytest.mark.parametrize("name", LOGS)
def test_odd_values_anywhere_never_stop_the_rest(name: str) -> None:
    rng = random.Random(name)
    for _ in range(150):
        if isinstance(LOGS[name], dict):
            log: Any = {key: _mutated(value, rng) for key, value in LOGS[name].items()}
        else:
            log = [_mutated(record, rng) if rng.random() < 0.3 else record for record in LOGS[name]]
            log = [None if isinstance(record, list) else record for record in log]  # a list is several records
        whole = isinstance(log, dict) or name == "hermes"
        text = json.dumps(log) if whole else "".join(json.dumps(record) + "\n" for record in log)
        records, items = _read(name, text.encode())
        assert records == (1 if isinstance(log, dict) else len(log))
        assert not [item.reason for item in items if isinstance(item, BadRecord) and item.line is None]
        for span in items:
            assert isinstance(span, BadRecord) or all(isinstance(v, str) for v in (span.trace_id, span.span_id))
