"""One episode before the judge: rounds of questions in changing order, verdicts with quotes, and what they come to."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tracemill.ids import content_id
from tracemill.records import ChatRequest, Completion
from tracemill.rewards.llm.asking import REFUSED
from tracemill.rewards.llm.logged import Fields, Story, block, fields, place
from tracemill.rewards.llm.rubric import Criterion, Rubric

if TYPE_CHECKING:
    from tracemill.rewards.llm.program import Program

_SHOWN = 200
_UNSURE = 0.9
"""A model that agrees with itself is not yet right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """What every episode is asked."""

    rubric: Rubric
    request: Callable[..., ChatRequest]
    asks: int
    seed: int
    orders: "tuple[Program, Program]"
    """Log before rubric, and the other way round."""
    answer: "Program | None"

    @classmethod
    def of(
        cls, rubric: Rubric, *, request: Callable[..., ChatRequest], asks: int, answer_first: bool, seed: int
    ) -> "Questions":
        """Needs dspy."""
        from tracemill.rewards.llm import program

        log_first, rubric_first = (program.judge(rubric_first=first, reference=answer_first) for first in (False, True))
        answer = program.answer() if answer_first else None
        return cls(
            rubric=rubric, request=request, asks=asks, seed=seed, orders=(log_first, rubric_first), answer=answer
        )

    def order(self, at: int, trajectory_id: str) -> list[Criterion]:
        """As given, reversed, then shuffled, each in another order for another episode."""
        criteria = list(self.rubric.criteria)
        if at == 1:
            criteria.reverse()
        elif at > 1:
            random.Random(content_id(self.seed, trajectory_id, at)).shuffle(criteria)
        return criteria


@dataclass(slots=True)
class Examination:
    """An Interview about one episode; `row` is what came out."""

    story: Story
    questions: Questions
    runs: list[dict[str, bool]] = field(default_factory=list)
    """By round: the verdicts that stand."""
    quotes: dict[str, dict[str, Any]] = field(default_factory=dict)
    struck: dict[str, str] = field(default_factory=dict)
    """Why a criterion abstained when it last did."""
    reference: str | None = None
    asked: int = 0
    unread: int = 0
    failed: str | None = None
    _block: str | None = None
    _fields: Fields = ()

    def asks(self) -> list[ChatRequest]:
        if self.failed is not None or not self.story.steps:
            return []
        if self.questions.answer is not None and self.reference is None:
            task = block({"instructions": self.story.instructions, "task": self.story.task})
            return [self._request(self.questions.answer.messages(log=task), 0)]
        if self.asked == 0:
            return [self._judge(at) for at in range(min(2, self.questions.asks))]
        if self.asked < self.questions.asks and any(self._open(one.name) for one in self.questions.rubric.criteria):
            return [self._judge(self.asked)]
        return []

    def hear(self, answers: Sequence[Completion]) -> None:
        broken = next((one.error for one in answers if one.error is not None), None)
        if broken is not None and (self.asked == 0 or REFUSED.match(broken)):
            self.failed = broken
            return
        if self.questions.answer is not None and self.reference is None:
            read = self.questions.answer.read(answers[0].text)
            self.reference = "unknown" if read is None else str(read["answer"])[:2_000]
            return
        for at, one in enumerate(answers, start=self.asked):
            if one.error is None:
                self._take(self.questions.orders[at % 2].read(one.text))
        self.asked += len(answers)

    def row(self) -> dict[str, Any] | None:
        """target_id, raw, confidence and evidence; None where it is to be asked again another time."""
        if not self.story.steps:
            return self._told(None, None, {"abstains": "no call of the agent itself"})
        if self.failed is not None:
            return self._told(None, None, {"abstains": self.failed[:_SHOWN]}) if REFUSED.match(self.failed) else None
        if not self.asked:
            return None
        criteria: dict[str, dict[str, Any]] = {}
        total, sure, judged = 0.0, 0.0, 0.0
        for one in self.questions.rubric.criteria:
            votes = self._votes(one.name)
            if not votes:
                criteria[one.name] = {"abstains": self.struck.get(one.name, "not answered")}
                continue
            share = sum(votes) / len(votes)
            criteria[one.name] = {"met": round(share, 4), **self.quotes.get(f"{one.name} {share >= 0.5}", {})}
            total, judged = total + one.weight * share, judged + one.weight
            sure += one.weight * abs(2 * share - 1)
        evidence: dict[str, Any] = {"asks": self.asked, "criteria": criteria}
        if self.unread:
            evidence["unread"] = self.unread
        if self.reference is not None:
            evidence["reference"] = self.reference[:_SHOWN]
        if len(self.runs) > 1 and self.runs[0] and self.runs[1]:
            first, other = self.runs[0], self.runs[1]
            evidence["flipped"] = (self._overall(first) >= 0.5) != (self._overall(other) >= 0.5)
            evidence["flips"] = sorted(name for name in first.keys() & other.keys() if first[name] != other[name])
        weight = self.questions.rubric.weight
        if judged * 2 < weight:
            evidence["abstains"] = "no answer could be read" if self.unread == self.asked else "too few criteria judged"
            return self._told(None, None, evidence)
        return self._told(round(total / judged, 6), round(_UNSURE * sure / weight, 4), evidence)

    def _told(self, raw: float | None, confidence: float | None, evidence: Mapping[str, Any]) -> dict[str, Any]:
        return {"target_id": self.story.trajectory_id, "raw": raw, "confidence": confidence, "evidence": dict(evidence)}

    def _request(self, messages: Sequence[Mapping[str, Any]], at: int) -> ChatRequest:
        return self.questions.request(messages, [self.story.trajectory_id], seed=self.questions.seed + at)

    def _judge(self, at: int) -> ChatRequest:
        if self._block is None:
            self._block = block(self.story.data())
        rubric = "\n".join(
            f"- {one.name}: {one.question}" for one in self.questions.order(at, self.story.trajectory_id)
        )
        more = {} if self.reference is None else {"reference": block(self.reference)}
        return self._request(self.questions.orders[at % 2].messages(log=self._block, rubric=rubric, **more), at)

    def _take(self, read: dict[str, Any] | None) -> None:
        run: dict[str, bool] = {}
        self.runs.append(run)
        if read is None:
            self.unread += 1
            return
        self._fields = self._fields or fields(self.story)
        criteria = {one.name: one for one in self.questions.rubric.criteria}
        for verdict in read["verdicts"]:
            one = criteria.get(verdict.criterion.strip())
            if one is None or one.name in run:
                continue
            if verdict.met is None:
                self.struck[one.name] = "the log does not tell"
                continue
            found = place(verdict.quote or "", self._fields, one.quotes)
            if found is None:
                self.struck[one.name] = "its quote does not stand there"
                continue
            run[one.name] = verdict.met
            quote: dict[str, Any] = {"quote": (verdict.quote or "")[:_SHOWN], "in": found.source}
            if found.step is not None:
                quote["step"] = found.step
            self.quotes.setdefault(f"{one.name} {verdict.met}", quote)

    def _votes(self, name: str) -> list[bool]:
        return [run[name] for run in self.runs if name in run]

    def _open(self, name: str) -> bool:
        """Whether another question may still decide it: its lead is below two, and it did not abstain twice at once."""
        votes = self._votes(name)
        return bool(votes) and abs(2 * sum(votes) - len(votes)) < 2

    def _overall(self, run: Mapping[str, bool]) -> float:
        weights = {one.name: one.weight for one in self.questions.rubric.criteria}
        return sum(weights[name] for name, met in run.items() if met) / sum(weights[name] for name in run)
