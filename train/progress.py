"""What every trainer tells while it runs, and checkpoints that are whole or not there."""

import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

_WHOLE = "whole"


class Progress(TrainerCallback):  # type: ignore[misc]
    """Reports step, steps and the metrics of each logged step, and marks checkpoints once they are written."""

    def __init__(self, report: Callable[[Mapping[str, Any]], None]) -> None:
        self._report = report

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
        numbers = {name: value for name, value in (logs or {}).items() if _finite(value)}
        self._report({"step": state.global_step, "steps": state.max_steps, **numbers})

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        # called after the last file of the checkpoint: a kill before this leaves a folder that is not resumed from
        (Path(args.output_dir) / f"checkpoint-{state.global_step}" / _WHOLE).touch()


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def last_checkpoint(folder: Path) -> str | None:
    """The newest whole checkpoint; torn ones are removed."""
    if not folder.is_dir():
        return None
    for found in folder.glob("checkpoint-*"):
        if not (found / _WHOLE).exists():
            shutil.rmtree(found)
    last = get_last_checkpoint(str(folder))
    return None if last is None else str(last)


def settings(out: Path, *, steps: int, save_every: int, seed: int, learning_rate: float, rows: int) -> dict[str, Any]:
    """Arguments that all TRL trainers share here. One device, no reports to anyone, the newest checkpoint kept."""
    import torch

    gpu = torch.cuda.is_available()
    return {
        "output_dir": str(out / "checkpoints"),
        "max_steps": steps,
        "per_device_train_batch_size": rows,
        "learning_rate": learning_rate,
        "lr_scheduler_type": "linear",
        "warmup_steps": max(1, steps // 10),
        "logging_steps": 1,
        "save_steps": save_every,
        "save_total_limit": 2,
        "seed": seed,
        "data_seed": seed,
        "bf16": gpu,
        "use_cpu": not gpu,
        "activation_checkpointing": False,
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_pin_memory": gpu,
        "remove_unused_columns": False,
    }


def run(trainer: Any, out: Path) -> Any:
    """Trains from the last whole checkpoint under `out`, or from the start; TRL's result."""
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)  # it prints where our progress lines go
    return trainer.train(resume_from_checkpoint=last_checkpoint(out / "checkpoints"))
