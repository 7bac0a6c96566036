"""The combined score: one reward per trajectory out of everything that judged it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from tracemill.errors import ConfigError
from tracemill.ids import content_id
from tracemill.rewards import label_model
from tracemill.rewards.code import code
from tracemill.rewards.rows import scores

NAME = "combined"
LOW = "combined_low"
VETO = "tools"
TIERS = ("human", "env", "verifier")
WEAK = ("signals", "users", "tools", "judge", "ranker", "learned", "llm")
"""Families (what stands before the colon) that are voters of the label model: what they say is no proof."""
_SQL = Path(__file__).parent / "sql"
_TOLERANCE = 0.02
_LABEL_MODEL = pa.schema(
    [
        ("target_id", pa.string()),
        ("value", pa.float64()),
        ("confidence", pa.float64()),
        ("score_ids", pa.list_(pa.string())),
        ("families", pa.list_(pa.string())),
        ("refused", pa.string()),
    ]
)
_MACHINE = pa.schema([("target_id", pa.string()), ("value", pa.float64())])


@dataclass(frozen=True, slots=True, kw_only=True)
class Combination:
    """What was combined: rows to write, and how the label model came by its part."""

    version: str
    rows: pa.Table
    """schema.SCORES named combined: what is new or has changed."""
    low: pa.Table
    """schema.SCORES named combined_low: of the same trajectories, a lower bound to learn from."""
    machine: pa.Table
    """target_id, value: what it would say of weakly judged trajectories without the people who judged them."""
    judged: label_model.Judged | None
    """None where no weak judge spoke."""
    remarks: tuple[str, ...]
    """What a user must know: judges left out, values refused."""


def combine(con: duckdb.DuckDBPyConnection, *, now_ns: int, **options: Any) -> pa.Table:
    """The rows of `combination` alone."""
    return combination(con, now_ns=now_ns, **options).rows


def combination(
    con: duckdb.DuckDBPyConnection,
    *,
    now_ns: int,
    precedence: Sequence[str] = TIERS,
    weights: Mapping[str, float] | None = None,
    env_names: Sequence[str] = ("reward",),
    veto: str = VETO,
    weak: Sequence[str] = WEAK,
    sealed: Sequence[str] = (),
    distrusted: Mapping[str, str] | None = None,
    k: float = 1.0,
    epsilon: float = 0.2,
) -> Combination:
    """One score per trajectory whose combined score is new or has changed.

    The first tier of `precedence` that knows anything decides: human (feedback, corrections among it), env (rewards
    of the environment), verifier (scores of code and models that execute or compare, averaged by `weights` times their
    confidence: 1 where not named, 0 to leave one out). A score of 0 named `veto` (a failed last tool call) turns a
    verifier's verdict to 0; it never makes a score. Where no tier knows anything, the label model judges by the votes
    of the families in `weak` (tool status votes there, too); it says NULL, with the reason as evidence, where fewer
    than two families voted or one alone decides (`epsilon`: label_model.judge). A trajectory that nobody judged has no
    row.

    Scores named in `sealed` are never read, nor those of a version in `distrusted` (name to version: its report failed;
    `combined` there stops the label model). Evidence is the JSON of the tier and the score_ids used; the confidence
    falls where judges disagree, and is 1 less two standard deviations where the label model judged; the propensity is
    that of the human judgement. `low` is the value less `k` times (1 - confidence) / 2. The latest row counts.
    """
    if unknown := sorted(set(precedence) - set(TIERS)):
        raise ConfigError(f"combined reward: unknown tier {', '.join(unknown)}; known: {', '.join(TIERS)}")
    if wrong := sorted(name for name, weight in (weights or {}).items() if weight < 0):
        raise ConfigError(f"combined reward: negative weight for {', '.join(wrong)}; use 0 to leave a score out")
    given, failed = dict(weights or {}), dict(distrusted or {})
    version = content_id(
        code(__name__, "judged"), list(precedence), given, list(env_names), veto, list(weak), list(sealed), k, epsilon
    )
    params = {
        "name": NAME,
        "low_name": LOW,
        "version": version,
        "precedence": [*precedence, ""],  # lists are never empty: an empty one has no type
        "weighted": [*given, ""],
        "weights": [*(float(weight) for weight in given.values()), 1.0],
        "env_names": [*env_names, ""],
        "veto": veto,
        "weak": [*weak, ""],
        "sealed": [*sealed, ""],
        "distrusted": [*(f"{name}@{version}" for name, version in failed.items()), ""],
        "tolerance": _TOLERANCE,
    }
    voted = _query(con, "votes", params)
    table, machine, judged = _weakly(voted, precedence, epsilon=epsilon, stopped=NAME in failed)
    con.register("label_model", table)
    try:
        found = _query(con, "combined", params)
    finally:
        con.unregister("label_model")
    rows = scores(found, name=NAME, version=version, now_ns=now_ns, family=NAME)
    return Combination(
        version=version,
        rows=rows,
        low=_low(rows, k=k, now_ns=now_ns),
        machine=machine,
        judged=judged,
        remarks=tuple(_remarks(judged, table, failed)),
    )


def _query(con: duckdb.DuckDBPyConnection, name: str, params: Mapping[str, Any]) -> pa.Table:
    text = "".join((_SQL / f"{part}.sql").read_text(encoding="utf-8") for part in ("judged", name))
    used = set(re.findall(r"\$(\w+)", text))
    return con.execute(text, {key: value for key, value in params.items() if key in used}).to_arrow_table()


def _weakly(
    voted: pa.Table, precedence: Sequence[str], *, epsilon: float, stopped: bool
) -> tuple[pa.Table, pa.Table, label_model.Judged | None]:
    """The label model's rows, its values as if no person had spoken, and how it came by them."""
    if not voted.num_rows:
        return _LABEL_MODEL.empty_table(), _MACHINE.empty_table(), None
    votes = _votes(voted, precedence)
    judged = label_model.judge(votes, epsilon=epsilon)
    by_code = np.full(voted.num_rows, np.nan)
    for tier in reversed([tier for tier in precedence if tier != "human"]):
        said = _numbers(voted, tier)
        by_code = np.where(np.isnan(said), by_code, said)
    # Refused is refused, label or not: what is measured must not hang on whether somebody labelled it.
    held_out = np.where(judged.refused >= 0, np.nan, judged.held_out)
    honest = np.where(np.isnan(held_out), judged.value, held_out)
    machine = np.where(np.isnan(by_code), honest, by_code)
    known = ~np.isnan(machine)
    value = np.full(voted.num_rows, np.nan) if stopped else judged.value
    why = np.array([*judged.reason, None], dtype=np.object_)[judged.refused]
    rows = {
        "target_id": voted["target_id"],
        "value": pa.array(value, mask=np.isnan(value)),
        "confidence": pa.array(np.clip(1 - 2 * judged.std, 0, 1), mask=np.isnan(value)),
        "score_ids": voted["score_ids"],
        "families": voted["families"],
        "refused": pa.array(["its report failed"] * len(value) if stopped else why, pa.string()),
    }
    kept = pa.table({"target_id": voted["target_id"], "value": pa.array(machine)}, schema=_MACHINE).filter(known)
    return pa.table(rows, schema=_LABEL_MODEL), kept, judged


