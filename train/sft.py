"""Supervised fine-tuning on outputs known to be right: TRL's SFTTrainer with LoRA on the last blocks.

What was simplified, and why: one pass order is drawn up front (balanced over distinct outputs) instead of epochs with a
shuffling sampler, so that a resumed run sees exactly the rows that it would have seen; one device; no evaluation inside
training, because the gate measures.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracemill.train import adapters
from tracemill.train.datums import read_kind
from tracemill.train.prefix import completion_loss


@dataclass(frozen=True, slots=True, kw_only=True)
class SftTrainer:
    """LoRA by next-token loss on the completions of SFT datums."""

    init_adapter: Path | None = None
    """Goes on from this adapter; rank, alpha and top_layers are then its own."""
    seed: int = 0
    steps: int = 40
    batch_size: int = 8
    """Rows per optimizer step. More and smaller steps learned more from the same compute than 20 of 16."""
    learning_rate: float = 1e-3
    rank: int = 16
    alpha: int = 32
    top_layers: int | None = 10
    """Trains the last blocks only, a third of the time of all on a CPU; None trains all."""
    save_every: int = 10

    @property
    def name(self) -> str:
        return "sft"

    def train(
        self, datums: Path, base_model: str, out: Path, *, report: Callable[[Mapping[str, Any]], None]
    ) -> Mapping[str, Any]:
        """protocols.Trainer. Where there is no row the metrics hold `nothing_to_learn`, the reason, and there is no
        adapter. Raises ConfigError for datums of another kind."""
        table = read_kind(datums, "sft").table
        if table.num_rows == 0:
            return {"rows": 0, "nothing_to_learn": "no case has an output known to be right"}

        from datasets import Dataset
        from transformers import AutoTokenizer
        from trl import SFTConfig, SFTTrainer

        from tracemill.train import progress

        rows = table.select(["completion", "weight", "prompt_ids", "completion_ids"]).to_pylist()
        order = schedule(
            [row["completion"] for row in rows],
            [row["weight"] for row in rows],
            n=self.steps * self.batch_size,
            seed=self.seed,
        )
        drawn = Dataset.from_list(
            [
                {
                    "input_ids": rows[at]["prompt_ids"] + rows[at]["completion_ids"],
                    "labels": [-100] * len(rows[at]["prompt_ids"]) + rows[at]["completion_ids"],
                }
                for at in order
            ]
        )
        model = adapters.attach(
            Path(base_model),
            init_adapter=self.init_adapter,
            rank=self.rank,
            alpha=self.alpha,
            top_layers=self.top_layers,
            seed=self.seed,
        )
        arguments = SFTConfig(
            **progress.settings(
                out,
                steps=self.steps,
                save_every=self.save_every,
                seed=self.seed,
                learning_rate=self.learning_rate,
                rows=self.batch_size,
            ),
            train_sampling_strategy="sequential",
            max_length=None,
            dataset_kwargs={"skip_prepare_dataset": True},
        )

        class SharedPrefix(SFTTrainer):  # type: ignore[misc]
            """The same loss; what all rows of a batch begin with is computed once."""

            def compute_loss(
                self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
            ) -> Any:
                loss = None if return_outputs else completion_loss(model, inputs, items=num_items_in_batch)
                if loss is None:
                    return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
                return loss

        trainer = SharedPrefix(
            model=model,
            args=arguments,
            train_dataset=drawn,
            processing_class=AutoTokenizer.from_pretrained(base_model),
            callbacks=[progress.Progress(report)],
        )
        result = progress.run(trainer, out)
        adapters.save(trainer.model, out / "adapter", base=Path(base_model).name)
        history = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        return {
            "steps": self.steps,
            "rows": len(rows),
            "distinct_outputs": len({row["completion"] for row in rows}),
            "rows_seen": len(set(order)),
            "loss_first": history[0],
            "loss_last": history[-1],
            "train_loss": result.training_loss,
        }


def schedule(outputs: Sequence[str], weights: Sequence[float], *, n: int, seed: int) -> list[int]:
    """The rows to train on, in order: n draws, every row before any comes again within its output.

    Outputs are drawn by the square root of their weight in the log. A queue that gets few tickets is then seen often
    enough to be learned, and one odd output does not weigh as much as a common one.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    mass: defaultdict[str, float] = defaultdict(float)
    for output, weight in zip(outputs, weights, strict=True):
        mass[output] += weight
    names = sorted(mass)
    share = np.sqrt([mass[name] for name in names])
    picked = rng.choice(len(names), size=n, p=share / share.sum())
    members = {name: [at for at, output in enumerate(outputs) if output == name] for name in names}
    decks: dict[str, list[int]] = {name: [] for name in names}
    order: list[int] = []
    for choice in picked:
        name = names[int(choice)]
        if not decks[name]:
            own = np.array([weights[at] for at in members[name]])
            # without replacement, likelier first where a row stands for more of the traffic
            keys = rng.exponential(size=len(own)) / own
            decks[name] = [members[name][at] for at in np.argsort(-keys)]
        order.append(decks[name].pop())
    return order
