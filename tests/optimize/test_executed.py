"""A site run for real: what an environment says is the reward, what goes wrong in it is none."""

import json

import pytest
from flights import BASE, Scripted, calling, case, saying, user

from tracemill.errors import ConfigError
from tracemill.optimize.artifact import baseline
from tracemill.optimize.ladder import Executed
from tracemill.protocols import Environment
from tracemill.records import Site, Template


class Counter:
    """Says how many steps are left; gives 1 for "stop" in the right place. Faults where its task says so."""

    def __init__(self) -> None:
        self.closed = False

    def reset(self, task):
        if task.get("fault") == "reset":
            raise OSError("no such place")
        self.task, self.seen = task, []
        return task.get("first", "")

    def step(self, action):
        self.seen.append(action)
        if self.task.get("fault") == "step":
            raise ValueError("broken")
        if self.task.get("fault") == "reward":
            return "", 7.0, True
        if action == "stop":
            return "", float(len(self.seen) == self.task["wanted"]), True
        return f"{len(self.seen)} done", None, False

    def close(self):
        self.closed = True


def level(model, made=None, **options):
    def make():
        environment: Environment = Counter()
        if made is not None:
            made.append(environment)
        return environment

    return Executed(model=model, make=make, by="counter", valid=lambda case, output: bool(output), **options)


TALK = {"conversation": [user("count"), saying("an old answer"), user("and on")]}


def test_an_episode_goes_on_with_what_the_environment_says_until_it_is_over():
    made, model = [], Scripted(saying("go"), saying("go"), saying("stop"))
    (outcome,) = level(model, made)(BASE, [case(values=TALK, task={"wanted": 3})])
    assert (outcome.fidelity, outcome.reward, outcome.reached, outcome.judged_by) == ("executed", 1.0, 3, "counter")
    assert outcome.completion.text == "stop"
    assert outcome.completion.tokens_in == 30
    assert made[0].closed
    said = [message["content"] for message in model.asked[-1].messages]
    assert said == ["You book flights.", "count", "go", "1 done", "go", "2 done"], "nobody had answered before"


def test_calls_of_tools_are_actions_and_what_comes_back_answers_them():
    model = Scripted(calling(("find", {"to": "OSL"}), ("find", {"to": "BGO"})), saying("stop"))
    made = []
    (outcome,) = level(model, made)(BASE, [case(values=TALK, task={"wanted": 3, "first": "Ready."})])
    assert outcome.reward == 1.0
    assert [json.loads(one)["name"] for one in made[0].seen[:2]] == ["find", "find"]
    assert [m["role"] for m in model.asked[-1].messages] == ["system", "user", "user", "assistant", "tool", "tool"]
    assert model.asked[-1].messages[-1] == {"role": "tool", "tool_call_id": "c1", "content": "2 done"}


def test_the_number_of_calls_is_bounded_and_no_reward_is_not_zero():
    model = Scripted(*[saying("go")] * 5)
    (outcome,) = level(model, max_steps=4)(BASE, [case(values=TALK, task={"wanted": 1})])
    assert (outcome.reward, outcome.reached, len(model.asked), outcome.completion.error) == (None, 4, 4, None)
    with pytest.raises(ConfigError, match="max_steps is 0"):
        level(model, max_steps=0)


@pytest.mark.parametrize(("fault", "said"), [("reset", "no such place"), ("step", "broken"), ("reward", "7.0")])
def test_faults_of_the_environment_are_told_and_are_no_reward(fault, said):
    good, bad = case("a", values=TALK, task={"wanted": 1}), case("b", values=TALK, task={"wanted": 1, "fault": fault})
    model = Scripted(saying("stop"))
    first, second, third = level(model)(BASE, [good, bad, good])
    assert (first.reward, third.reward) == (1.0, 1.0)
    assert (second.reward, second.valid in (None, True)) == (None, True)
    assert second.completion.error.startswith("the environment failed: ")
    assert said in second.completion.error


def test_a_prompt_without_a_conversation_goes_on_behind_it():
    site = Site(
        site_id="s",
        site_version="v",
        agent_name=None,
        model="m",
        template=Template(messages=({"role": "user", "content": ["Do ", {"slot": "what"}]},)),
    )
    model = Scripted(saying("go"), saying("stop"))
    (outcome,) = level(model)(baseline(site), [case(values={"what": "it"}, task={"wanted": 2})])
    assert outcome.reward == 1.0
    assert [message["content"] for message in model.asked[-1].messages] == ["Do it", "go", "1 done"]
    (broken,) = level(model)(baseline(site), [case(values={}, task={"wanted": 2})])
    assert "'what'" in broken.completion.error
