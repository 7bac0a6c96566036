"""Reading: one text an episode, what callers want or how it failed, as what it is about and nothing else."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tracemill.mining.minhash import MASK, masked_words
from tracemill.mining.patterns.journeys import Bools, Ints, Small

LONGEST = 1_500
_LOOKED_AT = 2_000
_COMMON = 0.2
_AT_LEAST = 20
"""Of fewer texts of an agent nobody can say which of their lines are its frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """Arrays over episodes that have a text (`…_ep`), in the order of their ids."""

    con: duckdb.DuckDBPyConnection
    n_texts: int
    text_ep: Small
    """Number of its text; equal texts of an agent are one."""
    learn_ep: Bools
    failed_ep: npt.NDArray[np.int8]
    day_ep: Ints
    """Days since the epoch; -1 where undated."""
    session_ep: Small
    place_ep: Small
    """Of mined_episodes."""
    known_ep: Sequence[str | None]
    """The cluster that it was put into on an earlier night."""
    similarity_ep: npt.NDArray[np.float64]
    """With that one's centre; NaN where it is in none."""


def query(con: duckdb.DuckDBPyConnection, name: str, params: Mapping[str, Any] | None = None) -> pa.Table:
    """The result of `sql/<name>.sql`."""
    sql = (Path(__file__).parent / "sql" / f"{name}.sql").read_text(encoding="utf-8")
    return con.execute(sql, dict(params or {})).to_arrow_table()


def read(con: duckdb.DuckDBPyConnection, kind: str) -> Said:
    """The texts of one kind, of the episodes in mined_episodes."""
    query(con, "intents" if kind == "intent" else "failures")
    query(con, "distinct_texts")
    row = con.execute("select count(*) from mined_distinct").fetchone()
    told = query(con, "said", {"kind": kind})
    days = told["day"].cast(pa.int32()).fill_null(-1)
    return Said(
        con=con,
        n_texts=int(row[0]) if row else 0,
        text_ep=_numpy(told["text_no"]).astype(np.int32),
        learn_ep=_numpy(told["learn"]).astype(bool),
        failed_ep=_numpy(told["failed"]).astype(np.int8),
        day_ep=_numpy(days).astype(np.int64),
        session_ep=_numpy(told["session"]).astype(np.int32),
        place_ep=_numpy(told["u"]).astype(np.int32),
        known_ep=told["cluster_id"].to_pylist(),
        similarity_ep=_numpy(told["similarity"].fill_null(float("nan"))).astype(np.float64),
    )


class Texts:
    """The distinct texts, cleaned: without the lines that an agent's prompts share, numbers, names and ids."""

    def __init__(self, said: Said) -> None:
        self._con = said.con
        self._frame = _frames(self._rows(np.arange(min(said.n_texts, _LOOKED_AT * 10))).to_pylist())

    def _rows(self, numbers: Ints) -> pa.Table:
        self._con.register("asked_texts", pa.table({"text_no": pa.array(numbers, pa.int32())}))
        try:
            return query(self._con, "texts")
        finally:
            self._con.unregister("asked_texts")

    def get(self, numbers: Ints) -> list[str]:
        """The texts of these numbers, which must be in order."""
        rows = self._rows(numbers)
        return [
            clean(text, self._frame.get(agent, frozenset()))
            for agent, text in zip(rows["agent"].to_pylist(), rows["text"].to_pylist(), strict=True)
        ]


def clean(text: str, frame: frozenset[str]) -> str:
    """What a text is about: without the lines of its frame and what fills slots; of a long one beginning and end."""
    kept = [line for line in text.splitlines() if line.strip() not in frame] if frame else [text]
    own = "\n".join(kept).strip() or text
    short = own if len(own) <= LONGEST else f"{own[: LONGEST // 2]} … {own[-LONGEST // 2 :]}"
    return " ".join([word for word in masked_words(short) if word != MASK])


def _frames(rows: Sequence[Mapping[str, Any]]) -> dict[str, frozenset[str]]:
    """By agent the lines that a fifth of its texts have: the prompt around what callers say."""
    counts: dict[str, Counter[str]] = {}
    texts: Counter[str] = Counter()
    for row in rows:
        if not row["n_learn"] or texts[row["agent"]] == _LOOKED_AT:
            continue
        texts[row["agent"]] += 1
        lines = {line.strip() for line in row["text"].splitlines()}
        counts.setdefault(row["agent"], Counter()).update(lines)
    return {
        agent: frozenset(line for line, n in counted.items() if n >= _COMMON * texts[agent])
        for agent, counted in counts.items()
        if texts[agent] >= _AT_LEAST
    }


def _numpy(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    values: npt.NDArray[Any] = column.combine_chunks().to_numpy(zero_copy_only=False)
    return values
