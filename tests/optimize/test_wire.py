"""Connections to an endpoint stay open between calls and batches, and none that is dead is a call's fault."""

import gzip
import json
import socket
import threading
import zlib
from contextlib import contextmanager

import pytest

from tracemill.errors import EndpointError
from tracemill.optimize.endpoint import HttpChatModel
from tracemill.optimize.wire import Broken, UnreachableError, Wire
from tracemill.records import ChatRequest

ANSWER = json.dumps({"choices": [{"message": {"content": "füne"}}]}).encode()


def http(body, status="200 OK", *, headers=""):
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


@contextmanager
def keeping_open(reply):
    """A server that keeps connections open; `reply(connection, nth)` gives the bytes of an answer, None hangs up."""
    listener = socket.create_server(("127.0.0.1", 0))
    opened, heads, lock = [], [], threading.Lock()

    def talk(connection, number):
        with connection:
            for nth in range(1000):
                data = b""
                while b"\r\n\r\n" not in data or not data.endswith(b"}"):
                    more = connection.recv(65536)
                    if not more:
                        return
                    data += more
                with lock:
                    heads.append(data.partition(b"\r\n\r\n")[0].decode())
                answer = reply(number, nth)
                if answer is None:
                    return
                connection.sendall(answer)
                if b"X: bye" in answer:
                    return

    def accept():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with lock:
                opened.append(threading.Thread(target=talk, args=[connection, len(opened)], daemon=True))
                opened[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", opened, heads
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join()


def wire(url, **headers):
    return Wire(url + "/v1/chat/completions", headers, connect_s=5, read_s=5)


def asked(n):
    return [ChatRequest(model="m", messages=({"role": "user", "content": f"q{one}"},)) for one in range(n)]


def test_calls_of_several_batches_share_their_connections_and_threads():
    with keeping_open(lambda number, nth: http(ANSWER)) as (url, opened, heads):
        model = HttpChatModel(url, concurrency=3)
        for _ in range(4):
            assert [one.text for one in model.complete(asked(9))] == ["füne"] * 9
            model.each(iter(asked(9)), 9, lambda place, one: None)
        assert len(heads) == 72
        assert len(opened) <= 3
        assert sum(one.name.startswith("chat") for one in threading.enumerate()) <= 6


def test_a_connection_that_the_server_closed_meanwhile_is_replaced():
    with keeping_open(lambda number, nth: http(ANSWER) if nth == 0 else None) as (url, opened, heads):
        one = wire(url, Authorization="Bearer key")
        for _ in range(3):  # hung up while it was asked again, before a byte of an answer
            assert one.post(b"{}").body == ANSWER
        assert len(opened) == 3
        assert all("Authorization: Bearer key" in head for head in heads)
        one.close()


def test_a_connection_closed_while_nobody_asked_is_not_used():
    with keeping_open(lambda number, nth: http(ANSWER, headers="X: bye\r\n")) as (url, opened, heads):
        one = wire(url)
        for number in range(3):
            assert one.post(b"{}").headers["X"] == "bye"
            assert len(opened) == len(heads) == number + 1
            opened[number].join(10)


def test_a_new_connection_that_is_hung_up_on_is_told():
    with keeping_open(lambda number, nth: None) as (url, opened, _):
        with pytest.raises(Broken) as caught:
            wire(url).post(b"{}")
        assert not isinstance(caught.value, UnreachableError)
        assert len(opened) == 1


@pytest.mark.parametrize(("name", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_packed_answers_are_unpacked_and_broken_ones_told(name, pack):
    headers = f"Content-Encoding: {name}\r\n"
    with keeping_open(lambda number, nth: http(pack(ANSWER) if nth == 0 else b"no such thing", headers=headers)) as (
        url,
        _,
        heads,
    ):
        one = wire(url)
        assert one.post(b"{}").json() == json.loads(ANSWER)
        with pytest.raises(Broken):
            one.post(b"{}")
        assert "Accept-Encoding: gzip" in heads[0]
        one.close()


def test_a_server_without_the_right_certificate_is_one_that_nobody_reaches():
    with keeping_open(lambda number, nth: http(ANSWER)) as (url, _, _heads):
        model = HttpChatModel(url.replace("http:", "https:"), retries=0, timeout_s=0.3)
        with pytest.raises(EndpointError, match="Unreachable"):
            model.complete(asked(2))


def test_connections_are_closed_with_the_model():
    with keeping_open(lambda number, nth: http(ANSWER)) as (url, opened, _):
        model = HttpChatModel(url, concurrency=2)
        assert model.complete(asked(4))[3].text == "füne"
        del model
        for one in opened:
            one.join(10)
            assert not one.is_alive(), "the server still waits for the client"
