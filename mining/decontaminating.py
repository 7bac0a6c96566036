"""Decontamination: what learning may not see, because a case that the gate judges by is the same or nearly the same.

Task groups keep near-duplicate inputs in one pool as they arrive. This looks again at what is about to be learned, with
all that is known of both sides: a case that is too near one of the gate's is left out of learning.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tracemill.errors import ContaminationError
from tracemill.ids import content_id
from tracemill.mining.embedding import Embedder, Vectors, distinct
from tracemill.mining.lake import table
from tracemill.mining.minhash import Signatures, normalise, signatures
from tracemill.records import Case

How = Literal["task", "prompt", "overlap", "words", "meaning", "user"]
WORDS = 0.8
"""Estimated Jaccard of words and word pairs from which two texts are one."""
MEANING = 0.95
"""Cosine of their embeddings."""
OVERLAP = 0.8
"""Share of the shorter one's runs of words that the other one has."""
USER_WORDS, USER_MEANING = 0.6, 0.9
"""The same for what one and the same user asked: who asks again words it differently."""
_RUN = 8
_FEWEST_RUNS = 5
_BEGINNING = 600
"""Characters that are embedded: the longer a text, the more its mean vector is like any other's."""
_BANDS = range(0, 96, 3)
"""Of a signature; pairs of Jaccard 0.6 share one but once in 2,000, of 0.8 always."""
_COMMON = 0.05
_AT_LEAST = 20
_ROWS = 4_096
_CELLS = 16_000_000
"""Pairs that are marked at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Near:
    """A case to learn from that is too near one of the gate's."""

    case_id: str
    gate_case_id: str
    how: How


def near(
    con: duckdb.DuckDBPyConnection, learn: Sequence[Case], gate: Sequence[Case], *, embedder: Embedder, key: bytes
) -> list[Near]:
    """The cases of `learn` that are too near a case of `gate` (of one site), each with the first reason found.

    task: they are of one task group; prompt: the rendered prompts are equal; overlap: one repeats the other's text at
    length; words: MinHash; meaning: embeddings; user: one user asked both, and they are rather alike.

    Fails closed: ContaminationError where any of it cannot be found out.
    """
    if not learn or not gate:
        return []
    texts = own_texts([*learn, *gate])
    ours, theirs = _Side(learn, texts[: len(learn)]), _Side(gate, texts[len(learn) :])
    try:
        every = distinct(embedder, [text[:_BEGINNING] for text in (*ours.texts, *theirs.texts)])
    except Exception as error:
        raise ContaminationError(f"the embedder {embedder.name} failed: {error}") from error
    if every.ndim != 2 or len(every) != len(ours.texts) + len(theirs.texts) or not np.isfinite(every).all():
        raise ContaminationError(f"the embedder {embedder.name} gave no vector for some texts")
    vectors = every[: len(ours.texts)], every[len(ours.texts) :]
    users = _users(con, (case.trajectory_id for case in (*learn, *gate)))
    found: dict[int, Near] = {}
    for how, place, other in _pairs(ours, theirs, vectors, users, key):
        if place not in found:
            found[place] = Near(case_id=learn[place].case_id, gate_case_id=gate[other].case_id, how=how)
    return [found[place] for place in sorted(found)]


class _Side:
    """Cases with their texts, equal texts once."""

    def __init__(self, cases: Sequence[Case], texts: Sequence[str]) -> None:
        self.cases = cases
        numbers: dict[str, int] = {}
        self.text_of = [numbers.setdefault(text, len(numbers)) for text in texts]
        self.texts = list(numbers)
        self.with_text: list[list[int]] = [[] for _ in numbers]
        for place, number in enumerate(self.text_of):
            self.with_text[number].append(place)


def _pairs(
    ours: _Side, theirs: _Side, vectors: tuple[Vectors, Vectors], users: Mapping[str, str], key: bytes
) -> Iterator[tuple[How, int, int]]:
    """Places in both sides that are too near each other, and how; what is surest comes first."""
    same: tuple[tuple[How, Callable[[Case], str]], ...] = (("task", _group), ("prompt", _prompt))
    for how, marks in same:
        known = {marks(case): place for place, case in reversed(list(enumerate(theirs.cases)))}
        for place, case in enumerate(ours.cases):
            other = known.get(marks(case))
            if other is not None:
                yield how, place, other

    def cases(how: How, mine: int, other: int) -> Iterator[tuple[How, int, int]]:
        for place in ours.with_text[mine]:
            yield how, place, theirs.with_text[other][0]

    for mine, other in _overlapping(ours.texts, theirs.texts):
        yield from cases("overlap", mine, other)
    plain = [[normalise(text) for text in side.texts] for side in (ours, theirs)]
    signed = [signatures(one, key) for one in plain]
    rather: list[tuple[int, int]] = []
    for mine, other, alike in _alike(signed[0], signed[1], at_least=USER_WORDS):
        if not plain[0][mine]:
            continue  # without a word there is nothing to be alike
        if alike >= WORDS:
            yield from cases("words", mine, other)
        rather.append((mine, other))
    for mine, other, alike in _close(*vectors, at_least=USER_MEANING):
        if alike >= MEANING:
            yield from cases("meaning", mine, other)
        rather.append((mine, other))
    for mine, other in rather:
        asked = {users.get(theirs.cases[place].trajectory_id): place for place in theirs.with_text[other]}
        asked.pop(None, None)
        for place in ours.with_text[mine]:
            user = users.get(ours.cases[place].trajectory_id)
            if user in asked:
                yield "user", place, asked[user]


