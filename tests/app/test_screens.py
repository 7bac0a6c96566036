"""What a person reads: results at any width, refusals with their reasons, settings that are checked."""

import fcntl
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from rich.console import Console
from typer.testing import CliRunner

from tracemill.app.cli import app
from tracemill.app.output import Output
from tracemill.app.project import night_id
from tracemill.app.tables import Rows
from tracemill.pipelines import judging
from tracemill.pipelines.night import Night


def run(*arguments: str, project: Path) -> Any:
    return CliRunner().invoke(app, [*arguments, "--project", str(project)])


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    assert run("init", project=folder).exit_code == 0
    return folder


def on_terminal(table: pa.Table, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None, highlight=False)
    console.print(Rows(table))
    return str(console.file.getvalue()).splitlines()  # type: ignore[attr-defined]


def test_a_wide_row_is_drawn_line_by_line_and_stays_readable() -> None:
    wide = pa.table({f"column_{place}": [f"value {place}"] for place in range(30)})
    lines = on_terminal(wide, 80)
    assert max(map(len, lines)) <= 80
    for place in range(30):
        assert any(line.split() == [f"column_{place}", "value", str(place)] for line in lines)


def test_on_a_terminal_an_identifier_is_folded_and_never_cut() -> None:
    path = "/a/rather/long/folder/with/many/parts/and/a/name/at/its/end/trace.jsonl"
    lines = on_terminal(pa.table({"source_uri": [path], "reason": ["because " * 12]}), 80)
    assert max(map(len, lines)) <= 80
    assert "".join(line.split("│")[0].strip() for line in lines[2:]) == path


def test_a_long_cell_says_how_long_it_is() -> None:
    (row,) = on_terminal(pa.table({"text": ["y" * 5_000]}), 400)[2:]
    assert "(5000 characters)" in row


def test_columns_of_one_name_keep_their_values(project: Path) -> None:
    found = json.loads(run("sql", "SELECT 1 AS a, 2 AS a", "--json", project=project).stdout)
    assert found == {"columns": ["a", "a"], "rows": [[1, 2]]}
    assert "1 │ 2" in run("sql", "SELECT 1 AS a, 2 AS a", project=project).stdout


def test_json_numbers_stay_numbers_and_it_is_json_that_everyone_reads(project: Path) -> None:
    query = "SELECT sum(n) AS s, 1.5::DECIMAL(9, 2) AS d, 'nan'::DOUBLE AS x, make_timestamp_ns(1234567891) AS t"
    shown = run("sql", f"{query} FROM range(4) r(n)", "--json", project=project).stdout

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    found = json.loads(shown, parse_constant=refuse)
    assert found["rows"] == [[6, 1.5, "nan", "1970-01-01 00:00:01.234567"]]


def test_the_output_file_tells_the_format_and_a_folder_that_is_not_there_is_one_line(project: Path) -> None:
    target = project / "x.csv"
    assert run("sql", "SELECT 1 AS a, [1, 2] AS b", "-o", str(target), project=project).exit_code == 0
    assert target.read_text().splitlines() == ['"a","b"', '1,"[1, 2]"']
    for name in ("nowhere/x.csv", "nowhere/x.json", "nowhere/x.parquet"):
        result = run("sql", "SELECT 1 AS a", "-o", str(project / name), project=project)
        assert result.exit_code == 2
        assert result.stderr.startswith("Error: --output ")
        assert len(result.stderr.splitlines()) == 1


def test_an_error_is_one_line_also_where_duckdb_says_more(project: Path) -> None:
    for query in ("SELECT nope FROM llm_calls", "SELECT * FROM nope", "SELEC 1", "   "):
        result = run("sql", query, project=project)
        assert result.exit_code == 2
        assert len(result.stderr.splitlines()) == 1


