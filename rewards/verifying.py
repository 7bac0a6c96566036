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
from tracemill.rewards.rows import query, scores
from tracemill.rewards.unfitted import Unfitted


@runtime_checkable
class Explaining(Protocol):
    """A verifier that also says why it abstained."""

    def explain(self, case: Case, output: str) -> tuple[float | None, str | None]: ...


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
        return content_id("logged/1", self.verifier.version, self.agent, self.skip_output)

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
        columns = pa.schema([("target_id", pa.string()), ("value", pa.float64()), ("evidence", pa.string())])
        table = pa.Table.from_pylist(found, schema=columns)
        return scores(table, name=self.name, version=self.version, now_ns=now_ns, family=self.family)

    def _judged(self, row: dict[str, Any]) -> dict[str, Any]:
        case, output = _case(row), _text(row)
        evidence = {"step": row["step"], "correction": row["correction_id"]}
        if isinstance(self.verifier, Explaining):
            value, error = self.verifier.explain(case, output)
            evidence |= {} if error is None else {"error": error}
        else:
            value = self.verifier.verify(case, output)
        return {"target_id": row["trajectory_id"], "value": value, "evidence": canonical_json(evidence)}


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
