"""What a night would find out at the end of its work, asked before it begins: `doctor` shows it, a night refuses."""

from typing import Any

from tracemill.app import settings
from tracemill.errors import ConfigError
from tracemill.optimize import optimizers
from tracemill.pipelines.config import Config
from tracemill.train import registry as trainers


def demand(config: Config) -> None:
    """Raises ConfigError where a learning branch of these settings cannot run. Calls nobody."""
    prompt_branch(config)
    weights_branch(config)


def prompt_branch(config: Config) -> str | None:
    """The optimizers, each made once on trial. None where the branch is off; ConfigError where one cannot be made."""
    chosen = config.optimize
    if not chosen.enabled:
        return None
    if chosen.reflection_model is not None and chosen.reflection_url is None:
        raise ConfigError("[optimize] reflection_model needs reflection_url, an OpenAI-compatible endpoint")
    key = chosen.reflection_key_env
    if chosen.reflection_model is not None and key is not None and not settings.environment().get(key):
        raise ConfigError(f"[optimize] reflection_key_env: the environment variable {key} is not set")
    writer: Any = object()  # stands for the model that writes: making an optimizer calls nobody
    for name in sorted({*chosen.optimizers, *chosen.options}):
        needs_writer = name in chosen.optimizers and name in optimizers.NEED_REFLECTION
        if needs_writer and chosen.reflection_model is None:
            raise ConfigError(
                f"[optimize] optimizer {name!r} lets a capable model write instructions: "
                "set reflection_model and reflection_url"
            )
        optimizers.build(name, reflection=writer, **dict(chosen.options.get(name, {})))
    if chosen.tool_descriptions and not optimizers.WRITE_TOOLS.intersection(chosen.optimizers):
        can = " and ".join(sorted(optimizers.WRITE_TOOLS))
        raise ConfigError(f"[optimize] tool_descriptions: none of the optimizers writes any; {can} do")
    return ", ".join(chosen.optimizers)


def weights_branch(config: Config) -> str | None:
    """The trainer, made once on trial. None where the branch is off; ConfigError where it cannot be made."""
    chosen = config.train
    if not chosen.enabled or chosen.base_model is None:
        return None
    for name in sorted(({chosen.trainer} - {"auto"}) | set(chosen.options)):
        trainers.build(name, chosen.options.get(name, {}), seed=0, init_adapter=None)
    return chosen.trainer
