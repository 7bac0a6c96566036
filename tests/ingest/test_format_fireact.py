"""FireAct: question answering in turns, as messages or as one text."""

from typing import Any

RUN = {
    "reward": True,
    "em": "False",
    "f1": 0.5,
    "gt": "james worthy",
    "pred": "worthy",
    "prompt": [],
    "traj": [
        {"role": "user", "content": "Who is older?"},
        {"role": "assistant", "content": "Thought: I search.\nAction: search[Danny Green]"},
        {"role": "user", "content": "Observation: June 22, 1987"},
        {"role": "assistant", "content": "Thought: I know.\nAction: finish[worthy]"},
        {"role": "user", "content": "Observation: Episode finished, reward = True"},
    ],
}
TEXT = (
    "Question: Who is older?\nThought 1: I search.\nAction 1: search[Danny Green]\nObservation 1: June 22, 1987\n"
    "Thought 2: I know.\nAction 2: finish[worthy]\nObservation 2: Episode finished, reward = 1\n"
)


def test_turns_are_calls_and_observations_tools(take: Any) -> None:
    taken = take({"62": RUN, "63": {**RUN, "pred": "x"}}, name="run.json")
    assert taken.ledger[0]["source_format"] == "fireact"
    spans = [span for span in taken.spans if span["trace_id"] == taken.spans[0]["trace_id"]]
    assert [(s["kind"], s["seq"]) for s in spans] == [("agent", -1), ("llm", 1), ("tool", 2), ("llm", 3), ("tool", 4)]
    assert spans[0]["task_key"] == "fireact:62"
    assert (spans[2]["tool_name"], spans[2]["tool_args"], spans[2]["tool_result"]) == (
        "search",
        "Danny Green",
        "June 22, 1987",
    )
    assert taken.texts(spans[3]["input_ids"])[1].startswith("Thought: I search.")
    assert {(s["name"], s["value"]) for s in taken.scores} == {("reward", 1.0), ("em", 0.0), ("f1", 0.5)}
    assert {s["source"] for s in taken.scores} == {"env"}


def test_a_trajectory_in_one_text_is_taken_apart(take: Any) -> None:
    taken = take({"62": {**RUN, "traj": TEXT}}, name="run.json")
    assert [span["kind"] for span in taken.spans] == ["agent", "llm", "tool", "llm", "tool"]
    first = taken.kind("llm")[0]
    assert taken.texts(first["input_ids"]) == ["Question: Who is older?"]
    assert taken.texts(first["output_ids"]) == ["Thought 1: I search.\nAction 1: search[Danny Green]"]
    assert taken.kind("tool")[0]["tool_result"] == "June 22, 1987"


def test_a_reward_shown_before_the_last_answer_leaks(take: Any) -> None:
    shown = [*RUN["traj"], {"role": "assistant", "content": "Action: finish[james worthy]"}]  # type: ignore[misc]
    assert "reward_leak" in take({"62": {**RUN, "traj": shown}}, name="a.json").kind("llm")[0]["flags"]
    assert "reward_leak" not in take({"62": RUN}, name="b.json").kind("llm")[0]["flags"]


def test_records_in_lines_and_broken_ones(take: Any) -> None:
    taken = take(lines=[{**RUN, "task_id": 7}, {**RUN, "traj": []}, {"em": 1, "f1": 2, "traj": 3, "reward": 0}])
    assert [span["task_key"] for span in taken.kind("agent")] == ["fireact:7"]
    assert len(taken.quarantine) == 2
