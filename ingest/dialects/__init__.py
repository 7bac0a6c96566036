"""Attribute vocabularies of OpenTelemetry spans, chosen span by span: one trace may mix them.

A dialect is a function that moves what it knows from the attributes into the canonical span. To add one: a file here,
one line in `DIALECTS`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tracemill.ingest.attributes import Attributes, as_float, take, take_numbers, take_text
from tracemill.ingest.dialects import (
    adk,
    agent_lightning,
    agentops,
    genai,
    langfuse,
    mlflow,
    monocle,
    openinference,
    openllmetry,
    plain,
    tracemill,
    vercel,
)
from tracemill.ingest.dialects.cut import is_cut
from tracemill.ingest.dialects.event import Event
from tracemill.ingest.dialects.words import Words
from tracemill.ingest.documents import unwrap
from tracemill.ingest.reader import About, Item, RawSpan
from tracemill.ingest.reader import Origin as Origin

Speaks = Callable[[RawSpan, Mapping[str, Any], Words], bool]
Prepare = Callable[[Attributes], None]
"""Brings the attributes into the shape that their names promise, before anything is taken out of them."""
Fill = Callable[[RawSpan, Attributes, list[Event]], list[Item]]
"""Moves what it knows out of the attributes and events; gives scores that the span carries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One vocabulary. `speaks` sees the span's attributes, before anything was taken out of them, and its scope."""

    name: str
    speaks: Speaks
    fill: Fill
    about: About
    prepare: Prepare
    whole: bool = False
    """Says all there is to say of the span: nothing is taken out before it fills, nothing is concluded after."""


def _as_it_is(attributes: Attributes) -> None:
    """Most vocabularies need no preparation."""


def _dialect(name: str, module: Any, prepare: Prepare = _as_it_is) -> Dialect:
    return Dialect(name=name, speaks=module.speaks, fill=module.fill, about=module.ABOUT, prepare=prepare)


DIALECTS: tuple[Dialect, ...] = (
    Dialect(
        name="tracemill",
        speaks=tracemill.speaks,
        fill=tracemill.fill,
        about=tracemill.ABOUT,
        prepare=_as_it_is,
        whole=True,
    ),
    _dialect("agent-lightning", agent_lightning),
    _dialect("vercel-ai-sdk", vercel),
    _dialect("monocle", monocle),
    _dialect("google-adk", adk),
    _dialect("mlflow", mlflow, mlflow.decode),
    _dialect("openinference", openinference, openinference.flatten),
    _dialect("langfuse", langfuse),
    _dialect("agentops", agentops),
    _dialect("openllmetry", openllmetry),
    _dialect("otel-genai", genai),
    _dialect("plain", plain),
)
"""The first that a span speaks fills it; narrower vocabularies stand before wider ones."""


def understand(span: RawSpan, attributes: Attributes, events: list[Event], origin: Origin) -> list[Item]:
    """Fills the span from its attributes and events; gives it, and the scores found in it."""
    words = Words(attributes, origin.scope)
    dialect = next(dialect for dialect in DIALECTS if dialect.speaks(span, attributes, words))
    span.dialect = dialect.name
    span.service = origin.service
    if dialect.whole:
        return [span, *dialect.fill(span, attributes, events)]
    dialect.prepare(attributes)
    span.session_id = take_text(attributes, *_SESSIONS)
    user = take(attributes, *USERS)
    span.user = None if user is None else str(user)
    for name in PEOPLE:
        attributes.pop(name, None)
    span.task_key = take_text(attributes, "tracemill.task_key", "task.id", "task_id")
    span.input_token_ids = take_numbers(attributes, *_PROMPT_IDS)
    span.output_token_ids = take_numbers(attributes, *_RESPONSE_IDS)
    span.output_logprobs = take_numbers(attributes, *_LOGPROBS)
    if span.output_logprobs is None:
        span.output_logprobs = _content_logprobs(attributes)
    span.error_type = take_text(attributes, "error.type")
    exceptions(span, attributes, events)
    scores = dialect.fill(span, attributes, events)
    if span.session_id is None and origin.resource.get("agentlightning.rollout_id") is not None:
        span.session_id = str(origin.resource["agentlightning.rollout_id"])
    if is_cut(span):
        span.flags.append("truncated")
    if events:
        attributes["events"] = [event.plain() for event in events]
    if origin.scope:
        attributes["otel.scope.name"] = origin.scope
    span.attributes = attributes
    span.resource = origin.resource or None
    return [span, *scores]


def _content_logprobs(attributes: Attributes) -> list[float] | None:
    """Log-probabilities as Agent Lightning's tracer copies them from an answer of the OpenAI API."""
    found = unwrap(attributes.get("logprobs.content"))
    numbers = [as_float(item.get("logprob")) for item in found if isinstance(item, Mapping)] if _listed(found) else []
    if not numbers or None in numbers or len(numbers) != len(found):
        return None
    del attributes["logprobs.content"]
    return [number for number in numbers if number is not None]


def _listed(value: Any) -> bool:
    return isinstance(value, list) and bool(value)


def exceptions(span: RawSpan, attributes: Attributes, events: list[Event]) -> None:
    """Moves what went wrong out of the events."""
    for event in list(events):
        if event.name == "exception":
            events.remove(event)
            span.error_type = span.error_type or take_text(event.attributes, "exception.type")
            span.error_message = span.error_message or take_text(event.attributes, "exception.message")
            if event.attributes:
                attributes.setdefault("exception", event.attributes)
    if span.error_type is not None and span.status == "unset":
        span.status = "error"


_ASSOCIATED = "traceloop.association.properties."
_SESSIONS = (
    "gen_ai.conversation.id",
    "session.id",
    "langfuse.session.id",
    "gcp.vertex.agent.session_id",
    "ai.telemetry.metadata.sessionId",
    f"{_ASSOCIATED}session_id",
    f"{_ASSOCIATED}thread_id",
    f"{_ASSOCIATED}conversation_id",
    f"{_ASSOCIATED}chat_id",
    "mlflow.trace.session",
    "scope.agentic.session",
    "agentlightning.rollout_id",
)
USERS = (
    "user.id",
    "enduser.id",
    "gen_ai.user",
    "llm.user",
    "langfuse.user.id",
    "ai.telemetry.metadata.userId",
    f"{_ASSOCIATED}user_id",
    f"{_ASSOCIATED}userId",
    "mlflow.trace.user",
    "kagent.user_id",
    "gcp.vertex.agent.user_id",
)
PEOPLE = (*USERS, "user.email", "user.name")
"""Whoever they name, they never stay in the attributes: only a pseudonym is kept."""
_PROMPT_IDS = ("prompt_token_ids", "gen_ai.prompt_token_ids", "gen_ai.prompt.token_ids", "gen_ai.request.token_ids")
_RESPONSE_IDS = ("response_token_ids", "gen_ai.response_token_ids", "gen_ai.response.token_ids")
_LOGPROBS = ("response_logprobs", "gen_ai.response_logprobs", "gen_ai.response.logprobs")
