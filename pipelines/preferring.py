"""Labels to heads that prefer: one training job for each cell of users and times, each in a process of its own."""

import json
import shutil
from pathlib import Path

from tracemill.ids import content_id
from tracemill.pipelines.night import Night
from tracemill.rewards.preference import Preference
from tracemill.train import TrainJob, launch
from tracemill.train.preference import pairs


def trained(night: Night, model: Preference) -> Preference:
    """The model with heads as tonight's labels teach them; as it is where there is nothing new to learn.

    A job that was interrupted goes on from its checkpoint; cells that learn from the same pairs share one head.
    """
    with night.judge(model.name) as con:
        lesson = model.lesson(con)
    if lesson is None:
        return model
    work = night.config.work_path / "preference"
    heads: dict[str, tuple[str, str]] = {}
    for done, (cell, transcripts) in enumerate(lesson.cells.items()):
        night.tell("score", f"heads of {model.name}", done, len(lesson.cells))
        rows = pairs(transcripts, seed=model.seed)
        if not rows.table.num_rows:
            continue
        named = content_id(model.base_model, model.steps, model.max_tokens, model.seed, rows.table.to_pylist())
        texts = rows.write(work / f"{named}.parquet")
        result = launch(
            TrainJob(
                trainer="preference",
                base_model=night.config.model(model.base_model),
                cache=night.config.work_path / "models",
                datums=texts,
                out=work / named,
                options={"steps": model.steps, "max_tokens": model.max_tokens},
                seed=model.seed,
                threads=night.config.train.threads,
            )
        )
        texts.unlink()  # what was logged lies in the lake alone, where it can be forgotten
        if result.adapter is not None and result.content_hash is not None:
            heads[cell] = (_relative(result.adapter, night.config.root), result.content_hash)
    return model.trained(lesson, heads) if heads else model


def cleared(night: Night) -> list[str]:
    """Deletes the heads, checkpoints and texts that no version in the lake names: they learned from what is forgotten,
    or were not finished. What was deleted.
    """
    work = night.config.work_path / "preference"
    if not work.is_dir():
        return []
    kept: set[Path] = set()
    for state in night.select("SELECT state FROM reward_models WHERE kind = 'preference'")["state"].to_pylist():
        for head in json.loads(state or "{}").get("heads", {}).values():
            folder = (night.config.root / head["folder"]).resolve()
            kept |= {folder, *folder.parents}
    gone = [entry for entry in sorted(work.iterdir()) if entry.resolve() not in kept]
    for entry in gone:
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    return [str(entry) for entry in gone]


def _relative(folder: Path, root: Path) -> str:
    return (
        str(folder.resolve().relative_to(root.resolve()))
        if folder.resolve().is_relative_to(root.resolve())
        else str(folder)
    )
