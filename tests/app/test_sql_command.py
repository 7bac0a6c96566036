"""tracemill sql: answers of any size, when they are asked for, and what other clients need to ask themselves."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from tracemill.app.cli import app
from tracemill.schema import TABLES
from tracemill.warehouse import Lake
from tracemill.warehouse.engine import extension_path

MANY = "SELECT range AS n, [range] AS l FROM range(30000)"
"""More rows than one batch has."""


def run(*arguments: str, project: Path, **options: Any) -> Any:
    return CliRunner().invoke(app, [*arguments, "--project", str(project)], **options)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose lake has one task, one night that read it, and then another task."""
    folder = tmp_path_factory.mktemp("sql") / "project"
    assert run("init", project=folder).exit_code == 0
    with Lake.open(folder / ".tracemill" / "lake") as lake:

        def write(table: str, **row: Any) -> int:
            with lake.transaction("write") as tx:
                tx.insert(table, pa.Table.from_pylist([row], schema=TABLES[table].schema))
            return lake.snapshot_id()

        read = write("tasks", task_key="a")
        write("tasks", task_key="b")
        write(
            "runs", night_id="2026-11-22T02-00", stage="mine", started_ns=1, ended_ns=2, status="ok", snapshot_id=read
        )
    return folder


def test_a_large_answer_is_whole_in_every_form(project: Path, tmp_path: Path) -> None:
    for name in ("x.json", "x.csv", "x.parquet"):
        done = run("sql", MANY, "-o", str(tmp_path / name), project=project)
        assert done.exit_code == 0, done.output
        assert done.stderr.split() == f"30000 rows in {tmp_path / name}".split()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.csv", "x.json", "x.parquet"]
    rows = [[n, [n]] for n in range(30_000)]
    assert json.loads((tmp_path / "x.json").read_text()) == {"columns": ["n", "l"], "rows": rows}
    assert pq.read_table(tmp_path / "x.parquet").column("n").to_pylist() == list(range(30_000))
    lines = (tmp_path / "x.csv").read_text().splitlines()
    assert (len(lines), lines[0], lines[-1]) == (30_001, '"n","l"', '29999,"[29999]"')
    assert json.loads(run("sql", MANY, "--json", project=project).stdout)["rows"] == rows


def test_an_answer_without_rows_has_its_columns_in_every_form(project: Path, tmp_path: Path) -> None:
    for name in ("x.json", "x.csv", "x.parquet"):
        assert run("sql", f"{MANY} WHERE n < 0", "-o", str(tmp_path / name), project=project).exit_code == 0
    assert json.loads((tmp_path / "x.json").read_text()) == {"columns": ["n", "l"], "rows": []}
    assert (tmp_path / "x.csv").read_text() == '"n","l"\n'
    assert pq.read_table(tmp_path / "x.parquet").schema.names == ["n", "l"]
    assert "no rows" in run("sql", f"{MANY} WHERE n < 0", project=project).stdout


def test_on_the_screen_the_first_rows_are_shown_and_no_more_are_computed(project: Path) -> None:
    shown = run("sql", "SELECT range AS n FROM range(1000000000000)", project=project).stdout
    assert "the first 200 rows" in shown
    assert "199" in shown
    assert "the first" not in run("sql", "SELECT range AS n FROM range(200)", project=project).stdout


def test_a_file_that_is_there_stays_when_the_query_fails_in_the_middle(project: Path, tmp_path: Path) -> None:
    failing = "SELECT CASE WHEN range = 29999 THEN error('no more') ELSE range END AS n FROM range(30000)"
    for name in ("x.json", "x.csv", "x.parquet"):
        (tmp_path / name).write_text("mine")
        done = run("sql", failing, "-o", str(tmp_path / name), project=project)
        assert done.exit_code == 2
        assert "no more" in done.stderr
        assert (tmp_path / name).read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 3


