"""Queries that count calls look up no message, and nobody can tell by their answers."""

from collections.abc import Callable, Iterator
from typing import Any

import duckdb
import pytest

from tracemill.errors import QueryError
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

LIMITED = (
    "SELECT * FROM llm_calls ORDER BY trajectory_id, step LIMIT 2",
    "SELECT trajectory_id, step, input_text FROM llm_calls ORDER BY 1 DESC, 2 DESC LIMIT 2 OFFSET 1",
    "SELECT l.step + 10 AS late, l.output_text FROM llm_calls AS l ORDER BY late, l.trajectory_id LIMIT 3",
    "SELECT Step, input_messages FROM LLM_Calls c WHERE c.Status ILIKE 'O%' AND c.latency_ms > 0.5e0 "
    "ORDER BY trajectory_id DESC, step LIMIT 3",
    "SELECT output_text FROM llm_calls WHERE day < current_date AND step IN (1) ORDER BY trajectory_id, step LIMIT 1",
    "SELECT output_text FROM llm_calls WHERE trajectory_id >= 'b' AND cost_usd BETWEEN 0.1 AND 1.5 "
    "ORDER BY CASE WHEN step = 1 THEN NULL ELSE step END NULLS FIRST LIMIT 2",
    "SELECT input_text FROM llm_calls LIMIT 0",
    "FROM llm_calls WHERE step < 0 LIMIT 5",
    "SELECT output_text FROM llm_calls WHERE step = (SELECT max(step) FROM llm_calls) ORDER BY trajectory_id LIMIT 1",
    "SELECT output_text FROM (FROM llm_calls ORDER BY trajectory_id, step LIMIT 2) ORDER BY 1",
    "WITH late AS (SELECT trajectory_id, step, input_text FROM llm_calls ORDER BY step DESC, trajectory_id LIMIT 2) "
    "SELECT a.input_text, b.step, t.agent_name FROM late a JOIN late b USING (trajectory_id) "
    "JOIN trajectories t USING (trajectory_id) ORDER BY ALL",
    "SELECT t.trajectory_id, l.output_text FROM trajectories t, "
    "LATERAL (SELECT output_text FROM llm_calls WHERE step > 0 ORDER BY trajectory_id, step LIMIT 1) l ORDER BY 1",
)
UNLIMITED = (
    "SELECT upper(output_text) AS model, model AS model FROM llm_calls WHERE trajectory_id = 'b' ORDER BY step LIMIT 1",
    "SELECT step, output_text FROM llm_calls ORDER BY output_text, trajectory_id LIMIT 3",
    "SELECT step, output_text AS said FROM llm_calls WHERE said <> 'nothing' ORDER BY trajectory_id, step LIMIT 3",
    "SELECT -step AS step, output_text FROM llm_calls ORDER BY step, trajectory_id LIMIT 2",
    "SELECT * REPLACE (-step AS step) FROM llm_calls ORDER BY step, trajectory_id LIMIT 2",
    "SELECT max(output_text) AS last FROM llm_calls LIMIT 1",
    "SELECT DISTINCT output_text FROM llm_calls ORDER BY ALL LIMIT 2",
    "SELECT output_text, count(*) AS n FROM llm_calls GROUP BY output_text ORDER BY output_text LIMIT 2",
    "SELECT output_text, row_number() OVER (ORDER BY trajectory_id, step) AS n FROM llm_calls ORDER BY step, n LIMIT 2",
    "SELECT output_text FROM llm_calls QUALIFY row_number() OVER (ORDER BY trajectory_id, step) > 1 "
    "ORDER BY trajectory_id, step LIMIT 1",
    "SELECT unnest(CASE WHEN step > 0 THEN [output_text] ELSE [] END) AS said FROM llm_calls ORDER BY ALL LIMIT 1",
    "SELECT l.output_text FROM llm_calls l JOIN llm_calls m USING (trajectory_id) WHERE m.step > l.step "
    "ORDER BY l.trajectory_id, l.step LIMIT 1",
    "SELECT output_text FROM llm_calls ORDER BY trajectory_id, step LIMIT 40 %",
    "WITH calls AS (SELECT 1 AS step) SELECT output_text FROM llm_calls ORDER BY trajectory_id, step LIMIT 1",
    "SELECT output_text FROM llm_calls ORDER BY ALL LIMIT 2",
    "SELECT output_text FROM (WITH calls AS (SELECT 1 AS step) "
    "SELECT output_text FROM llm_calls ORDER BY trajectory_id, step LIMIT 1)",
    "SELECT t.trajectory_id, l.output_text FROM trajectories t, LATERAL (SELECT output_text FROM llm_calls "
    "WHERE trajectory_id = t.trajectory_id ORDER BY step LIMIT 1) l ORDER BY 1",
    "WITH one AS (SELECT output_text FROM llm_calls ORDER BY trajectory_id, step LIMIT 1) "
    "SELECT output_text FROM one UNION ALL SELECT output_text FROM llm_calls ORDER BY 1",
    "(SELECT output_text FROM llm_calls ORDER BY trajectory_id, step LIMIT 1) "
    "UNION ALL (SELECT input_text FROM llm_calls ORDER BY trajectory_id, step LIMIT 1) ORDER BY 1",
    "SELECT output_text FROM llm_calls WHERE random() >= 0 ORDER BY trajectory_id, step LIMIT 2",
    "SELECT output_text FROM llm_calls ORDER BY trajectory_id, step",
)

