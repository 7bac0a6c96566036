"""A whole night on real parts: DuckLake, Prefect, HTTP; only the model behind the endpoint is a rule.

The first is run as deployed: the flow gets a folder and runs that project's night as `tracemill nightly` would.
"""

import json
import time
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from toy_settings import SETTINGS

from tracemill import client
from tracemill.errors import BusyError, ConfigError, QueryError
from tracemill.pipelines import flows, forgetting, gating, ingesting, learning, releasing
from tracemill.warehouse import sql

pytestmark = [
    pytest.mark.usefixtures("orchestrator"),
    pytest.mark.skipif(find_spec("prefect") is None, reason="prefect is not installed"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class First:
    """A project after its first night, which the deployed flow ran; for tests that only look."""

    desk: Any
    verdicts: dict[str, str]
    asked: int

    def select(self, statement: str, *parameters: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.desk.night("look").select(statement, *parameters).to_pylist()
        return found


@pytest.fixture(scope="module")
def first(orchestrator: None, toy_logs: Any, attended: Any, tmp_path_factory: pytest.TempPathFactory) -> First:
    from tracemill.app.scheduled import scheduled_nightly

    root = tmp_path_factory.mktemp("first") / "project"
    root.mkdir()
    toy_logs(root, range(100))
    desk = attended(root)
    (root / "tracemill.toml").write_text(SETTINGS.format(url=desk.endpoint.url))
    verdicts = scheduled_nightly(str(root))
    return First(desk=desk, verdicts=verdicts, asked=len(desk.endpoint.asked))


def test_a_night_turns_logs_into_a_better_published_prompt(first: First) -> None:
    assert first.select("SELECT count(*) AS n FROM trajectories") == [{"n": 100}]
    (decision,) = first.select("SELECT * FROM verdicts")
    assert decision["verdict"] == "PROMOTE", decision["reason"]
    assert decision["candidate_mean"] > 0.9
    assert first.verdicts == {decision["candidate_id"]: "PROMOTE"}
    (release,) = first.select("SELECT * FROM releases WHERE candidate_id = ?", decision["candidate_id"])
    live = client.live_prompt(first.desk.config.root / "published" / "production")
    assert live.bundle_id == release["bundle_id"]
    answers = {turn["content"] for turn in live.messages(ticket="Where is my parcel?") if turn["role"] == "assistant"}
    assert answers == {"billing", "shipping", "returns", "account"}

    stages = {row["stage"]: row["status"] for row in first.select("SELECT stage, status FROM runs")}
    assert stages == {
        **dict.fromkeys(("ingest", "score", "mine", "optimize", "gate", "publish", "upkeep"), "ok"),
        "train": "skipped",
    }


def test_what_a_night_tunes_on_and_learns_from_is_not_what_it_is_judged_by(first: First) -> None:
    tuned_on = first.select(
        "SELECT DISTINCT t.pool FROM evaluations e JOIN trajectories t ON e.case_id = t.trajectory_id || '/0' "
        "WHERE e.purpose = 'tune'"
    )
    assert tuned_on == [{"pool": "learn"}]
    lineage = first.select("SELECT DISTINCT unnest(lineage) AS trajectory_id FROM candidates WHERE branch = 'prompt'")
    learnt_from = first.select(
        "SELECT DISTINCT pool FROM trajectories WHERE trajectory_id IN (SELECT unnest(?))",
        sorted(row["trajectory_id"] for row in lineage),
    )
    assert learnt_from == [{"pool": "learn"}]


def test_the_same_night_again_takes_in_nothing_pays_for_no_call_and_brings_back_nothing_that_was_taken_back(
    first: First,
) -> None:
    """The only one that goes on with the first night, after those that look at it."""
    desk, published = first.desk, first.desk.config.root / "published" / "production"
    (promoted,) = first.verdicts
    later = replace(desk.night("night-2"), clock=time.time_ns)  # the deployed flow went by the real clock
    taken_back = client.live_prompt(published).bundle_id
    back = releasing.rollback(later, channel="production", actor="test")
    assert client.live_prompt(published).bundle_id == back.bundle_id != taken_back

    again = flows.nightly(later)
    assert again.ingested["spans"] == 0
    assert sum(again.scored.values()) == 0
    assert len(desk.endpoint.asked) == first.asked
    assert promoted in {one.candidate_id for one in again.decisions if one.verdict == "PROMOTE"}
    assert not again.releases
    assert client.live_prompt(published).bundle_id == back.bundle_id
    stage = later.select("SELECT detail FROM runs WHERE stage = 'publish' AND night_id = 'night-2'")
    assert "was rolled back" in stage["detail"][0].as_py()


def test_the_scheduled_flow_reads_the_settings_when_a_run_begins(tmp_path: Path) -> None:
    from tracemill.app.scheduled import scheduled_nightly

    (tmp_path / "tracemill.toml").write_text('[optimize]\noptimizers = ["gepa"]\n')
    with pytest.raises(ConfigError, match="reflection_model"):
        scheduled_nightly(str(tmp_path))


@pytest.mark.slow
def test_labels_without_meaning_promote_nothing(desk: Any, tmp_path: Path) -> None:
    rows = sorted((tmp_path / "logs").glob("reviews-*.jsonl"))
    for path in rows:
        reviews = [json.loads(line) for line in path.read_text().splitlines()]
        queues = [review["correction"] for review in reviews]
        # Every label moves to a ticket of another queue and wording: still all there, and worth nothing.
        for place, review in enumerate(reviews):
            review["correction"] = queues[(place * 37 + 11) % len(queues)]
            review["value"] = None
        path.write_text("".join(json.dumps(review) + "\n" for review in reviews))
    report = flows.nightly(desk.night())
    assert not report.releases
    assert all(decision.verdict != "PROMOTE" for decision in report.decisions)


@pytest.mark.slow
def test_a_candidate_that_was_not_decided_comes_again_with_new_logs(desk: Any) -> None:
    config = replace(desk.config, gate=replace(desk.config.gate, max_cases=12, alpha=1e-3))
    first = flows.nightly(replace(desk.night(), config=config))
    assert [one.verdict for one in first.decisions] == ["CONTINUE"], first.decisions
    desk.log(range(100, 140))
    still = replace(config, optimize=replace(config.optimize, enabled=False))
    second = flows.nightly(replace(desk.night("night-2"), config=still))
    assert [one.candidate_id for one in second.decisions] == [first.decisions[0].candidate_id]
    assert second.decisions[0].n_clusters == 24
    assert second.releases


def test_without_a_model_the_night_says_so_and_keeps_what_it_took_in(desk: Any) -> None:
    config = replace(desk.config, endpoint=replace(desk.config.endpoint, base_url=None))
    report = flows.nightly(replace(desk.night(), config=config))
    assert report.ingested["trajectories"] == 100
    assert any("no model to replay with" in reason for reason in report.left_out)


def test_a_second_nightly_run_at_the_same_time_is_refused(desk: Any) -> None:
    from filelock import FileLock

    with FileLock(desk.config.path(".tracemill/nightly.lock")), pytest.raises(BusyError, match="another nightly run"):
        flows.nightly.fn(desk.night())


def test_a_dead_endpoint_a_failed_branch_and_failed_upkeep_name_themselves_and_cost_nothing_else(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = replace(desk.config, endpoint=replace(desk.config.endpoint, base_url="http://127.0.0.1:9/v1"))
    with pytest.raises(Exception, match=r"127\.0\.0\.1:9"):
        flows.nightly(replace(desk.night(), config=dead))

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("tracemill.warehouse.upkeep.checkpoint", refuse)
    config = replace(desk.config, train=replace(desk.config.train, base_model="nobody/knows-this"))
    report = flows.nightly(replace(desk.night("night-2"), config=config))
    assert report.ingested["spans"] == 0
    assert report.releases
    assert [reason for reason in report.left_out if reason.startswith("train failed: unknown model")]
    *_, reason = report.left_out
    assert reason.startswith("upkeep failed: ")
    assert "no space left" in reason
    rows = desk.night().select("SELECT status, detail FROM runs WHERE stage = 'upkeep'").to_pylist()
    assert [row["status"] for row in rows] == ["failed"]
    assert "no space left" in rows[0]["detail"]


def test_the_gate_judges_on_cases_that_the_branches_never_saw(mined: Any) -> None:
    night = mined.night()
    (lesson,), _ = learning.choose(night)
    seen = {case.task_group for case in lesson.learn}
    reserved = {case.task_group for case in gating.gate_cases(night, lesson, [])}
    assert len(reserved) >= 20
    assert not seen & reserved
    assert not {case.task_group for case in lesson.train} & {case.task_group for case in lesson.tune}


@pytest.mark.slow
def test_what_a_night_learned_from_is_asked_as_it_was(desk: Any, endpoint: Any) -> None:
    night = desk.night("2026-11-22T02-00")
    quiet = replace(night, config=replace(desk.config, gate=replace(desk.config.gate, auto_promote=False)))
    flows.nightly(quiet)
    desk.log(range(100, 110))
    ingesting.take_in_configured(desk.night("by hand"))

    def ask(statement: str, snapshot: int | None = None) -> list[dict[str, Any]]:
        return list(sql.query(desk.lake, statement, snapshot=snapshot).to_pylist())

    read = sql.night_snapshot(desk.lake, "2026-11-22")
    assert ask("SELECT night_id, status, snapshot_id FROM nights") == [
        {"night_id": "2026-11-22T02-00", "status": "ok", "snapshot_id": read}
    ]
    assert {row["snapshot_id"] for row in ask("SELECT snapshot_id FROM candidates")} == {read}
    assert {row["snapshot_id"] for row in ask("SELECT snapshot_id FROM verdicts")} == {read}
    stages = {row["stage"]: row["snapshot_id"] for row in ask("SELECT stage, snapshot_id FROM runs")}
    assert stages["ingest"] < stages["score"] < stages["mine"] < read
    assert stages["optimize"] == stages["train"] == stages["gate"] == read < stages["upkeep"]

    count = "SELECT count(*) AS n, count(pool) AS pooled FROM trajectories"
    assert ask(count) == [{"n": 110, "pooled": 110}]
    assert ask(count, read) == [{"n": 100, "pooled": 100}]
    # What it read is whole: judged and mined, and nothing of what it then proposed.
    assert ask("SELECT count(*) AS n FROM site_health WHERE mean_reward IS NOT NULL", read) == [{"n": 1}]
    assert ask("SELECT count(*) AS n FROM candidates", read) == [{"n": 0}]
    lineage = {one for row in ask("SELECT lineage FROM candidates") for one in row["lineage"] or []}
    assert lineage
    assert lineage <= {row["trajectory_id"] for row in ask("SELECT trajectory_id FROM trajectories", read)}

    forgetting.forget(desk.night("forget"), trace=min(lineage), landing=desk.config.landing_path)
    with pytest.raises(QueryError, match="somebody was forgotten since"):
        sql.night_snapshot(desk.lake, "2026-11-22")
    assert ask("SELECT count(*) AS n FROM trajectories") == [{"n": 109}]
