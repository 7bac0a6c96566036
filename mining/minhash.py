"""MinHash over words and word pairs: an estimate of how alike two short texts are that fits in a row of the lake."""

import hashlib
import re
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from tracemill.ids import PSEUDONYM

N_HASHES = 256
ROWS_PER_BAND = 3  # 85 bands: a pair of Jaccard 0.4 is missed once in 280, one of 0.1 looked at once in 12
BANDS = range(0, N_HASHES - ROWS_PER_BAND + 1, ROWS_PER_BAND)
"""Where each band of a signature begins."""
SHOWN = 24
"""So many rows of a band, the oldest, are compared with a new one."""
_WORD = re.compile(r"[^\W_]+|[?!]")
_QUOTED = re.compile(r"(?<!\w)([\"“”«»'‘])(?!\s)[^\"“”«»'‘’\n]{1,60}(?<!\s)([\"“”«»'’])(?!\w)")
_HAS_DIGIT = re.compile(r"(?<!\S)\S*\d\S*")  # from a word's beginning only: linear in the longest of words
_NAME = re.compile(r"(?<=[\w,;)\"'] )[A-Z][\w’'&-]*(?: (?:of |de |van )?[A-Z][\w’'&-]*)*")
_MASK = "0"

Signatures = npt.NDArray[np.uint32]
Places = npt.NDArray[np.int64]


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
        hashes = np.array([_hash(shingle, key, cache) for shingle in shingles(text)], dtype=np.uint64)
        if hashes.size:
            # multiply-shift: the upper half of a*h+b modulo 2**64 is close to a random permutation
            rows[i] = ((hashes[:, None] * multiply + add) >> np.uint64(32)).min(axis=0).astype(np.uint32)
    return rows


def neighbours(known: Signatures, fresh: Signatures) -> Iterator[tuple[int, Places, npt.NDArray[np.float64]]]:
    """For each of `fresh`: its number, earlier rows that may be alike, and their estimated Jaccard.

    Rows are numbered through both, the known ones first. Not all that are alike: a bucket shows its first rows only, so
    that many repeats of one text stay cheap.
    """
    first_new = len(known)
    bucket_of = np.full((len(fresh), len(BANDS)), -1, dtype=np.int64)
    buckets: list[list[int]] = []
    rows = list(range(first_new))  # one object a row, however many buckets show it
    for column, start in enumerate(BANDS):
        keys = np.concatenate([_band_keys(known, start), _band_keys(fresh, start)])
        _, number, counts = np.unique(keys, return_inverse=True, return_counts=True)
        met = (counts > 1) & (np.bincount(number[first_new:], minlength=len(counts)) > 0)
        place = np.where(met, len(buckets) + np.cumsum(met) - 1, -1)
        buckets.extend([] for _ in range(int(met.sum())))
        bucket_of[:, column] = place[number[first_new:]]
        for row in np.flatnonzero(place[number[:first_new]] >= 0).tolist():
            _put(buckets[place[number[row]]], rows[row])
    for at, signature in enumerate(fresh):
        row = first_new + at
        mine = [buckets[place] for place in bucket_of[at].tolist() if place >= 0]
        seen = np.array(sorted({other for bucket in mine for other in bucket}), dtype=np.int64)
        old = np.searchsorted(seen, first_new)
        others = (known[seen[:old]], fresh[seen[old:] - first_new])
        yield row, seen, np.concatenate([np.mean(some == signature, axis=1) for some in others])
        for bucket in mine:
            _put(bucket, row)


def _put(bucket: list[int], row: int) -> None:
    if len(bucket) < SHOWN:
        bucket.append(row)


def _band_keys(rows: Signatures, start: int) -> npt.NDArray[np.uint64]:
    """One number per row for a band; that two bands share one by chance only costs a comparison."""
    key = np.zeros(len(rows), dtype=np.uint64)
    for column in range(start, start + ROWS_PER_BAND):
        key = (key ^ rows[:, column].astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        key ^= key >> np.uint64(29)
    return key


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
