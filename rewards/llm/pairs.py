"""Two answers to one call before a judge: asked in both orders, a tie where these disagree."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tracemill.records import Case, ChatRequest, Completion
from tracemill.rewards.llm.asking import AsksModel, held
from tracemill.rewards.llm.logged import block, replayed

if TYPE_CHECKING:
    from tracemill.rewards.llm.program import Program

PORTION = 64
_LABEL = re.compile(r"\b[AB]\b")


def won(model: AsksModel, pairs: Sequence[tuple[Case, str, str]]) -> list[float | None]:
    """Share of the comparisons that the first output of each pair wins over the second: 1, 0, or 0.5 for a tie.

    A tie is also what the two orders say differently, and equal outputs, about which nobody is asked. None where an
    answer could not be read, or was not given. Raises what asking raises.
    """
    model.need_dspy()
    from tracemill.rewards.llm import program

    duels = [_Duel(case=case, outputs=(one, other), model=model, program=program.rank()) for case, one, other in pairs]
    for _ in held(iter(duels), model.asked, at_once=PORTION, tell=model.tell):
        pass
    return [duel.share for duel in duels]


@dataclass(slots=True, kw_only=True)
class _Duel:
    """An Interview about one pair."""

    case: Case
    outputs: tuple[str, str]
    model: AsksModel
    program: "Program"
    wins: list[bool | None] = field(default_factory=list)
    """By order: whether the first output won; None where the answer could not be read."""

    def asks(self) -> list[ChatRequest]:
        if self.wins or self.outputs[0] == self.outputs[1]:
            return []
        return [self._request(turned) for turned in (False, True)]

    def hear(self, answers: Sequence[Completion]) -> None:
        self.wins = [self._read(answer, turned) for answer, turned in zip(answers, (False, True), strict=True)]

    @property
    def share(self) -> float | None:
        if self.outputs[0] == self.outputs[1]:
            return 0.5
        if not self.wins or None in self.wins:
            return None
        return sum(bool(one) for one in self.wins) / len(self.wins)

    def _request(self, turned: bool) -> ChatRequest:
        shown = [replayed(self.case, output, max_chars=self.model.max_chars) for output in self.outputs]
        shared = {"instructions": shown[0].instructions, "task": shown[0].task}
        attempts = [
            _attempt(label, one.steps) for label, one in zip("AB", shown[::-1] if turned else shown, strict=True)
        ]
        data: dict[str, Any] = {"shared": {k: v for k, v in shared.items() if v}, "attempts": attempts}
        messages = self.program.messages(attempts=block(data))
        return self.model.request(messages, [self.case.trajectory_id], seed=self.model.seed + turned)

    def _read(self, answer: Completion, turned: bool) -> bool | None:
        read = None if answer.error is not None else self.program.read(answer.text)
        named = [_LABEL.findall(str(label).upper())[-1:] for label in ([] if read is None else read["ranking"])]
        labels = [label for own in named for label in own]
        return None if sorted(labels) != ["A", "B"] else (labels[0] == "A") is not turned


def _attempt(label: str, steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"label": label, "steps": [{key: value for key, value in step.items() if key != "step"} for step in steps]}
