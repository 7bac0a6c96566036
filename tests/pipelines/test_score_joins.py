"""Feedback in other files: joined by a declared key, with a report of what did not match on either side."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tracemill.app import settings
from tracemill.app.cli import app
from tracemill.errors import ConfigError
from tracemill.pipelines import ingesting, joining
from tracemill.pipelines.night import Night
from tracemill.warehouse import Lake

RUN = {
    "reward": 1,
    "em": 1,
    "f1": 1.0,
    "traj": [
        {"role": "user", "content": "Who?"},
        {"role": "assistant", "content": "Action: finish[x]"},
        {"role": "user", "content": "Observation: done"},
    ],
}
NOW = 1_790_000_000_000_000_000
SETTINGS = """
[[formats]]
name = "desk"
columns = { trace_id = "run", session_id = "talk", input = "q", output = "a", task_key = "task", response_id = "rid" }
"""


def lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with three FireAct runs (two of one task) and four rows of a format of its own in its lake."""
    root = tmp_path_factory.mktemp("project")
    (root / "tracemill.toml").write_text(SETTINGS)
    config = settings.load(root)
    (root / "one.json").write_text(json.dumps({"7": RUN, "8": {**RUN, "pred": "x"}}))
    (root / "two.json").write_text(json.dumps({"8": {**RUN, "pred": "y"}}))
    desk = [
        {
            "run": f"r{n}",
            "talk": f"s{n // 2}",
            "q": f"q {n}",
            "a": "b",
            "task": f"t-{n}",
            "rid": f"c-{n}",
            "job": f"j{n}",
        }
        for n in range(4)
    ]
    lines(root / "desk.jsonl", *desk)
    with Lake.create(config.lake_path) as lake:
        made = Night(night_id="n", config=config, lake=lake, clock=lambda: NOW)
        ingesting.take_in(made, [root / name for name in ("one.json", "two.json", "desk.jsonl")])
    return root


@pytest.fixture
def night(project: Path, tmp_path: Path) -> Iterator[Night]:
    """A night of a copy of the project in `tmp_path`."""
    shutil.copytree(project, tmp_path, dirs_exist_ok=True)
    config = settings.load(tmp_path)
    with Lake.open(config.lake_path) as lake:
        yield Night(night_id="n", config=config, lake=lake, clock=lambda: NOW)


Join = Callable[..., tuple[joining.ScoreJoin, list[dict[str, Any]]]]


@pytest.fixture
def join(night: Night, tmp_path: Path) -> Join:
    """Joins a feedback file of these rows; gives the report and the scores that stand in the lake for it."""

    def run(*rows: dict[str, Any], on: str) -> tuple[joining.ScoreJoin, list[dict[str, Any]]]:
        report = ingesting.take_in(night, [], scores=[lines(tmp_path / "f.jsonl", *rows)], on=on)
        (found,) = report.joins
        scores = night.select("SELECT target_kind, target_id, value FROM scores WHERE name = 'feedback' ORDER BY ALL")
        assert report.items == report.scores + report.duplicates + report.quarantined
        return found, scores.to_pylist()

    return run


def test_sessions_on_either_side_that_the_other_has_not_are_counted_and_named(join: Join) -> None:
    report, scores = join({"session_id": "s0", "value": 1}, {"session_id": "s9", "value": 0}, on="session_id")
    assert asdict(report) | {"file": ""} == {
        "file": "",
        "on": "session_id",
        "keys": 2,
        "matched": 1,
        "unknown": 1,
        "unknown_examples": ("s9",),
        "ambiguous": 0,
        "ambiguous_examples": (),
        "without_row": 1,
        "without_row_examples": ("s1",),
    }
    assert [row["target_id"] for row in scores] == ["s0", "s9"], "a judgement may come before what it judges"


def test_a_task_judges_the_one_trajectory_that_worked_on_it(join: Join, night: Night) -> None:
    report, scores = join(
        {"task_key": "t-1", "value": 1},
        {"task_key": "7", "value": 0},
        {"task_key": "nowhere", "value": 1},
        on="task_key",
    )
    assert (report.matched, report.unknown_examples, report.without_row) == (2, ("nowhere",), 5)
    runs = night.select("SELECT trajectory_id FROM trajectories WHERE task_key = 'fireact:7'").to_pylist()
    assert {(row["target_kind"], row["target_id"], row["value"]) for row in scores} == {
        ("trajectory", "r1", 1.0),
        ("trajectory", runs[0]["trajectory_id"], 0.0),
    }


