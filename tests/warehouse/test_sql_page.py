"""docs/sql.md is what the lake is: every view, table and column with its meaning, and examples that run."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tracemill.schema import TABLES
from tracemill.warehouse import Lake, layout, meanings, sql, sql_page

PAGE = Path(__file__).resolve().parents[2] / "docs/sql.md"
WRITTEN = "python -m tracemill.warehouse.sql_page docs/sql.md"
EXAMPLES = re.findall(r"^### ([^`\n]+)\n\n```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
UNASKED = re.findall(r"```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def lived(
    tmp_path_factory: pytest.TempPathFactory, build: Callable[..., Any], rows_of: Callable[..., pa.Table]
) -> Iterator[Lake]:
    """A lake with a bit of everything: two episodes, judged and corrected, and a night that tried a better prompt."""
    with Lake.create(tmp_path_factory.mktemp("lived") / "lake") as lake:
        made = build()
        made.episode("a", session_id="s")
        made.episode("b", "where is my parcel", session_id="s")
        made.score("a", 0.0, name="combined")
        made.score("b", 1.0, name="combined")
        made.score("s", None, name="correction", label="billing", target_kind="session")
        made.refuse(7, "torn")
        with lake.transaction("night") as tx:
            tx.rebuild(tx.take(made.batch()).trace_ids)
            tx.assign_sites(
                pa.table(
                    {
                        "trajectory_id": ["a", "b"],
                        "step": pa.array([0, 0], pa.int32()),
                        "site_id": ["site"] * 2,
                        "site_version": ["v1"] * 2,
                    }
                )
            )
        read = lake.snapshot_id()
        night = {"night_id": "2026-11-22T02-00", "snapshot_id": read, "at": 1}
        evaluated = [
            {"evaluation_id": f"{who}{case}", "candidate_id": who, "case_id": case, "purpose": "gate"}
            | {"output": who, "reward": reward, "night_id": "2026-11-22T02-00"}
            for who, case, reward in (
                ("old", "a/0", 0.0),
                ("new", "a/0", 1.0),
                ("old", "b/0", 1.0),
                ("new", "b/0", 1.0),
            )
        ]
        verdict = {"verdict_id": "v", "candidate_id": "new", "baseline_id": "old", "verdict": "PROMOTE"}
        stage = {"stage": "optimize", "started_ns": 1, "ended_ns": 2, "status": "ok"}
        edge = {"edge_id": "e", "from_act": "start", "to_act": "lookup (fails)", "n": 2, "n_success": 1, "n_failure": 1}
        with lake.transaction("gate") as tx:
            tx.refill("process_edges", rows_of("process_edges", [edge]))
            candidates = [{"candidate_id": "old", "branch": "production"}, {"candidate_id": "new", "branch": "prompt"}]
            tx.insert("candidates", rows_of("candidates", [one | night | {"lineage": ["a"]} for one in candidates]))
            tx.insert("evaluations", rows_of("evaluations", evaluated))
            tx.insert("verdicts", rows_of("verdicts", [verdict | night]))
            tx.insert("releases", rows_of("releases", [{"release_id": "r", "candidate_id": "new"} | night]))
            tx.insert("runs", rows_of("runs", [stage | night]))
        yield lake


def test_the_page_is_written_from_the_schema() -> None:
    if PAGE.read_text(encoding="utf-8") != sql_page.page():
        pytest.fail(f"docs/sql.md is stale; write it again: {WRITTEN}", pytrace=False)


def test_every_view_and_table_and_each_of_their_columns_has_a_meaning() -> None:
    columns = {name: list(own) for name, own in sql_page.relations().items()}
    told = meanings.tables() | {name: meanings.view(name, text, columns[name]) for name, text in layout.views().items()}
    assert set(told) == set(columns)
    assert [name for name, one in told.items() if not one.about] == []
    assert [f"{name}.{column}" for name, one in told.items() for column, text in one.columns.items() if not text] == []
    assert {name: list(one.columns) for name, one in told.items()} == columns
    assert meanings.unused(columns) == []


def test_the_lake_itself_tells_what_it_holds(lived: Lake) -> None:
    tables = sql.query(lived, "SELECT table_name, comment FROM duckdb_tables() WHERE table_name <> 'lake_layout'")
    views = sql.query(lived, "SELECT view_name, comment FROM duckdb_views() WHERE NOT internal")
    told = dict(zip(*tables.to_pydict().values(), strict=True)) | dict(zip(*views.to_pydict().values(), strict=True))
    assert set(TABLES) | set(layout.views()) <= set(told)
    assert told["scores"] == meanings.tables()["scores"].comment()
    assert "\npropensity: probability with which this target was drawn for judgement; NULL: unknown" in told["scores"]
    assert told["nights"].startswith("One row per night: when it ran")
    assert "\nstages: its stages, in order" in told["nights"]


@pytest.mark.parametrize("query", [query for _, query in EXAMPLES], ids=[question for question, _ in EXAMPLES])
def test_every_question_has_an_answer(lived: Lake, query: str) -> None:
    assert sql.query(lived, query).num_rows > 0


def test_every_other_query_of_the_page_runs(lived: Lake) -> None:
    asked = {query for _, query in EXAMPLES}
    others = [query for query in UNASKED if query not in asked]
    assert len(EXAMPLES) > 12
    assert [sql.query(lived, query).num_rows for query in others] == [1, 2]


def test_the_queries_of_the_page_run_on_an_empty_lake(lake: Lake) -> None:
    with lake.reader() as con:
        for query in UNASKED:
            if "AT (" not in query:
                assert con.execute(query).fetchall() == [], query
