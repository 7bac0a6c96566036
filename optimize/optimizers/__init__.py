"""The optimizer registry: a new optimizer is one file, one line here, one line in its contract test.

Factories take knobs as keywords and fail early: `gepa` and `mipro` raise ConfigError without a model that writes.
"""

from collections.abc import Callable

from tracemill.optimize.optimizers.gepa import Gepa
from tracemill.optimize.optimizers.labeled_few_shot import LabeledFewShot
from tracemill.optimize.optimizers.mipro import Mipro
from tracemill.optimize.optimizers.nearest import Nearest
from tracemill.optimize.optimizers.random_search import RandomSearch
from tracemill.protocols import Optimizer

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "labeled_few_shot": LabeledFewShot,
    "random_search": RandomSearch,
    "nearest": Nearest,
    "gepa": Gepa,
    "mipro": Mipro,
}
"""By the name that configuration uses and candidates carry."""
