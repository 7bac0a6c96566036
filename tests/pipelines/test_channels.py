"""Channels: one bundle each, a way back, and no agent is ever handed another one's prompt."""

from dataclasses import replace
from typing import Any

import pytest

from tracemill.errors import ConfigError
from tracemill.pipelines import learning, releasing


def test_an_agent_has_its_own_channel_where_the_settings_say_so(desk: Any) -> None:
    config = replace(desk.config, gate=replace(desk.config.gate, channel="production.{agent}"))
    assert config.channel("sales/eu desk") == "production.sales-eu-desk"
    assert desk.config.channel("sales") == "production"
    with pytest.raises(ConfigError, match=r"every agent has its own channel.*none yet"):
        releasing.only_channel(replace(desk.night(), config=config))


def test_several_sites_a_night_need_channels_of_their_own(desk: Any) -> None:
    night = replace(desk.night(), config=replace(desk.config, sites_per_night=2))
    with pytest.raises(ConfigError, match=r"production\.\{agent\}"):
        learning.choose(night)
