"""Which call sites a night learns from, and why it leaves the others."""

from dataclasses import replace
from typing import Any

import pytest

from tracemill.errors import ConfigError
from tracemill.ids import canonical_json
from tracemill.pipelines import learning
from tracemill.pipelines.night import rows


def test_only_agents_that_the_settings_match_are_learned_from(mined: Any) -> None:
    night = mined.night()
    (lesson,), _ = learning.choose(night)
    name = lesson.site.agent_name
    other = replace(night, config=replace(night.config, agent_match="^somebody else$"))
    lessons, left = learning.choose(other)
    assert lessons == []
    assert left == [f"site {learning.called(lesson.site)}: agent_match is '^somebody else$'"]
    assert learning.choose(other, name)[0], "a site that is asked for by name is learned from"
    assert learning.choose(replace(night, config=replace(night.config, agent_match=name[:3])))[0]


def test_headroom_that_was_measured_counts_for_the_version_it_was_measured_of(mined: Any) -> None:
    night = mined.night()
    (lesson,), _ = learning.choose(night)
    site = lesson.site

    def measured(high: float, ended: int, version: str) -> dict[str, Any]:
        detail = {"site": site.site_id, "site_version": version, "headroom": {"estimate": 0.0, "high": high}}
        return {"night_id": f"n{ended}", "stage": "optimize", "ended_ns": ended, "detail": canonical_json(detail)}

    assert learning.headrooms(night) == {}
    with night.lake.transaction("test") as tx:
        known = [measured(0.5, 1, site.site_version), measured(0.1, 2, site.site_version), measured(0.9, 3, "older")]
        tx.insert("runs", rows("runs", known))
    assert learning.headrooms(night) == {(site.site_id, site.site_version): 0.1, (site.site_id, "older"): 0.9}
    assert [one.site for one in learning.choose(night)[0]] == [site]


def test_two_sites_of_a_night_need_channels_of_their_own(mined: Any) -> None:
    night = mined.night()
    with pytest.raises(ConfigError, match="a channel holds one bundle"):
        learning.choose(replace(night, config=replace(night.config, sites_per_night=2)))
