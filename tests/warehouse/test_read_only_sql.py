"""SQL of users reads the lake and can do nothing else."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tracemill.errors import QueryError, StoreError
from tracemill.warehouse import Lake, engine, sql


@pytest.fixture(scope="module")
def full_lake(tmp_path_factory: pytest.TempPathFactory, build: Callable[..., Any]) -> Iterator[Lake]:
    root = tmp_path_factory.mktemp("sql")
    with Lake.create(root / "lake") as lake:
        for number in range(2):
            made = build(uri=f"file:///{number}")
            made.episode(f"t{number}")
            with lake.transaction("take") as tx:
                tx.rebuild(tx.take(made.batch()).trace_ids)
        with sqlite3.connect(root / "outside.sqlite") as outside:
            outside.execute("CREATE TABLE secret (word VARCHAR)")
            outside.execute("INSERT INTO secret VALUES ('swordfish')")
        outside.close()
        (root / "outside.csv").write_text("word\nswordfish\n")
        yield lake


ANSWERED = {
    "select": "SELECT count(*) FROM spans",
    "from first": "FROM spans SELECT count(*)",
    "view": "SELECT * FROM llm_calls",
    "with": "WITH s AS (SELECT * FROM spans) SELECT count(*) FROM s",
    "values": "VALUES (1), (2)",
    "comment and semicolon": "-- how many\nSELECT count(*) FROM spans;",
    "range": "SELECT * FROM range(3)",
    "unnest": "SELECT unnest(input_ids) FROM spans",
    "pivot with a list": "PIVOT spans ON kind IN ('llm', 'tool') USING count(*)",
    "describe": "DESCRIBE spans",
    "summarize": "SUMMARIZE SELECT kind FROM spans",
    "show tables": "SHOW TABLES",
    "explain": "EXPLAIN SELECT count(*) FROM spans",
    "explain analyze": "explain analyze SELECT count(*) FROM spans",
    "history": "SELECT snapshot_id, commit_message FROM lake.snapshots()",
}


@pytest.mark.parametrize("statement", ANSWERED.values(), ids=ANSWERED.keys())
def test_reading_statements_are_answered(full_lake: Lake, statement: str) -> None:
    assert sql.query(full_lake, statement).num_rows > 0


REFUSED = {
    "copy": "COPY (SELECT 1) TO '{data}/stolen.csv'",
    "copy from": "COPY spans FROM '{outside}.csv'",
    "explain copy": "EXPLAIN COPY (SELECT 1) TO '{data}/stolen.csv'",
    "explain analyze copy": "EXPLAIN ANALYZE COPY (SELECT 1) TO '{data}/stolen.csv'",
    "explain with options": "EXPLAIN (ANALYZE, FORMAT JSON) COPY (SELECT 1) TO '{data}/stolen.csv'",
    "explain behind a comment": "/* */ EXPLAIN ANALYZE COPY (SELECT 1) TO '{data}/stolen.csv'",
    "explain analyze create": "EXPLAIN ANALYZE CREATE TABLE t AS SELECT 1",
    "export": "EXPORT DATABASE '{data}/stolen'",
    "attach": "ATTACH '{outside}.sqlite' AS other (TYPE sqlite)",
    "detach": "DETACH lake",
    "use": "USE memory",
    "set": "SET enable_external_access = true",
    "reset": "RESET lock_configuration",
    "pragma": "PRAGMA database_list",
    "pragma assignment": "PRAGMA threads = 4",
    "call": "CALL ducklake_expire_snapshots('lake', versions => [1])",
    "install": "INSTALL httpfs",
    "load": "LOAD httpfs",
    "checkpoint": "CHECKPOINT",
    "vacuum": "VACUUM",
    "begin": "BEGIN",
    "prepare": "PREPARE p AS SELECT 1",
    "execute": "EXECUTE p",
    "insert": "INSERT INTO trace_days VALUES ('x', NULL)",
    "update": "UPDATE spans SET name = 'x'",
    "delete": "DELETE FROM spans",
    "drop": "DROP TABLE spans",
    "create": "CREATE TABLE t (a INTEGER)",
    "create temp macro": "CREATE TEMP MACRO m() AS TABLE SELECT * FROM read_text('/etc/passwd')",
    "select into": "SELECT * INTO t FROM spans",
    "writing cte": "WITH x AS (INSERT INTO trace_days VALUES ('x', NULL) RETURNING *) SELECT * FROM x",
    "pivot that creates a type": "PIVOT spans ON kind USING count(*)",
    "two statements": "SELECT 1; SELECT 2",
    "select then write": "SELECT 1; DELETE FROM spans",
    "nothing": " -- nothing",
    "not SQL": "SELEKT 1",
    "unknown table": "SELECT * FROM nowhere",
    "read_text": "SELECT * FROM read_text('/etc/passwd')",
    "read_blob": "SELECT * FROM read_blob('/etc/passwd')",
    "read_csv": "SELECT * FROM read_csv('{outside}.csv')",
    "read_csv in a subquery": "SELECT (SELECT max(word) FROM read_csv('{outside}.csv'))",
    "read_csv in a cte": "WITH a AS (FROM read_csv_auto('{outside}.csv')) SELECT * FROM a",
    "read_csv in a lateral join": "SELECT * FROM spans s, LATERAL (FROM read_text(s.name))",
    "described file": "DESCRIBE SELECT * FROM read_csv('{outside}.csv')",
    "summarized file": "SUMMARIZE '{outside}.csv'",
    "file as a table": "SELECT * FROM '{outside}.csv'",
    "database as a table": "SELECT * FROM '{outside}.sqlite'",
    "password file as a table": "SELECT * FROM '/etc/passwd'",
    "glob": "SELECT * FROM glob('/etc/*')",
    "key": "SELECT * FROM read_blob('{root}/key')",
    "getenv": "SELECT getenv('HOME')",
    "sqlite_scan of another database": "SELECT * FROM sqlite_scan('{outside}.sqlite', 'secret')",
    "sqlite_scan of the catalog": "SELECT * FROM sqlite_scan('{root}/catalog.sqlite', 'ducklake_snapshot')",
    "quoted function name": "SELECT * FROM \"SQLITE_SCAN\"('{outside}.sqlite', 'secret')",
    "qualified function name": "SELECT * FROM system.main.sqlite_scan('{outside}.sqlite', 'secret')",
    "sqlite_attach": "SELECT * FROM sqlite_attach('{outside}.sqlite')",
    "catalog tables": "SELECT * FROM __ducklake_metadata_lake.ducklake_snapshot",
    "query()": "FROM query('COPY (SELECT 1) TO ''{data}/stolen.csv''')",
    "query() of a file": "FROM query('FROM sqlite_scan(''{outside}.sqlite'', ''secret'')')",
    "query_table()": "FROM query_table('{outside}.csv')",
    "serialized SQL": "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('FROM glob(''/etc/*'')'))",
    "secrets": "SELECT * FROM duckdb_secrets()",
    "expire": "SELECT * FROM ducklake_expire_snapshots('lake', versions => [1])",
    "delete orphans": "SELECT * FROM ducklake_delete_orphaned_files('lake', cleanup_all => true)",
    "Python variable": "SELECT * FROM full_lake",
    "python scan": "SELECT * FROM arrow_scan(1, 1, 1)",
}


@pytest.mark.parametrize("statement", REFUSED.values(), ids=REFUSED.keys())
def test_everything_else_is_refused_and_leaves_no_trace(full_lake: Lake, statement: str) -> None:
    root = full_lake.root
    places = {"data": root / "data", "root": root, "outside": root.parent / "outside"}
    before = sorted(path for path in root.rglob("*") if path.suffix not in (".sqlite-wal", ".sqlite-shm"))
    with pytest.raises(QueryError) as caught:
        sql.query(full_lake, statement.format(**places))
    assert "swordfish" not in str(caught.value)
    assert "root:" not in str(caught.value)
    assert sorted(path for path in root.rglob("*") if path.suffix not in (".sqlite-wal", ".sqlite-shm")) == before


def test_the_second_fence_holds_alone(full_lake: Lake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Even if a reading function slipped through the list, DuckDB's own file rules would stop it."""
    monkeypatch.setattr(sql, "TABLE_FUNCTIONS", sql.TABLE_FUNCTIONS | {"read_text", "glob", "read_blob"})
    for statement in (
        "FROM read_text('/etc/passwd')",
        f"FROM read_blob('{full_lake.root / 'key'}')",
        f"FROM glob('{full_lake.root}/*')",
    ):
        with pytest.raises(QueryError, match="disabled by configuration"):
            sql.query(full_lake, statement)


