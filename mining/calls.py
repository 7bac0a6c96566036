"""Logged calls as an integer matrix of message numbers, so that grouping and fitting need no object per call."""

from dataclasses import dataclass

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tracemill.mining.lake import table

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
MAX_FIXED = 64
"""A template has at most so many messages besides its conversation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """Calls as rows; `codes[offsets[i]:offsets[i+1]]` are the messages of call i, as indices into `message_ids`."""

    rows: pa.Table
    codes: Ints
    offsets: Ints
    message_ids: list[str]
    role: npt.NDArray[np.object_]
    """Role by message code; None where the lake has no such message."""
    leak: Bools
    """By call: its span or one of its messages shows the agent a reward."""
    complete: Bools
    """By call: it has messages, and the lake has all of them."""

    @property
    def lengths(self) -> Ints:
        return np.diff(self.offsets)

    def column(self, name: str) -> npt.NDArray[np.object_]:
        return np.array(self.rows[name].to_pylist(), dtype=object)

    def at(self, rows: Ints, place: int) -> Ints:
        """Message codes at a place, counted from the end where negative; -1 where a call is shorter."""
        lengths = self.lengths[rows]
        index = self.offsets[rows] + (place if place >= 0 else lengths + place)
        inside = lengths > place if place >= 0 else lengths >= -place
        return np.where(inside, self.codes[np.where(inside, index, 0)] if len(self.codes) else -1, -1)


def read_calls(con: duckdb.DuckDBPyConnection, *, per_version: int) -> Calls:
    """All calls without a site, oldest first, and up to `per_version` calls of each known version beside them."""
    rows = table(con, "open_calls", {"per_version": per_version}).combine_chunks()
    lists = rows["ids"].combine_chunks() if len(rows) else pa.array([], pa.list_(pa.string()))
    coded = pc.dictionary_encode(lists.flatten())
    message_ids = coded.dictionary.to_pylist()
    codes = coded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    offsets = np.concatenate(([0], np.cumsum(pc.list_value_length(lists).to_numpy(zero_copy_only=False)))).astype(
        np.int64
    )
    role = np.full(len(message_ids), None, dtype=object)
    shows = np.zeros(len(message_ids), dtype=bool)
    heads = table(con, "message_heads", {"ids": message_ids})
    place = pc.index_in(heads["message_id"], pa.array(message_ids, pa.string())).to_numpy(zero_copy_only=False)
    role[place] = heads["role"].to_pylist()
    shows[place] = heads["leak"].to_numpy(zero_copy_only=False)
    known = np.array([r is not None for r in role], dtype=bool)
    return Calls(
        rows=rows,
        codes=codes,
        offsets=offsets,
        message_ids=message_ids,
        role=role,
        leak=_any(shows[codes], offsets) | rows["leak"].to_numpy(zero_copy_only=False).astype(bool),
        complete=(np.diff(offsets) > 0) & ~_any(~known[codes], offsets),
    )


def _any(marks: Bools, offsets: Ints) -> Bools:
    """By call: whether any of its messages is marked."""
    counts = np.concatenate(([0], np.cumsum(marks)))
    return np.asarray(counts[offsets[1:]] > counts[offsets[:-1]], dtype=bool)
