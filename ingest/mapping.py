"""Logs that no one else has: a declared mapping from columns or JSON paths of rows to the columns of a span."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tracemill.chat import as_text
from tracemill.ids import canonical_json, content_id
from tracemill.ingest.attributes import as_float, as_int, hex_id, written
from tracemill.ingest.columns import KINDS
from tracemill.ingest.content.messages import canonical_list
from tracemill.ingest.documents import unwrap
from tracemill.ingest.formats import FORMATS
from tracemill.ingest.reader import About, Done, Head, Item, RawScore, RawSpan, Stream
from tracemill.ingest.runs import judged, local_ns
from tracemill.ingest.tables import bad_row, each_row

_TEXTS = (
    "user", "kind", "name", "status", "error_type", "error_message", "service", "agent_name", "agent_version",
    "provider", "model_requested", "model", "tool_name", "tool_call_id", "task_key", "prompt_name", "prompt_version",
    "prompt_label", "finish_reason", "response_id",
)  # fmt: skip
_IDS = {"trace_id": 16, "span_id": 8, "parent_span_id": 8}
_COUNTS = ("seq", "tokens_in", "tokens_out", "tokens_cache_read", "tokens_cache_write", "tokens_reasoning")
_NUMBERS = ("cost_usd", "latency_ms", "latency_s")
_TIMES = ("time", "end_time")
_TALK = ("system", "input", "output")
_VALUES = ("params", "tools", "tool_args", "tool_result", "prompt_variables")
_TOKENS = ("input_token_ids", "output_token_ids", "output_logprobs")
COLUMNS = (*_IDS, "session_id", *_TIMES, *_TALK, *_TEXTS, *_COUNTS, *_NUMBERS, *_VALUES, *_TOKENS)
"""What a row can be mapped to."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*\Z")
_TELLING = ("input", "output", "tool_name")
_GOOD = frozenset(("ok", "success", "succeeded", "completed", "true"))
_BAD = frozenset(("error", "failed", "failure", "false"))


@dataclass(frozen=True, slots=True, kw_only=True)
class RowMapping:
    """`[[formats]]`: how the rows of one log format of your own become spans. Raises ValueError on a wrong mapping."""

    name: str
    columns: Mapping[str, str]
    """Span column -> column of the row, or path into it (usage.prompt_tokens, choices.0.text)."""
    match: Sequence[str] | None = None
    """Columns or paths that a row of this format has; default: those of input, output, tool_name and trace_id."""
    constants: Mapping[str, str] = field(default_factory=dict)
    """Span column -> what holds for every row (agent_name = "desk")."""
    scores: Mapping[str, str] = field(default_factory=dict)
    """Name of a score -> column or path; "correction" is the right output."""
    scores_on: str = "trajectory"
    """What the scores judge: trajectory, span or session."""
    scores_source: str = "env"
    """Who judged: env, human, user, llm, code or model."""

    def __post_init__(self) -> None:
        if not _NAME.match(self.name):
            raise ValueError(f"{self.name!r} is no name of a format: lower-case letters, digits, dots and hyphens")
        if self.name == "auto" or self.name in {reader.name for reader in FORMATS}:
            raise ValueError(f"{self.name!r} is a format that tracemill reads itself: choose another name")
        for place, names in (("columns", self.columns), ("constants", self.constants)):
            for name in names:
                if name not in COLUMNS:
                    raise ValueError(f"{place}: spans have no {name!r}; known: {', '.join(COLUMNS)}")
        both = sorted(set(self.columns) & set(self.constants))
        if both:
            raise ValueError(f"{both[0]} is both a column and a constant")
        if not set(_TELLING) & set(self.columns):
            raise ValueError(f"columns: a row needs one of {', '.join(_TELLING)}")
        for path in (*self.columns.values(), *(self.match or ()), *self.scores.values()):
            if not path or not all(path.split(".")):
                raise ValueError(f"{path!r} is no column or path")
        kind = self.constants.get("kind")
        if kind is not None and kind not in KINDS:
            raise ValueError(f"constants: {kind!r} is no kind of span; known: {', '.join(sorted(KINDS))}")
        if self.scores_on not in _TARGETS:
            raise ValueError(f"scores_on: {self.scores_on!r} cannot be judged; known: {', '.join(_TARGETS)}")
        if self.scores_source not in _SOURCES:
            raise ValueError(f"scores_source: unknown {self.scores_source!r}; known: {', '.join(_SOURCES)}")
        if self.scores_on == "session" and "session_id" not in self.columns and self.scores:
            raise ValueError("scores_on: sessions are judged, but no column holds the session_id")

    @property
    def needed(self) -> tuple[str, ...]:
        """What a row must have to be taken for this format."""
        return tuple(self.match or ()) or tuple(
            self.columns[name] for name in (*_TELLING, "trace_id") if name in self.columns
        )


