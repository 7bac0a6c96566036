"""SQL of users reads the lake and can do nothing else."""

import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tracemill.errors import QueryError, StoreError
from tracemill.warehouse import Lake, engine, readonly, sql


@pytest.fixture(scope="module")
def full_lake(tmp_path_factory: pytest.TempPathFactory, build: Callable[..., Any]) -> Iterator[Lake]:
    root = tmp_path_factory.mktemp("sql")
    with Lake.create(root / "lake") as lake:
        for number in range(2):
            made = build(uri=f"file:///{number}")
            made.episode(f"t{number}")
            for place in range(30):  # more than DuckLake keeps in its catalog: data files too
                made.span(f"t{number}", f"s{place}")
            with lake.transaction("take") as tx:
                tx.rebuild(tx.take(made.batch()).trace_ids)
        with sqlite3.connect(root / "outside.sqlite") as outside:
            outside.execute("CREATE TABLE secret (word VARCHAR)")
            outside.execute("INSERT INTO secret VALUES ('swordfish')")
        outside.close()
        (root / "outside.csv").write_text("word\nswordfish\n")
        yield lake


@pytest.fixture(scope="module")
def ask(full_lake: Lake) -> Iterator[Callable[[str], Any]]:
    """A statement to its rows as `sql.query` makes them, on one fenced connection for all: opening it takes long."""
    con = engine.connect(full_lake.root, read_only=True)
    sql.fence(con, full_lake.root)

    def rows(statement: str) -> Any:
        checked = readonly.checked(con, statement)
        try:
            return con.execute(checked).to_arrow_table()
        except duckdb.Error as error:
            raise QueryError(str(error)) from error

    yield rows
    con.close()


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
    "another snapshot": "SELECT count(*) FROM spans AT (VERSION => 2)",
    "qualified": "SELECT count(*) FROM lake.main.spans, lake.trajectories",
    "quoted, in capitals": 'SELECT count(*) FROM "SPANS"',
    "recursive": "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT * FROM r",
    "recursive with a key": "WITH RECURSIVE r(a, b) USING KEY (a) AS "
    "(SELECT 1, 1 UNION SELECT a, b + 1 FROM recurring.r WHERE b < 3) SELECT * FROM r",
    "a name for several words": 'WITH "first calls" AS (FROM spans LIMIT 1) SELECT * FROM "first calls"',
    "with inside with": "WITH a AS (WITH b AS (SELECT 1) FROM b) FROM a, (WITH c AS (FROM a) FROM c)",
    "lambda": "SELECT list_transform(input_ids, x -> upper(x)) FROM spans",
    "lateral": "SELECT i FROM spans s, LATERAL (SELECT unnest(s.input_ids)) u(i)",
    "window": "SELECT row_number() OVER (PARTITION BY kind ORDER BY seq) FROM spans",
    "asof": "SELECT a.seq FROM spans a ASOF JOIN spans b ON a.start_ns >= b.start_ns",
    "unpivot": "SELECT * FROM (SELECT 1 AS a, 2 AS b) UNPIVOT (v FOR k IN (a, b))",
    "sample": "SELECT * FROM spans USING SAMPLE 2 ROWS",
    "json": "SELECT e.value FROM messages m, json_each(m.parts) e",
    "table": "TABLE spans",
    "summarize a table": "SUMMARIZE spans",
    "show all tables": "SHOW ALL TABLES",
    "columns": "SELECT column_name FROM duckdb_columns() WHERE table_name = 'spans'",
    "information schema": "SELECT table_name FROM information_schema.tables",
    "changes": "SELECT * FROM lake.table_changes('trajectories', 0, 2)",
}


