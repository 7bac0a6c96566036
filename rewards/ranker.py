"""The ranker: a language model orders the attempts at one task, best first, in several listings until they agree.

The idea of RULER (relative, listwise, no labels), with what it lacks: drawn orders and their reverse, what all attempts
begin with shown once, an anchor that puts groups and nights on one scale, and standard errors.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

import duckdb
import pyarrow as pa

from tracemill.errors import BudgetError, ConfigError, EndpointError
from tracemill.ids import canonical_json, content_id
from tracemill.rewards.llm.asking import AsksModel, held
from tracemill.rewards.llm.logged import stories, told
from tracemill.rewards.llm.prompts import RANK
from tracemill.rewards.llm.ranking import Contest, Listings, Member
from tracemill.rewards.rows import query, scores
from tracemill.rewards.unfitted import Unfitted
from tracemill.schema import SCORES

PORTION = 48
_ROWS = pa.schema(
    [
        *(("target_id", pa.string()), ("value", pa.float64()), ("confidence", pa.float64())),
        *(("evidence", pa.string()), ("source", pa.string())),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranker(AsksModel, Unfitted):
    """How good an attempt is beside others at its task: Plackett-Luce over rankings of at most `size` attempts.

    A group's anchor stands in every listing: an attempt that was ranked before, else one with a label, else a drawn
    one. A new attempt is compared with the anchor, and nobody is ranked twice. Groups of one have no row. At most
    `max_groups` groups a run, and `max_members` new ones of each; a listing is shown in at most `permutations` orders.
    """

    name: str = "ranker"
    size: int = 6
    permutations: int = 6
    max_groups: int = 200
    max_members: int = 30
    max_chars: int = 500
    max_steps: int = 16
    max_log_chars: int = 6_000

    def __post_init__(self) -> None:
        AsksModel.__post_init__(self)
        if not 2 <= self.size <= 20 or min(self.permutations, self.max_groups, self.max_members) < 1:
            raise ConfigError(f"reward {self.name!r}: size is 2 to 20, permutations and all max_… are above 0")

    @property
    def version(self) -> str:
        return content_id(
            "ranker/1", RANK, self.name, self.model, dict(self.params), self.size, self.permutations, self.max_chars,
            self.max_steps, self.max_log_chars, self.seed,
        )  # fmt: skip

    @property
    def level(self) -> Literal["trajectory"]:
        return "trajectory"

    def score(self, con: duckdb.DuckDBPyConnection, *, now_ns: int) -> pa.Table:
        return pa.concat_tables([SCORES.empty_table(), *self.portions(con, now_ns=now_ns)])

    def portions(self, con: duckdb.DuckDBPyConnection, *, now_ns: int) -> Iterator[pa.Table]:
        """Rows as they are known. EndpointError or BudgetError comes after the rows of what was answered."""
        params = {"name": self.name, "version": self.version, "agent": self.agent, "salt": str(self.seed)}
        rows = query(con, "rank_targets", params).to_pylist()
        groups = [list(own) for _, own in groupby(rows, key=lambda row: row["task_group"])][: self.max_groups]
        if not groups:
            return
        for done in held(self._contests(con, groups), self.asked, at_once=PORTION, tell=self.tell, of="task groups"):
            found = [
                {**row, "evidence": canonical_json(row["evidence"]), "source": "llm"}
                for one in done
                for row in one.rows()
            ]
            if found:
                table = pa.Table.from_pylist(found, schema=_ROWS)
                yield scores(table, name=self.name, version=self.version, now_ns=now_ns, family=self.family)

    def compare_texts(self, pairs: Sequence[tuple[str, str]]) -> list[float | None]:
        """How often the second of two episodes told as text stands above the first, in both orders."""
        if self.chat is None:
            return [None] * len(pairs)
        contests = [
            Contest(
                members=[Member(story=told(text, max_chars=self.max_chars)) for text in pair],
                listings=self._listings(permutations=2),
                size=2,
            )
            for pair in pairs
        ]
        try:
            for _ in held(iter(contests), self.asked, at_once=PORTION, of="pairs"):
                pass
        except (EndpointError, BudgetError):
            return [None] * len(pairs)
        return [one.won(1) for one in contests]

    def _listings(self, *, permutations: int) -> Listings:
        self.need_dspy()
        from tracemill.rewards.llm import program

        return Listings(request=self.request, program=program.rank(), permutations=permutations, seed=self.seed)

    def _contests(self, con: duckdb.DuckDBPyConnection, groups: list[list[dict[str, Any]]]) -> Iterator[Contest]:
        how = self._listings(permutations=self.permutations)
        limits = {"max_chars": self.max_chars, "max_steps": self.max_steps, "max_log": self.max_log_chars}
        for group in groups:
            anchor = _anchor(group)
            new = [row for row in group if row["worth"] is None and row is not anchor][: self.max_members]
            chosen = [anchor, *new]
            read = stories(con, [row["trajectory_id"] for row in chosen], **limits)
            yield Contest(
                members=[
                    Member(
                        story=read[row["trajectory_id"]],
                        label=row["label"],
                        worth=row["worth"],
                    )
                    for row in chosen
                ],
                listings=how,
                size=self.size,
            )


def _anchor(group: list[dict[str, Any]]) -> dict[str, Any]:
    """Whom the new attempts are compared with: the anchor of before, one that was ranked, one with a label, any."""
    before = {row["anchor"] for row in group if row["anchor"]}
    return max(
        group,
        key=lambda row: (row["worth"] is not None and row["trajectory_id"] in before, row["worth"] is not None,
                         row["label"] is not None),
    )  # fmt: skip
