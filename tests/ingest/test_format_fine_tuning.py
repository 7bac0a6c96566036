"""Fine-tuning examples and preference pairs."""

import json
from typing import Any

SYSTEM = {"role": "system", "content": "Be brief."}
HELLO = {"role": "user", "content": "hi"}
CALL = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": "{}"}}
TOOLS = [{"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}]


def says(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def test_an_example_is_a_conversation_with_the_tools_offered(take: Any) -> None:
    asks = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    result = {"role": "tool", "tool_call_id": "c1", "content": "found"}
    line = {"messages": [SYSTEM, HELLO, asks, result, says("done")], "tools": TOOLS, "parallel_tool_calls": False}
    taken = take(lines=[line])
    assert [span["kind"] for span in taken.spans] == ["agent", "llm", "tool", "llm"]
    calls = taken.kind("llm")
    assert taken.said([calls[0]["tool_definitions_id"]]) == [("tools", TOOLS)]
    assert (calls[0]["tokens_in"], calls[0]["start_ns"], calls[0]["model"]) == (None, None, None)
    assert json.loads(taken.spans[0]["attributes"]) == {"parallel_tool_calls": False}
    assert taken.ledger[0]["format_reason"] == "messages with the tools of fine-tuning examples"


def test_answers_of_weight_0_are_flagged_and_the_others_not(take: Any) -> None:
    messages = [HELLO, says("no", weight=0), {"role": "user", "content": "again"}, says("yes", weight=1), HELLO]
    taken = take(lines=[{"messages": [*messages, says("bye")]}])
    assert [span["flags"] for span in taken.kind("llm")] == [["lossy", "weight_0"], ["lossy"], ["lossy"]]
    assert taken.ledger[0]["source_format"] == "fine-tuning"


def test_a_bad_example_is_refused_with_its_line(take: Any) -> None:
    lines = [{"messages": [HELLO, says("a", weight=1)]}, {"messages": "x"}, "{torn"]
    taken = take(lines=lines, format="fine-tuning")
    assert len(taken.kind("llm")) == 1
    assert [row["line"] for row in taken.quarantine] == [2, 3]


def pair(taken: Any) -> dict[str, float]:
    """Answer text to its preference."""
    outputs = {span["trace_id"]: taken.texts(span["output_ids"])[-1] for span in taken.kind("llm")}
    return {outputs[row["target_id"]]: row["value"] for row in taken.scores if row["name"] == "preference"}


def test_an_openai_pair_is_two_answers_to_one_prompt_scored_1_and_0(take: Any) -> None:
    line = {
        "input": {"messages": [SYSTEM, HELLO], "tools": TOOLS, "parallel_tool_calls": True},
        "preferred_output": [says("good")],
        "non_preferred_output": [says("bad")],
    }
    taken = take(lines=[line])
    first, second = taken.spans
    assert pair(taken) == {"good": 1.0, "bad": 0.0}
    assert first["trace_id"] != second["trace_id"]
    assert taken.prompt(first) == taken.prompt(second)
    assert taken.texts(taken.prompt(first)) == ["Be brief.", "hi"]
    assert first["tool_definitions_id"] == second["tool_definitions_id"] is not None
    assert {row["target_kind"] for row in taken.scores} == {"trajectory"}
    assert json.loads(first["attributes"])["pair"] == json.loads(second["attributes"])["pair"]


def test_the_shapes_of_trl_pairs_are_the_same_pair(take: Any) -> None:
    good, bad = [HELLO, says("good")], [HELLO, says("bad")]
    shapes = [
        {"prompt": "hi", "chosen": "good", "rejected": "bad"},
        {"prompt": [HELLO], "chosen": [says("good")], "rejected": [says("bad")]},
        {"chosen": good, "rejected": bad},
        {"prompt": "hi", "chosen": good, "rejected": bad, "score_chosen": 4.5, "score_rejected": 2.0},
    ]
    found = [take(lines=[shape], name=f"{n}.jsonl") for n, shape in enumerate(shapes)]
    assert [pair(taken) for taken in found] == [{"good": 1.0, "bad": 0.0}] * 4
    assert len({tuple(span["span_id"] for span in taken.spans) for taken in found}) == 1
    assert sorted(row["value"] for row in found[3].scores if row["name"] == "score") == [2.0, 4.5]


def test_one_answer_in_two_pairs_is_one_trajectory_with_two_scores(take: Any) -> None:
    lines = [{"prompt": "hi", "chosen": a, "rejected": b} for a, b in (("best", "good"), ("good", "bad"))]
    taken = take(lines=lines)
    assert len({span["trace_id"] for span in taken.spans}) == 3
    assert sorted(row["value"] for row in taken.scores) == [0.0, 0.0, 1.0, 1.0]


def test_a_pair_without_an_answer_is_refused_with_its_line(take: Any) -> None:
    lines = [{"prompt": "hi", "chosen": "a", "rejected": "b"}, {"prompt": "hi", "chosen": "a", "rejected": ""}]
    taken = take(lines=lines)
    assert len(taken.spans) == 2
    assert [row["line"] for row in taken.quarantine] == [2]
