"""Signals: what an episode does that no good one needs to: loops, dead ends, thrash, claims that nothing shows.

Every signal is found in all episodes alike, whatever came of them; whether it goes with failure is tested like any
other pattern.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from tracemill.mining.patterns import words
from tracemill.mining.patterns.journeys import Bools, Hashes, Ints, Journeys, Small, asked, query

SIGNALS = (
    ("same_call", "loop"),
    ("alternating_calls", "loop"),
    ("same_error", "loop"),
    ("near_identical_calls", "loop"),
    ("dead_end", "dead_end"),
    ("thrash", "thrash"),
    ("cut_off", "exhaustion"),
    ("claimed_tests", "unsupported_claim"),
    ("claimed_success", "unsupported_claim"),
)
"""Names, with the kind of finding that each becomes."""
CODES = {name: code for code, (name, _) in enumerate(SIGNALS)}
TIMES = {"same_call": 3, "alternating_calls": 2, "same_error": 3, "near_identical_calls": 4}
_THRASH = 6


def signals(journeys: Journeys) -> Iterator[tuple[str, Small, Small]]:
    """Name of a signal, the episodes that have it, and for each the number of the tool it is about (-1: none)."""
    tools = np.flatnonzero(journeys.is_tool_st)
    u, tool = journeys.u_st[tools], journeys.tool_st[tools]
    call = journeys.call_st[tools]
    for name, at in (
        ("same_call", runs(u, call, TIMES["same_call"])),
        ("alternating_calls", alternations(u, call)),
        ("near_identical_calls", near_identical(journeys, u, tool, call)),
    ):
        yield name, u[at], tool[at]
    wrong = journeys.failed_st[tools]
    at = repeats(u[wrong], journeys.observation_hash_st[tools][wrong], TIMES["same_error"])
    yield "same_error", u[wrong][at], tool[wrong][at]
    last = np.diff(journeys.u_st, append=-1) != 0
    ends = np.flatnonzero(last & journeys.is_tool_st & journeys.failed_st)
    yield "dead_end", journeys.u_st[ends], journeys.tool_st[ends]
    lost = thrashing(u, call, n=journeys.n)
    yield "thrash", lost, np.full(len(lost), -1, dtype=np.int32)
    cut = np.unique(journeys.u_st[journeys.cut_st])
    yield "cut_off", cut, np.full(len(cut), -1, dtype=np.int32)
    claims = query(journeys.con, "claims", words.claims())
    claimed, kind = claims["u"].to_numpy().astype(np.int32), claims["claim"].to_numpy(zero_copy_only=False)
    for name, claim in (("claimed_tests", "tests"), ("claimed_success", "done")):
        found = claimed[kind == claim]
        yield name, found, np.full(len(found), -1, dtype=np.int32)


def _same(values: Small | Hashes, by: int) -> Bools:
    """Whether each value equals the one `by` places before."""
    found = np.zeros(len(values), dtype=bool)
    found[by:] = values[by:] == values[:-by] if len(values) > by else found[by:]
    return found


def runs(u: Small, call: Hashes, times: int) -> Ints:
    """Places where the same call of one episode comes for the `times`-th time in a row, or a later one."""
    found = np.ones(len(u), dtype=bool)
    for by in range(1, times):
        found &= _same(u, by) & _same(call, by)
    return np.flatnonzero(found)


def alternations(u: Small, call: Hashes) -> Ints:
    """Places where two different calls have alternated twice: A-B-A-B."""
    return np.flatnonzero(_same(u, 3) & _same(call, 2) & np.roll(_same(call, 2), 1) & ~_same(call, 1))


def near_runs(u: Small, call: Hashes, near: Hashes | Small, times: int) -> Ints:
    """Places where `times` calls in a row are nearly the same and each differs from the one before."""
    found = np.ones(len(u), dtype=bool)
    for by in range(1, times):
        found &= _same(u, by) & _same(near, by)
        found &= ~np.roll(_same(call, 1), by - 1)
    return np.flatnonzero(found)


def near_identical(journeys: Journeys, u: Small, tool: Small, call: Hashes) -> Ints:
    """Places among all tool calls where as many in a row are nearly the same as make a loop."""
    times = TIMES["near_identical_calls"]
    # Only what calls one tool so often in a row can be: of all others the arguments need not be read once more.
    wanted = np.unique(u[near_runs(u, call, tool, times)])
    if not len(wanted):
        return np.zeros(0, dtype=np.int64)
    inside = np.zeros(journeys.n, dtype=bool)
    inside[wanted] = True
    places = np.flatnonzero(inside[u])
    told = asked(journeys.con, "near_calls", "asked", pa.table({"u": pa.array(wanted, pa.int32())}))
    near = told["near"].to_numpy()
    return places[near_runs(u[places], call[places], near, times)]


def repeats(u: Small, what: Hashes, times: int) -> Ints:
    """A place of every episode and value that comes `times` times or more in it."""
    order = np.lexsort((what, u))
    new = np.ones(len(u), dtype=bool)
    new[1:] = (u[order][1:] != u[order][:-1]) | (what[order][1:] != what[order][:-1])
    starts = np.flatnonzero(new)
    sizes = np.diff(starts, append=len(u))
    return order[starts[sizes >= times]]


def without_repeats(journeys: Journeys) -> Small:
    """Moves of each episode, of equal tool calls one: what repeats itself is as long as what does not."""
    tools = np.flatnonzero(journeys.is_tool_st)
    u, call = journeys.u_st[tools], journeys.call_st[tools]
    own = (call ^ (u.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))) * np.uint64(0xBF58476D1CE4E5B9)
    order = np.argsort(own)  # a third of the time of sorting by two keys
    again = order[1:][own[order][1:] == own[order][:-1]]
    found: Small = journeys.length_ep - np.bincount(u[again], minlength=journeys.n).astype(np.int32)
    return found


def thrashing(u: Small, call: Hashes, *, n: int) -> Small:
    """Episodes with six tool calls or more of which at most half are different calls."""
    total = np.bincount(u, minlength=n)
    enough = total[u] >= _THRASH
    u, call = u[enough], call[enough]
    order = np.lexsort((call, u))
    new = np.ones(len(u), dtype=bool)
    new[1:] = (u[order][1:] != u[order][:-1]) | (call[order][1:] != call[order][:-1])
    different = np.bincount(u[order][new], minlength=n)
    return np.flatnonzero((total >= _THRASH) & (different * 2 <= total)).astype(np.int32)
