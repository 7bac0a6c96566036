"""The optimizer registry: a new optimizer is one file, one line here, one line in its contract test.

Factories take knobs as keywords and fail early: those in NEED_REFLECTION without a model that writes.
"""

import inspect
from collections.abc import Callable
from typing import Any

from tracemill.errors import ConfigError
from tracemill.optimize.optimizers.apo import Apo
from tracemill.optimize.optimizers.gepa import Gepa
from tracemill.optimize.optimizers.labeled_few_shot import LabeledFewShot
from tracemill.optimize.optimizers.logged import Logged
from tracemill.optimize.optimizers.mipro import Mipro
from tracemill.optimize.optimizers.nearest import Nearest
from tracemill.optimize.optimizers.playbook import Playbook
from tracemill.optimize.optimizers.random_search import RandomSearch
from tracemill.optimize.search import PromptModel
from tracemill.protocols import Optimizer

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "logged": Logged,
    "labeled_few_shot": LabeledFewShot,
    "random_search": RandomSearch,
    "nearest": Nearest,
    "gepa": Gepa,
    "mipro": Mipro,
    "apo": Apo,
    "playbook": Playbook,
}
"""By the name that configuration uses and candidates carry."""

_WRITER = {"gepa": "reflection", "mipro": "prompt_model", "apo": "reflection", "playbook": "reflection"}
NEED_REFLECTION = frozenset(_WRITER)
"""Optimizers that do nothing without a capable model which writes instructions."""

WRITE_TOOLS = frozenset({"gepa", "apo"})
"""Optimizers that can write what describes a prompt's tools."""


def build(
    name: str,
    *,
    seed: int = 0,
    reflection: PromptModel | None = None,
    tool_descriptions: bool = False,
    **knobs: Any,
) -> Optimizer:
    """An optimizer by its configured name and knobs; lists (TOML has no tuples) are taken for tuples.

    `tool_descriptions`: those in WRITE_TOOLS write these, too, where their knobs do not say otherwise.

    Raises ConfigError for an unknown name or knob, and where `reflection` is needed and None.
    """
    factory = OPTIMIZERS.get(name)
    if factory is None:
        raise ConfigError(f"unknown optimizer {name!r}; known: {', '.join(sorted(OPTIMIZERS))}")
    settings = {key: tuple(value) if isinstance(value, list) else value for key, value in knobs.items()}
    if name in NEED_REFLECTION:
        settings[_WRITER[name]] = reflection
    if tool_descriptions and name in WRITE_TOOLS:
        settings.setdefault("tool_descriptions", True)
    known = set(inspect.signature(factory).parameters) - set(_WRITER.values())
    unknown = sorted(set(knobs) - known)
    if unknown:
        raise ConfigError(f"optimizer {name} has no knob {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    return factory(seed=seed, **settings)
