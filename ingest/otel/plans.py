"""What becomes of the attributes of OpenTelemetry GenAI spans that have the same names: asked once, used for all.

The general way itself (`dialects.understand`) is watched while it understands the first span of a shape.
"""

from collections.abc import Sequence
from typing import Any

from tracemill.ingest.dialects import PEOPLE, USERS, understand
from tracemill.ingest.reader import Bundle, Heard, Origin, RawSpan
from tracemill.ingest.redact import Redactor

TEXTS: dict[str, tuple[str, ...]] = {
    "session_id": ("gen_ai.conversation.id", "session.id"),
    "error_type": ("error.type",),
    "agent_name": ("gen_ai.agent.name",),
    "agent_version": ("gen_ai.agent.version",),
    "provider": ("gen_ai.provider.name", "gen_ai.system"),
    "model_requested": ("gen_ai.request.model",),
    "model": ("gen_ai.response.model",),
    "response_id": ("gen_ai.response.id",),
}
NUMBERS: dict[str, tuple[str, ...]] = {
    "tokens_in": ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
    "tokens_out": ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"),
    "tokens_cache_read": ("gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens"),
    "tokens_cache_write": ("gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_creation_input_tokens"),
    "tokens_reasoning": ("gen_ai.usage.reasoning.output_tokens", "gen_ai.usage.reasoning_tokens"),
}
_OTHERS: dict[str, tuple[str, ...]] = {
    "user": USERS,
    "operation": ("gen_ai.operation.name",),
    "cost_usd": ("gen_ai.usage.cost",),
    "input": ("gen_ai.input.messages",),
    "output": ("gen_ai.output.messages",),
    "system": ("gen_ai.system_instructions",),
    "tools": ("gen_ai.tool.definitions",),
    "reasons": ("gen_ai.response.finish_reasons",),
    "tool_name": ("gen_ai.tool.name",),
    "tool_call_id": ("gen_ai.tool.call.id",),
    "tool_args": ("gen_ai.tool.call.arguments",),
    "tool_result": ("gen_ai.tool.call.result",),
    "output_type": ("gen_ai.output.type",),
}
PLACES = {name: place for place, names in enumerate((TEXTS | NUMBERS | _OTHERS).values()) for name in names}
WORDS = tuple(TEXTS | NUMBERS | _OTHERS)
_REQUEST = "gen_ai.request."
_SPREAD = ("gen_ai.prompt", "gen_ai.completion", "llm.", "traceloop.")
"""Vocabulary that is spread over names with numbers in them, or found by the beginnings of names."""
_OPERATION = "gen_ai.operation.name"
_KEPT = (_OPERATION, "gen_ai.response.id", "otel.scope.name", "exception")
"""Names that come among those that stay in the attributes."""
_MAX_SHAPES = 2000


class _Watched(dict[str, Any]):
    """Attributes that note which names were asked for."""

    def __init__(self, attributes: dict[str, Any]) -> None:
        super().__init__(attributes)
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.asked.add(name)
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        self.asked.add(str(name))
        return super().__contains__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, default)

    def pop(self, name: str, *default: Any) -> Any:
        self.asked.add(name)
        return super().pop(name, *default)

    def setdefault(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return super().setdefault(name, default)


class Plan:
    """What becomes of the attributes of all spans that have these names and this operation."""

    __slots__ = ("dialect", "free", "kind", "params", "places", "seen")

    def __init__(
        self, dialect: str, kind: str, places: Sequence[int], free: Sequence[tuple[int, str]], params: Sequence[Any]
    ) -> None:
        self.dialect = dialect
        self.kind = kind
        self.places = dict(zip(WORDS, places, strict=True))
        """Where the values of what has a column stand; -1 for what these spans do not say."""
        self.free = tuple(free)
        """Where those stand that stay in the attributes, and their names."""
        self.params = tuple(params)
        """The same for the parameters of the call."""
        self.seen: dict[bytes, tuple[str | None, bool]] = {}
        """Parameters as JSON, and whether redaction changed them, by their values; few combinations occur."""


class Plans:
    """The plans of one batch, by names of attributes, scope and operation."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._plans: dict[tuple[tuple[str, ...], str | None], dict[str, Plan | None]] = {}

    def grouped(self, bundles: Sequence[Bundle]) -> list[tuple[Plan, list[int]]]:
        """The spans, by their places in all bundles, that have a plan in common; those without one are left out."""
        spans: list[Heard] = []
        shapes: dict[tuple[tuple[str, ...], str | None], tuple[Origin, list[int]]] = {}
        for bundle in bundles:
            scope = bundle.origin.scope
            first = len(spans)
            spans += bundle.spans
            if "agentlightning.rollout_id" in bundle.origin.resource:
                continue  # whatever it is, that is what it belongs to
            for at, heard in enumerate(bundle.spans, start=first):
                alike = shapes.get((heard.names, scope))
                if alike is None:
                    shapes[heard.names, scope] = bundle.origin, [at]
                else:
                    alike[1].append(at)
        found = []
        for shape, (origin, places) in shapes.items():
            plans = self._plans.get(shape)
            if plans is None:
                if len(self._plans) > _MAX_SHAPES:
                    continue
                plans = self._plans[shape] = {}
            if _OPERATION not in shape[0]:
                continue
            place = shape[0].index(_OPERATION)
            by_operation: dict[str, list[int]] = {}
            for at in places:
                operation = spans[at].values[place]
                if type(operation) is str and operation:
                    by_operation.setdefault(operation, []).append(at)
            for operation, several in by_operation.items():
                if operation not in plans:
                    plans[operation] = self._made(spans[several[0]], origin)
                plan = plans[operation]
                if plan is not None:
                    found.append((plan, several))
        return found

    def _made(self, heard: Heard, origin: Origin) -> Plan | None:
        """The plan of a shape, from what the general way asks of a span of it; None where it does not fit."""
        names = heard.names
        watched = _Watched(dict(zip(names, heard.values, strict=True)))
        span = RawSpan(trace_id=heard.trace_id, span_id=heard.span_id, kind="chain", name=heard.name)
        understand(span, watched, [], origin)
        if span.dialect not in ("otel-genai", "openllmetry") or len(set(names)) < len(names):
            return None
        places, free, params = [-1] * len(WORDS), [], []
        for at, name in enumerate(names):
            if name.startswith(_SPREAD) or self._redactor.changed([name, *_KEPT]):
                return None
            if name in PLACES and name in watched.asked:
                if places[PLACES[name]] >= 0:
                    return None  # two spellings of one thing
                places[PLACES[name]] = at
            elif name.startswith(_REQUEST):
                params.append((at, name.removeprefix(_REQUEST)))
            elif name in watched.asked:
                if name not in PEOPLE:  # they are dropped
                    return None
            else:
                free.append((at, name))
        return Plan(span.dialect, span.kind, places, free, params)