def test_refusals_are_told_with_their_reasons(project: Path, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    for number in range(3):
        (logs / f"{number}.json").write_text(json.dumps({"what": number}))
    (logs / "empty.json").write_text("")
    shown = run("ingest", str(logs), project=project).stdout
    assert "4 records refused" in shown
    assert "3 × unknown format: JSON records with the keys what" in shown
    assert "1 × the file is empty" in shown
    again = run("ingest", str(logs), project=project).stdout
    assert "Nothing new" in again
    assert "collect" not in again
    landing = project / ".tracemill" / "landing"
    landing.mkdir(parents=True)
    with (landing / "1760000000000000-1-0001.traces.jsonl.part").open("w") as file:  # as a running collector has it
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "tracemill collect" in run("ingest", str(logs), project=project).stdout


def test_a_reason_names_few_keys_and_none_that_is_a_text(project: Path, tmp_path: Path) -> None:
    log, secret = tmp_path / "a.json", "sk-" + "a1B2" * 60
    log.write_text(json.dumps({secret: 1} | {f"key_{number}": number for number in range(40)}))
    shown = run("ingest", str(log), project=project).stdout
    assert "with the keys (one of 243 characters), key_0, key_1" in shown
    found = run("sql", "SELECT reason FROM quarantine", "--json", project=project).stdout
    reason = json.loads(found)["rows"][0][0]
    assert reason.endswith("key_10, …")
    assert "a1B2" not in reason


def test_the_time_told_is_that_of_the_whole_command(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "a.jsonl"
    log.write_text('{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}\n')
    clock = [0.0]
    real = judging.mine

    def mine(night: Night) -> Any:
        clock[0] += 86
        return real(night)

    monkeypatch.setattr("tracemill.app.commands.data.perf_counter", lambda: clock[0])
    monkeypatch.setattr(judging, "mine", mine)
    assert "in 86.0 s" in run("ingest", str(log), project=project).stdout


def test_a_dry_run_makes_no_lake(tmp_path: Path) -> None:
    log = tmp_path / "a.json"
    log.write_text("{}")
    result = run("ingest", str(log), "--dry-run", project=tmp_path / "none")
    assert result.exit_code == 0, result.output
    assert not (tmp_path / "none").exists()


def test_the_format_of_a_source_counts(project: Path) -> None:
    (project / "logs").mkdir()
    (project / "logs" / "a.json").write_text(json.dumps({"what": "ever"}))
    (project / "tracemill.toml").write_text('[[sources]]\npath = "logs"\nformat = "otlp-json"\n')
    result = run("ingest", project=project)
    assert result.exit_code == 2
    assert "this is not otlp-json" in result.stderr


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("[gate]\nalpha = 7", "'gate.alpha': input should be less than 1"),
        ("[split]\ngate_share = 0.0", "'split.gate_share': input should be greater than 0"),
        ("[gate]\nmax_cases = -4", "'gate.max_cases': input should be greater than or equal to 1"),
        ('[gate]\nvalid_output = "("', "'gate.valid_output': no regular expression"),
        ('[optimize]\noptimizers = "gepa"', "'optimize.optimizers': input should be a list"),
        ("gate = 3", "'gate': input should be a table"),
    ],
)
def test_a_setting_out_of_its_range_is_refused_by_name(project: Path, settings: str, says: str) -> None:
    (project / "tracemill.toml").write_text(settings + "\n")
    result = run("score", project=project)
    assert result.exit_code == 2
    assert says in result.stderr


@pytest.mark.parametrize(
    ("settings", "check"),
    [
        ('[[rewards]]\nkind = "nope"', "rewards"),
        ('[[rewards]]\nkind = "regex"', "rewards"),
        ('[optimize]\noptimizers = ["nope"]', "optimizers"),
        ('[optimize]\noptimizers = ["gepa"]', "optimizers"),
        ("[optimize.options.nearest]\nkk = 3", "optimizers"),
        ('[train]\nbase_model = "."\ntrainer = "nope"', "trainer"),
        ('[[publish]]\nkind = "s3"\nurl = "s3://a/b"', "publish"),
        ('[[publish]]\nkind = "url"', "publish"),
        ("publish = []", "publish"),
        ('[tasks]\npath = "nofile.jsonl"\nkey = "id"', "tasks"),
    ],
)
def test_doctor_finds_what_a_night_would_stumble_over_late(project: Path, settings: str, check: str) -> None:
    (project / "tracemill.toml").write_text(settings + "\n")
    result = run("doctor", "--json", project=project)
    assert result.exit_code == 2, result.output
    failing = [one["name"] for one in json.loads(result.stdout)["checks"] if one["health"] == "fail"]
    assert failing == [check]


def test_version(project: Path) -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0
    assert result.stdout.startswith("tracemill ")


def test_two_runs_of_one_second_have_two_names_that_sort_by_time() -> None:
    begun = 1_790_000_000_000_000_000
    names = [night_id(begun + later) for later in (0, 1_000, 900_000_000, 1_000_000_000, 86_400_000_000_000)]
    assert names[0] == "2026-09-21T14-13-20-000000Z"
    assert names == sorted(set(names))


@pytest.mark.parametrize("terminal", [False, True])
def test_what_a_log_says_does_not_steer_the_progress(terminal: bool) -> None:
    output, drawn = Output(as_json=False), io.StringIO()
    output.stderr = Console(file=drawn, force_terminal=terminal, width=120)
    with output.progress() as tell:
        tell("optimize", "lint: \x1b]0;owned\x07\u202e[/bold] is no line")
        tell("optimize", "lint: [red]calls[/red]", 1, 2)
    shown = drawn.getvalue()
    assert "[/bold] is no line" in shown
    assert "[red]calls[/red]" in shown
    assert not any(sign in shown for sign in ("\x1b]0", "\x07", "\u202e"))
