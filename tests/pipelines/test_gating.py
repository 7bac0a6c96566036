"""The gate's side of the pipeline: which cases, which baseline, which channel."""

from dataclasses import replace
from typing import Any

import pytest

from tracemill import client
from tracemill.app import demo
from tracemill.errors import ConfigError
from tracemill.optimize.artifact import demo_from_case, with_demonstrations
from tracemill.pipelines import gating, grading, laddering, learning, releasing, replaying
from tracemill.pipelines.config import RewardConfig
from tracemill.pipelines.endpoint import open_endpoint
from tracemill.pipelines.learning import Lesson
from tracemill.pipelines.night import Night
from tracemill.records import Candidate, Completion, Outcome


@pytest.fixture
def night(mined: Any) -> Any:
    """A night whose logs are taken in, scored and mined."""
    return mined.night()


def lesson_of(night: Night) -> Lesson:
    (lesson,), _ = learning.choose(night)
    return lesson


def four_queues(lesson: Lesson) -> Candidate:
    """A prompt that shows one demonstration of every queue."""
    start = lesson.production.artifact
    by_queue = {case.expected: case for case in reversed(lesson.learn)}
    demos = [demo_from_case(start, case) for case in by_queue.values()]
    return Candidate(
        branch="prompt",
        site_id=lesson.site.site_id,
        site_version=lesson.site.site_version,
        optimizer="by hand",
        artifact=with_demonstrations(start, demos),
        lineage=tuple(case.trajectory_id for case in by_queue.values()),
    )


def with_gate(night: Night, **changes: Any) -> Night:
    return replace(night, config=replace(night.config, gate=replace(night.config.gate, **changes)))


def test_the_gate_takes_new_groups_first_and_the_newest_of_them(night: Any) -> None:
    lesson = lesson_of(night)
    everything = gating.gate_cases(night, lesson, [])
    few = with_gate(night, max_cases=10)
    first = gating.gate_cases(few, lesson, [])
    newest = sorted(everything, key=lambda case: case.trajectory_id, reverse=True)  # ids count up with time
    assert [case.case_id for case in first] == [case.case_id for case in newest[:10]]

    winner = four_queues(lesson)
    with open_endpoint(few) as endpoint:
        gating.judge(few, lesson, [winner], endpoint)
    again = gating.gate_cases(replace(few, night_id="night-2"), lesson, [winner])
    assert not {case.task_group for case in first} & {case.task_group for case in again}
    assert gating.gate_cases(replace(few, night_id="night-2"), lesson, []) == first


def test_a_production_model_that_nobody_serves_is_judged_by_what_it_logged(night: Any) -> None:
    config = replace(night.config, endpoint=replace(night.config.endpoint, model="another"))
    elsewhere = replace(night, config=config)
    lesson = lesson_of(elsewhere)
    winner = four_queues(lesson)
    with open_endpoint(elsewhere) as endpoint:
        winner = replace(winner, artifact=replaying.on_endpoint(endpoint, winner.artifact))
        (decision,) = gating.judge(elsewhere, lesson, [winner], endpoint)
    rails = {rail.name: rail for rail in decision.guardrails}
    assert rails["latency"].baseline == pytest.approx(0.9)  # ms, as logged
    logged = night.select(
        "SELECT DISTINCT fidelity FROM evaluations WHERE candidate_id = ?", lesson.production.candidate_id
    )
    assert logged["fidelity"].to_pylist() == ["logged"]
    assert decision.baseline_mean is not None
    assert decision.baseline_mean < 0.5


def test_sampling_that_the_logs_do_not_tell_is_the_same_for_both_sides(night: Any) -> None:
    config = replace(night.config, endpoint=replace(night.config.endpoint, params={"max_tokens": 3}))
    sampled = replace(night, config=config)
    lesson = lesson_of(sampled)
    assert not lesson.production.artifact.prompt["params"]
    with open_endpoint(sampled) as endpoint:
        graders = grading.graders(sampled, lesson.site, endpoint, stage="gate", cautious=True)
        bare = laddering.for_the_gate(sampled, lesson, endpoint, graders)
        cases = gating.gate_cases(sampled, lesson, [])
        bare(replaying.on_endpoint(endpoint, lesson.production.artifact), cases)
        gating.judge(sampled, lesson, [four_queues(lesson)], endpoint)
    recorded = night.select("SELECT cached FROM evaluations WHERE candidate_id = ?", lesson.production.candidate_id)
    assert recorded["cached"].to_pylist() == [True] * len(cases)


def test_a_channel_serves_one_site(night: Any) -> None:
    lesson = lesson_of(night)
    winner = four_queues(lesson)
    with open_endpoint(night) as endpoint:
        gating.judge(night, lesson, [winner], endpoint)
    replaying.write_candidate(night, winner, snapshot=lesson.snapshot)
    releasing.release(night, winner, channel="production", actor="test")
    other = replace(winner, site_id="f" * 32)
    assert "serves site" in str(releasing.refusal(night, other, channel="production"))
    assert releasing.refusal(night, other, channel="elsewhere") is None
    with pytest.raises(ConfigError, match="no verdict yet"):
        releasing.release(night, other, channel="production", actor="test")