SETTLED = (
    "SELECT step, input_text FROM llm_calls WHERE trajectory_id = (SELECT max(trajectory_id) FROM trajectories) "
    "ORDER BY step",
    "SELECT l.step, l.output_text FROM trajectories t JOIN llm_calls l USING (trajectory_id) WHERE l.step < 2 "
    "AND l.trajectory_id IN (SELECT trajectory_id FROM llm_calls WHERE output_text <> '') ORDER BY ALL",
    "SELECT * FROM llm_calls WHERE (SELECT max(day) FROM spans) = day ORDER BY trajectory_id, step",
    "SELECT * FROM llm_calls WHERE (SELECT max(step) FROM calls) = step ORDER BY trajectory_id LIMIT 1",
    "WITH last AS (SELECT trajectory_id FROM trajectories ORDER BY ALL DESC LIMIT 1) "
    "SELECT input_messages FROM llm_calls WHERE trajectory_id IN (SELECT trajectory_id FROM last) ORDER BY step",
    "WITH every AS (FROM trajectories), last AS (SELECT trajectory_id FROM every ORDER BY ALL DESC LIMIT 1), "
    "asked AS (FROM llm_calls WHERE trajectory_id = 'a') SELECT turn, text FROM conversations "
    "WHERE trajectory_id = (FROM last) ORDER BY turn",
    "SELECT turn, text FROM conversations c WHERE c.trajectory_id IN (SELECT session_id FROM sessions) ORDER BY ALL",
    "SELECT tool_name, tool_result FROM tool_results WHERE trajectory_id = (SELECT 'b') ORDER BY ALL",
    "SELECT count(*) AS n FROM conversations WHERE trajectory_id IN (SELECT trace_id FROM spans WHERE false)",
    "SELECT count(*) AS n FROM conversations WHERE trajectory_id = (SELECT trace_id FROM spans WHERE false)",
    "SELECT count(*) AS n FROM conversations WHERE trajectory_id IN (SELECT unnest(['a', NULL]))",
    "SELECT output_text FROM llm_calls WHERE trajectory_id = (SELECT 'it''s' || chr(10)) AND step = 1",
    'WITH "some" AS (SELECT \'a\' AS "the id") SELECT turn AS "select" FROM conversations '
    'WHERE trajectory_id = (SELECT "the id" FROM "some") ORDER BY ALL',
    "SELECT (SELECT count(*) FROM conversations WHERE trajectory_id = (SELECT 'a')) AS n, agent_name "
    "FROM trajectories ORDER BY ALL",
)
UNSETTLED = (
    "SELECT output_text FROM llm_calls l WHERE step = (SELECT max(step) FROM calls c "
    "WHERE c.trajectory_id = l.trajectory_id) ORDER BY ALL",
    "SELECT output_text FROM llm_calls WHERE trajectory_id NOT IN (SELECT 'a') ORDER BY ALL",
    "SELECT output_text FROM llm_calls WHERE trajectory_id < (SELECT 'b') ORDER BY ALL",
    "SELECT output_text FROM llm_calls WHERE step + 0 IN (SELECT 1) ORDER BY ALL",
    "SELECT output_text FROM llm_calls WHERE trajectory_id = (SELECT 'a') OR step = 1 ORDER BY ALL",
    "SELECT output_text FROM llm_calls WHERE latency_ms = (SELECT max(latency_ms) FROM calls) ORDER BY ALL",
    "SELECT output_text FROM llm_calls WHERE step IN (SELECT range FROM range(2000)) ORDER BY ALL",
    "WITH one AS (SELECT trajectory_id FROM trajectories ORDER BY ALL LIMIT 1) SELECT output_text FROM llm_calls "
    "JOIN one USING (trajectory_id) WHERE trajectory_id IN (SELECT trajectory_id FROM one) ORDER BY ALL",
    "WITH one AS (SELECT 'a' AS id), x AS (SELECT * FROM llm_calls WHERE trajectory_id IN (SELECT id FROM one)) "
    "SELECT output_text FROM x ORDER BY ALL",
    "SELECT count(*) AS n FROM spans WHERE trace_id = (SELECT 'a')",
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
        tx.con.execute("CREATE OR REPLACE VIEW llm_calls AS SELECT trajectory_id, step, tokens_in FROM transitions")
        tx.con.execute("DROP VIEW calls")
    assert sql.query(lake, COUNTS[0]).to_pylist() == sql.query(lake, COUNTS[0], snapshot=before).to_pylist()


@pytest.fixture(scope="module")
def con(said: Lake) -> Iterator[duckdb.DuckDBPyConnection]:
    with sql.fenced(said) as con:
        yield con


@pytest.mark.parametrize(
    ("statement", "limited"), [*((one, True) for one in LIMITED), *((one, False) for one in UNLIMITED)]
)
def test_a_limit_chooses_calls_before_their_messages_are_looked_up(
    con: duckdb.DuckDBPyConnection, statement: str, limited: bool
) -> None:
    con.execute("DROP VIEW IF EXISTS temp.llm_calls")
    expected = con.execute(statement).to_arrow_table()
    told = con.execute(lighter.lighten(con, statement)).to_arrow_table()
    chosen = con.execute("SELECT 1 FROM duckdb_views() WHERE view_name = 'llm_calls' AND temporary").fetchone()
    assert (chosen is not None) == limited
    assert told == expected


@pytest.mark.parametrize("limit", [1, 3, 100])
def test_any_calls_of_a_limit_are_whole(said: Lake, limit: int) -> None:
    every = sql.query(said, "FROM llm_calls").to_pylist()
    rows = sql.query(said, f"FROM llm_calls LIMIT {limit}").to_pylist()
    assert len(rows) == min(limit, len(every))
    assert all(row in every for row in rows)


def test_what_is_wrong_with_a_limited_query_is_told(said: Lake) -> None:
    with pytest.raises(QueryError, match="latency"):
        sql.query(said, "SELECT input_text FROM llm_calls ORDER BY latency LIMIT 1")
    with pytest.raises(QueryError, match="Conversion Error"):
        sql.query(said, "SELECT input_text FROM llm_calls WHERE CAST(span_id AS DATE) = day LIMIT 1")


def test_one_statement_leaves_nothing_behind_for_the_next(con: duckdb.DuckDBPyConnection) -> None:
    counted = con.execute(sql.prepared(con, "SELECT count(*) FROM llm_calls")).fetchall()
    con.execute(sql.prepared(con, "SELECT output_text FROM llm_calls LIMIT 1")).fetchall()
    rows = con.execute(sql.prepared(con, "SELECT output_text FROM llm_calls")).fetchall()
    assert counted == [(len(rows),)]


@pytest.mark.parametrize(
    ("statement", "settled"), [*((one, True) for one in SETTLED), *((one, False) for one in UNSETTLED)]
)
def test_a_subquery_that_stands_alone_is_answered_first(
    con: duckdb.DuckDBPyConnection, statement: str, settled: bool
) -> None:
    con.execute("DROP VIEW IF EXISTS temp.llm_calls")
    expected = con.execute(statement).to_arrow_table()
    text = sql.prepared(con, statement)
    assert con.execute(text).to_arrow_table() == expected
    assert (text != statement) == settled
    if settled:
        assert sql.prepared(con, f"EXPLAIN {statement}") == f"EXPLAIN {text}"


def test_what_is_wrong_with_a_subquery_is_told(said: Lake) -> None:
    for inner, why in {"SELECT 1 / step FROM nothing": "nothing", "SELECT error('too bad')": "too bad"}.items():
        with pytest.raises(QueryError, match=why):
            sql.query(said, f"SELECT output_text FROM llm_calls WHERE trajectory_id = ({inner})")
    with pytest.raises(QueryError, match="More than one row"):
        sql.query(said, "SELECT input_text FROM llm_calls WHERE step = (SELECT step FROM calls)")


def test_a_subquery_is_answered_once(con: duckdb.DuckDBPyConnection) -> None:
    statement = "SELECT step FROM llm_calls WHERE trajectory_id = (SELECT CAST(random() AS VARCHAR))"
    first, second = (sql.prepared(con, statement) for _ in range(2))
    assert first != second
    assert "random" not in first


@pytest.mark.parametrize(
    ("statement", "one"),
    [
        ("SELECT kind FROM trace_spans WHERE trace_id = 'a' ORDER BY seq", True),
        ("SELECT turn FROM conversations AS c WHERE role = 'user' AND 'a' = c.trajectory_id", True),
        ("SELECT kind FROM spans WHERE span_id = 'a'", False),
        ("SELECT kind FROM spans WHERE trace_id > 'a'", False),
        ("SELECT kind FROM spans WHERE trace_id = 'a' OR kind = 'llm'", False),
        ("SELECT r.value FROM rewards r JOIN spans s ON s.trace_id = r.trajectory_id WHERE s.trace_id = 'a'", False),
        ("SELECT kind FROM spans", False),
        ("FROM spans WHERE trace_id = 'a' UNION ALL FROM spans", False),
    ],
)
def test_one_trace_is_read_on_one_thread(con: duckdb.DuckDBPyConnection, statement: str, one: bool) -> None:
    con.execute("SET VARIABLE usual_threads = 3")
    con.execute(sql.prepared(con, statement))
    assert con.execute("SELECT current_setting('threads')").fetchone() == ((1,) if one else (3,))
    con.execute(sql.prepared(con, "SELECT 1"))
    assert con.execute("SELECT current_setting('threads')").fetchone() == (3,)