@pytest.mark.parametrize("statement", ANSWERED.values(), ids=ANSWERED.keys())
def test_reading_statements_are_answered(ask: Callable[[str], Any], statement: str) -> None:
    assert ask(statement).num_rows > 0


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
    # SQL in a text, planned: planning a scan opens its file.
    "plan of another database": "SELECT json_serialize_plan('FROM sqlite_scan(''{outside}.sqlite'', ''secret'')')",
    "plan that attaches": "SELECT json_serialize_plan('FROM sqlite_attach(''{outside}.sqlite'')')",
    "plan in a lambda": "SELECT list_transform(['FROM sqlite_scan(''{outside}.sqlite'', ''secret'')'], "
    "x -> json_serialize_plan(x))",
    "plan in a filter": "SELECT count(*) FILTER (json_serialize_plan('FROM spans') IS NOT NULL) FROM spans",
    "plan by method": "SELECT 'FROM spans'.json_serialize_plan()",
    "qualified plan": "SELECT system.main.json_serialize_plan('FROM spans')",
    # Where things are, and how to get in.
    "setting": "SELECT current_setting('allowed_directories')",
    "setting in a window": "SELECT max(current_setting('home_directory')) OVER () FROM spans",
    "settings": "SELECT * FROM duckdb_settings()",
    "settings as Postgres has them": "SELECT * FROM pg_settings",
    "where the catalog is": "SELECT * FROM duckdb_databases",
    "where the catalog is, qualified": "SELECT * FROM system.main.duckdb_databases",
    "where the catalog is, as a pragma": "SELECT * FROM pragma_database_list",
    "log": "SELECT * FROM duckdb_logs",
    "which secret": "SELECT * FROM which_secret('s3://x', 's3')",
    "extensions": "SELECT * FROM duckdb_extensions()",
    "temporary files": "SELECT * FROM duckdb_temporary_files()",
    "variable": "SELECT getvariable('x')",
    "set_config": "SELECT set_config('memory_limit', '1TB', false)",
    "out of the scope of its name": "WITH a AS (WITH pg_settings AS (SELECT 1) FROM pg_settings) FROM a, pg_settings",
    # Files of the lake itself: rows that are gone from its tables may still be in them.
    "data file": "SELECT * FROM '{file}'",
    "data file out of the scope of its name": 'WITH a AS (WITH "{file}" AS (SELECT 1) FROM "{file}") FROM a, "{file}"',
    "data file by glob": "SELECT * FROM '{data}/*/*/*.parquet'",
    "read_parquet": "SELECT * FROM read_parquet('{file}')",
    "parquet_scan": "SELECT * FROM parquet_scan(['{file}'])",
    "parquet metadata": "SELECT * FROM parquet_metadata('{file}')",
    "parquet key values": "SELECT * FROM parquet_kv_metadata('{file}')",
    "described data file": "DESCRIBE '{file}'",
    "table info of a data file": "SELECT * FROM pragma_table_info('{file}')",
    "storage info": "SELECT * FROM pragma_storage_info('spans')",
    "catalog tables, described": "DESCRIBE __ducklake_metadata_lake.ducklake_snapshot",
    "catalog tables, shown": "SHOW TABLES FROM __ducklake_metadata_lake",
    "catalog tables, in capitals": 'SELECT * FROM "__DUCKLAKE_METADATA_LAKE".main.ducklake_snapshot',
    "catalog tables, by table info": "SELECT * FROM pragma_table_info('__ducklake_metadata_lake.ducklake_snapshot')",
    "file list": "SELECT * FROM ducklake_list_files('lake', 'spans')",
    # Other ways to a file.
    "read_json": "SELECT * FROM read_json_auto('{outside}.csv')",
    "read_duckdb": "SELECT * FROM read_duckdb('{outside}.sqlite')",
    "sniff_csv": "SELECT * FROM sniff_csv('{outside}.csv')",
    "sqlite_query": "SELECT * FROM sqlite_query('{outside}.sqlite', 'SELECT * FROM secret')",
    "histogram_values": "SELECT * FROM histogram_values('{outside}.csv', word)",
    "shown file": "SHOW '{outside}.csv'",
    "file by TABLE": "TABLE '{outside}.csv'",
    "file by its catalog": "SELECT * FROM lake.'{outside}.csv'",
    "file in a schema": 'SELECT * FROM memory.main."{outside}.csv"',
    "file in a common table": 'WITH "{outside}.csv" AS (SELECT 1) SELECT * FROM spans',
    "file in a pivot": "PIVOT (FROM read_csv('{outside}.csv')) ON word IN ('swordfish') USING count(*)",
    "file in an unpivot": "UNPIVOT (FROM read_csv('{outside}.csv')) ON word",
    "file by union": "SELECT 1 UNION ALL FROM read_csv('{outside}.csv')",
    "file in a values list": "VALUES ((SELECT max(word) FROM read_csv('{outside}.csv')))",
    "file in a lambda": "SELECT list_transform([1], x -> (SELECT max(word) FROM read_csv('{outside}.csv')))",
    "file in a struct": "SELECT {{'a': (SELECT max(word) FROM read_csv('{outside}.csv'))}}",
    "file in an array": "SELECT ARRAY(SELECT word FROM read_csv('{outside}.csv'))",
    "file in IN": "SELECT 'swordfish' IN (SELECT word FROM read_csv('{outside}.csv'))",
    "file in EXISTS": "SELECT EXISTS (FROM read_csv('{outside}.csv'))",
    "file in a filter": "SELECT count(*) FILTER (EXISTS (FROM read_csv('{outside}.csv'))) FROM spans",
    "file in a window": "SELECT sum(1) OVER (PARTITION BY (SELECT max(word) FROM read_csv('{outside}.csv')))",
    "file in QUALIFY": "FROM spans QUALIFY EXISTS (FROM read_csv('{outside}.csv'))",
    "file in ORDER BY": "FROM spans ORDER BY (SELECT max(word) FROM read_csv('{outside}.csv'))",
    "file in LIMIT": "FROM spans LIMIT (SELECT count(*) FROM read_csv('{outside}.csv'))",
    "file in GROUP BY": "SELECT 1 FROM spans GROUP BY (SELECT max(word) FROM read_csv('{outside}.csv'))",
    "file in HAVING": "SELECT count(*) FROM spans HAVING EXISTS (FROM read_csv('{outside}.csv'))",
    "file in a join's condition": "FROM spans a JOIN spans b ON EXISTS (FROM read_csv('{outside}.csv'))",
    "file in a positional join": "FROM spans POSITIONAL JOIN read_csv('{outside}.csv')",
    "file in COLUMNS": "SELECT COLUMNS((SELECT max(word) FROM read_csv('{outside}.csv'))) FROM spans",
    "file in REPLACE": "SELECT * REPLACE ((SELECT max(word) FROM read_csv('{outside}.csv')) AS kind) FROM spans",
    "file in AT": "FROM spans AT (VERSION => (SELECT count(*) FROM read_csv('{outside}.csv')))",
    "file in an argument": "FROM repeat((SELECT max(word) FROM read_csv('{outside}.csv')), 1)",
    "file in a recursion": "WITH RECURSIVE r AS "
    "(SELECT 1 AS n UNION ALL SELECT count(*) FROM read_csv('{outside}.csv'), r) FROM r",
    "explained file": "EXPLAIN SELECT * FROM read_csv('{outside}.csv')",
    # The network.
    "web": "SELECT * FROM 'http://127.0.0.1:9/x.parquet'",
    "web, quoted as a name": 'SELECT * FROM "https://127.0.0.1:9/x.csv"',
    "bucket": "SELECT * FROM 's3://bucket/x.parquet'",
    "Postgres": "SELECT * FROM postgres_scan('host=127.0.0.1', 'public', 't')",
    # Changes that look like reading.
    "log entry": "SELECT write_log('x')",
    "sequence": "SELECT nextval('s')",
    "logging": "SELECT * FROM enable_logging()",
    "checkpoint as a function": "SELECT * FROM checkpoint()",
    "flush": "SELECT * FROM ducklake_flush_inlined_data('lake')",
    "merge": "SELECT * FROM ducklake_merge_adjacent_files('lake')",
    "add files": "SELECT * FROM ducklake_add_data_files('lake', 'spans', '{outside}.csv')",
    "options": "SELECT * FROM ducklake_set_option('lake', 'target_file_size', '1')",
    "macro": "CREATE MACRO m() AS 1",
    "temp view": "CREATE TEMP VIEW v AS SELECT 1",
    "merge into": "MERGE INTO spans USING (SELECT 1 AS a) ON false WHEN NOT MATCHED THEN INSERT DEFAULT VALUES",
    "truncate": "TRUNCATE spans",
    "alter": "ALTER TABLE spans ADD COLUMN x INTEGER",
    "comment": "COMMENT ON TABLE spans IS 'x'",
    "secret": "CREATE SECRET (TYPE s3, KEY_ID 'a', SECRET 'b')",
    "variable set": "SET VARIABLE x = 1",
    "import": "IMPORT DATABASE '{data}'",
    "copy database": "COPY FROM DATABASE lake TO memory",
    "deallocate": "DEALLOCATE p",
    "pragma that copies": "PRAGMA copy_database('lake', 'memory')",
    # What must not bring the program down.
    "forever asleep": "SELECT sleep_ms(100000000)",
    "asleep as in Postgres": "SELECT pg_sleep(100000)",
    "nested": "SELECT " + "abs(" * 900 + "1" + ")" * 900,
    "nested lists": "SELECT " + "[" * 900 + "]" * 900,
    "long sum": "SELECT " + "+".join(["1"] * 20_000),
    "nested queries": "FROM " + "(FROM " * 500 + "spans" + ")" * 500,
    "end of text": "SELECT 1\0; DELETE FROM spans",
    "half a character": "SELECT '\udcff'",
    "parameter": "SELECT $1",
}


