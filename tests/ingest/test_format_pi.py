"""Sessions of pi and its kin: usage without the cache, compactions, branches that are older than their header."""

import json
from typing import Any

HEADER = {
    "type": "session",
    "id": "d703a1a9",
    "timestamp": "2026-02-01T09:00:30.000Z",
    "cwd": "/w",
    "modelId": "claude-a",
    "thinkingLevel": "off",
}


def at(second: int) -> str:
    return f"2026-02-01T09:00:{second:02d}.000Z"


def ms(second: int) -> int:
    return 1_769_936_400_000 + 1000 * second


def user(second: int, text: str) -> dict[str, Any]:
    message = {"role": "user", "content": [{"type": "text", "text": text}], "timestamp": ms(second)}
    return {"type": "message", "timestamp": at(second), "message": message}


def answer(
    second: int, *content: dict[str, Any], stop: str = "stop", began: int | None = None, **more: Any
) -> dict[str, Any]:
    usage = {"input": 5, "output": 20, "cacheRead": 100, "cacheWrite": 30, "cost": {"total": 0.25}}
    message = {"role": "assistant", "content": list(content), "provider": "anthropic", "model": "claude-a"}
    message |= {"usage": usage, "stopReason": stop, "timestamp": ms(second if began is None else began)} | more
    return {"type": "message", "timestamp": at(second), "message": message}


