"""Other programs read the lake while it is written: plain DuckDB and polars in processes of their own, and Ray."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tracemill.errors import StoreError
from tracemill.records import Batch
from tracemill.warehouse import Lake, sql
from tracemill.warehouse.engine import extension_path

WRITER = Path(__file__).parent / "writer.py"
EXTENSIONS = ("sqlite_scanner", "ducklake")
OBJECTS, EPISODES = 4, 8
"""Each object is one batch of 32 spans, more than DuckLake keeps in its catalog, so that Parquet files are written."""

# A client that knows nothing of tracemill. It reads what to run from its arguments; INSTALL wants the network, so the
# same binaries are loaded from the wheels. For each line on stdin it looks twice in one transaction, and once after it.
DUCKDB_CLIENT = """
import json, sys, time, duckdb
assert "tracemill" not in sys.modules
con = duckdb.connect(config={"autoinstall_known_extensions": False, "threads": 1})
attach, *extensions = sys.argv[1:]
for path in extensions:
    con.execute(f"LOAD '{path}'")
for statement in attach.split(";\\n")[1:]:
    if statement.strip():
        con.execute(statement)
LOOK = '''
    SELECT (SELECT count(*) FROM ingest_log), (SELECT sum(n_records) FROM ingest_log), (SELECT count(*) FROM spans),
           (SELECT count(*) FROM quarantine), (SELECT count(*) FROM llm_calls), (SELECT count(*) FROM trajectories)
'''
print("ready", flush=True)
for _ in sys.stdin:
    con.execute("BEGIN")
    first = con.execute(LOOK).fetchone()
    time.sleep(0.02)
    again = con.execute(LOOK).fetchone()
    con.execute("COMMIT")
    print(json.dumps([first, again, con.execute(LOOK).fetchone()]), flush=True)
"""

# A client that has tracemill's connection and counts with polars.
POLARS_CLIENT = """
import json, sys
import polars as pl
from tracemill.warehouse import sql
con = sql.connect(sys.argv[1])
print("ready", flush=True)
def look():
    con.execute("BEGIN")
    objects = con.sql("SELECT source_uri, n_records FROM ingest_log").pl()
    spans = con.sql("SELECT source_uri, kind FROM spans").pl()
    refused = con.sql("SELECT source_uri FROM quarantine").pl()
    episodes = con.sql("SELECT trajectory_id FROM trajectories").pl()
    con.execute("COMMIT")
    counted = objects.join(spans.group_by("source_uri").len(), on="source_uri", how="full")
    assert counted.filter(pl.col("n_records").ne_missing(pl.col("len").cast(pl.Int64))).is_empty(), counted
    llm = spans.filter(pl.col("kind") == "llm").height
    return objects.height, int(objects["n_records"].sum()), spans.height, refused.height, llm, episodes.height
for _ in sys.stdin:
    print(json.dumps([look(), None, None]), flush=True)
