"""Contrast: does what has a pattern fail more often than what is like it? Tested in strata, false findings controlled.

Episodes are compared with episodes of the same task cluster and the same length only (Cochran, Mantel, Haenszel), so
that a longer way is not worse for its length. A session weighs 1 in all, however many episodes it has; that its
episodes tend to end alike then makes the test stricter, never laxer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tracemill.mining.patterns.journeys import Bools, Floats, Ints, Small
from tracemill.mining.patterns.sequences import numbered


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """One value per pattern."""

    z: Floats
    """Signed root of the Mantel-Haenszel statistic with continuity correction; above 0: fails more often."""
    p: Floats
    """One-sided: as much more failure by chance alone."""
    n_with: Floats
    n_without: Floats
    """Weight of comparable episodes without it."""
    failures_with: Floats
    failures_without: Floats
    """What those with it would fail at the rates of comparable ones without it."""
    testable: Bools
    """Some comparable episodes have it and some not, and some of them failed and some not."""

    @property
    def lift(self) -> Floats:
        """How many times as often; half a failure is added to both, so that rare ones do not divide by nothing."""
        with_, without = self.failures_with * self.n_with, self.failures_without * self.n_with
        lift: Floats = (with_ + 0.5) / (without + 0.5)
        return lift


def mantel_haenszel(n_with: Floats, failed_with: Floats, n: Floats, failed: Floats) -> Tested:
    """Tests patterns (rows) in strata (columns): weights of those that have it, of all, and of failures among them."""
    from scipy.special import ndtr

    many = np.maximum(n, 1e-12)
    usable = (n >= 2 - 1e-9) & (failed > 1e-9) & (n - failed > 1e-9)  # weights are sums of shares
    without = n - n_with
    expected = np.where(usable, n_with * failed / many, 0.0)
    variance = np.where(usable, n_with * without * failed * (n - failed) / (many**2 * np.maximum(n - 1, 1)), 0.0)
    excess = np.where(usable, failed_with, 0.0).sum(axis=1) - expected.sum(axis=1)
    spread = np.sqrt(np.maximum(variance.sum(axis=1), 0.0))
    corrected = np.sign(excess) * np.maximum(np.abs(excess) - 0.5, 0.0)
    testable = spread > 1e-9
    z = np.divide(corrected, spread, out=np.zeros_like(spread), where=testable)
    # Rates are compared where both kinds are; to have nothing to compare with is no contrast.
    both = (without > 1e-9) & (n_with > 1e-9)
    rate_without = np.divide(failed - failed_with, without, out=np.zeros_like(without), where=both)
    weight = np.where(both, n_with, 0.0).sum(axis=1)
    share = np.maximum(weight, 1e-12)
    return Tested(
        z=z,
        p=ndtr(-z),
        n_with=weight,
        n_without=np.where(both, without, 0.0).sum(axis=1),
        failures_with=np.where(both, failed_with, 0.0).sum(axis=1) / share,
        failures_without=np.clip((np.where(both, n_with, 0.0) * rate_without).sum(axis=1) / share, 0.0, 1.0),
        testable=testable,
    )


def benjamini_hochberg(p: Floats, *, dependent: bool = False) -> Floats:
    """q-values: the share of false ones among those at least as sure. `dependent`: whatever hangs together (Yekutieli).

    Benjamini and Hochberg 1995; Benjamini and Yekutieli 2001.
    """
    m = len(p)
    if not m:
        return p.astype(np.float64)
    order = np.argsort(p, kind="stable")
    factor = float(np.sum(1 / np.arange(1, m + 1))) if dependent else 1.0
    q = p[order] * m * factor / np.arange(1, m + 1)
    q = np.minimum(np.minimum.accumulate(q[::-1])[::-1], 1.0)
    found = np.empty(m)
    found[order] = q
    return found


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p-values: the chance that any of those called significant is false is at most the level. Holm 1979."""
    order = sorted(range(len(p)), key=lambda i: (p[i], i))
    found, highest = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - rank) * p[i]))
        found[i] = highest
    return found


def lengths(length_ep: Small) -> Small:
    """Stratum of an episode's length: exact up to 16 moves, a quarter wide beyond."""
    beyond = 17 + np.floor(np.log(np.maximum(length_ep, 16) / 16) / np.log(1.25)).astype(np.int32)
    bucket: Small = np.where(length_ep <= 16, length_ep, beyond)
    return bucket


def strata(task_ep: Small, length_ep: Small) -> Small:
    """Number of each episode's stratum: task cluster and length."""
    key = task_ep.astype(np.int64) * 1_000 + lengths(length_ep)
    number: Small = np.unique(key, return_inverse=True)[1].astype(np.int32)
    return number