@pytest.mark.parametrize("statement", REFUSED.values(), ids=REFUSED.keys())
def test_everything_else_is_refused_and_leaves_no_trace(
    full_lake: Lake, ask: Callable[[str], Any], statement: str
) -> None:
    root = full_lake.root
    file = next((root / "data").rglob("*.parquet"))
    places = {"data": root / "data", "root": root, "outside": root.parent / "outside", "file": file}

    def files() -> list[Path]:
        return sorted(path for path in root.parent.rglob("*") if path.suffix not in (".sqlite-wal", ".sqlite-shm"))

    before = files()
    with pytest.raises(QueryError) as caught:
        ask(statement.format(**places))
    assert "swordfish" not in str(caught.value)
    assert "root:" not in str(caught.value)
    assert files() == before


def test_a_query_is_fenced(full_lake: Lake) -> None:
    """What the statements above were put to is what `query` puts them to."""
    for statement in ("FROM read_text('/etc/passwd')", "SELECT 1; SELECT 2", "FROM pg_settings", "SELECT nextval('s')"):
        with pytest.raises(QueryError):
            sql.query(full_lake, statement)
    assert sql.query(full_lake, "SELECT count(*) FROM spans").column(0).to_pylist() == [68]


def test_no_function_of_duckdb_with_side_effects_is_unknown(full_lake: Lake) -> None:
    """A new DuckDB brings new functions: whoever takes it looks at them, then adds them here or refuses them."""
    harmless = {
        *("current_connection_id", "current_query", "current_query_id", "current_transaction_id", "error"),
        *("gen_random_uuid", "random", "stats", "uuid", "uuidv4", "uuidv7"),
    }
    with full_lake.reader() as con:
        found = con.execute(
            "SELECT function_name FROM duckdb_functions() WHERE function_type = 'scalar' AND has_side_effects"
        ).fetchall()
        tables = con.execute(
            "SELECT function_name FROM duckdb_functions() WHERE function_type IN ('table', 'table_macro')"
        ).fetchall()
        texts = con.execute(
            "SELECT DISTINCT function_name FROM duckdb_functions() "
            "WHERE function_name LIKE 'json_%serialize%' ORDER BY ALL"
        ).fetchall()
    assert {name for (name,) in found} - readonly.REFUSED_FUNCTIONS == harmless
    # Beside these there are only the macros of the lake itself.
    assert readonly.TABLE_FUNCTIONS - {name for (name,) in tables} == {
        *("snapshots", "current_snapshot", "last_committed_snapshot", "table_info"),
        *("table_changes", "table_insertions", "table_deletions"),
    }
    assert [name for (name,) in texts] == [
        *("json_deserialize_sql", "json_execute_serialized_sql", "json_serialize_plan", "json_serialize_sql")
    ]


