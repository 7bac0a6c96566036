"""The statistics of contrasts, against what they mean worked out the long way round."""

import math
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemill.mining.patterns import contrast, sequences, signals

EPISODES = st.lists(
    st.tuples(st.integers(0, 3), st.booleans(), st.booleans(), st.integers(0, 5)), min_size=2, max_size=40
)
"""Stratum, has the pattern, failed, session."""


def by_hand(rows: list[tuple[int, bool, bool, float]]) -> tuple[float, float, float]:
    """z, failures with and failures without, from weighted tables of two by two."""
    excess = variance = 0.0
    having = failing = expected_without = 0.0
    for stratum in sorted({row[0] for row in rows}):
        table = {
            (has, failed): sum(w for s, h, f, w in rows if s == stratum and h == has and f == failed)
            for has in (True, False)
            for failed in (True, False)
        }
        a, b, c, d = table[True, True], table[True, False], table[False, True], table[False, False]
        n = a + b + c + d
        if n >= 2 - 1e-9 and a + c > 1e-9 and b + d > 1e-9:
            excess += a - (a + b) * (a + c) / n
            variance += (a + b) * (c + d) * (a + c) * (b + d) / (n * n * (n - 1))
        if a + b > 1e-9 and c + d > 1e-9:
            having += a + b
            failing += a
            expected_without += (a + b) * c / (c + d)
    corrected = math.copysign(max(abs(excess) - 0.5, 0.0), excess)
    z = corrected / math.sqrt(variance) if variance > 1e-18 else 0.0
    return z, failing / max(having, 1e-12), expected_without / max(having, 1e-12)


def unnamed(session: Any) -> contrast.Whose:
    n = len(session)
    nobody, agent = np.full(n, -1, dtype=np.int32), np.zeros(n, dtype=np.int32)
    return contrast.Whose.of(session, nobody, agent, np.ones(n))


@settings(deadline=None)
@given(EPISODES)
def test_a_pattern_is_tested_as_cochran_mantel_and_haenszel_do(episodes: list[tuple[int, bool, bool, int]]) -> None:
    stratum = np.array([row[0] for row in episodes], dtype=np.int32)
    failed = np.array([row[2] for row in episodes], dtype=np.float64)
    session = np.array([row[3] for row in episodes], dtype=np.int32)
    weight = unnamed(session).weights(np.ones(len(episodes), dtype=bool))
    members = np.flatnonzero([row[1] for row in episodes]).astype(np.int32)
    tested = contrast.test_patterns(
        np.array([0, len(members)]), members, stratum_ep=stratum, failed_ep=failed, weight_ep=weight
    )
    sizes = Counter(row[3] for row in episodes)
    z, with_, without = by_hand([(s, h, f, 1 / sizes[who]) for s, h, f, who in episodes])
    assert math.isclose(tested.z[0], z, abs_tol=1e-6)
    assert math.isclose(tested.failures_with[0], with_, abs_tol=1e-9)
    assert math.isclose(tested.failures_without[0], without, abs_tol=1e-9)
    assert math.isclose(tested.p[0], 0.5 * math.erfc(z / math.sqrt(2)), abs_tol=1e-9)


def test_sessions_count_once_however_many_episodes_they_have() -> None:
    session = np.array([0] * 50 + [1], dtype=np.int32)
    weight = unnamed(session).weights(np.ones(51, dtype=bool))
    assert math.isclose(weight[:50].sum(), 1.0)
    assert weight[50] == 1.0
    assert unnamed(session).weights(session == 1).tolist() == [0.0] * 50 + [1.0]


def test_a_user_weighs_no_more_than_the_middle_one_or_three_sessions() -> None:
    few = [1, 2, 4, 5, 6, 1000]  # sessions of six users of the first agent: the middle one has 4
    many = [40, 50, 60, 70, 80]
    owners = [(0, user, n) for user, n in enumerate(few)] + [(1, user, n) for user, n in enumerate(many)]
    owners += [(2, 0, 1000), (2, 1, 1), (3, -1, 1000)]  # two users have no middle, nobody has no cap
    agent, user = (np.repeat([one[at] for one in owners], [one[2] for one in owners]).astype(np.int32) for at in (0, 1))
    session = np.arange(len(user), dtype=np.int32)
    sure = np.where(agent == 3, 0.5, 1.0)
    weight = contrast.Whose.of(session, user, agent, sure).weights(np.ones(len(user), dtype=bool))

    def sums(one: int) -> list[float]:
        return [round(float(weight[(agent == one) & (user == who)].sum()), 6) for who in np.unique(user[agent == one])]

    assert sums(0) == [1, 2, 4, 4, 4, 4]
    assert sums(1) == [40, 50, 60, 60, 60]
    assert sums(2) == [1000, 1]
    assert sums(3) == [500]


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_q_values_and_adjusted_p_values_are_those_of_their_definitions(p: list[float]) -> None:
    m = len(p)
    harmonic = sum(1 / k for k in range(1, m + 1))
    q = contrast.benjamini_hochberg(np.array(p))
    for i in range(m):
        at_least = [m * other / sum(one <= other for one in p) for other in p if other >= p[i]]
        assert math.isclose(q[i], min(1.0, *at_least), rel_tol=1e-9, abs_tol=1e-12)
    by = contrast.benjamini_hochberg(np.array(p), dependent=True)
    assert np.allclose(by, np.minimum(1.0, [min(
        m * harmonic * other / sum(one <= other for one in p) for other in p if other >= mine) for mine in p]
    ))  # fmt: skip
    ordered = sorted(p)
    for mine, adjusted in zip(p, contrast.holm(p), strict=True):
        steps = [(m - rank) * value for rank, value in enumerate(ordered) if value <= mine]
        assert math.isclose(adjusted, min(1.0, max(steps)), rel_tol=1e-9, abs_tol=1e-12)