def test_a_released_adapter_is_found_in_its_bundle_when_the_work_folder_was_emptied(night: Any, tmp_path: Any) -> None:
    lesson = lesson_of(night)
    folder = tmp_path / "work" / "adapter-1"
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    artifact = replace(
        lesson.production.artifact,
        prompt={**lesson.production.artifact.prompt, "adapter": "desk-1"},
        adapter_path=str(folder),
    )
    tuned = replace(lesson.production, branch="weights", optimizer="sft", artifact=artifact)
    replaying.write_candidate(night, tuned, snapshot=lesson.snapshot)
    release = releasing.release(night, tuned, channel="production", actor="test", force=True)
    assert lesson_of(night).production.artifact == artifact
    (folder / "adapter_model.safetensors").unlink()
    folder.rmdir()
    kept = lesson_of(night).production.artifact.adapter_path
    assert kept == str(night.config.bundles_path / release.bundle_id / "adapter")


def test_what_a_user_said_in_a_conversation_counts_as_a_logged_text(night: Any) -> None:
    case = lesson_of(night).train[0]
    turns = [{"role": "user", "content": "from me"}, {"role": "assistant", "content": "from the model"}]
    assert list(gating._said(replace(case, values={"ticket": "a", "conversation": turns}))) == ["a", "from me"]


def test_an_undecided_candidate_comes_again_when_there_are_new_groups(night: Any) -> None:
    first = with_gate(night, max_cases=12, alpha=5e-3)
    lesson = lesson_of(first)
    found = four_queues(lesson)
    replaying.write_candidate(first, found, snapshot=lesson.snapshot)
    with open_endpoint(first) as endpoint:
        (decision,) = gating.judge(first, lesson, [found], endpoint)
        assert decision.verdict == "CONTINUE", decision.reason
        second = replace(first, night_id="night-2")
        (again,) = gating.undecided(second, lesson, [])
        assert again.candidate_id == found.candidate_id
        assert gating.undecided(second, lesson, [found]) == []
        assert gating.undecided(with_gate(second, max_nights=1), lesson, []) == []
        assert gating.undecided(with_gate(second, channel="elsewhere"), lesson, []) == []
        moved = replace(lesson, production=replace(lesson.production, artifact=found.artifact))
        assert gating.undecided(second, moved, []) == []

        (decision,) = gating.judge(second, lesson, [again], endpoint)
        assert decision.n_clusters == 24
        assert decision.verdict == "PROMOTE", decision.reason
        assert gating.undecided(replace(first, night_id="night-3"), lesson, []) == []


def test_an_undecided_candidate_waits_for_new_groups(night: Any) -> None:
    strict = with_gate(night, alpha=1e-30)
    lesson = lesson_of(strict)
    found = four_queues(lesson)
    replaying.write_candidate(strict, found, snapshot=lesson.snapshot)
    with open_endpoint(strict) as endpoint:
        (decision,) = gating.judge(strict, lesson, [found], endpoint)
    assert decision.verdict == "CONTINUE", decision.reason
    assert gating.undecided(replace(strict, night_id="night-2"), lesson, []) == []


def some_queues(lesson: Lesson, count: int) -> Candidate:
    """A prompt that shows one demonstration of `count` queues."""
    whole = four_queues(lesson)
    prompt = dict(whole.artifact.prompt)
    prompt["demonstrations"] = {**prompt["demonstrations"], "pool": prompt["demonstrations"]["pool"][:count]}
    return replace(whole, artifact=replace(whole.artifact, prompt=prompt))


def test_a_verdict_counts_for_its_channel_and_for_what_the_channel_runs(night: Any) -> None:
    lesson = lesson_of(night)
    winner, other = four_queues(lesson), some_queues(lesson, 3)
    for one in (winner, other):
        replaying.write_candidate(night, one, snapshot=lesson.snapshot)
    with open_endpoint(night) as endpoint:
        (decision,) = gating.judge(night, lesson, [winner], endpoint)
    assert decision.verdict == "PROMOTE", decision.reason

    with pytest.raises(ConfigError, match="judged for channel 'production', not for 'shadow'"):
        releasing.release(night, winner, channel="shadow", actor="test")
    assert releasing.release(night, winner, channel="shadow", actor="test", force=True).uris

    releasing.release(night, other, channel="production", actor="test", force=True)
    with pytest.raises(ConfigError, match="'production' has moved on since"):
        releasing.release(night, winner, channel="production", actor="test")
    assert releasing.release(night, winner, channel="production", actor="test", force=True).uris
    again = releasing.release(night, winner, channel="production", actor="test")  # what it runs already
    assert again.candidate_id == winner.candidate_id


