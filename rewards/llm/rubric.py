"""What a judge is asked: yes-or-no criteria, locked by a hash that is part of the judge's version."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from tracemill.errors import ConfigError
from tracemill.ids import content_id

SOURCES = ("task", "user", "said", "answered")
"""Where a quote may stand: what was asked first, what users said later, what the agent said, what tools answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """One question whose yes is good."""

    name: str
    question: str
    weight: float = 1.0
    quotes: tuple[str, ...] = SOURCES
    """Where its evidence may come from: what an agent claims of itself is no evidence for it."""


DEFAULT = (
    Criterion(
        name="goal",
        question="Did the agent achieve what the task asks for, as far as the log shows it?",
        weight=3.0,
    ),
    Criterion(
        name="complete",
        question="Does the last thing that the agent said or did cover everything that was asked for?",
    ),
    Criterion(
        name="grounded",
        question="Is everything that the agent says it found or did backed by the task, the user or a tool's answer?",
        quotes=("task", "user", "answered"),
    ),
    Criterion(
        name="recovered",
        question="Where a tool failed or the user objected, did the agent put it right?",
        quotes=("user", "answered"),
    ),
    Criterion(
        name="instructed",
        question="Did the agent keep to its instructions and to the limits that the task sets?",
    ),
)
SAME_ANSWER = Criterion(
    name="same_answer",
    question="Does the agent's final answer come to the same as `reference`, the answer found without seeing the log?",
    weight=3.0,
    quotes=("said",),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rubric:
    """Criteria in the order of the settings. A changed word is another rubric."""

    criteria: tuple[Criterion, ...]

    @classmethod
    def of(cls, given: Mapping[str, Any], *, answer_first: bool, reward: str) -> Self:
        """Name to question, or to a table of question, weight and quotes; the default where nothing is given.

        Raises ConfigError, which names the reward.
        """
        criteria = tuple(_criterion(name, told, reward) for name, told in given.items()) or DEFAULT
        if answer_first and all(one.name != SAME_ANSWER.name for one in criteria):
            criteria = (*criteria, SAME_ANSWER)
        return cls(criteria=criteria)

    @property
    def hash(self) -> str:
        return content_id("rubric/1", [[one.name, one.question, one.weight, list(one.quotes)] for one in self.criteria])

    @property
    def weight(self) -> float:
        return sum(one.weight for one in self.criteria)


def _criterion(name: str, told: Any, reward: str) -> Criterion:
    if isinstance(told, str):
        told = {"question": told}
    where = f"reward {reward!r}: criterion {name!r}"
    if not isinstance(told, Mapping) or not isinstance(told.get("question"), str) or not told["question"].strip():
        raise ConfigError(f'{where}: give a question whose yes is good, such as {name} = "Was the user helped?"')
    if wrong := sorted(set(told) - {"question", "weight", "quotes"}):
        raise ConfigError(f"{where}: unknown key {', '.join(wrong)}; known: question, weight, quotes")
    weight, quotes = told.get("weight", 1.0), tuple(told.get("quotes", SOURCES))
    if not isinstance(weight, int | float) or weight <= 0:
        raise ConfigError(f"{where}: weight is a number above 0")
    if not quotes or not set(quotes) <= set(SOURCES):
        raise ConfigError(f"{where}: quotes is a list of {', '.join(SOURCES)}")
    return Criterion(name=name, question=" ".join(told["question"].split()), weight=float(weight), quotes=quotes)
