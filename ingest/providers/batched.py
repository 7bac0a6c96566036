"""Batch APIs: requests stand in one file and answers in another, joined by the id that the caller gave (`custom_id`).

Callers give the same ids in every batch ("request-1"), so an answer is known by its own id, and a request becomes the
prompt of an answer only where it is beyond doubt: both are taken in together, and in their folder, else in all that is
taken in together, there is one request of that id. Other requests stay what they are: events without an answer.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from tracemill.ids import content_id
from tracemill.ingest.attributes import identity
from tracemill.ingest.content.book import MessageBook
from tracemill.ingest.reader import Message, RawSpan
from tracemill.schema import SPANS

REQUEST = "batch request"
"""The name of the event that a request is while nothing is known of its answer."""
UNANSWERED = "unanswered"
_PROMPT = ("system_ids", "input_ids", "tool_definitions_id", "params", "model_requested", "user_key", "session_id")


def waiting(
    custom_id: Any,
    said: list[Message],
    request: Mapping[str, Any],
    *,
    not_params: frozenset[str],
    line: int,
    dialect: str,
) -> RawSpan:
    """A request that waits for its answer."""
    trace_id = identity("batch-request", str(custom_id), [list(message) for message in said], str(request.get("model")))
    model = request.get("model")
    tools = request.get("tools")
    return RawSpan(
        trace_id=trace_id,
        span_id=content_id(trace_id, "request")[:16],
        kind="event",
        name=REQUEST,
        input=said,
        model_requested=None if model is None else str(model),
        params={k: v for k, v in request.items() if k not in not_params},
        tools=tools if isinstance(tools, list) else None,
        attributes={"custom_id": custom_id},
        line=line,
        dialect=dialect,
        flags=[UNANSWERED],
    )


def join(spans: pa.Table, book: MessageBook) -> tuple[pa.Table, list[str]]:
    """The spans with requests made the prompts of their answers; and the source uris of the requests so used up."""
    asked = pc.and_(pc.equal(spans["name"], REQUEST), pc.equal(spans["kind"], "event"))
    if spans.num_rows == 0 or not pc.any(asked).as_py():
        return spans, []
    formats = pc.unique(spans.filter(asked)["source_format"])
    rows = spans.filter(pc.is_in(spans["source_format"], formats))
    rest = spans.filter(pc.invert(pc.is_in(spans["source_format"], formats)))
    listed = rows.to_pylist()
    answers = [(at, row) for at, row in enumerate(listed) if row["kind"] == "llm" and row["parent_span_id"] is None]
    requests = [(at, row) for at, row in enumerate(listed) if row["kind"] == "event" and row["name"] == REQUEST]
    used: set[int] = set()
    by_key: dict[tuple[str, ...], list[int]] = {}
    for at, row in requests:
        for key in _keys(row):
            by_key.setdefault(key, []).append(at)
    for _, answer in answers:
        found = next((by_key[key] for key in _keys(answer) if key in by_key), [])
        if len(found) == 1 and answer["input_ids"] is None:
            request = listed[found[0]]
            for name in _PROMPT:
                answer[name] = answer[name] if answer[name] is not None else request[name]
            answer["model_requested"] = request["model_requested"] or answer["model_requested"]
            private = ["redacted"] if "redacted" in request["flags"] else []
            answer["flags"] = list(dict.fromkeys([f for f in answer["flags"] if f != "lossy"] + private))
            ids = [*(answer["system_ids"] or ()), *(answer["input_ids"] or ()), answer["tool_definitions_id"]]
            book.again([known for known in ids if known is not None], answer["day"])
            used.add(found[0])
    kept = [row for at, row in enumerate(listed) if at not in used]
    joined = pa.table([pa.array([row[f.name] for row in kept], f.type) for f in SPANS], schema=SPANS)
    return pa.concat_tables([rest, joined]), [listed[at]["source_uri"] for at in used]


def _keys(row: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """What a request and its answer share: the format, the folder and the id; else format and id."""
    attributes = msgspec.json.decode(row["attributes"] or "{}")
    custom_id = str(attributes.get("custom_id")) if isinstance(attributes, dict) else ""
    yield str(row["source_format"]), str(row["source_uri"]).rpartition("/")[0], custom_id
    yield str(row["source_format"]), custom_id