def test_a_task_of_several_trials_says_not_which_was_judged(join: Join, night: Night) -> None:
    report, scores = join({"task_key": "fireact:8", "value": 1}, on="task_key")
    assert (report.matched, report.ambiguous, report.ambiguous_examples) == (0, 1, ("fireact:8",))
    assert scores == []
    (refused,) = night.select("SELECT reason, excerpt FROM quarantine").to_pylist()
    assert refused["reason"] == ("no feedback row: 2 trajectories or spans of the lake share the task_key 'fireact:8'")
    assert json.loads(refused["excerpt"])["value"] == 1.0


def test_a_key_called_otherwise_in_the_file(join: Join) -> None:
    report, scores = join({"instance": "t-2", "value": 1}, on="task_key=instance")
    assert (report.matched, [row["target_id"] for row in scores]) == (1, ["r2"])


def test_a_response_names_its_call_and_an_attribute_its_trajectory(join: Join, night: Night) -> None:
    _, scores = join({"response_id": "c-3", "value": 1}, on="response_id")
    (span,) = night.select("SELECT span_id FROM spans WHERE trace_id = 'r3'").to_pylist()
    assert [(row["target_kind"], row["target_id"]) for row in scores] == [("span", span["span_id"])]
    report, scores = join({"job": "j0", "value": 0}, on="attributes.job")
    assert (report.matched, report.without_row) == (1, 3)
    assert ("trajectory", "r0") in {(row["target_kind"], row["target_id"]) for row in scores}


def test_joining_again_takes_what_matches_now_and_settles_what_was_refused(
    join: Join, night: Night, tmp_path: Path
) -> None:
    assert join({"task_key": "t-9", "value": 1}, on="task_key")[0].unknown == 1
    assert night.select("SELECT reason FROM quarantine").num_rows == 1
    late = {"run": "r9", "talk": "s9", "q": "late", "a": "b", "task": "t-9", "rid": "c-9"}
    ingesting.take_in(night, [lines(tmp_path / "late.jsonl", late)])
    report, scores = join({"task_key": "t-9", "value": 1}, on="task_key")
    assert (report.matched, [row["target_id"] for row in scores]) == (1, ["r9"])
    assert night.select("SELECT reason FROM quarantine").num_rows == 0
    assert join({"task_key": "t-9", "value": 1}, on="task_key")[1] == scores, "the same judgement twice is one row"


@pytest.mark.parametrize("on", ["ticket", "attributes.", 'attributes.a"b', "task"])
def test_a_key_that_names_nothing_is_refused(night: Night, tmp_path: Path, on: str) -> None:
    path = lines(tmp_path / "f.jsonl", {"ticket": 1, "value": 1})
    with pytest.raises(ConfigError, match=r"scores cannot be joined on .*known: span_id, .*task_key.*attributes\.NAME"):
        ingesting.take_in(night, [], scores=[path], on=on)


def test_the_report_reads_well_and_is_part_of_json(night: Night, tmp_path: Path) -> None:
    path = lines(tmp_path / "f.csv", {"x": 1})
    path.write_text("task_key,value\nt-0,1\nfireact:8,0\nnone,1\n")
    night.lake.close()
    command = ["ingest", "--project", str(tmp_path), "--scores", str(path), "--on", "task_key"]
    said = CliRunner().invoke(app, command)
    assert said.exit_code == 0, said.output
    assert "1 of 3 keys (task_key) name something in the lake" in said.output
    assert "1 not known to the lake, such as none" in said.output
    assert "1 shared by several in the lake, such as fireact:8" in said.output
    assert "4 trajectories of the lake without a row, such as " in said.output
    told = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    (joined,) = told["joins"]
    assert (joined["keys"], joined["matched"], joined["unknown_examples"]) == (3, 1, ["none"])
