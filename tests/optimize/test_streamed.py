"""Over HTTP, replay waits for no batch: answers are booked and kept as they come in, and errors lose none of them."""

import random
import threading

import pytest
from chat_server import answer_of, echo, server

from tracemill.errors import BudgetError, ConfigError, EndpointError, StoreError
from tracemill.optimize.endpoint import HttpChatModel
from tracemill.optimize.replay import Budget, CachedModel, Ledger, completion_from_json
from tracemill.records import ChatRequest

QUIET = {"retries": 0, "sleep": lambda s: None}


class Kept:
    def __init__(self, broken=False):
        self.rows, self.broken = {}, broken

    def get(self, keys):
        return {key: self.rows[key] for key in keys if key in self.rows}

    def note(self, sources):
        pass

    def put(self, rows, model, now_ns, sources):
        if self.broken:
            raise StoreError("disk full")
        self.rows.update(rows)


def asked(n, **params):
    return [
        ChatRequest(model="m", messages=({"role": "user", "content": f"q{one}"},), params=params) for one in range(n)
    ]


def cached(url, rows=None, budget=None):
    model = HttpChatModel(url, concurrency=4, **QUIET)
    return CachedModel(model, Kept() if rows is None else rows, Ledger(budget or Budget()), now_ns=1)


def test_answers_come_in_the_order_of_the_requests_and_are_paid_once():
    rows = Kept()
    with server(echo) as (url, seen):
        first, again = cached(url, rows), cached(url, rows)
        requests = [*asked(40), *asked(3)]
        assert [one.text for one in first.complete(requests)] == [f"Q{n}" for n in (*range(40), *range(3))]
        assert [one.text for one in again.complete(requests)] == [f"Q{n}" for n in (*range(40), *range(3))]
    assert len(seen) == len(rows.rows) == first.ledger.spent.calls == 40
    assert (again.ledger.spent.calls, again.ledger.spent.cached) == (0, 43)


def test_a_used_up_budget_keeps_what_was_answered():
    rows = Kept()
    with server(echo) as (url, seen):
        model = cached(url, rows, Budget(calls=10))
        with pytest.raises(BudgetError, match="10 calls"):
            model.complete(asked(40))
        assert len(seen) == len(rows.rows) == model.ledger.spent.calls == 10
        with pytest.raises(BudgetError):
            model.complete(asked(40))


def test_a_budget_in_tokens_stops_where_what_is_left_pays_for_no_call():
    rows = Kept()
    with server(echo) as (url, seen):
        model = cached(url, rows, Budget(tokens=100))  # 12 a call
        with pytest.raises(BudgetError):
            model.complete(asked(40))
    assert len(seen) == len(rows.rows) == 8


def test_where_calls_run_out_is_the_same_each_time_and_tokens_run_out_in_the_same_stream():
    drawn = random.Random(0)

    def uneven(body, nth):
        threading.Event().wait(drawn.random() / 500)
        status, headers, reply = echo(body, nth)
        size = len(body["messages"][-1]["content"]) ** 3  # 8 or 27 tokens
        return status, headers, {**reply, "usage": {"prompt_tokens": size, "completion_tokens": 0}}

    def found(url, budget, rows):
        model, batches = cached(url, rows, budget), []
        try:
            for first in range(0, 40, 8):
                batches.append([one.text for one in model.complete(asked(40)[first : first + 8])])
        except BudgetError:
            pass
        return batches, model.ledger.spent

    with server(uneven) as (url, _):
        whole, spent = found(url, Budget(), Kept())
        assert (len(whole), spent.calls) == (5, 40)
        for budget in (Budget(calls=27), Budget(tokens=600)):
            rows = Kept()
            runs = [found(url, budget, Kept()) for _ in range(4)] + [found(url, budget, rows)]
            assert all(batches == whole[: len(batches)] for batches, _ in runs)
            if budget.calls:
                assert {(len(batches), one.calls) for batches, one in runs} == {(3, 27)}
            assert all(one.tokens_in <= 600 + 4 * 27 for _, one in runs if budget.tokens)
            rest, paid = found(url, Budget(), rows)
            assert (rest, paid.calls) == (whole, 40 - runs[-1][1].calls)


def test_an_answer_is_kept_while_others_are_under_way():
    rows, at_last = Kept(), threading.Event()

    def script(body, nth):
        if body["messages"][-1]["content"] == "q7":
            for _ in range(1000):
                if at_last.wait(0.01) or len(rows.rows) >= 3:
                    break
        return echo(body, nth)

    with server(script) as (url, _):
        done = cached(url, rows).complete(asked(8))
    assert done[7].text == "Q7"
    assert len(rows.rows) == 8


def test_failed_calls_are_told_and_not_kept():
    def script(body, nth):
        return (500, {}, "no") if body["messages"][-1]["content"] == "q3" else echo(body, nth)

    rows = Kept()
    with server(script) as (url, _):
        model = cached(url, rows)
        done = model.complete(asked(9))
    assert [one.error is None for one in done] == [n != 3 for n in range(9)]
    assert len(rows.rows) == 8
    assert (model.ledger.spent.calls, model.ledger.spent.failed) == (9, 1)


def test_an_endpoint_that_refuses_all_is_left_soon():
    with server(lambda body, nth: (401, {}, "who are you")) as (url, seen):
        model = cached(url)
        with pytest.raises(EndpointError, match="401"):
            model.complete(asked(200))
    assert 4 <= len(seen) <= 8
    assert model.ledger.spent.calls == len(seen)


def test_what_an_endpoint_answered_before_it_died_is_kept():
    def script(body, nth):
        return echo(body, nth) if int(body["messages"][-1]["content"][1:]) < 6 else (503, {}, "gone")

    rows = Kept()
    with server(script) as (url, _):
        done = cached(url, rows).complete(asked(12))
    assert [one.error is None for one in done] == [n < 6 for n in range(12)]
    assert len(rows.rows) == 6


def test_a_broken_store_ends_the_replay_with_its_error():
    with server(echo) as (url, _), pytest.raises(StoreError, match="disk full"):
        cached(url, Kept(broken=True)).complete(asked(60))


def test_an_unforeseen_error_ends_the_replay_and_leaves_the_account_in_order():
    class Broken(HttpChatModel):
        def _read(self, answer, latency_ns):
            if "Q5" in answer.text:
                raise RuntimeError("unforeseen")
            return super()._read(answer, latency_ns)

    rows, ledger = Kept(), Ledger(Budget(calls=50))
    with server(echo) as (url, _), pytest.raises(RuntimeError, match="unforeseen"):
        CachedModel(Broken(url, concurrency=4, **QUIET), rows, ledger, now_ns=1).complete(asked(40))
    spent = ledger.spent.calls
    assert len(rows.rows) == spent - 1 >= 5
    assert ledger.take(50 - spent) == 50 - spent


def test_a_price_that_nobody_tells_is_no_reason_to_lose_the_answer():
    rows, ledger = Kept(), Ledger(Budget(usd=1.0))
    with (
        server(lambda body, nth: (200, {}, answer_of("fine"))) as (url, _),
        pytest.raises(ConfigError, match="no cost"),
    ):
        CachedModel(HttpChatModel(url, concurrency=4, **QUIET), rows, ledger, now_ns=1).complete(asked(9))
    assert [completion_from_json(text).text for text in rows.rows.values()] == ["fine"] * ledger.spent.calls
    assert 1 <= ledger.spent.calls <= 4
