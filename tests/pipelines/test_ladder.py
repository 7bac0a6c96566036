"""The ladder of a night: real lake, real endpoint, episodes of several calls with a tool in between."""

import json
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import judge_server
import pytest
from order_desk import NOW, RUNS, SETTINGS, SYSTEM, Served, agent, called, note, serving, trace

from tracemill.app import settings
from tracemill.errors import BudgetError, ConfigError
from tracemill.optimize.artifact import with_instructions
from tracemill.pipelines import branches, gating, grading, ingesting, judging, laddering, learning, replaying
from tracemill.pipelines.config import Config, RewardConfig
from tracemill.pipelines.endpoint import open_endpoint
from tracemill.pipelines.learning import Lesson
from tracemill.pipelines.night import Night, rows
from tracemill.rewards.judge import Judge
from tracemill.warehouse import Lake


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Served]]:
    """A project whose episodes are taken in, judged and mined."""
    root = tmp_path_factory.mktemp("orders")
    (root / "log.jsonl").write_text("".join(json.dumps(trace(number)) + "\n" for number in range(RUNS)))
    with (root / "log.jsonl").open("a") as file:
        file.writelines(json.dumps(note(number)) + "\n" for number in range(100, 100 + RUNS))
    with serving() as server:
        config = settings.parse(
            {**SETTINGS, "endpoint": {"base_url": server.url, "model": "toy"}}, root=root, where="t"
        )
        with Lake.create(config.lake_path) as lake:
            night = Night(night_id="first", config=config, lake=lake, clock=lambda: NOW)
            ingesting.take_in(night, [root / "log.jsonl"])
            judging.score(night)
            judging.mine(night)
        yield root, server


@pytest.fixture
def night(made: tuple[Path, Served]) -> Iterator[Night]:
    root, server = made
    server.answering = agent
    config = settings.parse({**SETTINGS, "endpoint": {"base_url": server.url, "model": "toy"}}, root=root, where="t")
    with Lake.open(config.lake_path) as lake:
        yield Night(night_id="n", config=config, lake=lake, clock=lambda: NOW)


@pytest.fixture
def server(made: tuple[Path, Served]) -> Served:
    made[1].asked.clear()
    return made[1]


def with_ladder(night: Night, *levels: Any, **more: Any) -> Night:
    return replace(night, config=replace(night.config, optimize=replace(night.config.optimize, ladder=levels, **more)))


def lesson_of(night: Night) -> Lesson:
    (lesson,), left = learning.choose(night, "orders")
    assert lesson.verifiable == 1.0, left
    return lesson


def test_episodes_of_several_calls_are_replayed_and_recorded_with_their_fidelity(night: Night, server: Served) -> None:
    assert learning.choose(with_ladder(night, "lint", "single_step"), "orders")[0][0].verifiable == 0.0
    lesson = lesson_of(night)
    start = lesson.production.artifact
    polite = replace(lesson.production, artifact=with_instructions(start, SYSTEM + " Answer politely."))
    with open_endpoint(night) as endpoint:
        climb = laddering.for_tuning(night, lesson, endpoint, start)
        plain, better = climb(start, lesson.learn), climb(polite.artifact, lesson.learn)
    assert {(one.fidelity, one.reward, one.reached) for one in plain} == {("recorded:exact", 0.0, 2)}
    assert {(one.fidelity, one.reward, one.reached) for one in better} == {("recorded:exact", 1.0, 2)}
    replaying.record(night, polite.candidate_id, better, purpose="tune")
    rows = night.select("SELECT DISTINCT fidelity, reached, judged_by FROM evaluations").to_pylist()
    (row,) = rows
    assert (row["fidelity"], row["reached"]) == ("recorded:exact", 2)
    assert row["judged_by"].startswith("polite@")
    # Single steps that nobody could judge were not asked for.
    assert len(server.asked) == climb.ledger.spent.calls == 2 * 2 * len({one.trajectory_id for one in lesson.learn})


def test_the_gate_climbs_the_same_ladder_and_finds_nobody_played(night: Night, server: Served) -> None:
    lesson = lesson_of(night)
    artifact = with_instructions(lesson.production.artifact, SYSTEM + " Answer politely.")
    winner = replace(lesson.production, branch="prompt", artifact=artifact)
    with open_endpoint(night) as endpoint:
        (decision,) = gating.judge(with_ladder(night, "recorded", "simulated"), lesson, [winner], endpoint)
    assert (decision.baseline_mean, decision.candidate_mean) == (0.0, 1.0)
    found = night.select("SELECT DISTINCT fidelity FROM evaluations WHERE purpose = 'gate'")
    assert found["fidelity"].to_pylist() == ["recorded:exact"]


