"""Sessions of Claude Code: answers in several records, trees, sub-agents, copies."""

import json
from typing import Any

import pytest

SESSION = "5d0c1c6e-5ad2-4c6f-8a51-6b8e41b3d7aa"
OTHER = "77aa1c6e-0000-4c6f-8a51-6b8e41b3d7bb"


def second(n: int) -> str:
    return f"2026-03-01T10:00:{n:02d}.000Z"


def record(kind: str, uuid: str, parent: str | None, at: int, content: Any, **more: Any) -> dict[str, Any]:
    message = {"role": kind, "content": content, **more.pop("message", {})}
    envelope = {"sessionId": SESSION, "version": "2.1.80", "cwd": "/w", "gitBranch": "main", "isSidechain": False}
    found = {"type": kind, "uuid": uuid, "parentUuid": parent, "timestamp": second(at), "message": message}
    return {**envelope, **found, **more}


def user(uuid: str, parent: str | None, at: int, content: Any, **more: Any) -> dict[str, Any]:
    return record("user", uuid, parent, at, content, **more)


def answer(
    uuid: str, parent: str | None, at: int, message_id: str, block: Any, out: int = 0, **more: Any
) -> dict[str, Any]:
    usage = {"input_tokens": 3, "cache_creation_input_tokens": 10, "cache_read_input_tokens": 100, "output_tokens": out}
    message = {"id": message_id, "model": "claude-sonnet-4-6", "usage": usage, "stop_reason": None}
    message |= more.pop("message", {})
    return record("assistant", uuid, parent, at, [block], message=message, **more)


