"""Spans in the words of OpenTelemetry GenAI straight into rows: the common case, at a tenth of its price.

What the general way (`dialects.understand`, then `SpanColumns.add`) asks of a span one by one is here asked once of all
spans that have the same attribute names: which vocabulary they speak, and what becomes of each attribute. The general
way itself is watched while it understands the first of them. A span that has anything unusual about it goes the general
way, so that there is one truth; both give the same rows.

All texts of a bundle are redacted in one pass: mostly nothing is found, and the texts stay as they are.
"""

import math
from collections.abc import Sequence
from typing import Any

import msgspec

from tracemill.chat import as_text
from tracemill.ingest.columns import DAY_NS, SpanColumns, day_of, nanoseconds
from tracemill.ingest.content.messages import Known, MessageBook, canonical, tool_message
from tracemill.ingest.dialects import exceptions
from tracemill.ingest.dialects.agent_lightning import NAMES as LIGHTNING
from tracemill.ingest.dialects.event import Event
from tracemill.ingest.dialects.genai import TOLD_BY_KIND, told_in_events
from tracemill.ingest.documents import MALFORMED, unwrap
from tracemill.ingest.otel.envelope import status_of
from tracemill.ingest.otel.plans import N_NUMBERS, N_TEXTS, Plan, Plans
from tracemill.ingest.reader import Bundle, Heard, Item, Origin, RawSpan
from tracemill.ingest.redact import HARD, Redactor
from tracemill.schema import SPANS

Row = tuple[list[Any], list[Item]]
"""The values of a span in the order of SPANS, and the scores found in it."""
_EVENTS = ("exception", "gen_ai.evaluation.result")
_MAX_CACHED = 2000
_MAX_INT = 2**63 - 1


def _columns(*names: str) -> tuple[int, ...]:
    return tuple(SPANS.get_field_index(name) for name in names)


_TRACE, _SPAN, _PARENT, _SESSION, _USER, _SEQ = _columns(
    "trace_id", "span_id", "parent_span_id", "session_id", "user_key", "seq"
)
_DAY, _START, _END, _KIND, _NAME, _STATUS = _columns("day", "start_ns", "end_ns", "kind", "name", "status")
_ERROR, _MESSAGE, _SERVICE, _AGENT, _AGENT_VERSION = _columns(
    "error_type", "error_message", "service", "agent_name", "agent_version"
)
_PROVIDER, _REQUESTED, _MODEL, _RESPONSE, _PARAMS = _columns(
    "provider", "model_requested", "model", "response_id", "params"
)
_SYSTEM, _INPUT, _OUTPUT, _TOOLS, _REASONS = _columns(
    "system_ids", "input_ids", "output_ids", "tool_definitions_id", "finish_reasons"
)
_CALLED, _CALL, _ARGS, _RESULT = _columns("tool_name", "tool_call_id", "tool_args", "tool_result")
_TOKENS = slice(SPANS.get_field_index("tokens_in"), SPANS.get_field_index("tokens_reasoning") + 1)
_COST, _ATTRIBUTES, _FLAGS, _INGESTED = _columns("cost_usd", "attributes", "flags", "ingested_at")
_URI, _LINE, _FORMAT, _DIALECT = _columns("source_uri", "source_line", "source_format", "dialect")
_CORE = (
    *(_TRACE, _SPAN, _PARENT, _SESSION, _NAME, _ERROR, _MESSAGE, _AGENT, _AGENT_VERSION, _PROVIDER, _REQUESTED),
    *(_MODEL, _RESPONSE, _CALLED, _CALL),
)
"""Where redaction changes one of these, the general way knows what becomes of it."""


class _Draft(msgspec.Struct, gc=False):
    """A row that is right if redaction leaves its texts alone."""

    row: list[Any]
    texts: list[str]
    free: dict[str, Any]
    """What stays in the attributes."""
    messages: list[list[Known] | None]
    """Input, output, the system messages that open it, tool definitions."""
    hard: bool
    """Whether the attributes, arguments and result have to be redacted value by value."""
    touched: bool
    scores: list[Item]


