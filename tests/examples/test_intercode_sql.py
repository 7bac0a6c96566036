"""The example of an environment: SQL that is really run, in bounds, and compared with what the gold query gives."""

import importlib.util
import json
import sqlite3
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tracemill.app import settings
from tracemill.protocols import Environment

FOLDER = Path(__file__).resolve().parents[2] / "examples/intercode_sql"


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"intercode_sql_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture
def databases(tmp_path: Path) -> Path:
    con = sqlite3.connect(tmp_path / "music.sqlite")
    con.execute("create table singer (id integer, name text)")
    con.execute("insert into singer values (1, 'Ann'), (2, 'Bea')")
    con.commit()
    con.close()
    return tmp_path


def shell(databases: Path, **options: Any) -> Environment:
    made: Environment = module("sql_shell").SqlShell(databases=str(databases), **options)
    return made


TASK = {"db": "music", "gold": "SELECT name FROM singer"}


def test_an_agent_asks_until_it_submits_and_its_last_result_counts(databases: Path) -> None:
    sql = shell(databases)
    assert sql.reset(TASK) == ""
    assert sql.step("execute[select id from singer]") == ("[(1,), (2,)]", None, False)
    assert sql.step("SELECT nam FROM singer") == ("Error executing query: no such column: nam", None, False)
    assert sql.step("```sql\nselect name from singer order by id desc\n```")[2] is False
    assert sql.step("submit") == ("", 1.0, True)
    sql.reset(TASK)
    assert sql.step("submit") == ("", 0.0, True), "nothing was asked since the episode began"


def test_one_turn_is_over_with_its_first_query(databases: Path) -> None:
    sql = shell(databases, turns=1, show_schema=True)
    assert "CREATE TABLE singer" in sql.reset(TASK).replace("create table", "CREATE TABLE")
    assert sql.step("select name from singer") == ("[('Ann',), ('Bea',)]", 1.0, True)
    sql.reset(TASK)
    assert sql.step("I do not know.")[1:] == (0.0, True)


@pytest.mark.parametrize(
    "look",
    [
        "SELECT sql FROM sqlite_master WHERE type = 'table';",
        "execute[SHOW TABLES]",
        "```sql\nDESCRIBE singer\n```",
        "PRAGMA table_info(singer)",
        "select column_name from information_schema.columns",
        ".schema",
    ],
)
def test_a_look_at_how_the_tables_are_made_is_no_query_as_often_as_it_is_allowed(databases: Path, look: str) -> None:
    sql = shell(databases, turns=1, looks=1)
    sql.reset(TASK)
    seen, reward, over = sql.step(look)
    assert seen.lower().startswith("the tables are:\ncreate table singer")
    assert (reward, over) == (None, False)
    assert sql.step(look)[1:] == (0.0, True), "the second one is the query of the episode"
    sql.reset(TASK)
    assert sql.step("select name from singer order by name desc limit 9")[1:] == (1.0, True), "and no look is needed"


@pytest.mark.parametrize(
    "query",
    [
        "drop table singer",
        "attach 'x.sqlite' as x",
        "select load_extension('x')",
        "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n",
    ],
)
def test_no_query_writes_wanders_or_runs_for_ever(databases: Path, query: str) -> None:
    before = (databases / "music.sqlite").read_bytes()
    sql = shell(databases, turns=1, timeout_s=0.2)
    sql.reset(TASK)
    seen, reward, over = sql.step(f"execute[{query}]")
    assert seen.startswith("Error executing query: ")
    assert (reward, over) == (0.0, True)
    assert (databases / "music.sqlite").read_bytes() == before
    assert sorted(path.name for path in databases.iterdir()) == ["music.sqlite"]


def test_what_cannot_be_judged_is_no_reward_and_what_is_missing_is_an_error(databases: Path) -> None:
    sql = shell(databases, turns=1)
    sql.reset({**TASK, "gold": "select name from singer where id = 9"})
    assert sql.step("select name from singer where id = 8")[1] is None
    for wrong in ({"db": "../music"}, {"db": "none"}):
        with pytest.raises(FileNotFoundError):
            sql.reset({**TASK, **wrong})
    with pytest.raises(Exception, match="no such table"):
        sql.reset({**TASK, "gold": "select 1 from nowhere"})
    with pytest.raises(FileNotFoundError):
        shell(databases / "nowhere")


def test_the_project_that_is_written_is_one(tmp_path: Path) -> None:
    (tmp_path / "data/intercode-sql/databases").mkdir(parents=True)
    project = module("project")
    url = "http://127.0.0.1:8000/v1"
    options = project.Options(endpoint=project.remote(url, "agent"), writing=project.writing(url, "writer"), calls=900)
    with pytest.raises(SystemExit, match=r"no tasks\.jsonl"):
        project.write(tmp_path / "data", tmp_path / "sql", options)
    (tmp_path / "data/intercode-sql/tasks.jsonl").write_text("")
    project.write(tmp_path / "data", tmp_path / "sql", options)
    config = settings.load(tmp_path / "sql")
    assert (config.endpoint.base_url, config.endpoint.model) == (url, "agent")
    assert (config.optimize.reflection_url, config.optimize.reflection_model) == (url, "writer")
    assert (config.optimize.ladder, config.optimize.max_calls) == (("lint", "executed"), 900)
    assert config.environment.max_steps == 1 + config.environment.options["looks"]
    assert config.environment.make == "sql_shell:SqlShell"
    assert Path(config.environment.options["databases"]).is_dir()


@pytest.mark.data
def test_every_gold_query_earns_its_reward_where_it_proves_anything(data: Path) -> None:
    folder = data / "intercode-sql"
    sql = shell(folder / "databases", turns=1)
    rewards: list[float | None] = []
    for line in (folder / "tasks.jsonl").read_text().splitlines()[::6]:
        task = json.loads(line)
        sql.reset(task)
        rewards.append(sql.step(task["gold"])[1])
    assert set(rewards) <= {1.0, None}
    assert rewards.count(1.0) > 0.9 * len(rewards)
