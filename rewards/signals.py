"""The signals reward model: what users did after an answer, without being asked what they thought of it."""

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
from tracemill.rewards.words import SPOKEN, patterns

WEIGHTS: Mapping[str, float] = {
    "retry": -1.5,
    "rephrase": -1.2,
    "correction": -1.6,
    "gave_up": -1.5,
    "escalation": -1.3,
    "handed_over": -0.6,
    "abandoned": -0.5,
    "rejected": -1.6,
    "accepted": 1.6,
    "acceptance": 1.2,
    "kept": 2.0,
}
"""What each signal adds to the log-odds of success; of `kept` what a text that was kept word for word adds."""
_ACCEPTING = (
    r"(^|[^a-z])(copy|copied|copies|accept|accepts|accepted|insert|inserted|apply|applied|kept|merged)([^a-z]|$)"
)
_REJECTING = (
    r"(^|[^a-z])(reject|rejects|rejected|discard|discarded|undo|undone|revert|reverted|dismiss|dismissed|regenerate"
    r"|regenerated|not[ _-]?accepted|unaccepted)([^a-z]|$)"
)
_MACHINES = (
    r"^\W*(observation|tool[ _](output|result|response)|function[ _](output|result|response)|system[ _-]reminder)"
)
"""How what a program says in the user's place begins."""
_HANDING_OVER = (
    r"(transfer|hand[ _-]?(off|over)|escalat|forward).*(human|agent|person|support|staff)|escalat|human[ _-]?handoff"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals(Unfitted):
    """A weak label of every trajectory of which a signal speaks; no row where none does, NULL where it speaks no more.

    Signals of the user's next turn, in the trajectory or in the session's next one within `patience_s`: retry (the same
    words), rephrase (alike by their words to at least `alike`), correction, gave_up, escalation and acceptance (phrases
    of `words.toml` in `languages`, all where none is named, and of `words`). Of the log: handed_over (a tool that hands
    over to people), accepted and rejected (events such as `answer.copied`), abandoned (nobody came back within
    `settled_s` to a question or a failure, and the log goes on), kept (how much of the answer stands in the text that
    the user kept: the label of a score named in `kept_names`).

    The value is the logistic of the sum of `weights`, each signal once. The confidence is at most 0.6 and falls with
    the number of the user's judged episodes, as in feedback (`user_cap`). A signal that comes in more than
    half of an agent's episodes, each user counted once, is left out there. Evidence names each signal, its message or
    span, what was found and where.
    """

    name: str = "signals"
    alike: float = 0.6
    patience_s: float = 1800.0
    settled_s: float = 3600.0
    languages: Sequence[str] = ()
    words: Mapping[str, Sequence[str]] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    kept_names: Sequence[str] = ("kept", "kept_text", "final_text", "accepted_text")
    user_cap: float = 3.0

    def __post_init__(self) -> None:
        if unknown := sorted(self.weights.keys() - WEIGHTS.keys()):
            raise ConfigError(f"reward {self.name!r}: weights of {', '.join(unknown)}; known: {', '.join(WEIGHTS)}")
        if not 0 < self.alike <= 1 or min(self.patience_s, self.settled_s, self.user_cap) < 0:
            raise ConfigError(f"reward {self.name!r}: alike is above 0 and at most 1, the others are not below 0")
        try:
            patterns(self.languages, self.words)
        except ConfigError as error:
            raise ConfigError(f"reward {self.name!r}: {error}") from error

    @property
    def version(self) -> str:
        times = [float(self.alike), float(self.patience_s), float(self.settled_s), float(self.user_cap)]
        said = patterns(self.languages, self.words)
        rules = [_ACCEPTING, _REJECTING, _MACHINES, _HANDING_OVER]
        weights = {**WEIGHTS, **self.weights}
        return content_id(code(__name__), self.name, times, said, weights, list(self.kept_names), rules)

    @property
    def level(self) -> Literal["trajectory"]:
        return "trajectory"

    @property
    def family(self) -> str:
        return "signals"

    def score(self, con: duckdb.DuckDBPyConnection, *, now_ns: int) -> pa.Table:
        weights = {**WEIGHTS, **self.weights}
        said = patterns(self.languages, self.words)
        params = {
            "name": self.name,
            "version": self.version,
            "alike": float(self.alike),
            "patience_s": float(self.patience_s),
            "settled_s": float(self.settled_s),
            "user_cap": float(self.user_cap),
            "kept_names": [*(name.lower() for name in self.kept_names), ""],
            "kept_weight": float(weights["kept"]),
            "signals": list(weights),
            "weights": [float(weight) for weight in weights.values()],
            "accepting": _ACCEPTING,
            "rejecting": _REJECTING,
            "machines": _MACHINES,
            "handing_over": _HANDING_OVER,
            **{signal: said[signal] for signal in SPOKEN},
        }
        rows = query(con, "signals", params)
        return scores(rows, name=self.name, version=self.version, now_ns=now_ns, family=self.family)
