"""Clustering: one night of it. Centres, names and examples come from the learn pool; the gate pool is only counted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tracemill.ids import content_id
from tracemill.mining.clusters import emerging, naming, partition, reading, tracking
from tracemill.mining.clusters.reading import Said, Texts
from tracemill.mining.embedding import Embedder, Vectors, distinct
from tracemill.mining.patterns import journeys
from tracemill.mining.patterns.journeys import Bools
from tracemill.schema import CLUSTER_MEMBERS, CLUSTERS

Kind = Literal["intent", "failure"]
KINDS: tuple[Kind, ...] = ("intent", "failure")
DAYS = 90
FITTED_ON = 20_000
"""Centres are found on so many distinct texts at most; a lake with no more is fitted anew every night."""
_CHUNK = 20_000
_FEWEST = 5
_SHARE = 0.005
"""A cluster has at least so many episodes, and this share of those that it is found among."""
_MOVED = 0.15
"""New texts do not fit any more where so many of them lie further off than the furthest twentieth of the old."""
_BETTER = 1.15
_SHOWN = 5
_OTHERS = 2_000
_SAME = 1e-4
"""Cosines that differ by less are not written again."""

Name = Callable[[Kind, Sequence[tuple[Sequence[str], Sequence[str]]]], dict[int, str]]
"""Names groups (telling words, cleaned texts) by place; what it leaves out is named by its words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clustered:
    """What a night of clustering writes."""

    clusters: pa.Table
    """Rows of schema.CLUSTERS to put in place of those with their id."""
    members: pa.Table
    """Rows of schema.CLUSTER_MEMBERS that are new or different; whose cluster is NULL, that is a member no more."""
    embedded: int
    """Distinct texts that were looked at: embedded, and put to the nearest centre."""


def cluster(
    con: duckdb.DuckDBPyConnection,
    embedder: Embedder,
    *,
    night_id: str,
    now_ns: int,
    days: int | None = DAYS,
    seed: int = 0,
    naming_with: Name | None = None,
) -> Clustered:
    """Puts every episode of the last `days` days into a cluster of its intent and, where it failed, of its failure.

    Centres stay until new texts no longer fit them (in lakes of few texts: for a night), and a centre that moved a
    little keeps its id. Leaves temporary tables on `con`.
    """
    journeys.episodes_of(con, days=days, gate=True)
    clusters, members, embedded = [], [], 0
    for kind in KINDS:
        night = _Night(con, kind, embedder, night_id=night_id, now_ns=now_ns, seed=seed, name=naming_with)
        rows, moved = night.run()
        clusters.append(pa.Table.from_pylist(rows, schema=CLUSTERS))
        members.append(moved)
        embedded += night.embedded
    return Clustered(clusters=pa.concat_tables(clusters), members=pa.concat_tables(members), embedded=embedded)


