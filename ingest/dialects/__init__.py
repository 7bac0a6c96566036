"""Attribute vocabularies of OpenTelemetry spans, chosen span by span: one trace may mix them.

A dialect is a function that moves what it knows from the attributes into the canonical span. To add one: a file here,
one line in `DIALECTS`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from tracemill.ingest.attributes import Attributes, take, take_numbers, take_text
from tracemill.ingest.dialects import genai, openinference, plain
from tracemill.ingest.dialects.event import Event
from tracemill.ingest.reader import About, Item, RawSpan

Fill = Callable[[RawSpan, Attributes, list[Event]], list[Item]]
"""Moves what it knows out of the attributes and events; gives scores that the span carries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One vocabulary. `speaks` sees the span's attributes, before anything was taken out of them."""

    name: str
    speaks: Callable[[Mapping[str, Any]], bool]
    fill: Fill
    about: About


DIALECTS: tuple[Dialect, ...] = (
    Dialect(name="openinference", speaks=openinference.speaks, fill=openinference.fill, about=openinference.ABOUT),
    Dialect(name="otel-genai", speaks=genai.speaks, fill=genai.fill, about=genai.ABOUT),
    Dialect(name="plain", speaks=plain.speaks, fill=plain.fill, about=plain.ABOUT),
)
"""The first that a span speaks fills it; narrower vocabularies stand before wider ones."""


class Origin(msgspec.Struct, kw_only=True):
    """What the spans of one resource and scope share."""

    resource: dict[str, Any]
    scope: str | None = None
    service: str | None = None


def understand(span: RawSpan, attributes: Attributes, events: list[Event], origin: Origin) -> list[Item]:
    """Fills the span from its attributes and events; gives it, and the scores found in it."""
    span.service = origin.service
    span.session_id = take_text(attributes, "gen_ai.conversation.id", "session.id", "langfuse.session.id")
    user = take(attributes, "user.id", "enduser.id", "gen_ai.user", "llm.user", "langfuse.user.id")
    span.user = None if user is None else str(user)
    for name in _USER_NAMES:
        attributes.pop(name, None)
    span.task_key = take_text(attributes, "tracemill.task_key", "task.id", "task_id")
    span.input_token_ids = take_numbers(attributes, *_PROMPT_IDS)
    span.output_token_ids = take_numbers(attributes, *_RESPONSE_IDS)
    span.output_logprobs = take_numbers(attributes, *_LOGPROBS)
    span.error_type = take_text(attributes, "error.type")
    for event in list(events):
        if event.name == "exception":
            events.remove(event)
            span.error_type = span.error_type or take_text(event.attributes, "exception.type")
            span.error_message = span.error_message or take_text(event.attributes, "exception.message")
            if event.attributes:
                attributes.setdefault("exception", event.attributes)
    if span.error_type is not None and span.status == "unset":
        span.status = "error"
    dialect = next(dialect for dialect in DIALECTS if dialect.speaks(attributes))
    span.dialect = dialect.name
    scores = dialect.fill(span, attributes, events)
    if events:
        attributes["events"] = [event.plain() for event in events]
    if origin.scope:
        attributes["otel.scope.name"] = origin.scope
    span.attributes = attributes
    span.resource = origin.resource or None
    return [span, *scores]


_USER_NAMES = ("user.id", "enduser.id", "gen_ai.user", "llm.user", "langfuse.user.id", "user.email", "user.name")
_PROMPT_IDS = ("prompt_token_ids", "gen_ai.prompt_token_ids", "gen_ai.prompt.token_ids", "gen_ai.request.token_ids")
_RESPONSE_IDS = ("response_token_ids", "gen_ai.response_token_ids", "gen_ai.response.token_ids")
_LOGPROBS = ("response_logprobs", "gen_ai.response_logprobs", "gen_ai.response.logprobs")
