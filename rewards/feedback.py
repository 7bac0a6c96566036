"""The feedback reward model: what people and environments said, on one scale from 0 to 1."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import duckdb
import pyarrow as pa

from tracemill.errors import ConfigError
from tracemill.ids import content_id
from tracemill.rewards.code import code
from tracemill.rewards.rows import query, scores
from tracemill.rewards.unfitted import Unfitted

USER_NAMES = (
    *("user_score", "user_feedback", "user_rating", "user_vote", "user_satisfaction", "customer_feedback"),
    *("customer_rating", "customer_satisfaction", "end_user_feedback", "human_feedback", "thumb", "thumbs"),
    *("thumbs_up", "thumbs_down", "thumbs_up_down", "csat", "csat_score", "nps", "nps_score", "star_rating", "stars"),
)
"""What scores are called that programs post for their users; lower case, with _ between the words."""
GOOD = (
    *("up", "thumbs up", "thumb up", "👍", "+1", "like", "liked", "love", "good", "great", "excellent", "correct"),
    *("right", "pass", "passed", "yes", "true", "positive", "helpful", "accept", "accepted", "approve", "approved"),
    *("satisfied", "success", "successful", "resolved", "solved"),
)
BAD = (
    *("down", "thumbs down", "thumb down", "👎", "-1", "dislike", "disliked", "bad", "poor", "terrible", "incorrect"),
    *("wrong", "fail", "failed", "no", "false", "negative", "unhelpful", "not helpful", "reject", "rejected"),
    *("dissatisfied", "unsatisfied", "failure", "unsuccessful", "unresolved", "unsolved", "hallucination"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback(Unfitted):
    """Thumbs, ratings, labels and corrections of a trajectory, its session, spans and steps; environment rewards as is.

    Yields one row of source human or user and one of source env per trajectory, again whenever there is new evidence.
    A correction outranks ratings: 1 where a logged output says the same (case and blanks aside), else 0. `scales` gives
    the (worst, best) value by score name; without, values in [0, 1] stand, ±1 are thumbs, stars go from 1 to 5 and NPS
    from 0 to 10. A value on no known scale is an abstention. `user_names`: scores of programs that hand on what users
    said.

    What users say (source user; human are reviewers, who count in full) is weighed: the n votes of one user weigh
    together min(√n, `user_cap`) (0: no cap), which stands in the confidence and in the average of several users' votes;
    a user who is harsher or kinder than others is read relative to that habit, as far as the votes prove it (empirical
    Bayes over a user's other votes). The propensity of a user's row is how often episodes like it (agent, outcome,
    length) are rated, at least `min_propensity` (0: not estimated).
    """

    name: str = "feedback"
    scales: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    env_names: Sequence[str] = ("reward",)
    user_names: Sequence[str] = USER_NAMES
    user_cap: float = 3.0
    min_propensity: float = 0.1

    def __post_init__(self) -> None:
        if flat := sorted(name for name, (low, high) in self.scales.items() if low == high):
            raise ConfigError(f"reward {self.name!r}: the scale of {', '.join(flat)} has no two ends")
        if self.user_cap < 0 or not 0 <= self.min_propensity <= 1:
            raise ConfigError(f"reward {self.name!r}: user_cap is at least 0 and min_propensity between 0 and 1")

    @property
    def version(self) -> str:
        scales = {name: list(scale) for name, scale in self.scales.items()}
        weighing = [list(self.user_names), float(self.user_cap), float(self.min_propensity)]
        return content_id(code(__name__), self.name, scales, list(self.env_names), weighing, GOOD, BAD)

    @property
    def level(self) -> Literal["trajectory"]:
        return "trajectory"

    @property
    def family(self) -> str:
        """Of the rows of reviewers; those of users are of the family users, those of environments of env."""
        return "people"

    def score(self, con: duckdb.DuckDBPyConnection, *, now_ns: int) -> pa.Table:
        params = {
            "name": self.name,
            "version": self.version,
            "env_names": [*self.env_names, ""],  # never empty: an empty list has no type
            "user_names": [*self.user_names, ""],
            "scaled": [*self.scales, ""],
            "lows": [*(float(low) for low, _ in self.scales.values()), 0.0],
            "highs": [*(float(high) for _, high in self.scales.values()), 1.0],
            "good": list(GOOD),
            "bad": list(BAD),
            "user_cap": float(self.user_cap),
            "min_propensity": float(self.min_propensity),
        }
        return scores(
            query(con, "feedback", params), name=self.name, version=self.version, now_ns=now_ns, family=self.family
        )