def test_the_second_fence_holds_alone(full_lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if a reading function slipped through the list, DuckDB's own file rules would stop it."""
    monkeypatch.setattr(readonly, "TABLE_FUNCTIONS", readonly.TABLE_FUNCTIONS | {"read_text", "glob", "read_blob"})
    for statement in (
        "FROM read_text('/etc/passwd')",
        f"FROM read_blob('{full_lake.root / 'key'}')",
        f"FROM read_blob('{full_lake.root}/data/../key')",
        f"FROM read_blob('{full_lake.root}/data/./../key')",
        f"FROM read_blob('{full_lake.root}/database')",
        f"FROM glob('{full_lake.root}/*')",
        f"FROM glob('{full_lake.root}/data/../*')",
        "FROM read_text('http://127.0.0.1:9/x')",
    ):
        with pytest.raises(QueryError, match="disabled by configuration"):
            sql.query(full_lake, statement)


def test_the_third_fence_holds_alone(full_lake: Lake) -> None:
    """Even if a statement slipped past the parser's types, the connection itself would refuse it.

    Not so ATTACH of a SQLite file, which opens files past DuckDB's rules: the first two fences stand before that.
    """
    con = engine.connect(full_lake.root, read_only=True)
    sql.fence(con, full_lake.root)
    extension = full_lake.root / "data" / "planted.duckdb_extension"
    shutil.copy(engine.extension_path("ducklake"), extension)
    for statement in (
        f"LOAD '{extension}'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "ATTACH '/tmp/stolen.duckdb' AS other",
        "SET enable_external_access = true",
        "RESET lock_configuration",
        "SET memory_limit = '1TB'",
        "SET allowed_directories = ['/']",
        "SET SESSION memory_limit = '1TB'",
        "PRAGMA memory_limit = '1TB'",
        "DELETE FROM spans",
        "CALL ducklake_expire_snapshots('lake', versions => [1])",
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


ENDLESS = "SELECT count(*) FROM range(1000000000000) a WHERE md5(a.range::VARCHAR) = 'x'"


def test_a_query_ends_when_its_time_is_up(full_lake: Lake) -> None:
    with pytest.raises(QueryError, match=r"took longer than 0\.2 s and was stopped"):
        sql.query(full_lake, ENDLESS, timeout_s=0.2)
    # Also while it gives rows.
    with sql.stream(full_lake, "SELECT * FROM range(1000000000000)", timeout_s=0.5) as answer:
        assert next(answer.batches).num_rows == 10_000
        with pytest.raises(QueryError, match="was stopped"):
            for _ in answer.batches:
                pass
    assert sql.query(full_lake, "SELECT count(*) FROM spans", timeout_s=100).column(0).to_pylist() == [68]


def test_ctrl_c_ends_a_query_and_the_next_one_is_answered(full_lake: Lake) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom tracemill.warehouse import Lake, sql\n"
        "with Lake.open(Path(sys.argv[1])) as lake:\n"
        "    try:\n        print('ready', flush=True)\n        sql.query(lake, sys.argv[2])\n"
        "    except KeyboardInterrupt:\n        print(sql.query(lake, 'SELECT 42 AS n').to_pylist())\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(full_lake.root), ENDLESS], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    assert process.communicate() == ("[{'n': 42}]\n", None)


def test_an_answer_is_not_held_whole(full_lake: Lake) -> None:
    with sql.stream(full_lake, "SELECT * FROM range(1000000000000)") as answer:
        assert answer.schema.names == ["range"]
        assert [next(answer.batches).num_rows for _ in range(3)] == [10_000] * 3


def test_a_query_has_half_of_the_memory_at_most(full_lake: Lake) -> None:
    con = engine.connect(full_lake.root, read_only=True)
    size = "SELECT parse_formatted_bytes(current_setting('memory_limit'))"
    (before,) = con.execute(size).fetchall()[0]
    sql.fence(con, full_lake.root)
    (after,) = con.execute(size).fetchall()[0]
    con.close()
    assert 0.6 * before < after < 0.65 * before