def test_what_production_logged_is_judged_by_its_last_answer_where_nobody_serves_its_model(
    night: Night, server: Served
) -> None:
    elsewhere = replace(night.config, endpoint=replace(night.config.endpoint, model="another"))
    night = replace(night, config=elsewhere, night_id="elsewhere")
    lesson = lesson_of(night)
    with open_endpoint(night) as endpoint:
        start = replaying.on_endpoint(endpoint, lesson.production.artifact)
        winner = replace(
            lesson.production, branch="prompt", artifact=with_instructions(start, SYSTEM + " Answer politely.")
        )
        (decision,) = gating.judge(night, lesson, [winner], endpoint)
    assert (decision.baseline_mean, decision.candidate_mean) == (0.0, 1.0)
    found = night.select(
        "SELECT DISTINCT fidelity, reached, output LIKE 'Depot %' AS told, latency_ns FROM evaluations "
        "WHERE night_id = 'elsewhere' AND candidate_id = ?",
        lesson.production.candidate_id,
    )
    assert found.to_pylist() == [{"fidelity": "logged", "reached": 2, "told": True, "latency_ns": 200_000}]


def test_a_played_tool_goes_on_where_the_log_does_not_and_the_gate_refuses_it(night: Night, server: Served) -> None:
    def other(messages: list[dict[str, Any]]) -> dict[str, Any]:
        if "You play a tool" in messages[0]["content"]:
            return {"role": "assistant", "content": "on a lorry"}
        if messages[-1]["role"] == "user" and "politely" in messages[0]["content"]:
            return {"role": "assistant", "content": None, "tool_calls": [called(-1, "mine")]}
        return agent(messages)

    server.answering = other
    lesson = lesson_of(night)
    artifact = with_instructions(lesson.production.artifact, SYSTEM + " Answer politely!")
    with open_endpoint(night) as endpoint:
        astray = laddering.for_tuning(night, lesson, endpoint, lesson.production.artifact)(artifact, lesson.learn)
        assert {(one.fidelity, one.reward, one.reached) for one in astray} == {("recorded:divergent", None, 1)}
        playing = with_ladder(night, "recorded", "simulated")
        climb = laddering.for_tuning(playing, lesson, endpoint, lesson.production.artifact)
        outcomes = climb(artifact, lesson.learn)
    assert {(one.fidelity, one.reward, one.completion.text) for one in outcomes} == {
        ("simulated", 1.0, "Thank you! It is on a lorry.")
    }
    shown = [json.loads(asked[1]["content"]) for asked in server.asked if "You play" in asked[0]["content"]]
    assert all("in depot" in one["examples"][0]["result"] for one in shown)
    candidate = replace(lesson.production, branch="prompt", artifact=artifact)
    with pytest.raises(ConfigError, match="proves nothing"):
        gating.decide(night, lesson, candidate, outcomes, outcomes)


def test_levels_that_lack_something_say_what(night: Night, server: Served) -> None:
    def read(level: str, **more: Any) -> Config:
        raw = {"optimize": {"ladder": [level]}, **more}
        return settings.parse(raw, root=night.config.root, where="tracemill.toml")

    lesson = lesson_of(night)
    with open_endpoint(night) as endpoint:
        for level, said in (("pairwise", "asks a judge"), ("executed", r"set make in \[environment\]")):
            with pytest.raises(ConfigError, match=said):
                laddering.for_tuning(with_ladder(night, level), lesson, endpoint, lesson.production.artifact)
            with pytest.raises(ConfigError, match=f"tracemill.toml: .*{said}"):
                read(level)
    with pytest.raises(ConfigError, match="asks a judge"):
        read("pairwise", rewards=[{"kind": "judge"}], combined={"sealed": ["judge"]})
    assert read("pairwise", rewards=[{"kind": "judge"}]).optimize.ladder == ("pairwise",)
    assert read("executed", environment={"make": "a:b"}).environment.make == "a:b"
    with pytest.raises(ConfigError, match="asks a model to play"):
        read("simulated", endpoint={"base_url": server.url})
    assert read("simulated", endpoint={"base_url": server.url, "model": "toy"})


