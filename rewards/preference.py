"""The preference reward model: a small language model with a scalar head that learned which of two runs went better.

Bradley-Terry heads are trained in processes of their own, by pipelines (train/preference.py); this file says on what,
and scores with what came out. As with `learned`, nobody is judged by a head that saw their user or their time.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

import duckdb
import numpy as np
import pyarrow as pa

from tracemill.errors import ConfigError, MissingExtraError
from tracemill.ids import canonical_json, content_id
from tracemill.rewards.fitted import kept
from tracemill.rewards.folds import Folds
from tracemill.rewards.rows import query, scores
from tracemill.rewards.transcripts import transcripts

_AT_ONCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What the heads of one version are to be trained on."""

    folds: Folds
    cells: Mapping[str, pa.Table]
    """By cell: trajectory_id, task_group, reward and text of what may teach the head that judges it."""
    lineage: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """Probability that a run went better than a usual one, by a head on `base_model` (a folder with a causal LM).

    NULL until heads were trained, with fewer than `min_labels` labels, and for users and times whose head had nothing
    to learn from. Heads are trained again when there are `growth` more labels.
    """

    base_model: str
    name: str = "preference"
    min_labels: int = 40
    growth: float = 0.5
    buckets: int = 2
    blocks: int = 2
    max_tokens: int = 1024
    max_chars: int = 2_000
    """Of each field of a call."""
    steps: int = 40
    seed: int = 0
    root: Path = field(default=Path(), repr=False)
    state: str | None = None
    lineage: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if min(self.min_labels, self.buckets - 1, self.blocks - 1, self.max_tokens, self.steps) < 1 or self.growth < 0:
            raise ConfigError(
                f"reward {self.name!r}: buckets and blocks are 2 or more, growth is not below 0, the others above 0"
            )

    @property
    def _spec(self) -> str:
        return content_id(
            "preference/2", self.name, self.base_model, self.min_labels, self.growth, self.buckets, self.blocks,
            self.max_tokens, self.max_chars, self.steps, self.seed,
        )  # fmt: skip

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
        return len(self.lineage)

    def fit(self, con: duckdb.DuckDBPyConnection, *, now_ns: int) -> Self:
        """The last version of these options that the lake holds; heads are trained by `lesson` and `trained`."""
        return replace(self, **(kept(con, self.name, self._spec) or {"state": None, "lineage": ()}))

    def lesson(self, con: duckdb.DuckDBPyConnection) -> Lesson | None:
        """What is to be trained now; None where labels are too few, or not enough more than this version saw."""
        labels = query(con, "learned_labels", {"env_names": ["reward", ""]}).to_pylist()
        if len(labels) < self.min_labels or (self.state is not None and len(labels) < self.n_train * (1 + self.growth)):
            return None
        reward = {row["trajectory_id"]: row["value"] for row in labels}
        ids, owners, starts, groups = _about(con, list(reward))
        folds = Folds.over(starts, buckets=self.buckets, blocks=self.blocks, salt=self.seed)
        bucket, block = folds.bucket(owners), folds.block(starts)
        text = transcripts(con, ids, max_chars=self.max_chars)
        cells = {}
        for cell in folds.cells():
            own = np.flatnonzero(folds.teaches(cell, bucket, block)).tolist()
            rows = [
                {"trajectory_id": ids[at], "task_group": groups[at], "reward": reward[ids[at]], "text": text[ids[at]]}
                for at in own
                if ids[at] in text
            ]
            if rows:
                cells[f"{cell[0]}/{cell[1]}"] = pa.Table.from_pylist(rows)
        return Lesson(folds=folds, cells=cells, lineage=tuple(sorted(ids)))

    def trained(self, lesson: Lesson, heads: Mapping[str, tuple[str, str]]) -> "Preference":
        """This model with the heads (folder, content hash) that were trained for its cells."""
        state = {
            "spec": self._spec,
            "folds": lesson.folds.to_json(),
            "heads": {cell: {"folder": folder, "hash": found} for cell, (folder, found) in sorted(heads.items())},
        }
        return replace(self, state=canonical_json(state), lineage=lesson.lineage)

    def score(self, con: duckdb.DuckDBPyConnection, *, now_ns: int) -> pa.Table:
        done = "SELECT target_id FROM scores WHERE target_kind = 'trajectory' AND name = ? AND version = ?"
        known = {row[0] for row in con.execute(done, [self.name, self.version]).fetchall()}
        every = [row[0] for row in con.execute("SELECT trajectory_id FROM trajectories ORDER BY 1").fetchall()]
        ids, owners, starts, _ = _about(con, [one for one in every if one not in known])
        value: list[float | None] = [None] * len(ids)
        why = {"abstains": "no head was trained for this user and time"}
        evidence = [canonical_json(why)] * len(ids)
        state = None if self.state is None else json.loads(self.state)
        if state is not None and ids:
            folds = Folds.from_json(state["folds"])
            cells = list(zip(folds.bucket(owners).tolist(), folds.block(starts).tolist(), strict=True))
            text = transcripts(con, ids, max_chars=self.max_chars)
            for key, head in state["heads"].items():
                own = [at for at, cell in enumerate(cells) if f"{cell[0]}/{cell[1]}" == key and ids[at] in text]
                folder = self.root / head["folder"]
                if not own or not folder.is_dir():
                    continue
                for at, said in zip(own, self._said([text[ids[at]] for at in own], folder), strict=True):
                    value[at] = 1 / (1 + float(np.exp(-said)))
                    evidence[at] = canonical_json({"cell": key, "head": head["hash"]})
        rows = pa.table(
            {
                "target_id": pa.array(ids, pa.string()),
                "value": pa.array(value, pa.float64()),
                "evidence": pa.array(evidence, pa.string()),
                "source": pa.array(["model"] * len(ids), pa.string()),
            }
        )
        return scores(rows, name=self.name, version=self.version, now_ns=now_ns, family=self.family)

    def judge_texts(self, texts: Sequence[str]) -> list[float | None]:
        """What one of the heads says of episodes told as text; None without one. For bias probes, which compare it."""
        heads = {} if self.state is None else json.loads(self.state)["heads"]
        there = [
            self.root / heads[key]["folder"] for key in sorted(heads) if (self.root / heads[key]["folder"]).is_dir()
        ]
        if not there:
            return [None] * len(texts)
        return [1 / (1 + float(np.exp(-said))) for said in self._said(texts, there[0])]

    def _said(self, texts: Sequence[str], head: Path) -> list[float]:
        """What a head says of texts: above 0 is better than usual."""
        try:
            import torch
            from peft import PeftModel
            from transformers import AutoModelForSequenceClassification, AutoTokenizer
        except ImportError as error:
            raise MissingExtraError("train", f"the reward {self.name!r}") from error
        base = self.root / self.base_model
        if not (base / "config.json").is_file():
            raise ConfigError(f"reward {self.name!r}: base_model {base} is no folder with a transformers model")
        tokenizer = AutoTokenizer.from_pretrained(base)
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        model: Any = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, dtype=torch.float32)
        model.config.pad_token_id = pad
        model = PeftModel.from_pretrained(model, head).eval()
        said: list[float] = []
        for begin in range(0, len(texts), _AT_ONCE):
            ids = [tokenizer(one)["input_ids"][-self.max_tokens :] for one in texts[begin : begin + _AT_ONCE]]
            longest = max(len(one) for one in ids)
            tokens = torch.tensor([[*one, *[pad] * (longest - len(one))] for one in ids])
            mask = torch.tensor([[1] * len(one) + [0] * (longest - len(one)) for one in ids])
            with torch.no_grad():
                said += model(input_ids=tokens, attention_mask=mask).logits.squeeze(-1).tolist()
        return said


def _about(
    con: duckdb.DuckDBPyConnection, trajectories: Sequence[str]
) -> tuple[list[str], list[str], list[int | None], list[str | None]]:
    """Ids, owners, starts and task groups of those that the lake holds."""
    rows = con.execute(
        "SELECT trajectory_id, coalesce(user_key, session_id, task_group, trajectory_id), start_ns, task_group "
        "FROM trajectories WHERE list_contains(?, trajectory_id) ORDER BY trajectory_id",
        [[*trajectories, ""]],
    ).fetchall()
    ids, owners, starts, groups = ([row[at] for row in rows] for at in range(4))
    return ids, owners, starts, groups
