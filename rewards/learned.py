"""The learned reward model: what the lake's labels say of trajectories that look like these. No language model.

Every row is judged by what was learned without its user and without its time (folds.py), labelled or not: its scores
may be compared with labels, and combined with other judges.
"""

import json
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tracemill.chat import FAILED_ANSWER
from tracemill.errors import ConfigError
from tracemill.ids import canonical_json, content_id
from tracemill.rewards import additive
from tracemill.rewards.code import code
from tracemill.rewards.fitted import kept
from tracemill.rewards.folds import Folds
from tracemill.rewards.meaning import Embeds, Meaning
from tracemill.rewards.rows import query, scores

Floats = npt.NDArray[np.float64]

_WORSE = (
    *("n_errors", "root_failed", "failed_calls", "cut_share", "cut_at_the_end", "failed_tools", "failed_share"),
    *("malformed_tools", "last_failed", "repeated_tools", "repeated_errors", "gives_up"),
)
"""Features of which more is never better."""
_REFUSES = r"(?i)\b(sorry|unable to|cannot|can't|could not|couldn't|don't know|not sure|no information)\b"
_TELLS = r"(?i)\breward\W{0,4}[=:]"
_MAX_SCORES = 40
_LEAST_OF_A_KIND = 5
"""Good and bad ones that a cell needs to be learned for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """Probability of success per trajectory, with the spread of `bags` models as (lack of) confidence.

    Learns from human labels, environments and users' feedback (in this order, one label per trajectory), out of counts,
    errors, repeats, lengths, times, the scores of `families` and, where it has an embedder, what the last answer is
    about (`texts`). Says NULL with fewer than `min_labels` labels, and
    where what is left without a user and a time has too few good or bad ones. `fit` keeps the last version until
    there are `growth` more labels, so that versions do not change every night.
    """

    name: str = "learned"
    min_labels: int = 40
    growth: float = 0.25
    buckets: int = 5
    blocks: int = 3
    bags: int = 3
    max_rows: int = 20_000
    families: tuple[str, ...] = ("signals", "tools")
    env_names: tuple[str, ...] = ("reward",)
    seed: int = 0
    texts: bool = True
    """False: texts are not looked at."""
    embedder: Embeds | None = field(default=None, repr=False, compare=False)
    """Whoever runs it hands it over."""
    state: str | None = None
    """What was learned; `fit` fills it."""
    lineage: tuple[str, ...] = field(default=(), repr=False)
    """Trajectories that it was learned from; of a state read from the lake, as the lake tells them."""

    def __post_init__(self) -> None:
        if min(self.min_labels, self.buckets - 1, self.blocks - 1, self.bags, self.max_rows) < 1 or self.growth < 0:
            raise ConfigError(
                f"reward {self.name!r}: buckets and blocks are 2 or more, growth is not below 0, the others above 0"
            )

    @property
    def _spec(self) -> str:
        """What decides a state beside the labels."""
        return content_id(
            code(__name__), self.name, self.min_labels, self.growth, self.buckets, self.blocks, self.bags,
            self.max_rows, list(self.families), list(self.env_names), self.seed, self._reads and self._reads.name,
        )  # fmt: skip

    @property
    def _reads(self) -> Embeds | None:
        return self.embedder if self.texts else None

    @property
    def version(self) -> str:
        return content_id(self._spec, self.state)

    @property
    def level(self) -> Literal["trajectory"]:
        return "trajectory"

    @property
    def family(self) -> str:
        return "learned"

    @property
    def n_train(self) -> int:
        return 0 if self.state is None else int(json.loads(self.state)["n_train"])

    def fit(self, con: duckdb.DuckDBPyConnection, *, now_ns: int) -> "Learned":
        labels = query(con, "learned_labels", {"env_names": [*self.env_names, ""]})
        before = kept(con, self.name, self._spec)
        last = None if before is None else replace(self, **before)
        if last is not None and len(labels) < last.n_train * (1 + self.growth):
            return last
        values = np.asarray(labels["value"].to_numpy(), dtype=np.float64)
        if len(labels) < self.min_labels or min((values >= 0.5).sum(), (values < 0.5).sum()) < _LEAST_OF_A_KIND:
            return last or replace(self, state=None, lineage=())
        chosen = sorted(range(len(labels)), key=lambda at: content_id(self.seed, labels["trajectory_id"][at].as_py()))
        labels = labels.take(pa.array(sorted(chosen[: self.max_rows])))
        seen, meaning = Seen.read(con, self, "", labels["trajectory_id"].to_pylist()), None
        if self._reads is not None:
            meaning = Meaning.of(con, self._reads, seen.ids, tells=_TELLS)
            seen = seen.with_texts(con, self._reads, meaning)
        state, lineage = self._learned(seen, labels, meaning)
        return replace(self, state=state, lineage=lineage)

    def score(self, con: duckdb.DuckDBPyConnection, *, now_ns: int) -> pa.Table:
        seen = Seen.read(con, self, self.version, None)
        if self.state is None:
            rows = pa.table({"target_id": seen.ids, "value": pa.nulls(len(seen.ids), pa.float64())})
            why = canonical_json({"abstains": "too few labels"})
            rows = rows.append_column("evidence", pa.array([why] * len(rows), pa.string()))
        else:
            state = json.loads(self.state)
            if self._reads is not None and state["meaning"] is not None:
                seen = seen.with_texts(con, self._reads, Meaning.from_json(state["meaning"]))
            rows = self._judged(seen, state)
        rows = rows.append_column("source", pa.array(["model"] * len(rows), pa.string()))
        return scores(rows, name=self.name, version=self.version, now_ns=now_ns, family=self.family)

    def _learned(self, seen: "Seen", labels: pa.Table, meaning: Meaning | None) -> tuple[str, tuple[str, ...]]:
        at = {name: i for i, name in enumerate(labels["trajectory_id"].to_pylist())}
        order = [at[name] for name in seen.ids]
        y = np.asarray(labels["value"].to_numpy(), dtype=np.float64)[order]
        weight = np.asarray(labels["weight"].to_numpy(), dtype=np.float64)[order]
        folds = Folds.over(seen.starts, buckets=self.buckets, blocks=self.blocks, salt=self.seed)
        bucket, block = folds.bucket(seen.owners), folds.block(seen.starts)
        signs = dict.fromkeys(_WORSE, -1) | {name: 1 for name in seen.names if name.startswith("score ")}
        chosen = additive.features(seen.names, seen.values, signs)
        columns = additive.design(chosen, seen.names, seen.values)
        cells = {}
        for cell in folds.cells():
            own = np.flatnonzero(folds.teaches(cell, bucket, block))
            good = (y[own] >= 0.5).sum()
            if min(good, len(own) - good) < _LEAST_OF_A_KIND:
                continue
            rng = np.random.default_rng([self.seed, cell[0], cell[1] + 2])
            members = [own] if self.bags == 1 else [_resampled(own, seen.owners, rng) for _ in range(self.bags)]
            cells[_key(cell)] = [
                [float(f"{x:.6g}") for x in additive.fit(chosen, columns[rows], y[rows], weight[rows])]
                for rows in members
            ]
        state = {
            "spec": self._spec,
            "n_train": len(labels),
            "trained_on": content_id(seen.ids),
            "features": additive.to_json(chosen),
            "folds": folds.to_json(),
            "cells": cells,
            "meaning": None if meaning is None else meaning.to_json(),
        }
        return canonical_json(state), tuple(sorted(seen.ids))

    def _judged(self, seen: "Seen", state: dict[str, Any]) -> pa.Table:
        folds = Folds.from_json(state["folds"])
        bucket, block = folds.bucket(seen.owners), folds.block(seen.starts)
        chosen = additive.from_json(state["features"])
        columns = additive.design(chosen, seen.names, seen.values)
        ends = np.cumsum([0, *(one.width for one in chosen)])
        value, spread = np.full(len(seen.ids), np.nan), np.full(len(seen.ids), np.nan)
        evidence = np.full(len(seen.ids), canonical_json({"abstains": "too few labels of others"}), dtype=object)
        for cell in folds.cells():
            own = np.flatnonzero((bucket == cell[0]) & (block == cell[1]))
            if not len(own) or _key(cell) not in state["cells"]:
                continue
            betas = np.asarray(state["cells"][_key(cell)], dtype=np.float64)
            said = 1 / (1 + np.exp(-np.clip(columns[own] @ betas[:, 1:].T + betas[:, 0], -50, 50)))
            value[own], spread[own] = said.mean(axis=1), said.std(axis=1)
            beta = betas[:, 1:].mean(axis=0)
            pull = np.stack([columns[own][:, a:b] @ beta[a:b] for a, b in pairwise(ends)] or [own * 0.0]).T
            top = np.argsort(-np.abs(pull), axis=1, kind="stable")[:, : min(3, len(chosen))]
            for at, row in enumerate(own):
                most = {chosen[i].name: round(float(pull[at, i]), 3) for i in top[at]}
                evidence[row] = canonical_json({"cell": _key(cell), "most": most})
        return pa.table(
            {
                "target_id": pa.array(seen.ids, pa.string()),
                "value": pa.array(value, pa.float64(), from_pandas=True),
                "confidence": pa.array(np.clip(1 - 2 * spread, 0, 1), pa.float64(), from_pandas=True),
                "evidence": pa.array(evidence.tolist(), pa.string()),
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Features of trajectories, a row each."""

    ids: list[str]
    owners: list[str]
    starts: list[int | None]
    names: list[str]
    values: Floats

    @classmethod
    def read(
        cls, con: duckdb.DuckDBPyConnection, model: Learned, version: str, trajectories: list[str] | None
    ) -> "Seen":
        about = {"trajectories": trajectories, "name": model.name}
        texts = {"version": version, "error": FAILED_ANSWER, "refuses": _REFUSES, "tells": _TELLS}
        table = query(con, "learned_features", {**about, **texts})
        ids = table["trajectory_id"].to_pylist()
        names = [name for name in table.column_names if name not in ("trajectory_id", "owner", "start_ns")]
        columns = [np.asarray(table[name].cast(pa.float64()).to_numpy(zero_copy_only=False)) for name in names]
        said = query(con, "learned_scores", {**about, "families": [*model.families, ""]})
        place = {one: at for at, one in enumerate(ids)}
        judges: dict[str, Floats] = {}
        for row in said.to_pylist():
            if row["trajectory_id"] in place:
                own = judges.setdefault(f"score {row['name']}", np.full(len(ids), np.nan))
                own[place[row["trajectory_id"]]] = row["value"]
        for name in sorted(judges)[:_MAX_SCORES]:
            names.append(name)
            columns.append(judges[name])
        return cls(
            ids=ids,
            owners=table["owner"].to_pylist(),
            starts=table["start_ns"].to_pylist(),
            names=names,
            values=np.stack(columns, axis=1).astype(np.float64),
        )

    def with_texts(self, con: duckdb.DuckDBPyConnection, embedder: Embeds, meaning: Meaning) -> "Seen":
        told = meaning.columns(con, embedder, self.ids, tells=_TELLS)
        return replace(self, names=[*self.names, *meaning.names], values=np.concatenate([self.values, told], axis=1))


def _resampled(rows: npt.NDArray[np.int64], owners: list[str], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Rows of as many owners drawn with replacement: rows of one owner are no independent evidence."""
    members: dict[str, list[int]] = {}
    for row in rows:
        members.setdefault(owners[row], []).append(int(row))
    names = sorted(members)
    drawn = rng.integers(0, len(names), size=len(names))
    return np.asarray([row for at in drawn for row in members[names[at]]], dtype=np.int64)


def _key(cell: tuple[int, int]) -> str:
    return f"{cell[0]}/{cell[1]}"