def said(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def asks(call_id: str, name: str = "Bash", **asked: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": name, "input": asked}


def gives(call_id: str, content: Any, **more: Any) -> list[dict[str, Any]]:
    return [{"type": "tool_result", "tool_use_id": call_id, "content": content, **more}]


PARALLEL = [
    user("u1", None, 1, "look around"),
    answer("a1", "u1", 2, "msg_1", {"type": "thinking", "thinking": "two looks", "signature": "s"}),
    answer("a2", "a1", 3, "msg_1", asks("t1", command="ls"), out=7),
    user("u2", "a2", 4, gives("t1", "a.py", is_error=False), toolUseResult={"stdout": "a.py"}),
    answer("a3", "a2", 5, "msg_1", asks("t2", command="pwd"), out=42, message={"stop_reason": "tool_use"}),
    user("u3", "a3", 6, gives("t2", [said("/w")])),
    answer("a4", "u3", 7, "msg_2", said("One file."), out=5, message={"stop_reason": "end_turn"}),
]


def test_usage_repeated_per_record_counts_once_and_the_last_wins(take: Any) -> None:
    taken = take(lines=PARALLEL)
    calls = taken.kind("llm")
    assert [(c["tokens_in"], c["tokens_cache_read"], c["tokens_cache_write"], c["tokens_out"]) for c in calls] == [
        (113, 100, 10, 42),
        (113, 100, 10, 5),
    ]
    assert [c["finish_reasons"] for c in calls] == [["tool_use"], ["end_turn"]]
    assert [c["model"] for c in calls] == ["claude-sonnet-4-6"] * 2
    assert taken.ledger[0]["n_records"] == 7
    assert taken.quarantine == []


def test_an_answer_in_several_records_is_one_call_and_interleaved_results_follow_it(take: Any) -> None:
    taken = take(lines=PARALLEL)
    first, after = taken.kind("llm")
    assert taken.said(first["output_ids"]) == [
        (
            "assistant",
            [
                {"type": "reasoning", "content": "two looks"},
                {"type": "tool_call", "id": "t1", "name": "Bash", "arguments": {"command": "ls"}},
                {"type": "tool_call", "id": "t2", "name": "Bash", "arguments": {"command": "pwd"}},
            ],
        )
    ]
    assert taken.texts(first["input_ids"]) == ["look around"]
    assert taken.prompt(after)[:2] == [*first["input_ids"], *first["output_ids"]]
    assert taken.said(after["input_ids"])[2:] == [
        ("tool", [{"type": "tool_call_response", "id": "t1", "response": "a.py", "is_error": False}]),
        ("tool", [{"type": "tool_call_response", "id": "t2", "response": "/w"}]),
    ]
    assert {"lossy"} == set(first["flags"]) == set(after["flags"])


def test_tools_begin_when_they_are_asked_and_end_with_their_result(take: Any) -> None:
    taken = take(lines=PARALLEL)
    tools = taken.kind("tool")
    assert [(t["tool_call_id"], t["tool_name"], json.loads(t["tool_args"]), t["tool_result"]) for t in tools] == [
        ("t1", "Bash", {"command": "ls"}, "a.py"),
        ("t2", "Bash", {"command": "pwd"}, "/w"),
    ]
    assert [(t["end_ns"] - t["start_ns"], t["status"]) for t in tools] == [(10**9, "ok"), (10**9, "unset")]
    assert json.loads(tools[0]["attributes"]) == {"toolUseResult": {"stdout": "a.py"}}


def test_every_span_hangs_below_the_session_in_the_order_of_the_file(take: Any) -> None:
    taken = take(lines=PARALLEL)
    (root,) = taken.kind("agent")
    assert [s["kind"] for s in sorted(taken.spans, key=lambda s: (s["start_ns"], s["seq"]))] == [
        *("agent", "event", "llm", "tool", "tool", "llm")
    ]
    assert {s["parent_span_id"] for s in taken.spans if s["kind"] != "agent"} == {root["span_id"]}
    assert root["parent_span_id"] is None
    assert (root["session_id"], root["agent_name"], root["agent_version"]) == (SESSION, "claude-code", "2.1.80")
    assert json.loads(root["attributes"]) == {"cwd": "/w", "gitBranch": "main", "version": "2.1.80"}
    assert root["end_ns"] - root["start_ns"] == 6 * 10**9


def test_an_edited_question_forks_and_the_way_left_keeps_its_branch(take: Any) -> None:
    taken = take(
        lines=[
            user("u1", None, 1, "hello"),
            answer("a1", "u1", 2, "msg_1", said("hi"), out=1),
            user("u2", "a1", 3, "do A"),
            answer("a2", "u2", 4, "msg_2", said("A done"), out=1),
            user("u3", "a1", 5, "no, do B"),
            answer("a3", "u3", 6, "msg_3", said("B done"), out=1),
        ]
    )
    first, left, main = taken.kind("llm")
    assert taken.texts(left["input_ids"]) == ["hello", "hi", "do A"]
    assert taken.texts(main["input_ids"]) == ["hello", "hi", "no, do B"]
    branches = {s["span_id"]: json.loads(s["attributes"] or "{}").get("branch") for s in taken.spans}
    assert [branches[s["span_id"]] for s in (first, left, main)] == [None, "u2", None]
    assert ["branch" in s["flags"] for s in (first, left, main)] == [False, True, False]
    assert left["revised_ns"] == main["start_ns"] > left["end_ns"]


def test_sidechains_hang_below_the_tool_call_that_ran_them(take: Any) -> None:
    task = asks("t1", "Task", prompt="Count the files.", subagent_type="Explore", description="count")
    side = {"isSidechain": True}
    taken = take(
        lines=[
            user("u1", None, 1, "how many files?"),
            answer("a1", "u1", 2, "msg_1", task, out=1),
            user("s1", None, 3, "Count the files.", **side),
            answer("s2", "s1", 4, "msg_s", said("Three."), out=1, **side),
            user("u2", "a1", 5, gives("t1", [said("Three.")])),
            answer("a2", "u2", 6, "msg_2", said("Three files."), out=1),
        ]
    )
    _, sub, last = taken.kind("llm")
    agent = next(s for s in taken.kind("agent") if s["parent_span_id"] is not None)
    (tool,) = taken.kind("tool")
    assert (agent["agent_name"], sub["agent_name"], last["agent_name"]) == (
        *("claude-code/Explore", "claude-code/Explore"),
        "claude-code",
    )
    assert (sub["parent_span_id"], agent["parent_span_id"]) == (agent["span_id"], tool["span_id"])
    assert taken.texts(sub["input_ids"]) == ["Count the files."]
    assert taken.texts(last["input_ids"]) == ["how many files?", "", "Three."]
    assert not any("orphan" in s["flags"] for s in taken.spans)


def test_a_sub_agents_own_file_joins_the_trace_of_its_session(take: Any) -> None:
    ran = {"agentId": "a1b2c3", "status": "completed"}
    main = [
        user("u1", None, 1, "how many files?"),
        answer("a1", "u1", 2, "msg_1", asks("t1", "Agent", prompt="Count.", subagent_type="Explore"), out=1),
        user("u2", "a1", 5, gives("t1", [said("Three.")]), toolUseResult=ran),
    ]
    side = {"isSidechain": True, "agentId": "a1b2c3"}
    sub = [user("s1", None, 3, "Count.", **side), answer("s2", "s1", 4, "msg_s", said("Three."), out=1, **side)]
    above, below = take(lines=main, name="session.jsonl"), take(lines=sub, name="agent-a1b2c3.jsonl")
    (tool,) = above.kind("tool")
    (agent,) = below.kind("agent")
    assert (agent["trace_id"], agent["parent_span_id"]) == (tool["trace_id"], tool["span_id"])
    assert {s["trace_id"] for s in [*above.spans, *below.spans]} == {tool["trace_id"]}
    assert not {s["span_id"] for s in above.spans} & {s["span_id"] for s in below.spans}


@pytest.mark.parametrize("old", [True, False], ids=["copied under a new session id", "forked with its origin"])
def test_a_resumed_session_that_copies_records_gives_the_same_spans(take: Any, old: bool) -> None:
    version = "1.0.61" if old else "2.1.80"
    first = [{**r, "version": version} for r in PARALLEL]
    copies = [
        {**r, "sessionId": OTHER}
        if old
        else {
            **r,
            "sessionId": OTHER,
            "uuid": f"new-{r['uuid']}",
            "parentUuid": r["parentUuid"] and f"new-{r['parentUuid']}",
            "forkedFrom": {"sessionId": SESSION, "messageUuid": r["uuid"]},
        }
        for r in first
    ]
    new = {"version": version, "sessionId": OTHER}
    last = copies[-1]["uuid"]
    more = [user("u9", last, 20, "and now?", **new), answer("a9", "u9", 21, "msg_9", said("Done."), out=2, **new)]
    one = take(lines=first, name="one.jsonl")
    two = take(lines=[{"type": "summary", "summary": "Files", "leafUuid": "a4"}, *copies, *more], name="two.jsonl")
    keys = {(s["trace_id"], s["span_id"]) for s in one.spans}
    assert keys <= {(s["trace_id"], s["span_id"]) for s in two.spans}
    fresh = [s for s in two.kind("llm") if (s["trace_id"], s["span_id"]) not in keys]
    assert [two.texts(s["output_ids"]) for s in fresh] == [["Done."]]
    assert two.texts(fresh[0]["input_ids"]) == ["look around", "", "a.py", "/w", "One file.", "and now?"]


def test_a_record_twice_in_a_file_is_one_span(take: Any) -> None:
    taken = take(lines=[*PARALLEL, *PARALLEL])
    assert len(taken.spans) == len(take(lines=PARALLEL).spans)
    assert taken.ledger[0]["n_records"] == 14


def test_after_a_compaction_prompts_begin_with_the_summary(take: Any) -> None:
    boundary = {
        "type": "system",
        "subtype": "compact_boundary",
        "uuid": "b1",
        "parentUuid": None,
        "logicalParentUuid": "a1",
        "sessionId": SESSION,
        "timestamp": second(3),
        "content": "Compacted",
        "compactMetadata": {"trigger": "auto", "preTokens": 150000},
    }
    taken = take(
        lines=[
            user("u1", None, 1, "long talk"),
            answer("a1", "u1", 2, "msg_1", said("yes"), out=1),
            boundary,
            user("u2", "b1", 4, "Summary: they talked.", isCompactSummary=True),
            user("u3", "u2", 5, "go on"),
            answer("a2", "u3", 6, "msg_2", said("on"), out=1),
        ]
    )
    assert taken.texts(taken.kind("llm")[1]["input_ids"]) == ["Summary: they talked.", "go on"]
    events = {s["name"]: s for s in taken.kind("event")}
    assert json.loads(events["system/compact_boundary"]["attributes"])["compactMetadata"]["preTokens"] == 150000
    assert events["compaction"]["flags"] == ["synthetic"]
    assert not any("branch" in s["flags"] for s in taken.spans)


def test_synthetic_answers_are_flagged_and_count_no_tokens(take: Any) -> None:
    made_up = {"model": "<synthetic>", "usage": {"input_tokens": 0, "output_tokens": 0}, "stop_reason": "stop_sequence"}
    failed = {"isApiErrorMessage": True, "error": "rate_limit"}
    taken = take(
        lines=[
            user("u1", None, 1, "hello"),
            answer("a1", "u1", 2, "m1", said("API Error: 429"), message=made_up, **failed),
            user("u2", "a1", 3, "again"),
            answer("a2", "u2", 4, "m2", said("hi"), out=1),
            answer("a3", "a2", 5, "m3", said("No response requested."), message=made_up),
        ]
    )
    error, real, notice = taken.kind("llm")
    for made in (error, notice):
        assert "synthetic" in made["flags"]
        assert (made["model"], made["tokens_in"], made["tokens_out"]) == (None, None, None)
    assert (error["status"], error["error_type"], error["error_message"]) == ("error", "rate_limit", "API Error: 429")
    assert taken.texts(real["input_ids"]) == ["hello", "again"]
    assert "synthetic" not in real["flags"]


def test_what_the_harness_says_in_the_users_place_is_in_the_prompt_but_flagged(take: Any) -> None:
    taken = take(
        lines=[
            user("u0", None, 1, "Caveat: rules", isMeta=True),
            user("u1", "u0", 2, "<command-name>/clear</command-name>"),
            user("u2", "u1", 3, [said("real question"), said("<system-reminder>x</system-reminder>")]),
            answer("a1", "u2", 4, "m1", said("ok"), out=1),
        ]
    )
    assert [(s["name"], s["flags"]) for s in taken.kind("event")] == [
        ("user", ["synthetic"]),
        ("user", ["synthetic"]),
        ("user", []),
    ]
    assert len(taken.kind("llm")[0]["input_ids"]) == 3


def test_tool_references_errors_and_results_without_a_call(take: Any) -> None:
    references = [{"type": "tool_reference", "tool_name": "mcp__desk__find"}]
    taken = take(
        lines=[
            user("u1", None, 1, "find it"),
            answer("a1", "u1", 2, "m1", asks("t1", "ToolSearch", query="find"), out=1),
            user("u2", "a1", 3, gives("t1", references)),
            user("u3", "u2", 4, gives("gone", "stale", is_error=True)),
        ]
    )
    found, stale = taken.kind("tool")
    assert json.loads(found["tool_result"]) == references
    assert (stale["status"], stale["flags"], stale["tool_name"]) == ("error", ["unmatched"], None)


def test_records_of_every_other_kind_are_events(take: Any) -> None:
    taken = take(
        lines=[
            {"type": "summary", "summary": "Earlier work", "leafUuid": "elsewhere"},
            {"type": "queue-operation", "operation": "enqueue", "sessionId": SESSION, "timestamp": second(0)},
            {"type": "file-history-snapshot", "messageId": "u1", "snapshot": {"trackedFileBackups": {}}},
            user("u1", None, 1, "hello"),
            {**user("x", "u1", 2, ""), "type": "system", "subtype": "api_error", "error": {"status": 529}},
            answer("a1", "x", 3, "m1", said("hi"), out=1),
        ]
    )
    assert [(s["name"], s["status"]) for s in taken.kind("event")] == [
        ("summary", "unset"),
        ("queue-operation", "unset"),
        ("file-history-snapshot", "unset"),
        ("user", "unset"),
        ("system/api_error", "error"),
    ]
    assert taken.texts(taken.kind("llm")[0]["input_ids"]) == ["hello"]
    assert len({s["trace_id"] for s in taken.spans}) == 1


def test_bad_records_cost_only_themselves(take: Any) -> None:
    lines = ["not json", *PARALLEL[:1], {"silly": "this"}, "42", {"type": "user", "uuid": "x", "message": "gone"}]
    taken = take(lines=[*lines, *PARALLEL[1:], '{"type":"user","uuid":"torn'])
    assert [(q["line"], q["reason"].split(":")[0]) for q in taken.quarantine] == [
        (1, "not valid JSON"),
        (3, "no record of a Claude Code session"),
        (4, "no record of a session"),
        (5, "no user record"),
        (12, "not valid JSON"),
    ]
    assert [s["span_id"] for s in taken.spans] == [s["span_id"] for s in take(lines=PARALLEL).spans]
    assert taken.ledger[0]["n_records"] == 12


def test_a_log_without_parents_is_read_in_its_order(take: Any) -> None:
    lines = [{k: v for k, v in r.items() if k != "parentUuid"} for r in PARALLEL]
    flat = take(lines=lines)
    assert [s["input_ids"] for s in flat.kind("llm")] == [s["input_ids"] for s in take(lines=PARALLEL).kind("llm")]
    none = take(lines=[{**r, "parentUuid": None} for r in PARALLEL])
    assert [s["input_ids"] for s in none.kind("llm")] == [s["input_ids"] for s in flat.kind("llm")]


def test_an_answer_that_was_still_coming_has_no_output_tokens_and_its_whole_record_is_the_later_one(take: Any) -> None:
    torn, grown = take(lines=PARALLEL[:2]).kind("llm")[0], take(lines=PARALLEL).kind("llm")[0]
    assert (torn["tokens_in"], torn["tokens_out"], grown["tokens_out"]) == (113, None, 42)
    assert (torn["trace_id"], torn["span_id"]) == (grown["trace_id"], grown["span_id"])
    assert torn["revised_ns"] < grown["revised_ns"]


def test_what_the_user_typed_while_the_agent_worked_is_in_the_prompt(take: Any) -> None:
    typed = {"type": "queued_command", "prompt": "and b.py too", "commandMode": "prompt"}
    attached = {**user("x", "u2", 4, ""), "type": "attachment", "attachment": typed}
    lines = [
        user("u1", None, 1, "look"),
        answer("a1", "u1", 2, "m1", asks("t1"), out=1),
        user("u2", "a1", 3, gives("t1", "a.py")),
        attached,
        answer("a2", "x", 5, "m2", said("ok"), out=1),
    ]
    taken = take(lines=lines)
    assert taken.texts(taken.kind("llm")[1]["input_ids"]) == ["look", "", "a.py", "and b.py too"]
    assert [s["name"] for s in taken.kind("event")] == ["user", "attachment/queued_command"]
