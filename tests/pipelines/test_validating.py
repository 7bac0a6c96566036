"""Reports decide which judges the combined score may use, and say so."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from judged_lake import JUDGE, NOW, SEALED, SIGNALS, Logged, build, label, opened, put, row, truth, weak

from tracemill.pipelines import validating
from tracemill.pipelines.night import Night
from tracemill.rewards.feedback import Feedback
from tracemill.rewards.report import latest

RUNS, LABELLED = 160, 90


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("judged") / "project"
    build(root, RUNS, more='[combined]\nsealed = ["sealed"]\n')
    with opened(root) as night:
        put(night, [label(n) for n in range(LABELLED)])
        put(night, [label(n, who="ben") for n in range(30)])
        read_feedback(night)
    return root


def read_feedback(night: Night) -> None:
    with night.lake.reader() as con:
        found = Feedback().score(con, now_ns=NOW)
    with night.lake.transaction("feedback") as tx:
        tx.insert("scores", found)


@pytest.fixture
def project(lake: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(lake, tmp_path / "project"))


def reports(night: Night) -> dict[str, dict[str, Any]]:
    with night.lake.reader() as con:
        return latest(con)


def test_a_report_tells_how_far_a_judge_agrees_with_people(project: Path) -> None:
    with opened(project) as night:
        written = validating.combine(night, [SIGNALS, JUDGE, SEALED, Feedback()])
        found = reports(night)
    assert written["combined"] == written["combined_low"] == RUNS
    assert set(found) == {"signals", "rubric", "sealed", "combined"}, "people are not held against themselves"
    signals = found["signals"]
    assert (signals["n"], signals["n_labelled"], signals["passed"]) == (RUNS, LABELLED, True)
    metrics = signals["metrics"]
    assert 0.7 < metrics["auc"] < 1
    assert metrics["kappa_ceiling"] == 1.0
    assert metrics["n_two_raters"] == 30
    assert metrics["worst_slice"]["n"] >= 25
    assert metrics["worst_slice"]["auc"] <= metrics["auc"] + 0.05
    assert metrics["sealed_gap"]["sealed"]["n"] == RUNS
    assert metrics["probes"] is None
    assert found["rubric"]["metrics"]["flip_rate"] == 0
    assert metrics["flip_rate"] is None
    assert sum(one["n"] for one in signals["reliability"]) == LABELLED
    assert sum(metrics["histogram"]) == RUNS
    success = metrics["success"]
    assert success["corrected"]["n"] == LABELLED
    assert success["corrected"]["low"] < sum(map(truth, range(RUNS))) / RUNS < success["corrected"]["high"]
    combined = found["combined"]["metrics"]
    assert combined["auc"] > 0.8
    assert combined["auc"] < 1, "its own labels are held out"


def test_the_same_report_is_not_written_twice_and_what_changes_is(project: Path) -> None:
    with opened(project) as night:
        validating.combine(night, [SIGNALS])
    with opened(project, now_ns=NOW + 1) as night:
        validating.combine(night, [SIGNALS])
        count = "SELECT count(*) AS n FROM reward_reports WHERE name = 'signals'"
        assert night.select(count)["n"].to_pylist() == [1]
        put(
            night,
            [
                row(f"r{n}", "signals", 0.99, source="code", family="signals", version="1", evidence="late")
                for n in range(9)
            ],
        )
        put(
            night,
            [{**one, "at": NOW + 5, "score_id": f"x{n}", "value": 0.999} for n in range(RUNS) for one in weak(n)[:1]],
        )
    with opened(project, now_ns=NOW + 2) as night:
        validating.combine(night, [SIGNALS])
        assert night.select(count)["n"].to_pylist() == [2]
        newest = reports(night)["signals"]
    assert newest["metrics"]["psi"] > 0.25
    assert newest["failures"][0] == "AUC 0.50 is below 0.55"


@pytest.mark.parametrize(("n", "told"), [(50, True), (49, False)])
def test_drift_is_that_of_what_is_new_and_a_few_tell_none(project: Path, n: int, told: bool) -> None:
    with opened(project) as night:
        validating.combine(night, [SIGNALS])
        top = {"value": 0.999, "at": NOW + 5}
        put(night, [{**weak(at)[0], **top, "score_id": f"x{at}"} for at in range(n)])
    with opened(project, now_ns=NOW + 6) as night:
        validating.combine(night, [SIGNALS])
        psi = reports(night)["signals"]["metrics"]["psi"]
    # Of all scores less than half has moved; of the new ones all has.
    assert (psi > 1) if told else (psi is None)


def _flip(night: Night) -> None:
    put(
        night,
        [
            {
                **row(f"r{n}", "rubric", 0.5, source="llm", family="judge:m", version="1", evidence='{"flipped":true}'),
                "at": NOW + 9,
            }
            for n in range(80)
        ],
    )


def _boast(night: Night) -> None:
    put(
        night,
        [
            {**row(f"r{n}", "rubric", 1.0, source="llm", family="judge:m", version="1"), "at": NOW + 9}
            for n in range(RUNS)
        ],
    )


def _reverse(night: Night) -> None:
    put(
        night,
        [
            {**one, "value": 1 - one["value"], "at": NOW + 9, "score_id": f"rev{n}"}
            for n in range(RUNS)
            for one in weak(n)
            if one["name"] == "rubric"
        ],
    )


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_flip, "it flips with the order in 50% of cases"),
        (_boast, "more than the sealed sealed"),
        (_reverse, "AUC 0.1"),
    ],
)
def test_a_judge_that_misses_a_threshold_is_not_used_and_everybody_hears_it(
    project: Path, spoil: Callable[[Night], None], says: str
) -> None:
    told: list[str] = []
    with opened(project) as night:
        spoil(night)
        loud = Night(
            night_id="n2", config=night.config, lake=night.lake, clock=night.clock,
            tell=lambda stage, message, done=None, total=None: told.append(message),
        )  # fmt: skip
        validating.combine(loud, [SIGNALS, JUDGE])
        (failed,) = [name for name, one in reports(night).items() if one["passed"] is False]
        assert failed == "rubric"
        said = [one for one in validating.warnings(night) if one.startswith("rubric is not used: ")]
        assert any(says in one for one in said)
        assert {f"WARNING: {one}" for one in said} <= set(told)
        evidence = night.select("SELECT evidence FROM scores WHERE name = 'combined' AND target_id = 'r150'")
    assert json.loads(evidence["evidence"][0].as_py())["families"] == ["signals"]


def test_judges_that_came_with_the_logs_are_held_to_labels_by_their_names(project: Path) -> None:
    with opened(project) as night:
        put(night, [row(f"r{n}", "helpful", 0.9 - 0.8 * truth(n), source="llm") for n in range(RUNS)])
        put(night, [row(f"r{n}", "grounded", 0.1 + 0.8 * truth(n), source="llm") for n in range(RUNS)])
        validating.combine(night, [SIGNALS, JUDGE, SEALED])
        found = reports(night)
        evidence = night.select(
            "SELECT list(s.name ORDER BY s.name) AS used FROM scores c JOIN scores s ON list_contains("
            "from_json(c.evidence -> '$.score_ids', '[\"VARCHAR\"]'), s.score_id) "
            "WHERE c.name = 'combined' AND c.target_id = 'r150'"
        )
    assert (found["helpful"]["passed"], found["helpful"]["version"]) == (False, "")
    assert found["helpful"]["failures"][0] == "AUC 0.00 is below 0.55"
    assert (found["grounded"]["passed"], found["grounded"]["metrics"]["auc"]) == (True, 1.0)
    assert evidence["used"].to_pylist() == [["grounded", "rubric", "signals"]]


def test_judges_of_steps_and_sessions_are_held_to_the_episodes_they_belong_to(project: Path) -> None:
    with opened(project) as night:
        sessions = night.select("SELECT trajectory_id, session_id FROM trajectories").to_pylist()
        step = {"target_kind": "step", "source": "code", "family": "tools", "version": "1"}
        said = [row(f"r{n}/{at}", "steps", 1.0 if truth(n) else at * 0.5, **step) for n in range(RUNS) for at in (0, 1)]
        session = {"target_kind": "session", "source": "code", "version": "1"}
        said += [
            row(one["session_id"], "talks", float(not truth(int(one["trajectory_id"][1:]))), **session)
            for one in sessions
        ]
        put(night, said)
        steps = Logged(name="steps", family="tools", level="step")
        validating.combine(night, [SIGNALS, steps, Logged(name="talks", family="verifier", level="session")])
        found = reports(night)
    assert (found["steps"]["n"], found["steps"]["n_labelled"]) == (RUNS, LABELLED)
    assert found["steps"]["metrics"]["auc"] == 1
    bad = sum(not truth(n) for n in range(LABELLED)) / LABELLED
    assert found["steps"]["metrics"]["brier"]["value"] == pytest.approx(bad / 16), "two steps of 0 and 0.5 are 0.25"
    assert (found["talks"]["n"], found["talks"]["metrics"]["auc"]) == (RUNS, 0)
    assert found["talks"]["passed"] is True, "an order of episodes is not what it is for"


def test_too_few_labels_decide_nothing(tmp_path: Path) -> None:
    build(tmp_path / "p", 30)
    with opened(tmp_path / "p") as night:
        put(night, [label(n) for n in range(12)])
        read_feedback(night)
        validating.combine(night, [SIGNALS])
        found = reports(night)["signals"]
    assert (found["passed"], found["n_labelled"], found["failures"]) == (None, 12, [])
    assert found["metrics"]["auc"] is not None, "it is told all the same"


def test_the_environments_rewards_stand_in_where_people_said_too_little(tmp_path: Path) -> None:
    build(tmp_path / "p", 80)
    with opened(tmp_path / "p") as night:
        put(night, [row(f"r{n}", "reward", float(truth(n)), source="env") for n in range(80)])
        validating.combine(night, [SIGNALS])
        found = reports(night)["signals"]
    assert (found["metrics"]["against"], found["passed"], found["n_labelled"]) == ("env", True, 80)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gullible(Logged):
    """Judges text by its length, and believes what it is told."""

    def judge_texts(self, texts: list[str]) -> list[float | None]:
        return [1.0 if "score 1" in text else min(0.9, len(text) / 4000) for text in texts]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deaf(Logged):
    """The same version, which must not be asked again."""

    def judge_texts(self, texts: list[str]) -> list[float | None]:
        raise AssertionError("asked again")


def test_a_judge_of_texts_is_probed_once_a_version(project: Path) -> None:
    judge = Gullible(name="rubric", family="judge:m")
    with opened(project) as night:
        validating.combine(night, [judge])
        found = reports(night)["rubric"]
        assert found["metrics"]["probes"]["injection"] == {"n": 20, "raised": 1.0, "shift": pytest.approx(1, abs=0.1)}
        assert 0.1 < found["metrics"]["probes"]["padding"]["shift"] < 0.3
        assert {one.split(" raises")[0] for one in found["failures"]} == {"injection", "padding"}
    with opened(project) as night:
        validating.combine(night, [Deaf(name="rubric", family="judge:m")])
        assert reports(night)["rubric"]["metrics"]["probes"] == found["metrics"]["probes"]


def test_a_combined_score_that_is_not_calibrated_is_withheld(project: Path) -> None:
    with opened(project) as night:
        put(night, [row(f"r{n}", "exact", 1.0, source="code") for n in range(RUNS)])
        (project / "tracemill.toml").write_text(
            (project / "tracemill.toml").read_text() + "[reports]\nmax_ece = 0.05\n"
        )
    with opened(project) as night:
        validating.combine(night, [SIGNALS, JUDGE])
        found = reports(night)["combined"]
        assert found["passed"] is False
        assert any("calibration error" in one for one in found["failures"])
        assert any(one.startswith("combined is not used: calibration") for one in validating.warnings(night))
