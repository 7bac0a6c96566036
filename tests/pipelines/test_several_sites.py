"""Two agents in one trace, improved together: from their logs through the search and the gate to what each takes up."""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tracemill.app import settings
from tracemill.client import live_prompt
from tracemill.errors import ConfigError
from tracemill.optimize import choosing
from tracemill.pipelines import branches, gating, ingesting, judging, learning, releasing, replaying, systems
from tracemill.pipelines.endpoint import open_endpoint
from tracemill.pipelines.learning import Lesson
from tracemill.pipelines.night import Night
from tracemill.warehouse import Lake

pytestmark = pytest.mark.slow
QUEUES = {"billing": "invoice", "shipping": "parcel", "returns": "refund", "account": "password"}
WORDS = [a + b for a in ("ba", "ko", "mi", "ru", "sel", "tor") for b in ("nan", "dem", "lis", "pok", "ver", "zum")]
NOW = 1_790_000_000_000_000_000
TICKETS = 100


def ticket(number: int) -> tuple[str, str]:
    draw = random.Random(number)
    queue, words = draw.choice(list(QUEUES)), draw.sample(WORDS, 9)
    return " ".join([*words[:4], QUEUES[queue], *words[4:]]), queue


def answer(messages: list[dict[str, Any]]) -> str:
    """The planner's plans name the word that matters only where it was shown a plan; the writer's queue is right only
    where it was shown such a queue, and where the plan names the word."""
    shown = {turn["content"] for turn in messages if turn["role"] == "assistant"}
    text = messages[-1]["content"]
    if "plan" in messages[0]["content"]:
        words = text.removeprefix("Ticket: ").split()
        clear = shown or "invoice" in words
        return " ".join(word for word in words[::-1] if clear or word not in QUEUES.values())
    queue = next((queue for queue, word in QUEUES.items() if word in text), None)
    return queue if queue in shown else "billing"


def span(number: int, step: int, agent: str, sent: list[dict[str, str]], said: str) -> dict[str, Any]:
    def parts(role: str, text: str) -> dict[str, Any]:
        return {"role": role, "parts": [{"type": "text", "content": text}]}

    begin = NOW + number * 10**9 + step * 10**6
    texts = {
        "gen_ai.operation.name": "chat",
        "gen_ai.agent.name": agent,
        "gen_ai.conversation.id": f"s{number}",
        "gen_ai.request.model": "toy",
        "gen_ai.input.messages": json.dumps([parts(one["role"], one["content"]) for one in sent]),
        "gen_ai.output.messages": json.dumps([{**parts("assistant", said), "finish_reason": "stop"}]),
    }
    return {
        "traceId": f"{number + 1:032x}",
        "spanId": f"{number * 10 + step + 1:016x}",
        "name": "chat toy",
        "startTimeUnixNano": str(begin),
        "endTimeUnixNano": str(begin + 10**5),
        "attributes": [{"key": key, "value": {"stringValue": text}} for key, text in texts.items()],
    }


