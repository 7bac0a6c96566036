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
_QUOTE = re.compile(r"[\"“”«»'‘]")
_HAS_DIGIT = re.compile(r"(?<!\S)[^\s\d]*+\d\S*")  # from a word's beginning only: linear in the longest of words
# What it follows is looked at behind its first letter, because patterns that begin with a letter are found faster.
_NAME = re.compile(r"[A-Z](?<=[\w,;)\"'] [A-Z])[\w’'&-]*(?: (?:of |de |van )?[A-Z][\w’'&-]*)*")
_MASK = "0"

Signatures = npt.NDArray[np.uint32]
Halves = npt.NDArray[np.uint16]
"""Lower halves of signatures, which is what is compared: half the memory, and two that differ look alike in one of 256
places once in 256 pairs."""
Bands = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]
_TABLE_BITS = 22  # a batch's hundred thousand bands fill a fortieth of it, and it stays in the processor's cache


def normalise(text: str) -> str:
    """The text without what fills its slots: numbers, pseudonyms, quoted strings and names are one mask each.

    Names are capitalised words inside a sentence; a text that is mostly capitalised keeps them, as there they say
    nothing. Lower case, punctuation dropped (but ? and !), runs of masks and of blanks folded.
    """
    masked = PSEUDONYM.sub(_MASK, text) if "[" in text else text
    if _QUOTE.search(masked):
        masked = _QUOTED.sub(f" {_MASK} ", masked)
    if _NAME.search(masked):
        firsts = [word[0] for word in masked.split()]
        if 2 * sum(map(str.isupper, firsts)) < sum(map(str.isalpha, firsts)):
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


def halves(rows: Signatures) -> Halves:
    return rows.astype(np.uint16)  # numpy keeps the lower bits


def neighbours(known: Halves, fresh: Halves) -> Iterator[tuple[int, Places, npt.NDArray[np.float64]]]:
    """For each of `fresh`: its number, earlier rows that may be alike, and their estimated Jaccard.

    Rows are numbered through both, the known ones first. Not all that are alike: a bucket shows its first rows only, so
    that many repeats of one text stay cheap.
    """
    first_new = len(known)
    bucket_of = np.full((len(fresh), len(BANDS)), -1, dtype=np.int64)
    buckets: list[list[int]] = []
    for column in range(len(BANDS)):
        keys = np.concatenate([_band(known, column), _band(fresh, column)])
        _, number, counts = np.unique(keys, return_inverse=True, return_counts=True)
        met = (counts > 1) & (np.bincount(number[first_new:], minlength=len(counts)) > 0)
        place = np.where(met, np.cumsum(met) - 1, -1)
        own = place[number[first_new:]]
        bucket_of[:, column] = np.where(own >= 0, len(buckets) + own, -1)
        buckets += _firsts(place[number[:first_new]], int(met.sum()))
    for at, signature in enumerate(fresh):
        row = first_new + at
        mine = [buckets[place] for place in bucket_of[at].tolist() if place >= 0]
        seen = np.array(sorted({other for bucket in mine for other in bucket}), dtype=np.int64)
        old = np.searchsorted(seen, first_new)
        others = (known[seen[:old]], fresh[seen[old:] - first_new])
        yield row, seen, np.concatenate([np.mean(some == signature, axis=1) for some in others])
        for bucket in mine:
            _put(bucket, row)


def _firsts(bucket_of: Places, n: int) -> list[list[int]]:
    """The first rows of each of `n` buckets; -1 is none."""
    rows = np.flatnonzero(bucket_of >= 0)
    rows = rows[np.argsort(bucket_of[rows], kind="stable")]
    ends = np.cumsum(np.bincount(bucket_of[rows], minlength=n))
    return [rows[end - size : end][:SHOWN].tolist() for end, size in zip(ends, np.diff(ends, prepend=0), strict=True)]


def _put(bucket: list[int], row: int) -> None:
    if len(bucket) < SHOWN:
        bucket.append(row)


def _band(rows: Halves, column: int) -> Bands:
    """A number for the band of each row, equal where the band is."""
    start = BANDS[column]
    keys = rows[:, start].astype(np.uint64)
    for place in range(1, ROWS_PER_BAND):
        keys |= rows[:, start + place].astype(np.uint64) << np.uint64(16 * place)
    return keys


class BandFilter:
    """Tells rows that share a band with one of these: each look-up is one byte of a small table, nearly always."""

    def __init__(self, rows: Halves) -> None:
        self._keys = [np.unique(_band(rows, column)) for column in range(len(BANDS))]
        self._table = np.zeros(1 << _TABLE_BITS, dtype=np.bool_)
        for column, keys in enumerate(self._keys):
            self._table[_slots(keys, column)] = True

    def shared(self, rows: Halves) -> npt.NDArray[np.bool_]:
        """Shape (rows,)."""
        found = np.zeros(len(rows), dtype=np.bool_)
        for column, known in enumerate(self._keys):
            keys = _band(rows, column)
            at = np.flatnonzero(self._table[_slots(keys, column)] & ~found)
            place = np.minimum(np.searchsorted(known, keys[at]), len(known) - 1)
            found[at] = known[place] == keys[at]
        return found


def _slots(keys: Bands, column: int) -> Bands:
    mixed = (keys ^ np.uint64(column << 48)) * np.uint64(0x9E3779B97F4A7C15)
    return mixed >> np.uint64(64 - _TABLE_BITS)


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
