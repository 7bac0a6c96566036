"""Who may be judged by what was learned from whom: cells of users and times, so that no row is judged by its kin."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
UNDATED, NEW = -1, -2


@dataclass(frozen=True, slots=True, kw_only=True)
class Folds:
    """Users hashed into `buckets`, time cut at `edges`. A cell is (bucket, block).

    What judges a row of a cell learned from no row of its bucket and from none of its block. What has no time is a
    block of its own; what began after `until`, the last start that was learned from, lies in no block.
    """

    buckets: int
    edges: tuple[int, ...] = ()
    until: int | None = None
    salt: int = 0
    """Another one is another way to part the users."""

    @classmethod
    def over(cls, starts: Sequence[int | None], *, buckets: int, blocks: int, salt: int = 0) -> "Folds":
        """Blocks of about as many of these rows each; one where none of them has a time."""
        known = sorted(start for start in starts if start is not None)
        if not known:
            return cls(buckets=buckets, salt=salt)
        cuts = sorted({known[len(known) * at // blocks] for at in range(1, blocks)} - {known[0]})
        return cls(buckets=buckets, edges=tuple(cuts), until=known[-1], salt=salt)

    def to_json(self) -> dict[str, Any]:
        return {"buckets": self.buckets, "edges": list(self.edges), "until": self.until, "salt": self.salt}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "Folds":
        return cls(**{**raw, "edges": tuple(raw["edges"])})

    def bucket(self, owners: Sequence[str]) -> Ints:
        return np.fromiter(
            (_hashed(f"{self.salt}/{owner}") % self.buckets for owner in owners), dtype=np.int64, count=len(owners)
        )

    def block(self, starts: Sequence[int | None]) -> Ints:
        def one(start: int | None) -> int:
            if start is None:
                return UNDATED
            if self.until is None or start > self.until:
                return NEW
            return int(np.searchsorted(np.asarray(self.edges, dtype=np.int64), start, side="right"))

        return np.fromiter((one(start) for start in starts), dtype=np.int64, count=len(starts))

    def cells(self) -> list[tuple[int, int]]:
        """All cells that a row may lie in."""
        blocks = [UNDATED, NEW, *(range(len(self.edges) + 1) if self.until is not None else ())]
        return [(bucket, block) for bucket in range(self.buckets) for block in blocks]

    def teaches(self, cell: tuple[int, int], bucket: Ints, block: Ints) -> npt.NDArray[np.bool_]:
        """Which rows may be learned from to judge those of the cell. Where no row has a time, only users part them."""
        other_time = np.full(len(block), self.until is None) | (block != cell[1])
        taught: npt.NDArray[np.bool_] = (bucket != cell[0]) & other_time
        return taught


def _hashed(owner: str) -> int:
    return int.from_bytes(hashlib.sha256(owner.encode("utf-8", "surrogatepass")).digest()[:8], "big")
