"""Who&When: failed runs of teams with the agent and step that people hold responsible."""

import json
from typing import Any

CHAT = {
    "is_correct": "False",
    "question": "How many?",
    "question_ID": "q-1",
    "level": "2",
    "ground_truth": "8",
    "history": [
        {"content": "You are given a task.", "role": "assistant", "name": "Excel_Expert"},
        {"content": "exitcode: 1 (execution failed)\nCode output: x", "role": "user", "name": "Computer_terminal"},
        {"content": "Try again.", "role": "user", "name": "Checker"},
        {"content": "It is 4.", "role": "assistant", "name": "Excel_Expert"},
    ],
    "mistake_agent": "Excel_Expert",
    "mistake_step": "3",
    "mistake_reason": "It did not look.",
    "system_prompt": {"Excel_Expert": "You know Excel.", "Checker": "You check."},
}
TEAM = {
    "question": "Where?",
    "question_ID": "q-2",
    "is_corrected": False,
    "history": [
        {"content": "Where?", "role": "human"},
        {"content": "Initial plan: look.", "role": "Orchestrator (thought)"},
        {"content": "Please look.", "role": "Orchestrator (-> WebSurfer)"},
        {"content": "I clicked. Here is a screenshot.", "role": "WebSurfer"},
        {"content": "Next speaker Assistant", "role": "Orchestrator (thought)"},
        {"content": "In the north.", "role": "Assistant"},
        {"content": "ok", "role": "ComputerTerminal"},
    ],
    "mistake_agent": "WebSurfer",
    "mistake_step": "99",
}


def test_a_group_chat_has_its_experts_calls_and_the_terminals_runs(take: Any) -> None:
    taken = take(CHAT, name="1.json")
    assert taken.ledger[0]["source_format"] == "who-and-when"
    assert [(s["kind"], s["name"], s["seq"]) for s in taken.spans] == [
        ("agent", "run", -1),
        ("event", "Excel_Expert", 0),
        ("tool", "Computer_terminal", 1),
        ("llm", "Checker", 2),
        ("llm", "Excel_Expert", 3),
    ]
    terminal = taken.kind("tool")[0]
    assert (terminal["status"], terminal["error_message"]) == ("error", CHAT["history"][1]["content"])  # type: ignore[index]
    last = taken.kind("llm")[-1]
    assert (last["agent_name"], taken.texts(last["system_ids"])) == ("Excel_Expert", ["You know Excel."])
    assert [role for role, _ in taken.said(last["input_ids"])] == ["assistant", "user", "user"]
    assert taken.spans[0]["task_key"] == "who-and-when:q-1"


def test_labels_are_typed_scores_of_the_run_and_of_the_step(take: Any) -> None:
    taken = take(CHAT, name="1.json")
    scores = {(s["name"], s["target_kind"], s["value"], s["label"], s["source"]) for s in taken.scores}
    assert scores == {
        ("reward", "trajectory", 0.0, None, "env"),
        ("mistake_agent", "trajectory", None, "Excel_Expert", "human"),
        ("mistake_step", "trajectory", None, "3", "human"),
        ("step_correct", "span", 0.0, "mistake", "human"),
    }
    step = next(s for s in taken.scores if s["target_kind"] == "span")
    assert step["target_id"] == taken.kind("llm")[-1]["span_id"]
    assert json.loads(step["evidence"])["reason"] == "It did not look."


def test_an_orchestrators_thoughts_are_calls_and_what_it_repeats_is_none(take: Any) -> None:
    taken = take(TEAM, name="2.json")
    assert [(s["kind"], s["agent_name"], s["seq"]) for s in taken.spans[1:]] == [
        ("llm", "Orchestrator", 1),
        ("event", "Orchestrator", 2),
        ("agent", "WebSurfer", 3),
        ("event", "Orchestrator", 4),
        ("llm", "Assistant", 5),
        ("tool", None, 6),
    ]
    assert all("synthetic" in span["flags"] for span in taken.kind("event"))


def test_a_step_that_is_not_there_is_only_a_label(take: Any) -> None:
    taken = take(TEAM, name="2.json")
    assert {s["target_kind"] for s in taken.scores} == {"trajectory"}


def test_a_record_without_a_history_is_quarantined(take: Any) -> None:
    taken = take(lines=[CHAT, {**CHAT, "history": []}, '{"history": 1'], name="runs.jsonl")
    assert len(taken.kind("agent")) == 1
    assert [bad["line"] for bad in taken.quarantine] == [2, 3]
