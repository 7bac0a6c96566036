"""HttpChatModel against a real server in a thread, and against a port that nobody listens on."""

import socket

import pytest
from chat_server import TOOLS, answer_of, echo, server

from tracemill.errors import ConfigError, EndpointError
from tracemill.optimize.endpoint import HttpChatModel
from tracemill.protocols import ChatModel
from tracemill.records import ChatRequest


def ask(text, **more):
    return ChatRequest(model="m", messages=({"role": "user", "content": text},), **more)


def test_answers_come_in_the_order_of_the_requests():
    with server(echo) as (url, seen):
        model: ChatModel = HttpChatModel(url + "/v1", api_key="k", concurrency=4)
        done = model.complete([ask(f"q{n}", params={"temperature": 0.0}, seed=3) for n in range(20)])
    assert [one.text for one in done] == [f"Q{n}" for n in range(20)]
    assert all((one.tokens_in, one.tokens_out, one.finish_reason) == (10, 2, "stop") for one in done)
    assert all(one.latency_ns > 0 and one.cost_usd is None and not one.cached for one in done)
    assert {one["path"] for one in seen} == {"/v1/chat/completions"}
    assert {one["auth"] for one in seen} == {"Bearer k"}
    assert seen[0]["body"]["seed"] == 3
    assert "logprobs" not in seen[0]["body"]


def test_tools_are_sent_as_they_are_and_their_calls_come_back():
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    reply = answer_of(None)
    reply["choices"][0]["message"]["tool_calls"] = [call]
    with server(lambda body, nth: (200, {}, reply)) as (url, seen):
        (done,) = HttpChatModel(url).complete([ask("q", tools=TOOLS, params={"tool_choice": "auto"})])
    assert (seen[0]["body"]["tools"], seen[0]["body"]["tool_choice"]) == (list(TOOLS), "auto")
    assert (done.tool_calls, done.text) == ((call,), None)


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/", "/v1/chat/completions"])
def test_the_base_url_is_taken_with_or_without_its_ending(suffix):
    assert HttpChatModel("http://h:1" + suffix).url == "http://h:1/v1/chat/completions"


def test_token_ids_and_log_probabilities_are_read_where_present_and_asked_for_where_told():
    def script(body, nth):
        logprobs = {"content": [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -1}]}
        reply = {**answer_of("ab", token_ids=[5, 6], logprobs=logprobs), "prompt_token_ids": [1, 2, 3]}
        del reply["usage"]
        return 200, {}, reply

    with server(script) as (url, seen):
        model = HttpChatModel(url, logprobs=True, extra_body={"return_token_ids": True})
        (done,) = model.complete([ask("q")])
    assert done.output_token_ids == (5, 6)
    assert done.output_logprobs == (-0.5, -1.0)
    assert (done.tokens_in, done.tokens_out) == (3, 2)
    assert seen[0]["body"]["logprobs"] is True
    assert seen[0]["body"]["return_token_ids"] is True


def test_prices_turn_tokens_into_dollars():
    with server(echo) as (url, _):
        (done,) = HttpChatModel(url, usd_per_million_tokens=(100.0, 1000.0)).complete([ask("q")])
    assert done.cost_usd == pytest.approx(0.003)


def test_a_busy_server_is_asked_again():
    def script(body, nth):
        return (429, {"Retry-After": "2"}, {"error": {"message": "busy"}}) if nth < 2 else echo(body, nth)

    with server(script) as (url, seen):
        waits = []
        (done,) = HttpChatModel(url, sleep=waits.append).complete([ask("q")])
    assert (done.text, done.error, len(seen)) == ("Q", None, 3)
    assert waits == [2.0, 2.0]


def test_one_failed_call_is_a_completion_with_its_error_among_the_others():
    def script(body, nth):
        if body["messages"][-1]["content"] == "long":
            return 400, {}, {"error": {"message": "context length exceeded"}}
        return echo(body, nth)

    with server(script) as (url, seen):
        done = HttpChatModel(url).complete([ask("a"), ask("long"), ask("b")])
    assert [one.text for one in done] == ["A", None, "B"]
    assert done[1].error == "HTTP 400: context length exceeded"
    assert len(seen) == 3  # a request that is wrong is not repeated


def test_a_server_error_that_stays_is_a_completion_with_its_error():
    with server(lambda body, nth: (500, {}, "boom")) as (url, seen):
        (done,) = HttpChatModel(url, retries=2, backoff_s=0.001).complete([ask("q")])
    assert done.error == "HTTP 500: boom"
    assert len(seen) == 3


@pytest.mark.parametrize("reply", ["<html>", {"choices": []}, {"choices": [{"message": None}]}, [1]])
def test_an_answer_that_is_no_completion_is_an_error_of_that_call(reply):
    with server(lambda body, nth: (200, {}, reply)) as (url, _):
        (done,) = HttpChatModel(url).complete([ask("q")])
    assert done.text is None
    assert done.error.startswith("not a chat completion")


@pytest.mark.parametrize("status", [401, 403, 404])
def test_an_endpoint_that_refuses_everybody_is_an_endpoint_error(status):
    with (
        server(lambda body, nth: (status, {}, {"error": {"message": "no such model"}})) as (url, seen),
        pytest.raises(EndpointError, match="no such model") as caught,
    ):
        HttpChatModel(url).complete([ask("q")])
    assert caught.value.url == f"{url}/v1/chat/completions"
    assert len(seen) == 1


def test_a_dead_endpoint_is_an_error_that_names_it_after_one_series_of_doubling_waits():
    waits = []
    with socket.socket() as held:  # bound and not listening: connections are refused, and nobody else takes the port
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        model = HttpChatModel(url, concurrency=1, retries=3, sleep=waits.append)
        with pytest.raises(EndpointError, match=url):
            model.complete([ask(f"q{n}") for n in range(50)])
    assert waits == [0.25, 0.5, 1.0]


@pytest.mark.parametrize("status", [None, 503])
def test_a_gateway_with_nobody_behind_it_is_a_dead_endpoint(status):
    with server(lambda body, nth: (status, {}, "down")) as (url, _), pytest.raises(EndpointError):
        HttpChatModel(url, retries=1, backoff_s=0.001).complete([ask("a"), ask("b")])


def test_a_connection_lost_in_one_call_does_not_cost_the_others():
    def script(body, nth):
        return (None, {}, "") if body["messages"][-1]["content"] == "bad" else echo(body, nth)

    with server(script) as (url, _):
        done = HttpChatModel(url, retries=1, backoff_s=0.001).complete([ask("a"), ask("bad")])
    assert done[0].text == "A"
    assert done[1].error


def test_wrong_settings_are_refused():
    with pytest.raises(ConfigError, match="http"):
        HttpChatModel("localhost:8000")
    with pytest.raises(ConfigError, match="concurrency"):
        HttpChatModel("http://h", concurrency=0)
    assert HttpChatModel("http://h").complete([]) == []
