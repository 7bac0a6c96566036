"""Columns of spans that have their attribute names in common, right if redaction leaves their texts alone."""

import math
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any

import msgspec

from tracemill.ingest.columns import DAY_NS, day_of, nanoseconds
from tracemill.ingest.content.book import MessageBook, Said
from tracemill.ingest.content.messages import canonical, tool_message
from tracemill.ingest.dialects import exceptions
from tracemill.ingest.dialects.agent_lightning import NAMES as LIGHTNING
from tracemill.ingest.dialects.event import Event
from tracemill.ingest.dialects.genai import TOLD_BY_KIND, told_in_events
from tracemill.ingest.documents import MALFORMED, unwrap
from tracemill.ingest.otel.envelope import status_of
from tracemill.ingest.otel.plans import NUMBERS, TEXTS, Plan
from tracemill.ingest.reader import Heard, Item, RawSpan
from tracemill.ingest.redact import HARD, Redactor

Column = Sequence[Any]
_EVENTS = frozenset(("exception", "gen_ai.evaluation.result"))
CORE = (
    *("trace_id", "span_id", "parent_span_id", "session_id", "name", "error_type", "error_message", "agent_name"),
    *("agent_version", "provider", "model_requested", "model", "response_id", "tool_name", "tool_call_id"),
)
"""Where redaction changes one of these, the general way knows what becomes of it."""
_WORDS = (*TEXTS, "user", "tool_name", "tool_call_id")
_OTHERS = ("operation", "cost_usd", "system", "tools", "reasons", "tool_args", "tool_result", "output_type")
_STR, _INT, _NUMBER, _LITTLE = (frozenset(types) for types in ((str,), (int,), (int, float), (bool, type(None))))
_TYPES = {
    **dict.fromkeys(NUMBERS, _INT),
    **dict.fromkeys(("input", "output", "system", "tools"), _STR),
    "cost_usd": _NUMBER,
}
_MAX_CACHED = 2000
_MAX_INT = 2**63 - 1
_packed = msgspec.msgpack.Encoder().encode
_of = attrgetter


class Draft:
    """Spans of one plan that become rows."""

    def __init__(self, plan: Plan, places: list[int], heard: list[Heard], values: list[Column]) -> None:
        self.plan = plan
        self.places = places
        """Where they stand in their bundle."""
        self.heard = heard
        self.values = values
        """Of the attributes, by attribute."""
        self.columns: dict[str, list[Any]] = {}
        """What is left out is NULL."""
        self.texts: set[str] = set()
        self.free: list[dict[str, Any]] = []
        """What stays in the attributes."""
        self.said: dict[str, list[Said]] = {}
        """Input, output, system messages that stand apart."""
        self.tools: list[Said | None] = []
        """Tool definitions, where the spans say any."""
        self.hard: set[int] = set()
        """Rows whose attributes, arguments and result have to be redacted value by value."""
        self.inner: list[tuple[int, list[str]]] = []
        """Rows, and the texts inside of what is more than a text in them."""
        self.touched: set[int] = set()
        """Rows that redaction changed."""
        self.scores: dict[int, list[Item]] = {}
        """By place."""

    def all_of(self, name: str) -> Column | None:
        """The values of what has a column; None where these spans do not say it."""
        place = self.plan.places[name]
        return None if place < 0 else self.values[place]


