"""Nights that ask a language model: cached, budgeted, in portions, stopped and taken up again, forgotten."""

import json
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from judge_server import Server, Shown, honest, judge_server

from tracemill.app import settings
from tracemill.errors import ConfigError, EndpointError
from tracemill.pipelines import asking, forgetting, ingesting, judging, validating
from tracemill.pipelines.config import RewardConfig
from tracemill.pipelines.night import Night
from tracemill.rewards.judge import Judge
from tracemill.warehouse import Lake

NOW = 1_790_000_000_000_000_000
FORMAT = """
[[formats]]
name = "desk"
columns = { trace_id = "run", session_id = "talk", user = "who", input = "q", output = "a", agent_name = "agent" }
"""


@pytest.fixture
def server() -> Iterator[Server]:
    def says(shown: Shown) -> Any:
        if "rubric" in shown.sections:
            return honest(shown)
        attempts = sorted(shown.log["attempts"], key=lambda one: json.dumps(one["steps"]))
        return {"ranking": [one["label"] for one in attempts]}

    with judge_server(says) as running:
        yield running


@pytest.fixture
def start(tmp_path: Path, server: Server) -> Iterator[Callable[..., Night]]:
    """A project with so many runs in its lake, whose rewards are the judge (and what else is said)."""
    lakes: list[Lake] = []

    def made(runs: int, *, judge: str = "", more: str = "", same_task: int = 1) -> Night:
        text = FORMAT + f'\n[[rewards]]\nkind = "judge"\nbase_url = "{server.url}"\nmodel = "m"\n{judge}\n{more}'
        (tmp_path / "tracemill.toml").write_text(text)
        config = settings.load(tmp_path)
        lake = Lake.create(config.lake_path)
        lakes.append(lake)
        night = Night(night_id="n", config=config, lake=lake, clock=lambda: NOW)
        rows = [
            {"run": f"run{n}", "talk": f"talk{n}", "who": f"user{n}", "agent": "desk",
             "q": f"Please see to case {'abcdefghijklmnop'[n // same_task % 16] * 9} number {n // same_task}.",
             "a": f"Case {n} was {'done well' if n % 2 else 'given up'}."}
            for n in range(runs)
        ]  # fmt: skip
        (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        ingesting.take_in(night, [tmp_path / "log.jsonl"])
        return night

    yield made
    for lake in lakes:
        lake.close()


def said(night: Night, name: str = "judge") -> dict[str, float | None]:
    rows = night.select("SELECT target_id, value FROM scores WHERE name = ?", name).to_pylist()
    assert len(rows) == len({row["target_id"] for row in rows})
    return {row["target_id"]: row["value"] for row in rows}


@pytest.mark.slow
def test_a_night_judges_every_episode_once_and_pays_for_nothing_twice(
    start: Callable[..., Night], server: Server
) -> None:
    night = start(10, more='[[rewards]]\nkind = "signals"\n')
    written = judging.score(night)
    assert written["judge"] == 10
    assert sorted(said(night).values(), key=str) == [0.0] * 5 + [1.0] * 5
    judged = len(server.asked)
    report = night.select("SELECT metrics FROM reward_reports WHERE name = 'judge'")["metrics"][0].as_py()
    assert json.loads(report)["flip_rate"] == 0
    assert json.loads(report)["probes"]["injection"]["shift"] == 0
    assert judging.score(night)["judge"] == 0
    assert len(server.asked) == judged
    # Another name is another judge with rows of its own; the same questions are answered from the lake.
    again = replace(night, config=replace(night.config, rewards=(replace(night.config.rewards[0], name="other"),)))
    assert judging.score(again)["other"] == 10
    assert len(server.asked) == judged


def test_attempts_at_one_task_are_ranked(start: Callable[..., Night], server: Server) -> None:
    night = start(6, same_task=3, more=f'[[rewards]]\nkind = "ranker"\nbase_url = "{server.url}"\nmodel = "m"\n')
    assert judging.score(night)["ranker"] == 6
    assert len({value for value in said(night, "ranker").values() if value is not None}) >= 3


def test_without_an_address_of_its_own_the_endpoint_is_asked(start: Callable[..., Night], server: Server) -> None:
    night = start(2)
    own = RewardConfig(kind="judge")
    endpoint = replace(night.config.endpoint, base_url=server.url, model="other")
    judging.score(replace(night, config=replace(night.config, rewards=(own,), endpoint=endpoint)))
    assert night.select("SELECT DISTINCT family FROM scores WHERE name = 'judge'")["family"].to_pylist() == [
        "judge:other"
    ]
    with pytest.raises(ConfigError, match=r"reward 'judge' asks a language model: set its base_url and model"):
        judging.score(replace(night, config=replace(night.config, rewards=(own,))))


def test_a_budget_ends_the_judging_and_the_next_night_goes_on(start: Callable[..., Night], server: Server) -> None:
    told: list[str] = []
    night = start(120, judge="budget_tokens = 18000\nconcurrency = 4")  # 100 tokens a call: 180 of 240, and probes
    night = replace(night, tell=lambda stage, what, *_: told.append(what))
    judging.score(night)
    first = said(night)
    assert 0 < len(first) < 120
    assert 170 <= len(server.asked) <= 180
    assert any("the budget {'tokens': 18000} of reward 'judge' (budget_tokens) is used up" in one for one in told)
    judging.score(night)
    assert len(said(night)) == 120
    assert first.items() <= said(night).items()


@pytest.mark.slow
def test_a_dead_endpoint_is_named_after_all_else_was_scored(start: Callable[..., Night], server: Server) -> None:
    night = start(500, more='[[rewards]]\nkind = "regex"\npattern = "well"\n', judge="concurrency = 8")
    server.fails = lambda shown: (401, {}) if len(server.asked) > 140 else None
    with pytest.raises(EndpointError, match=server.url):
        judging.score(night)
    assert 0 < len(said(night)) < 500
    assert None not in said(night).values()
    assert len(said(night, "regex")) == 500
    assert night.select("SELECT count(*) AS n FROM scores WHERE name = 'combined'")["n"][0].as_py() > 0
    before, server.fails = len(server.asked), lambda shown: None
    judging.score(night)
    assert len(said(night)) == 500
    assert len(server.asked) - before <= 1000 - 128 + 5 * 2 * 20  # what was answered is not asked again; probes are new


def test_a_killed_night_is_taken_up_where_it_was(start: Callable[..., Night], server: Server) -> None:
    night = start(150, judge="concurrency = 8")
    root = night.config.root
    kept = "SELECT count(*) AS n FROM replays"
    night.lake.close()
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from tracemill.app import settings
        from tracemill.pipelines import judging
        from tracemill.pipelines.night import Night
        from tracemill.warehouse import Lake
        config = settings.load(Path(sys.argv[1]))
        with Lake.open(config.lake_path) as lake:
            judging.score(Night(night_id="killed", config=config, lake=lake, clock=lambda: 1))
        """
    )
    with subprocess.Popen([sys.executable, "-c", script, str(root)]) as running:
        honest_answers = server.says

        def says(shown: Shown) -> Any:
            if len(server.asked) > 128:
                time.sleep(0.05)  # so that the rest takes longer than it takes to see that some were kept
            if len(server.asked) % 8 == 0 and night.select(kept)["n"][0].as_py() >= 64:
                running.kill()
            return honest_answers(shown)

        server.says = says
        assert running.wait() == -signal.SIGKILL
    server.says = honest_answers
    killed = len(server.asked)
    paid = night.select(kept)["n"][0].as_py()
    assert 64 <= paid < 300
    judging.score(night)
    assert len(said(night)) == 150
    assert len(server.asked) - killed == 300 - paid + 2 * 5 * validating.PROBED


def test_answers_are_forgotten_with_the_episodes_that_they_quote(start: Callable[..., Night], tmp_path: Path) -> None:
    night = start(8, same_task=2, more='[[rewards]]\nkind = "ranker"\n[endpoint]\nbase_url = "x"\n')
    ranker = replace(night.config.rewards[1], options=dict(night.config.rewards[0].options))
    night = replace(night, config=replace(night.config, rewards=(night.config.rewards[0], ranker)))
    judging.score(night)
    names = {row["talk"]: row["id"] for row in night.select(
        "SELECT session_id AS talk, trajectory_id AS id FROM trajectories").to_pylist()}  # fmt: skip
    quoting = "SELECT count(*) AS n FROM replays WHERE completion LIKE '%Case 3 was%'"
    assert night.select(quoting)["n"][0].as_py() > 0
    before = night.select("SELECT count(*) AS n FROM replays")["n"][0].as_py()
    forgotten = next(one for one in names.values() if said(night)[one] == 1.0 and "3" in _text(night, one))
    forgetting.forget(night, trace=forgotten, landing=tmp_path / "none")
    assert night.select(quoting)["n"][0].as_py() == 0
    left = night.select("SELECT count(*) AS n FROM replays")["n"][0].as_py()
    assert 0 < left < before
    assert forgotten not in said(night)


def _text(night: Night, trajectory: str) -> str:
    found = night.select("SELECT string_agg(text, ' ') AS t FROM conversations WHERE trajectory_id = ?", trajectory)
    return str(found["t"][0].as_py())


def test_a_key_that_is_not_set_and_a_missing_address_are_told_before_the_night(start: Callable[..., Night]) -> None:
    config = start(0).config
    model = Judge(base_url="http://h/v1", model="m", api_key_env="NO_SUCH_KEY")
    with pytest.raises(ConfigError, match="NO_SUCH_KEY"):
        asking.whom(config, model, {})
    assert asking.whom(config, model, {"NO_SUCH_KEY": "k"}) == "m at http://h/v1"
    with pytest.raises(ConfigError, match="set its base_url and model"):
        asking.whom(config, Judge(), {})
