"""What a trajectory's last answer is about, in a few numbers: how near it is to the task, where it lies among others.

The vectors are an embedder's that somebody hands over; which directions matter is told by the texts alone, never by
what they are worth.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tracemill.rewards.rows import statement

Floats = npt.NDArray[np.float64]
AXES = 8
"""Directions in which answers differ most. Sixteen were too many for some hundred labels."""
_PORTION = 10_000
_SMALL = 1e-6


class Embeds(Protocol):
    """Turns texts into vectors of unit length, one row each; a text that says nothing is all zeros."""

    @property
    def name(self) -> str:
        """Vectors of one name can be compared."""
        ...

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """The middle of some answers, and the directions in which they differ."""

    middle: Floats
    axes: Floats

    @classmethod
    def of(cls, con: duckdb.DuckDBPyConnection, embedder: Embeds, ids: Sequence[str], *, tells: str) -> "Meaning":
        """That of these trajectories' answers. A text that `tells` (a regular expression) is found in is none."""
        found = [answer[_says(answer)] for _, _, answer in _vectors(con, embedder, ids, tells)]
        answers = np.concatenate(found) if found else np.zeros((0, 0))
        if len(answers) < 2:
            return cls(middle=np.zeros(answers.shape[1]), axes=np.zeros((0, answers.shape[1])))
        middle = _rounded(answers.mean(axis=0))
        spread, axes = np.linalg.eigh((answers - middle).T @ (answers - middle) / len(answers))
        best = [at for at in np.argsort(-spread, kind="stable")[:AXES] if spread[at] > _SMALL]
        # A direction has no sign of its own.
        turned = [axes[:, at] * np.sign(axes[np.argmax(np.abs(axes[:, at])), at]) for at in best]
        return cls(middle=middle, axes=_rounded(np.reshape(turned, (len(best), answers.shape[1]))))

    @property
    def names(self) -> list[str]:
        return ["answer near task", *(f"answer axis {at + 1}" for at in range(len(self.axes)))]

    def columns(self, con: duckdb.DuckDBPyConnection, embedder: Embeds, ids: Sequence[str], *, tells: str) -> Floats:
        """A row for each trajectory, a column for each of `names`; NaN where there is no text."""
        found = np.full((len(ids), len(self.names)), np.nan)
        for places, task, answer in _vectors(con, embedder, ids, tells):
            both, said = _says(answer) & _says(task), _says(answer)
            found[places[both], 0] = (task[both] * answer[both]).sum(axis=1)
            found[places[said], 1:] = (answer[said] - self.middle) @ self.axes.T if len(self.axes) else 0.0
        return found

    def to_json(self) -> dict[str, Any]:
        return {"middle": self.middle.tolist(), "axes": self.axes.tolist()}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "Meaning":
        middle = np.asarray(raw["middle"], dtype=np.float64)
        return cls(middle=middle, axes=np.reshape(np.asarray(raw["axes"], dtype=np.float64), (-1, len(middle))))


def _vectors(
    con: duckdb.DuckDBPyConnection, embedder: Embeds, ids: Sequence[str], tells: str
) -> Iterator[tuple[npt.NDArray[np.int64], Floats, Floats]]:
    """Places in `ids`, vectors of their tasks and of their last answers, some at a time; zeros where there is none."""
    place = {one: at for at, one in enumerate(ids)}
    con.register("embedded", pa.table({"trajectory_id": pa.array(ids, pa.string())}))
    try:
        for rows in con.execute(statement("learned_texts"), {"tells": tells}).to_arrow_reader(_PORTION):
            tasks, answers = (rows[name].to_pylist() for name in ("task", "answer"))
            texts = {text: at for at, text in enumerate(sorted({one or "" for one in (*tasks, *answers)}))}
            vectors = embedder.embed(list(texts)).astype(np.float64)
            vectors[[at for text, at in texts.items() if not text]] = 0.0
            known = np.asarray([place[one] for one in rows["trajectory_id"].to_pylist()], dtype=np.int64)
            task, answer = (vectors[[texts[one or ""] for one in own]] for own in (tasks, answers))
            yield known, task, answer
    finally:
        con.unregister("embedded")


def _says(vectors: Floats) -> npt.NDArray[np.bool_]:
    return np.asarray(np.abs(vectors).sum(axis=1) > 0)


def _rounded(values: npt.NDArray[Any]) -> Floats:
    return np.asarray(np.round(values, 5), dtype=np.float64)
