"""Rollouts of the Codex CLI: calls between inputs, token counts that are totals, text injected in the user's place."""

import json
from typing import Any


def at(second: int) -> str:
    return f"2026-03-30T05:38:{second:02d}.000Z"


def record(kind: str, second: int, **payload: Any) -> dict[str, Any]:
    return {"timestamp": at(second), "type": kind, "payload": payload}


def item(second: int, kind: str, **payload: Any) -> dict[str, Any]:
    return record("response_item", second, type=kind, **payload)


def message(second: int, role: str, text: str) -> dict[str, Any]:
    kind = "output_text" if role == "assistant" else "input_text"
    return item(second, "message", role=role, content=[{"type": kind, "text": text}])


def used(read: int, cached: int, out: int, thought: int) -> dict[str, int]:
    return {
        "input_tokens": read,
        "cached_input_tokens": cached,
        "output_tokens": out,
        "reasoning_output_tokens": thought,
        "total_tokens": read + out,
    }


def count(second: int, total: dict[str, int], last: dict[str, int] | None) -> dict[str, Any]:
    info = {"total_token_usage": total} if last is None else {"total_token_usage": total, "last_token_usage": last}
    return record("event_msg", second, type="token_count", info=info)


META = record("session_meta", 0, id="s1", cwd="/w", cli_version="0.60.0", model_provider="openai", git={"branch": "m"})
TURN = record("turn_context", 1, cwd="/w", model="gpt-5-codex", effort="high")
SESSION = [
    META,
    TURN,
    message(2, "user", "<environment_context>cwd</environment_context>"),
    message(3, "user", "list files"),
    record("event_msg", 4, type="agent_reasoning", text="I should list"),
    item(5, "reasoning", summary=[{"type": "summary_text", "text": "I should list"}], encrypted_content="gAAA"),
    item(6, "function_call", name="shell", call_id="c1", arguments='{"command":["ls"]}'),
    item(6, "custom_tool_call", name="apply_patch", call_id="c2", input="*** Begin Patch"),
    count(7, used(100, 40, 10, 5), used(100, 40, 10, 5)),
    item(8, "function_call_output", call_id="c1", output="a.py"),
    item(9, "custom_tool_call_output", call_id="c2", output={"content": "no such file", "success": False}),
    message(10, "assistant", "One file."),
    count(11, used(250, 140, 17, 5), used(150, 100, 7, 0)),
    count(12, used(250, 140, 17, 5), used(150, 100, 7, 0)),
]


def test_repeated_totals_are_counted_once_and_cached_tokens_are_in_the_input(take: Any) -> None:
    calls = take(lines=SESSION).kind("llm")
    assert [(c["tokens_in"], c["tokens_cache_read"], c["tokens_out"], c["tokens_reasoning"]) for c in calls] == [
        (100, 40, 10, 5),
        (150, 100, 7, 0),
    ]


def test_totals_alone_are_told_apart_by_their_growth(take: Any) -> None:
    lines = [{**r, "payload": {**r["payload"]}} for r in SESSION]
    for line in lines:
        if line["payload"].get("type") == "token_count":
            line["payload"]["info"] = {"total_token_usage": line["payload"]["info"]["total_token_usage"]}
    assert [c["tokens_in"] for c in take(lines=lines).kind("llm")] == [100, 150]
    assert sum(c["tokens_out"] for c in take(lines=lines).kind("llm")) == 17


def test_what_comes_out_between_inputs_is_one_call(take: Any) -> None:
    taken = take(lines=SESSION)
    first, last = taken.kind("llm")
    assert taken.said(first["output_ids"]) == [
        (
            "assistant",
            [
                {"type": "reasoning", "content": "I should list"},
                {"type": "tool_call", "id": "c1", "name": "shell", "arguments": '{"command":["ls"]}'},
                {"type": "tool_call", "id": "c2", "name": "apply_patch", "arguments": {"input": "*** Begin Patch"}},
            ],
        )
    ]
    assert taken.texts(last["input_ids"])[3:] == ["a.py", "no such file"]
    assert [(c["model"], json.loads(c["params"])) for c in (first, last)] == [("gpt-5-codex", {"effort": "high"})] * 2
    tools = taken.kind("tool")
    assert [(t["tool_name"], t["tool_args"], t["status"]) for t in tools] == [
        ("shell", '{"command": ["ls"]}', "unset"),
        ("apply_patch", '{"input": "*** Begin Patch"}', "error"),
    ]
    assert [(t["end_ns"] - t["start_ns"]) / 1e9 for t in tools] == [2.0, 3.0]


