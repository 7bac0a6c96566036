"""Logged calls as an integer matrix of message numbers, so that grouping and fitting need no object per call.

The lake is read once: calls and what they were sent go into temporary tables (DuckDB spills them to disk), in the order
in which they are looked at. In memory are numbers by call, and the messages of one caller at a time.
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
Bools = npt.NDArray[np.bool_]
Objects = npt.NDArray[np.object_]
MAX_FIXED = 64
"""A template has at most so many messages besides its conversation."""
_CHUNK = 20_000


@dataclass(frozen=True, kw_only=True)
class Calls:
    """Calls as rows; `codes[offsets[i]:offsets[i+1]]` are the messages of call i, as numbers."""

    rows: pa.Table
    codes: Ints
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
        return _numbers(self.rows["trajectory_id"])[0]

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
def mined(con: duckdb.DuckDBPyConnection, *, per_version: int) -> Iterator[Mined]:
    """All calls without a site, oldest first, and up to `per_version` calls of each known version beside them."""
    try:
        yield _read(con, per_version)
    finally:
        for name in ("mined_messages", "mined_calls"):
            con.execute(f"drop table if exists temp.{name}")


def _read(con: duckdb.DuckDBPyConnection, per_version: int) -> Mined:
    table(con, "mined_calls", {"per_version": per_version})
    rows = table(con, "call_rows").combine_chunks()
    lists = rows["ids"].combine_chunks() if len(rows) else pa.array([], pa.list_(pa.string()))
    codes, message_ids = _numbers(lists.flatten())
    counts = pc.list_value_length(lists).to_numpy(zero_copy_only=False).astype(np.int64)
    offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(counts)))
    caller, callers = _callers(rows)
    n = max(len(message_ids), 1)
    pairs = np.unique(np.repeat(caller, counts) * n + codes)
    wanted = {"caller": pairs // n, "code": pairs % n, "message_id": message_ids.take(pa.array(pairs % n))}
    con.register("wanted", pa.table(wanted))
    try:
        table(con, "mined_messages")
    finally:
        con.unregister("wanted")
    heads = table(con, "message_heads")
    place = heads["code"].to_numpy()
    role, shows = np.full(n, None, dtype=object), np.zeros(n, dtype=bool)
    role[place] = heads["role"].to_pylist()
    shows[place] = heads["leak"].to_numpy()
    known = np.array([r is not None for r in role], dtype=bool)
    calls = Calls(
        rows=rows.drop_columns(["ids"]),
        codes=codes,
        offsets=offsets,
        caller=caller,
        callers=callers,
        role=role,
        leak=_any(shows[codes], offsets) | np.asarray(rows["leak"].to_numpy(), dtype=bool),
        complete=(counts > 0) & ~_any(~known[codes], offsets),
    )
    sizes = np.bincount(pairs // n, minlength=len(callers))
    return Mined(calls=calls, tools=tools(con, [tool for _, tool in callers if tool]), con=con, sizes=sizes)


def _callers(rows: pa.Table) -> tuple[Ints, list[tuple[str | None, str | None]]]:
    numbers: dict[tuple[str | None, str | None], int] = {}
    pairs = zip(rows["agent_name"].to_pylist(), rows["tool_definitions_id"].to_pylist(), strict=True)
    caller = np.array([numbers.setdefault(pair, len(numbers)) for pair in pairs], dtype=np.int64)
    return caller, list(numbers)


def _numbers(values: pa.Array | pa.ChunkedArray) -> tuple[Ints, pa.Array]:
    """Values as numbers, in order of appearance, and the value of each number."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    coded = pc.dictionary_encode(values)
    return coded.indices.to_numpy(zero_copy_only=False).astype(np.int64), coded.dictionary


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
