"""A verifier as a reward model: it judges the last output of each logged trajectory."""

import json
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import duckdb
import pyarrow as pa

from tracemill.chat import answer_text, to_openai
from tracemill.ids import canonical_json, content_id
from tracemill.protocols import Verifier
from tracemill.records import Case
from tracemill.rewards.code import code
from tracemill.rewards.rows import query, scores
from tracemill.rewards.unfitted import Unfitted


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a verifier says of an output, and how sure it is."""

    value: float | None
    low: float | None
    """Lower bound of the value: the value itself where there is no doubt."""
    error: str | None = None
    """Why there is no value, where something went wrong."""


@runtime_checkable
class Explaining(Protocol):
    """A verifier that also says how sure it is, and why it abstained."""

    def explain(self, case: Case, output: str) -> Judgement: ...


_JUDGED = pa.schema(
    [
        *(("target_id", pa.string()), ("value", pa.float64()), ("confidence", pa.float64())),
        ("evidence", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedLogs(Unfitted):
    """Scores of a verifier on logged outputs, again for a trajectory whose correction came later.

    Judged is a trajectory's last output whose text does not match `skip_output` (such as a bare "submit"). What the
    verifier abstains on becomes a row with NULL, so that it is not asked every night. `agent` restricts it to the
    agents of that name (`*`, `?` and `[…]` as in file names), `needs_truth` to trajectories with a correction or a
    declared task.
    """

    verifier: Verifier
    needs_truth: bool = True
    agent: str | None = None
    skip_output: str | None = None

    @property
    def name(self) -> str:
        return self.verifier.name

    @property
    def version(self) -> str:
        return content_id(code(__name__), self.verifier.version, self.agent, self.skip_output)

    @property
    def level(self) -> Literal["trajectory"]:
        return "trajectory"

    @property
    def family(self) -> str:
        return self.name

    def score(self, con: duckdb.DuckDBPyConnection, *, now_ns: int) -> pa.Table:
        params = {
            "name": self.name,
            "version": self.version,
            "agent": self.agent,
            "skip": self.skip_output,
            "needs_truth": self.needs_truth,
        }
        found = [self._judged(row) for row in query(con, "verifier_outputs", params).to_pylist()]
        table = pa.Table.from_pylist(found, schema=_JUDGED)
        return scores(table, name=self.name, version=self.version, now_ns=now_ns, family=self.family)

    def _judged(self, row: dict[str, Any]) -> dict[str, Any]:
        case, output = _case(row), _text(row)
        evidence = {"step": row["step"], "correction": row["correction_id"]}
        confidence: float | None = None
        if isinstance(self.verifier, Explaining):
            said = self.verifier.explain(case, output)
            value = said.value
            evidence |= {} if said.error is None else {"error": said.error}
            if value is not None and said.low is not None and said.low < value:
                confidence = max(0.0, 1 - 2 * (value - said.low))  # so that combined_low comes to that bound
        else:
            value = self.verifier.verify(case, output)
        judged = {"target_id": row["trajectory_id"], "value": value, "confidence": confidence}
        return {**judged, "evidence": canonical_json(evidence)}


def _text(row: dict[str, Any]) -> str:
    return answer_text([to_openai(m["role"], m["name"], json.loads(m["parts"] or "[]")) for m in row["messages"]])


def _case(row: dict[str, Any]) -> Case:
    # No reward in it: an output that was rewarded must not prove itself right.
    return Case(
        case_id=f"{row['trajectory_id']}/{row['step']}",
        trajectory_id=row["trajectory_id"],
        step=row["step"],
        site_id=row["site_id"] or "",
        task_key=row["task_key"],
        task_group=row["task_group"] or "",
        pool=row["pool"] or "learn",
        values={},
        logged_messages=(),
        logged_output="",
        reward=None,
        correction=row["correction"],
        task=json.loads(row["attributes"]) if row["attributes"] else {},
    )
