"""Queries that count calls look up no message, and nobody can tell by their answers."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tracemill.warehouse import Lake, lighter, readonly, sql

COUNTS = (
    "SELECT count(*) AS n, sum(tokens_in) AS tokens FROM llm_calls",
    "SELECT l.model, avg(l.latency_ms) AS ms FROM llm_calls AS l WHERE l.status = 'ok' GROUP BY ALL ORDER BY ALL",
    "SELECT model FROM llm_calls JOIN trajectories USING (trajectory_id) ORDER BY ALL",
    "WITH c AS (SELECT step, tokens_in FROM llm_calls) SELECT step, max(tokens_in) AS m FROM c GROUP BY 1 ORDER BY 1",
    "SELECT count(*) AS n FROM trajectories WHERE trajectory_id IN (SELECT trajectory_id FROM llm_calls)",
    "EXPLAIN SELECT count(*) FROM llm_calls",
)
READS = (
    "SELECT * FROM llm_calls ORDER BY trajectory_id, step",
    "SELECT l.* FROM llm_calls l ORDER BY trajectory_id, step",
    "FROM llm_calls ORDER BY trajectory_id, step",
    "TABLE llm_calls",
    "SELECT Input_Text FROM LLM_Calls ORDER BY 1",
    "SELECT count(l.output_messages) AS n FROM llm_calls l",
    "SELECT l FROM llm_calls l ORDER BY l.trajectory_id, l.step",
    "SELECT llm_calls FROM llm_calls ORDER BY step, trajectory_id",
    "SELECT max(len(CAST(x AS VARCHAR))) AS n FROM llm_calls AS x",
    "SELECT #21 FROM llm_calls ORDER BY 1",
    "SELECT columns('.*_text') FROM llm_calls ORDER BY 1, 2",
    "SELECT count(*) AS n FROM (SELECT DISTINCT * EXCLUDE (trajectory_id, step, span_id) FROM llm_calls)",
    "SELECT count(*) AS n FROM llm_calls NATURAL JOIN (SELECT 'look it up' AS output_text)",
    "SELECT count(*) AS n FROM llm_calls JOIN (SELECT 'look it up' AS output_text) USING (output_text)",
    "SELECT a21 FROM llm_calls AS l(" + ", ".join(f"a{number}" for number in range(36)) + ") ORDER BY 1",
    "DESCRIBE llm_calls",
    "SUMMARIZE llm_calls",
)


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory, build: Callable[..., Any]) -> Iterator[Lake]:
    with Lake.create(tmp_path_factory.mktemp("lighter") / "lake") as lake:
        write(lake, build())
        yield lake


def write(lake: Lake, made: Any) -> None:
    made.episode("a")
    made.episode("b", "close my account")
    with lake.transaction("write") as tx:
        tx.rebuild(tx.take(made.batch()).trace_ids)


@pytest.mark.parametrize("statement", COUNTS)
def test_counting_reads_no_messages_and_counts_the_same(
    said: Lake, statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    light = sql.query(said, statement)
    with said.reader() as con:
        assert lighter.counts_only(readonly.parsed(con, readonly.subject(statement)))
        plan = con.execute(f"EXPLAIN {readonly.subject(statement)}").fetchall()[0][1]
    told = sql.query(said, f"EXPLAIN {readonly.subject(statement)}")["explain_value"][0].as_py()
    assert "messages" in plan
    assert "messages" not in told
    if not statement.startswith("EXPLAIN"):
        monkeypatch.setattr(lighter, "counts_only", lambda tree: False)
        assert sql.query(said, statement) == light


@pytest.mark.parametrize("statement", READS)
def test_whoever_asks_for_what_was_said_gets_it(said: Lake, statement: str) -> None:
    with said.reader() as con:
        assert not lighter.counts_only(readonly.parsed(con, statement))
        expected = con.execute(statement).to_arrow_table()
    assert sql.query(said, statement).to_pylist() == expected.to_pylist()


def test_a_snapshot_without_the_view_is_read_as_it_was(lake: Lake, build: Callable[..., Any]) -> None:
    write(lake, build())
    before = lake.snapshot_id()
    with lake.transaction("as an earlier version") as tx:
        tx.con.execute("DROP VIEW calls")
    assert sql.query(lake, COUNTS[0]).to_pylist() == sql.query(lake, COUNTS[0], snapshot=before).to_pylist()
