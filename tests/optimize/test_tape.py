"""Properties of replays with recorded results: a log follows itself, and nothing else passes for it."""

import json
from typing import Any

from flights import BASE, Scripted, calling, case, episode, result, saying, user
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemill.optimize.ladder import Recorded, one_by_one
from tracemill.records import ChatMessage, Outcome

TOOLS = ("find", "book", "cancel")
ARGUMENTS = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.one_of(st.integers(-5, 5), st.text("xy 1", max_size=4), st.lists(st.integers(0, 3), max_size=2)),
    max_size=3,
)
CALL = st.tuples(st.sampled_from(TOOLS), ARGUMENTS)
LOG = st.lists(st.lists(CALL, min_size=1, max_size=3), max_size=4)


def logged(turns: list[list[tuple[str, Any]]]) -> list[ChatMessage]:
    talk = [user("go")]
    number = 0
    for calls in turns:
        talk.append(calling(*calls, first=number))
        talk += [result(number + at, f"result {number + at}") for at in range(len(calls))]
        number += len(calls)
    return [*talk, saying("the end")]


def replayed(talk: list[ChatMessage], script: list[ChatMessage], read_only: tuple[str, ...] = ()) -> Outcome:
    level = Recorded(
        model=Scripted(*script),
        episodes=lambda cases: {"t": episode(talk)},
        grade=one_by_one(lambda case, output: 1.0),
        valid=lambda case, output: True,
        read_only=frozenset(read_only),
    )
    (outcome,) = level(BASE, [case()])
    return outcome


def answers(talk: list[ChatMessage]) -> list[ChatMessage]:
    return [message for message in talk if message["role"] == "assistant"]


@given(turns=LOG, read_only=st.sets(st.sampled_from(TOOLS)))
@settings(max_examples=60, deadline=None)
def test_a_log_follows_itself_exactly_whatever_changes_nothing(turns: Any, read_only: Any) -> None:
    talk = logged(turns)
    outcome = replayed(talk, answers(talk), tuple(read_only))
    assert (outcome.fidelity, outcome.reward, outcome.reached) == ("recorded:exact", 1.0, len(turns) + 1)


@given(turns=LOG.filter(bool), data=st.data())
@settings(max_examples=60, deadline=None)
def test_other_writing_is_equivalent_and_another_call_is_divergent(turns: Any, data: Any) -> None:
    talk = logged(turns)
    place = data.draw(st.integers(0, len(turns) - 1))
    number = data.draw(st.integers(0, len(turns[place]) - 1))
    name, arguments = turns[place][number]

    def with_call(changed: dict[str, Any], called: str = name) -> list[ChatMessage]:
        calls = [*turns[place]]
        calls[number] = (called, changed)
        script = answers(talk)
        return [*script[:place], calling(*calls, first=50), *script[place + 1 :]]

    other = replayed(talk, with_call({**arguments, "nothing": None}))
    assert (other.fidelity, other.reward) == ("recorded:equivalent", 1.0)
    spaced = {key: f" {one} " if isinstance(one, str) else one for key, one in arguments.items()}
    assert replayed(talk, with_call(spaced)).reward == 1.0
    for wrong in (with_call({**arguments, "d": 99}), with_call(arguments, called="delete")):
        astray = replayed(talk, [*wrong, saying("the end")])
        assert (astray.fidelity, astray.reward, astray.reached) == ("recorded:divergent", None, place + 1)


@given(turns=LOG, script=st.lists(st.lists(CALL, min_size=1, max_size=3), max_size=5))
@settings(max_examples=60, deadline=None)
def test_whatever_a_model_does_a_replay_ends_and_only_its_end_has_a_reward(turns: Any, script: Any) -> None:
    talk = logged(turns)
    made = [calling(*calls, first=50 + 10 * at) for at, calls in enumerate(script)]
    outcome = replayed(talk, [*made, *[saying("the end")] * 20], ("find",))
    assert outcome.fidelity.startswith("recorded:")
    assert (outcome.reward is None) == (outcome.fidelity == "recorded:divergent")
    assert 1 <= outcome.reached <= 2 * (len(turns) + 1) + 2
    assert json.dumps(outcome.completion.text)
