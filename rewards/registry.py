"""Which reward models and verifiers there are, by the kind that a configuration names. One line each."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tracemill.errors import ConfigError
from tracemill.protocols import RewardModel, Verifier
from tracemill.rewards.exact_match import ExactMatch
from tracemill.rewards.feedback import Feedback
from tracemill.rewards.json_schema import JsonSchema
from tracemill.rewards.judge import Judge
from tracemill.rewards.learned import Learned
from tracemill.rewards.numeric import Numeric
from tracemill.rewards.preference import Preference
from tracemill.rewards.python_callable import PythonCallable
from tracemill.rewards.ranker import Ranker
from tracemill.rewards.regex import Regex
from tracemill.rewards.signals import Signals
from tracemill.rewards.sql_execution import SqlExecution
from tracemill.rewards.sql_expression import SqlExpression
from tracemill.rewards.tool_steps import ToolSteps
from tracemill.rewards.tools import ToolStatus
from tracemill.rewards.verifying import VerifiedLogs


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardSpec:
    """One configured reward: what kind, under which name its scores stand, and the options of its kind."""

    kind: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


MODELS: Mapping[str, Callable[..., RewardModel]] = {
    "feedback": Feedback,
    "signals": Signals,
    "tools": ToolStatus,
    "tool_steps": ToolSteps,
    "sql_expression": SqlExpression,
    "judge": Judge,
    "ranker": Ranker,
    "learned": Learned,
    "preference": Preference,
}
VERIFIERS: Mapping[str, Callable[..., Verifier]] = {
    "exact_match": ExactMatch,
    "json_schema": JsonSchema,
    "numeric": Numeric,
    "python": PythonCallable,
    "regex": Regex,
    "sql_execution": SqlExecution,
}
_NEEDS_TRUTH = ("exact_match", "numeric", "sql_execution")
"""Verifiers that abstain wherever nobody knows what is right: they need not look at other trajectories."""
_FILLED_IN = ("state", "lineage", "chat", "tell", "embedder")
"""What fitting fills in, and whoever has a model to ask, somebody to tell, an embedder; no options."""
_LOGGED = ("agent", "skip_output")
"""Options of a verifier's spec that say which logged outputs it judges; a replayed output is always judged."""


def build(specs: Sequence[RewardSpec], *, root: Path) -> list[RewardModel]:
    """The reward models of a configuration, in its order. Relative paths in options are under `root`.

    Raises ConfigError for an unknown kind or option, and for two specs of one name.
    """
    names = [spec.name for spec in specs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"several rewards are named {', '.join(twice)}; their scores would mix, rename one")
    return [_model(spec, root) for spec in specs]


def build_verifier(spec: RewardSpec, root: Path) -> Verifier:
    """The verifier of a spec. Raises ConfigError where its kind judges logs only."""
    if spec.kind not in VERIFIERS:
        if spec.kind in MODELS:
            raise ConfigError(
                f"reward {spec.name!r}: {spec.kind} judges what was logged and cannot verify a replayed output; "
                f"verifiers: {', '.join(sorted(VERIFIERS))}"
            )
        raise _unknown(spec)
    options = {key: value for key, value in spec.options.items() if key not in _LOGGED}
    verifier: Verifier = _make(VERIFIERS[spec.kind], spec, options, root)
    return verifier


def _model(spec: RewardSpec, root: Path) -> RewardModel:
    if spec.kind in MODELS:
        model: RewardModel = _make(MODELS[spec.kind], spec, dict(spec.options), root)
        return model
    verifier = build_verifier(spec, root)
    logged = {key: value for key, value in spec.options.items() if key in _LOGGED}
    return VerifiedLogs(verifier=verifier, needs_truth=spec.kind in _NEEDS_TRUTH, **logged)


def _make(factory: Callable[..., Any], spec: RewardSpec, options: dict[str, Any], root: Path) -> Any:
    known = set(inspect.signature(factory).parameters) - {"name", "root", *_FILLED_IN}
    if wrong := sorted(set(options) - known):
        names = ", ".join(sorted(known)) or "none"
        raise ConfigError(f"reward {spec.name!r}: kind {spec.kind} has no option {', '.join(wrong)}; known: {names}")
    if "root" in inspect.signature(factory).parameters:
        options["root"] = root
    try:
        return factory(name=spec.name, **options)
    except TypeError as error:
        raise ConfigError(f"reward {spec.name!r} of kind {spec.kind}: {error}") from error


def _unknown(spec: RewardSpec) -> ConfigError:
    known = ", ".join(sorted([*MODELS, *VERIFIERS]))
    return ConfigError(f"reward {spec.name!r}: unknown kind {spec.kind!r}; known: {known}")