class Straight:
    """Makes rows of bundles for one batch."""

    def __init__(self, book: MessageBook, redactor: Redactor, columns: SpanColumns, *, now_ns: int) -> None:
        self._book = book
        self._redactor = redactor
        self._columns = columns
        self._now_ns = now_ns
        self._plans = Plans(redactor)
        self._days: dict[int, Any] = {}
        self._users: dict[str, str | None] = {}
        self._systems: dict[str, list[Known]] = {}
        self._tools: dict[str, list[Known] | None] = {}
        self._params: dict[bytes, tuple[str | None, bool]] = {}

    def rows(self, bundle: Bundle, *, uri: str, source_format: str, seq: int) -> list[Row | None]:
        """The rows of the spans; None for every span that has to go the general way."""
        none: list[Row | None] = [None] * len(bundle.spans)
        origin = bundle.origin
        if "agentlightning.rollout_id" in origin.resource:
            return none
        drafts: list[_Draft | None] = []
        for place, heard in enumerate(bundle.spans, start=seq):
            try:
                draft = self._draft(heard, origin)
            except MALFORMED:
                draft = None
            if draft is not None:
                draft.row[_SEQ] = place
            drafts.append(draft)
        shared = [text for text in (origin.service, origin.scope) if text is not None]
        texts = self._book.unsettled().union(shared, *(draft.texts for draft in drafts if draft is not None))
        try:
            dirty = self._redactor.changed(texts)
        except MALFORMED:  # one that is too long: each is judged by itself
            self._book.settle(texts)
            return none
        self._book.settle(dirty)
        if not dirty.isdisjoint(shared):
            return none
        return [None if draft is None else self._finished(draft, bundle, uri, source_format, dirty) for draft in drafts]

    def _finished(self, draft: _Draft, bundle: Bundle, uri: str, source_format: str, dirty: set[str]) -> Row | None:
        row, redactor, free = draft.row, self._redactor, draft.free
        touched = draft.touched
        day = row[_DAY]
        ids = [None if said is None else [one.message_id for one in said] for said in draft.messages]
        if any(None in found for found in ids if found):
            return None
        for messages in draft.messages:
            if messages:
                self._book.say(messages, day)
                if not touched:
                    for one in messages:
                        touched = touched or one.touched
        row[_INPUT], row[_OUTPUT], row[_SYSTEM], tools = ids
        row[_TOOLS] = tools[0] if tools else None
        if draft.hard or (dirty and not dirty.isdisjoint(draft.texts)):
            if not dirty.isdisjoint(text for text in map(row.__getitem__, _CORE) if text is not None):
                return None
            if row[_REASONS] and not dirty.isdisjoint(row[_REASONS]):
                return None
            before = redactor.hits
            row[_ARGS], row[_RESULT] = self._columns.text(row[_ARGS]), self._columns.text(row[_RESULT])
            free = redactor.value(free)
            touched = touched or redactor.hits != before
        else:
            for column in (_ARGS, _RESULT):
                if row[column] is not None:
                    row[column] = as_text(row[column])
        if bundle.origin.scope:
            free["otel.scope.name"] = bundle.origin.scope
        if bundle.origin.resource:
            free["resource"], resource_touched = self._columns.resource(bundle.origin.resource)
            touched = touched or resource_touched
        row[_ATTRIBUTES] = msgspec.json.encode(free).decode() if free else None
        if touched:
            row[_FLAGS].append("redacted")
        row[_SERVICE], row[_URI], row[_LINE], row[_FORMAT] = bundle.origin.service, uri, bundle.line, source_format
        return row, draft.scores

    def _draft(self, heard: Heard, origin: Origin) -> _Draft | None:
        if (
            heard.links
            or not all(event.name in _EVENTS for event in heard.events)
            or (heard.name or "").startswith(LIGHTNING)
        ):
            return None
        plan = self._plans.of(heard, origin)
        if plan is None:
            return None
        values = [*heard.values, None]
        picked = plan.pick(values)
        if None in plan.own(values):
            return None  # an attribute without a value stays where it is
        said = picked[:N_TEXTS]
        for text in said:
            if text is not None and (type(text) is not str or not text):
                return None
        session, error_type, agent, agent_version, provider, model_requested, model, response_id = said
        for number in picked[N_TEXTS : N_TEXTS + N_NUMBERS]:
            if number is not None and type(number) is not int:
                return None
        tokens_in, tokens_out, read, write, reasoning = picked[N_TEXTS : N_TEXTS + N_NUMBERS]
        if tokens_in is not None and (read or write) and (cached := (read or 0) + (write or 0)) > tokens_in:
            tokens_in += cached
        (user, operation, cost, prompt, answer, system, tools, reasons, tool_name, call_id, args, result, _) = picked[
            N_TEXTS + N_NUMBERS :
        ]
        if provider == "gcp.vertex.agent" or (cost is not None and type(cost) not in (float, int)):
            return None
        for text in (user, tool_name, call_id):
            if text is not None and (type(text) is not str or not text):
                return None
        start, end = nanoseconds(heard.start_ns), nanoseconds(heard.end_ns)
        day = None if start is None else self._day(start)
        row: list[Any] = [None] * len(SPANS)
        flags = list(heard.flags)
        asked: list[Known] | None = None
        given: list[Known] | None = None
        if prompt is not None:
            told = self._book.told(prompt, "user", session or heard.trace_id) if type(prompt) is str else None
            if told is None:
                return None
            asked = [known for found, _ in told for known in found]
        if answer is not None:
            told = self._book.told(answer, "assistant") if type(answer) is str else None
            if told is None:
                return None
            given = [known for found, _ in told for known in found]
            if reasons is None:
                reasons = [reason for _, reason in told if reason is not None]
        if reasons is not None and not (type(reasons) is list and all(type(reason) is str for reason in reasons)):
            return None
        if "truncated" not in flags and any(one.cut for one in (*(asked or ()), *(given or ()))):
            flags.append("truncated")
        opening: list[Known] = [] if system is None else self._system(system)
        if asked is not None:
            length = next((at for at, known in enumerate(asked) if known.role != "system"), len(asked))
            opening, asked = asked[:length] or opening, asked[length:]
        definitions = None if tools is None else self._definitions(tools)
        if start is not None and end is not None and end < start:
            flags.append("clock")
        free = dict(zip(plan.free_names, plan.free(values), strict=True))
        status, message = status_of(heard.status), heard.message or None
        scores: list[Item] = []
        if heard.events:
            events = [Event(name=e.name, attributes=dict(e.attributes), time_ns=e.time_ns) for e in heard.events]
            span = RawSpan(
                trace_id=heard.trace_id,
                span_id=heard.span_id,
                kind=plan.kind,
                status=status,
                error_type=error_type,
                error_message=message,
            )
            exceptions(span, free, events)
            scores = told_in_events(span, events)
            status, error_type, message = span.status, span.error_type, span.error_message
        elif error_type is not None and status == "unset":
            status = "error"
        if operation not in TOLD_BY_KIND:
            free["gen_ai.operation.name"] = operation
        if response_id is not None:
            free["gen_ai.response.id"] = response_id
        args = unwrap(args)
        texts: list[str] = []
        hard = self._redactor.gather(args, texts) | self._redactor.gather(result, texts)
        for name, value in free.items():
            hard |= self._redactor.gather_keyed(name, value, texts)
        if reasons:
            row[_REASONS] = reasons
            texts += reasons
        params, params_touched = self._request(plan, values, picked[-1])
        row[_TRACE], row[_SPAN], row[_PARENT] = heard.trace_id, heard.span_id, heard.parent_id or None
        row[_SESSION], row[_USER] = session, None if user is None else self._user(user)
        row[_DAY], row[_START], row[_END] = day, start, end
        row[_KIND], row[_NAME], row[_DIALECT] = plan.kind, heard.name, plan.dialect
        row[_STATUS], row[_ERROR], row[_MESSAGE] = status, error_type, message
        row[_AGENT], row[_AGENT_VERSION], row[_PROVIDER] = agent, agent_version, provider
        row[_REQUESTED], row[_MODEL], row[_RESPONSE] = model_requested, model or model_requested, response_id
        row[_CALLED], row[_CALL], row[_ARGS], row[_RESULT] = tool_name, call_id, args, result
        row[_TOKENS] = [
            None if n is None or not 0 <= n <= _MAX_INT else n for n in (tokens_in, read, write, tokens_out, reasoning)
        ]
        row[_COST] = float(cost) if cost is not None and math.isfinite(cost) else None
        row[_PARAMS], row[_FLAGS], row[_INGESTED] = params, flags, self._now_ns
        texts += [text for text in map(row.__getitem__, _CORE) if text is not None]
        return _Draft(
            row, texts, free, [asked, given, opening or None, definitions], bool(hard & HARD), params_touched, scores
        )

    def _day(self, start: int) -> Any:
        found = self._days.get(start // DAY_NS)
        if found is None:
            found = self._days[start // DAY_NS] = day_of(start)
        return found

    def _user(self, user: str) -> str | None:
        if user not in self._users:
            if len(self._users) > _MAX_CACHED:
                self._users.clear()
            self._users[user] = self._redactor.user_key(user)
        return self._users[user]

    def _system(self, text: Any) -> list[Known]:
        found = self._systems.get(text)
        if found is None:
            if len(self._systems) > _MAX_CACHED:
                self._systems.clear()
            said = unwrap(text)
            message = {"role": "system", "parts": said} if isinstance(said, list) else said
            found = self._systems[text] = self._book.known(canonical(message, "system"))
        return found

    def _definitions(self, text: Any) -> list[Known] | None:
        if text not in self._tools:
            if len(self._tools) > _MAX_CACHED:
                self._tools.clear()
            tools = unwrap(text)
            message = tool_message(tools) if isinstance(tools, list) and tools else None
            self._tools[text] = None if message is None else self._book.known([message])
        return self._tools[text]

    def _request(self, plan: Plan, values: Sequence[Any], output_type: Any) -> tuple[str | None, bool]:
        """The parameters of the call as JSON, and whether redaction changed them; few combinations occur."""
        params = dict(zip(plan.param_names, plan.params(values), strict=True))
        if output_type is not None:
            params["output_type"] = output_type
        if not params:
            return None, False
        key = msgspec.msgpack.encode(params)
        found = self._params.get(key)
        if found is None:
            if len(self._params) > _MAX_CACHED:
                self._params.clear()
            before = self._redactor.hits
            text = self._redactor.json(params)
            found = self._params[key] = (text, self._redactor.hits != before)
        return found
