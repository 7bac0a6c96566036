"""Credit: what of an episode's outcome each of its calls is worth. One file a method, one line each in ASSIGNERS.

`build(method, options, chat=…, model=…)` gives a protocols.CreditAssigner. The credits of an episode add up to its
advantage: its combined reward less the mean of its task group, or of its agent where the task came once.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from tracemill.errors import ConfigError
from tracemill.protocols import ChatModel, CreditAssigner
from tracemill.rewards.credit.anchor_group import AnchorGroup
from tracemill.rewards.credit.discounted import Discounted
from tracemill.rewards.credit.hindsight import Hindsight
from tracemill.rewards.credit.tool_potential import ToolPotential
from tracemill.rewards.credit.uniform import Uniform
from tracemill.rewards.credit.value_delta import ValueDelta

ASSIGNERS: Mapping[str, Callable[..., CreditAssigner]] = {
    "uniform": Uniform,
    "discounted": Discounted,
    "tool_potential": ToolPotential,
    "anchor_group": AnchorGroup,
    "value_delta": ValueDelta,
    "hindsight": Hindsight,
}

__all__ = ["ASSIGNERS", "build"]


def build(
    method: str, options: Mapping[str, Any] | None = None, *, chat: ChatModel | None = None, model: str | None = None
) -> CreditAssigner:
    """The assigner of a method. Raises ConfigError for an unknown method or option.

    `chat` and `model` are what hindsight asks; the others need none.
    """
    if method not in ASSIGNERS:
        raise ConfigError(f"unknown credit method {method!r}; known: {', '.join(ASSIGNERS)}")
    factory, given = ASSIGNERS[method], dict(options or {})
    taken = inspect.signature(factory).parameters
    known = set(taken) - {"name", "chat", "model"}
    if wrong := sorted(set(given) - known):
        names = ", ".join(sorted(known)) or "none"
        raise ConfigError(f"credit {method!r} has no option {', '.join(wrong)}; known: {names}")
    if "chat" in taken:
        if chat is None or model is None:
            raise ConfigError(f"credit {method!r} asks a model: name one in [endpoint] of tracemill.toml")
        given |= {"chat": chat, "model": model}
    try:
        return factory(**given)
    except TypeError as error:
        raise ConfigError(f"credit {method!r}: {error}") from error