def _group(case: Case) -> str:
    return case.task_group


def _prompt(case: Case) -> str:
    return content_id("prompt/1", [[one.get("role"), one.get("content")] for one in case.logged_messages])


def own_texts(cases: Sequence[Case]) -> list[str]:
    """What each case brings to its template: the texts in its slots, without the lines that many cases have (a schema,
    a catalogue), which would make all cases alike."""
    raw = ["\n".join(_strings(case.values)) for case in cases]
    if len(raw) < _AT_LEAST:
        return raw
    counts: Counter[str] = Counter()
    different = set(raw)
    for text in different:
        counts.update({line.strip() for line in text.splitlines()})
    common = {line for line, n in counts.items() if n >= max(_AT_LEAST, _COMMON * len(different))}

    def own(text: str) -> str:
        kept = "\n".join(line for line in text.splitlines() if line.strip() not in common).strip()
        return kept or text

    return [own(text) for text in raw]


def _strings(value: Any) -> Iterator[str]:
    """The texts in a slot's value; of a conversation what was said, not by whom."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, one in value.items():
            if name not in ("role", "type", "id", "tool_call_id"):
                yield from _strings(one)
    elif isinstance(value, Sequence):
        for one in value:
            yield from _strings(one)
    elif value is not None:
        yield str(value)


def _users(con: duckdb.DuckDBPyConnection, trajectories: Iterable[str]) -> dict[str, str]:
    asked = pa.table({"trajectory_id": pa.array(sorted(set(trajectories)), pa.string())})
    con.register("asked_users", asked)
    try:
        rows = table(con, "users_of").to_pylist()
    finally:
        con.unregister("asked_users")
    return {row["trajectory_id"]: row["user_key"] for row in rows}


def _overlapping(ours: Sequence[str], theirs: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Pairs of which one has most runs of eight words of the other."""
    runs = [_runs(text) for text in theirs]
    holders: dict[int, list[int]] = {}
    for other, mine in enumerate(runs):
        if len(mine) >= _FEWEST_RUNS:
            for run in mine:
                holders.setdefault(run, []).append(other)
    for place, text in enumerate(ours):
        mine = _runs(text)
        if len(mine) < _FEWEST_RUNS:
            continue
        shared = Counter(other for run in mine for other in holders.get(run, ()))
        for other, n in sorted(shared.items()):
            if n >= OVERLAP * min(len(mine), len(runs[other])):
                yield place, other


def _runs(text: str) -> set[int]:
    said = text.lower().split()
    return {hash(tuple(said[i : i + _RUN])) for i in range(len(said) - _RUN + 1)}


def _alike(ours: Signatures, theirs: Signatures, *, at_least: float) -> Iterator[tuple[int, int, float]]:
    """Pairs of this estimated Jaccard, found through shared bands."""
    bands = [_sorted_band(theirs, start) for start in _BANDS]
    rows = max(1, _CELLS // max(1, len(theirs)))
    for first in range(0, len(ours), rows):
        some = ours[first : first + rows]
        met = np.zeros((len(some), len(theirs)), dtype=np.bool_)
        for start, (keys, order) in zip(_BANDS, bands, strict=True):
            wanted = _band(some, start)
            low = np.searchsorted(keys, wanted)
            n = np.searchsorted(keys, wanted, side="right") - low
            mine = np.repeat(np.arange(len(some)), n)
            place = np.arange(len(mine)) - np.repeat(np.cumsum(n) - n, n) + low[mine]
            met[mine, order[place]] = True
        pairs = np.argwhere(met)
        for at in range(0, len(pairs), _ROWS):
            mine, other = pairs[at : at + _ROWS].T
            alike = np.count_nonzero(some[mine] == theirs[other], axis=1) / ours.shape[1]
            near = alike >= at_least
            yield from zip((first + mine[near]).tolist(), other[near].tolist(), alike[near].tolist(), strict=True)


def _band(rows: Signatures, start: int) -> npt.NDArray[np.uint64]:
    """A number for the band of each row, equal where the band is; others have the same as good as never."""
    a, b, c = (rows[:, start + i].astype(np.uint64) for i in range(3))
    mixed: npt.NDArray[np.uint64] = (a | b << np.uint64(32)) ^ (c + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    return mixed


def _sorted_band(rows: Signatures, start: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    keys = _band(rows, start)
    order = np.argsort(keys, kind="stable")
    return keys[order], order


def _close(ours: Vectors, theirs: Vectors, *, at_least: float) -> Iterator[tuple[int, int, float]]:
    """Pairs of this cosine."""
    for first in range(0, len(ours), _ROWS):
        alike = ours[first : first + _ROWS] @ theirs.T
        for mine, other in np.argwhere(alike >= at_least).tolist():
            yield first + mine, other, float(alike[mine, other])
