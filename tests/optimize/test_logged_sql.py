"""The scripted agent and writer of bench/intercode.py do what they say; the branch finds what the real logs show."""

import importlib
import json
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"
QUESTION = "How many singers are there?"
TABLES = 'The tables are:\nCREATE TABLE "singer" ("Singer_ID" int)\nCREATE TABLE "song" ("Song_ID" int)'


@pytest.fixture(scope="module")
def benches() -> Iterator[None]:
    """The folder of benchmarks, which is no package, where modules are looked for."""
    paths = list(sys.path)
    sys.path.insert(0, str(BENCH))
    try:
        yield
    finally:
        sys.path[:] = paths
        for name in [one for one in sys.modules if one.partition(".")[0] in ("intercode", "harness", "project")]:
            del sys.modules[name]


@pytest.fixture
def scripted(benches: None) -> ModuleType:
    return importlib.import_module("harness.logged_sql")


@pytest.fixture
def agent(scripted: ModuleType) -> Any:
    known = scripted.Known(tables=frozenset({"singer", "song"}), without="SELECT 1", shown="SELECT 2")
    return scripted.LoggedAgent({QUESTION: known, "Who lives at 12 High Street?": known})


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def test_the_agent_answers_as_logged_and_knows_the_tables_only_where_they_are_shown(
    scripted: ModuleType, agent: Any
) -> None:
    asked = turn("user", QUESTION)
    told = turn("system", "Before you write the query, look at the schema of the tables.")
    look = turn("assistant", scripted.LOOK)
    assert agent.answer([asked]) == "SELECT 1"
    assert agent.answer([told, asked]) == scripted.LOOK
    assert agent.answer([told, asked, look, turn("user", TABLES)]) == "SELECT 2"
    assert agent.answer([turn("system", TABLES), asked]) == agent.answer([asked, turn("user", TABLES)]) == "SELECT 2"
    half = turn("user", TABLES.partition('\nCREATE TABLE "song')[0])
    assert agent.answer([told, asked, look, half]) == "SELECT 1", "it asks once, and half of the tables are not enough"
    assert agent.answer([asked, turn("assistant", TABLES)]) == "SELECT 1", "its own words show nothing"
    assert agent.answer([turn("user", "Who lives at [ADDRESS_0123abcd]?")]) == "SELECT 1"
    with pytest.raises(ValueError, match="no answer to this"):
        agent.answer([turn("user", "And now?")])


@pytest.mark.parametrize(
    ("told", "looks"),
    [
        ("Be brief.\nInspect the database schema before writing any SQL.", True),
        ("Never guess names; always query sqlite_master for the schema before you answer.", True),
        ("Never write SQL before you have inspected the schema.", True),
        ("Do not look at the schema first.", False),
        ("Check the schema.", False),
        ("Think first. Return exactly the columns that are asked for.", False),
    ],
)
def test_only_an_instruction_to_look_at_the_tables_first_is_one(scripted: ModuleType, told: str, looks: bool) -> None:
    assert scripted.looks_first(told) is looks


def test_errors_about_names_raise_the_line_that_helps_and_others_beside_it(scripted: ModuleType) -> None:
    helping = scripted.MENU[0].wordings
    assert [[scripted.looks_first(text) for text in one.wordings].count(True) for one in scripted.MENU] == [3] + 11 * [
        0
    ]
    ask = 'Answer with one JSON object: {"new_lines": ["…"], "helped": [1], "hurt": [2]}'
    found: dict[str, Counter[str]] = {}
    for said in ("It earned 0.00 of 1.\n", "It earned 0.00 of 1. A tool answered: Unknown column 'name'\n"):
        found[said] = Counter()
        for seed in range(300):
            body = {"model": "writer", "seed": seed, "messages": [turn("user", 4 * said + ask)]}
            answer = json.loads(scripted.LineWriter().answer(body))
            found[said].update(answer["new_lines"])
            assert json.loads(scripted.LineWriter().answer(body)) == answer
    blind, shown = (sum(lines[text] for text in helping) for lines in found.values())
    assert 10 < blind < shown / 1.2
    assert shown < 200, "most lines are others, also with the evidence"


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.usefixtures("benches")
def test_the_branch_finds_that_tables_are_looked_at_first(data: Path, tmp_path: Path) -> None:
    bench = importlib.import_module("intercode")
    with bench.scripted(data) as models:
        size = bench.Size(calls=300, tune=24, judged=1_000)
        given = Namespace(night=False, full=False)
        found = bench.run(tmp_path, data, given, models, size, ("apo", "nearest"), 1)
    assert found["production"]["estimate"] < 0.2
    assert found["apo"]["looks_first"] == 1
    assert found["apo"]["less_production"]["low"] > 0.3
    assert found["nearest"]["no_winner"] == 1, "no demonstration shows a table"
