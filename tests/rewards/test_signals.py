"""What users did after an answer: which signals speak of which episode, and what keeps them from speaking nonsense."""

import json
from typing import Any

import pytest

from tracemill.errors import ConfigError
from tracemill.ids import content_id
from tracemill.rewards.signals import Signals
from tracemill.rewards.words import SPOKEN, languages, patterns

SECOND = 1_000_000_000


def said(lake: Any, role: str, text: str) -> str:
    message_id = content_id("said", role, text)
    lake.add("messages", {"message_id": message_id, "role": role, "text": text})
    return message_id


def episode(
    lake: Any, trajectory: str, *turns: str, at: int | None = None, answer: str = "It is done.", **more: Any
) -> None:
    """An episode whose user says one turn after the other, with an answer between them; `at` in seconds."""
    start = {} if at is None else {"start_ns": at * SECOND, "end_ns": (at + 5) * SECOND}
    lake.add("trajectories", {"trajectory_id": trajectory, "agent_name": "desk", **start, **more})
    history: list[str] = []
    for step, turn in enumerate(turns):
        history.append(said(lake, "user", turn))
        output = said(lake, "assistant", answer)
        row = {"trajectory_id": trajectory, "step": step, "span_id": f"{trajectory}-{step}"}
        lake.add("transitions", {**row, "input_ids": list(history), "output_ids": [output]})
        history.append(output)


def signals(lake: Any, model: Signals | None = None) -> dict[str, list[str]]:
    return {
        row["target_id"]: sorted({one["signal"] for one in json.loads(row["evidence"])["signals"]})
        for row in (model or Signals()).score(lake.con, now_ns=1).to_pylist()
    }


ASK = "Where is my order 12 from last week?"


@pytest.mark.parametrize(
    ("reply", "signal"),
    [
        (ASK, "retry"),
        ("Where is order 12 from last week please?", "rephrase"),
        ("No, that is wrong, look again.", "correction"),
        ("Never mind, I'll do it myself", "gave_up"),
        ("I want to talk to a human now", "escalation"),
        ("Perfect, thank you!", "acceptance"),
        ("Das ist falsch!", "correction"),
        ("ça ne marche pas du tout", "correction"),
        ("这个不对", "correction"),
        ("Muchas gracias", "acceptance"),
    ],
)
def test_the_next_turn_speaks_of_the_answer_before_it(lake: Any, reply: str, signal: str) -> None:
    episode(lake, "t", ASK, reply)
    (row,) = Signals().score(lake.con, now_ns=1).to_pylist()
    (told,) = json.loads(row["evidence"])["signals"]
    assert (told["signal"], told["message_id"]) == (signal, content_id("said", "user", reply))
    assert (row["value"] > 0.5) == (signal == "acceptance")
    assert 0 < row["confidence"] <= 0.6
    assert (row["family"], row["source"]) == ("signals", "code")


def test_evidence_says_what_was_found_and_where(lake: Any) -> None:
    reply = "Hm. That’s not right: it was blue."
    episode(lake, "t", ASK, reply)
    (row,) = Signals().score(lake.con, now_ns=1).to_pylist()
    (told,) = json.loads(row["evidence"])["signals"]
    assert told["found"] == "That’s not right"
    assert reply[told["at_char"] - 1 :].lstrip().startswith(told["found"])


@pytest.mark.parametrize(
    "reply",
    [
        "And where is order 13?",
        "What does wrongdoing mean?",
        "Send it to the thanksgiving address",
        "Observation: that's wrong, no such order",
        "x" * 400 + " that's wrong",
    ],
)
def test_nothing_is_said_where_nothing_speaks(lake: Any, reply: str) -> None:
    episode(lake, "t", ASK, reply)
    episode(lake, "alone", ASK)
    assert signals(lake) == {}


def test_thanks_for_a_wrong_answer_are_no_praise(lake: Any) -> None:
    episode(lake, "t", ASK, "Thanks, but that's wrong")
    assert signals(lake) == {"t": ["correction"]}


def test_turns_of_the_prompts_examples_are_not_the_users(lake: Any) -> None:
    lake.add("trajectories", {"trajectory_id": "t", "agent_name": "desk"})
    shown = [said(lake, "user", text) for text in ("Where is 1?", "that's wrong", "Where is order 7?")]
    row = {"trajectory_id": "t", "step": 0, "input_ids": shown, "output_ids": [said(lake, "assistant", "here")]}
    lake.add("transitions", row)
    assert signals(lake) == {}


def test_the_sessions_next_episode_speaks_of_the_one_before(lake: Any) -> None:
    episode(lake, "a", ASK, at=0, session_id="s")
    episode(lake, "b", "Where is order 12 of last week from?", at=60, session_id="s")
    episode(lake, "c", "thank you", at=120, session_id="s")
    episode(lake, "other", ASK, at=10, session_id="z")
    rows = {row["target_id"]: row for row in Signals().score(lake.con, now_ns=1).to_pylist()}
    assert set(rows) == {"a", "b"}
    (told,) = json.loads(rows["a"]["evidence"])["signals"]
    assert (told["signal"], told["next_trajectory_id"], told["after_s"]) == ("rephrase", "b", 55.0)
    assert rows["b"]["value"] > 0.5


