"""The budget of false promotions for a deployment's whole life: which test this is, and what level it may use.

Every pair of candidate and baseline that the gate looks at takes one place in one sequence, both branches and all
sites of a channel alike, and keeps it while its evidence is carried from night to night.
"""

from dataclasses import dataclass

import pyarrow as pa

from tracemill.records import Decision
from tracemill.stats import e_lond_level


@dataclass(frozen=True, slots=True, kw_only=True)
class Wealth:
    """What was tested so far, and how much of it was promoted."""

    tests: tuple[tuple[str, str], ...] = ()
    """(candidate, baseline) of every test that was given evidence, in order of its first night."""
    rejections: int = 0
    """Promotions: rejected hypotheses "not better than the baseline"."""

    @classmethod
    def from_verdicts(cls, verdicts: pa.Table, *, channel: str) -> "Wealth":
        """The budget after the past `verdicts` (rows of schema.VERDICTS, in any order) of one channel.

        Verdicts of one night should differ in `at`, in the order in which they were decided; where they do not,
        the larger level is taken for the earlier test, which is right unless the earlier one was promoted.
        """
        rows = verdicts.select(
            ["at", "alpha", "verdict_id", "candidate_id", "baseline_id", "channel", "verdict", "e_value"]
        )
        past = [row for row in rows.to_pylist() if row["channel"] == channel and row["e_value"] is not None]
        past.sort(key=lambda row: (row["at"] or 0, -(row["alpha"] or 0.0), row["verdict_id"] or ""))
        tests = tuple(dict.fromkeys((row["candidate_id"], row["baseline_id"]) for row in past))
        return cls(tests=tests, rejections=sum(row["verdict"] == "PROMOTE" for row in past))

    def level(self, alpha: float, candidate_id: str, baseline_id: str) -> float:
        """Level for this test: its own place where it was tested before, else the next; promote where e >= 1/level.

        Using tonight's count of promotions for a test begun earlier is valid: whenever it rejects, the final count
        is at least one more than that.
        """
        pair = (candidate_id, baseline_id)
        place = self.tests.index(pair) + 1 if pair in self.tests else len(self.tests) + 1
        return e_lond_level(alpha, place, self.rejections)

    def after(self, decision: Decision) -> "Wealth":
        """The budget that the next decision of the same night draws on."""
        if decision.e_value is None:
            return self
        pair = (decision.candidate_id, decision.baseline_id)
        return Wealth(
            tests=self.tests if pair in self.tests else (*self.tests, pair),
            rejections=self.rejections + (decision.verdict == "PROMOTE"),
        )