def test_a_forced_first_release_leaves_a_way_back(night: Any, tmp_path: Any) -> None:
    lesson = lesson_of(night)
    winner = four_queues(lesson)
    replaying.write_candidate(night, winner, snapshot=lesson.snapshot)
    releasing.release(night, winner, channel="production", actor="test", force=True)
    releasing.rollback(night, channel="production", actor="test")
    back = client.live_prompt(tmp_path / "published" / "production").messages(ticket="a")
    assert [turn["content"] for turn in back if turn["role"] == "assistant"] == ["billing"]
    assert lesson_of(night).production.candidate_id == lesson.production.candidate_id


def test_the_demo_shows_one_candidate_of_that_very_night_per_branch(night: Any) -> None:
    def reached() -> list[Any]:
        with night.lake.reader() as con:
            return con.execute(demo._REACHED_THE_GATE).fetchall()

    lesson = lesson_of(night)
    better, worse = four_queues(lesson), some_queues(lesson, 2)
    for one in (worse, better):
        replaying.write_candidate(night, one, snapshot=lesson.snapshot)
    with open_endpoint(night) as endpoint, night.stage("gate"):
        gating.judge(night, lesson, [worse, better], endpoint)
    assert reached() == [("prompt", better.candidate_id, None)]
    releasing.release(night, better, channel="production", actor="test")
    assert reached() == [("prompt", better.candidate_id, "production")]
    with replace(night, night_id="night-2").stage("ingest"):
        pass
    assert reached() == []


GAMEABLE = RewardConfig(kind="regex", name="sounds_done", options={"pattern": "resolved|shipping|returns|account"})
"""Somebody's idea of a good answer: its optimum is no queue at all."""


def judged_by(night: Night, *rewards: RewardConfig, sealed: tuple[str, ...]) -> Night:
    combined = replace(night.config.combined, sealed=sealed)
    return with_gate(
        replace(night, config=replace(night.config, rewards=rewards, combined=combined)), valid_output=None
    )


def test_a_candidate_that_games_its_judge_is_stopped_by_the_one_that_it_never_met(night: Any, serve: Any) -> None:
    """What pleases the regex is said on every ticket; whether it is right, only the sealed judge asks."""

    def answering(body: dict[str, Any]) -> str:
        told = str(body["messages"][0]["content"])
        return "resolved" if "resolved" in told else "billing"

    sealed = judged_by(
        night, RewardConfig(kind="feedback"), GAMEABLE, RewardConfig(kind="exact_match"), sealed=("exact_match",)
    )
    config = replace(sealed.config, endpoint=replace(sealed.config.endpoint, base_url=serve(answering).url))
    gated = replace(sealed, config=config)
    lesson = lesson_of(gated)
    start = lesson.production.artifact
    first, *rest = start.prompt["messages"]
    told = {**first, "content": [*first["content"], " Say that it is resolved."]}
    artifact = replace(start, prompt={**start.prompt, "messages": [told, *rest]})
    gaming = replace(lesson.production, branch="prompt", optimizer="by hand", artifact=artifact)
    with open_endpoint(gated) as endpoint:
        (decision,) = gating.judge(gated, lesson, [gaming], endpoint)
    assert (decision.delta, decision.verdict) == (1.0, "BLOCKED"), decision.reason
    assert "the sealed exact_match finds -" in decision.reason
    assert "the judges that it was tuned on find +100.0 points; the gap is 1" in decision.reason
    assert "it has learned to please its judges" in decision.reason
    stored = night.select("SELECT guardrails FROM verdicts")["guardrails"][0].as_py()
    assert '"name":"sealed:exact_match","passed":false' in stored

    honest = four_queues(lesson)
    with open_endpoint(judged_by(night, *config.rewards, sealed=("exact_match",))) as endpoint:
        (decision,) = gating.judge(sealed, lesson, [honest], endpoint)
    (rail,) = [rail for rail in decision.guardrails if rail.name == "sealed:exact_match"]
    assert rail.passed is True, rail.detail
    assert decision.verdict == "PROMOTE", decision.reason

    (night.config.root / "unsure.py").write_text("def judge(output, case):\n    return 0.9, 0.4\n")
    unsure = judged_by(night, RewardConfig(kind="python", options={"callable": "unsure:judge"}), sealed=())
    with open_endpoint(unsure) as endpoint:
        (decision,) = gating.judge(unsure, lesson, [some_queues(lesson, 3)], endpoint)
    means = (decision.baseline_mean, decision.candidate_mean)
    assert means == pytest.approx((0.9, 0.4)), "what a judge doubts counts in full for production only"


def test_an_environment_stands_against_verifiers_and_not_against_a_model() -> None:
    def outcome(fidelity: Any, judged_by: str) -> Outcome:
        return Outcome(
            case_id="t/0",
            task_group="g",
            completion=Completion(text="x"),
            reward=0.8,
            valid=True,
            fidelity=fidelity,
            judged_by=judged_by,
        )

    ran = outcome("executed", "sql_shell:SqlShell")
    for by, reward in (("exact_match@1", 0.8), ("judge:m/judge@1", None)):
        (kept,) = gating._comparable([ran], [outcome("logged", by)])
        assert kept.reward == reward
