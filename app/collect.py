"""The collector: OTLP over HTTP from any OpenTelemetry SDK. A 200 means that the bytes are on disk.

POST /v1/traces and /v1/logs (protobuf or JSON, gzip or plain), GET /healthz. Nothing is decoded further than to know
that it is what it says: the landing files are logs like any other, taken in by `tracemill ingest`.
"""

import asyncio
import errno
import hmac
import ipaddress
import socket
import sys
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tracemill.app.landing import MIB, Landing
from tracemill.app.otlp import JSON, PROTOBUF, SIGNALS, RefusedError, accepted, checked, refused
from tracemill.app.settings import clock as system_clock
from tracemill.errors import ConfigError
from tracemill.pipelines.config import CollectConfig

_AT_ONCE = MIB
"""What is checked without handing it to another thread."""


class _Room:
    """The bytes of all requests that are not yet answered, bounded. For one event loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0

    def take(self, size: int) -> None:
        """Raises RefusedError (429) when it is too much."""
        if self._held + size > self._most:
            raise RefusedError(429, "too much is waiting to be written; send it again a little later")
        self._held += size

    def give_back(self, size: int) -> None:
        self._held -= size


def build_app(
    landing: Path,
    *,
    token: str | None = None,
    max_body: int = 64 * MIB,
    max_waiting: int = 256 * MIB,
    rotate_bytes: int = 64 * MIB,
    rotate_s: float = 60.0,
    clock: Callable[[], int] = system_clock,
) -> Starlette:
    """The HTTP application. `max_body` bounds a request's bytes after decompression, `max_waiting` all of them.

    With a `token`, requests must carry it as a bearer token. Answers: 200 on disk, with a partial success where some
    spans have no ids; 400 no OTLP; 401 no or a wrong token; 413 too large; 415 another content type or encoding; 429
    too much at once and 503 not written (full disk), both to be sent again.
    Raises StoreError where the landing folder cannot be written.
    """
    store = Landing(landing, clock=clock, rotate_bytes=rotate_bytes, rotate_s=rotate_s, max_waiting_bytes=max_waiting)
    room = _Room(max_waiting)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        store.start()
        try:
            yield
        finally:
            await run_in_threadpool(store.close)

    async def receive(request: Request) -> Response:
        kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
        answer_kind = PROTOBUF if kind == PROTOBUF else JSON
        body = bytearray()
        try:
            _authorize(request, token)
            if kind not in (JSON, PROTOBUF):
                raise RefusedError(415, f"content type {kind or 'missing'}: send {PROTOBUF} or {JSON}")
            await _read(request, body, max_body, room)
            check = (request.path_params["signal"], kind, bytes(body))
            entry = checked(*check) if len(body) <= _AT_ONCE else await run_in_threadpool(checked, *check)
            if entry is not None:
                await asyncio.wrap_future(store.append(entry.suffix, entry.data))
            return accepted(answer_kind, entry.rejected if entry else 0)
        except RefusedError as no:
            return refused(answer_kind, no.status, no.reason)
        except OSError as error:
            status = 429 if error.errno == errno.EAGAIN else 503
            return refused(answer_kind, status, f"not written, send it again: {error.strerror or error}")
        except ClientDisconnect:
            return Response(status_code=400)
        finally:
            room.give_back(len(body))

    async def health(request: Request) -> Response:
        if store.failure is not None:
            return JSONResponse({"status": "failing", "reason": store.failure}, status_code=503)
        return JSONResponse({"status": "ok"})

    async def signal(request: Request) -> Response:
        if request.path_params["signal"] not in SIGNALS:
            return refused(JSON, 404, "this collector takes /v1/traces and /v1/logs")
        return await receive(request)

    return Starlette(
        routes=[
            Route("/v1/{signal}", signal, methods=["POST"]),
            Route("/healthz", health, methods=["GET"]),
        ],
        lifespan=lifespan,
    )


_DEFAULTS = CollectConfig()


def serve(landing: Path, config: CollectConfig = _DEFAULTS, *, token: str | None = None) -> None:
    """Receives until SIGTERM or Ctrl-C, then finishes its files. Says on stderr where it listens.

    Raises ConfigError where the address cannot be used, StoreError where the folder cannot be written.
    """
    import uvicorn

    host, port = config.host, config.port
    app = build_app(
        landing,
        token=token,
        max_body=config.max_body_mib * MIB,
        max_waiting=config.max_waiting_mib * MIB,
        rotate_bytes=config.rotate_mib * MIB,
        rotate_s=config.rotate_s,
    )
    listener = listening(host, port)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{listener.getsockname()[1]}"
    print(f"Receiving OTLP on {address}/v1/traces and /v1/logs, into {landing}", file=sys.stderr, flush=True)
    if token is None and not ipaddress.ip_address(listener.getsockname()[0]).is_loopback:
        print("Whoever reaches this address may write logs: set [collect] token_env", file=sys.stderr, flush=True)
    settings = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=10)
    try:
        uvicorn.Server(settings).run(sockets=[listener])
    except KeyboardInterrupt:
        pass  # uvicorn has shut down in order and raises it again
    finally:
        listener.close()


def listening(host: str, port: int) -> socket.socket:
    """A socket that connections can wait at while the server starts. Raises ConfigError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol is said: without it an answer waits 40 ms for a late ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; choose another --port"
        ) from error
    return listener


def _authorize(request: Request, token: str | None) -> None:
    if token is None:
        return
    given = request.headers.get("authorization", "")
    if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
        raise RefusedError(401, "a bearer token is needed")


async def _read(request: Request, body: bytearray, limit: int, room: _Room) -> None:
    """The decompressed request into `body`, whose bytes are taken from the room.

    Refuses as soon as it is too large, also while decompressing.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "", "gzip", "deflate"):
        raise RefusedError(415, f"content encoding {encoding}: send gzip or none")
    unpack = None
    if encoding in ("gzip", "deflate"):
        unpack = zlib.decompressobj(zlib.MAX_WBITS | (16 if encoding == "gzip" else 0))
    too_large = RefusedError(413, f"more than {limit} bytes")
    taken = 0
    async for chunk in request.stream():
        taken += len(chunk)
        if taken > limit:
            raise too_large
        try:
            plain = chunk if unpack is None else unpack.decompress(chunk, limit + 1 - len(body))
        except zlib.error as error:
            raise RefusedError(400, f"broken {encoding}: {error}") from None
        room.take(len(plain))
        body += plain
        if len(body) > limit or (unpack is not None and unpack.unconsumed_tail):
            raise too_large
    if unpack is not None and taken and not unpack.eof:
        raise RefusedError(400, f"torn {encoding}")
