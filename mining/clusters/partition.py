"""Partition: centres of unit vectors (spherical k-means), and how many of them there are."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tracemill.mining.embedding import Vectors, unit

Ints = npt.NDArray[np.int64]
MOST = 64
_ROUNDS = 40
_RESTARTS = 3
_FEW = 8
"""More centres than that lose less by a bad beginning."""
_TRIED = (2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, MOST)
_COMPARED = 2_000
"""How many clusters there are is decided on so many texts."""
_SPLITS = 4
_TOLD_APART = 0.15
_AS_GOOD = 0.99
_PATIENCE = 5
_HANDFUL = 40
_APART = 0.5
"""Cosine distance from which two groups of a handful are two."""
_ROWS = 16_384


def nearest(vectors: Vectors, centres: Vectors) -> tuple[Ints, npt.NDArray[np.float32]]:
    """The nearest centre of each vector, and the cosine with it."""
    place = np.zeros(len(vectors), dtype=np.int64)
    best = np.zeros(len(vectors), dtype=np.float32)
    for start in range(0, len(vectors), _ROWS):
        alike = vectors[start : start + _ROWS] @ centres.T
        found = np.argmax(alike, axis=1)
        place[start : start + _ROWS] = found
        best[start : start + _ROWS] = alike[np.arange(len(found)), found]
    return place, best


def distinctly(vectors: Vectors, cleaned: Sequence[str], counts: Ints) -> tuple[Vectors, npt.NDArray[np.float64], Ints]:
    """Vectors of cleaned texts that say something, each once; how much they pull on centres, and how often each was
    said: what everybody copies shall not make a cluster for its copies alone."""
    _, firsts, number = np.unique(np.array(cleaned, dtype=object), return_index=True, return_inverse=True)
    said = np.bincount(number, weights=counts).astype(np.int64)
    spoken = np.linalg.norm(vectors[firsts], axis=1) > 0.5
    firsts, said = firsts[spoken], said[spoken]
    return vectors[firsts], np.sqrt(said), said


def in_order(found: Vectors) -> Vectors:
    """Centres in an order of their own, not in that of their finding."""
    return found[np.lexsort(found.T[::-1])] if len(found) else found


def centres(
    vectors: Vectors, weights: npt.NDArray[np.float64], counts: npt.NDArray[np.int64], *, fewest: int, seed: int
) -> Vectors:
    """Centres of distinct texts that were said `counts` times, each of a cluster in which so much as `fewest` was said.

    `weights` pull on the centres. A handful of texts is joined by likeness, more are divided as `how_many` says.
    """
    if len(vectors) <= _HANDFUL:
        return _prune(vectors, counts, _joined(vectors, weights), fewest)
    smallest = max(2, min(fewest, len(vectors) // 20))
    k = how_many(vectors, smallest=smallest, seed=seed)
    return _prune(vectors, counts, k_means(vectors, weights, k, seed=seed), fewest)


def refined(
    vectors: Vectors, weights: npt.NDArray[np.float64], counts: npt.NDArray[np.int64], known: Vectors, *, fewest: int
) -> Vectors:
    """Known centres moved to the middle of what is nearest to them now."""
    return _prune(vectors, counts, _settled(vectors, weights, known)[0], fewest)


def _joined(vectors: Vectors, weights: npt.NDArray[np.float64]) -> Vectors:
    if len(vectors) < 2:
        return vectors
    from scipy.cluster.hierarchy import fcluster, linkage

    number = fcluster(linkage(vectors, "average", metric="cosine"), _APART, "distance") - 1
    return unit(_sums(vectors, weights, number.astype(np.int64), int(number.max()) + 1))


def how_many(vectors: Vectors, *, smallest: int, seed: int) -> int:
    """The number of centres by which texts that they were not made from are told apart best: centres of one half are
    tried on the other, and the other way round. Of numbers as good the smallest; 1 where they are hardly told apart."""
    rng = np.random.default_rng(seed)
    some = rng.permutation(len(vectors))[:_COMPARED]
    least = max(2, smallest * len(some) // max(1, len(vectors)))  # of the texts compared
    worth: dict[int, float] = {}
    alike = np.ones(len(vectors))  # what is new was not said often yet
    orders = [rng.permutation(some) for _ in range(_SPLITS)]
    halves = [(order[: len(some) // 2], order[len(some) // 2 :]) for order in orders]
    for k in _TRIED:
        if k * 2 * least > len(some):
            break
        said = []
        for made, tried in (pair for a, b in halves for pair in ((a, b), (b, a))):
            found = k_means(vectors[made], alike[made], k, seed=seed, restarts=_RESTARTS if k <= _FEW else 1)
            said.append(silhouette(vectors[tried], alike[tried], found) if len(found) > 1 else 0.0)
        worth[k] = float(np.mean(said))
        if max(list(worth.values())[-_PATIENCE:]) < 0.9 * max(worth.values()):
            break
    best = max(worth.values(), default=0.0)
    return next((k for k, one in worth.items() if one >= _AS_GOOD * best), 1) if best > _TOLD_APART else 1


def silhouette(vectors: Vectors, weights: npt.NDArray[np.float64], found: Vectors) -> float:
    """How much nearer texts are to their own centre than to the next one: 0 not at all, 1 wholly."""
    distance = np.sort(1 - np.clip(vectors @ found.T, -1, 1), axis=1)[:, :2]
    worth = (distance[:, 1] - distance[:, 0]) / np.maximum(distance[:, 1], 1e-9)
    return float((worth * weights).sum() / weights.sum())


def k_means(
    vectors: Vectors, weights: npt.NDArray[np.float64], k: int, *, seed: int, restarts: int = _RESTARTS
) -> Vectors:
    """At most `k` unit centres; the best of several beginnings."""
    best, kept = -np.inf, vectors[:0]
    for turn in range(restarts):
        begun = _begin(vectors, weights, k, np.random.default_rng([seed, k, turn]))
        found, worth = _settled(vectors, weights, begun)
        if worth > best:
            best, kept = worth, found
    return kept


def _settled(vectors: Vectors, weights: npt.NDArray[np.float64], found: Vectors) -> tuple[Vectors, float]:
    """Centres after texts went to the nearest and centres to the middle of theirs until nothing moved; and how near
    texts are to them."""
    before: Ints | None = None
    worth = -np.inf
    for _ in range(_ROUNDS):
        place, alike = nearest(vectors, found)
        worth = float((alike * weights).sum())
        if before is not None and np.array_equal(place, before):
            break
        before = place
        sums = _sums(vectors, weights, place, len(found))
        kept = np.linalg.norm(sums, axis=1) > 1e-6
        found = unit(sums[kept])
        if not kept.all():
            before = None
    return found, worth


def _sums(vectors: Vectors, weights: npt.NDArray[np.float64], place: Ints, k: int) -> Vectors:
    order = np.argsort(place, kind="stable")
    there, starts = np.unique(place[order], return_index=True)
    sums = np.zeros((k, vectors.shape[1]), dtype=np.float32)
    sums[there] = np.add.reduceat(vectors[order] * weights[order, None].astype(np.float32), starts, axis=0)
    return sums


def _begin(vectors: Vectors, weights: npt.NDArray[np.float64], k: int, rng: np.random.Generator) -> Vectors:
    """Far from each other (k-means++)."""
    chosen = [int(rng.choice(len(vectors), p=weights / weights.sum()))]
    far = np.clip(1 - vectors @ vectors[chosen[0]], 0, 2).astype(np.float64)
    while len(chosen) < k:
        chance = weights * far
        total = chance.sum()
        if total <= 1e-9:
            break
        chosen.append(int(rng.choice(len(vectors), p=chance / total)))
        far = np.minimum(far, np.clip(1 - vectors @ vectors[chosen[-1]], 0, 2))
    return vectors[chosen]


def _prune(vectors: Vectors, counts: npt.NDArray[np.int64], found: Vectors, fewest: int) -> Vectors:
    """Centres without those in whose clusters too little was said, the smallest first; their texts go to the next."""
    while len(found) > 1:
        sizes = np.bincount(nearest(vectors, found)[0], weights=counts, minlength=len(found))
        least = int(np.argmin(sizes))
        if sizes[least] >= fewest:
            break
        found = np.delete(found, least, axis=0)
    return found
