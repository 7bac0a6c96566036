"""tracemill score --report: what a person sees of how far judges can be believed."""

import json
from pathlib import Path
from typing import Any

import pytest
from judged_lake import JUDGE, NOW, SEALED, SIGNALS, Logged, build, label, opened, put, row, truth
from typer.testing import CliRunner

from tracemill.app.cli import app
from tracemill.pipelines import validating
from tracemill.rewards.feedback import Feedback

WRONG = Logged(name="wrong", family="learned")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("reports") / "project"
    build(root, 150, more='[combined]\nsealed = ["sealed"]\n')
    with opened(root) as night:
        put(night, [label(n) for n in range(0, 150, 2)])
        put(
            night,
            [
                row(f"r{n}", "wrong", 0.8 - 0.6 * truth(n) + n / 1000, source="model", family="learned", version="1")
                for n in range(150)
            ],
        )
        with night.lake.reader() as con:
            said = Feedback().score(con, now_ns=NOW)
        with night.lake.transaction("feedback") as tx:
            tx.insert("scores", said)
        validating.combine(night, [SIGNALS, JUDGE, SEALED, WRONG])
    return root


def run(project: Path, *arguments: str, width: int = 120) -> Any:
    return CliRunner().invoke(app, ["score", "--project", str(project), *arguments], env={"COLUMNS": str(width)})


def test_the_overview_says_who_is_used_and_what_the_success_rate_is(project: Path) -> None:
    shown = run(project, "--report", width=80).stdout
    lines = {line.split()[0]: line for line in shown.splitlines() if " 150 " in line}
    assert set(lines) == {"combined", "rubric", "sealed", "signals", "wrong"}, "one line each, though narrow"
    assert " used " in lines["signals"]
    assert " sealed " in lines["sealed"]
    assert "not used" in lines["wrong"]
    assert "wrong: AUC" in shown
    assert "Success rate of all episodes:" in shown
    assert "from 75 sampled labels" in shown
    assert all(len(line) <= 80 for line in shown.splitlines())


def test_one_model_is_shown_in_full_and_as_json(project: Path) -> None:
    shown = run(project, "--report", "rubric").stdout
    for word in ("AUC", "calibration slope", "above sealed", "What it said, and what was found", "length "):
        assert word in shown
    found = json.loads(run(project, "rubric", "--json").stdout)["reports"]
    assert [one["name"] for one in found] == ["rubric"]
    assert found[0]["metrics"]["brier"]["value"] < 0.25
    unknown = run(project, "--report", "nobody")
    assert unknown.exit_code != 0
    assert "no report of 'nobody'; there are reports of combined, rubric" in str(unknown.exception) + unknown.output


def test_the_page_holds_every_model_its_plot_and_nothing_from_outside(project: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    page = tmp_path / "out" / "judges.html"
    result = run(project, "--html", str(page))
    assert result.exit_code == 0, result.output
    text = page.read_text()
    assert text.count("<svg") == 5
    assert "not used" in text
    assert "prediction-powered" in text
    assert "http" not in text.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    ).replace("https://matplotlib.org", "")


def test_the_picture_holds_the_plots(project: Path, tmp_path: Path) -> None:
    image = pytest.importorskip("matplotlib.image")
    one, every = tmp_path / "out" / "one.png", tmp_path / "every.png"
    assert run(project, "rubric", "--png", str(one)).exit_code == 0
    assert run(project, "--png", str(every)).exit_code == 0
    (height, width, _), (most_height, most_width, _) = (image.imread(path).shape for path in (one, every))
    assert (most_width, most_height) == (3 * width, 2 * height), "five models in two rows"


def test_before_anything_was_scored_it_says_what_to_do(tmp_path: Path) -> None:
    build(tmp_path / "p", 1)
    result = run(tmp_path / "p", "--report")
    assert result.exit_code != 0
    assert "no reward model has a report yet; tracemill score makes them" in str(result.exception) + result.output
