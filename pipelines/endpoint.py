"""The model that replays cases: a configured server, or a small model that is served for as long as it is needed."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tracemill.errors import ConfigError
from tracemill.optimize.endpoint import HttpChatModel
from tracemill.pipelines.night import Night
from tracemill.records import Artifact
from tracemill.train import serving


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A reachable OpenAI-compatible server."""

    base_url: str
    model: str | None
    """The base model's name there; None: whatever name a site's logs give."""
    chat: HttpChatModel
    params: Mapping[str, Any]
    """For artifacts that do not say how to sample."""
    key: str | None = field(default=None, repr=False)


def configured(night: Night) -> bool:
    """True where replays are possible at all."""
    return bool(night.config.endpoint.base_url or night.config.endpoint.local)


@contextmanager
def open_endpoint(night: Night) -> Iterator[Endpoint]:
    """The endpoint of `[endpoint]`. A local model is started first and stopped at the end."""
    settings = night.config.endpoint
    key = api_key(night.environment, settings.api_key_env)
    if settings.base_url is not None:
        yield _endpoint(night, settings.base_url, settings.model, key)
        return
    if settings.local is None:
        raise ConfigError("no model to replay with: set base_url or local in [endpoint]")
    with serving.start(
        night.config.model(settings.local),
        cache=night.config.work_path / "models",
        log=night.config.work_path / "model-server.log",
        threads=settings.threads,
        on_progress=lambda said: night.tell("endpoint", said),
    ) as server:
        yield _endpoint(night, server.base_url, settings.model or server.model, key)


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
    key = environment.get(variable)
    if not key:
        raise ConfigError(f"the environment variable {variable}, which the settings name, is not set")
    return key


def ensure_adapter(endpoint: Endpoint, artifact: Artifact) -> None:
    """Makes the endpoint serve the artifact's adapter, where it has one; its name tells the weights."""
    name = artifact.prompt.get("adapter")
    if name is not None and artifact.adapter_path is not None and name not in endpoint.chat.models():
        serving.load_adapter(endpoint.base_url, str(name), Path(artifact.adapter_path), api_key=endpoint.key)