def test_a_budget_ends_an_episode_in_the_middle_and_the_next_run_goes_on(night: Night, server: Served) -> None:
    lesson = lesson_of(night)
    artifact = with_instructions(lesson.production.artifact, SYSTEM + " Answer politely; be brief.")
    episodes = len({one.trajectory_id for one in lesson.learn})
    few = with_ladder(night, "recorded", max_calls=episodes + 1)
    with open_endpoint(night) as endpoint:
        with pytest.raises(BudgetError):
            laddering.for_tuning(few, lesson, endpoint, lesson.production.artifact)(artifact, lesson.learn)
        assert len(server.asked) == episodes + 1
        climb = laddering.for_tuning(few, lesson, endpoint, lesson.production.artifact)
        assert {one.reward for one in climb(artifact, lesson.learn)} == {1.0}
    assert len(server.asked) == 2 * episodes


@pytest.mark.slow
def test_a_killed_replay_of_episodes_is_taken_up_where_it_was(night: Night, server: Served) -> None:
    lesson = lesson_of(night)
    episodes = len({one.trajectory_id for one in lesson.learn})
    before = night.select("SELECT count(*) AS n FROM replays")["n"][0].as_py()
    script = textwrap.dedent(
        """
        import json, sys
        from pathlib import Path
        from tracemill.app import settings
        from tracemill.optimize.artifact import with_instructions
        from tracemill.pipelines import laddering, learning
        from tracemill.pipelines.endpoint import open_endpoint
        from tracemill.pipelines.night import Night, rows
        from tracemill.warehouse import Lake
        root, said = Path(sys.argv[1]), json.loads(sys.argv[2])
        config = settings.parse(said, root=root, where="t")
        with Lake.open(config.lake_path) as lake:
            night = Night(night_id="killed", config=config, lake=lake, clock=lambda: 1)
            (lesson,), _ = learning.choose(night, "orders")
            artifact = with_instructions(lesson.production.artifact, sys.argv[3])
            with open_endpoint(night) as endpoint:
                laddering.for_tuning(night, lesson, endpoint, lesson.production.artifact)(artifact, lesson.learn)
        """
    )
    told = {**SETTINGS, "endpoint": {"base_url": server.url, "model": "toy"}}
    prompt = SYSTEM + " Answer politely and at once."
    args = [sys.executable, "-c", script, str(night.config.root), json.dumps(told), prompt]
    with subprocess.Popen(args) as running:

        def deadly(messages: list[dict[str, Any]]) -> dict[str, Any]:
            if messages[-1]["role"] == "tool":
                running.kill()  # all first calls are answered and kept, no second one is
            return agent(messages)

        server.answering = deadly
        assert running.wait() == -signal.SIGKILL
    server.answering = agent
    kept = night.select("SELECT count(*) AS n FROM replays")["n"][0].as_py() - before
    assert kept == episodes
    with open_endpoint(night) as endpoint:
        climb = laddering.for_tuning(night, lesson, endpoint, lesson.production.artifact)
        outcomes = climb(with_instructions(lesson.production.artifact, prompt), lesson.learn)
    assert {(one.fidelity, one.reward) for one in outcomes} == {("recorded:exact", 1.0)}
    # Not what the server was asked: what the killed process sent may reach it now.
    assert (climb.ledger.spent.calls, climb.ledger.spent.cached) == (episodes, episodes)


def test_the_prompt_branch_records_what_it_tried(night: Night, server: Served) -> None:
    lesson = lesson_of(night)
    with open_endpoint(night) as endpoint:
        (production,), detail = branches.search_prompts(night, lesson, endpoint)
    assert (production.tune_score, detail["candidates"]) == (0.0, 1)
    found = night.select(
        "SELECT DISTINCT fidelity, reached FROM evaluations WHERE purpose = 'tune' AND candidate_id = ?",
        production.candidate_id,
    )
    assert found.to_pylist() == [{"fidelity": "recorded:exact", "reached": 2}]


@pytest.fixture
def judge() -> Iterator[Any]:
    """A judge's server: rubrics and comparisons are for whoever says "done well"."""

    def says(shown: Any) -> Any:
        if "rubric" in shown.sections:
            return judge_server.honest(shown)
        ranked = sorted(shown.log["attempts"], key=lambda one: "done well" not in one["steps"][0]["said"])
        return {"ranking": [one["label"] for one in ranked]}

    with judge_server.judge_server(says) as running:
        yield running


