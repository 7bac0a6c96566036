"""The collector: OTLP over HTTP from any OpenTelemetry SDK. A 200 means that the bytes are on disk.

POST /v1/traces and /v1/logs (protobuf or JSON, gzip or plain), GET /healthz. Nothing is decoded further than to know
that it is what it says: the landing files are logs like any other, taken in by `tracemill ingest`.
"""

import asyncio
import hmac
import socket
import sys
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tracemill.app.landing import MIB, Landing, framed
from tracemill.app.settings import clock as system_clock
from tracemill.errors import ConfigError

JSON = "application/json"
PROTOBUF = "application/x-protobuf"
RETRY_AFTER_S = 5
_RPC_CODES = {400: 3, 401: 16, 413: 11, 415: 3, 503: 14}
_SIGNALS: dict[str, tuple[str, type[Message], tuple[str, str]]] = {
    "traces": ("traces", ExportTraceServiceRequest, ("resourceSpans", "resource_spans")),
    "logs": ("logs", ExportLogsServiceRequest, ("resourceLogs", "resource_logs")),
}


class RefusedError(Exception):
    """A request that is answered with an error; never leaves this module."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason


def build_app(
    landing: Path,
    *,
    token: str | None = None,
    max_body: int = 64 * MIB,
    rotate_bytes: int = 64 * MIB,
    rotate_s: float = 60.0,
    clock: Callable[[], int] = system_clock,
) -> Starlette:
    """The HTTP application. `max_body` bounds a request's bytes after decompression.

    With a `token`, requests must carry it as a bearer token. Answers: 200 on disk; 400 no OTLP; 401 no or a wrong
    token; 413 too large; 415 another content type or encoding; 503 not written (full disk), to be sent again.
    Raises StoreError where the landing folder cannot be written.
    """
    store = Landing(landing, clock=clock, rotate_bytes=rotate_bytes, rotate_s=rotate_s)

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
        try:
            _authorize(request, token)
            if kind not in (JSON, PROTOBUF):
                raise RefusedError(415, f"content type {kind or 'missing'}: send {PROTOBUF} or {JSON}")
            body = await _body(request, max_body)
            entry = await run_in_threadpool(_checked, request.path_params["signal"], kind, body)
            if entry is not None:
                await asyncio.wrap_future(store.append(*entry))
        except RefusedError as refused:
            return _error(answer_kind, refused.status, refused.reason)
        except OSError as error:
            return _error(answer_kind, 503, f"not written, send it again: {error.strerror or error}")
        except ClientDisconnect:
            return Response(status_code=400)
        # An empty Export…ServiceResponse: everything was accepted.
        return Response(b"" if answer_kind == PROTOBUF else b"{}", media_type=answer_kind)

    async def health(request: Request) -> Response:
        if store.failure is not None:
            return JSONResponse({"status": "failing", "reason": store.failure}, status_code=503)
        return JSONResponse({"status": "ok"})

    async def signal(request: Request) -> Response:
        if request.path_params["signal"] not in _SIGNALS:
            return _error(JSON, 404, "this collector takes /v1/traces and /v1/logs")
        return await receive(request)

    return Starlette(
        routes=[
            Route("/v1/{signal}", signal, methods=["POST"]),
            Route("/healthz", health, methods=["GET"]),
        ],
        lifespan=lifespan,
    )


def serve(landing: Path, *, host: str = "127.0.0.1", port: int = 4318, token: str | None = None) -> None:
    """Receives until SIGTERM or Ctrl-C, then finishes its files. Says on stderr where it listens; port 0: any free one.

    Raises ConfigError where the address cannot be used, StoreError where the folder cannot be written.
    """
    import uvicorn

    app = build_app(landing, token=token)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)  # from here on connections wait for the server, which takes a moment to start
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; choose another --port"
        ) from error
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{listener.getsockname()[1]}"
    print(f"Receiving OTLP on {address}/v1/traces and /v1/logs, into {landing}", file=sys.stderr, flush=True)
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=10)
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:
        pass  # uvicorn has shut down in order and raises it again
    finally:
        listener.close()


def _authorize(request: Request, token: str | None) -> None:
    if token is None:
        return
    given = request.headers.get("authorization", "")
    if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
        raise RefusedError(401, "a bearer token is needed")


async def _body(request: Request, limit: int) -> bytes:
    """The decompressed body. Refuses as soon as it is too large, also while decompressing."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "", "gzip", "deflate"):
        raise RefusedError(415, f"content encoding {encoding}: send gzip or none")
    unpack = None
    if encoding in ("gzip", "deflate"):
        unpack = zlib.decompressobj(zlib.MAX_WBITS | (16 if encoding == "gzip" else 0))
    too_large = RefusedError(413, f"more than {limit} bytes")
    taken, body = 0, bytearray()
    async for chunk in request.stream():
        taken += len(chunk)
        if taken > limit:
            raise too_large
        try:
            body += chunk if unpack is None else unpack.decompress(chunk, limit + 1 - len(body))
        except zlib.error as error:
            raise RefusedError(400, f"broken {encoding}: {error}") from None
        if len(body) > limit or (unpack is not None and unpack.unconsumed_tail):
            raise too_large
    if unpack is not None and taken and not unpack.eof:
        raise RefusedError(400, f"torn {encoding}")
    return bytes(body)


def _checked(signal: str, kind: str, body: bytes) -> tuple[str, bytes] | None:
    """File suffix and bytes to append; None where the request holds nothing. Refuses what is no OTLP."""
    name, message, keys = _SIGNALS[signal]
    if kind == JSON:
        try:
            document: Any = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RefusedError(400, f"no JSON: {error}") from None
        if not isinstance(document, dict):
            raise RefusedError(400, f"no OTLP {name}: not a JSON object")
        found = next((document[key] for key in keys if document.get(key) is not None), None)
        if found is None and not document:
            return None
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            raise RefusedError(400, f"no OTLP {name}: {keys[0]} is missing or no list of objects")
        line = msgspec.json.format(body, indent=-1) if b"\n" in body or b"\r" in body else body.strip()
        return (f"{name}.jsonl", line + b"\n") if found else None
    try:
        request = message.FromString(body)
    except DecodeError as error:
        raise RefusedError(400, f"no OTLP {name}: {error}") from None
    resources = request.resource_spans if signal == "traces" else request.resource_logs
    if not resources:
        if body:
            raise RefusedError(400, f"no OTLP {name}: no resources in it")
        return None
    if signal == "traces":
        spans = [span for item in resources for scope in item.scope_spans for span in scope.spans]
        if spans and not any(len(span.trace_id) == 16 for span in spans):
            raise RefusedError(400, "no OTLP traces: no span has a trace id")
    return f"{name}.otlp.pb", framed([body])


def _error(kind: str, status: int, reason: str) -> Response:
    headers = {"retry-after": str(RETRY_AFTER_S)} if status == 503 else {}
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    code = _RPC_CODES.get(status, 2)
    if kind == PROTOBUF:
        content = Status(code=code, message=reason).SerializeToString()
        return Response(content, status_code=status, headers=headers, media_type=PROTOBUF)
    return JSONResponse({"code": code, "message": reason}, status_code=status, headers=headers)
