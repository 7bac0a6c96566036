"""Reward models that ask a language model: whom they ask, through the lake's cache, within their budget."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import TypeVar

from tracemill.errors import ConfigError
from tracemill.optimize.endpoint import HttpChatModel
from tracemill.optimize.replay import Budget, Ledger
from tracemill.pipelines import replaying
from tracemill.pipelines.config import Config
from tracemill.pipelines.endpoint import Endpoint, api_key, configured, open_endpoint
from tracemill.pipelines.night import Night
from tracemill.protocols import ChatModel, RewardModel
from tracemill.rewards.llm.asking import AsksModel

_RETRIES = 5
A = TypeVar("A", bound=AsksModel)


def with_somebody_to_ask(night: Night, model: RewardModel, stack: ExitStack) -> RewardModel:
    """The model with its endpoint, which is open as long as `stack`; any that asks nobody as it is.

    Answers are kept in the lake's `replays`: what was paid for once is not asked again. BudgetError where the model's
    `budget_tokens` are used up.
    """
    if not isinstance(model, AsksModel):
        return model
    endpoint = None
    if model.base_url is None:
        if not configured(night):
            raise _nobody(model)
        endpoint = stack.enter_context(open_endpoint(night))
    return on(night, model, endpoint, stage="score")


def on(night: Night, model: A, endpoint: Endpoint | None, *, stage: str, within: Ledger | None = None) -> A:
    """The model with its own endpoint to ask, or with this one where it has none.

    Calls are booked in an account of its own, of `budget_tokens`, `within` the one that they are asked for. `stage` is
    under which it tells what got no answer.
    """
    chat: ChatModel
    if model.base_url is not None:
        chat = HttpChatModel(
            model.base_url,
            api_key=api_key(night.environment, model.api_key_env),
            concurrency=model.concurrency,
            timeout_s=model.timeout_s,
            retries=_RETRIES,
            per_minute=model.per_minute,
        )
        name = model.model or night.config.endpoint.model
    elif endpoint is not None:
        chat, name = endpoint.chat, model.model or endpoint.model
    else:
        raise _nobody(model)
    if name is None:
        raise _nobody(model)
    own = Budget(tokens=model.budget_tokens or None)
    ledger = Ledger(own, within=within, whose=f"reward {model.name!r} (budget_tokens)")
    kept = replaying.cached(night, chat, ledger)
    return model.asking(kept, name, tell=lambda said: night.tell(stage, f"{model.name}: {said}"))


def nobody_there(model: RewardModel) -> RewardModel:
    """The model with nobody to ask any more: its endpoint is dead, and is not waited for again."""
    return replace(model, chat=None) if isinstance(model, AsksModel) else model


def whom(config: Config, model: AsksModel, environment: Mapping[str, str]) -> str:
    """Whom a reward model would ask, in words; calls nobody.

    ConfigError where nobody is configured or the key is not set, MissingExtraError without dspy.
    """
    model.need_dspy()
    if model.base_url is not None:
        api_key(environment, model.api_key_env)
    endpoint = config.endpoint
    url, name = model.base_url or endpoint.base_url or endpoint.local, model.model or endpoint.model
    if url is None or (name is None and (model.base_url is not None or endpoint.base_url is not None)):
        raise _nobody(model)
    return f"{name or endpoint.local} at {url}"


def _nobody(model: AsksModel) -> ConfigError:
    return ConfigError(
        f"reward {model.name!r} asks a language model: set its base_url and model, or those of [endpoint]"
    )
