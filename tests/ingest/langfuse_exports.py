"""What Langfuse exports, written by hand after its API definition: a trace, an observation, and their rows taken in."""

import json
from typing import Any

from tracemill.ids import content_id

TRACE = "0af7651916cd43dd8448eb211c80319c"
ROOT = content_id("langfuse-trace", TRACE)[:16]


def observation(name: str = "a", type: str = "GENERATION", parent: str | None = None, **fields: Any) -> dict[str, Any]:
    """An observation as the API gives it; its id is made from its name."""
    return {
        "id": name.encode().hex().rjust(16, "0"),
        "traceId": TRACE,
        "type": type,
        "name": name,
        "startTime": "2025-09-30T09:04:01.001Z",
        "endTime": "2025-09-30T09:04:02.500Z",
        "parentObservationId": None if parent is None else parent.encode().hex().rjust(16, "0"),
        "level": "DEFAULT",
        "statusMessage": None,
        "updatedAt": "2025-09-30T09:05:00.000Z",
    } | fields


def trace(**fields: Any) -> dict[str, Any]:
    return {
        "id": TRACE,
        "name": "desk",
        "timestamp": "2025-09-30T09:04:01.000Z",
        "userId": "ann@example.com",
        "sessionId": "s-1",
        "release": "r7",
        "tags": ["prod"],
        "bookmarked": False,
        "updatedAt": "2025-09-30T09:05:00.000Z",
    } | fields


def snake(row: dict[str, Any]) -> dict[str, Any]:
    return {"".join(f"_{c.lower()}" if c.isupper() else c for c in name): value for name, value in row.items()}


def below(taken: Any) -> list[dict[str, Any]]:
    """The spans as the file gives them, without the root that their trace is."""
    return [span for span in taken.rows("spans") if span["span_id"] != ROOT]


def settled(taken: Any) -> list[dict[str, Any]]:
    """The spans that the lake makes of them, without that root."""
    return [span for span in taken.spans if span["span_id"] != ROOT]


def together(*taken: Any) -> Any:
    """What several files make together, in this order."""
    return type(taken[0])([batch for one in taken for batch in one.batches])


def text(role: str, content: str) -> tuple[str, list[dict[str, Any]]]:
    return role, [{"type": "text", "content": content}]


CALL = observation(
    input=json.dumps([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]),
    output=json.dumps({"role": "assistant", "content": "hello"}),
    model="gpt-4o-2024",
    modelParameters={"temperature": "0.2", "max_tokens": None, "model": "gpt-4o"},
    usageDetails={"input": 9, "output": 2, "total": 11},
    costDetails={"input": 0.1, "total": 0.3},
    totalCost=0.3,
    promptName="greet",
    promptVersion=3,
    promptLabel="production",
    version="1.2",
)
