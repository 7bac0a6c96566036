"""A site run for real: what an environment says is the reward, what goes wrong in it is none."""

import json
from dataclasses import replace
from hashlib import md5

import pytest
from flights import BASE, BOOK, BOOKED, FIND, Scripted, answer, calling, case, episode, saying, user

from tracemill.errors import BudgetError, ConfigError
from tracemill.optimize.artifact import baseline
from tracemill.optimize.evidence import called
from tracemill.optimize.ladder import Executed, Simulated, one_by_one
from tracemill.optimize.replay import Budget, CachedModel, Ledger
from tracemill.protocols import Environment
from tracemill.records import Site, Template


class Counter:
    """Says how many steps are left; gives 1 for "stop" in the right place. Faults where its task says so."""

    def __init__(self) -> None:
        self.closed = False

    def reset(self, task):
        self.task, self.seen = task, []
        if task.get("fault") == "reset":
            raise OSError("no such place")
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
        if self.task.get("fault") == "close":
            raise OSError("it hangs")


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
    assert {one.about for one in model.asked} == {(md5(b"t").hexdigest(),)}
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
    assert called(outcome) == [
        'On the way it called <log>"find({\\"to\\": \\"OSL\\"})"</log>, which gave <log>"1 done"</log>.',
        'On the way it called <log>"find({\\"to\\": \\"BGO\\"})"</log>, which gave <log>"2 done"</log>.',
    ]


def test_the_number_of_calls_is_bounded_and_no_reward_is_not_zero():
    model = Scripted(*[saying("go")] * 5)
    (outcome,) = level(model, max_steps=4)(BASE, [case(values=TALK, task={"wanted": 1})])
    assert (outcome.reward, outcome.reached, len(model.asked), outcome.completion.error) == (None, 4, 4, None)
    with pytest.raises(ConfigError, match="max_steps is 0"):
        level(model, max_steps=0)


@pytest.mark.parametrize(
    ("fault", "said"),
    [("reset", "no such place"), ("step", "broken"), ("reward", "7.0"), ("close", "it hangs")],
)
def test_faults_of_the_environment_are_told_and_are_no_reward(fault, said):
    good, bad = case("a", values=TALK, task={"wanted": 1}), case("b", values=TALK, task={"wanted": 1, "fault": fault})
    model = Scripted(saying("stop"))
    first, second, third = level(model)(BASE, [good, bad, good])
    assert (first.reward, third.reward) == (1.0, 1.0)
    assert (second.reward, second.valid in (None, True)) == (None, True)
    assert second.completion.error.startswith("the environment failed: ")
    assert said in second.completion.error


def test_an_environment_that_cannot_be_closed_does_not_hide_that_the_budget_is_used_up():
    model = CachedModel(Scripted(saying("go")), Rows(), Ledger(Budget(calls=1)), now_ns=1)
    with pytest.raises(BudgetError):
        level(model)(BASE, [case(values=TALK, task={"wanted": 3, "fault": "close"})])


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


class Rows(dict):
    """A cache that outlives its run."""

    def get(self, keys):
        return {key: self[key] for key in keys if key in self}

    def note(self, sources):
        pass

    def put(self, rows, model, now_ns, sources):
        self.update({key: text for key, text in rows.items() if key not in self})


class Stage(Scripted):
    """Acts by its script, and plays whom it is asked to play; breaks off where it is told to."""

    def __init__(self, *script, after=None):
        super().__init__(*script)
        self.after = after

    def _one(self, request):
        if len(self.asked) == self.after:
            raise KeyboardInterrupt
        if "You play" in request.messages[0]["content"]:
            self.asked.append(request)
            return answer(saying("all sold out" if "a tool" in request.messages[0]["content"] else "Fine, thanks."))
        return super()._one(request)


LOG = (*BOOKED, user("And back?"), saying("No."))


def simulated(model):
    return Simulated(
        model=model,
        player=model,
        player_name="m",
        episodes=lambda cases: {"t": episode(LOG), "u": episode(BOOKED, name="u")},
        grade=one_by_one(lambda case, output: float("sorry" in output)),
        valid=lambda case, output: True,
    )


PLAYED = (calling(("find", {"to": "BGO"})), calling(FIND), saying("Which day?"), saying("I am sorry."))


def test_a_played_episode_has_logged_results_where_there_are_some_and_as_many_users_words():
    model = Stage(*PLAYED)
    (outcome,) = simulated(model)(BASE, [case("t", step=3, steps=4)])
    assert (outcome.fidelity, outcome.reward, outcome.reached) == ("simulated", 1.0, 4)
    said = [(message["role"], message["content"]) for message in model.asked[-1].messages]
    assert said[3] == ("tool", "all sold out")
    assert said[5] == ("tool", "flight 7")
    assert said[-1] == ("user", "Fine, thanks.")
    assert [message["content"] for message in outcome.way[1:4]] == ["all sold out", None, "flight 7"]
    tool, words = (json.loads(one.messages[1]["content"]) for one in model.asked if "You play" in str(one.messages[0]))
    assert tool["examples"][0]["result"] == "flight 7"
    assert words["examples"] == ["Oslo, please", "And back?"]
    assert {one.about for one in model.asked} == {(md5(b"t").hexdigest(),)}, "its answers are forgotten with it"


@pytest.mark.parametrize("after", range(6))
def test_a_played_episode_that_was_killed_pays_for_the_rest_only(after):
    cache = Rows()

    def run(model):
        return simulated(CachedModel(model, cache, Ledger(Budget(calls=6)), now_ns=1, chunk=1))(BASE, [case("t")])

    with pytest.raises(KeyboardInterrupt):
        run(Stage(*PLAYED, after=after))
    rest = Stage(*PLAYED)
    assert run(rest)[0].reward == 1.0
    assert len(rest.asked) == 6 - after


def test_episodes_without_end_or_player_have_no_reward():
    endless = Stage(*[calling(BOOK)] * 20)
    (outcome,) = simulated(endless)(BASE, [case("u")])
    assert (outcome.reward, outcome.reached, outcome.completion.error) == (None, 8, "it did not come to an end")

    class Mute(Stage):
        def _one(self, request):
            done = super()._one(request)
            return replace(done, text=None, error="HTTP 500") if "You play" in request.messages[0]["content"] else done

    (outcome,) = simulated(Mute(*PLAYED))(BASE, [case("t")])
    assert (outcome.reward, outcome.completion.error) == (None, "nobody played on: HTTP 500")


@pytest.mark.parametrize("after", range(3))
def test_an_executed_episode_that_was_killed_acts_again_and_pays_for_the_rest_only(after):
    cache, script = Rows(), (saying("go"), saying("go"), saying("stop"))

    def run(model):
        cached = CachedModel(model, cache, Ledger(Budget(calls=3)), now_ns=1, chunk=1)
        return level(cached)(BASE, [case(values=TALK, task={"wanted": 3})])

    with pytest.raises(KeyboardInterrupt):
        run(Stage(*script, after=after))
    rest = Stage(*script)
    assert run(rest)[0].reward == 1.0
    assert len(rest.asked) == 3 - after
