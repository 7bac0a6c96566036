"""A pseudonym in a prompt's constant text: learned with, never published unbound."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tracemill import client
from tracemill.errors import PublishError
from tracemill.optimize import choosing
from tracemill.pipelines import branches, gating, ingesting, judging, learning, releasing
from tracemill.pipelines.endpoint import open_endpoint

ADDRESS = "desk-lead@acme-shop.example"


def test_a_redacted_constant_is_bound_by_the_operator_or_not_published(desk: Any, tmp_path: Path) -> None:
    for path in (tmp_path / "logs").glob("traces-*.jsonl"):
        plain = "Name the queue of the ticket."
        path.write_text(path.read_text().replace(plain, f"{plain} In doubt ask {ADDRESS}."))
    night = desk.night()
    ingesting.take_in_configured(night)
    judging.score(night)
    judging.mine(night)
    stored = json.dumps(night.select("SELECT * FROM messages").to_pylist(), default=str)
    assert ADDRESS not in stored
    (lesson,), _ = learning.choose(night)
    (slot,) = lesson.site.unbound
    with open_endpoint(night) as endpoint:
        found, _ = branches.search_prompts(night, lesson, endpoint)
        (winner,) = choosing.winner(found)
        (decision,) = gating.judge(night, lesson, [winner], endpoint)
    assert decision.verdict == "PROMOTE", decision.reason

    with pytest.raises(PublishError, match=rf"'{slot}'.*\[bind\.desk\]"):
        releasing.release(night, winner, channel="production", actor="test")
    assert not (tmp_path / "published" / "production").exists()

    told = replace(night, config=replace(desk.config, bind={"desk": {slot: ADDRESS}}))
    releasing.release(told, winner, channel="production", actor="test")
    live = client.live_prompt(tmp_path / "published" / "production")
    others = {name: "x" for name in lesson.site.template.slots if name != slot}
    assert live.messages(**others)[0]["content"] == f"Name the queue of the ticket. In doubt ask {ADDRESS}."
