"""What the lake has taken in before: which objects are left out, read again, or gone on with in their midst."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import pyarrow as pa

TAKEN = "SELECT source_uri, content_hash, source_format, readers, n_quarantined, fingerprint FROM ingest_log"
REFUSED = (
    "SELECT source_uri, content_hash, any_value(size_bytes) AS size_bytes "
    "FROM ingest_log SEMI JOIN quarantine USING (source_uri, content_hash) GROUP BY ALL"
)
BEGUN = "SELECT source_uri, content_hash, readers, position FROM ingest_progress"

Object = tuple[str, str]
"""URI as it is written, and content hash."""
_Said = TypeVar("_Said")


class Ledger:
    """Answers what `ingest.batches` asks, as the readers of this call see it. A part of one can go to another process.

    What it is told meanwhile is taken from it by `reopened` and `renewed`.
    """

    def __init__(
        self,
        *,
        taken: Mapping[Object, bool],
        begun: Mapping[Object, int],
        refused: Mapping[Object, int],
        known: frozenset[str],
    ) -> None:
        self._taken = dict(taken)
        """Whether it is to be read once more."""
        self._begun = dict(begun)
        self._refused: dict[str, dict[str, int]] = {}
        for (uri, digest), size in refused.items():
            self._refused.setdefault(uri, {})[digest] = size
        self._known = known
        self._again: list[Object] = []
        self._renewed: list[tuple[str, str, str]] = []

    @classmethod
    def of(cls, taken: pa.Table, begun: pa.Table, refused: pa.Table, *, readers: str, retry_refused: bool) -> "Ledger":
        """From the rows of TAKEN, BEGUN and REFUSED, for a call with these readers (`ingest.readers`)."""

        def to_retry(row: Mapping[str, Any]) -> bool:
            refused = row["source_format"] is None and row["readers"] != readers
            return bool(refused or (retry_refused and row["n_quarantined"]))

        rows = taken.to_pylist()
        of_archives = {name for row in rows if to_retry(row) for name in _around(row["source_uri"])}
        again = {id(row) for row in rows if to_retry(row) or row["source_uri"] in of_archives}
        return cls(
            taken={(row["source_uri"], row["content_hash"]): id(row) in again for row in rows},
            # Other readers may cut records otherwise, so they begin at the beginning.
            begun={
                (row["source_uri"], row["content_hash"]): int(row["position"])
                for row in begun.to_pylist()
                if row["readers"] == readers
            },
            refused={(row["source_uri"], row["content_hash"]): int(row["size_bytes"]) for row in refused.to_pylist()},
            known=frozenset(
                row["fingerprint"] for row in rows if row["fingerprint"] is not None and id(row) not in again
            ),
        )

    def parts(self, uris: Sequence[Sequence[str]]) -> "list[Ledger]":
        """What it says of several groups of objects and of what lies in them, by their URIs as they are written."""
        groups_of: dict[str, list[int]] = {}
        for number, group in enumerate(uris):
            for uri in group:
                groups_of.setdefault(uri, []).append(number)

        def split(said: Mapping[Object, _Said]) -> list[dict[Object, _Said]]:
            parts: list[dict[Object, _Said]] = [{} for _ in uris]
            for one, value in said.items():
                for name in (one[0], *_around(one[0])):
                    for number in groups_of.get(name, ()):
                        parts[number][one] = value
            return parts

        states = {(uri, digest): size for uri, found in self._refused.items() for digest, size in found.items()}
        return [
            Ledger(taken=taken, begun=begun, refused=refused, known=frozenset())
            for taken, begun, refused in zip(split(self._taken), split(self._begun), split(states), strict=True)
        ]

    def known(self, fingerprint: str) -> bool:
        return fingerprint in self._known

    def seen(self, uri: str, digest: str) -> bool:
        to_retry = self._taken.get((uri, digest))
        if to_retry:
            self._again.append((uri, digest))
        return to_retry is False

    def same(self, uri: str, digest: str, fingerprint: str) -> None:
        """An object has its known content in a new state: touched, copied, uploaded again."""
        self._renewed.append((uri, digest, fingerprint))

    def position(self, uri: str, digest: str) -> int:
        """After how many records a stopped call left off."""
        return self._begun.get((uri, digest), 0)

    def refused(self, uri: str) -> Mapping[str, int]:
        """The earlier states of an object, content hash and bytes, of which records were refused."""
        return self._refused.get(uri, {})

    def reopened(self) -> list[Object]:
        """The objects that the batch just made reads again."""
        again, self._again = self._again, []
        return again

    def renewed(self) -> list[tuple[str, str, str]]:
        """The objects that are as they were, with the fingerprints of their new states."""
        renewed, self._renewed = self._renewed, []
        return renewed

    def note(self, tables: Mapping[str, pa.Table]) -> None:
        """A batch is in the lake: who reads the rest of its objects goes on behind it."""
        for row in tables["ingest_progress"].select(["source_uri", "content_hash", "position"]).to_pylist():
            one = (row["source_uri"], row["content_hash"])
            self._begun[one] = row["position"]
            self._taken.pop(one, None)
        for row in tables["ingest_log"].select(["source_uri", "content_hash"]).to_pylist():
            one = (row["source_uri"], row["content_hash"])
            self._begun.pop(one, None)
            self._taken[one] = False


def _around(uri: str) -> list[str]:
    """The archives that an object lies in."""
    steps = uri.split("!/")
    return ["!/".join(steps[:depth]) for depth in range(1, len(steps))]
