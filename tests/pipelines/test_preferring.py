"""Heads that learned which of two runs went better: trained apart, kept with their lineage, never judging their own."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tracemill.app import settings
from tracemill.pipelines import ingesting, judging
from tracemill.pipelines.config import RewardConfig
from tracemill.pipelines.night import Night, rows
from tracemill.rewards.probes import PERTURBATIONS
from tracemill.warehouse import Lake

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NOW = 1_790_000_000_000_000_000
N = 48
OPTIONS = {"min_labels": 20, "steps": 30, "max_tokens": 96}


@pytest.fixture
def night(tmp_path: Path, tiny: Path) -> Iterator[Night]:
    """Runs that answer one question well or badly, by twelve users."""
    spans = []
    for at in range(N):
        said = {
            "input": [{"role": "user", "parts": [{"type": "text", "content": "where is my parcel"}]}],
            "output": [{"role": "assistant", "parts": [{"type": "text", "content": answer(at)}]}],
        }
        told = {
            "gen_ai.operation.name": "chat",
            "user.id": f"user-{at // 4}",
            "gen_ai.input.messages": json.dumps(said["input"]),
            "gen_ai.output.messages": json.dumps(said["output"]),
        }
        attributes = [{"key": key, "value": {"stringValue": value}} for key, value in told.items()]
        span = {"traceId": f"{at + 1:032x}", "spanId": f"{at + 1:016x}", "name": "chat", "attributes": attributes}
        spans.append(span)
    log = tmp_path / "log.jsonl"
    log.write_text(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}) + "\n")
    config = settings.load(tmp_path)
    kind = RewardConfig(kind="preference", options={**OPTIONS, "base_model": str(tiny)})
    config = replace(config, rewards=(RewardConfig(kind="feedback"), kind))
    with Lake.create(config.lake_path) as lake:
        night = Night(night_id="n", config=config, lake=lake, clock=lambda: NOW)
        ingesting.take_in(night, [log])
        given = [
            {"score_id": f"r{at}", "target_kind": "trajectory", "target_id": f"{at + 1:032x}", "name": "reward",
             "value": 1.0 - at % 2, "source": "env", "at": NOW}
            for at in range(N)
        ]  # fmt: skip
        with lake.transaction("rated") as tx:
            tx.insert("scores", rows("scores", given))
        yield night


def answer(at: int) -> str:
    return "it comes tomorrow, by the van" if at % 2 == 0 else "no no no idea at all"


def test_a_night_trains_heads_and_judges_with_those_that_saw_neither_user_nor_time(night: Night) -> None:
    assert judging.score(night)["preference"] == N
    (kept,) = night.select("SELECT * FROM reward_models").to_pylist()
    assert (kept["kind"], kept["n_train"], len(kept["lineage"])) == ("preference", N, N)
    state = json.loads(kept["state"])
    assert state["heads"]
    said = {
        row["target_id"]: row["value"]
        for row in night.select("SELECT target_id, value FROM scores WHERE name = 'preference'").to_pylist()
    }
    judged = {int(name, 16) - 1: value for name, value in said.items() if value is not None}
    assert len(judged) == N
    good = [value for at, value in judged.items() if at % 2 == 0]
    bad = [value for at, value in judged.items() if at % 2 == 1]
    assert sum(good) / len(good) > sum(bad) / len(bad) + 0.1
    (report,) = night.select("SELECT metrics FROM reward_reports WHERE name = 'preference'").to_pylist()
    probes = json.loads(report["metrics"])["probes"]
    assert {name: probe["n"] for name, probe in probes.items()} == dict.fromkeys(PERTURBATIONS, 20)
    assert list(night.config.work_path.rglob("*.parquet")) == []  # no text beside the lake
    assert judging.score(night)["preference"] == 0  # nothing new: no head is trained, nobody judged again
    assert night.select("SELECT * FROM reward_models").num_rows == 1
