"""The judge: a language model answers a locked rubric about an episode, and its quotes are looked up in the log."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import duckdb
import pyarrow as pa

from tracemill.errors import BudgetError, ConfigError, EndpointError
from tracemill.ids import canonical_json, content_id
from tracemill.records import Case
from tracemill.rewards.fitted import kept
from tracemill.rewards.llm.asking import AsksModel, held
from tracemill.rewards.llm.calibration import Calibration
from tracemill.rewards.llm.examination import Examination, Questions
from tracemill.rewards.llm.logged import Story, replayed, stories, told
from tracemill.rewards.llm.prompts import ANSWER, JUDGE
from tracemill.rewards.llm.rubric import Rubric
from tracemill.rewards.rows import query, scores
from tracemill.rewards.verifying import Judgement
from tracemill.schema import SCORES

PORTION = 64
_READ = 256
"""Episodes that are read at once, after a first portion that is not to be waited for long."""
_ROWS = pa.schema(
    [
        *(("target_id", pa.string()), ("value", pa.float64()), ("confidence", pa.float64())),
        *(("evidence", pa.string()), ("source", pa.string())),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge(AsksModel):
    """Share of the rubric that an episode meets, by weight; calibrated where at least `min_labels` people said.

    An episode is asked about twice, with rubric and log in another order and the criteria reversed, and then again, at
    most `asks` times, while a criterion's lead is below two. A criterion whose quote does not stand in what was shown
    is an abstention of it; NULL where more than half of the rubric abstains. With `answer_first` the model first
    answers the task without seeing what the agent did. At most `max_episodes` a run, those that people judged first.
    `fit` keeps a calibration until there are `growth` more labels; a new one asks nobody again.
    """

    name: str = "judge"
    criteria: Mapping[str, Any] = field(default_factory=dict)
    """Name to a question whose yes is good, or to a table of question, weight and quotes."""
    answer_first: bool = False
    asks: int = 4
    max_episodes: int = 500
    min_labels: int = 40
    growth: float = 0.25
    folds: int = 5
    state: str | None = None
    lineage: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        AsksModel.__post_init__(self)
        if min(self.asks, self.max_episodes, self.min_labels, self.folds - 1) < 1 or self.growth < 0:
            raise ConfigError(f"reward {self.name!r}: folds is 2 or more, growth not below 0, the others above 0")
        _ = self.rubric

    @property
    def rubric(self) -> Rubric:
        return Rubric.of(self.criteria, answer_first=self.answer_first, reward=self.name)

    @property
    def base(self) -> str:
        """What decides the answers: rubric, model and what is shown. Calibration comes on top."""
        return content_id(
            "judge/1", JUDGE, ANSWER, self.name, self.rubric.hash, self.model, dict(self.params), self.answer_first,
            self.asks, self.max_chars, self.max_steps, self.max_log_chars, self.seed,
        )  # fmt: skip

    @property
    def version(self) -> str:
        return content_id(self.base, self.state)

    @property
    def level(self) -> Literal["trajectory"]:
        return "trajectory"

    @property
    def n_train(self) -> int:
        return 0 if self.state is None else int(json.loads(self.state)["n_train"])

    def fit(self, con: duckdb.DuckDBPyConnection, *, now_ns: int) -> "Judge":
        labels = query(con, "judge_labels", {"name": self.name, "base": self.base}).to_pydict()
        before = kept(con, self.name, self._spec)
        last = None if before is None else replace(self, **before)
        good = sum(label >= 0.5 for label in labels["label"])
        few = len(labels["label"]) < self.min_labels or min(good, len(labels["label"]) - good) < 5
        if last is not None and (few or len(labels["label"]) < last.n_train * (1 + self.growth)):
            return last
        if few:
            return replace(self, state=None, lineage=())
        taught = Calibration.fit(
            labels["raw"], labels["label"], labels["owner"], weights=labels["weight"], folds=self.folds, salt=self.seed
        )
        state = {"spec": self._spec, "n_train": len(labels["label"]), **taught.to_json()}
        return replace(self, state=canonical_json(state), lineage=tuple(labels["trajectory_id"]))

    def score(self, con: duckdb.DuckDBPyConnection, *, now_ns: int) -> pa.Table:
        return pa.concat_tables([SCORES.empty_table(), *self.portions(con, now_ns=now_ns)])

    def portions(self, con: duckdb.DuckDBPyConnection, *, now_ns: int) -> Iterator[pa.Table]:
        """Rows as they are known. EndpointError or BudgetError comes after the rows of what was answered."""
        params = {"name": self.name, "base": self.base, "version": self.version, "agent": self.agent}
        targets = query(con, "judge_targets", {**params, "salt": str(self.seed)}).to_pylist()
        owner = {row["trajectory_id"]: row["owner"] for row in targets}
        known = [_again(row) for row in targets if row["before"] is not None]
        if known:
            yield self._rows(known, owner, now_ns)
        left = [row["trajectory_id"] for row in targets if row["before"] is None][: self.max_episodes]
        if not left:
            return
        for done in held(self._examinations(con, left), self.asked, at_once=PORTION, tell=self.tell):
            rows = [row for row in (one.row() for one in done) if row is not None]
            if rows:
                yield self._rows(rows, owner, now_ns)

    def judge_texts(self, texts: Sequence[str]) -> list[float | None]:
        """Raw scores of episodes told as text; None where it abstains, or could not be asked."""
        if self.chat is None:
            return [None] * len(texts)
        questions = self._questions()
        examinations = [Examination(told(text, max_chars=self.max_chars), questions) for text in texts]
        try:
            for _ in held(iter(examinations), self.asked, at_once=PORTION):
                pass
        except (EndpointError, BudgetError):
            return [None] * len(texts)
        rows = [one.row() for one in examinations]
        return [None if row is None else row["raw"] for row in rows]

    def judge_outputs(self, answered: Sequence[tuple[Case, str]]) -> list[Judgement]:
        """What it says of outputs of cases: its value as people's labels calibrate it, and a lower bound of that.

        The bound is the lowest of its curves, less the share of the questions that it answered both ways. Without a
        calibration it abstains: nobody knows what its scores are worth. Raises what asking raises.
        """
        if self.state is None:
            return [Judgement(value=None, low=None)] * len(answered)
        questions = self._questions()
        stories = [replayed(case, output, max_chars=self.max_chars) for case, output in answered]
        found = [Examination(one, questions) for one in stories]
        for _ in held(iter(found), self.asked, at_once=PORTION, tell=self.tell):
            pass
        curves = Calibration.from_json(json.loads(self.state))
        return [_bounded(one.row(), curves) for one in found]

    @property
    def _spec(self) -> str:
        return content_id("weighed", self.base, self.min_labels, self.growth, self.folds)

    def _questions(self) -> Questions:
        self.need_dspy()
        return Questions.of(
            self.rubric, request=self.request, asks=self.asks, answer_first=self.answer_first, seed=self.seed
        )

    def _examinations(self, con: duckdb.DuckDBPyConnection, names: Sequence[str]) -> Iterator[Examination]:
        questions = self._questions()
        limits = {"max_chars": self.max_chars, "max_steps": self.max_steps, "max_log": self.max_log_chars}
        for begin in (0, *range(PORTION, len(names), _READ)):
            own = names[begin : begin + (_READ if begin else PORTION)]
            read = stories(con, own, **limits)
            for name in own:
                yield Examination(read.get(name) or Story(trajectory_id=name, task=None, steps=()), questions)

    def _rows(self, found: Sequence[Mapping[str, Any]], owner: Mapping[str, str], now_ns: int) -> pa.Table:
        raw = [row["raw"] for row in found]
        value = list(raw)
        if self.state is not None:
            known = [at for at, one in enumerate(raw) if one is not None]
            curves = Calibration.from_json(json.loads(self.state))
            said = curves.apply([raw[at] for at in known], [owner[found[at]["target_id"]] for at in known])
            for at, one in zip(known, said, strict=True):
                value[at] = one
        rows = [
            {
                "target_id": row["target_id"],
                "value": value[at],
                "confidence": row["confidence"],
                "evidence": canonical_json({**row["evidence"], "base": self.base, "raw": row["raw"]}),
                "source": "llm",
            }
            for at, row in enumerate(found)
        ]
        table = pa.Table.from_pylist(rows, schema=_ROWS)
        return scores(table, name=self.name, version=self.version, now_ns=now_ns, family=self.family)


def _bounded(row: Mapping[str, Any] | None, curves: Calibration) -> Judgement:
    if row is None or row["raw"] is None:
        return Judgement(value=None, low=None)
    said = curves.said(row["raw"])
    doubt = (1 - (row["confidence"] or 0.0)) / 2  # as `combined_low` counts it
    return Judgement(value=sum(said) / len(said), low=max(0.0, min(said) - doubt))


def _again(row: Mapping[str, Any]) -> dict[str, Any]:
    evidence = json.loads(row["before"])
    return {
        "target_id": row["trajectory_id"],
        "raw": evidence.get("raw"),
        "confidence": row["confidence"],
        "evidence": evidence,
    }