def test_the_third_fence_holds_alone(full_lake: Lake) -> None:
    """Even if a statement slipped past the parser's types, the connection itself would refuse it.

    Not so ATTACH of a SQLite file, which opens files past DuckDB's rules: the first two fences stand before that.
    """
    con = sql._fenced(full_lake.root, None)
    extension = full_lake.root / "data" / "planted.duckdb_extension"
    shutil.copy(engine.extension_path("ducklake"), extension)
    for statement in (
        f"LOAD '{extension}'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "ATTACH '/tmp/stolen.duckdb' AS other",
        "SET enable_external_access = true",
        "RESET lock_configuration",
        "DELETE FROM spans",
        "COPY (SELECT 1) TO '/tmp/stolen.csv'",
        "COPY spans FROM '/etc/passwd'",
        "DROP VIEW llm_calls",
    ):
        with pytest.raises(duckdb.Error):
            con.execute(statement)
    con.close()
    extension.unlink()


def test_a_refusal_says_what_may_run(full_lake: Lake) -> None:
    with pytest.raises(QueryError, match="only one SELECT, or EXPLAIN of one, may run here; this is SELECT, DELETE"):
        sql.query(full_lake, "SELECT 1; DELETE FROM spans")
    with pytest.raises(QueryError, match=r"the function read_text\(\) may not be read from here"):
        sql.query(full_lake, "FROM read_text('x')")


def test_a_limit_cuts_and_order_is_kept(full_lake: Lake) -> None:
    found = sql.query(full_lake, "SELECT * FROM range(5000) t(n) ORDER BY n DESC", limit=3)
    assert found.column("n").to_pylist() == [4999, 4998, 4997]
    assert sql.query(full_lake, "SELECT 1 AS n", limit=0).num_rows == 0


def test_a_query_may_look_at_an_earlier_snapshot(full_lake: Lake) -> None:
    now = full_lake.snapshot_id()
    count = "SELECT count(*) FROM trajectories"
    assert sql.query(full_lake, count, snapshot=now).column(0).to_pylist() == [2]
    assert sql.query(full_lake, count, snapshot=now - 1).column(0).to_pylist() == [1]
    with pytest.raises(StoreError, match="snapshot"):
        sql.query(full_lake, count, snapshot=now + 1000)
