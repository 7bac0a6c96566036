"""Every command of the command line: one JSON object on request, and a plan of whatever changes something."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from tracemill.app.cli import app

ONLY_LOOKS = {
    "sql": "reads the lake, read-only; --output writes the file that was named",
    "releases": "lists what was released",
    "findings": "lists what was found",
    "blame": "shows what was proposed",
    "doctor": "looks and changes nothing",
}
"""Commands without --dry-run, with the reason."""


def options() -> dict[str, set[str]]:
    """The options of every command, as a person sees them."""
    group: Any = typer.main.get_command(app)
    return {
        name: {option for parameter in command.params for option in parameter.opts}
        for name, command in group.commands.items()
    }


def test_every_command_answers_in_json() -> None:
    assert {name for name, known in options().items() if "--json" not in known} == set()


def test_every_command_that_does_something_can_tell_its_plan_first() -> None:
    assert {name for name, known in options().items() if "--dry-run" not in known} == set(ONLY_LOOKS)


def test_every_command_works_on_a_project_that_can_be_named() -> None:
    # The demo's folder is its project.
    assert {name for name, known in options().items() if "--project" not in known} == {"demo"}


def invoke(*arguments: str) -> Any:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def in_checkout() -> None:
    import tracemill

    if not (Path(tracemill.__file__).resolve().parents[2] / "examples" / "triage_agent").is_dir():
        pytest.skip("the demo's agent is only in a checkout")


@pytest.mark.usefixtures("in_checkout")
@pytest.mark.parametrize(
    ("flags", "days"), [([], [320, 50]), (["--nights", "2"], [320, 200, 50]), (["--permute"], [320])]
)
def test_the_demo_tells_its_days_and_how_long_it_takes_and_does_nothing(
    tmp_path: Path, flags: list[str], days: list[int]
) -> None:
    folder = tmp_path / "demo"
    plan = json.loads(invoke("demo", str(folder), *flags, "--dry-run", "--json").stdout)
    assert [day["tickets"] for day in plan["days"]] == days
    low, high = plan["minutes"]
    assert 0 < low < high
    nights = [step for step in plan["steps"] if step.startswith("night ")]
    assert len(nights) == (2 if "2" in flags else 1)
    told = invoke("demo", str(folder), *flags, "--dry-run").stdout
    assert "would" in told
    assert all(step in told for step in plan["steps"])
    assert f"{low} to {high} minutes" in told
    assert not folder.exists()


@pytest.mark.usefixtures("in_checkout")
def test_the_demo_refuses_somebody_elses_folder_in_a_dry_run_too(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    result = CliRunner().invoke(app, ["demo", str(tmp_path), "--dry-run"])
    assert result.exit_code == 2
    assert "is not empty" in result.stderr


def test_serve_model_tells_what_it_would_serve(tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    arguments = ["serve-model", "smollm2", "--port", "8123", "--adapter", f"night1={adapter}", "--dry-run"]
    arguments += ["--project", str(tmp_path)]
    assert json.loads(invoke(*arguments, "--json").stdout) == {
        "model": "smollm2",
        "host": "127.0.0.1",
        "port": 8123,
        "adapters": {"night1": str(adapter)},
    }
    assert "would serve smollm2 at http://127.0.0.1:8123/v1" in invoke(*arguments).stdout
    assert [entry.name for entry in tmp_path.iterdir()] == ["adapter"]


def test_serve_model_announces_itself_in_one_json_object(tmp_path: Path) -> None:
    """A model that is not there: the object, then one line of what is wrong, and nothing else on stdout."""
    command = [sys.executable, "-m", "tracemill", "serve-model", "nobody/knows-this", "--port", "0", "--json"]
    process = subprocess.Popen(
        [*command, "--project", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        out, err = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.communicate()
    told = json.loads(out)
    assert told["port"] > 0
    assert told["base_url"] == f"http://127.0.0.1:{told['port']}/v1"
    assert "nobody/knows-this" in err
    assert process.returncode == 2
