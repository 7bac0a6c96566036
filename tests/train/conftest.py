"""Adapters of the tiny random model (tests/conftest.py)."""

import warnings
from pathlib import Path

import pytest


def make_adapter(model: Path, folder: Path, *, seed: int) -> Path:
    """Writes a random LoRA adapter that changes what the model says."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    with warnings.catch_warnings():
        # peft 0.21 asks for a name that transformers 5.23 has deprecated
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        tuned = get_peft_model(AutoModelForCausalLM.from_pretrained(model), config)
    with torch.no_grad():
        for name, weight in tuned.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.5)
    tuned.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def adapters(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two adapters of the tiny model, by name."""
    base = tmp_path_factory.mktemp("adapters")
    return {name: make_adapter(tiny, base / name, seed=seed) for seed, name in enumerate(("first", "second"))}
