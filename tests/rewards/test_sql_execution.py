"""The SQL-execution verifier: equal results are right, and no query can write, wander or run for ever."""

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from logged_case import case

from tracemill.errors import ConfigError
from tracemill.rewards.sql_execution import SqlExecution, extract_sql


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "databases").mkdir()
    con = sqlite3.connect(tmp_path / "databases" / "music.sqlite")
    con.execute("create table singer (id integer, name text, age real)")
    con.execute("insert into singer values (1, 'Ann', 20.5), (2, 'Bea', 30), (3, 'Ann', null)")
    con.commit()
    con.close()
    sqlite3.connect(tmp_path / "outside.sqlite").close()
    return tmp_path


def verifier(root: Path, **options: Any) -> SqlExecution:
    return SqlExecution(root=root, database="databases/{db}.sqlite", **options)


def judge(root: Path, gold: str, output: str, db: str = "music", **options: Any) -> float | None:
    task = {"db": db, "gold": gold}
    return verifier(root, **options).verify(case(task=task), output)


@pytest.mark.parametrize(
    ("output", "query"),
    [
        ("SELECT 1", "SELECT 1"),
        ("Sure, here it is:\n```sql\nSELECT 1\n```\nDone.", "SELECT 1"),
        ("```\nSELECT 0\n```\nor better\n```sqlite\nSELECT 1```", "SELECT 1"),
        ("execute[SELECT a[1] FROM t]", "SELECT a[1] FROM t"),
        ("Action: execute[SELECT 1]", "SELECT 1"),
        ("The answer: with a as (select 1) select * from a", "with a as (select 1) select * from a"),
        ("submit", None),
        ("", None),
    ],
)
def test_the_query_is_found_in_what_models_write(output: str, query: str | None) -> None:
    assert extract_sql(output) == query


@pytest.mark.parametrize(
    ("output", "reward"),
    [
        ("select name from singer order by id desc", 1.0),
        ("SELECT name FROM singer;", 1.0),
        ("select distinct name from singer", 0.0),
        ("select name, id from singer", 0.0),
        ("select nothing from singer", 0.0),
        ("I do not know.", 0.0),
        ("select name from singer; drop table singer", 0.0),
    ],
)
def test_rows_are_compared_as_a_multiset(root: Path, output: str, reward: float) -> None:
    assert judge(root, "SELECT name FROM singer", output) == reward


def test_numbers_are_equal_by_value(root: Path) -> None:
    assert judge(root, "select count(*) from singer", "select 3.0") == 1.0
    assert judge(root, "select 0.1 + 0.2", "select 0.3") == 1.0
    assert judge(root, "select avg(age) from singer", "select 25.25") == 1.0
    assert judge(root, "select age from singer where id = 3", "select 0") == 0.0


def test_a_gold_query_that_proves_nothing_is_an_abstention(root: Path) -> None:
    assert judge(root, "select name from singer where id = 99", "select name from singer where id = 98") is None
    assert judge(root, "select nonsense", "select 1") is None
    assert judge(root, "select name from singer", "select 1", db="unknown") is None
    assert judge(root, "select name from singer", "select name from singer", max_rows=2) is None


def test_a_task_cannot_name_a_database_outside_the_folder(root: Path) -> None:
    inner = SqlExecution(root=root / "databases", database="{db}.sqlite")
    case_task = {"db": "../outside", "gold": "select 1"}
    assert inner._path(case_task) is None
    assert inner._path({"db": "music"}) is not None
    assert inner._path({}) is None


@pytest.mark.parametrize(
    "attack",
    [
        "delete from singer",
        "with x as (select 1) insert into singer select 1, 'x', 2",
        "select load_extension('evil')",
        "attach 'other.sqlite' as other",
        "pragma table_info(singer)",
        "execute[create table t (a)]",
        "execute[vacuum into 'copy.sqlite']",
    ],
)
def test_no_query_writes_attaches_or_configures(root: Path, attack: str) -> None:
    path = root / "databases" / "music.sqlite"
    before = path.read_bytes()
    output = attack if attack.startswith("execute") else f"execute[{attack}]"
    assert judge(root, "select name from singer", output) == 0.0
    assert path.read_bytes() == before
    assert sorted(p.name for p in path.parent.iterdir()) == ["music.sqlite"]


def test_a_query_that_never_ends_is_wrong_and_as_gold_an_abstention(root: Path) -> None:
    endless = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"
    assert judge(root, "select name from singer", endless, timeout_s=0.2) == 0.0
    assert judge(root, endless, "select 1", timeout_s=0.2) is None


def test_too_many_rows_are_wrong(root: Path) -> None:
    many = "with recursive n(i) as (select 1 union all select i + 1 from n) select i from n"
    assert judge(root, "select name from singer", many, max_rows=1000) == 0.0


@pytest.mark.data
def test_execution_agrees_with_the_logged_reward_of_single_turn_runs(data: Path, record_property: Any) -> None:
    """InterCode ran MySQL, this runs SQLite; what differs is left: MySQL functions, and letter case in comparisons."""
    root = data / "intercode-sql"
    tasks = {}
    for line in (root / "tasks.jsonl").read_text(encoding="utf-8").splitlines():
        task = json.loads(line)
        tasks[str(task["task_id"])] = task
    judged = agreed = 0
    for run in ("ic_sql_multiturn_gpt-3.5-1_turns.json", "ic_sql_multiturn_gpt-3.5-1_turns_handicap.json"):
        for key, row in json.loads((root / "runs" / run).read_text(encoding="utf-8")).items():
            task, history = tasks[key], row["turn_history"]
            reward = judge(root, task["gold"], history["actions"][-1], db=task["db"])
            if reward is not None:
                judged += 1
                agreed += (reward == 1.0) == (history["rewards"][-1] == 1.0)
    record_property("agreement", f"{agreed}/{judged}")
    print(f"agreement with the logged reward: {agreed} of {judged} = {agreed / judged:.4f}")
    assert judged >= 900
    assert agreed / judged >= 0.97


def test_databases_may_lie_outside_the_project_but_a_task_cannot_lead_out_of_their_folder(tmp_path: Path) -> None:
    databases = tmp_path / "elsewhere" / "databases"
    databases.mkdir(parents=True)
    for place in (databases / "pets.sqlite", databases.parent / "secret.sqlite"):
        with contextlib.closing(sqlite3.connect(place)) as con:
            con.executescript("create table pet(name text); insert into pet values ('Rex');")
    project = tmp_path / "project"
    project.mkdir()
    judge = SqlExecution(root=project, database=f"{databases}/{{db}}.sqlite")
    query = "select name from pet"

    def judged(db: str) -> float | None:
        return judge.verify(case(task={"db": db, "gold": query}), query)

    assert judged("pets") == 1.0
    assert judged("../secret") is None
    with pytest.raises(ConfigError, match="there is no folder"):
        SqlExecution(root=project, database="nowhere/{db}.sqlite")
