"""LoRA adapters: made, opened for more training, and saved so that the folder's name is its content."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tracemill.errors import ConfigError

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The linear layers of a Llama or Qwen block; layers_to_transform needs names, not "all-linear"."""


def attach(
    model_folder: Path, *, init_adapter: Path | None, rank: int, alpha: int, top_layers: int | None, seed: int
) -> Any:
    """The base model in float32 with a trainable adapter: a fresh one, or `init_adapter` to go on from.

    `top_layers` puts the fresh adapter on that many last blocks only, which spares the gradient of the others.
    """
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    if init_adapter is not None:
        if not (init_adapter / CONFIG).is_file():
            raise ConfigError(f"{init_adapter} holds no adapter to go on from")
        opened = PeftModel.from_pretrained(model, init_adapter, is_trainable=True)
        # peft asks the model hub about a base whose name is no folder, each time it writes a checkpoint
        opened.peft_config["default"].base_model_name_or_path = str(model_folder)
        return opened
    blocks = int(model.config.num_hidden_layers)
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules=list(PROJECTIONS),
        layers_to_transform=None if top_layers is None else list(range(max(0, blocks - top_layers), blocks)),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def save(model: Any, folder: Path, *, base: str) -> None:
    """Writes the adapter of a peft model: equal weights give equal bytes, wherever they were trained."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=".adapter-", dir=folder.parent))
    try:
        state = get_peft_model_state_dict(model, save_embedding_layers=False)
        save_file({name: state[name].detach().cpu().contiguous() for name in sorted(state)}, fresh / WEIGHTS)
        config = model.peft_config["default"].to_dict()
        # the path of this machine's cache is nobody's business, and no part of the weights' identity
        config |= {"base_model_name_or_path": base, "inference_mode": True}
        (fresh / CONFIG).write_text(json.dumps(_plain(config), indent=1, sort_keys=True) + "\n", encoding="utf-8")
        fresh.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _plain(value: Any) -> Any:
    """JSON of a config with its sets in order, so that it does not change from process to process."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(str(inner) for inner in value)
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def content_hash(folder: Path) -> str:
    """128-bit hex id of an adapter's weights and configuration; the model card is no part of it."""
    digest = hashlib.sha256()
    for name in (CONFIG, WEIGHTS):
        raw = (folder / name).read_bytes()
        digest.update(len(raw).to_bytes(8, "big"))
        digest.update(raw)
    return digest.hexdigest()[:32]


def model_card(
    *,
    trainer: str,
    base_title: str,
    base_licence: str,
    options: Mapping[str, Any],
    rows: int,
    dropped: Mapping[str, int],
    lineage: Sequence[str],
    snapshot_id: int | None,
    metrics: Mapping[str, Any],
) -> str:
    """README.md of an adapter folder: what it was made of, by what, and under which licence the base stands."""
    front = f"---\nlicense: {base_licence}\nlibrary_name: peft\ntags: [lora, tracemill, {trainer}]\n---\n"
    lost = ", ".join(f"{count} {reason}" for reason, count in dropped.items()) or "none"
    table = "\n".join(f"| {name} | {value} |" for name, value in sorted(metrics.items()))
    knobs = "\n".join(f"| {name} | {value} |" for name, value in sorted(options.items()))
    shown = "\n".join(f"- {trajectory}" for trajectory in lineage)
    return (
        f"{front}\n# LoRA adapter for {base_title}\n\nTrained by tracemill's `{trainer}` on logged agent traffic.\n\n"
        f"* base model: {base_title} (licence: {base_licence})\n* training rows: {rows}; cases dropped: {lost}\n"
        f"* lake snapshot: {'not recorded' if snapshot_id is None else snapshot_id}\n\n"
        f"## Metrics of the training run\n\nThe verdict is the gate's.\n\n| metric | value |\n|---|---|\n{table}\n\n"
        f"## Options\n\n| option | value |\n|---|---|\n{knobs}\n\n## Lineage: {len(lineage)} trajectories\n\n{shown}\n"
    )
