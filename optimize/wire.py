"""JSON posted to one address over connections that stay open, by Python's own HTTP client.

httpx, which asks everything else here, takes twice the CPU for a call: of a batch of short calls that is most of what a
replay costs beside the model (bench/replay_speed.py).
"""

import json
import select
import ssl
import time
import weakref
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from http.client import BadStatusLine, HTTPConnection, HTTPException, HTTPMessage, HTTPSConnection
from typing import Any

import httpx

_IDLE_S = 5.0
"""After that a connection is not used again: what lies between may have forgotten it and say nothing."""
_AT_ONCE_S = 1.0
"""Within it the other side says that it had closed a connection; later it may have begun to answer."""


class UnreachableError(OSError):
    """Nobody listens at the address, or nobody whose certificate is right."""


Broken = (OSError, HTTPException, zlib.error)
"""What `Wire.post` raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back, of whatever status."""

    status: int
    body: bytes
    headers: HTTPMessage

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """Posts to one URL. A connection serves one call at a time, and then whoever asks next, in any thread.

    Redirects are not followed, proxies of the environment are not used. Connections are closed with the object, also
    where it is merely forgotten.
    """

    def __init__(self, url: str, headers: Mapping[str, str], *, connect_s: float, read_s: float) -> None:
        self._url = url
        self._headers = {"Accept-Encoding": "gzip", **headers}
        self._connect_s = connect_s
        self._read_s = read_s
        self._idle: list[tuple[float, HTTPConnection]] = []
        self.close = weakref.finalize(self, _close, self._idle)

    def post(self, body: bytes) -> Answer:
        """The answer, read. Raises UnreachableError where there is no connection to be had, else one of `Broken`."""
        old = self._kept()
        if old is not None:
            began = time.monotonic()
            try:
                return self._asked(old, body)
            except (BadStatusLine, ConnectionError):
                # Closed by the other side just now, as servers do with connections that were idle.
                if time.monotonic() - began > _AT_ONCE_S:
                    raise
        return self._asked(self._new(), body)

    def _kept(self) -> HTTPConnection | None:
        while True:
            try:
                since, one = self._idle.pop()
            except IndexError:
                return None
            if time.monotonic() - since < _IDLE_S and one.sock is not None and not _said(one):
                return one
            one.close()

    def _new(self) -> HTTPConnection:
        made = self._made()
        try:
            made.connect()
        except OSError as error:
            made.close()
            raise UnreachableError(str(error) or type(error).__name__) from error
        made.sock.settimeout(self._read_s)
        return made

    def _made(self) -> HTTPConnection:
        place = self._place
        if place.scheme == "https":
            return HTTPSConnection(place.host, place.port or 443, timeout=self._connect_s, context=self._trust)
        return HTTPConnection(place.host, place.port or 80, timeout=self._connect_s)

    def _asked(self, connection: HTTPConnection, body: bytes) -> Answer:
        try:
            connection.request("POST", self._place.raw_path.decode("ascii"), body, self._headers)
            answer = connection.getresponse()
            found = Answer(status=answer.status, body=answer.read(), headers=answer.headers)
        except BaseException:
            connection.close()
            raise
        if connection.sock is not None:  # else the server wants it closed
            self._idle.append((time.monotonic(), connection))
        encoding = (found.headers.get("Content-Encoding") or "identity").lower()
        return found if encoding == "identity" or not found.body else _unpacked(found)

    @cached_property
    def _place(self) -> httpx.URL:
        return httpx.URL(self._url)

    @cached_property
    def _trust(self) -> ssl.SSLContext:
        # Loaded where it is used only, and once: it costs more than a local call.
        return httpx.create_ssl_context(trust_env=False)


def _said(connection: HTTPConnection) -> bool:
    """Whether something came over an idle connection: that it is closed, or what nobody asked for."""
    waiting = select.poll()
    waiting.register(connection.sock, select.POLLIN)
    return bool(waiting.poll(0))


def _unpacked(answer: Answer) -> Answer:
    """32 + 15: gzip or zlib, whichever it is."""
    return Answer(status=answer.status, body=zlib.decompress(answer.body, 32 + 15), headers=answer.headers)


def _close(connections: list[tuple[float, HTTPConnection]]) -> None:
    while connections:
        connections.pop()[1].close()
