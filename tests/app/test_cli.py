"""The command line as a person meets it: what it prints, what it exits with, what it leaves behind."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tracemill.app import settings
from tracemill.app.cli import app
from tracemill.pipelines import ingesting
from tracemill.pipelines.night import Night
from tracemill.warehouse import Lake

OTLP = {
    "resourceSpans": [
        {
            "resource": {"attributes": []},
            "scopeSpans": [
                {
                    "scope": {"name": "x"},
                    "spans": [
                        {
                            "traceId": "0" * 31 + "1",
                            "spanId": "0" * 15 + "1",
                            "name": "chat m",
                            "startTimeUnixNano": "1790000000000000000",
                            "endTimeUnixNano": "1790000001000000000",
                            "attributes": [
                                {"key": key, "value": {"stringValue": value}}
                                for key, value in {
                                    "gen_ai.operation.name": "chat",
                                    "gen_ai.request.model": "m",
                                    "gen_ai.agent.name": "a",
                                    "gen_ai.input.messages": json.dumps(
                                        [{"role": "user", "parts": [{"type": "text", "content": "hello"}]}]
                                    ),
                                    "gen_ai.output.messages": json.dumps(
                                        [{"role": "assistant", "parts": [{"type": "text", "content": "hi"}]}]
                                    ),
                                }.items()
                            ],
                        }
                    ],
                }
            ],
        }
    ]
}


def run(*arguments: str, project: Path) -> Any:
    return CliRunner().invoke(app, [*arguments, "--project", str(project)])


def answer(*arguments: str, project: Path) -> dict[str, Any]:
    result = run(*arguments, "--json", project=project)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    assert run("init", project=folder).exit_code == 0
    return folder


def test_init_writes_settings_that_load_and_keeps_them_when_run_again(project: Path) -> None:
    settings = project / "tracemill.toml"
    settings.write_text(settings.read_text() + "\n# mine\n")
    again = answer("init", project=project)
    assert again["wrote_settings"] is False
    assert again["made_lake"] is False
    assert settings.read_text().endswith("# mine\n")


def test_ingest_then_sql_answers_as_documented(project: Path, tmp_path: Path) -> None:
    log = tmp_path / "trace.json"
    log.write_text(json.dumps(OTLP))
    first = answer("ingest", str(log), project=project)
    assert {name: first[name] for name in ("files", "spans", "messages", "trajectories", "quarantined")} == {
        "files": 1,
        "spans": 1,
        "messages": 2,
        "trajectories": 1,
        "quarantined": 0,
    }
    assert set(first) == {
        *("files", "items", "spans", "merged", "messages", "trajectories", "scores", "duplicates", "quarantined"),
        "seconds",
    }
    again = answer("ingest", str(log), project=project)
    assert again["files"] == again["spans"] == again["trajectories"] == 0
    assert answer("sql", "SELECT input_text, output_text FROM llm_calls", project=project) == {
        "columns": ["input_text", "output_text"],
        "rows": [["user: hello", "hi"]],
    }


def test_an_ingest_that_was_stopped_before_mining_is_made_good_by_the_next(project: Path, tmp_path: Path) -> None:
    log = tmp_path / "trace.json"
    log.write_text(json.dumps(OTLP))
    with Lake.open(project / ".tracemill" / "lake") as lake:  # what a killed ingest leaves: spans, and no sites
        night = Night(night_id="n", config=settings.load(project), lake=lake, clock=time.time_ns)
        assert ingesting.take_in(night, [log]).spans == 1
    sites = ("sql", "SELECT count(*), (SELECT count(site_id) FROM transitions) FROM sites")
    assert answer(*sites, project=project)["rows"] == [[0, 0]]
    assert answer("ingest", str(log), project=project)["files"] == 0
    assert answer(*sites, project=project)["rows"] == [[1, 1]]


def test_sql_gives_csv_and_parquet(project: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    shown = run("sql", "SELECT 1 AS a, [1, 2] AS b", "--format", "csv", project=project)
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.splitlines()[0] == '"a","b"'
    target = tmp_path / "x.parquet"
    assert run("sql", "SELECT 1 AS a", "--format", "parquet", "--output", str(target), project=project).exit_code == 0
    assert pq.read_table(target).to_pylist() == [{"a": 1}]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [("empty.json", b"", "empty"), ("noise.bin", bytes(range(256)) * 8, ""), ("other.json", b'{"what": "ever"}', "")],
)
def test_what_nobody_can_read_is_quarantined_and_the_rest_is_taken(
    project: Path, tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / name).write_bytes(content)
    (logs / "good.json").write_text(json.dumps(OTLP))
    taken = answer("ingest", str(logs), project=project)
    assert taken["spans"] == 1
    assert taken["quarantined"] == 1
    rows = answer("sql", "SELECT source_uri, line, reason FROM quarantine", project=project)["rows"]
    assert len(rows) == 1
    assert rows[0][0].endswith(name)
    assert rows[0][1] is None
    assert reason in rows[0][2]


def test_a_torn_last_line_is_quarantined_and_comes_in_when_it_is_whole(project: Path, tmp_path: Path) -> None:
    log = tmp_path / "traces.jsonl"
    whole = json.dumps(OTLP)
    second = whole.replace("0" * 31 + "1", "0" * 31 + "2")
    log.write_text(whole + "\n" + second[:200])
    taken = answer("ingest", str(log), project=project)
    assert (taken["spans"], taken["quarantined"]) == (1, 1)
    (row,) = answer("sql", "SELECT line FROM quarantine", project=project)["rows"]
    assert row == [2]
    log.write_text(whole + "\n" + second + "\n")
    assert answer("ingest", str(log), project=project)["spans"] == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["ingest", "/nowhere/at/all.json"], "/nowhere/at/all.json"),
        (["ingest"], "nothing to ingest|reading"),
        (["sql", "DROP TABLE spans"], "SELECT"),
        (["sql", "SELECT nothing FROM spans"], "nothing"),
        (["sql", "SELECT 1", "--format", "xml"], "--format 'xml'"),
        (["optimize", "ffff"], "unknown site 'ffff'"),
        (["gate", "ffff"], "no candidate begins with 'ffff'"),
        (["promote", "ffff"], "no candidate begins with 'ffff'"),
        (["rollback"], "has no release"),
        (["collect", "--token-env", "NOT_SET_ANYWHERE"], "NOT_SET_ANYWHERE"),
        (["schedule", "--cron", "often"], "five fields"),
        (["schedule", "--cron", "99 99 * * *"], "five fields"),
        (["sql", "SELECT 1 AS a", "--format", "csv", "--output", "/nowhere/at/all.csv"], "cannot be written"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(project: Path, arguments: list[str], says: str) -> None:
    if arguments == ["ingest"]:
        (project / "tracemill.toml").write_text("sources = []\n")
        says = "nothing to ingest"
    result = run(*arguments, project=project)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("Error: ")
    assert says in result.stderr
    assert "Traceback" not in result.output


def test_a_misspelt_setting_is_refused_with_the_known_ones(project: Path) -> None:
    (project / "tracemill.toml").write_text("[gate]\nalpa = 0.1\n")
    result = run("score", project=project)
    assert result.exit_code == 2
    assert "unknown key 'alpa' in [gate]; known: channel, alpha" in result.stderr


def test_without_a_lake_every_command_says_how_to_make_one(tmp_path: Path) -> None:
    for command in (["sql", "SELECT 1"], ["score"], ["mine"], ["nightly"], ["releases"], ["rollback"]):
        result = run(*command, project=tmp_path)
        assert result.exit_code == 2
        assert "tracemill init" in result.stderr


def test_dry_runs_change_nothing(project: Path, tmp_path: Path) -> None:
    log = tmp_path / "trace.json"
    log.write_text(json.dumps(OTLP))
    before = answer("sql", "SELECT count(*) FROM spans", project=project)
    for command in (["init"], ["collect"], ["ingest", str(log)], ["score"], ["mine"], ["nightly"], ["schedule"]):
        result = run(*command, "--dry-run", project=project)
        assert result.exit_code == 0, result.output
        assert "would" in result.output
    assert answer("sql", "SELECT count(*) FROM spans", project=project) == before
    fresh = tmp_path / "fresh"
    assert "would make" in run("init", "--dry-run", project=fresh).output
    assert "would read" in run("ingest", str(log), "--dry-run", project=fresh).output
    assert not fresh.exists()


def test_doctor_says_what_would_fail_tonight(project: Path) -> None:
    fine = answer("doctor", project=project)
    assert {check["name"]: check["health"] for check in fine["checks"]}["lake"] == "ok"
    (project / "tracemill.toml").write_text('[endpoint]\nbase_url = "http://127.0.0.1:9/v1"\n')
    result = run("doctor", project=project)
    assert result.exit_code == 2
    assert "tonight would fail: endpoint" in result.stderr
    (project / "tracemill.toml").write_text('[[rewards]]\nkind = "judge"\n')
    assert "tonight would fail: rewards" in run("doctor", project=project).stderr
    (project / "tracemill.toml").write_text('[[rewards]]\nkind = "judge"\nmodel = "m"\nbase_url = "http://h/v1"\n')
    asks = {check["name"]: check["detail"] for check in answer("doctor", project=project)["checks"]}
    assert asks["rewards"] == "judge (asks m at http://h/v1)"


def test_no_release_yet_is_an_empty_list(project: Path) -> None:
    assert answer("releases", project=project) == {"releases": []}


def test_a_source_is_read_in_the_format_it_names(project: Path) -> None:
    (project / "trace.json").write_text(json.dumps(OTLP))
    (project / "tracemill.toml").write_text('[[sources]]\npath = "trace.json"\nformat = "no-such-format"\n')
    assert "no-such-format" in run("ingest", project=project).stderr
    (project / "tracemill.toml").write_text('[[sources]]\npath = "trace.json"\nformat = "otlp-json"\n')
    assert answer("ingest", project=project)["spans"] == 1
