"""Nothing is searched for where nothing can be gained, and what cannot be ruled out is searched for."""

import pytest
from triage import QUEUES, RULE, TRAIN, TUNE, Agent, case_of, evaluator, study

from tracemill.optimize.headroom import measure
from tracemill.optimize.replay import Budget


class Perfect(Agent):
    def _answer(self, messages):
        return QUEUES[next(word for word in QUEUES if word in messages[-1]["content"])]


class Useless(Agent):
    def _answer(self, messages):
        return "?"


def room(agent, *, written=False, train=TRAIN, tune=TUNE, wanted=0.08, budget=None):
    return measure(study(evaluator(agent, budget), train=train, tune=tune), wanted=wanted, seed=1, written=written)


MANY = [case_of(n) for n in range(100, 148)]


def test_what_production_has_already_cannot_be_gained():
    agent = Perfect()
    for written in (False, True):
        found = room(agent, tune=MANY, wanted=0.1, written=written)
        assert (found.production, found.prompts, found.worth(0.1)) == (1.0, 0, False)
        assert "production has 1.00 on 32 tuning cases, and it lacks 0.00" in found.sentence(0.1)
    assert agent.calls == 64


def test_few_cases_rule_nothing_out():
    assert room(Perfect(), tune=TUNE[:4]).worth(0.08)


def test_demonstrations_that_help_are_headroom_and_end_the_test():
    agent = Agent()
    found = room(agent)
    assert found.worth(0.08)
    assert found.gain.estimate >= 0.08
    assert agent.calls == 12 * (1 + found.prompts) <= 36


def test_where_no_prompt_helps_only_a_writer_might():
    agent = Useless()
    found = room(agent, tune=MANY, wanted=0.1)
    assert (found.production, found.prompts, found.worth(0.1)) == (0.0, 5, False)
    assert "the best answers of 5 other prompts would gain 0.00" in found.sentence(0.1)
    assert agent.calls == 32 * 6
    assert room(Useless(), tune=MANY, wanted=0.1, written=True).worth(0.1)


def test_what_cannot_be_scored_or_paid_for_is_not_ruled_out():
    unknown = [case_of(n, reward=None) for n in range(100, 148)]
    assert room(Useless(), tune=unknown).worth(0.1)
    assert room(Useless(), tune=MANY, budget=Budget(calls=40)).worth(0.1)


def test_cases_are_looked_at_one_by_one():
    class Half(Agent):
        """Right on one half of the cases with the rule, and on the other half without."""

        def _answer(self, messages):
            odd = int(messages[-1]["content"].rsplit(" ", 1)[1]) % 2
            asked_to_think = any(word in messages[0]["content"] for word in ("Before you", RULE))
            topic = next(word for word in QUEUES if word in messages[-1]["content"])
            return QUEUES[topic] if odd == asked_to_think else "?"

    found = room(Half(), train=[], tune=MANY)
    assert found.production == pytest.approx(0.5, abs=0.2)
    assert found.gain.estimate == 1 - found.production
