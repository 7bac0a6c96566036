"""The trainers by name: a new one is a file, a line here and a line in the contract test."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from tracemill.errors import ConfigError
from tracemill.protocols import Trainer
from tracemill.train.grpo import GrpoTrainer
from tracemill.train.preference import PreferenceTrainer
from tracemill.train.sft import SftTrainer

TRAINERS: Mapping[str, type[SftTrainer] | type[GrpoTrainer] | type[PreferenceTrainer]] = {
    "sft": SftTrainer,
    "grpo": GrpoTrainer,
    "preference": PreferenceTrainer,
}


def build(name: str, options: Mapping[str, Any], *, seed: int, init_adapter: Path | None) -> Trainer:
    """A trainer with its knobs. Raises ConfigError for a name or an option that is not known."""
    if name not in TRAINERS:
        raise ConfigError(f"unknown trainer {name!r}; known: {', '.join(sorted(TRAINERS))}")
    kind = TRAINERS[name]
    known = {field.name for field in fields(kind)} - {"seed", "init_adapter"}
    unknown = sorted(set(options) - known)
    if unknown:
        raise ConfigError(f"trainer {name!r} has no option {unknown[0]!r}; it has: {', '.join(sorted(known))}")
    return kind(**options, seed=seed, init_adapter=init_adapter)