_TARGETS = ("trajectory", "span", "session")
_SOURCES = ("env", "human", "user", "llm", "code", "model")


@dataclass(frozen=True, slots=True)
class MappedRows:
    """Reader of rows by a declared mapping: JSON lines, JSON arrays, CSV and Parquet."""

    mapping: RowMapping

    @property
    def name(self) -> str:
        return self.mapping.name

    @property
    def about(self) -> About:
        of = self.mapping
        maps = [f"{name} = {path}" for name, path in sorted({**of.columns, **of.scores}.items())]
        return About(
            title=of.name,
            files=f"Rows with {', '.join(of.needed)}",
            maps=f"As declared: {', '.join(maps)}; constants {canonical_json(dict(of.constants))}",
            lacks="What the mapping does not name",
        )

    def sniff(self, head: Head) -> str | None:
        needed = self.mapping.needed
        if head.columns:
            found = all(path in head.columns or path.split(".")[0] in head.columns for path in needed)
        else:
            found = any(
                isinstance(record, Mapping) and all(at(record, path) is not None for path in needed)
                for record in head.records
            )
        return f"rows with {', '.join(needed)}, as [[formats]] declares" if found else None

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        yield from each_row(stream, head, self._row)

    def _row(self, line: int, row: Mapping[str, Any]) -> Iterator[Item]:
        of = self.mapping
        given: dict[str, Any] = dict(of.constants)
        for name, path in of.columns.items():
            value = at(row, path)
            if value is not None and value != "":
                given[name] = value
        if not any(given.get(name) is not None for name in _TELLING):
            paths = [of.columns[name] for name in _TELLING if name in of.columns]
            yield bad_row(line, row, f"none of {', '.join(paths)} has a value")
            return
        span = _span(given, row, of.name)
        span.line = line
        left = _left(row, self._taken(row)) or {}
        span.attributes = {name: value for name, value in left.items() if value is not None}
        scores = list(self._scores(row, span))  # before anything is given: a row is good or bad as a whole
        yield span
        yield from scores

    def _taken(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The places of the row that are mapped, as a tree of steps; what is taken whole has no steps below it."""
        of = self.mapping
        tree: dict[str, Any] = {}
        for name, path in (*of.columns.items(), *of.scores.items()):
            steps = [path] if path in row else path.split(".")
            value = row[path] if path in row else _below(row, path)
            if value is None:
                continue
            value = unwrap(value) if name in _TALK else None
            if isinstance(value, Mapping) and isinstance(value.get("messages"), list):
                steps = [*steps, "messages"]  # a request: only its messages became columns
            place = tree
            for step in steps:
                if place.get(step) == {}:
                    break
                place = place.setdefault(step, {})
            else:
                place.clear()
        return tree

    def _scores(self, row: Mapping[str, Any], span: RawSpan) -> Iterator[RawScore]:
        of = self.mapping
        target = {"trajectory": span.trace_id, "span": span.span_id, "session": span.session_id}[of.scores_on]
        for name, path in of.scores.items():
            value = at(row, path)
            if value is None or value == "" or target is None:
                continue
            number = None if name == "correction" else judged(value)
            if number is None and not isinstance(value, str) and name != "correction":
                raise ValueError(f"the score {name} in {path} is neither a number nor text: {as_text(value)[:40]}")
            yield RawScore(
                target_kind=of.scores_on,
                target_id=target,
                name=name,
                value=number,
                label=as_text(value) if number is None else None,
                source=of.scores_source,
                user=span.user,
                at=span.end_ns or span.start_ns,
            )


def at(row: Mapping[str, Any], path: str) -> Any:
    """What stands in the column of that name, else at the end of the path; None where there is nothing.

    JSON text on the way is decoded. NaN, which data frames write for it, is nothing.
    """
    value: Any = row[path] if path in row else _below(row, path)
    return None if isinstance(value, float) and value != value else value


def _below(row: Mapping[str, Any], path: str) -> Any:
    value: Any = row
    for step in path.split("."):
        value = unwrap(value)
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


def _left(value: Any, taken: Mapping[str, Any]) -> Any:
    """What is left of a value without what was taken out of it; None where nothing is."""
    if not taken:
        return None
    value = unwrap(value)
    if isinstance(value, Mapping):
        rest = {name: _left(held, taken[name]) if name in taken else held for name, held in value.items()}
        return {name: held for name, held in rest.items() if held is not None or name not in taken} or None
    if isinstance(value, list):
        items = [_left(item, taken[str(at)]) if str(at) in taken else item for at, item in enumerate(value)]
        return items if any(item is not None for item in items) else None
    return value


def _span(given: Mapping[str, Any], row: Mapping[str, Any], format: str) -> RawSpan:
    """The span of one row. Raises ValueError, which names column and value, on what cannot be what it is said to be."""
    texts = {name: as_text(given[name]) for name in _TEXTS if given.get(name) is not None}
    raw = {name: as_text(given[name]) for name in _IDS if given.get(name) is not None}
    ids = {name: hex_id(text, _IDS[name]) or text for name, text in raw.items()}
    session = None if given.get("session_id") is None else as_text(given["session_id"])
    content = written(dict(row))
    trace_id = ids.pop("trace_id", None) or content_id("mapped", format, content)
    silent = given.get("input") is None and given.get("output") is None
    kind = texts.pop("kind", "tool" if silent else "llm")
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r} is none; known: {', '.join(sorted(KINDS))}")
    status = texts.pop("status", "").lower()
    failed = status in _BAD or (status == "" and "error_message" in texts)
    reason = texts.pop("finish_reason") if "finish_reason" in texts else None
    start, end, flags = _when(given)
    more: dict[str, Any] = {**texts, **ids, **{name: _count(given, name) for name in _COUNTS}}
    more |= {name: unwrap(given.get(name)) for name in ("tool_args", "tool_result", "prompt_variables")}
    more |= {name: _shaped(given, name, list) for name in ("tools", *_TOKENS)}
    more["span_id"] = ids.get("span_id") or content_id(trace_id, content)[:16]
    return RawSpan(
        trace_id=trace_id,
        kind=kind,
        session_id=session,
        status="error" if failed else "ok" if status in _GOOD else "unset",
        start_ns=start,
        end_ns=end,
        system=canonical_list(given.get("system"), "system"),
        input=canonical_list(given.get("input"), "user"),
        output=canonical_list(given.get("output"), "assistant"),
        params=_shaped(given, "params", dict),
        finish_reasons=None if reason is None else [reason],
        cost_usd=_number(given, "cost_usd"),
        dialect="mapped",
        flags=flags,
        **more,
    )


def _when(given: Mapping[str, Any]) -> tuple[int | None, int | None, list[str]]:
    found: dict[str, int | None] = {}
    flags: list[str] = []
    for name in _TIMES:
        found[name], naive = local_ns(given.get(name))
        if given.get(name) is not None and found[name] is None:
            raise ValueError(f"{name} is no time: {as_text(given[name])[:40]}")
        flags = flags or naive
    took, seconds = _number(given, "latency_ms"), _number(given, "latency_s")
    took = took if seconds is None else seconds * 1e3
    start, end = found["time"], found["end_time"]
    if took is not None and end is None and start is not None:
        end = start + int(took * 1e6)
    elif took is not None and start is None and end is not None:
        start = end - int(took * 1e6)
    return start if start is not None else end, end, flags


def _count(given: Mapping[str, Any], name: str) -> int | None:
    value = given.get(name)
    number = as_int(as_float(value)) if isinstance(value, str) else as_int(value)
    if value is not None and number is None:
        raise ValueError(f"{name} is no whole number: {as_text(value)[:40]}")
    return number


def _number(given: Mapping[str, Any], name: str) -> float | None:
    number = as_float(given.get(name))
    if given.get(name) is not None and number is None:
        raise ValueError(f"{name} is no number: {as_text(given[name])[:40]}")
    return number


def _shaped(given: Mapping[str, Any], name: str, shape: type) -> Any:
    value = unwrap(given.get(name))
    if value is not None and not isinstance(value, shape):
        raise ValueError(f"{name} is no JSON {'object' if shape is dict else 'list'}: {as_text(value)[:40]}")
    return value
