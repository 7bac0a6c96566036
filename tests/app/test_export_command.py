"""`tracemill export` on the command line."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tracemill.app.cli import app


def invoke(*arguments: str, code: int = 0) -> Any:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose lake holds two conversations."""
    root = tmp_path_factory.mktemp("export-project")
    lines = [
        {"messages": [{"role": "user", "content": f"Question {n}?"}], "response": {"choices": [], "id": f"r{n}"}}
        for n in range(2)
    ]
    (root / "calls.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    invoke("init", "--project", str(root))
    invoke("ingest", str(root / "calls.jsonl"), "--project", str(root))
    return root


def test_export_writes_a_file_and_says_what(project: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    told = invoke("export", "atif", "-o", str(out), "--project", str(project), "--json")
    assert json.loads(told.stdout) == {
        "target": "atif",
        "output": str(out),
        "trajectories": 2,
        "records": 2,
        "empty": 0,
    }
    assert {json.loads(line)["schema_version"] for line in out.read_text().splitlines()} == {"ATIF-v1.8"}


def test_export_tells_its_plan_and_writes_nothing(project: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    where = ("--where", "n_spans > 99")
    told = invoke("export", "trl", "-o", str(out), *where, "--project", str(project), "--dry-run", "--json")
    plan = {"target": "trl", "format": "parquet", "output": str(out), "trajectories": 0}
    assert json.loads(told.stdout) == {"would_write": plan}
    assert not out.exists()


def test_export_to_stdout_gives_records_alone(project: Path) -> None:
    told = invoke("export", "otlp", "-o", "-", "--project", str(project))
    assert all("resourceSpans" in json.loads(line) for line in told.stdout.splitlines())
    assert "wrote 2 records of 2 trajectories" in told.stderr


def test_mistakes_are_one_line(project: Path, tmp_path: Path) -> None:
    told = invoke("export", "nothing", "-o", str(tmp_path / "x"), "--project", str(project), code=2)
    assert "unknown target 'nothing'; known: atif, otlp, openai, trl" in told.stderr
    told = invoke("export", "atif", "-o", "-", "--json", "--project", str(project), code=2)
    assert "neither with --json nor with Parquet" in told.stderr