def test_a_link_is_written_through(project: Path, tmp_path: Path) -> None:
    (tmp_path / "target.csv").touch()
    (tmp_path / "link.csv").symlink_to(tmp_path / "target.csv")
    assert run("sql", "SELECT 1 AS a", "-o", str(tmp_path / "link.csv"), project=project).exit_code == 0
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "target.csv").read_text() == '"a"\n1\n'


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_a_full_disk_is_one_line(project: Path) -> None:
    done = run("sql", MANY, "--format", "csv", "-o", "/dev/full", project=project)
    assert done.exit_code == 2
    assert done.stderr.startswith("Error: --output /dev/full: cannot be written")


def test_a_reader_that_has_enough_ends_the_query_without_noise(project: Path) -> None:
    for form in ("csv", "json"):
        reading, writing = os.pipe()
        command = [sys.executable, "-c", "from tracemill.app.cli import main; main()"]
        asked = ["sql", "FROM range(100000000)", "--format", form, "--project", str(project)]
        process = subprocess.Popen([*command, *asked], stdout=writing, stderr=subprocess.PIPE, text=True)
        os.close(writing)
        with os.fdopen(reading, "rb") as reader:
            assert len(reader.read(100)) == 100
        _, told = process.communicate(timeout=100)
        assert told == ""
        assert process.returncode == 1


def test_a_night_is_asked_by_its_name_or_as_the_last(project: Path) -> None:
    count = "SELECT count(*) AS n FROM tasks"

    def rows(*options: str) -> Any:
        done = run("sql", count, "--json", *options, project=project)
        assert done.exit_code == 0, done.stderr
        return json.loads(done.stdout)["rows"]

    assert rows() == [[2]]
    assert rows("--night", "last") == rows("--night", "2026-11-22") == [[1]]
    (snapshot,) = json.loads(run("sql", "SELECT snapshot_id FROM nights", "--json", project=project).stdout)["rows"][0]
    assert rows("--snapshot", str(snapshot)) == [[1]]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["SELECT 1", "--night", "2020"], "there was no night 2020"),
        (["SELECT 1", "--night", "last", "--snapshot", "3"], "--snapshot and --night"),
        (["SELECT 1", "--snapshot", "12345"], "no snapshot 12345"),
        (["SELECT 1", "--timeout", "0"], "--timeout 0"),
        (["SELECT sum(hash(range)) FROM range(1000000000000)", "--timeout", "0.3"], "longer than 0.3 s"),
        (["SELECT 1", "--attach"], "--attach"),
    ],
)
def test_what_cannot_be_asked_is_one_line(project: Path, arguments: list[str], told: str) -> None:
    done = run("sql", *arguments, project=project)
    assert done.exit_code == 2
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(("options", "tasks"), [((), 2), (("--night", "last"), 1)])
def test_what_attach_prints_is_all_that_another_client_needs(
    project: Path, options: tuple[str, ...], tasks: int
) -> None:
    printed = run("sql", "--attach", *options, project=project).stdout
    install, *statements = [one.strip() for one in printed.split(";\n") if one.strip()]
    assert install == "INSTALL ducklake; INSTALL sqlite"
    with duckdb.connect(config={"autoinstall_known_extensions": False}) as con:
        # INSTALL wants the network; the same binaries come with our wheels.
        for extension in ("ducklake", "sqlite_scanner"):
            con.execute(f"LOAD '{extension_path(extension)}'")
        for statement in statements:
            con.execute(statement)
        assert con.execute("SELECT count(*) FROM tasks").fetchall() == [(tasks,)]
        with pytest.raises(duckdb.Error, match="read-only"):
            con.execute("DELETE FROM tasks")


def test_the_prompt_goes_on_after_an_error_and_ends_with_the_input(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tracemill.app.commands import sql as room

    said = iter(["SELECT", "nothing FROM tasks;", ";", "SELECT 41 + 1 AS n;"])

    def typed(_: str) -> str:
        try:
            return next(said)
        except StopIteration as error:
            raise EOFError from error

    monkeypatch.setattr("builtins.input", typed)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    room.sql(project, None, format=None, output=None, snapshot=None, night=None, timeout_s=None, attach=False)
    shown = capsys.readouterr()
    assert "Error: the query failed" in shown.err
    assert "42" in shown.out
