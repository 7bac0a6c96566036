"""The numeric verifier: the output's number is the right one, give or take."""

import math
import re
from dataclasses import dataclass

from tracemill.errors import ConfigError
from tracemill.ids import content_id
from tracemill.records import Case
from tracemill.rewards.code import code

_NUMBER = re.compile(r"(?<![\w.])[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:(?<=\d)\.\d*|\.\d+|(?<=\d))(?:[eE][-+]?\d+)?%?")
_PICKS = ("last", "first", "only")


@dataclass(frozen=True, slots=True, kw_only=True)
class Numeric:
    """1 where a number in the output is the right one within `abs_tol` or `rel_tol` of it, else 0.

    The right one is the case's expected output, or the task's `attribute`; None where that holds not exactly one
    number. `pick` says which number of an output counts: the last, the first, or its only one. `1,234.5` is one number,
    `12%` is 12, and an output without a number is wrong.
    """

    name: str = "numeric"
    attribute: str | None = None
    abs_tol: float = 1e-9
    rel_tol: float = 1e-6
    pick: str = "last"

    def __post_init__(self) -> None:
        if self.pick not in _PICKS:
            raise ConfigError(f"reward {self.name!r}: unknown pick {self.pick!r}; known: {', '.join(_PICKS)}")
        if min(self.abs_tol, self.rel_tol) < 0:
            raise ConfigError(f"reward {self.name!r}: a tolerance is below 0")

    @property
    def version(self) -> str:
        return content_id(code(__name__), self.name, self.attribute, self.abs_tol, self.rel_tol, self.pick)

    def verify(self, case: Case, output: str) -> float | None:
        expected = case.expected
        if expected is None and self.attribute is not None and case.task.get(self.attribute) is not None:
            expected = str(case.task[self.attribute])
        right = [] if expected is None else numbers(expected)
        if len(right) != 1:
            return None
        found = numbers(output)
        if not found or (self.pick == "only" and len(found) > 1):
            return 0.0
        said = found[0] if self.pick == "first" else found[-1]
        # Relative to the right one alone: a wrong answer must not widen what is allowed.
        return float(abs(said - right[0]) <= max(self.abs_tol, self.rel_tol * abs(right[0])))


def numbers(text: str) -> list[float]:
    """The finite numbers of a text, in its order."""
    found = (float(hit.rstrip("%").replace(",", "").replace("−", "-")) for hit in _NUMBER.findall(text) if hit)
    return [number for number in found if math.isfinite(number)]
