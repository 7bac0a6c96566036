"""What stands in an OTLP request, and the answers that the specification wants: opentelemetry.io/docs/specs/otlp."""

from dataclasses import dataclass
from typing import Any

import msgspec
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from starlette.responses import JSONResponse, Response

from tracemill.app.landing import framed
from tracemill.ingest.attributes import hex_id

JSON = "application/json"
PROTOBUF = "application/x-protobuf"
SIGNALS: dict[str, tuple[type[Message], tuple[str, str]]] = {
    "traces": (ExportTraceServiceRequest, ("resourceSpans", "resource_spans")),
    "logs": (ExportLogsServiceRequest, ("resourceLogs", "resource_logs")),
}
_RPC_CODES = {400: 3, 401: 16, 404: 5, 413: 11, 415: 3, 429: 8, 503: 14}
_RETRY_AFTER_S = {429: 1, 503: 5}
_WHY = "spans without a valid trace id and span id cannot be used"


class RefusedError(Exception):
    """A request that is answered with an error; never leaves the collector."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason


class _Span(msgspec.Struct):
    """What a span needs; the rest of it is ingest's business, but has to be JSON."""

    traceId: Any = None  # noqa: N815
    spanId: Any = None  # noqa: N815
    trace_id: Any = None
    span_id: Any = None


class _Scoped(msgspec.Struct):
    spans: list[_Span] | None = None


class _Resourced(msgspec.Struct):
    scopeSpans: list[_Scoped] | None = None  # noqa: N815
    scope_spans: list[_Scoped] | None = None
    instrumentationLibrarySpans: list[_Scoped] | None = None  # noqa: N815


_RESOURCED = msgspec.json.Decoder(list[_Resourced])
_TOP = msgspec.json.Decoder(dict[str, msgspec.Raw])
_OBJECTS = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What to write of a request: the suffix of its file, the bytes, and how many of its spans are of no use."""

    suffix: str
    data: bytes
    rejected: int = 0


def checked(signal: str, kind: str, body: bytes) -> Entry | None:
    """What a request holds; None where that is nothing. Raises RefusedError (400) where it is no OTLP."""
    return _json(signal, body) if kind == JSON else _protobuf(signal, body)


def _json(signal: str, body: bytes) -> Entry | None:
    keys = SIGNALS[signal][1]
    try:
        document = _TOP.decode(body)
        found = next((raw for key in keys if (raw := document.get(key)) is not None and bytes(raw) != b"null"), None)
        if found is None:
            if not document:
                return None
            raise RefusedError(400, f"no OTLP {signal}: {keys[0]} is missing")
        resources = (_RESOURCED if signal == "traces" else _OBJECTS).decode(found)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        what = "no JSON" if not isinstance(error, msgspec.ValidationError) else f"no OTLP {signal}"
        raise RefusedError(400, f"{what}: {error}") from None
    if not resources:
        return None
    line = msgspec.json.format(body, indent=-1) if b"\n" in body or b"\r" in body else body.strip()
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RefusedError(400, f"no JSON: {error}") from None
    rejected = 0
    if signal == "traces":
        spans = [span for one in resources for scoped in _scoped(one) for span in scoped.spans or ()]
        rejected = sum(
            hex_id(span.traceId or span.trace_id, 16) is None or hex_id(span.spanId or span.span_id, 8) is None
            for span in spans
        )
        _usable(rejected, len(spans))
    return Entry(suffix=f"{signal}.jsonl", data=line + b"\n", rejected=rejected)


def _scoped(one: Any) -> list[_Scoped]:
    return [*(one.scopeSpans or ()), *(one.scope_spans or ()), *(one.instrumentationLibrarySpans or ())]


def _protobuf(signal: str, body: bytes) -> Entry | None:
    try:
        request = SIGNALS[signal][0].FromString(body)
    except DecodeError as error:
        raise RefusedError(400, f"no OTLP {signal}: {error}") from None
    resources = request.resource_spans if signal == "traces" else request.resource_logs
    if not resources:
        if body:
            raise RefusedError(400, f"no OTLP {signal}: no resources in it")
        return None
    rejected = 0
    if signal == "traces":
        spans = [span for item in resources for scope in item.scope_spans for span in scope.spans]
        rejected = sum(hex_id(span.trace_id, 16) is None or hex_id(span.span_id, 8) is None for span in spans)
        _usable(rejected, len(spans))
    return Entry(suffix=f"{signal}.otlp.pb", data=framed([body]), rejected=rejected)


def _usable(rejected: int, of: int) -> None:
    if rejected and rejected == of:
        raise RefusedError(400, f"no OTLP traces: {_WHY}, and no other is here")


def accepted(kind: str, rejected: int) -> Response:
    """200: all of it, or all but some spans."""
    if kind == PROTOBUF:
        answer = ExportTraceServiceResponse()
        if rejected:
            answer.partial_success.rejected_spans = rejected
            answer.partial_success.error_message = _WHY
        # Without a partial success the answers of all signals are the same: empty.
        return Response(answer.SerializeToString(), media_type=PROTOBUF)
    if not rejected:
        return Response(b"{}", media_type=JSON)
    # Numbers of 64 bits are text in the JSON of protobuf.
    return JSONResponse({"partialSuccess": {"rejectedSpans": str(rejected), "errorMessage": _WHY}})


def refused(kind: str, status: int, reason: str) -> Response:
    """An error as a Status in the encoding of the request, with when to come back where that can help."""
    headers = {"retry-after": str(_RETRY_AFTER_S[status])} if status in _RETRY_AFTER_S else {}
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    code = _RPC_CODES.get(status, 2)
    if kind == PROTOBUF:
        content = Status(code=code, message=reason).SerializeToString()
        return Response(content, status_code=status, headers=headers, media_type=PROTOBUF)
    return JSONResponse({"code": code, "message": reason}, status_code=status, headers=headers)
