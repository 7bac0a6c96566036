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
_CELLS = 16_000_000
_PAIRS = 4_096
"""So many pairs are marked, and compared, at once."""
_WORD = re.compile(r"[^\W_]+|[?!]")
_PLAIN = bytes(i if chr(i).isalnum() or chr(i) in "?!" else ord(" ") for i in range(128)) + bytes(128)
_QUOTED = re.compile(r"(?<!\w)([\"“”«»'‘])(?!\s)[^\"“”«»'‘’\n]{1,60}(?<!\s)([\"“”«»'’])(?!\w)")
_QUOTE = re.compile(r"[\"“”«»'‘]")
_HAS_DIGIT = re.compile(r"(?<!\S)[^\s\d]*+\d\S*")  # from a word's beginning only: linear in the longest of words
# What it follows is looked at behind its first letter, because patterns that begin with a letter are found faster.
_NAME = re.compile(r"[A-Z](?<=[\w,;)\"'] [A-Z])[\w’'&-]*(?: (?:of |de |van )?[A-Z][\w’'&-]*)*")
MASK = "0"

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
    found = masked_words(text)
    kept = [word for i, word in enumerate(found) if word != MASK or i == 0 or found[i - 1] != MASK]
    return " ".join(kept)


def masked_words(text: str) -> list[str]:
    """The words of the normalised text, with every mask."""
    masked = PSEUDONYM.sub(MASK, text) if "[" in text else text
    if _QUOTE.search(masked):
        masked = _QUOTED.sub(f" {MASK} ", masked)
    if _NAME.search(masked):
        firsts = [word[0] for word in masked.split()]
        if 2 * sum(map(str.isupper, firsts)) < sum(map(str.isalpha, firsts)):
            masked = _NAME.sub(lambda hit: hit.group() if hit.group() in ("I", "I'm", "I’m") else MASK, masked)
    plain = _HAS_DIGIT.sub(f" {MASK} ", masked).lower()
    if plain.isascii():  # the same words, several times as fast
        return plain.encode().translate(_PLAIN).decode().replace("?", " ? ").replace("!", " ! ").split()
    words: list[str] = _WORD.findall(plain)
    return words


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


def neighbours(
    known: Halves, fresh: Halves, *, at_least: float = 0.0
) -> Iterator[tuple[int, Places, npt.NDArray[np.float64]]]:
    """For each of `fresh`: its number, earlier rows that may be alike, and their estimated Jaccard of `at_least`.

    Rows are numbered through both, the known ones first. Not all that are alike: a bucket shows its first rows only, so
    that many repeats of one text stay cheap.
    """
    first_new, many = len(known), len(known) + len(fresh)
    shown, begins, counts = _buckets(known, fresh)
    step = max(1, _CELLS // max(1, many))
    for first in range(0, len(fresh), step):
        begin, count = begins[first : first + step].ravel(), counts[first : first + step].ravel()
        place = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count - begin, count)
        met = np.zeros((len(count) // len(BANDS), many), dtype=np.bool_)
        met[np.repeat(np.arange(len(count)) // len(BANDS), count), shown[place]] = True
        who, other = np.nonzero(met)
        alike = np.empty(len(who))
        for at in range(0, len(who), _PAIRS):
            pair = slice(at, at + _PAIRS)
            old = other[pair] < first_new
            there = np.empty((len(old), fresh.shape[1]), dtype=fresh.dtype)
            there[old] = known[other[pair][old]]
            there[~old] = fresh[other[pair][~old] - first_new]
            alike[pair] = np.count_nonzero(there == fresh[first + who[pair]], axis=1) / fresh.shape[1]
        near = alike >= at_least
        who, other, alike = who[near], other[near], alike[near]
        ends = np.searchsorted(who, np.arange(len(met) + 1))
        for row, (begun, end) in enumerate(pairwise(ends.tolist())):
            yield first_new + first + row, other[begun:end], alike[begun:end]


def _buckets(known: Halves, fresh: Halves) -> tuple[Places, npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Rows that buckets show, and for each fresh row and band where those before it begin and how many they are."""
    first_new, many = len(known), len(known) + len(fresh)
    begins = np.zeros((len(fresh), len(BANDS)), dtype=np.int32)
    counts = np.zeros((len(fresh), len(BANDS)), dtype=np.int32)
    shown: list[Places] = []
    offset = 0
    for column in range(len(BANDS)):
        keys = np.concatenate([_band(known, column), _band(fresh, column)])
        order = np.argsort(keys, kind="stable")
        new = np.ones(many, dtype=np.bool_)
        new[1:] = keys[order][1:] != keys[order][:-1]
        starts = np.flatnonzero(new)
        sizes = np.diff(starts, append=many)
        bucket = np.cumsum(new) - 1
        rank = np.arange(many) - starts[bucket]
        # A bucket of one, or without a fresh row (the last of a bucket is its newest), shows nothing to anybody.
        met = (sizes > 1) & (order[starts + sizes - 1] >= first_new)
        kept = np.where(met, np.minimum(sizes, SHOWN), 0)
        shown.append(order[met[bucket] & (rank < SHOWN)])
        is_new = (order >= first_new) & met[bucket]
        at = order[is_new] - first_new
        begins[at, column] = (offset + np.cumsum(kept) - kept)[bucket[is_new]]
        counts[at, column] = np.minimum(rank[is_new], SHOWN)
        offset += int(kept.sum())
    return np.concatenate(shown), begins, counts


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
