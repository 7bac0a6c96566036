"""Offline GRPO: what a tuned policy did in production, weighted by reward and by how likely it is now.

TRL's GRPOTrainer computes the loss; the rollouts come from the log instead of a generator. TRL 1.16 takes
log-probabilities of foreign rollouts into the importance ratio only when vLLM made them (otherwise the ratio silently
is 1), so the private method that makes rollouts is replaced here by one that reads them. A contract test holds this to
TRL's minor version.

What was simplified, and why: advantages are centred per task group over all its logged rollouts, not per batch; no
reference model (the logged policy is the trust region, through the clipped ratio); rows of one temperature only.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from tracemill.errors import ConfigError, TrainError
from tracemill.train import adapters, advantages
from tracemill.train.datums import read_kind
from tracemill.train.prefix import completion_logps


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpoTrainer:
    """Goes on training an adapter on what it (or its predecessor) did, with logged log-probabilities."""

    init_adapter: Path | None = None
    """The adapter to go on from. From a base model that never gets a reward there is nothing to learn."""
    seed: int = 0
    steps: int = 12
    batch_size: int = 32
    learning_rate: float = 5e-5
    epsilon: float = 0.2
    epsilon_high: float = 0.28
    min_groups: int = 4
    """Fewer groups with both good and bad rollouts than this is nothing to learn from."""
    rank: int = 16
    alpha: int = 32
    top_layers: int | None = 10
    save_every: int = 4

    @property
    def name(self) -> str:
        return "grpo"

    def train(
        self, datums: Path, base_model: str, out: Path, *, report: Callable[[Mapping[str, Any]], None]
    ) -> Mapping[str, Any]:
        """protocols.Trainer. Where too few groups differ in reward the metrics hold `nothing_to_learn`, the reason,
        and there is no adapter."""
        if self.batch_size % 2:
            raise ConfigError(f"grpo needs an even batch_size, not {self.batch_size}")
        rows, counts = usable(read_kind(datums, "grpo").table.to_pylist())
        if counts["groups_used"] < self.min_groups:
            reason = (
                f"{counts['groups_used']} task groups have rollouts that differ in reward, {self.min_groups} are needed"
            )
            return {**counts, "nothing_to_learn": reason}

        from tracemill.train import progress

        drawn = [rows[at] for at in _order(rows, n=self.steps * self.batch_size, seed=self.seed)]
        trainer = _trainer(self, drawn, base_model, out, report)
        result = progress.run(trainer, out)
        adapters.save(trainer.model, out / "adapter", base=Path(base_model).name)
        return {
            **counts,
            "steps": self.steps,
            "rows": len(rows),
            "train_loss": result.training_loss,
            "temperature": rows[0]["temperature"],
            **{name: value for name, value in trainer.ratios.items() if math.isfinite(value)},
        }


def usable(rows: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Rows that carry a gradient, with their advantage, and counts of what was left out.

    Rows of another temperature than most are left out: TRL scores all rows at one.
    """
    temperatures = Counter(row["temperature"] for row in rows)
    common = max(temperatures, key=lambda value: (temperatures[value], value), default=None)
    kept = [row for row in rows if row["temperature"] == common]
    centred = advantages.centred(
        [row["reward"] for row in kept], [row["group"] for row in kept], [row["trajectory_id"] for row in kept]
    )
    return (
        [
            {**row, "advantage": advantage}
            for row, advantage in zip(kept, centred.per_row, strict=True)
            if advantage is not None
        ],
        {
            "groups_used": centred.groups_used,
            "groups_flat": centred.groups_flat,
            "rows_other_temperature": len(rows) - len(kept),
        },
    )


