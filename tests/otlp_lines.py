"""Lines of OTLP/JSON files: spans of numbered traces, and messages that are logged apart from them."""

import json
from typing import Any

START = 1_780_000_000_000_000_000


def texts(**values: Any) -> list[dict[str, Any]]:
    return [{"key": name.replace("__", "."), "value": {"stringValue": str(value)}} for name, value in values.items()]


def span(trace: int, number: int, parent: int | None, said: str, *, apart_ns: int = 10**11) -> dict[str, Any]:
    """Span `number` of a trace; traces begin so far apart."""
    found: dict[str, Any] = {
        "traceId": f"{trace:032x}",
        "spanId": f"{trace * 100 + number:016x}",
        "name": f"step {number}",
        "startTimeUnixNano": str(START + trace * apart_ns + number),
        "endTimeUnixNano": str(START + trace * apart_ns + number + 5),
        "attributes": texts(gen_ai__operation__name="chat", gen_ai__request__model="m", note=said),
    }
    if parent is not None:
        found["parentSpanId"] = f"{trace * 100 + parent:016x}"
    return found


def spans(*found: dict[str, Any]) -> str:
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": list(found)}]}]}) + "\n"


def told(trace: int, number: int, text: str) -> str:
    """What a model was asked, logged apart from its span."""
    record = {
        "eventName": "gen_ai.user.message",
        "traceId": f"{trace:032x}",
        "spanId": f"{trace * 100 + number:016x}",
        "timeUnixNano": str(START),
        "body": {"kvlistValue": {"values": texts(content=text)}},
    }
    return json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}) + "\n"


def otlp_value(value: Any) -> dict[str, Any]:
    """A value of an attribute; None is one that holds nothing."""
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [otlp_value(item) for item in value]}}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": [{"key": k, "value": otlp_value(v)} for k, v in value.items()]}}
    return {} if value is None else {"stringValue": value}
