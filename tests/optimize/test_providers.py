"""Models by LiteLLM's names, against a real server in a thread that speaks OpenAI's API."""

import socket
import threading
from importlib.util import find_spec

import pytest
from chat_server import TOOLS, answer_of, echo, server
from triage import Rows

from tracemill.errors import BudgetError, ConfigError, EndpointError
from tracemill.optimize.providers import ProviderModel
from tracemill.optimize.replay import Budget, CachedModel, Ledger
from tracemill.records import ChatRequest

pytestmark = pytest.mark.skipif(find_spec("litellm") is None, reason="litellm is not installed")


def ask(text, **more):
    return ChatRequest(model="openai/m", messages=({"role": "user", "content": text},), **more)


def model(url, **more):
    return ProviderModel("openai/m", api_key="k", base_url=f"{url}/v1", retries=2, **more)


def test_answers_come_in_the_order_of_the_requests_with_what_they_cost():
    with server(echo) as (url, seen):
        done = model(url).complete([ask(f"q{n}", params={"temperature": 0.0}, seed=3) for n in range(8)])
    assert [one.text for one in done] == [f"Q{n}" for n in range(8)]
    assert all((one.tokens_in, one.tokens_out, one.finish_reason) == (10, 2, "stop") for one in done)
    assert all(one.latency_ns > 0 and one.cost_usd in (None, 0.0) for one in done)
    assert {one["auth"] for one in seen} == {"Bearer k"}
    assert (seen[0]["body"]["model"], seen[0]["body"]["seed"], seen[0]["body"]["temperature"]) == ("m", 3, 0.0)


def test_tools_are_sent_as_they_are_and_their_calls_come_in_openai_shape():
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    reply = answer_of(None)
    reply["choices"][0]["message"]["tool_calls"] = [call]
    with server(lambda body, nth: (200, {}, reply)) as (url, seen):
        (done,) = model(url).complete([ask("q", tools=TOOLS, params={"tool_choice": "auto"})])
    assert (seen[0]["body"]["tools"], seen[0]["body"]["tool_choice"]) == (list(TOOLS), "auto")
    assert done.tool_calls[0]["function"] == {"name": "look", "arguments": "{}"}


def test_what_is_busy_is_asked_again_and_what_is_wrong_is_not():
    def script(body, nth):
        text = body["messages"][-1]["content"]
        if text == "busy" and nth == 0:
            return 429, {}, {"error": {"message": "slow down"}}
        if text == "wrong":
            return 400, {}, {"error": {"message": "no such parameter"}}
        return echo(body, nth)

    with server(script) as (url, seen):
        done = model(url).complete([ask("busy"), ask("wrong")])
    assert done[0].text == "BUSY"
    assert "no such parameter" in done[1].error
    assert len(seen) == 3


def test_a_dead_or_refusing_provider_is_named():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(EndpointError, match="openai/m"):
        model(f"http://127.0.0.1:{port}").complete([ask("q")])
    with (
        server(lambda body, nth: (401, {}, {"error": {"message": "bad key"}})) as (url, _),
        pytest.raises(EndpointError, match="openai/m"),
    ):
        model(url).complete([ask("q")])


def test_each_answer_is_booked_and_kept_when_it_is_there():
    rows, at_last = Rows(), threading.Event()

    def script(body, nth):
        while body["messages"][-1]["content"] == "q0" and len(rows) < 7 and not at_last.wait(0.01):
            pass
        return echo(body, nth)

    late = threading.Timer(20, at_last.set)
    late.start()
    with server(script) as (url, seen):
        provider = CachedModel(model(url), rows, Ledger(Budget(calls=8)), now_ns=1)
        done = provider.complete([ask(f"q{n}") for n in range(8)])
        assert not at_last.is_set(), "kept while one was under way"
        late.cancel()
        assert [one.text for one in done] == [f"Q{n}" for n in range(8)]
        with pytest.raises(BudgetError):
            provider.complete([ask("one more")])
    assert (len(seen), provider.ledger.spent.calls) == (8, 8)


def test_a_name_without_a_provider_is_refused():
    with pytest.raises(ConfigError, match="names no provider"):
        ProviderModel("gpt")
