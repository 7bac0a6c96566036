"""Replay pays for no answer twice, keeps what it paid for, and stays inside its budget."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tracemill.errors import BudgetError, ConfigError
from tracemill.optimize.artifact import baseline
from tracemill.optimize.ladder import SingleStep, one_by_one
from tracemill.optimize.replay import (
    Budget,
    CachedModel,
    Ledger,
    completion_from_json,
    completion_to_json,
    output_of,
    request_for,
)
from tracemill.records import Case, Completion, Site, Template

SITE = Site(
    site_id="s1",
    site_version="v1",
    agent_name=None,
    model="m",
    template=Template(messages=({"role": "user", "content": [{"slot": "x"}]},)),
    params={"temperature": 0.0},
)
BASE = baseline(SITE)


class DictCache:
    """A cache that outlives its run."""

    def __init__(self):
        self.rows = {}

    def get(self, keys):
        return {key: self.rows[key] for key in keys if key in self.rows}

    def note(self, sources):
        pass

    def put(self, rows, model, now_ns, sources):
        assert (model, now_ns) == ("m", 7)
        self.rows = {**rows, **self.rows}


class Echo:
    """Answers each prompt with itself; breaks off at the call that `dies_at` names."""

    def __init__(self, dies_at=None, fails_on=(), tokens=1, cost=None):
        self.dies_at, self.fails_on, self.tokens, self.cost = dies_at, fails_on, tokens, cost
        self.calls = []
        self.chunks = []
        self.lock = threading.Lock()

    def complete(self, requests):
        self.chunks.append(len(requests))
        return [self._one(request) for request in requests]

    def _one(self, request):
        text = request.messages[-1]["content"]
        with self.lock:
            if len(self.calls) == self.dies_at:
                raise KeyboardInterrupt
            self.calls.append(text)
        if text in self.fails_on:
            return Completion(text=None, error="HTTP 500: no")
        return Completion(
            text=text.upper(),
            tokens_in=self.tokens,
            tokens_out=0,
            cost_usd=self.cost,
            latency_ns=5,
            output_token_ids=(1,),
        )


def case_of(number, text=None, values=None):
    return Case(
        case_id=f"t{number}/0",
        trajectory_id=f"t{number}",
        step=0,
        site_id="s1",
        task_key=None,
        task_group=f"g{number}",
        pool="learn",
        values=values if values is not None else {"x": text or f"q{number}"},
        logged_messages=(),
        logged_output="",
        reward=None,
    )


CASES = [case_of(n) for n in range(10)]


def replayer(model, cache, budget=None, seed=0):
    return SingleStep(
        model=CachedModel(model, cache, Ledger(budget or Budget()), now_ns=7, chunk=3),
        grade=one_by_one(lambda case, output: 1.0 if output == "Q1" else None if output == "Q2" else 0.0),
        valid=lambda case, output: output.startswith("Q"),
        seed=seed,
    )


def test_outcomes_come_in_the_order_of_the_cases_with_rewards_and_abstentions():
    outcomes = replayer(Echo(), DictCache())(BASE, CASES[:3])
    assert [one.case_id for one in outcomes] == ["t0/0", "t1/0", "t2/0"]
    assert [one.reward for one in outcomes] == [0.0, 1.0, None]
    assert [one.valid for one in outcomes] == [True] * 3
    assert outcomes[0].completion.latency_ns == 5
    assert not outcomes[0].completion.cached


def test_a_second_replay_calls_nothing_and_says_that_it_is_cached():
    cache, model = DictCache(), Echo()
    replayer(model, cache)(BASE, CASES)
    again = replayer(Echo(dies_at=0), cache)
    outcomes = again(BASE, CASES)
    assert all(one.completion.cached and one.completion.latency_ns == 5 for one in outcomes)
    assert again.model.ledger.spent.calls == 0
    assert again.model.ledger.spent.cached == 10
    assert outcomes[0].completion.output_token_ids == (1,)


def test_equal_prompts_are_asked_once():
    model = Echo()
    outcomes = replayer(model, DictCache())(BASE, [case_of(1, "same"), case_of(2, "same")])
    assert model.calls == ["same"]
    assert [one.case_id for one in outcomes] == ["t1/0", "t2/0"]


def test_a_killed_replay_loses_at_most_a_chunk_and_a_second_run_finishes():
    cache = DictCache()
    with pytest.raises(KeyboardInterrupt):
        replayer(Echo(dies_at=7), cache)(BASE, CASES)
    assert len(cache.rows) == 6
    rest = Echo()
    outcomes = replayer(rest, cache)(BASE, CASES)
    assert rest.calls == ["q6", "q7", "q8", "q9"]
    assert [one.completion.text for one in outcomes] == [f"Q{n}" for n in range(10)]


def test_calls_never_exceed_the_budget_and_what_was_answered_is_kept():
    cache, model = DictCache(), Echo()
    with pytest.raises(BudgetError, match="7 calls"):
        replayer(model, cache, Budget(calls=7))(BASE, CASES)
    assert len(model.calls) == 7
    assert len(cache.rows) == 7
    assert len(replayer(Echo(), cache, Budget(calls=3))(BASE, CASES)) == 10


def test_a_token_budget_admits_calls_as_far_as_their_mean_cost_allows():
    model = Echo(tokens=10)
    with pytest.raises(BudgetError, match="50 tokens"):
        replayer(model, DictCache(), Budget(tokens=55))(BASE, CASES)
    assert len(model.calls) == 5


def test_a_dollar_budget_holds_and_needs_prices():
    model = Echo(cost=0.5)
    with pytest.raises(BudgetError):
        replayer(model, DictCache(), Budget(usd=2.0))(BASE, CASES)
    assert len(model.calls) == 4
    with pytest.raises(ConfigError, match="price"):
        replayer(Echo(), DictCache(), Budget(usd=2.0))(BASE, CASES)


@pytest.mark.parametrize("bound", ["calls", "tokens", "usd", "seconds"])
def test_a_budget_of_nothing_admits_nothing_and_is_named(bound):
    model = Echo(cost=0.1)
    with pytest.raises(BudgetError, match=bound):
        replayer(model, DictCache(), Budget(**{bound: 0}))(BASE, CASES)
    assert model.calls == []


def test_two_models_draw_on_one_ledger_even_from_several_threads():
    ledger, model = Ledger(Budget(calls=20)), Echo()
    models = [CachedModel(model, DictCache(), ledger, now_ns=7, chunk=1) for _ in range(4)]
    requests = [[request_for(BASE, case_of(f"{who}-{n}"), seed=0) for n in range(10)] for who in range(4)]

    def work(who):
        try:
            models[who].complete(requests[who])
        except BudgetError:
            return True
        return False

    with ThreadPoolExecutor(4) as pool:
        refused = list(pool.map(work, range(4)))
    assert len(model.calls) == ledger.spent.calls == 20
    assert any(refused)


def test_calls_under_way_count_against_the_budget():
    ledger = Ledger(Budget(calls=5))
    assert (ledger.take(3), ledger.take(9)) == (3, 2)
    ledger.settle(3, [])
    ledger.settle(2, [])
    with pytest.raises(BudgetError):
        ledger.take(1)


def test_another_seed_is_another_question():
    cache, second = DictCache(), Echo()
    replayer(Echo(), cache)(BASE, CASES[:2])
    replayer(second, cache, seed=1)(BASE, CASES[:2])
    assert second.calls == ["q0", "q1"]
    assert request_for(BASE, CASES[0], seed=1).seed == 1


def test_a_failed_call_is_an_outcome_without_reward_and_is_asked_again_next_time():
    cache = DictCache()
    outcome = replayer(Echo(fails_on=("q1",)), cache)(BASE, CASES[:3])[1]
    assert (outcome.reward, outcome.valid, outcome.completion.error) == (None, None, "HTTP 500: no")
    again = Echo()
    assert replayer(again, cache)(BASE, CASES[:3])[1].reward == 1.0
    assert again.calls == ["q1"]


def test_a_case_that_does_not_fill_the_prompt_is_an_outcome_with_an_error():
    first, second = replayer(Echo(), DictCache())(BASE, [case_of(0, values={"y": "?"}), CASES[1]])
    assert "'x'" in first.completion.error
    assert second.reward == 1.0


def test_an_artifact_without_a_model_is_refused():
    nameless = baseline(Site(**{**{f: getattr(SITE, f) for f in SITE.__slots__}, "model": None}))
    with pytest.raises(ConfigError, match="names no model"):
        replayer(Echo(), DictCache())(nameless, CASES)


def test_completions_survive_the_cache_and_tool_calls_are_judged_as_json():
    done = Completion(
        text=None, tool_calls=({"function": {"name": "f", "arguments": "{}"}},), output_logprobs=(-0.5,), tokens_in=3
    )
    assert completion_from_json(completion_to_json(done)) == done
    assert output_of(done) == '[{"function":{"arguments":"{}","name":"f"}}]'
    assert output_of(Completion(text=None, error="no")) is None
    assert output_of(Completion(text=None)) == ""
