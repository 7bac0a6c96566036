"""Judgements to credits: the configured assigners share the outcome of each judged episode among its calls."""

from collections.abc import Mapping

from tracemill.errors import ConfigError
from tracemill.optimize.endpoint import HttpChatModel
from tracemill.pipelines.endpoint import api_key
from tracemill.pipelines.night import Night
from tracemill.protocols import ChatModel
from tracemill.rewards import credit


def assign(night: Night) -> Mapping[str, int]:
    """Runs every assigner of `[credit]` over what it has not credited at its reward. Rows written, by "credit METHOD".

    All assigners are built before the first one runs: ConfigError where one cannot be.
    """
    settings = night.config.credit
    chat = _reader(night) if settings.model is not None else None
    assigners = [
        credit.build(method, settings.options.get(method), chat=chat, model=settings.model)
        for method in settings.methods
    ]
    written: dict[str, int] = {}
    for done, assigner in enumerate(assigners):
        night.tell("score", "credits", done, len(assigners))
        with night.learner() as con:
            table = assigner.assign(con)
        with night.lake.transaction(f"{night.night_id}: credit {assigner.name}") as tx:
            written[f"credit {assigner.name}"] = tx.replace("credits", table)
    return written


def _reader(night: Night) -> ChatModel:
    settings = night.config.credit
    if settings.url is None:
        raise ConfigError("[credit] model needs url, an OpenAI-compatible endpoint")
    return HttpChatModel(settings.url, api_key=api_key(night.environment, settings.key_env))