def said(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def asks(call_id: str) -> dict[str, Any]:
    return {"type": "toolCall", "id": call_id, "name": "read", "arguments": {"path": "a.py"}}


def result(second: int, call_id: str, text: str, *, failed: bool = False) -> dict[str, Any]:
    message = {"role": "toolResult", "toolCallId": call_id, "toolName": "read", "content": [said(text)]}
    message |= {"isError": failed, "timestamp": ms(second)}
    return {"type": "message", "timestamp": at(second), "message": message}


SESSION = [
    HEADER,
    user(1, "read a.py"),
    answer(4, said("Reading."), asks("t1"), stop="toolUse", began=2),
    result(5, "t1", "x = 1"),
    {"type": "thinking_level_change", "timestamp": at(6), "thinkingLevel": "high"},
    answer(9, said("It sets x."), began=6),
]


def test_cached_tokens_are_part_of_the_input(take: Any) -> None:
    calls = take(lines=SESSION).kind("llm")
    assert [(c["tokens_in"], c["tokens_cache_read"], c["tokens_cache_write"], c["tokens_out"]) for c in calls] == [
        (135, 100, 30, 20)
    ] * 2
    assert [c["cost_usd"] for c in calls] == [0.25, 0.25]
    assert [(c["provider"], c["model"], c["model_requested"]) for c in calls] == [
        ("anthropic", "claude-a", "claude-a")
    ] * 2


def test_calls_last_from_their_request_to_their_record(take: Any) -> None:
    taken = take(lines=SESSION)
    assert [(c["end_ns"] - c["start_ns"]) / 1e9 for c in taken.kind("llm")] == [2.0, 3.0]
    assert [json.loads(c["params"]) for c in taken.kind("llm")] == [{"thinkingLevel": "off"}, {"thinkingLevel": "high"}]
    (tool,) = taken.kind("tool")
    assert (tool["tool_name"], json.loads(tool["tool_args"]), tool["tool_result"]) == (
        "read",
        {"path": "a.py"},
        "x = 1",
    )
    assert ((tool["end_ns"] - tool["start_ns"]) / 1e9, tool["status"]) == (1.0, "ok")


def test_each_record_is_one_span(take: Any) -> None:
    taken = take(lines=SESSION)
    assert [s["kind"] for s in taken.spans] == ["agent", "event", "llm", "tool", "event", "llm"]
    assert taken.ledger[0]["n_records"] == len(SESSION) == len(taken.spans)
    (root,) = taken.kind("agent")
    assert (root["session_id"], json.loads(root["attributes"])["cwd"]) == ("d703a1a9", "/w")


def test_messages_older_than_the_header_are_in_order_and_the_same_span_in_both_files(take: Any) -> None:
    taken = take(lines=SESSION, name="a.jsonl")
    assert min(taken.spans, key=lambda s: (s["start_ns"], s["seq"]))["kind"] == "agent"
    branched = {**HEADER, "id": "ffae836b", "timestamp": at(50), "branchedFrom": "/sessions/a.jsonl"}
    again = take(lines=[branched, *SESSION[1:], user(55, "more"), answer(58, said("Done."))], name="b.jsonl")
    keys = {(s["trace_id"], s["span_id"]) for s in taken.spans}
    assert keys < {(s["trace_id"], s["span_id"]) for s in again.spans}
    assert len(again.spans) == len(taken.spans) + 2
    assert again.texts(again.kind("llm")[-1]["input_ids"]) == ["read a.py", "Reading.", "x = 1", "It sets x.", "more"]


def test_after_a_compaction_prompts_hold_the_summary_and_what_was_kept(take: Any) -> None:
    compaction = {"type": "compaction", "timestamp": at(10), "summary": "They read a.py.", "tokensBefore": 9000}
    by_index = take(
        lines=[*SESSION, {**compaction, "firstKeptEntryIndex": 5}, user(11, "go on"), answer(12, said("ok"))]
    )
    last = by_index.kind("llm")[-1]
    assert by_index.texts(last["input_ids"]) == ["They read a.py.", "It sets x.", "go on"]
    event = next(s for s in by_index.kind("event") if s["name"] == "compaction")
    assert (event["flags"], json.loads(event["attributes"])["tokensBefore"]) == (["synthetic"], 9000)
    ids = [{**r, "id": f"e{n}", "parentId": f"e{n - 1}" if n > 1 else None} if n else r for n, r in enumerate(SESSION)]
    named = [{**compaction, "id": "c", "parentId": "e5", "firstKeptEntryId": "e5"}]
    named += [{**user(11, "go on"), "id": "u", "parentId": "c"}, {**answer(12, said("ok")), "id": "a", "parentId": "u"}]
    by_id = take(lines=[*ids, *named])
    assert by_id.kind("llm")[-1]["input_ids"] == last["input_ids"]
    assert not any("branch" in s["flags"] for s in by_id.spans)


def test_a_tree_of_entries_keeps_the_way_left_as_a_branch(take: Any) -> None:
    entries = [
        HEADER,
        {**user(1, "hello"), "id": "e1", "parentId": None},
        {**answer(2, said("hi")), "id": "e2", "parentId": "e1"},
        {**user(3, "do A"), "id": "e3", "parentId": "e2"},
        {**answer(4, said("A")), "id": "e4", "parentId": "e3"},
        {**user(5, "do B"), "id": "e5", "parentId": "e2"},
        {**answer(6, said("B")), "id": "e6", "parentId": "e5"},
    ]
    taken = take(lines=entries)
    first, left, main = taken.kind("llm")
    assert taken.texts(main["input_ids"]) == ["hello", "hi", "do B"]
    assert taken.texts(left["input_ids"]) == ["hello", "hi", "do A"]
    assert [json.loads(c["attributes"] or "{}").get("branch") for c in (first, left, main)] == [None, "e3", None]


def test_an_aborted_answer_has_no_tokens_unless_some_were_counted(take: Any) -> None:
    none = {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0, "cost": {"total": 0}}
    lines = [
        HEADER,
        user(1, "go"),
        answer(2, stop="aborted", usage=none, errorMessage="Request was aborted."),
        user(3, "again"),
        answer(4, said("half"), stop="aborted"),
        user(5, "so?"),
        answer(6, said("whole")),
    ]
    taken = take(lines=lines)
    empty, half, whole = taken.kind("llm")
    assert (empty["tokens_in"], empty["tokens_out"], empty["cost_usd"], empty["output_ids"]) == (None, None, None, [])
    assert (half["tokens_out"], half["status"], half["error_type"]) == (20, "error", "aborted")
    assert ["truncated" in c["flags"] for c in (empty, half, whole)] == [True, True, False]
    assert taken.texts(whole["input_ids"]) == ["go", "again", "half", "so?"]


def test_what_the_user_runs_and_extensions_say_is_in_the_prompt_but_flagged(take: Any) -> None:
    bash = {"role": "bashExecution", "command": "ls", "output": "a.py", "exitCode": 0, "timestamp": ms(2)}
    reminder = {"type": "custom_message", "timestamp": at(3), "customType": "todo", "content": "Remember."}
    lines = [HEADER, user(1, "hi"), {"type": "message", "timestamp": at(2), "message": bash}, reminder]
    taken = take(lines=[*lines, answer(4, said("ok"))])
    assert taken.texts(taken.kind("llm")[0]["input_ids"]) == ["hi", "Ran `ls`\n```\na.py\n```", "Remember."]
    assert [(s["name"], s["flags"]) for s in taken.kind("event")] == [
        ("user", []),
        ("bashExecution", ["synthetic"]),
        ("custom_message", ["synthetic"]),
    ]


def test_what_a_gateway_delivers_beside_the_model_is_synthetic(take: Any) -> None:
    mirror = {"provider": "openclaw", "model": "delivery-mirror"}
    taken = take(lines=[HEADER, user(1, "hi"), answer(2, said("ok")), answer(3, said("Reminder."), **mirror)])
    assert ["synthetic" in c["flags"] for c in taken.kind("llm")] == [False, True]


def test_bad_lines_are_quarantined_where_they_stand(take: Any) -> None:
    broken = ['{"type":"message"', {"type": "message", "timestamp": at(3)}, {"no": "type"}]
    taken = take(lines=[*SESSION[:2], *broken, *SESSION[2:]])
    assert [q["line"] for q in taken.quarantine] == [3, 4, 5]
    assert [s["span_id"] for s in taken.spans] == [s["span_id"] for s in take(lines=SESSION).spans]
