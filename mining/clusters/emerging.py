"""Emerging: centres for what callers began to say lately, among texts that lie off all known centres."""

from collections.abc import Sequence

import numpy as np

from tracemill.mining.clusters import partition
from tracemill.mining.clusters.reading import Said
from tracemill.mining.clusters.tracking import SAME
from tracemill.mining.embedding import Vectors, unit
from tracemill.mining.patterns.journeys import Bools, Floats, Ints

FURTHEST = 0.05
"""Further off than this share of the known texts: there a text is off all centres."""
_LATELY = 7
"""Days in which a handful of texts a night may become a cluster."""
_APART = 0.5
"""A centre may be so near a known one, or as two known ones are to each other; nearer it is its fringe."""
_SURE = 2.0
"""Standard deviations by which texts off the centres must be more than the furthest of texts that fit."""


def limit(said: Said) -> float | None:
    """The cosine below which a text is off its centre; None where no text is known."""
    known = said.similarity_ep[said.learn_ep & ~np.isnan(said.similarity_ep)]
    return float(np.quantile(known, FURTHEST)) if len(known) else None


def strangers(said: Said, fresh_ep: Bools, alike_ep: Floats) -> tuple[Ints, int]:
    """Numbers, in order, of distinct texts of the learn pool that are off their centres, of those that are new or of
    the last week, and how many episodes these all are; no text where no more of them are off than of texts that fit."""
    bar, last = limit(said), int(said.day_ep.max(initial=-1))
    lately = said.learn_ep & (fresh_ep | ((said.day_ep >= 0) & (said.day_ep > last - _LATELY)))
    off = lately & (alike_ep < bar) if bar is not None else np.zeros(len(lately), dtype=bool)
    texts, n = np.unique(said.text_ep[off]).astype(np.int64), len(np.unique(said.text_ep[lately]))
    expected = FURTHEST * n
    more = len(texts) - expected > _SURE * np.sqrt(expected * (1 - FURTHEST))
    return (texts if more and (fresh_ep & off).any() else texts[:0]), int(np.count_nonzero(lately))


def joined(
    said: Said, known: Vectors, vectors: Vectors, cleaned: Sequence[str], counts: Ints, *, fewest: int, seed: int
) -> Vectors:
    """The known centres, then those of strangers (said `counts` times) that are as alike to each other as what fits a
    known centre is to it, so many that `fewest` episodes said them.

    A text is compared with what else was said in its group, not with itself. There are never more centres than
    partition.MOST.
    """
    bar = limit(said)
    if not len(cleaned) or bar is None:
        return known
    some, weights, n_said = partition.distinctly(vectors, cleaned, counts)
    alike = known @ known.T - np.eye(len(known))
    apart = min(SAME, max(_APART, float(alike.max(initial=0.0))))
    groups = []
    place = partition.nearest(some, partition.centres(some, weights, n_said, fewest=fewest, seed=seed))[0]
    pulled = some * weights[:, None].astype(np.float32)
    for one in np.unique(place).tolist():
        inside = np.flatnonzero(place == one)
        others = unit(pulled[inside].sum(axis=0) - some[inside])
        groups.append(inside[(others * some[inside]).sum(axis=1) >= bar])
    groups = [near for near in groups if n_said[near].sum() >= fewest]
    kept: list[Ints] = []
    for near in sorted(groups, key=lambda one: -int(n_said[one].sum())):
        centre = _middle(pulled[near])
        if float((known @ centre).max(initial=0.0)) >= apart:
            continue
        alike_kept = [float(_middle(pulled[one]) @ centre) for one in kept]
        best = int(np.argmax(alike_kept)) if alike_kept else -1
        if best >= 0 and alike_kept[best] >= apart:
            kept[best] = np.concatenate([kept[best], near])  # divided too finely
        else:
            kept.append(near)
    most = kept[: max(0, partition.MOST - len(known))]
    return np.concatenate([known, *(_middle(pulled[near])[None] for near in most)])


def _middle(pulled: Vectors) -> Vectors:
    found: Vectors = unit(pulled.sum(axis=0, keepdims=True))[0]
    return found
