"""A reward model out of preferences: TRL's RewardTrainer (Bradley-Terry) with LoRA and a scalar head on a causal LM.

Rows are pairs of transcripts of one task group, the better one first. What comes out is an adapter with its head; who
scores with it (tracemill.rewards.preference) needs the base model and nothing of this package.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from tracemill.errors import ConfigError
from tracemill.ids import content_id
from tracemill.train import adapters
from tracemill.train.datums import Datums, read_kind

PAIRS = pa.schema(
    [
        pa.field("trajectory_id", pa.string()),  # the better one
        pa.field("other_id", pa.string()),
        pa.field("group", pa.string()),
        pa.field("margin", pa.float64()),  # how much better it is said to be
        pa.field("chosen", pa.string()),
        pa.field("rejected", pa.string()),
    ]
)


def pairs(transcripts: pa.Table, *, per_group: int = 16, min_margin: float = 0.1, seed: int = 0) -> Datums:
    """Pairs within task groups out of rows of trajectory_id, task_group, reward and text.

    At most `per_group` per group, drawn by their ids, so that a common task does not teach all. `dropped` counts the
    transcripts that are in no pair: `alone` where no other of the group differs by `min_margin`, `no_reward`.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    dropped = {"no_reward": 0, "alone": 0}
    for row in transcripts.to_pylist():
        if row["reward"] is None:
            dropped["no_reward"] += 1
        else:
            groups.setdefault(row["task_group"] or row["trajectory_id"], []).append(row)
    rows = []
    for group in sorted(groups):
        found = list(_ordered(groups[group], min_margin))
        found.sort(key=lambda pair: content_id(seed, pair["trajectory_id"], pair["other_id"]))
        rows += [{**pair, "group": group} for pair in found[:per_group]]
        used = {one for pair in found for one in (pair["trajectory_id"], pair["other_id"])}
        dropped["alone"] += sum(row["trajectory_id"] not in used for row in groups[group])
    table = pa.Table.from_pylist(rows, schema=PAIRS)
    return Datums(kind="preference", table=table, dropped={why: n for why, n in dropped.items() if n})


def _ordered(rows: list[Mapping[str, Any]], min_margin: float) -> Iterable[dict[str, Any]]:
    for better in rows:
        for worse in rows:
            margin = better["reward"] - worse["reward"]
            if margin >= min_margin:
                yield {
                    "trajectory_id": better["trajectory_id"],
                    "other_id": worse["trajectory_id"],
                    "margin": margin,
                    "chosen": better["text"],
                    "rejected": worse["text"],
                }


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceTrainer:
    """LoRA and a scalar head by the log loss of the better one scoring higher. Scores are kept around 0."""

    init_adapter: Path | None = None
    seed: int = 0
    steps: int = 40
    batch_size: int = 4
    """Pairs per optimizer step."""
    learning_rate: float = 1e-3
    rank: int = 8
    alpha: int = 16
    max_tokens: int = 1024
    """Of a longer transcript the end is read: that is where it went well or not."""
    save_every: int = 10

    @property
    def name(self) -> str:
        return "preference"

    def train(
        self, datums: Path, base_model: str, out: Path, *, report: Callable[[Mapping[str, Any]], None]
    ) -> Mapping[str, Any]:
        """protocols.Trainer. ConfigError for datums of another kind, and where there is an adapter to go on from."""
        if self.init_adapter is not None:
            raise ConfigError("a preference model is trained from its base: init_adapter is not taken")
        table = read_kind(datums, "preference").table
        if table.num_rows == 0:
            return {"rows": 0, "nothing_to_learn": "no task group holds two trajectories of different reward"}

        import torch
        from datasets import Dataset
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForSequenceClassification, AutoTokenizer
        from trl import RewardConfig, RewardTrainer

        from tracemill.train import progress

        tokenizer = AutoTokenizer.from_pretrained(base_model)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        rows = Dataset.from_list(
            [
                {
                    "chosen_ids": tokenizer(row["chosen"])["input_ids"][-self.max_tokens :],
                    "rejected_ids": tokenizer(row["rejected"])["input_ids"][-self.max_tokens :],
                }
                for row in table.select(["chosen", "rejected"]).to_pylist()
            ]
        )
        torch.manual_seed(self.seed)
        model = AutoModelForSequenceClassification.from_pretrained(base_model, num_labels=1, dtype=torch.float32)
        model.config.pad_token_id = tokenizer.pad_token_id
        lora = LoraConfig(
            r=self.rank, lora_alpha=self.alpha, target_modules=list(adapters.PROJECTIONS), task_type="SEQ_CLS"
        )
        arguments = RewardConfig(
            **progress.settings(
                out,
                steps=self.steps,
                save_every=self.save_every,
                seed=self.seed,
                learning_rate=self.learning_rate,
                rows=self.batch_size,
            ),
            max_length=None,
            center_rewards_coefficient=0.01,
        )
        trainer = RewardTrainer(
            model=get_peft_model(model, lora),
            args=arguments,
            train_dataset=rows,
            processing_class=tokenizer,
            callbacks=[progress.Progress(report)],
        )
        result = progress.run(trainer, out)
        adapters.save(trainer.model, out / "adapter", base=Path(base_model).name)
        history = trainer.state.log_history
        return {
            "steps": self.steps,
            "rows": table.num_rows,
            "groups": len(set(table["group"].to_pylist())),
            "train_loss": result.training_loss,
            "accuracy_last": next((entry["accuracy"] for entry in reversed(history) if "accuracy" in entry), None),
        }