class Drafting:
    """Makes drafts for one batch."""

    def __init__(self, book: MessageBook, redactor: Redactor) -> None:
        self._book = book
        self._redactor = redactor
        self._days: dict[int, Any] = {}
        self._users: dict[str, str | None] = {}
        self._systems: dict[str, Said] = {}
        self._tools: dict[str, Said | None] = {}
        self._statuses: dict[Any, str] = {}

    def draft(self, plan: Plan, places: list[int], spans: Sequence[Heard]) -> Draft | None:
        """Rows of the spans at these places, but for those that have anything unusual about them; None for none."""
        heard = [spans[place] for place in places]
        draft = Draft(plan, places, heard, list(zip(*map(_of("values"), heard), strict=True)))
        odd = _odd(draft) or self._told(draft)
        if odd:
            rest = [place for row, place in enumerate(places) if row not in odd]
            return self.draft(plan, rest, spans) if rest else None
        self._envelope(draft)
        self._words(draft)
        self._call(draft)
        self._attributes(draft)
        for name in CORE:
            if name in draft.columns:
                draft.texts.update(draft.columns[name])
        draft.texts.discard(None)
        return draft

    def _told(self, draft: Draft) -> set[int]:
        """Reads the messages; gives the rows whose messages are written in another way."""
        odd: set[int] = set()
        threads = draft.all_of("session_id") or list(map(_of("trace_id"), draft.heard))
        for name, role in (("input", "user"), ("output", "assistant")):
            column = draft.all_of(name)
            if column is None:
                continue
            found = draft.said[name] = []
            for row, text in enumerate(column):
                try:
                    said = self._book.told(text, role, threads[row] if name == "input" else None)
                except MALFORMED:
                    said = None
                if said is None:
                    odd.add(row)
                else:
                    found.append(said)
        return odd

    def _envelope(self, draft: Draft) -> None:
        columns, heard = draft.columns, draft.heard
        for name in ("trace_id", "span_id", "name"):
            columns[name] = list(map(_of(name), heard))
        columns["parent_span_id"] = [one.parent_id or None for one in heard]
        starts = columns["start_ns"] = _times(map(_of("start_ns"), heard))
        ends = columns["end_ns"] = _times(map(_of("end_ns"), heard))
        columns["day"] = [None if start is None else self._day(start // DAY_NS) for start in starts]
        columns["kind"] = [draft.plan.kind] * len(heard)
        columns["dialect"] = [draft.plan.dialect] * len(heard)
        flags = columns["flags"] = [one.flags for one in heard]
        cut = zip(*draft.said.values(), strict=True) if draft.said else ()
        for row, said in enumerate(cut):
            if any(one.cut for one in said) and "truncated" not in flags[row]:
                flags[row] = [*flags[row], "truncated"]
        for row, (start, end) in enumerate(zip(starts, ends, strict=True)):
            if start is not None and end is not None and end < start:
                flags[row] = [*flags[row], "clock"]
        codes = list(map(_of("status"), heard))
        for code in set(codes).difference(self._statuses):
            self._statuses[code] = status_of(code)
        columns["status"] = list(map(self._statuses.__getitem__, codes))
        columns["error_message"] = [one.message or None for one in heard]

    def _words(self, draft: Draft) -> None:
        columns = draft.columns
        for name in (*TEXTS, "tool_name", "tool_call_id"):
            column = draft.all_of(name)
            if column is not None:
                columns[name] = list(column)
        if "model" not in columns and "model_requested" in columns:
            columns["model"] = columns["model_requested"]
        if (users := draft.all_of("user")) is not None:
            columns["user_key"] = list(map(self._user, users))
        if "error_type" in columns:
            columns["status"] = ["error" if status == "unset" else status for status in columns["status"]]
        for name in NUMBERS:
            if (numbers := draft.all_of(name)) is not None:
                columns[name] = list(numbers)
        cached = [columns[name] for name in ("tokens_cache_read", "tokens_cache_write") if name in columns]
        if cached and "tokens_in" in columns:
            # cached tokens that are more than the input were not counted as input
            totals = list(map(sum, zip(*cached, strict=True)))
            columns["tokens_in"] = [
                said + more if more > said and any(column[row] for column in cached) else said
                for row, (said, more) in enumerate(zip(columns["tokens_in"], totals, strict=True))
            ]
        for name in NUMBERS:
            if name in columns and not 0 <= min(columns[name]) <= max(columns[name]) <= _MAX_INT:
                columns[name] = [number if 0 <= number <= _MAX_INT else None for number in columns[name]]
        if (costs := draft.all_of("cost_usd")) is not None:
            columns["cost_usd"] = [float(cost) if math.isfinite(cost) else None for cost in costs]

    def _call(self, draft: Draft) -> None:
        """Messages that stand apart, tools, reasons, parameters, arguments and result."""
        columns, texts = draft.columns, draft.texts
        if (systems := draft.all_of("system")) is not None:
            draft.said["system"] = list(map(self._system, systems))
        if (tools := draft.all_of("tools")) is not None:
            draft.tools = list(map(self._definitions, tools))
        reasons = draft.all_of("reasons")
        if reasons is None and (given := draft.said.get("output")) is not None:
            reasons = [said.reasons for said in given]
        if reasons is not None:
            columns["finish_reasons"] = [listed or None for listed in reasons]
            for listed in reasons:
                texts.update(listed)
        self._request(draft)
        for name in ("tool_args", "tool_result"):
            column = draft.all_of(name)
            if column is not None:
                columns[name] = list(map(unwrap, column) if name == "tool_args" else column)
                self._gather(draft, columns[name], tells=False)

    def _attributes(self, draft: Draft) -> None:
        """What stays in the attributes, and what the events tell."""
        names = [name for _, name in draft.plan.free]
        values = [draft.values[place] for place, _ in draft.plan.free]
        more: dict[str, Column] = {}
        operation = draft.all_of("operation")
        if operation is not None and operation[0] not in TOLD_BY_KIND:
            more["gen_ai.operation.name"] = operation
        if "response_id" in draft.columns:
            more["gen_ai.response.id"] = draft.columns["response_id"]
        names += more
        values += more.values()
        for name, column in zip(names, values, strict=True):
            self._gather(draft, column, tells=self._redactor.tells(name), name=name)
        if names:
            draft.free = [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]
        else:
            draft.free = [{} for _ in draft.heard]
        for row, one in enumerate(draft.heard):
            if one.events:
                self._happened(draft, row, one, tuple(more))

    def _happened(self, draft: Draft, row: int, one: Heard, last: tuple[str, ...]) -> None:
        """What the events of a span say; `last` are the names that end its attributes."""
        columns, free = draft.columns, draft.free[row]
        closing = {name: free.pop(name) for name in last}
        events = [Event(name=e.name, attributes=dict(e.attributes), time_ns=e.time_ns) for e in one.events]
        span = RawSpan(
            trace_id=one.trace_id,
            span_id=one.span_id,
            kind=draft.plan.kind,
            status=columns["status"][row],
            error_type=columns["error_type"][row] if "error_type" in columns else None,
            error_message=columns["error_message"][row],
        )
        had = set(free)
        exceptions(span, free, events)
        scores = told_in_events(span, events)
        if scores:
            draft.scores[draft.places[row]] = scores
        for name in free.keys() - had:
            texts: list[str] = [name]
            if self._redactor.gather_keyed(name, free[name], texts) & HARD:
                draft.hard.add(row)
            draft.texts.update(texts)
            draft.inner.append((row, texts))
        free.update(closing)
        columns["status"][row], columns["error_message"][row] = span.status, span.error_message
        if span.error_type is not None:
            columns.setdefault("error_type", [None] * len(draft.heard))[row] = span.error_type

    def _gather(self, draft: Draft, column: Column, *, tells: bool, name: str = "") -> None:
        """Adds the texts of a column, and the rows that more than these texts decide. `tells`: so does its name."""
        types = set(map(type, column))
        if types == _STR and not tells:
            draft.texts.update(column)
            return
        if types <= _LITTLE:
            return
        for row, value in enumerate(column):
            texts: list[str] = []
            bits = self._redactor.gather_keyed(name, value, texts) if tells else self._redactor.gather(value, texts)
            if bits & HARD:
                draft.hard.add(row)
            if texts:
                draft.texts.update(texts)
                draft.inner.append((row, texts))

    def _request(self, draft: Draft) -> None:
        """The parameters of the calls as JSON; few combinations occur."""
        plan = draft.plan
        names = [name for _, name in plan.params]
        values = [draft.values[place] for place, _ in plan.params]
        if (types := draft.all_of("output_type")) is not None:
            names.append("output_type")
            values.append(types)
        if not names:
            return
        found: list[str | None] = []
        for row, said in enumerate(zip(*values, strict=True)):
            key = _packed(said)
            known = plan.seen.get(key)
            if known is None:
                if len(plan.seen) > _MAX_CACHED:
                    plan.seen.clear()
                before = self._redactor.hits
                text = self._redactor.json(dict(zip(names, said, strict=True)))
                known = plan.seen[key] = (text, self._redactor.hits != before)
            found.append(known[0])
            if known[1]:
                draft.touched.add(row)
        draft.columns["params"] = found

    def _day(self, number: int) -> Any:
        found = self._days.get(number)
        if found is None:
            found = self._days[number] = day_of(number * DAY_NS)
        return found

    def _user(self, user: str) -> str | None:
        found = self._users.get(user)
        if found is None:
            if len(self._users) > _MAX_CACHED:
                self._users.clear()
            found = self._users[user] = self._redactor.user_key(user)
        return found

    def _system(self, text: Any) -> Said:
        found = self._systems.get(text)
        if found is None:
            if len(self._systems) > _MAX_CACHED:
                self._systems.clear()
            said = unwrap(text)
            message = {"role": "system", "parts": said} if isinstance(said, list) else said
            found = self._systems[text] = Said(self._book.known(canonical(message, "system")), [], False)
        return found

    def _definitions(self, text: Any) -> Said | None:
        if text not in self._tools:
            if len(self._tools) > _MAX_CACHED:
                self._tools.clear()
            tools = unwrap(text)
            message = tool_message(tools) if isinstance(tools, list) and tools else None
            self._tools[text] = None if message is None else Said(self._book.known([message]), [], False)
        return self._tools[text]


def _odd(draft: Draft) -> set[int]:
    """Rows with anything unusual in their envelopes or in what has a column."""
    odd: set[int] = set()
    for row, one in enumerate(draft.heard):
        other = one.links or (one.events and not _EVENTS.issuperset(map(_of("name"), one.events)))
        if other or (one.name is not None and one.name.startswith(LIGHTNING)):
            odd.add(row)
    for name in _WORDS:
        if (column := draft.all_of(name)) is not None and (set(map(type, column)) != _STR or not all(column)):
            odd.update(row for row, value in enumerate(column) if type(value) is not str or not value)
    for name, types in _TYPES.items():
        if (column := draft.all_of(name)) is not None and not types.issuperset(map(type, column)):
            odd.update(row for row, value in enumerate(column) if type(value) not in types)
    for name in _OTHERS:
        if (column := draft.all_of(name)) is not None and None in column:
            odd.update(row for row, value in enumerate(column) if value is None)
    if (providers := draft.all_of("provider")) is not None and "gcp.vertex.agent" in providers:
        odd.update(row for row, value in enumerate(providers) if value == "gcp.vertex.agent")
    for row, reasons in enumerate(draft.all_of("reasons") or ()):
        if type(reasons) is not list or not all(type(reason) is str for reason in reasons):
            odd.add(row)
    return odd


def _times(values: Iterable[int | None]) -> list[int | None]:
    return list(map(nanoseconds, values))
