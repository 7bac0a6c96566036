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
from sql_attacks import ANSWERED, REFUSED

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
    con = sql.fenced(full_lake)

    def rows(statement: str) -> Any:
        checked = readonly.checked(con, statement)
        try:
            return con.execute(checked).to_arrow_table()
        except duckdb.Error as error:
            raise QueryError(str(error)) from error

    yield rows
    con.close()


@pytest.mark.parametrize("statement", ANSWERED.values(), ids=ANSWERED.keys())
def test_reading_statements_are_answered(ask: Callable[[str], Any], statement: str) -> None:
    assert ask(statement).num_rows > 0


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
    con = sql.fenced(full_lake)
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
        "import signal, sys\nfrom pathlib import Path\nfrom tracemill.warehouse import Lake, sql\n"
        # Whoever runs tests in the background has it ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
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
    size = "SELECT parse_formatted_bytes(current_setting('memory_limit'))"
    with full_lake.reader() as usual, sql.fenced(full_lake) as con:
        (before,) = usual.execute(size).fetchall()[0]
        (after,) = con.execute(size).fetchall()[0]
    assert 0.6 * before < after < 0.65 * before
