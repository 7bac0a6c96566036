"""Logged calls as an integer matrix of message numbers, so that grouping and fitting need no object per call.

So many calls at a time are looked at, oldest first. They and what they were sent go into temporary tables (DuckDB
spills them to disk), in the order in which they are looked at. In memory are numbers by call, and the messages of one
caller at a time.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tracemill.mining.lake import chat_message, table, tools
from tracemill.records import ChatMessage

Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]
Objects = npt.NDArray[np.object_]
MAX_FIXED = 64
"""A template has at most so many messages besides its conversation."""
MOST_CALLS = 50_000
MOST_REFS = 1_000_000
"""As many calls are looked at in one go, with as many messages between them: what that takes is what mining takes,
however many calls a night brings."""
_CHUNK = 20_000
Place = tuple[int, str, int]
"""Of a call in the order in which calls are looked at: its time, its trajectory, its step."""


@dataclass(frozen=True, kw_only=True)
class Calls:
    """Calls as rows; `codes[offsets[i]:offsets[i+1]]` are the messages of call i, as numbers."""

    rows: pa.Table
    codes: Codes
    offsets: Ints
    caller: Ints
    """By call: the agent with its tools, as the number of a row of `callers`."""
    callers: list[tuple[str | None, str | None]]
    """Agent name and tool_definitions_id."""
    role: Objects
    """By message code; None where the lake has no such message."""
    leak: Bools
    """By call: its span or one of its messages shows the agent a reward."""
    complete: Bools
    """By call: it has messages, and the lake has all of them."""

    @cached_property
    def lengths(self) -> Ints:
        return np.diff(self.offsets)

    @cached_property
    def trajectory(self) -> Ints:
        """By call: a number that its trajectory alone has."""
        return _numbers(self.rows["trajectory_id"])

    @cached_property
    def start_ns(self) -> Objects:
        return self._objects("start_ns")

    @cached_property
    def step(self) -> Ints:
        return np.asarray(self.rows["step"].to_numpy(), dtype=np.int64)

    @cached_property
    def version(self) -> Objects:
        return self._objects("site_version")

    @cached_property
    def model(self) -> Objects:
        return self._objects("model")

    @cached_property
    def lossy(self) -> Bools:
        return self._marks("lossy")

    @cached_property
    def has_variables(self) -> Bools:
        """By call: its prompt variables were logged."""
        return self._marks("has_variables")

    def _objects(self, name: str) -> Objects:
        return np.array(self.rows[name].to_pylist(), dtype=object)

    def _marks(self, name: str) -> Bools:
        return np.asarray(self.rows[name].to_numpy(), dtype=bool)

    def at(self, rows: Ints, place: int) -> Ints:
        """Message codes at a place, counted from the end where negative; -1 where a call is shorter."""
        lengths = self.lengths[rows]
        index = self.offsets[rows] + (place if place >= 0 else lengths + place)
        inside = lengths > place if place >= 0 else lengths >= -place
        return np.where(inside, self.codes[np.where(inside, index, 0)] if len(self.codes) else -1, -1)


class Sent:
    """What one caller's calls were sent: chat messages (OpenAI shape) by code, each read once."""

    def __init__(self, con: duckdb.DuckDBPyConnection, caller: int, size: int) -> None:
        self._con, self._caller = con, caller
        self._read: dict[int, tuple[str, str | None, str | None]] = {}
        self._messages: dict[int, ChatMessage | None] = {}
        self._whole = size <= _CHUNK
        if self._whole:
            self._add(None)

    def fetch(self, codes: Iterable[int]) -> None:
        """Reads those not read yet, in bulk."""
        if self._whole:
            return
        wanted = [code for code in dict.fromkeys(map(int, codes)) if code not in self._read]
        for start in range(0, len(wanted), _CHUNK):
            self._add(wanted[start : start + _CHUNK])

    def _add(self, codes: list[int] | None) -> None:
        found = table(self._con, "caller_messages", {"caller": self._caller, "codes": codes})
        columns = (found[name].to_pylist() for name in ("code", "role", "name", "parts"))
        self._read.update((code, (role, name, parts)) for code, role, name, parts in zip(*columns, strict=True))

    def get(self, code: int) -> ChatMessage | None:
        """The message; None where the lake does not have it."""
        if code not in self._messages:
            self.fetch([code])
            self._messages[code] = chat_message(*self._read[code]) if code in self._read else None
        return self._messages[code]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mined:
    """What there is to mine, until `mined` is left."""

    calls: Calls
    tools: Mapping[str, tuple[Mapping[str, Any], ...]]
    """Tool definitions by tool_definitions_id, in OpenAI shape."""
    con: duckdb.DuckDBPyConnection
    sizes: Ints
    """By caller: how many messages its calls have between them."""
    last: Place | None
    """The place of the last call looked at; None where no call is behind it."""

    def sent(self, caller: int) -> Sent:
        """What a caller's calls were sent."""
        return Sent(self.con, caller, int(self.sizes[caller]))

    def variables(self, rows: Ints) -> dict[int, dict[str, Any]]:
        """The prompt variables that were logged with these calls, by call."""
        if not self.calls.has_variables[rows].any():
            return {}
        found = table(self.con, "prompt_variables", {"rows": rows.tolist()}).to_pylist()
        return {row["row"]: _variables(row["prompt_variables"]) for row in found}