def logs(number: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """A ticket's trace and its review."""
    text, right = ticket(number)
    ask = [{"role": "system", "content": "You plan."}, {"role": "user", "content": f"Ticket: {text}"}]
    plan = answer(ask)
    write = [{"role": "system", "content": "You name the queue."}, {"role": "user", "content": f"Plan: {plan}"}]
    said = answer(write)
    spans = [span(number, 0, "planner", ask, plan), span(number, 1, "writer", write, said)]
    review = {"session_id": f"s{number}", "name": "review", "value": int(said == right), "correction": right}
    trace = {
        "resourceSpans": [{"resource": {"attributes": []}, "scopeSpans": [{"scope": {"name": "x"}, "spans": spans}]}]
    }
    return trace, {**review, "propensity": 1.0, "user": "ana"}


SETTINGS: dict[str, Any] = {
    "sources": [{"path": "logs"}],
    "rewards": [{"kind": "feedback"}, {"kind": "exact_match"}],
    "optimize": {
        "optimizers": ["labeled_few_shot"],
        "options": {"labeled_few_shot": {"ks": [4], "draws": 1}},
        "jointly": ["planner", "writer"],
        "joint_rounds": 1,
        "max_tune_cases": 10,
    },
    "gate": {"valid_output": "billing|shipping|returns|account", "latency_ratio": 1e6},
}


@pytest.fixture(scope="module")
def mined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("two") / "project"
    (root / "logs").mkdir(parents=True)
    rows = [logs(number) for number in range(TICKETS)]
    (root / "logs" / "traces.jsonl").write_text("".join(json.dumps(trace) + "\n" for trace, _ in rows))
    (root / "logs" / "reviews.jsonl").write_text("".join(json.dumps(review) + "\n" for _, review in rows))
    config = settings.parse(SETTINGS, root=root, where="t")
    config.lake_path.mkdir(parents=True)
    (config.lake_path / "key").write_bytes(b"the toy desk's key, 32 bytes long"[:32])
    (config.lake_path / "key").chmod(0o600)
    with Lake.create(config.lake_path) as lake:
        night = Night(night_id="first", config=config, lake=lake, clock=lambda: NOW)
        ingesting.take_in_configured(night)
        judging.score(night)
        judging.mine(night)
    return root


@pytest.fixture
def night(mined: Path, tmp_path: Path, serve: Callable[..., Any]) -> Iterator[Night]:
    shutil.copytree(mined, tmp_path, dirs_exist_ok=True)
    url = serve(lambda body: answer(body["messages"])).url
    config = settings.parse({**SETTINGS, "endpoint": {"base_url": url, "model": "toy"}}, root=tmp_path, where="t")
    ticks = [NOW + 10**15]

    def clock() -> int:
        ticks[0] += 10**6
        return ticks[0]

    with Lake.open(config.lake_path) as lake:
        yield Night(night_id="n", config=config, lake=lake, clock=clock)


def lesson_of(night: Night) -> Lesson:
    (lesson,), left = systems.tonight(night)
    assert left == []
    return lesson


def test_logs_of_two_agents_become_one_release_that_each_takes_its_prompt_from(night: Night) -> None:
    lesson = lesson_of(night)
    assert (lesson.site.agent_name, [one.site.agent_name for one in lesson.others]) == ("writer", ["planner"])
    with open_endpoint(night) as endpoint:
        found, detail = branches.search_prompts(night, lesson, endpoint)
        assert detail["calls"] <= night.config.optimize.max_calls
        (winner,) = choosing.winner(found, branches.tuning_rewards(night, found))
        (decision,) = gating.judge(night, lesson, [winner], endpoint)
    assert found[0].tune_score is not None
    assert found[0].tune_score < 0.5 < (winner.tune_score or 0.0)
    assert (decision.verdict, decision.candidate_mean) == ("PROMOTE", 1.0), decision.reason
    rows = night.select(
        "SELECT DISTINCT purpose, fidelity, c.branch FROM evaluations JOIN candidates c USING (candidate_id)"
    )
    ways = {(row["purpose"], row["fidelity"]) for row in rows.to_pylist()}
    assert ways <= {(p, f"chained:{how}") for p in ("tune", "gate") for how in ("exact", "substituted")}
    assert ("gate", "chained:substituted") in ways
    pools = night.select(
        "SELECT DISTINCT purpose, pool FROM evaluations JOIN trajectories ON case_id = trajectory_id || '/1'"
    )
    assert {(one["purpose"], one["pool"]) for one in pools.to_pylist()} == {("tune", "learn"), ("gate", "gate")}
    release = releasing.release(night, winner, channel=decision.channel, actor="test")
    channel = night.config.root / "published" / "production"
    for agent, text in (("planner", "You plan."), ("writer", "You name the queue.")):
        live = live_prompt(channel, agent=agent)
        assert live.bundle_id == release.bundle_id
        sent = live.messages(**dict.fromkeys(("input", "ticket", "plan"), "x"))
        assert sent[0]["content"] == text
        assert len(sent) > 2, f"{agent} is shown answers"
    # The next night begins with what is served now, whichever site is looked at.
    after = lesson_of(night).production
    assert after.artifact == winner.artifact
    with night.lake.reader() as con:
        planner = learning.production(con, lesson.others[0].site, night)
    assert planner.artifact.prompt == winner.artifact.others[lesson.others[0].site.site_id]


def test_a_channel_of_several_sites_loses_none_of_them_and_goes_back_to_all(night: Night) -> None:
    lesson = lesson_of(night)
    both = lesson.production.artifact
    new = {**both.prompt, "messages": [{"role": "system", "content": ["Name it."]}, *both.prompt["messages"][1:]]}
    winner = replace(lesson.production, branch="prompt", artifact=replace(both, prompt=new))
    alone = replace(winner, artifact=replace(winner.artifact, others={}))
    planner = replace(lesson.others[0].production, branch="prompt")
    replaying.write_candidate(night, winner, snapshot=lesson.snapshot)
    release = releasing.release(night, winner, channel="production", actor="t", force=True)
    assert "serves site" in str(releasing.refusal(night, alone, channel="production"))
    assert "improve them jointly" in str(releasing.refusal(night, planner, channel="planner"))
    assert releasing.refusal(night, winner, channel="production") is None
    channel = night.config.root / "published" / "production"
    assert live_prompt(channel, agent="writer").bundle_id == release.bundle_id
    releasing.rollback(night, channel="production", actor="t")
    assert live_prompt(channel, agent="planner").artifact == both.others[planner.site_id]


def test_where_nobody_serves_production_s_model_its_logged_ends_are_compared_with(night: Night) -> None:
    config = replace(night.config, endpoint=replace(night.config.endpoint, model="another"))
    night = replace(night, config=config)
    lesson = lesson_of(night)
    with open_endpoint(night) as endpoint:
        found, _ = branches.search_prompts(night, lesson, endpoint)
        (winner,) = choosing.winner(found)
        (decision,) = gating.judge(night, lesson, [winner], endpoint)
    assert {prompt["model"] for prompt in winner.artifact.prompts} == {"another"}
    assert decision.candidate_mean == 1.0
    ways = night.select("SELECT DISTINCT fidelity FROM evaluations WHERE candidate_id = ?", decision.baseline_id)
    assert ways["fidelity"].to_pylist() == ["logged"]


def test_a_site_lies_on_one_side_with_its_episodes(night: Night) -> None:
    lesson = lesson_of(night)
    (planner,) = lesson.others
    for one, other in ((lesson.train, planner.train), (lesson.tune, planner.tune)):
        assert {case.trajectory_id for case in one} == {case.trajectory_id for case in other}
    assert not {case.task_group for case in lesson.train} & {case.task_group for case in planner.tune}
    assert {case.correction for case in planner.train} == {None}, "the right end is not the right plan"
    assert any(case.expected for case in planner.train)


@pytest.mark.parametrize(
    ("names", "rewards", "said"),
    [
        (["planner", "critic"], None, "unknown site 'critic'"),
        (["planner"], None, "at least two"),
        (["planner", "writer"], [{"kind": "feedback"}], "nobody can judge"),
    ],
)
def test_what_cannot_be_done_jointly_is_said(night: Night, names: list[str], rewards: Any, said: str) -> None:
    if rewards is not None:
        parsed = settings.parse({**SETTINGS, "rewards": rewards}, root=night.config.root, where="t")
        night = replace(night, config=parsed)
    with pytest.raises(ConfigError, match=said):
        systems.choose(night, names)
    config = replace(night.config, optimize=replace(night.config.optimize, jointly=tuple(names)))
    _, left = systems.tonight(replace(night, config=config))
    assert any(said in reason for reason in left), "a night goes on without it"


def test_a_whole_night_improves_them_and_says_so(night: Night, orchestrator: None) -> None:
    from tracemill.pipelines import flows

    report = flows.nightly(night)
    (decision,) = report.decisions
    assert (decision.verdict, [one.channel for one in report.releases]) == ("PROMOTE", ["production"]), report.left_out
    runs = {
        row["stage"]: json.loads(row["detail"])
        for row in night.select("SELECT stage, detail FROM runs WHERE night_id = 'n'").to_pylist()
    }
    assert len(runs["optimize"]["jointly"]) == 2
    assert runs["optimize"]["calls"] <= night.config.optimize.max_calls
    assert "train" not in runs, "what is improved jointly are prompts"
    assert live_prompt(night.config.root / "published" / "production", agent="planner").bundle_id is not None
