"""One task group before the ranker: listings in changing order until they agree, and what the rankings come to."""

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tracemill.ids import content_id
from tracemill.records import ChatRequest, Completion
from tracemill.rewards.llm.asking import REFUSED
from tracemill.rewards.llm.logged import Story, block
from tracemill.rewards.llm.plackett_luce import Worth, fit

if TYPE_CHECKING:
    from tracemill.rewards.llm.program import Program

_LABELS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
_LABEL = re.compile(r"\b[A-Z]\b")
_EDGE = 0.1
"""A label says nothing of how much better or worse could be: an anchor is good at 0.9, bad at 0.1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One attempt at the task."""

    story: Story
    label: float | None = None
    """What people or the environment say of it."""
    worth: float | None = None
    """How it was ranked before, on the scale of the group; None: it was not, or to no effect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listings:
    """How every group is asked about."""

    request: Callable[..., ChatRequest]
    program: "Program"
    permutations: int
    seed: int


@dataclass(slots=True)
class _Listing:
    """Some attempts of the group that are listed together, the anchor among them. Places are those in `attempts`."""

    attempts: list[int]
    data: list[Any]
    """What is shown of each, without what all begin with."""
    shared: dict[str, Any]
    asked: int = 0
    rankings: list[list[int]] = field(default_factory=list)
    """Best first, as attempts."""
    order: list[int] | None = None
    stable: bool = False


@dataclass(slots=True)
class Contest:
    """An Interview about one group: members[0] is its anchor. `rows` is what came out, one row per open member.

    Attempts whose logs are the same are one. Listings of at most `size` attempts share the anchor. Each is asked about
    in a drawn order and in its reverse; where these disagree in further pairs, until one changes nothing.
    """

    members: list[Member]
    listings: Listings
    size: int
    attempts: list[list[int]] = field(init=False)
    """Members by attempt; the anchor's attempt is the first."""
    lists: list[_Listing] = field(init=False)
    failed: str | None = None

    def __post_init__(self) -> None:
        same: dict[str, list[int]] = {}
        for at, member in enumerate(self.members):
            same.setdefault(block(member.story.data()), []).append(at)
        self.attempts = list(same.values())
        others = list(range(1, len(self.attempts)))
        step = self.size - 1
        self.lists = [self._listing([0, *others[at : at + step]]) for at in range(0, len(others), step)]

    def asks(self) -> list[ChatRequest]:
        if self.failed is not None:
            return []
        return [self._request(one, at) for one in self.lists for at in self._next(one)]

    def hear(self, answers: Sequence[Completion]) -> None:
        waiting = iter(answers)
        for one in self.lists:
            known = len(one.rankings)
            for at in self._next(one):
                answer = next(waiting)
                if answer.error is not None and not one.rankings:
                    self.failed = answer.error
                elif answer.error is None and (ranking := self._read(one, answer, at)) is not None:
                    one.rankings.append(ranking)
            one.asked += len(self._next(one))
            if len(one.rankings) > max(known, 1):
                order = self._ordered(one)
                agree = len(one.rankings) == 2 and one.rankings[0] == one.rankings[1]
                one.stable = agree or order == one.order
                one.order = order

    def rows(self) -> list[dict[str, Any]]:
        """target_id, value, confidence and evidence of the members that were not ranked before."""
        if self.failed is not None:
            told = {"abstains": self.failed[:200]}
            return [self._row(at, None, None, told) for at in self._open()] if REFUSED.match(self.failed) else []
        if len(self.attempts) < 2:
            return [self._row(at, None, None, {"abstains": "all attempts are the same"}) for at in self._open()]
        rankings = [ranking for one in self.lists for ranking in one.rankings]
        if not rankings:
            return [self._row(at, None, None, {"abstains": "no answer could be read"}) for at in self._open()]
        found = fit(len(self.attempts), rankings)
        shift = self._scale(found)
        place = {member: attempt for attempt, own in enumerate(self.attempts) for member in own}
        seen = {attempt for ranking in rankings for attempt in ranking}
        flips = self._flips()
        rows = []
        for at in self._open():
            own = place[at]
            if own not in seen:
                rows.append(self._row(at, None, None, {"abstains": "no answer could be read"}))
                continue
            worth = float(found.value[own]) + shift
            value = 1 / (1 + float(np.exp(-worth)))
            spread = value * (1 - value) * float(found.error[own])
            evidence: dict[str, Any] = {
                "worth": round(worth, 4),
                "error": round(float(found.error[own]), 4),
                "anchor": self.members[0].story.trajectory_id,
                "group": content_id(sorted(member.story.trajectory_id for member in self.members)),
                "n": len(self.members),
                "rankings": sum(own in ranking for ranking in rankings),
            }
            if own in flips:
                evidence["flipped"] = round(flips[own], 4)
            rows.append(self._row(at, round(value, 6), round(max(0.0, 1 - 2 * spread), 4), evidence))
        return rows

    def won(self, attempt: int) -> float | None:
        """Share of the rankings that an attempt stands first in; None where none could be read."""
        first = [ranking[0] == attempt for one in self.lists for ranking in one.rankings]
        return sum(first) / len(first) if first else None

    def _row(
        self, at: int, value: float | None, confidence: float | None, evidence: Mapping[str, Any]
    ) -> dict[str, Any]:
        name = self.members[at].story.trajectory_id
        return {"target_id": name, "value": value, "confidence": confidence, "evidence": dict(evidence)}

    def _open(self) -> list[int]:
        return [at for at, member in enumerate(self.members) if member.worth is None]

    def _scale(self, found: Worth) -> float:
        """What puts the anchor where it was ranked before, or where its label says; else the group's mean is 0.5."""
        anchor, now = self.members[0], float(found.value[0])
        if anchor.worth is not None:
            return anchor.worth - now
        if anchor.label is not None:
            known = min(max(anchor.label, _EDGE), 1 - _EDGE)
            return float(np.log(known / (1 - known))) - now
        return 0.0

    def _listing(self, attempts: list[int]) -> _Listing:
        own = [self.members[self.attempts[at][0]].story for at in attempts]
        steps = [[{key: value for key, value in step.items() if key != "step"} for step in one.steps] for one in own]
        n = 0
        while all(len(one) > n for one in steps) and all(one[n] == steps[0][n] for one in steps):
            n += 1
        shared: dict[str, Any] = {"instructions": own[0].instructions, "task": own[0].task, "steps": steps[0][:n]}
        shared = {key: value for key, value in shared.items() if value}
        data = [one[n:] for one in steps]
        tasks = [one.task for one in own]
        if any(task != tasks[0] for task in tasks):  # near-duplicates: each in its own words
            shared.pop("task", None)
            data = [[{"task": task}, *one] for task, one in zip(tasks, data, strict=True)]
        return _Listing(attempts=attempts, data=data, shared=shared)

    def _next(self, one: _Listing) -> range:
        if one.stable or one.asked >= self.listings.permutations:
            return range(0)
        return range(one.asked, min(one.asked + 2, self.listings.permutations))

    def _permuted(self, one: _Listing, at: int) -> list[int]:
        """Places in the listing, in the order in which they are shown when it is asked about for the nth time."""
        names = [self.members[self.attempts[attempt][0]].story.trajectory_id for attempt in one.attempts]
        order = list(range(len(names)))
        random.Random(content_id(self.listings.seed, names, at // 2)).shuffle(order)
        return order[::-1] if at % 2 else order

    def _request(self, one: _Listing, at: int) -> ChatRequest:
        listed = [
            {"label": _LABELS[label], "steps": one.data[place]} for label, place in enumerate(self._permuted(one, at))
        ]
        messages = self.listings.program.messages(attempts=block({"shared": one.shared, "attempts": listed}))
        about = [
            self.members[member].story.trajectory_id for attempt in one.attempts for member in self.attempts[attempt]
        ]
        return self.listings.request(messages, about, seed=self.listings.seed + at)

    def _read(self, one: _Listing, answer: Completion, at: int) -> list[int] | None:
        """The ranking as attempts; None where it does not name every label once."""
        read = self.listings.program.read(answer.text)
        named = [_LABEL.findall(label.upper())[-1:] for label in ([] if read is None else read["ranking"])]
        labels = [label for own in named for label in own]
        if sorted(labels) != sorted(_LABELS[: len(one.attempts)]):
            return None
        shown = self._permuted(one, at)
        return [one.attempts[shown[_LABELS.index(label)]] for label in labels]

    def _ordered(self, one: _Listing) -> list[int]:
        """The attempts by all rankings so far."""
        worth = fit(len(self.attempts), one.rankings).value
        return sorted(one.attempts, key=lambda attempt: (-worth[attempt], attempt))

    def _flips(self) -> dict[int, float]:
        """By attempt, the share of its pairs that came out otherwise when the listing was turned round."""
        found: dict[int, list[bool]] = {}
        for one in self.lists:
            if len(one.rankings) < 2:
                continue
            first, other = one.rankings[0], one.rankings[1]
            for a in one.attempts:
                for b in one.attempts:
                    if a != b:
                        turned = (first.index(a) < first.index(b)) != (other.index(a) < other.index(b))
                        found.setdefault(a, []).append(turned)
        return {attempt: sum(turned) / len(turned) for attempt, turned in found.items()}