class _Night:
    """One kind of clusters in one night."""

    def __init__(
        self,
        con: duckdb.DuckDBPyConnection,
        kind: Kind,
        embedder: Embedder,
        *,
        night_id: str,
        now_ns: int,
        seed: int,
        name: Name | None,
    ) -> None:
        self.con, self.kind, self.embedder, self.seed, self.name = con, kind, embedder, seed, name
        self.night_id, self.now_ns = night_id, now_ns
        self.said: Said = reading.read(con, kind)
        self.texts = Texts(self.said)
        self.embedded = 0
        every = reading.query(con, "known_clusters", {"kind": kind}).to_pylist()
        self.stored: list[dict[str, Any]] = every
        self.known = [row for row in every if row["embedder"] == embedder.name and row["centre"]]

    def run(self) -> tuple[list[dict[str, Any]], pa.Table]:
        said = self.said
        learn_n = np.bincount(said.text_ep[said.learn_ep], minlength=said.n_texts)
        sample = np.flatnonzero(learn_n > 0)[:FITTED_ON]
        alive = [row for row in self.known if row["trend"] != "gone" or row["n"]]
        place_of = {row["cluster_id"]: i for i, row in enumerate(alive)}
        known_ep = np.array([place_of.get(one, -1) if one is not None else -1 for one in said.known_ep], dtype=np.int64)
        old = _centres(alive)
        fresh = known_ep < 0
        if alive and np.count_nonzero(learn_n) > FITTED_ON:
            place_t, alike_t = self._assign(np.unique(said.text_ep[fresh]), old)
            place_ep = np.where(fresh, place_t[said.text_ep], known_ep)
            alike_ep = np.where(fresh, alike_t[said.text_ep], said.similarity_ep)
            rows, found, place_ep, alike_ep = self._joined(alive, old, fresh, place_ep, alike_ep, learn_n)
            if not self._moved(alike_ep[fresh & said.learn_ep]):
                return self._rows(rows, found, place_ep, alike_ep), self._members(rows, place_ep, alike_ep)
        vectors, cleaned = self._embed(sample)
        if len(old):
            spoken, alike = np.linalg.norm(vectors, axis=1) > 0.5, np.full(said.n_texts, np.nan)
            alike[sample[spoken]] = partition.nearest(vectors[spoken], old)[1]
            off, n = emerging.strangers(said, fresh, alike[said.text_ep])
            at = np.searchsorted(sample, off)
            texts = [cleaned[i] for i in at.tolist()]
            old = emerging.joined(said, old, vectors[at], texts, learn_n[off], fewest=_fewest(n), seed=self.seed)
            new = np.isin(sample, said.text_ep[fresh & said.learn_ep])
            if self._moved(partition.nearest(vectors[new], old)[1]):
                old = old[:0]
        found = self._centres(vectors, cleaned, learn_n[sample], old)
        rows = self._continued(found)
        place_t, alike_t = self._assign(np.arange(said.n_texts), found, sample=sample, vectors=vectors)
        self._call(rows, cleaned, learn_n[sample], place_t[sample], alike_t[sample])
        place_ep, alike_ep = place_t[said.text_ep], alike_t[said.text_ep].astype(np.float64)
        return self._rows(rows, found, place_ep, alike_ep), self._members(rows, place_ep, alike_ep)

    def _centres(
        self, vectors: Vectors, cleaned: Sequence[str], counts: npt.NDArray[np.int64], old: Vectors
    ) -> Vectors:
        """Centres of cleaned texts, each of which counts as one however many numbers and names it was said with.

        The old ones, moved a little, are kept unless new ones tell texts apart much better: of many divisions that are
        as good, yesterday's is the one that people know.
        """
        some, weights, said = partition.distinctly(vectors, cleaned, counts)
        fewest = _fewest(int(said.sum()))
        fresh = partition.centres(some, weights, said, fewest=fewest, seed=self.seed)
        if len(old) and len(some):
            kept = partition.refined(some, weights, said, old, fewest=fewest)
            if len(kept) == len(fresh) == 1 or (
                len(kept) > 1
                and (
                    len(fresh) < 2
                    or partition.silhouette(some, weights, fresh) < _BETTER * partition.silhouette(some, weights, kept)
                )
            ):
                return partition.in_order(kept)
        return partition.in_order(fresh)

    def _joined(
        self,
        rows: Sequence[dict[str, Any]],
        old: Vectors,
        fresh_ep: Bools,
        place_ep: npt.NDArray[np.int64],
        alike_ep: npt.NDArray[np.float64],
        counts: npt.NDArray[np.int64],
    ) -> tuple[Sequence[dict[str, Any]], Vectors, npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Known clusters as they are, joined by those of what callers began to say lately: rows, centres, who is in
        which, and how near."""
        off, n = emerging.strangers(self.said, fresh_ep, np.where(place_ep >= 0, alike_ep, np.nan))
        if not len(off):
            return rows, old, place_ep, alike_ep
        vectors, cleaned = self._embed(off)
        found = emerging.joined(self.said, old, vectors, cleaned, counts[off], fewest=_fewest(n), seed=self.seed)
        place_t, alike_t = np.full(self.said.n_texts, -1, dtype=np.int64), np.zeros(self.said.n_texts)
        place_t[off], alike_t[off] = partition.nearest(vectors, found)
        new = self._continued(found[len(old) :])
        # What others say tells which words are theirs.
        others = np.setdiff1d(np.flatnonzero(counts > 0)[:_OTHERS], off)
        place_t[others], told = len(found), np.concatenate([off, others])
        self._call(new, cleaned + self.texts.get(others), counts[told], place_t[told] - len(old), alike_t[told])
        place_t[others] = -1
        moved = place_t[self.said.text_ep] >= len(old)
        place_ep = np.where(moved, place_t[self.said.text_ep], place_ep)
        return [*rows, *new], found, place_ep, np.where(moved, alike_t[self.said.text_ep], alike_ep)

    def _moved(self, new: npt.NDArray[Any]) -> bool:
        """Whether so many of the new texts lie off the centres that there must be others."""
        bar = emerging.limit(self.said)
        if not len(new) or bar is None:
            return bool(len(new))
        return bool(np.mean(new < bar) > _MOVED)

    def _embed(self, numbers: npt.NDArray[np.int64]) -> tuple[Vectors, list[str]]:
        """Vectors and cleaned texts of distinct texts (numbers in order)."""
        vectors, cleaned = [], []
        for first in range(0, len(numbers), _CHUNK):
            texts = self.texts.get(numbers[first : first + _CHUNK])
            vectors.append(distinct(self.embedder, texts))
            cleaned += texts
        self.embedded += len(cleaned)
        return (np.concatenate(vectors) if vectors else np.zeros((0, 1), dtype=np.float32)), cleaned

    def _assign(
        self,
        numbers: npt.NDArray[np.int64] | npt.NDArray[np.int32],
        centres: Vectors,
        *,
        sample: npt.NDArray[np.int64] | None = None,
        vectors: Vectors | None = None,
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """By text the nearest centre and the cosine with it; -1 where it has none or was not asked for."""
        place, alike = np.full(self.said.n_texts, -1, dtype=np.int64), np.zeros(self.said.n_texts, dtype=np.float32)
        if not len(centres):
            return place, alike
        if sample is not None and vectors is not None:
            self._put(sample, vectors, centres, place, alike)
            numbers = np.setdiff1d(numbers, sample)
        for first in range(0, len(numbers), _CHUNK):
            some = numbers[first : first + _CHUNK].astype(np.int64)
            self._put(some, self._embed(some)[0], centres, place, alike)
        return place, alike

    @staticmethod
    def _put(
        numbers: npt.NDArray[np.int64],
        vectors: Vectors,
        centres: Vectors,
        place: npt.NDArray[np.int64],
        alike: npt.NDArray[np.float32],
    ) -> None:
        found, cosine = partition.nearest(vectors, centres)
        # A text without a word of its own is like nothing.
        place[numbers] = np.where(np.linalg.norm(vectors, axis=1) > 0.5, found, -1)
        alike[numbers] = cosine

    def _continued(self, found: Vectors) -> list[dict[str, Any]]:
        """A row for each centre: the known one that it continues, or a new one."""
        rows: list[dict[str, Any]] = []
        for centre, at in zip(found, tracking.same(found, _centres(self.known)), strict=True):
            if at is None:
                parts = [round(float(x), 4) for x in centre]
                rows.append({"cluster_id": content_id("cluster/1", self.kind, self.embedder.name, parts)})
            else:
                rows.append(dict(self.known[at]))
        return rows

    def _call(
        self,
        rows: list[dict[str, Any]],
        cleaned: Sequence[str],
        counts: npt.NDArray[np.int64],
        place: npt.NDArray[np.int64],
        alike: npt.NDArray[np.float32],
    ) -> None:
        """Gives rows, the first of the places, their terms and names; a name that a model gave stays."""
        there = np.flatnonzero(place >= 0)
        texts = [cleaned[i] for i in there.tolist()]
        n = max(len(rows), int(place.max(initial=-1)) + 1)
        said = naming.terms(texts, counts[there].tolist(), place[there].tolist(), n)[: len(rows)]
        wanted = []
        for i, (row, terms) in enumerate(zip(rows, said, strict=True)):
            by_words = row.get("name") is None or row["name"] == naming.called(row["terms"] or [])
            row["terms"] = terms
            if by_words:
                row["name"] = naming.called(terms)
                wanted.append(i)
        if self.name is None or not wanted:
            return
        groups = []
        for i in wanted:
            inside = np.flatnonzero(place == i)
            nearest = inside[np.lexsort((inside, -alike[inside]))][:_SHOWN]
            groups.append((rows[i]["terms"], [cleaned[j] for j in nearest.tolist()]))
        for at, called in self.name(self.kind, groups).items():
            rows[wanted[at]]["name"] = called

    def _rows(
        self,
        rows: Sequence[dict[str, Any]],
        centres: Vectors,
        place_ep: npt.NDArray[np.int64],
        alike_ep: npt.NDArray[np.float64],
    ) -> list[dict[str, Any]]:
        said, k = self.said, len(rows)
        inside = place_ep >= 0
        n = np.bincount(place_ep[inside], minlength=k)
        failed = np.bincount(place_ep[inside & (said.failed_ep == 1)], minlength=k)
        trend = self._trends(place_ep, k)
        shown = self._exemplars(place_ep, alike_ep, k)
        told = []
        for i, row in enumerate(rows):
            days = said.day_ep[inside & (place_ep == i) & (said.day_ep >= 0)]
            told.append({
                **row,
                "name": row["name"] or naming.called(row["terms"] or []),
                "kind": self.kind,
                "embedder": self.embedder.name,
                "centre": centres[i].tolist(),
                "n": int(n[i]),
                "n_failed": int(failed[i]),
                "trend": trend[i],
                "exemplars": shown[i],
                "first_day": _earliest(row.get("first_day"), days),
                "last_day": _day(int(days.max())) if len(days) else row.get("last_day"),
                "night_id": self.night_id,
                "at": self.now_ns,
            })  # fmt: skip
        there = {row["cluster_id"] for row in told}
        # What no centre continues is over, and says so once.
        over = [row for row in self.stored if row["cluster_id"] not in there and (row["n"] or row["trend"] != "gone")]
        none = {"n": 0, "n_failed": 0, "trend": "gone", "exemplars": [], "night_id": self.night_id, "at": self.now_ns}
        return told + [{**row, **none} for row in over]

    def _trends(self, place_ep: npt.NDArray[np.int64], k: int) -> list[tracking.Trend | None]:
        said = self.said
        dated = said.day_ep >= 0
        there = tracking.windows(said.day_ep[dated])
        if there is None or not k:
            return [None] * k
        first = int(said.day_ep[dated].min())
        # A session that asks ten times is one sign of a trend.
        inside = dated & (place_ep >= 0)
        n_days = int(said.day_ep.max()) - first + 1
        n_sessions = int(said.session_ep.max()) + 1
        cell = place_ep[inside] * n_days + said.day_ep[inside] - first
        seen = np.sort(cell * n_sessions + said.session_ep[inside])
        counted = seen[np.diff(seen, prepend=-1) != 0] // n_sessions
        per_day = np.bincount(counted, minlength=k * n_days).reshape(k, n_days)
        return list(tracking.trends(per_day, per_day.sum(axis=0), there, first))

    def _exemplars(self, place_ep: npt.NDArray[np.int64], alike_ep: npt.NDArray[np.float64], k: int) -> list[list[str]]:
        """Ids of the learn pool's episodes next to each centre, of different texts and sessions."""
        said = self.said
        chosen: list[list[int]] = [[] for _ in range(k)]
        able = np.flatnonzero((place_ep >= 0) & said.learn_ep)
        order = able[np.lexsort((said.place_ep[able], -alike_ep[able], place_ep[able]))]
        seen: set[tuple[int, str, int]] = set()
        for i in order.tolist():
            cluster = int(place_ep[i])
            if len(chosen[cluster]) == _SHOWN:
                continue
            marks = {(cluster, "text", int(said.text_ep[i])), (cluster, "session", int(said.session_ep[i]))}
            if not marks & seen:
                seen |= marks
                chosen[cluster].append(int(said.place_ep[i]))
        wanted = pa.table({"u": pa.array(sorted({u for one in chosen for u in one}), pa.int32())})
        rows = journeys.asked(self.con, "trajectory_ids", "asked", wanted).to_pylist()
        ids = {row["u"]: row["trajectory_id"] for row in rows}
        return [[ids[u] for u in one] for one in chosen]

    def _members(
        self, rows: Sequence[dict[str, Any]], place_ep: npt.NDArray[np.int64], alike_ep: npt.NDArray[np.float64]
    ) -> pa.Table:
        """Rows of the episodes whose cluster is new or another, and of those that are in none any more."""
        said = self.said
        ids = [row["cluster_id"] for row in rows]
        names = np.array([*ids, None], dtype=object)  # -1: none
        new = names[place_ep]
        changed = new != np.array(said.known_ep, dtype=object)
        changed |= (place_ep >= 0) & (np.abs(alike_ep - np.nan_to_num(said.similarity_ep, nan=-2.0)) > _SAME)
        at = np.flatnonzero(changed)
        wanted = pa.table({"u": pa.array(said.place_ep[at], pa.int32())})
        told = journeys.asked(self.con, "trajectory_ids", "asked", wanted).sort_by("u")
        moved = pa.table(
            {
                "trajectory_id": told["trajectory_id"],
                "kind": pa.array([self.kind] * len(at), pa.string()),
                "cluster_id": pa.array(new[at].tolist(), pa.string()),
                "similarity": pa.array(
                    np.where(place_ep[at] >= 0, alike_ep[at], np.nan), pa.float64(), from_pandas=True
                ),
                "day": pa.array(said.day_ep[at], pa.int32(), mask=said.day_ep[at] < 0).cast(pa.date32()),
            },
            schema=CLUSTER_MEMBERS,
        )
        left = reading.query(self.con, "left_members", {"kind": self.kind})["trajectory_id"].to_pylist()
        gone = [{"trajectory_id": one, "kind": self.kind} for one in left]
        return pa.concat_tables([moved, pa.Table.from_pylist(gone, schema=CLUSTER_MEMBERS)])


def _fewest(n: int) -> int:
    return max(_FEWEST, int(_SHARE * n))


def _centres(rows: Sequence[dict[str, Any]]) -> Vectors:
    return np.array([row["centre"] for row in rows], dtype=np.float32) if rows else np.zeros((0, 1), dtype=np.float32)


def _day(number: int) -> Any:
    return np.datetime64(number, "D").astype(object)


def _earliest(known: Any, days: npt.NDArray[np.int64]) -> Any:
    found = _day(int(days.min())) if len(days) else None
    return min((day for day in (known, found) if day is not None), default=None)