def test_lengths_are_exact_while_short_and_never_out_of_order() -> None:
    found = contrast.lengths(np.arange(2_000))
    assert found[:17].tolist() == list(range(17))
    assert (np.diff(found) >= 0).all()
    assert len(set(found[17:].tolist())) < 30


WAYS = st.lists(st.lists(st.integers(0, 4), max_size=9), min_size=1, max_size=12)


def flat(ways: list[list[int]]) -> tuple[sequences.Small, sequences.Small]:
    symbols = np.array([one for way in ways for one in way], dtype=np.int32)
    u = np.repeat(np.arange(len(ways)), [len(way) for way in ways]).astype(np.int32)
    return symbols, u


@settings(deadline=None)
@given(WAYS, st.sampled_from([(), (1,), (1, 1), (2,), (3,)]), st.integers(1, 3))
def test_grams_are_those_that_a_loop_finds(ways: list[list[int]], steps: tuple[int, ...], at_least: int) -> None:
    symbols, u = flat(ways)
    codes, who = sequences.grams(symbols, u, base=5, steps=steps)
    found = sequences.distinct(codes, who, n=len(ways), at_least=at_least)
    places = [sum(steps[:k]) for k in range(len(steps) + 1)]
    expected: dict[tuple[int, ...], set[int]] = {}
    for episode, way in enumerate(ways):
        for start in range(len(way) - places[-1]):
            expected.setdefault(tuple(way[start + place] for place in places), set()).add(episode)
    assert {
        tuple(sequences.digits(int(code), base=5, n=len(places))): set(found.u[low:high].tolist())
        for code, (low, high) in zip(found.codes, pairwise(found.starts), strict=True)
    } == {gram: members for gram, members in expected.items() if len(members) >= at_least}


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), max_size=30))
def test_keys_are_numbered_in_their_order(keys: list[int]) -> None:
    values, place = sequences.numbered(np.array(keys, dtype=np.int64))
    assert values.tolist() == sorted(set(keys))
    assert values[place].tolist() == keys


CALLS = st.lists(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), max_size=12), min_size=1, max_size=6)
"""Calls of episodes: what is called, and a detail of its arguments."""


@settings(max_examples=200, deadline=None)
@given(CALLS)
def test_loops_are_those_that_a_loop_finds(ways: list[list[tuple[int, int]]]) -> None:
    u = np.repeat(np.arange(len(ways)), [len(way) for way in ways]).astype(np.int32)
    near = np.array([1 + tool for way in ways for tool, _ in way], dtype=np.uint64)
    call = np.array([10 + 2 * tool + detail for way in ways for tool, detail in way], dtype=np.uint64)

    def episodes(has: object) -> set[int]:
        return {episode for episode, way in enumerate(ways) if has(way)}  # type: ignore[operator]

    def same(way: list[tuple[int, int]]) -> bool:
        return any(way[i] == way[i + 1] == way[i + 2] for i in range(len(way) - 2))

    def alternating(way: list[tuple[int, int]]) -> bool:
        return any(way[i : i + 2] == way[i + 2 : i + 4] and way[i] != way[i + 1] for i in range(len(way) - 3))

    def nearly(way: list[tuple[int, int]]) -> bool:
        return any(
            len({tool for tool, _ in way[i : i + 4]}) == 1 and all(a != b for a, b in pairwise(way[i : i + 4]))
            for i in range(len(way) - 3)
        )

    def lost(way: list[tuple[int, int]]) -> bool:
        return len(way) >= 6 and len(set(way)) * 2 <= len(way)

    assert set(u[signals.runs(u, call, 3)].tolist()) == episodes(same)
    assert set(u[signals.alternations(u, call)].tolist()) == episodes(alternating)
    assert set(u[signals.near_runs(u, call, near, 4)].tolist()) == episodes(nearly)
    assert set(signals.thrashing(u, call, n=len(ways)).tolist()) == episodes(lost)
    assert set(u[signals.repeats(u, call, 3)].tolist()) == episodes(
        lambda way: max(Counter(way).values(), default=0) >= 3
    )