def _order(rows: Sequence[Mapping[str, Any]], *, n: int, seed: int) -> list[int]:
    """n row numbers: shuffled passes over whole groups.

    The rows of a group stay together, because only together do their advantages cancel: a batch of strangers pushes
    all outputs that happen to be good in it, whatever was asked.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    of_group: dict[str, list[int]] = {}
    for at, row in enumerate(rows):
        of_group.setdefault(row["group"], []).append(at)
    names = sorted(of_group)
    order: list[int] = []
    while len(order) < n:
        for choice in rng.permutation(len(names)):
            order.extend(of_group[names[int(choice)]])
    return order[:n]


def _never(**_: Any) -> NoReturn:
    raise TrainError("offline GRPO asked for a reward: this version of TRL makes rollouts in another way")


def _trainer(
    knobs: GrpoTrainer,
    drawn: Sequence[Mapping[str, Any]],
    base_model: str,
    out: Path,
    report: Callable[[Mapping[str, Any]], None],
) -> Any:
    import torch
    from datasets import Dataset
    from torch.utils.data import SequentialSampler
    from transformers import AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer
    from trl.trainer.utils import pad

    from tracemill.train import progress

    class Offline(GRPOTrainer):  # type: ignore[misc]
        """GRPOTrainer whose rollouts are rows of the log."""

        def __init__(self, **arguments: Any) -> None:
            super().__init__(**arguments)
            self.ratios: dict[str, float] = {}

        def _get_train_sampler(self, dataset: Any = None) -> SequentialSampler:
            return SequentialSampler(self.train_dataset if dataset is None else dataset)

        def _set_signature_columns_if_needed(self) -> None:
            self._signature_columns = ["prompt", "prompt_ids", "completion_ids", "logprobs", "advantage"]

        def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
            fill = self._tokenizer.pad_token_id

            def padded(column: str, value: float, side: str) -> torch.Tensor:
                kind = torch.float32 if column == "logprobs" else torch.long
                rows = [torch.tensor(row[column], dtype=kind) for row in inputs]
                return pad(rows, padding_value=value, padding_side=side).to(self.accelerator.device)

            def mask(column: str, side: str) -> torch.Tensor:
                rows = [torch.ones(len(row[column]), dtype=torch.long) for row in inputs]
                return pad(rows, padding_value=0, padding_side=side).to(self.accelerator.device)

            completion_mask = mask("completion_ids", "right")
            return {
                "prompt_ids": padded("prompt_ids", fill, "left"),
                "prompt_mask": mask("prompt_ids", "left"),
                "completion_ids": padded("completion_ids", fill, "right"),
                "completion_mask": completion_mask,
                "advantages": torch.tensor([row["advantage"] for row in inputs], device=self.accelerator.device),
                # the log-probabilities under which the rollouts were drawn: with them the ratio is a ratio
                "old_per_token_logps": padded("logprobs", 0.0, "right"),
                "num_items_in_batch": completion_mask.sum(),
            }

        def _get_per_token_logps_and_entropies(
            self, model: Any, input_ids: Any, attention_mask: Any, logits_to_keep: int, *rest: Any, **more: Any
        ) -> Any:
            found = completion_logps(model, input_ids, attention_mask, logits_to_keep, temperature=self.temperature)
            if found is None:
                return super()._get_per_token_logps_and_entropies(
                    model, input_ids, attention_mask, logits_to_keep, *rest, **more
                )
            return *found, None

        def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
            if not self.ratios:
                self.ratios = _ratios(self, model, inputs)
            loss: torch.Tensor = super()._compute_loss(model, inputs)
            return loss

    model = adapters.attach(
        Path(base_model),
        init_adapter=knobs.init_adapter,
        rank=knobs.rank,
        alpha=knobs.alpha,
        top_layers=knobs.top_layers,
        seed=knobs.seed,
    )
    arguments = GRPOConfig(
        **progress.settings(
            out,
            steps=knobs.steps,
            save_every=knobs.save_every,
            seed=knobs.seed,
            learning_rate=knobs.learning_rate,
            rows=knobs.batch_size,
        ),
        loss_type="dapo",
        epsilon=knobs.epsilon,
        epsilon_high=knobs.epsilon_high,
        beta=0.0,
        num_generations=2,  # of no meaning here, where groups come from the log; TRL wants one that divides the batch
        temperature=drawn[0]["temperature"],
        max_completion_length=max(len(row["completion_ids"]) for row in drawn),
    )
    columns = ("prompt_ids", "completion_ids", "logprobs", "advantage")
    return Offline(
        model=model,
        reward_funcs=_never,
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": "", **{name: row[name] for name in columns}} for row in drawn]),
        processing_class=AutoTokenizer.from_pretrained(base_model, padding_side="left"),
        callbacks=[progress.Progress(report)],
    )


def _ratios(trainer: Any, model: Any, inputs: Mapping[str, Any]) -> dict[str, float]:
    """How far the policy to be trained stands from the one that was logged, on the first batch."""
    import torch

    with torch.no_grad():
        logps, _, _ = trainer._get_per_token_logps_and_entropies(
            model,
            torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1),
            torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1),
            inputs["completion_ids"].size(1),
        )
        difference = ((logps - inputs["old_per_token_logps"]) * inputs["completion_mask"]).sum(-1)
        weight = difference.exp()
    return {
        "ratio_mean": float(weight.mean()),
        "ess_share": float(weight.sum() ** 2 / (weight**2).sum() / len(weight)),
    }