def test_what_is_said_much_later_or_beside_it_does_not_count(lake: Any) -> None:
    episode(lake, "a", ASK, at=0, session_id="s")
    episode(lake, "b", ASK, at=3, session_id="s")
    episode(lake, "c", ASK, at=90_000, session_id="s")
    assert signals(lake) == {}
    assert signals(lake, Signals(patience_s=100_000)) == {"b": ["retry"]}


def test_a_question_that_nobody_answers_is_abandoned_once_the_log_went_on(lake: Any) -> None:
    episode(lake, "a", ASK, at=0, session_id="s", answer="Which order do you mean?")
    episode(lake, "done", ASK, at=0, session_id="r")
    episode(lake, "crashed", ASK, at=0, session_id="q", outcome="error")
    assert signals(lake) == {}
    episode(lake, "late", "hello", at=4000, session_id="z")
    assert signals(lake) == {"a": ["abandoned"], "crashed": ["abandoned"]}


def test_events_tools_and_kept_texts_speak_too(lake: Any) -> None:
    for name in ("copied", "undone", "handed", "kept", "changed", "step"):
        episode(lake, name, ASK, answer="Order 12 is in Berlin and comes tomorrow.")
    for name, event in (("copied", "chat.answer_copied"), ("undone", "edit.undo"), ("copied", "copywriting")):
        lake.add("spans", {"trace_id": name, "span_id": f"{name}-{event}", "kind": "event", "name": event})
    handing = {"trace_id": "handed", "span_id": "h", "kind": "tool", "tool_name": "transfer_to_human_agents"}
    lake.add("spans", handing)
    lake.score("kept", "kept", label="Order 12 is in Berlin and comes today.", source="user")
    lake.score("changed", "final_text", label="We apologise. Please call us.", source="code")
    lake.score("step/0", "kept", label="Order 12 is in Berlin and comes tomorrow.", target_kind="step", source="code")
    rows = {row["target_id"]: row for row in Signals().score(lake.con, now_ns=1).to_pylist()}
    assert {name: row["value"] > 0.5 for name, row in rows.items()} == {
        "copied": True,
        "undone": False,
        "handed": False,
        "kept": True,
        "changed": False,
        "step": True,
    }
    assert len(json.loads(rows["copied"]["evidence"])["signals"]) == 1
    assert json.loads(rows["kept"]["evidence"])["signals"][0]["similarity"] == pytest.approx(0.85, abs=0.05)
    assert rows["step"]["value"] == pytest.approx(0.8808, abs=1e-3)


def test_a_signal_that_most_users_of_an_agent_give_is_left_out(lake: Any) -> None:
    for user in range(30):
        reply = "Where is order 12 from last week now?" if user < 20 else "that's wrong" if user < 22 else "fine"
        episode(lake, f"t{user}", ASK, reply, user_key=f"u{user}")
    assert signals(lake) == {"t20": ["correction"], "t21": ["correction"]}


def test_one_busy_user_cannot_silence_a_signal_and_weighs_little(lake: Any) -> None:
    for user in range(25):
        episode(lake, f"t{user}", ASK, "that's wrong" if user == 0 else "fine", user_key=f"u{user}")
    for place in range(64):
        episode(lake, f"busy{place}", ASK, "that's wrong", user_key="busy")
    rows = {row["target_id"]: row for row in Signals(user_cap=10).score(lake.con, now_ns=1).to_pylist()}
    assert len(rows) == 65
    assert rows["busy5"]["confidence"] == pytest.approx(rows["t0"]["confidence"] / 8)


def test_what_speaks_no_more_is_taken_back_and_nothing_is_said_twice(lake: Any) -> None:
    for user in range(20):
        episode(lake, f"t{user}", ASK, "that's wrong" if user < 9 else "fine", user_key=f"u{user}")
    assert len(lake.run(Signals())) == 9
    assert lake.run(Signals(), now=200) == {}
    for user in range(20, 40):
        episode(lake, f"t{user}", ASK, "that's wrong", user_key=f"u{user}")
    assert lake.run(Signals(), now=300) == {f"t{user}": None for user in range(9)}
    assert lake.run(Signals(), now=400) == {}


def test_weights_words_and_languages_are_settings(lake: Any) -> None:
    episode(lake, "t", ASK, "das ist falsch")
    episode(lake, "u", ASK, "bogus!")
    assert signals(lake, Signals(languages=["en"])) == {}
    assert signals(lake, Signals(languages=["en"], words={"correction": ["bogus"]})) == {"u": ["correction"]}
    assert signals(lake, Signals(weights={"correction": 0})) == {}
    for wrong in ({"languages": ["xx"]}, {"words": {"x": []}}, {"weights": {"x": 1}}, {"alike": 0}):
        with pytest.raises(ConfigError, match="reward 'signals'"):
            Signals(**wrong)


def test_every_language_has_words_for_every_signal() -> None:
    for language, words in languages().items():
        assert set(SPOKEN) <= set(words), language
        assert all(pattern for pattern in patterns([language]).values())
