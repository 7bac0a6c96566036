"""A whole night on real parts: DuckLake, Prefect, HTTP; only the model behind the endpoint is a rule."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tracemill import client
from tracemill.errors import BusyError, QueryError
from tracemill.pipelines import flows, forgetting, gating, ingesting, learning, releasing
from tracemill.warehouse import sql

pytest.importorskip("prefect")


@pytest.fixture(scope="module", autouse=True)
def orchestrator() -> Iterator[None]:
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


def test_a_night_turns_logs_into_a_better_published_prompt(desk: Any, endpoint: Any) -> None:
    report = flows.nightly(desk.night())

    assert report.ingested["trajectories"] == 100
    (decision,) = report.decisions
    assert decision.verdict == "PROMOTE", decision.reason
    assert decision.candidate_mean is not None
    assert decision.candidate_mean > 0.9
    (release,) = report.releases
    live = client.live_prompt(desk.config.root / "published" / "production")
    assert live.bundle_id == release.bundle_id
    answers = {turn["content"] for turn in live.messages(ticket="Where is my parcel?") if turn["role"] == "assistant"}
    assert answers == {"billing", "shipping", "returns", "account"}

    night = desk.night("afterwards")
    stages = {row["stage"]: row["status"] for row in night.select("SELECT stage, status FROM runs").to_pylist()}
    assert stages == {
        **dict.fromkeys(("ingest", "score", "mine", "optimize", "gate", "publish", "upkeep"), "ok"),
        "train": "skipped",
    }
    tuned_on = night.select(
        "SELECT DISTINCT t.pool FROM evaluations e JOIN trajectories t ON e.case_id = t.trajectory_id || '/0' "
        "WHERE e.purpose = 'tune'"
    )
    assert tuned_on["pool"].to_pylist() == ["learn"]
    lineage = night.select("SELECT unnest(lineage) AS trajectory_id FROM candidates WHERE branch = 'prompt'")
    learnt_from = night.select(
        "SELECT DISTINCT pool FROM trajectories WHERE trajectory_id IN (SELECT unnest(?))",
        sorted(set(lineage["trajectory_id"].to_pylist())),
    )
    assert learnt_from["pool"].to_pylist() == ["learn"]

    back = releasing.rollback(night, channel="production", actor="test")
    assert client.live_prompt(desk.config.root / "published" / "production").bundle_id == back.bundle_id
    assert back.bundle_id != release.bundle_id


def test_the_same_night_again_takes_in_nothing_and_pays_for_no_call(desk: Any, endpoint: Any) -> None:
    first = desk.night()
    replace_gate = replace(desk.config, gate=replace(desk.config.gate, auto_promote=False))
    flows.nightly(replace(first, config=replace_gate))
    asked = len(endpoint.asked)
    again = flows.nightly(replace(desk.night("night-2"), config=replace_gate))
    assert again.ingested["spans"] == 0
    assert sum(again.scored.values()) == 0
    assert len(endpoint.asked) == asked


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


def test_upkeep_that_fails_undoes_nothing_and_is_told(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("tracemill.warehouse.upkeep.checkpoint", refuse)
    report = flows.nightly(desk.night())
    assert report.releases
    *_, reason = report.left_out
    assert reason.startswith("upkeep failed: ")
    assert "no space left" in reason
    rows = desk.night().select("SELECT status, detail FROM runs WHERE stage = 'upkeep'").to_pylist()
    assert [row["status"] for row in rows] == ["failed"]
    assert "no space left" in rows[0]["detail"]


@pytest.mark.slow
def test_what_an_operator_took_back_is_not_promoted_again_by_the_next_night(desk: Any) -> None:
    (release,) = flows.nightly(desk.night()).releases
    back = releasing.rollback(desk.night("by-hand"), channel="production", actor="test")
    report = flows.nightly(desk.night("night-2"))
    assert release.candidate_id in {one.candidate_id for one in report.decisions if one.verdict == "PROMOTE"}
    assert not report.releases
    assert client.live_prompt(desk.config.root / "published" / "production").bundle_id == back.bundle_id
    stage = desk.night().select("SELECT detail FROM runs WHERE stage = 'publish' AND night_id = 'night-2'")
    assert "was rolled back" in stage["detail"][0].as_py()


def test_a_branch_that_fails_does_not_cost_what_the_other_found(desk: Any) -> None:
    config = replace(desk.config, train=replace(desk.config.train, base_model="nobody/knows-this"))
    report = flows.nightly(replace(desk.night(), config=config))
    assert report.releases
    assert [reason for reason in report.left_out if reason.startswith("train failed: unknown model")]


def test_without_a_model_the_night_says_so_and_keeps_what_it_took_in(desk: Any) -> None:
    config = replace(desk.config, endpoint=replace(desk.config.endpoint, base_url=None))
    report = flows.nightly(replace(desk.night(), config=config))
    assert report.ingested["trajectories"] == 100
    assert any("no model to replay with" in reason for reason in report.left_out)


def test_a_second_nightly_run_at_the_same_time_is_refused(desk: Any) -> None:
    from filelock import FileLock

    with FileLock(desk.config.path(".tracemill/nightly.lock")), pytest.raises(BusyError, match="another nightly run"):
        flows.nightly.fn(desk.night())


def test_a_dead_endpoint_names_itself_and_loses_nothing(desk: Any, endpoint: Any) -> None:
    dead = replace(desk.config, endpoint=replace(desk.config.endpoint, base_url="http://127.0.0.1:9/v1"))
    with pytest.raises(Exception, match=r"127\.0\.0\.1:9"):
        flows.nightly(replace(desk.night(), config=dead))
    report = flows.nightly(desk.night("night-2"))
    assert report.ingested["spans"] == 0
    assert report.releases


def test_the_gate_judges_on_cases_that_the_branches_never_saw(desk: Any) -> None:
    night = desk.night()
    flows.ingest_logs.fn(night)
    flows.score_logs.fn(night)
    flows.mine_sites.fn(night)
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
