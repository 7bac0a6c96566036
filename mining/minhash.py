"""MinHash over words and word pairs: an estimate of how alike two short texts are that fits in a row of the lake."""

import hashlib
import re
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from tracemill.ids import PSEUDONYM

N_HASHES = 256
_ROWS_PER_BAND = 3  # 85 bands: a pair of Jaccard 0.4 is missed once in 280, one of 0.1 is looked at once in 12
_WORD = re.compile(r"[^\W_]+|[?!]")
_QUOTED = re.compile(r"(?<!\w)([\"“”«»'‘])(?!\s)[^\"“”«»'‘’\n]{1,60}(?<!\s)([\"“”«»'’])(?!\w)")
_HAS_DIGIT = re.compile(r"\S*\d\S*")
_NAME = re.compile(r"(?<=[\w,;)\"'] )[A-Z][\w’'&-]*(?: (?:of |de |van )?[A-Z][\w’'&-]*)*")
_MASK = "0"

Signatures = npt.NDArray[np.uint32]


def normalise(text: str) -> str:
    """The text without what fills its slots: numbers, pseudonyms, quoted strings and names are one mask each.

    Names are capitalised words inside a sentence; a text that is mostly capitalised keeps them, as there they say
    nothing. Lower case, punctuation dropped (but ? and !), runs of masks and of blanks folded.
    """
    masked = _QUOTED.sub(f" {_MASK} ", PSEUDONYM.sub(_MASK, text))
    words = [word for word in masked.split() if word[:1].isalpha()]
    capitalised = sum(word[0].isupper() for word in words)
    if 2 * capitalised < len(words):
        masked = _NAME.sub(lambda hit: hit.group() if hit.group() in ("I", "I'm", "I’m") else _MASK, masked)
    found = _WORD.findall(_HAS_DIGIT.sub(f" {_MASK} ", masked).lower())
    kept = [word for i, word in enumerate(found) if word != _MASK or i == 0 or found[i - 1] != _MASK]
    return " ".join(kept)


def shingles(normalised: str) -> frozenset[str]:
    """Words and neighbouring pairs of words."""
    words = normalised.split()
    return frozenset(words) | {f"{a} {b}" for a, b in pairwise(words)}


def signatures(normalised: list[str], key: bytes) -> Signatures:
    """One MinHash row per text. Keyed, so that a row tells nothing to who does not hold the lake's key."""
    multiply, add = _coefficients()
    cache: dict[str, int] = {}
    rows = np.full((len(normalised), N_HASHES), np.iinfo(np.uint32).max, dtype=np.uint32)
    for i, text in enumerate(normalised):
        hashes = np.array([_hash(shingle, key, cache) for shingle in sorted(shingles(text))], dtype=np.uint64)
        if hashes.size:
            # multiply-shift: the upper half of a*h+b modulo 2**64 is close to a random permutation
            rows[i] = ((hashes[:, None] * multiply + add) >> np.uint64(32)).min(axis=0).astype(np.uint32)
    return rows


def similar_pairs(rows: Signatures, threshold: float, first_new: int = 0) -> list[tuple[int, int]]:
    """Pairs (older, newer) of rows whose estimated Jaccard is at least `threshold`; rows come oldest first.

    Only pairs with a row from `first_new` on are looked for, and only enough of them to connect what belongs together.
    """
    parent = list(range(len(rows)))

    def find(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    found: list[tuple[int, int]] = []
    for bucket in _buckets(rows):
        if bucket[-1] < first_new:
            continue
        roots = np.array([find(node) for node in bucket.tolist()])
        # One look-out per connected set, eight per bucket: enough to connect, and linear in the bucket.
        for place in np.sort(np.unique(roots, return_index=True)[1])[:8].tolist():
            anchor = int(bucket[place])
            others = bucket[(bucket > anchor) & (bucket >= first_new) & (roots != roots[place])]
            near = others[np.mean(rows[others] == rows[anchor], axis=1) >= threshold] if others.size else others
            for other in near.tolist():
                found.append((anchor, other))
                parent[find(other)] = find(anchor)
    return found


def _buckets(rows: Signatures) -> Iterator[npt.NDArray[np.int64]]:
    """Row numbers, ascending, that agree in a whole band; two or more at a time."""
    for start in range(0, N_HASHES - _ROWS_PER_BAND + 1, _ROWS_PER_BAND):
        band = np.ascontiguousarray(rows[:, start : start + _ROWS_PER_BAND])
        _, number = np.unique(band, axis=0, return_inverse=True)
        number = number.ravel()
        order = np.argsort(number, kind="stable")
        edges = np.flatnonzero(np.diff(number[order])) + 1
        for bucket in np.split(order, edges):
            if len(bucket) > 1:
                yield bucket


def _coefficients() -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    # From a hash, not from a generator: signatures stay comparable over every version of numpy.
    raw = b"".join(hashlib.sha256(b"tracemill.minhash/1" + i.to_bytes(4, "big")).digest()[:16] for i in range(N_HASHES))
    pairs = np.frombuffer(raw, dtype=">u8").astype(np.uint64).reshape(N_HASHES, 2)
    return pairs[:, 0] | np.uint64(1), pairs[:, 1]


def _hash(shingle: str, key: bytes, cache: dict[str, int]) -> int:
    value = cache.get(shingle)
    if value is None:
        digest = hashlib.blake2b(shingle.encode("utf-8", "surrogatepass"), key=key[:64], digest_size=8).digest()
        value = cache[shingle] = int.from_bytes(digest, "big")
    return value