def _numbers(table: pa.Table, column: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.asarray(table[column].to_numpy(), dtype=np.float64)  # NULL becomes NaN


def _votes(voted: pa.Table, precedence: Sequence[str]) -> label_model.Votes:
    lists = voted["families"].combine_chunks()
    names = lists.flatten().dictionary_encode()
    order = np.argsort(np.array(names.dictionary.to_pylist()))
    column = np.empty(len(order), dtype=np.int64)
    column[order] = np.arange(len(order))
    row = np.repeat(np.arange(voted.num_rows), np.diff(lists.offsets.to_numpy()))
    table = np.full((voted.num_rows, len(order)), np.nan)
    table[row, column[names.indices.to_numpy()]] = voted["votes"].combine_chunks().flatten().to_numpy()
    truth = np.full(voted.num_rows, np.nan)
    people = np.zeros(voted.num_rows, dtype=np.bool_)
    for tier in reversed(list(precedence)):
        said = _numbers(voted, tier)
        people = np.where(np.isnan(said), people, tier == "human")
        truth = np.where(np.isnan(said), truth, said)
    drawn = _numbers(voted, "propensity")
    return label_model.Votes(
        families=tuple(sorted(names.dictionary.to_pylist())),
        votes=table,
        truth=truth,
        people=people,
        weight=np.where(people & (drawn > 0), 1 / np.where(drawn > 0, drawn, 1.0), 1.0),
        influence=np.where(people, np.nan_to_num(_numbers(voted, "influence"), nan=1.0), 1.0),
        block=np.asarray(voted["block"].to_numpy(), dtype=np.int64),
    )


def _low(rows: pa.Table, *, k: float, now_ns: int) -> pa.Table:
    """The same trajectories' lower bounds; NULL where there is no value."""
    value, sure = _numbers(rows, "value"), _numbers(rows, "confidence")
    low = np.maximum(0.0, value - k * (1 - np.nan_to_num(sure, nan=1.0)) / 2)
    given = rows.select(["target_id", "confidence", "propensity", "evidence"]).append_column(
        "value", pa.array(low, mask=np.isnan(low))
    )
    version = rows["version"][0].as_py() if rows.num_rows else ""
    return scores(given, name=LOW, version=version, now_ns=now_ns, family=NAME)


def _remarks(judged: label_model.Judged | None, table: pa.Table, failed: Mapping[str, str]) -> list[str]:
    said = [f"{name} is not used: its latest report failed" for name in sorted(failed) if name != NAME]
    if NAME in failed:
        said.append("the label model's values are withheld: the latest report of combined failed")
    if judged is None:
        return said
    for name, less in sorted(judged.without.items()):
        if f"{name} alone decides" in judged.reason and judged.auc is not None:
            said.append(
                f"the label model says nothing where {name} votes: it alone decides "
                f"(AUC {judged.auc:.2f} on {judged.n_labels} labels, {less:.2f} without it)"
            )
    lonely = [why for why in judged.reason if why.startswith("only ")]
    if lonely and not table["value"].null_count < table.num_rows:
        said.append(f"the label model says nothing yet: {lonely[0]}")
    return said