"""


def whole(number: int) -> list[int]:
    """What is seen where `number` objects are in the lake and nothing else."""
    return [number, number * 4 * EPISODES, number * 4 * EPISODES, number, number * 2 * EPISODES, number * EPISODES]


@pytest.fixture
def batches(tmp_path: Path, build: Callable[..., Any]) -> Path:
    folder = tmp_path / "batches"
    for number in range(OBJECTS):
        made = build(uri=f"file:///{number}")
        for episode in range(EPISODES):
            made.episode(f"{number}-{episode}")
        made.refuse(1, "torn")
        save(made.batch(), folder / f"{number:03}")
    return folder


def save(batch: Batch, folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, table in batch.tables.items():
        with pa.ipc.new_file(str(folder / f"{name}.arrow"), table.schema) as file:
            file.write_table(table)


@contextmanager
def talking(*command: str, **options: Any) -> Iterator[Callable[[str], str]]:
    """A process that answers a line with a line."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)
    assert process.stdin is not None
    assert process.stdout is not None

    def ask(line: str) -> str:
        if line:
            process.stdin.write(line + "\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
        return process.stdout.readline().strip()  # type: ignore[union-attr]

    try:
        yield ask
        process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()


def clients(lake: Lake) -> dict[str, list[str]]:
    """Name to command. polars is for those who have it."""
    extensions = [str(extension_path(name)) for name in EXTENSIONS]
    found = {"duckdb": [sys.executable, "-c", DUCKDB_CLIENT, sql.attachment(lake), *extensions]}
    found["polars"] = [sys.executable, "-c", POLARS_CLIENT, str(lake.root)]
    return found


@pytest.mark.parametrize("name", ["duckdb", "polars"])
def test_a_second_process_sees_whole_batches_and_a_stable_snapshot_while_another_writes(
    lake: Lake, batches: Path, name: str
) -> None:
    if name == "polars":
        pytest.importorskip("polars", reason="polars is not installed: pip install polars")
    command = clients(lake)[name]
    lake.close()
    seen = set()
    with talking(*command) as client, talking(sys.executable, str(WRITER)) as writer:
        assert client("") == "ready"
        assert json.loads(client("look"))[0][0] == 0
        assert writer(f"{lake.root}\t{batches}\t-").startswith("pid")
        for _ in range(OBJECTS):
            assert writer("") == "begin"  # the next transaction is under way while the client looks
            for _ in range(2):
                first, again, after = json.loads(client("look"))
                assert again in (None, first), "a transaction of a reader must see one snapshot"
                for look in (first, after):
                    if look is not None:
                        assert [value or 0 for value in look] == whole(look[0])
                        seen.add(look[0])
        assert writer("") == "end 0"
        last = json.loads(client("look"))[0]
    assert last == whole(OBJECTS)
    assert len(seen) > 1, "the client must have looked while the writer was at work"


def test_a_connection_at_a_snapshot_stays_there(lake: Lake, build: Callable[..., Any]) -> None:
    def take(name: str) -> int:
        made = build(uri=name)
        made.episode(name)
        with lake.transaction("take") as tx:
            tx.rebuild(tx.take(made.batch()).trace_ids)
        return lake.snapshot_id()

    then = take("a")
    with sql.connect(lake.root, snapshot=then) as pinned, sql.connect(str(lake.root)) as current:
        take("b")
        assert pinned.execute("SELECT count(*) FROM trajectories").fetchall() == [(1,)]
        assert current.execute("SELECT count(*) FROM trajectories").fetchall() == [(2,)]
        with pytest.raises(Exception, match="read-only"):
            current.execute("DELETE FROM trajectories")


def test_a_folder_without_a_lake_is_told(tmp_path: Path, lake: Lake) -> None:
    with pytest.raises(StoreError, match="there is no lake in"):
        sql.connect(tmp_path)
    with pytest.raises(StoreError, match="no snapshot 12345"):
        sql.connect(lake.root, snapshot=12345)


def blocks(page: str) -> list[str]:
    text = (Path(__file__).resolve().parents[2] / page).read_text(encoding="utf-8")
    return [part.split("```")[0] for part in text.split("```python\n")[1:]]


def run(program: str, folder: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def written(tmp_path: Path, build: Callable[..., Any]) -> Path:
    """A project folder with a lake of three traces on three days, one of them undated."""
    made = build()
    made.episode("a")
    made.episode("b", start_ns=1_760_000_000_000_000_000 + 86_400_000_000_000)
    made.episode("c", start_ns=None)
    with Lake.create(tmp_path / ".tracemill" / "lake") as lake, lake.transaction("take") as tx:
        tx.rebuild(tx.take(made.batch()).trace_ids)
    return tmp_path


def test_the_python_of_the_page_runs_as_written(written: Path) -> None:
    plain, ours, polars, ray = blocks("docs/sql.md")
    loads = "; ".join(f"LOAD '{extension_path(name)}'" for name in EXTENSIONS)
    assert '"INSTALL ducklake; INSTALL sqlite"' in plain
    # INSTALL wants the network; the same binaries come with our wheels.
    offline = plain.replace('"INSTALL ducklake; INSTALL sqlite"', f'"{loads}"')
    for program in (offline, ours):
        shown = run(program, written)
        assert "m1" in shown
        assert "6" in shown
    assert "import ray" in ray
    pytest.importorskip("polars", reason="polars is not installed: pip install polars")
    shown = run(polars, written)
    assert "m1" in shown
    assert "12" in shown


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: extra ray")
def test_ray_reads_a_day_a_task_as_written(written: Path) -> None:
    program = blocks("docs/sql.md")[3]
    assert run(program, written, RAY_USAGE_STATS_ENABLED="0", RAY_AUTH_MODE="disabled").strip() == "12"
