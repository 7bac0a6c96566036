"""Claude stream-json and Agent SDK recordings: the session's own totals, sub-agents, the same ids as session files."""

import json
from typing import Any

import pytest

SESSION = "7ed3c21d-374b-491a-8c66-05e191f6a0be"


def record(kind: str, uuid: str, content: Any, parent: str | None = None, **message: Any) -> dict[str, Any]:
    found = {"role": kind, "content": content, **message}
    return {"type": kind, "uuid": uuid, "session_id": SESSION, "parent_tool_use_id": parent, "message": found}


def answer(uuid: str, message_id: str, block: Any, parent: str | None = None, fresh: int = 3) -> dict[str, Any]:
    usage = {
        "input_tokens": fresh,
        "cache_creation_input_tokens": 10,
        "cache_read_input_tokens": 100,
        "output_tokens": 1,
    }
    more = {"id": message_id, "model": "claude-sonnet-4-6", "stop_reason": None, "usage": usage}
    return record("assistant", uuid, [block], parent, **more)


INIT = {
    "type": "system",
    "subtype": "init",
    "session_id": SESSION,
    "uuid": "i",
    "cwd": "/w",
    "model": "claude-sonnet-4-6",
    "claude_code_version": "2.1.84",
    "tools": ["Bash", "Task"],
}
ASK = {
    "type": "user",
    "message": {"role": "user", "content": "look"},
    "session_id": "default",
    "parent_tool_use_id": None,
}
CALL = {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls"}}
GIVES = [{"type": "tool_result", "tool_use_id": "t1", "content": "a.py", "is_error": False}]
TURNS = [
    ASK,
    INIT,
    answer("a1", "msg_1", {"type": "thinking", "thinking": "hm"}),
    answer("a2", "msg_1", CALL),
    record("user", "u2", GIVES),
    answer("a3", "msg_2", {"type": "text", "text": "One file."}, fresh=4),
]


def result(**usage: int) -> dict[str, Any]:
    counted = {"cache_creation_input_tokens": 20, "cache_read_input_tokens": 200, **usage}
    return {
        "type": "result",
        "subtype": "success",
        "is_error": False,
        "num_turns": 2,
        "session_id": SESSION,
        "uuid": "r",
        "total_cost_usd": 0.5,
        "usage": counted,
        "result": "One file.",
    }


def test_the_final_result_is_never_counted_twice(take: Any) -> None:
    taken = take(lines=[*TURNS, result(input_tokens=7, output_tokens=40)])
    (root,) = taken.kind("agent")
    assert (root["cost_usd"], root["tokens_out"], root["tokens_in"], root["status"]) == (0.5, 40, None, "ok")
    assert [(c["tokens_in"], c["tokens_out"], c["cost_usd"]) for c in taken.kind("llm")] == [
        (113, None, None),
        (114, None, None),
    ]
    for column, total in (("cost_usd", 0.5), ("tokens_out", 40), ("tokens_in", 227), ("tokens_cache_read", 200)):
        assert sum(s[column] or 0 for s in taken.spans) == total


def test_a_session_of_one_call_has_its_totals_on_the_call(take: Any) -> None:
    only = [ASK, INIT, answer("a1", "msg_1", {"type": "text", "text": "4"})]
    usage = {"input_tokens": 3, "cache_creation_input_tokens": 10, "cache_read_input_tokens": 100, "output_tokens": 5}
    taken = take(lines=[*only, {**result(), "usage": usage}])
    (call,), (root,) = taken.kind("llm"), taken.kind("agent")
    assert (call["tokens_in"], call["tokens_out"], call["cost_usd"]) == (113, 5, 0.5)
    assert (root["tokens_in"], root["tokens_out"], root["cost_usd"]) == (None, None, None)


@pytest.mark.parametrize("wrapped", ["lines", "document"])
def test_recordings_of_the_agent_sdk_are_the_same_session(take: Any, wrapped: str) -> None:
    messages = [{"direction": "send" if m is ASK else "recv", "message": m} for m in TURNS]
    plain = take(lines=TURNS)
    if wrapped == "lines":
        taken = take(lines=messages)
    else:
        taken = take({"metadata": {"cli_version": "1"}, "messages": messages}, name="recording.json")
    assert [s["span_id"] for s in taken.spans] == [s["span_id"] for s in plain.spans]
    assert [s["input_ids"] for s in taken.kind("llm")] == [s["input_ids"] for s in plain.kind("llm")]
    assert {s["source_format"] for s in taken.spans} == {"claude-stream"}


def test_the_session_file_of_the_same_session_gives_the_same_calls(take: Any) -> None:
    parents = {"a1": None, "a2": "a1", "u2": "a2", "a3": "u2"}
    kept = [
        {
            "type": r["type"],
            "uuid": r["uuid"],
            "parentUuid": parents[r["uuid"]] or "u1",
            "sessionId": SESSION,
            "version": "2.1.84",
            "message": r["message"],
        }
        for r in TURNS
        if r.get("uuid") in parents
    ]
    first = {**kept[0], "type": "user", "uuid": "u1", "parentUuid": None, "message": ASK["message"]}
    file, stream = take(lines=[first, *kept]), take(lines=TURNS)
    assert {s["source_format"] for s in file.spans} == {"claude-code"}
    for kind in ("agent", "llm", "tool"):
        assert [(s["trace_id"], s["span_id"]) for s in file.kind(kind)] == [
            (s["trace_id"], s["span_id"]) for s in stream.kind(kind)
        ]
    assert [s["input_ids"] for s in file.kind("llm")] == [s["input_ids"] for s in stream.kind("llm")]


def test_sub_agents_hang_below_their_tool_call(take: Any) -> None:
    task = {"type": "tool_use", "id": "t9", "name": "Task", "input": {"prompt": "Count.", "subagent_type": "Explore"}}
    done = [{"type": "tool_result", "tool_use_id": "t9", "content": [{"type": "text", "text": "3"}]}]
    lines = [
        ASK,
        INIT,
        answer("a1", "msg_1", task),
        record("user", "s1", "Count.", "t9"),
        answer("s2", "msg_s", {"type": "text", "text": "3"}, "t9"),
        {**record("user", "u2", done), "tool_use_result": {"agentId": "ab12"}},
        answer("a2", "msg_2", {"type": "text", "text": "Three."}),
    ]
    taken = take(lines=lines)
    sub = next(s for s in taken.kind("agent") if s["parent_span_id"])
    inner = taken.kind("llm")[1]
    assert (sub["agent_name"], sub["parent_span_id"]) == ("claude-code/Explore", taken.kind("tool")[0]["span_id"])
    assert (inner["parent_span_id"], taken.texts(inner["input_ids"])) == (sub["span_id"], ["Count."])
    assert taken.texts(taken.kind("llm")[2]["input_ids"]) == ["look", "", "3"]


def test_pieces_of_answers_are_left_to_the_whole_answer_and_other_records_are_events(take: Any) -> None:
    piece = {"type": "stream_event", "session_id": SESSION, "parent_tool_use_id": None, "event": {"type": "ping"}}
    hook = {"type": "control_request", "request_id": "1", "request": {"subtype": "hook_callback"}}
    taken = take(lines=[INIT, piece, ASK, hook, *TURNS[2:], {"type": "assistant", "session_id": SESSION, "uuid": "x"}])
    assert [s["name"] for s in taken.kind("event")] == ["system/init", "user", "control_request"]
    assert json.loads(taken.kind("agent")[0]["attributes"])["tools"] == ["Bash", "Task"]
    assert [q["reason"] for q in taken.quarantine] == ["no assistant record: message is missing"]
    assert taken.ledger[0]["n_records"] == 9


def piece(kind: str, parent: str | None = None, **event: Any) -> dict[str, Any]:
    return {
        "type": "stream_event",
        "session_id": SESSION,
        "parent_tool_use_id": parent,
        "event": {"type": kind, **event},
    }


def pieces(message_id: str, *blocks: tuple[dict[str, Any], dict[str, Any]], parent: str | None = None) -> list[Any]:
    """The events of an answer up to the middle of its last block; blocks are their start and a delta."""
    usage = {"input_tokens": 3, "output_tokens": 1}
    begun = {"id": message_id, "type": "message", "role": "assistant", "model": "claude-sonnet-4-6", "usage": usage}
    found = [piece("message_start", parent, message={**begun, "content": []})]
    for index, (start, delta) in enumerate(blocks):
        if index:
            found.append(piece("content_block_stop", parent, index=index - 1))
        found.append(piece("content_block_start", parent, index=index, content_block=start))
        found.append(piece("content_block_delta", parent, index=index, delta=delta))
    return found


def saying(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    return {"type": "text", "text": ""}, {"type": "text_delta", "text": text}


def end(index: int, parent: str | None = None) -> list[Any]:
    delta = {"stop_reason": "end_turn"}
    return [
        piece("content_block_stop", parent, index=index),
        piece("message_delta", parent, delta=delta, usage={"output_tokens": 9}),
        piece("message_stop", parent),
    ]


def test_pieces_of_answers_that_were_printed_whole_change_nothing(take: Any) -> None:
    begun = pieces(
        "msg_1", ({"type": "thinking", "thinking": ""}, {"type": "thinking_delta", "thinking": "hm"}), (CALL, {})
    )
    lines = [ASK, INIT, *begun[:3], TURNS[2], *begun[3:], TURNS[3], *end(1), *TURNS[4:]]
    with_pieces, without = take(lines=lines), take(lines=TURNS)
    apart = ("source_line", "ingested_at")
    assert [{k: v for k, v in s.items() if k not in apart} for s in with_pieces.spans] == [
        {k: v for k, v in s.items() if k not in apart} for s in without.spans
    ]


def test_an_answer_that_was_cut_off_is_what_came_of_it(take: Any) -> None:
    whole = answer("a3", "msg_2", {"type": "text", "text": "First."})
    begun = pieces("msg_2", saying("First."), saying("And sec"))
    taken = take(lines=[*TURNS[:5], *begun[:3], whole, *begun[3:]])
    first, second = taken.kind("llm")
    assert (first["flags"], second["flags"]) == (["lossy"], ["lossy", "truncated"])
    assert [part["content"] for _, parts in taken.said(second["output_ids"]) for part in parts] == ["First.", "And sec"]
    assert (second["response_id"], second["model"], second["tokens_out"]) == ("msg_2", "claude-sonnet-4-6", None)
    assert taken.texts(second["input_ids"])[0] == "look"
    assert (taken.quarantine, taken.ledger[0]["n_records"]) == ([], 12)


def test_an_answer_that_was_cut_off_between_two_blocks_says_so(take: Any) -> None:
    begun = pieces("msg_2", saying("First."), saying("And sec"))[:4]
    taken = take(lines=[*TURNS[:5], *begun[:3], answer("a3", "msg_2", {"type": "text", "text": "First."}), *begun[3:]])
    cut = taken.kind("llm")[1]
    assert (taken.texts(cut["output_ids"]), cut["flags"]) == (["First."], ["lossy", "truncated"])


def test_answers_that_were_cut_off_one_after_the_other_stay_in_their_order(take: Any) -> None:
    taken = take(lines=[ASK, INIT, *pieces("msg_1", saying("One")), *pieces("msg_2", saying("Two"))])
    assert [taken.texts(call["output_ids"]) for call in taken.kind("llm")] == [["One"], ["Two"]]


def test_of_an_answer_without_a_whole_block_the_pieces_are_all_there_is(take: Any) -> None:
    task = {"type": "tool_use", "id": "t9", "name": "Task", "input": {"prompt": "Count."}}
    run = {"type": "tool_use", "id": "t2", "name": "Bash", "input": {}}
    inner = pieces("msg_s", (run, {"type": "input_json_delta", "partial_json": '{"command": "l'}), parent="t9")
    taken = take(lines=[ASK, INIT, answer("a1", "msg_1", task), record("user", "s1", "Count.", "t9"), *inner])
    cut = taken.kind("llm")[1]
    sub = next(s for s in taken.kind("agent") if s["parent_span_id"])
    assert (cut["parent_span_id"], cut["flags"]) == (sub["span_id"], ["lossy", "truncated"])
    assert taken.said(cut["output_ids"]) == [
        ("assistant", [{"type": "tool_call", "id": "t2", "name": "Bash", "arguments": '{"command": "l'}])
    ]
    assert taken.texts(cut["input_ids"]) == ["Count."]


def test_an_interrupted_answer_stands_before_what_was_said_next(take: Any) -> None:
    failed = piece("error", error={"type": "overloaded_error", "message": "Overloaded"})
    asks = [{**ASK, "message": {"role": "user", "content": text}} for text in ("again", "and again")]
    done = answer("a9", "msg_9", {"type": "text", "text": "Yes."})
    lines = [ASK, INIT, *pieces("msg_1", saying("One fi")), asks[0], *pieces("msg_2"), failed, asks[1], done]
    taken = take(lines=lines)
    one, two, last = taken.kind("llm")
    assert [call["status"] for call in (one, two, last)] == ["ok", "error", "ok"]
    assert (two["error_message"], two["output_ids"] or None) == ("Overloaded", None)
    assert taken.texts(last["input_ids"]) == ["look", "One fi", "again", "and again"]


def test_a_finished_answer_that_was_never_printed_is_whole(take: Any) -> None:
    taken = take(lines=[ASK, INIT, *pieces("msg_1", saying("One file.")), *end(0)])
    (call,) = taken.kind("llm")
    assert (taken.texts(call["output_ids"]), call["flags"], call["finish_reasons"]) == (
        ["One file."],
        ["lossy"],
        ["end_turn"],
    )
    assert call["tokens_out"] == 9
