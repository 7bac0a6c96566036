"""Key and price of `[endpoint]`: every request carries the one, every answer is booked at the other."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tracemill.app import settings
from tracemill.errors import ConfigError, EndpointError, PublishError
from tracemill.optimize.providers import ProviderModel
from tracemill.pipelines import endpoint as endpoints
from tracemill.pipelines import releasing
from tracemill.pipelines.config import PublishConfig
from tracemill.records import Artifact, ChatRequest

ASK = ChatRequest(model="toy", messages=({"role": "user", "content": "Ticket: my parcel"},))


def test_the_key_goes_along_with_replays_and_with_adapters(desk: Any, endpoint: Any, tmp_path: Path) -> None:
    endpoint.key = "let me in"
    config = replace(desk.config, endpoint=replace(desk.config.endpoint, api_key_env="DESK_KEY"))
    night = replace(desk.night(), config=config, environment={"DESK_KEY": "let me in"})
    tuned = Artifact(prompt={"adapter": "desk-1"}, adapter_path=str(tmp_path))
    with endpoints.open_endpoint(night) as opened:
        (said,) = opened.chat.complete([ASK])
        assert said.text == "billing"
        endpoints.ensure_adapter(opened, tuned)
        assert endpoint.adapters == {"desk-1": str(tmp_path)}
        assert "let me in" not in repr(opened)
    with (
        endpoints.open_endpoint(desk.night()) as opened,
        pytest.raises((ConfigError, EndpointError), match="who are you"),
    ):
        endpoints.ensure_adapter(opened, tuned)


def test_a_published_adapter_is_loaded_with_the_key_of_its_server(desk: Any, endpoint: Any) -> None:
    endpoint.key = "let me in"
    place = PublishConfig(kind="endpoint", url=endpoint.url, api_key_env="DESK_KEY")
    config = replace(desk.config, publish=(place,))
    (server,) = releasing.publishers(config, {"DESK_KEY": "let me in"})
    assert server.loaded() == {"toy"}  # type: ignore[attr-defined]
    (stranger,) = releasing.publishers(replace(config, publish=(replace(place, api_key_env=None),)), {})
    with pytest.raises(PublishError, match="who are you"):
        stranger.loaded()  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="DESK_KEY, which the settings name, is not set"):
        releasing.publishers(config, {})


def test_a_price_makes_calls_cost(desk: Any, endpoint: Any, tmp_path: Path) -> None:
    raw = {"endpoint": {"base_url": endpoint.url, "usd_per_million": [2, 10.0]}}
    night = replace(desk.night(), config=settings.parse(raw, root=tmp_path, where="test"))
    with endpoints.open_endpoint(night) as opened:
        (said,) = opened.chat.complete([ASK])
    assert said.cost_usd == pytest.approx((50 * 2 + 1 * 10) / 1e6)
    with pytest.raises(ConfigError, match=r"usd_per_million"):
        settings.parse({"endpoint": {"usd_per_million": [1]}}, root=tmp_path, where="test")
    with pytest.raises(ConfigError, match=r"usd_per_million"):
        settings.parse({"endpoint": {"usd_per_million": [1, -1]}}, root=tmp_path, where="test")


def test_a_providers_model_is_an_endpoint_that_serves_no_adapters(desk: Any, tmp_path: Path) -> None:
    pytest.importorskip("litellm")
    raw = {"endpoint": {"model": "openai/gpt-5.2"}, "optimize": {"reflection_model": "anthropic/claude"}}
    night = replace(desk.night(), config=settings.parse(raw, root=tmp_path, where="test"))
    assert endpoints.configured(night)
    with endpoints.open_endpoint(night) as opened:
        assert (opened.model, opened.chat.models()) == ("openai/gpt-5.2", frozenset())
        with pytest.raises(ConfigError, match="serves no adapters"):
            endpoints.ensure_adapter(opened, Artifact(prompt={"adapter": "desk-1"}, adapter_path=str(tmp_path)))
    assert isinstance(endpoints.capable(night, "anthropic/claude"), ProviderModel)
    nobody = replace(night, config=settings.parse({"endpoint": {"model": "gpt"}}, root=tmp_path, where="test"))
    assert not endpoints.configured(nobody)
    with pytest.raises(ConfigError, match="a model of a provider"), endpoints.open_endpoint(nobody):
        pass
