"""OpenHands V1: typed events of one conversation."""

import json
from typing import Any


def event(kind: str, id: str, at: int, **fields: Any) -> dict[str, Any]:
    return {"kind": kind, "id": id, "timestamp": f"2026-07-03T10:00:{at:02}", **fields}


def says(id: str, at: int, source: str, text: str, **fields: Any) -> dict[str, Any]:
    role = "user" if source == "user" else "assistant"
    message = {"role": role, "content": [{"type": "text", "text": text}]}
    return event("MessageEvent", id, at, source=source, llm_message=message, **fields)


def acts(id: str, at: int, call: str, response: str, **fields: Any) -> dict[str, Any]:
    return event(
        "ActionEvent", id, at, source="agent", tool_name="terminal", tool_call_id=call, llm_response_id=response,
        tool_call={"id": call, "name": "terminal", "arguments": '{"command":"pwd"}'}, **fields,
    )  # fmt: skip


def sees(id: str, at: int, action: str, text: str, **fields: Any) -> dict[str, Any]:
    content = [{"type": "text", "text": text}]
    return event("ObservationEvent", id, at, action_id=action, observation={"content": content, **fields})


TALK: list[Any] = [
    event(
        "SystemPromptEvent", "s", 0, source="agent", tools=[{"name": "terminal", "description": "runs"}],
        system_prompt={"type": "text", "text": "You are OpenHands."}, dynamic_context={"text": "The repo is x."},
    ),
    says("m1", 1, "user", "Look around."),
    acts("a1", 2, "c1", "r1", thought=[{"type": "text", "text": "I look."}], reasoning_content="hm"),
    acts("a2", 2, "c2", "r1", thought=[]),
    sees("o1", 4, "a1", "/workspace", is_error=False),
    event("UserRejectObservation", "o2", 5, action_id="a2", tool_name="terminal", rejection_reason="not now"),
    says("m2", 6, "agent", "Done.", llm_response_id="r2"),
    event("TokenEvent", "t", 7, source="agent", prompt_token_ids=[1, 2], response_token_ids=[3]),
    event(
        "ConversationStateUpdateEvent", "u", 8, key="stats", value={"usage_to_metrics": {"agent": {"token_usages": [
            {"response_id": "r1", "model": "m", "prompt_tokens": 50, "completion_tokens": 5, "cache_read_tokens": 10,
             "reasoning_tokens": 2},
        ]}}},
    ),
]  # fmt: skip


def test_actions_of_one_answer_are_one_call(take: Any) -> None:
    taken = take(TALK, name="events.json")
    assert taken.ledger[0]["source_format"] == "openhands-sdk"
    first, second = taken.kind("llm")
    (answer,) = taken.said(first["output_ids"])
    assert [(part["type"], part.get("id"), part.get("content")) for part in answer[1]] == [
        ("reasoning", None, "hm"),
        ("text", None, "I look."),
        ("tool_call", "c1", None),
        ("tool_call", "c2", None),
    ]
    assert taken.said(first["system_ids"])[0][1] == [
        {"type": "text", "content": "You are OpenHands."},
        {"type": "text", "content": "The repo is x."},
    ]
    assert [role for role, _ in taken.said(second["input_ids"])] == ["user", "assistant", "tool", "tool"]
    assert taken.texts(second["output_ids"]) == ["Done."]
    assert first["tool_definitions_id"] is not None


def test_observations_are_tools_and_a_rejection_is_an_error(take: Any) -> None:
    looked, rejected = take(TALK, name="events.json").kind("tool")
    assert (looked["tool_name"], looked["tool_call_id"], looked["status"], looked["tool_result"]) == (
        "terminal",
        "c1",
        "ok",
        "/workspace",
    )
    assert looked["end_ns"] - looked["start_ns"] == 2_000_000_000
    assert (rejected["status"], rejected["error_type"]) == ("error", "UserRejectObservation")
    assert rejected["error_message"] == "not now"


def test_usage_and_token_ids_come_from_other_events(take: Any) -> None:
    first, second = take(TALK, name="events.json").kind("llm")
    assert (first["tokens_in"], first["tokens_out"], first["tokens_cache_read"], first["tokens_reasoning"]) == (
        50,
        5,
        10,
        2,
    )
    assert (first["model"], second["model"], second["tokens_in"]) == ("m", None, None)
    assert (second["input_token_ids"], second["output_token_ids"], first["output_token_ids"]) == ([1, 2], [3], None)


def test_a_condensation_takes_events_out_of_the_prompt(take: Any) -> None:
    talk = [
        says("m1", 1, "user", "One."),
        says("m2", 2, "agent", "Two.", llm_response_id="r1"),
        says("m3", 3, "user", "Three."),
        event("Condensation", "k", 4, forgotten_event_ids=["m1", "m2"], summary="They counted.", summary_offset=0,
              llm_response_id="r2"),
        says("m4", 5, "agent", "Four.", llm_response_id="r3"),
    ]  # fmt: skip
    taken = take(lines=talk, name="events.jsonl")
    said, condensed, last = taken.kind("llm")
    assert (condensed["name"], condensed["input_ids"], condensed["flags"]) == ("condense", None, ["clock", "lossy"])
    assert taken.texts(condensed["output_ids"]) == ["They counted."]
    assert taken.texts(last["input_ids"]) == ["They counted.", "Three."]
    assert said["flags"] == ["clock"]


def test_a_page_of_items_gives_its_good_events(take: Any) -> None:
    strange = sees("o9", 3, "nobody", "Ready.")
    nameless = {key: value for key, value in TALK[1].items() if key != "id"}
    taken = take({"items": [None, nameless, TALK[1], strange, says("m9", 9, "agent", "Ok.")]}, name="page.json")
    assert [bad["reason"] for bad in taken.quarantine] == [
        "no event: not a JSON object",
        "no OpenHands event: kind or id is missing",
    ]
    assert taken.kind("event")[0]["name"] == "ObservationEvent"
    assert taken.texts(taken.kind("llm")[0]["input_ids"]) == ["Look around.", "Ready."]
    assert taken.ledger[0]["n_records"] == 5


def test_a_conversation_that_goes_on_is_the_same_trace(take: Any) -> None:
    short, whole = take(TALK[:5], name="a.json"), take(TALK, name="b.json")
    assert {span["span_id"] for span in short.spans} < {span["span_id"] for span in whole.spans}


def test_an_error_of_the_scaffold_answers_its_call(take: Any) -> None:
    error = event(
        "AgentErrorEvent", "e", 3, source="agent", tool_name="terminal", tool_call_id="c1", error="no such tool"
    )
    taken = take([TALK[1], acts("a1", 2, "c1", "r1"), error], name="e.json")
    (failed,) = taken.kind("tool")
    assert (failed["status"], failed["error_type"], json.loads(failed["tool_args"])) == (
        "error",
        "AgentErrorEvent",
        {"command": "pwd"},
    )


def test_an_event_of_impossible_shape_costs_only_itself(take: Any) -> None:
    broken = event("MessageEvent", "m0", 0, source="agent", llm_message={"role": "assistant", "content": {"parts": 1}})
    strange = {**acts("a0", 0, "c0", "r0"), "tool_call_id": {"a": []}, "thought": 7, "thinking_blocks": "x"}
    taken = take([*TALK, broken, strange, {**TALK[4], "id": "o3", "observation": 3}], name="events.json")
    assert {span["span_id"] for span in take(TALK, name="b.json").spans} <= {span["span_id"] for span in taken.spans}
    assert taken.ledger[0]["n_records"] == len(TALK) + 3
