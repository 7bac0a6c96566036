"""One span of any OpenTelemetry envelope: ids, times and status made one, then understood in the dialect it speaks.

Envelopes differ (OTLP, Tempo, Jaeger, the SDKs' JSON, flat rows); what a span says does not. Every reader of spans ends
in `spoken`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tracemill.ids import content_id
from tracemill.ingest.attributes import as_ns, hex_id
from tracemill.ingest.dialects import understand
from tracemill.ingest.dialects.event import Event
from tracemill.ingest.documents import unwrap
from tracemill.ingest.reader import Bundle, Heard, Item, Origin, RawSpan

TRACE_BYTES, SPAN_BYTES = 16, 8
_HEX = frozenset("0123456789abcdef")
_NOTHING = frozenset(("", "none", "null", "nan", "undefined"))


class NoSpanError(ValueError):
    """The record cannot be a span; the message is the reason for its quarantine."""


def spoken(
    *,
    trace_id: Any,
    span_id: Any,
    parent_id: Any = None,
    name: str | None,
    start_ns: int | None,
    end_ns: int | None,
    status: Any = None,
    message: str | None = None,
    attributes: dict[str, Any],
    events: Sequence[Event] = (),
    links: Sequence[Any] | None = None,
    origin: Origin,
    line: int | None,
    flags: Iterable[str] = (),
    seq: int | None = None,
    foreign_ids: bool = False,
) -> list[Item]:
    """The span in canonical words, and the scores found in it. Takes over `attributes`.

    With `foreign_ids`, ids that are no OpenTelemetry ids name a span too: their hash does, and they are kept in the
    attributes. Raises NoSpanError where an id is missing.
    """
    ids = {"trace_id": (trace_id, TRACE_BYTES), "span_id": (span_id, SPAN_BYTES), "parent_id": (parent_id, SPAN_BYTES)}
    normal = {key: own_id(value, size) if foreign_ids else hex_id(value, size) for key, (value, size) in ids.items()}
    for key in ("trace_id", "span_id"):
        if normal[key] is None:
            raise NoSpanError(f"the span has no valid {key.replace('_', ' ')}")
    if foreign_ids:
        hashed = {key: str(value) for key, (value, size) in ids.items() if normal[key] and _is_foreign(value, size)}
        if hashed:
            attributes["source_ids"] = hashed
    if links:
        attributes["links"] = list(links)
    span = RawSpan(
        trace_id=str(normal["trace_id"]),
        span_id=str(normal["span_id"]),
        parent_span_id=normal["parent_id"],
        kind="chain",
        name=name,
        seq=seq,
        start_ns=start_ns,
        end_ns=end_ns,
        status=status_of(status),
        error_message=message or None,
        line=line,
        flags=list(flags),
    )
    return understand(span, attributes, list(events), origin)


def understood(heard: Heard, bundle: Bundle) -> Iterator[Item]:
    """One span of a bundle, and the scores found in it. Raises what decoding a malformed record raises."""
    yield from spoken(
        trace_id=heard.trace_id,
        span_id=heard.span_id,
        parent_id=heard.parent_id,
        name=heard.name,
        start_ns=heard.start_ns,
        end_ns=heard.end_ns,
        status=heard.status,
        message=heard.message,
        attributes=dict(zip(heard.names, heard.values, strict=True)),
        events=heard.events,
        links=heard.links,
        origin=bundle.origin,
        line=bundle.line,
        flags=heard.flags,
    )


def origin_of(resource: Mapping[str, Any], scope: str | None) -> Origin:
    """What the spans of one resource and scope share; the service's name is a column of its own."""
    rest = dict(resource)
    service = rest.pop("service.name", None)
    return Origin(resource=rest, scope=scope or None, service=None if service is None else str(service))


def own_id(value: Any, n_bytes: int) -> str | None:
    """A trace or span id as lower-case hex. Short hex lost its leading zeros; what is no id at all is hashed."""
    found = hex_id(value, n_bytes)
    if found is not None:
        return found
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = str(value).strip()
    plain = _plain_hex(text)
    if text.lower() in _NOTHING or not plain.strip("0"):
        return None
    if plain and len(plain) < 2 * n_bytes and _HEX.issuperset(plain):
        return plain.rjust(2 * n_bytes, "0")
    return content_id("id", text)[: 2 * n_bytes]


def _is_foreign(value: Any, n_bytes: int) -> bool:
    plain = _plain_hex(str(value))
    return hex_id(value, n_bytes) is None and not (len(plain) < 2 * n_bytes and _HEX.issuperset(plain))


def _plain_hex(text: str) -> str:
    return text.lower().removeprefix("0x").replace("-", "")


def status_of(status: Any) -> str:
    """ok, error or unset, from a number, a name in any spelling, or a true/false `error`."""
    if isinstance(status, bool):
        return "error" if status else "unset"
    if isinstance(status, int):
        return {1: "ok", 2: "error"}.get(status, "unset")
    name = str(status or "").upper().removeprefix("STATUS_CODE_").removeprefix("STATUSCODE.")
    return {"OK": "ok", "1": "ok", "SUCCESS": "ok", "ERROR": "error", "2": "error", "FAILED": "error"}.get(
        name, "unset"
    )


def time_of(value: Any) -> int | None:
    """A point in time as nanoseconds; `as_ns`, and the `[seconds, nanoseconds]` of JavaScript."""
    if isinstance(value, list | tuple) and len(value) == 2 and all(type(v) is int for v in value):
        return int(value[0]) * 1_000_000_000 + int(value[1])
    return as_ns(value)


def events_of(value: Any) -> list[Event]:
    """Span events of the SDKs' JSON, in any of their spellings; what is no event is left out."""
    found = unwrap(value)
    events = []
    for item in found if isinstance(found, list) else ():
        if isinstance(item, Mapping):
            attributes = unwrap(item.get("attributes") or item.get("event_attributes"))
            time = next((item[key] for key in _EVENT_TIMES if item.get(key) is not None), None)
            events.append(
                Event(
                    name=str(item.get("name") or item.get("event_name") or ""),
                    attributes=dict(attributes) if isinstance(attributes, Mapping) else {},
                    time_ns=time_of(time),
                )
            )
    return events


_EVENT_TIMES = ("timestamp", "time", "timeUnixNano", "time_unix_nano", "event_timestamp")
