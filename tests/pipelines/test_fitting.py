"""What reward models learned is kept with what it came from, once, and goes with it."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tracemill.app import settings
from tracemill.pipelines import forgetting, ingesting, judging
from tracemill.pipelines.config import RewardConfig
from tracemill.pipelines.night import Night, rows
from tracemill.warehouse import Lake

NOW = 1_790_000_000_000_000_000
N = 60


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Night, dict[str, int]]]:
    """Runs of a call and a tool each, rated where they are, those of failing tools badly; and what a night wrote."""
    root = tmp_path_factory.mktemp("fitting") / "project"
    root.mkdir()
    records = []
    for at in range(N):
        trace = {"traceId": f"{at + 1:032x}", "startTimeUnixNano": str(NOW + at), "endTimeUnixNano": str(NOW + at + 1)}
        for kind, name in (("chat", "chat"), ("execute_tool", "find")):
            told = {"gen_ai.operation.name": kind, "user.id": f"user-{at % 23}", "session.id": f"s{at}"}
            status = {"code": 2 if at % 2 else 1} if kind == "execute_tool" else {}
            attributes = [{"key": key, "value": {"stringValue": value}} for key, value in told.items()]
            span_id = f"{at:08x}{kind.encode().hex()[:8]}"
            records.append({**trace, "spanId": span_id, "name": name, "status": status, "attributes": attributes})
    log = root / "log.jsonl"
    log.write_text(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": records}]}]}) + "\n")
    config = settings.load(root)
    learned = RewardConfig(kind="learned", options={"min_labels": 10, "buckets": 2, "blocks": 2, "bags": 1})
    config = replace(config, rewards=(RewardConfig(kind="feedback"), RewardConfig(kind="tools"), learned))
    with Lake.create(config.lake_path) as lake:
        night = Night(night_id="n", config=config, lake=lake, clock=lambda: NOW)
        ingesting.take_in(night, [log])
        rate(night)
        yield night, dict(judging.score(night))


def rate(night: Night) -> None:
    given = [
        {"score_id": f"r{at}", "target_kind": "trajectory", "target_id": f"{at + 1:032x}", "name": "reward",
         "value": 1.0 - at % 2, "source": "env", "at": NOW}
        for at in range(N)
    ]  # fmt: skip
    with night.lake.transaction("rated") as tx:
        tx.insert("scores", rows("scores", given))


def test_a_night_fits_keeps_and_uses_what_labels_teach(judged: tuple[Night, dict[str, int]]) -> None:
    night, written = judged
    assert written["learned"] == N
    (kept,) = night.select("SELECT * FROM reward_models").to_pylist()
    assert (kept["name"], kept["kind"], kept["n_train"]) == ("learned", "learned", N)
    assert sorted(kept["lineage"]) == [f"{at + 1:032x}" for at in range(N)]
    said = night.select("SELECT target_id, value, version FROM scores WHERE name = 'learned'").to_pylist()
    assert {row["version"] for row in said} == {kept["version"]}
    # How the lake's key parts the users may leave one half too few others to learn from: there it abstains.
    known = {int(row["target_id"], 16): row["value"] for row in said if row["value"] is not None}
    good = [value for target, value in known.items() if target % 2 == 1]
    bad = [value for target, value in known.items() if target % 2 == 0]
    assert min(good) > 0.5 > max(bad)


def test_a_second_night_without_more_labels_changes_nothing(judged: tuple[Night, dict[str, int]]) -> None:
    night, _ = judged
    assert judging.score(night)["learned"] == 0
    assert night.select("SELECT * FROM reward_models").num_rows == 1


def test_what_learned_from_the_forgotten_is_fitted_anew_without_them(
    judged: tuple[Night, dict[str, int]], tmp_path: Path
) -> None:
    of, _ = judged
    shutil.copytree(of.config.root, tmp_path / "project")
    config = replace(of.config, root=tmp_path / "project")
    with Lake.open(config.lake_path) as lake:
        forgotten(replace(of, config=config, lake=lake), tmp_path)


def forgotten(night: Night, tmp_path: Path) -> None:
    (before,) = night.select("SELECT version FROM reward_models")["version"].to_pylist()
    landing = tmp_path / "landing"
    landing.mkdir()
    done = forgetting.forget(night, trace=f"{4:032x}", landing=landing)
    assert done.counts["reward_models"] == 1
    judging.score(night)
    (after,) = night.select("SELECT version, lineage FROM reward_models").to_pylist()
    assert after["version"] != before
    assert f"{4:032x}" not in after["lineage"]
    assert len(after["lineage"]) == N - 1
