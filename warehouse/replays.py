"""The cache of replayed model calls: the same request is paid for once in the life of a lake."""

import threading
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import md5

import numpy as np
import numpy.typing as npt

from tracemill.warehouse.lake import Lake
from tracemill.warehouse.later import Later
from tracemill.warehouse.layout import statement

_AHEAD = 2048
"""Answers that are read along with those asked for: a run that is taken up again asks in the order of the first."""
_COUNTED = 4_000_000
"""Of more answers nobody keeps in mind which there are: 8 bytes each."""


@dataclass(slots=True)
class _Answer:
    text: str
    sources: set[str] = field(default_factory=set)

    @property
    def size(self) -> int:
        return len(self.text) + 64 * len(self.sources) + 400


class ReplayCache:
    """Completions by replay key (records.ChatRequest.replay_key), kept in the lake's table `replays`.

    What was asked for or put stays in memory, the newest `memory` bytes of it, and so does which keys the lake had at
    the first question: what another process keeps from then on is asked again at worst. Writing is put off: with
    `later` to when that writes, else to `settle`, and in any case by a second only. Safe to call from several threads.
    """

    def __init__(self, lake: Lake, later: Later | None = None, *, memory: int = 64 << 20) -> None:
        self._lake = lake
        self._own = later is None
        self._later = later if later is not None else Later(lake, "replays")
        self._lock = threading.RLock()
        self._memory = memory
        self._used = 0
        self._answers: OrderedDict[str, _Answer] = OrderedDict()
        self._there: npt.NDArray[np.uint64] | None = None
        self._own_keys: set[int] = set()
        self._counted = False

    def get(self, keys: Sequence[str]) -> Mapping[str, str]:
        """Replay key -> JSON of records.Completion, for those of `keys` that are known."""
        with self._lock:
            found = {key: answer.text for key in keys if (answer := self._known(key)) is not None}
            perhaps = self._perhaps([key for key in keys if key not in found])
            if perhaps:
                read = self._read(perhaps)
                found.update((key, read[key].text) for key in perhaps if key in read)
            return found

    def put(self, rows: Mapping[str, str], model: str, now_ns: int, sources: Mapping[str, Collection[str]]) -> None:
        """Keep completions; known keys stay as they are. Raises what the last write raised.

        `sources`: whose values their requests show (ChatRequest.asked_by): a completion is erased with any of them.
        """
        with self._lock:
            for key, text in rows.items():
                self._own_keys.add(_mark(key))
                if key not in self._answers:
                    self._remember(key, _Answer(text, set(sources.get(key, ()))))
            self._later.insert_all(
                {
                    "replays": (
                        {"replay_key": key, "model": model, "completion": text, "at": now_ns}
                        for key, text in rows.items()
                    ),
                    "replay_sources": _links((key, one) for key in rows for one in sources.get(key, ())),
                }
            )

    def note(self, sources: Mapping[str, Collection[str]]) -> None:
        """Has known completions be erased with these, too: cases equal to those that first asked.

        Not those of nobody, as an earlier version kept them: they would pass for completions of these alone.
        """
        with self._lock:
            wanted = {key: set(names) for key, names in sources.items() if names}
            known = {key: self._known(key) for key in wanted}
            away = [key for key, answer in known.items() if answer is None]
            read = self._read(away) if away else {}
            for key, names in wanted.items():
                answer = known[key] or read.get(key)
                if answer is not None and answer.sources and not names <= answer.sources:
                    self._later.insert("replay_sources", _links((key, one) for one in sorted(names - answer.sources)))
                    self._used += 64 * len(names - answer.sources) if key in self._answers else 0
                    answer.sources |= names

    def settle(self) -> None:
        """After some calls: what they put is durable when it returns, or soon, where others say when it is written."""
        if self._own:
            self._later.flush()
        else:
            self._later.check()

    def _known(self, key: str) -> _Answer | None:
        answer = self._answers.get(key)
        if answer is not None:
            self._answers.move_to_end(key)
            return answer
        waiting = self._later.find("replays", key)
        if waiting is None:
            return None
        self._later.flush()  # more than the memory holds came in within a second: whose it is stands in the lake
        return self._read([key]).get(key)

    def _remember(self, key: str, answer: _Answer) -> None:
        self._answers[key] = answer
        self._used += answer.size
        while self._used > self._memory and len(self._answers) > 1:
            self._used -= self._answers.popitem(last=False)[1].size

    def _perhaps(self, keys: Sequence[str]) -> list[str]:
        """Those of the keys that the lake may have."""
        if not keys:
            return []
        if not self._counted:
            with self._lake.reader() as con:
                there = con.execute(statement("replay_keys"), {"most": _COUNTED + 1}).fetchnumpy()["mark"]
            self._there = np.sort(there) if len(there) <= _COUNTED else None
            self._counted = True
        if self._there is None:
            return list(keys)
        marks = np.fromiter((_mark(key) for key in keys), dtype=np.uint64, count=len(keys))
        there = np.fromiter((int(mark) in self._own_keys for mark in marks), dtype=bool, count=len(keys))
        if len(self._there):
            there |= self._there[np.minimum(np.searchsorted(self._there, marks), len(self._there) - 1)] == marks
        return [key for key, found in zip(keys, there, strict=True) if found]

    def _read(self, keys: Sequence[str]) -> dict[str, _Answer]:
        """Those of the keys that the lake has. They are remembered, and so is what was kept next after them."""
        with self._lake.reader() as con:
            asked = {"keys": list(keys), "ahead": _AHEAD, "bytes": self._memory // 4}
            rows = con.execute(statement("replays_ahead"), asked).fetchall()
        read = {key: _Answer(text, set(sources or ())) for key, text, sources in rows}
        wanted = {key: read[key] for key in keys if key in read}
        for key, answer in {**read, **wanted}.items():
            if key not in self._answers and (key in wanted or self._used + answer.size <= self._memory):
                self._remember(key, answer)
        return wanted


def _mark(key: str) -> int:
    """As DuckDB's md5_number_lower."""
    return int.from_bytes(md5(key.encode("utf-8", "surrogatepass"), usedforsecurity=False).digest()[8:], "little")


def _links(links: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"replay_key": key, "trace": one} for key, one in links]