@contextmanager
def mined(con: duckdb.DuckDBPyConnection, *, per_version: int, after: Place | None = None) -> Iterator[Mined]:
    """The calls without a site behind `after`, oldest first, as many as are looked at in one go; and up to
    `per_version` calls of each known version beside them."""
    try:
        yield _read(con, per_version, after)
    finally:
        for name in ("calls", "variables", "numbers", "messages"):
            con.execute(f"drop table if exists temp.mined_{name}")


def _read(con: duckdb.DuckDBPyConnection, per_version: int, after: Place | None) -> Mined:
    behind = dict(zip(("start_ns", "trajectory_id", "step"), after or (None, None, None), strict=True))
    last = _end(con, behind)
    until = dict(zip(("last_ns", "last_trajectory_id", "last_step"), last or (None, None, None), strict=True))
    table(con, "mined_calls", {**behind, **until, "per_version": per_version})
    days = table(con, "mined_days").to_pylist()[0]
    table(con, "mined_variables", days)
    table(con, "mined_numbers")
    rows = table(con, "call_rows").combine_chunks()
    counts = rows["refs"].to_numpy().astype(np.int64)
    offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(counts)))
    codes = table(con, "call_codes")["code"].to_numpy()
    n = max(int(codes.max(initial=-1)) + 1, 1)
    caller, callers = _callers(rows)
    pairs = distinct(np.repeat(caller, counts) * n + codes)
    wanted = pa.table({"caller": pairs // n, "code": pairs % n})
    with _registered(con, "wanted", wanted):
        table(con, "mined_messages", days)
        heads = table(con, "message_heads")
        if len(np.unique(heads["code"].to_numpy())) < codes.max(initial=-1) + 1:
            table(con, "missed_messages")
            heads = table(con, "message_heads")
    place = heads["code"].to_numpy()
    role, shows = np.full(n, None, dtype=object), np.zeros(n, dtype=bool)
    role[place] = heads["role"].to_pylist()
    shows[place] = heads["leak"].to_numpy()
    known = np.array([r is not None for r in role], dtype=bool)
    calls = Calls(
        rows=rows.drop_columns(["refs"]),
        codes=codes,
        offsets=offsets,
        caller=caller,
        callers=callers,
        role=role,
        leak=_any(shows[codes], offsets) | np.asarray(rows["leak"].to_numpy(), dtype=bool),
        complete=(counts > 0) & ~_any(~known[codes], offsets),
    )
    sizes = np.bincount(pairs // n, minlength=len(callers))
    found = tools(con, [tool for _, tool in callers if tool])
    return Mined(calls=calls, tools=found, con=con, sizes=sizes, last=last)


def _end(con: duckdb.DuckDBPyConnection, behind: dict[str, Any]) -> Place | None:
    """The place of the last call that is looked at, where there are more behind it."""
    size = table(con, "open_size", behind).to_pylist()[0]
    if size["calls"] <= MOST_CALLS and size["refs"] <= MOST_REFS:
        return None
    found = table(con, "open_calls", {**behind, "most": MOST_CALLS})
    fit = int(np.searchsorted(np.cumsum(found["refs"].to_numpy()), MOST_REFS, side="right"))
    if fit >= size["calls"]:
        return None
    last = found.slice(min(max(fit, 1), len(found)) - 1, 1).to_pylist()[0]
    return last["start_ns"], last["trajectory_id"], last["step"]


@contextmanager
def _registered(con: duckdb.DuckDBPyConnection, name: str, rows: pa.Table) -> Iterator[None]:
    con.register(name, rows)
    try:
        yield
    finally:
        con.unregister(name)


def _callers(rows: pa.Table) -> tuple[Ints, list[tuple[str | None, str | None]]]:
    numbers: dict[tuple[str | None, str | None], int] = {}
    pairs = zip(rows["agent_name"].to_pylist(), rows["tool_definitions_id"].to_pylist(), strict=True)
    caller = np.array([numbers.setdefault(pair, len(numbers)) for pair in pairs], dtype=np.int64)
    return caller, list(numbers)


def _numbers(values: pa.ChunkedArray) -> Ints:
    """Values as numbers, in order of appearance."""
    coded = pc.dictionary_encode(values.combine_chunks())
    return np.asarray(coded.indices.to_numpy(zero_copy_only=False), dtype=np.int64)


def distinct(codes: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.integer[Any]]:
    """The numbers among codes, each once, in order."""
    if not len(codes):
        return codes
    low, high = int(codes.min()), int(codes.max())
    if high - low > 8 * len(codes):
        return np.unique(codes)
    there = np.zeros(high - low + 1, dtype=bool)  # several times as fast as sorting
    there[codes - low] = True
    return np.flatnonzero(there) + low


def _any(marks: Bools, offsets: Ints) -> Bools:
    """By call: whether any of its messages is marked."""
    counts = np.concatenate(([0], np.cumsum(marks)))
    return np.asarray(counts[offsets[1:]] > counts[offsets[:-1]], dtype=bool)


def _variables(text: str) -> dict[str, str]:
    try:
        raw = json.loads(text)
    except ValueError:
        return {}
    return {str(k): v if isinstance(v, str) else json.dumps(v) for k, v in raw.items()} if isinstance(raw, dict) else {}