def judged_by(night: Night, url: str, name: str | None = None, **more: Any) -> Night:
    options = {"base_url": url, "model": "m", "criteria": {"done": "Was it done?"}, **more}
    reward = RewardConfig(kind="judge", name=name, options=options)
    return replace(night, config=replace(night.config, rewards=(reward,)))


def calibrated(night: Night, name: str = "judge", version: str = "1", low: float = 0.1, at: int = 1) -> None:
    """As if people had labelled: what the judge's best and worst scores are worth."""
    made = replace(Judge(name=name, criteria={"done": "Was it done?"}), model="m")
    curve = {"raw": [0.0, 1.0], "value": [low, 1 - low]}
    state = {"spec": made._spec, "n_train": 40, "salt": 0, "curves": [curve, curve]}
    row = {"name": name, "version": version, "kind": "judge", "state": json.dumps(state), "lineage": [], "at": at}
    with night.lake.transaction("labelled") as tx:
        tx.insert("reward_models", rows("reward_models", [row]))


def greets(messages: list[dict[str, Any]]) -> dict[str, Any]:
    return {"role": "assistant", "content": "done well" if "warmly" in messages[0]["content"] else "Hm."}


def test_a_calibrated_judge_judges_what_no_verifier_can_and_is_paid_from_the_same_account(
    night: Night, server: Served, judge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answering = greets
    asking = with_ladder(judged_by(night, judge.url), "lint", "single_step")
    (untold,), _ = learning.choose(asking, "greeter")
    assert untold.verifiable == 0.0, "nobody calibrated the judge"
    calibrated(asking)
    (lesson,), _ = learning.choose(asking, "greeter")
    start = lesson.production.artifact
    assert lesson.verifiable == 1.0
    with open_endpoint(asking) as endpoint:
        climb = laddering.for_tuning(asking, lesson, endpoint, start)
        plain, warm = (
            climb(one, lesson.tune) for one in (start, with_instructions(start, "You greet customers warmly."))
        )
        spent = climb.ledger.spent
        assert spent.calls == len(server.asked) + len(judge.asked)
        again = laddering.for_tuning(asking, lesson, endpoint, start)
        assert again(start, lesson.tune)[0].reward == plain[0].reward
        assert again.ledger.spent.calls == 0
    assert {round(one.reward or 0.0, 4) for one in plain} == {0.05}
    assert {round(one.reward or 0.0, 4) for one in warm} == {0.85}, "a bound, not the value"
    assert all((one.judged_by or "").startswith("judge:m/judge@") for one in warm)
    sealed = replace(asking, config=replace(asking.config, combined=replace(asking.config.combined, sealed=("judge",))))
    assert learning.choose(sealed, "greeter")[0][0].verifiable == 0.0
    with open_endpoint(sealed) as endpoint:
        pleasing = grading.sealed(sealed, lesson.site, endpoint).grades["judge"]
    assert [one.reward for one in pleasing([(lesson.tune[0], "done well"), (lesson.tune[0], "Hm.")])] == [0.9, 0.1]
    # What production logged is judged as replays are: by pairs, unless a level before them judges the case.
    logged = replace(lesson.tune[0], logged_output="done well")
    with open_endpoint(asking) as endpoint:
        graders = grading.graders(asking, lesson.site, endpoint, stage="gate", cautious=False)
        for levels, reward in ((("pairwise", "single_step"), 0.5), (("single_step", "pairwise"), 0.9)):
            (said,) = laddering.logged(with_ladder(asking, *levels), lesson, [logged], graders)
            assert (said.fidelity, said.reward) == ("logged", reward)

    # Beside two judges that nobody calibrated, one of them sealed; a label comes in between the two sides.
    (known,) = asking.config.rewards
    beside = [replace(known, name="first"), known, replace(known, name="unseen")]
    rules = replace(asking.config, rewards=tuple(beside), combined=replace(asking.config.combined, sealed=("unseen",)))
    told: list[str] = []
    gated = replace(asking, config=rules, tell=lambda stage, message, done=None, total=None: told.append(message))
    write = replaying.write_candidate

    def labelled(*args: Any, **more: Any) -> None:
        calibrated(asking, version="2", low=0.2, at=NOW + 1)
        write(*args, **more)

    monkeypatch.setattr(replaying, "write_candidate", labelled)
    warmly = replace(
        lesson.production, branch="prompt", artifact=with_instructions(start, "You greet customers warmly.")
    )
    with open_endpoint(gated) as endpoint:
        (decision,) = gating.judge(gated, lesson, [warmly], endpoint)
        assert decision.baseline_mean == pytest.approx(0.1)
        assert decision.candidate_mean == pytest.approx(0.85), "judged by the same version"
        assert decision.reason.endswith(
            "The sealed unseen was not asked: people labelled too few episodes, it needs 40 and 5 of either kind."
        )
        assert any("The sealed unseen was not asked" in message for message in told)
        (latest,) = [one for one, _ in grading._judges(gated, lesson.site, endpoint, ["judge"], stage="gate")]
        report = {"report_id": "r", "name": "judge", "version": latest.version, "passed": False, "at": 1}
        with asking.lake.transaction("test") as tx:
            tx.insert("reward_reports", rows("reward_reports", [{**report, "metrics": "{}", "reliability": "[]"}]))
        assert grading.sealed(sealed, lesson.site, endpoint).silent == {"judge": "its latest report failed"}


def test_a_judges_own_budget_holds_in_replays_and_the_next_run_goes_on(
    night: Night, server: Served, judge: Any
) -> None:
    # Not the words of the other tests: what was asked once is not asked again.
    server.answering = lambda messages: {**greets(messages), "content": f"{greets(messages)['content']} Indeed."}
    thrifty = with_ladder(judged_by(night, judge.url, "thrifty", budget_tokens=100), "lint", "single_step")
    calibrated(thrifty, "thrifty")
    (lesson,), _ = learning.choose(thrifty, "greeter")
    start = lesson.production.artifact
    warmly = with_instructions(start, "You greet your customers warmly.")
    winner = replace(lesson.production, branch="prompt", artifact=warmly)
    said = r"the budget \{'tokens': 100\} of reward 'thrifty' \(budget_tokens\) is used up"
    told: list[tuple[str, str]] = []
    with open_endpoint(thrifty) as endpoint:
        with pytest.raises(BudgetError, match=said):
            gating.judge(thrifty, lesson, [winner], endpoint)
        assert len(judge.asked) == 1, "100 tokens a call"
        climb = laddering.for_tuning(thrifty, lesson, endpoint, start)
        with pytest.raises(BudgetError, match=said):
            climb(warmly, lesson.tune)
        assert climb.ledger.used_up, "a race is over where nobody can judge"
        assert not night.select("SELECT 1 FROM verdicts WHERE candidate_id = ?", winner.candidate_id).num_rows

        rich = with_ladder(judged_by(night, judge.url, "thrifty"), "lint", "single_step")
        rich = replace(rich, tell=lambda stage, message, done=None, total=None: told.append((stage, message)))
        (decision,) = gating.judge(rich, lesson, [winner], endpoint)
        assert decision.candidate_mean == pytest.approx(0.85)
        prompts = [one.prompt for one in judge.asked]
        assert len(set(prompts)) == len(prompts), "what was answered is kept"
        judge.fails = lambda shown: (400, {})
        other = replace(winner, artifact=with_instructions(start, "You greet callers warmly."))
        server.answering = lambda messages: {"role": "assistant", "content": "Welcome."}
        gating.judge(rich, lesson, [other], endpoint)
    assert {stage for stage, message in told if "refused an answer" in message} == {"gate"}


def test_pairs_are_won_against_the_log(night: Night, server: Served, judge: Any) -> None:
    server.answering = greets
    asking = with_ladder(judged_by(night, judge.url, min_labels=99), "lint", "pairwise")
    (lesson,), _ = learning.choose(asking, "greeter")
    start = lesson.production.artifact
    with open_endpoint(asking) as endpoint:
        climb = laddering.for_tuning(asking, lesson, endpoint, start)
        same, warm = (climb(one, lesson.tune) for one in (start, with_instructions(start, "You greet people warmly.")))
    assert {(one.fidelity, one.reward) for one in same} == {("pairwise", 0.5)}
    assert {(one.fidelity, one.reward) for one in warm} == {("pairwise", 1.0)}
    assert len(judge.asked) == 2 * len(warm), "equal answers are a tie without asking"
