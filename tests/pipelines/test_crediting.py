"""Credits of a night: after the scores are combined, by the configured methods, once for one reward."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tracemill.app import settings
from tracemill.errors import ConfigError
from tracemill.pipelines import crediting, ingesting, judging
from tracemill.pipelines.config import CreditConfig
from tracemill.pipelines.night import Night, rows
from tracemill.warehouse import Lake

NOW = 1_790_000_000_000_000_000


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Night]:
    config = settings.load(tmp_path)
    with Lake.create(config.lake_path) as lake:
        yield Night(night_id="n", config=config, lake=lake, clock=lambda: NOW)


def judged(night: Night, log: Path, values: dict[str, float]) -> None:
    """Runs of one call each, as somebody rated them."""
    kind = {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}}
    times = {"startTimeUnixNano": str(NOW), "endTimeUnixNano": str(NOW + 1)}
    spans = [
        {"traceId": name * 32, "spanId": name * 16, "name": "chat", **times, "attributes": [kind]} for name in values
    ]
    log.write_text(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}) + "\n")
    ingesting.take_in(night, [log])
    with night.lake.transaction("rated") as tx:
        given: list[dict[str, Any]] = [
            {"score_id": f"s{name}", "target_kind": "trajectory", "target_id": name * 32, "name": "thumbs",
             "value": value, "source": "human", "at": NOW}
            for name, value in values.items()
        ]  # fmt: skip
        tx.insert("scores", rows("scores", given))


def test_a_night_credits_what_it_judged_once(night: Night, tmp_path: Path) -> None:
    values = {name: float(at % 2) for at, name in enumerate("0123456789abcdef")}
    judged(night, tmp_path / "log.jsonl", {name: value for name, value in values.items() if name != "0"})
    assert judging.score(night)["credit uniform"] == 15
    said = night.select("SELECT c.*, pool FROM credits c JOIN trajectories USING (trajectory_id)").to_pylist()
    assert {row["method"] for row in said} == {"uniform"}
    for row in said:
        pool = [values[one["trajectory_id"][0]] for one in said if one["pool"] == row["pool"]]
        assert row["credit"] == pytest.approx(values[row["trajectory_id"][0]] - sum(pool) / len(pool))
    assert judging.score(night)["credit uniform"] == 0


def test_several_methods_stand_side_by_side(night: Night, tmp_path: Path) -> None:
    chosen = CreditConfig(methods=("uniform", "discounted"), options={"discounted": {"gamma": 0.5}})
    night = replace(night, config=replace(night.config, credit=chosen))
    judged(night, tmp_path / "log.jsonl", {"a": 1.0, "b": 0.0})
    written = judging.score(night)
    assert (written["credit uniform"], written["credit discounted"]) == (2, 2)


def test_a_method_that_cannot_be_built_is_told_before_anything_is_written(night: Night, tmp_path: Path) -> None:
    judged(night, tmp_path / "log.jsonl", {"a": 1.0, "b": 0.0})
    judging.score(night)
    for chosen, said in (
        (CreditConfig(methods=("discounted", "magic")), "unknown credit method 'magic'"),
        (CreditConfig(methods=("discounted", "hindsight")), "asks a model"),
        (CreditConfig(methods=("hindsight",), model="m"), "needs url"),
    ):
        with pytest.raises(ConfigError, match=said):
            crediting.assign(replace(night, config=replace(night.config, credit=chosen)))
    assert night.select("SELECT DISTINCT method FROM credits")["method"].to_pylist() == ["uniform"]