_USER = 3.0
"""Sessions of a user that count in full whatever others have."""
_USERS = 5
"""Of fewer users of an agent nobody is the middle one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Whose:
    """Whose session an episode is of, and which user of which agent had it."""

    session_ep: Small
    owner_ep: Small
    """Number of the episode's user among those of all agents; -1 where the log names none."""
    agent_ow: Small
    """Agent of each of these."""
    sure_ep: Floats

    @staticmethod
    def of(session_ep: Small, user_ep: Small, agent_ep: Small, sure_ep: Floats) -> "Whose":
        named = np.flatnonzero(user_ep >= 0)
        n_users = int(user_ep.max(initial=0)) + 1
        owners, place = numbered(agent_ep[named].astype(np.int64) * n_users + user_ep[named])
        owner_ep = np.full(len(user_ep), -1, dtype=np.int32)
        owner_ep[named] = place
        return Whose(
            session_ep=session_ep, owner_ep=owner_ep, agent_ow=(owners // n_users).astype(np.int32), sure_ep=sure_ep
        )

    def weights(self, counted_ep: Bools) -> Floats:
        """1 shared among the counted episodes of each session, 0 for the others; less where a user has more sessions
        than the middle one of the agent, and more than three, and where nobody's word that counts says how it ended.
        Who is not named is not capped.
        """
        sizes = np.bincount(self.session_ep[counted_ep], minlength=int(self.session_ep.max(initial=0)) + 1)
        weight = np.where(counted_ep, 1.0 / np.maximum(sizes[self.session_ep], 1), 0.0)
        named = np.flatnonzero(counted_ep & (self.owner_ep >= 0))
        if not len(named):
            return weight * self.sure_ep
        owner = self.owner_ep[named]
        sessions = np.bincount(owner, weights=weight[named], minlength=len(self.agent_ow))
        there = np.flatnonzero(sessions)
        there = there[np.lexsort((sessions[there], self.agent_ow[there]))]
        agents, starts, counts = np.unique(self.agent_ow[there], return_index=True, return_counts=True)
        middle = np.where(counts >= _USERS, sessions[there[starts + (counts - 1) // 2]], np.inf)
        most = np.full(int(self.agent_ow.max()) + 1, np.inf)
        most[agents] = np.maximum(_USER, middle)
        share = np.minimum(1.0, most[self.agent_ow] / np.maximum(sessions, 1e-12))
        weight[named] *= share[owner]
        return weight * self.sure_ep


_CELLS = 4_000_000


def test_patterns(starts: Ints, u: Small, *, stratum_ep: Small, failed_ep: Floats, weight_ep: Floats) -> Tested:
    """Tests each pattern i on the weighted episodes; `u[starts[i]:starts[i + 1]]` have it."""
    n_strata = int(stratum_ep.max(initial=-1)) + 1
    n = _sums(stratum_ep, weight_ep, n_strata)
    failed = _sums(stratum_ep, weight_ep * failed_ep, n_strata)
    step = max(1, _CELLS // max(1, n_strata))
    parts: list[Tested] = []
    for first in range(0, len(starts) - 1, step):
        last = min(first + step, len(starts) - 1)
        inside = u[starts[first] : starts[last]]
        item = np.repeat(np.arange(last - first), np.diff(starts[first : last + 1]))
        key = item * n_strata + stratum_ep[inside]
        size, shape = (last - first) * n_strata, (last - first, n_strata)
        weight = weight_ep[inside]
        having = _sums(key, weight, size).reshape(shape)
        failing = _sums(key, weight * failed_ep[inside], size).reshape(shape)
        parts.append(mantel_haenszel(having, failing, n, failed))
    if not parts:
        none = np.zeros((0, n_strata))
        return mantel_haenszel(none, none, n, failed)
    return Tested(
        z=np.concatenate([part.z for part in parts]),
        p=np.concatenate([part.p for part in parts]),
        n_with=np.concatenate([part.n_with for part in parts]),
        n_without=np.concatenate([part.n_without for part in parts]),
        failures_with=np.concatenate([part.failures_with for part in parts]),
        failures_without=np.concatenate([part.failures_without for part in parts]),
        testable=np.concatenate([part.testable for part in parts]),
    )


def _sums(place: Ints | Small, weight: Floats, n: int) -> Floats:
    sums: Floats = np.bincount(place, weights=weight, minlength=n).astype(np.float64, copy=False)
    return sums
