"""Grams of sequences: which neighbouring codes an episode has, each counted once however often it occurs."""

from dataclasses import dataclass

import numpy as np

from tracemill.mining.patterns.journeys import Ints, Small


@dataclass(frozen=True, slots=True, kw_only=True)
class Having:
    """Which episodes have which codes: `u[starts[i]:starts[i + 1]]`, sorted, are those that have `codes[i]`."""

    codes: Ints
    starts: Ints
    u: Small


def distinct(codes: Ints, u: Small, *, n: int, at_least: int) -> Having:
    """Each pair of code and episode once; codes that fewer than `at_least` episodes have are left out.

    Codes times episodes must fit 62 bits; the callers' alphabets see to that.
    """
    bits = np.int64(max(1, n - 1).bit_length())
    pairs = (codes << bits) | u
    pairs.sort()  # np.unique hashes first, which takes several times as long
    pairs = pairs[np.diff(pairs, prepend=-1) != 0]
    code = pairs >> bits
    edges = np.flatnonzero(np.diff(code, prepend=-1))
    sizes = np.diff(edges, append=len(code))
    kept = sizes >= at_least
    mask = np.int64((1 << int(bits)) - 1)
    return Having(
        codes=code[edges[kept]],
        starts=np.concatenate([[0], np.cumsum(sizes[kept])]).astype(np.int64),
        u=(pairs[np.repeat(kept, sizes)] & mask).astype(np.int32),
    )


_TABLED = 50_000_000


def numbered(keys: Ints) -> tuple[Ints, Ints]:
    """The distinct keys in order, and each key's place among them. Keys are not negative."""
    top = int(keys.max(initial=-1)) + 1
    if top > _TABLED:
        return np.unique(keys, return_inverse=True)
    there = np.zeros(top, dtype=bool)
    there[keys] = True
    place = np.cumsum(there) - 1
    return np.flatnonzero(there), place[keys]


def grams(symbols: Small, u: Small, *, base: int, steps: tuple[int, ...]) -> tuple[Ints, Small]:
    """Codes of symbols that stand `steps` apart in one episode: (1,) pairs, (1, 1) triples, (3,) two with two between.

    A code is the symbols as digits to `base`, the first the highest.
    """
    reach = sum(steps)
    if len(symbols) <= reach:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int32)
    last = len(symbols) - reach
    inside = u[:last] == u[reach:]
    code, at = symbols[:last].astype(np.int64), 0
    for step in steps:
        at += step
        code = code * base + symbols[at : last + at]
    return code[inside], u[:last][inside]


def digits(code: int, *, base: int, n: int) -> list[int]:
    """The symbols of a gram."""
    found = []
    for _ in range(n):
        code, digit = divmod(code, base)
        found.append(digit)
    return found[::-1]