def test_context_that_codex_injects_is_no_user_text(take: Any) -> None:
    taken = take(lines=SESSION)
    users = [s for s in taken.kind("event") if s["name"] == "user"]
    assert [("synthetic" in s["flags"], taken.texts(s["input_ids"])) for s in users] == [
        (True, ["<environment_context>cwd</environment_context>"]),
        (False, ["list files"]),
    ]
    assert taken.texts(taken.kind("llm")[0]["input_ids"])[0].startswith("<environment_context>")


def test_base_instructions_are_the_system_prompt(take: Any) -> None:
    meta = {**META, "payload": {**META["payload"], "base_instructions": {"text": "You are Codex."}}}
    taken = take(lines=[meta, *SESSION[1:]])
    assert [taken.texts(c["system_ids"]) for c in taken.kind("llm")] == [["You are Codex."]] * 2
    assert "You are Codex." not in (taken.kind("agent")[0]["attributes"] or "")


def test_a_compaction_begins_the_prompts_anew(take: Any) -> None:
    history = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Summary."}]}]
    for payload in ({"message": "Summary."}, {"message": "", "replacement_history": history}):
        taken = take(lines=[*SESSION, record("compacted", 20, **payload), message(21, "user", "more")])
        more = take(
            lines=[
                *SESSION,
                record("compacted", 20, **payload),
                message(21, "user", "more"),
                message(22, "assistant", "ok"),
            ]
        )
        assert more.texts(more.kind("llm")[-1]["input_ids"]) == ["Summary.", "more"]
        assert next(s for s in taken.kind("event") if s["name"] == "compaction")["flags"] == ["synthetic"]


def test_spans_are_named_by_the_session_and_every_record_is_counted(take: Any) -> None:
    one, two = take(lines=SESSION, name="a.jsonl"), take(lines=["not json", *SESSION], name="b.jsonl")
    assert [s["span_id"] for s in one.spans] == [s["span_id"] for s in two.spans]
    assert (one.kind("agent")[0]["session_id"], one.kind("agent")[0]["agent_version"]) == ("s1", "0.60.0")
    assert (two.ledger[0]["n_records"], [q["line"] for q in two.quarantine]) == (len(SESSION) + 1, [1])


CHILD, PARENT = "019e5c03-1e99-7000-8000-000000000001", "019e5b00-0000-7000-8000-000000000001"
OLD_TURN, NEW_TURN = "019e5b00-0001-7000-8000-000000000001", "019e5c03-6425-7000-8000-000000000001"


def forked(**meta: Any) -> list[dict[str, Any]]:
    copied = [record("turn_context", 30, model="gpt-5-codex", turn_id=OLD_TURN), *SESSION[2:13]]
    return [
        record("session_meta", 30, id=CHILD, cwd="/w", **meta),
        record("session_meta", 30, id=PARENT, cwd="/w"),
        *({**line, "timestamp": at(30)} for line in copied),
        record("event_msg", 31, type="task_started", turn_id=NEW_TURN),
        record("turn_context", 31, model="gpt-5-mini", turn_id=NEW_TURN),
        message(32, "user", "now count them"),
        message(33, "assistant", "One."),
        count(34, used(450, 240, 19, 5), {}),
    ]


def test_what_a_forked_rollout_copies_is_in_the_prompts_but_no_call(take: Any) -> None:
    taken = take(lines=forked(forked_from_id=PARENT))
    (call,) = taken.kind("llm")
    assert (call["model"], call["tokens_in"], call["tokens_cache_read"], call["tokens_out"]) == (
        *("gpt-5-mini", 200, 100),
        2,
    )
    said = taken.texts(call["input_ids"])
    assert [text for text in said if text] == [
        "<environment_context>cwd</environment_context>",
        *("list files", "a.py", "no such file", "One file.", "now count them"),
    ]
    assert all("copied" in s["flags"] for s in taken.kind("event") if s["name"].startswith("copied/"))
    assert taken.kind("tool") == []


def test_a_sub_agents_rollout_joins_the_trace_of_the_thread_that_ran_it(take: Any) -> None:
    spawn = {"subagent": {"thread_spawn": {"parent_thread_id": PARENT, "depth": 1}}}
    child = take(lines=forked(source=spawn, agent_role="explorer"), name="child.jsonl")
    main = take(lines=[record("session_meta", 0, id=PARENT), *SESSION[1:]], name="parent.jsonl")
    (agent,), (root,) = child.kind("agent"), main.kind("agent")
    assert (agent["trace_id"], agent["parent_span_id"]) == (root["trace_id"], root["span_id"])
    assert agent["agent_name"] == child.kind("llm")[0]["agent_name"] == "codex/explorer"
    assert {s["parent_span_id"] for s in child.spans if s["kind"] != "agent"} == {agent["span_id"]}
    assert not {s["span_id"] for s in child.spans} & {s["span_id"] for s in main.spans}
