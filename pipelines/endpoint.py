"""The model that replays cases: a configured server, or a small model that is served for as long as it is needed."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tracemill.errors import ConfigError
from tracemill.optimize.endpoint import HttpChatModel
from tracemill.optimize.providers import ProviderModel
from tracemill.pipelines.config import EndpointConfig
from tracemill.pipelines.night import Night
from tracemill.protocols import ChatModel
from tracemill.records import Artifact
from tracemill.train import serving


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A reachable OpenAI-compatible server, or a provider's model by LiteLLM's name."""

    base_url: str
    """Of a provider the name of the model."""
    model: str | None
    """The base model's name there; None: whatever name a site's logs give."""
    chat: HttpChatModel | ProviderModel
    params: Mapping[str, Any]
    """For artifacts that do not say how to sample."""
    key: str | None = field(default=None, repr=False)


def configured(night: Night) -> bool:
    """True where replays are possible at all."""
    settings = night.config.endpoint
    return bool(settings.base_url or settings.local or _of_a_provider(settings))


@contextmanager
def open_endpoint(night: Night) -> Iterator[Endpoint]:
    """The endpoint of `[endpoint]`. A local model is started first and stopped at the end."""
    settings = night.config.endpoint
    key = api_key(night.environment, settings.api_key_env)
    if settings.base_url is not None:
        yield _endpoint(night, settings.base_url, settings.model, key)
        return
    if settings.local is None and settings.model is not None and _of_a_provider(settings):
        chat = ProviderModel(
            settings.model, api_key=key, concurrency=settings.concurrency, timeout_s=settings.timeout_s
        )
        yield Endpoint(base_url=settings.model, model=settings.model, chat=chat, params=settings.params, key=key)
        return
    if settings.local is None:
        raise ConfigError(
            "no model to replay with: set base_url or local in [endpoint], or a model of a provider (openai/gpt-5.2)"
        )
    with serving.start(
        night.config.model(settings.local),
        cache=night.config.work_path / "models",
        log=night.config.work_path / "model-server.log",
        threads=settings.threads,
        on_progress=lambda said: night.tell("endpoint", said),
    ) as server:
        yield _endpoint(night, server.base_url, settings.model or server.model, key)


def _of_a_provider(settings: EndpointConfig) -> bool:
    return settings.model is not None and "/" in settings.model


def capable(night: Night, model: str) -> ChatModel:
    """The model of `[optimize]` that writes prompts: at its own server, else its provider's."""
    settings = night.config.optimize
    key = api_key(night.environment, settings.reflection_key_env)
    if settings.reflection_url is not None:
        return HttpChatModel(settings.reflection_url, api_key=key)
    return ProviderModel(model, api_key=key)


def _endpoint(night: Night, base_url: str, model: str | None, key: str | None) -> Endpoint:
    settings = night.config.endpoint
    chat = HttpChatModel(
        base_url,
        api_key=key,
        concurrency=settings.concurrency,
        timeout_s=settings.timeout_s,
        usd_per_million_tokens=settings.usd_per_million,
    )
    return Endpoint(base_url=base_url, model=model, chat=chat, params=settings.params, key=key)


def api_key(environment: Mapping[str, str], variable: str | None) -> str | None:
    """The key in an environment variable. ConfigError where it is named but not set."""
    if variable is None:
        return None
    key = environment.get(variable, "").strip()  # a line's end is no part of it, and would be told in errors
    if not key:
        raise ConfigError(f"the environment variable {variable}, which the settings name, is not set")
    return key


def ensure_adapter(endpoint: Endpoint, artifact: Artifact) -> None:
    """Makes the endpoint serve the artifact's adapter, where it has one; its name tells the weights."""
    name = artifact.prompt.get("adapter")
    if name is None or artifact.adapter_path is None:
        return
    if isinstance(endpoint.chat, ProviderModel):
        raise ConfigError(
            f"{endpoint.base_url} is a provider's model: it serves no adapters; give [endpoint] a base_url"
        )
    if name not in endpoint.chat.models():
        serving.load_adapter(endpoint.base_url, str(name), Path(artifact.adapter_path), api_key=endpoint.key)
