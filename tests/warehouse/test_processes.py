"""Several processes on one lake: writers queue, readers see whole batches, a killed writer leaves nothing half done."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tracemill.records import Batch
from tracemill.schema import TABLES
from tracemill.warehouse import Lake, sql

WRITER = Path(__file__).parent / "writer.py"
EPISODES = 8
"""Per batch: 32 spans, more than DuckLake keeps in its catalog, so that Parquet files are written too."""


def save(batches: Sequence[Batch], folder: Path) -> Path:
    for number, batch in enumerate(batches):
        (folder / f"{number:03}").mkdir(parents=True)
        for name, table in batch.tables.items():
            with pa.ipc.new_file(str(folder / f"{number:03}" / f"{name}.arrow"), table.schema) as file:
                file.write_table(table)
    return folder


def made_batches(build: Callable[..., Any], prefix: str, count: int) -> list[Batch]:
    batches = []
    for number in range(count):
        made = build(uri=f"file:///{prefix}/{number}")
        for episode in range(EPISODES):
            made.episode(f"{prefix}-{number}-{episode}")
            made.score(f"{prefix}-{number}-{episode}", 1.0)
        if number:
            made.episode(f"{prefix}-{number - 1}-0", "said again", at=number)  # a trace that grew
        made.refuse(1, "torn")
        batches.append(made.batch())
    return batches


def start(lake: Path, batches: Path, *options: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, str(WRITER), str(lake), str(batches), *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def contents(root: Path) -> dict[str, list[str]]:
    """Every row of every table."""
    with Lake.open(root) as lake, lake.reader() as con:
        return {
            name: [repr(row) for row in con.execute(f"SELECT * FROM {name} ORDER BY ALL").fetchall()] for name in TABLES
        }


WHOLE = """
    SELECT l.source_uri
    FROM ingest_log l
    FULL JOIN (SELECT source_uri, count(*) AS n FROM spans GROUP BY source_uri) s USING (source_uri)
    LEFT JOIN (SELECT source_uri, count(*) AS n FROM quarantine GROUP BY source_uri) q USING (source_uri)
    WHERE l.n_records IS DISTINCT FROM s.n OR q.n IS DISTINCT FROM 1
"""
"""Source objects of which a reader sees a part only; one statement, so one snapshot."""

UNBUILT = """
    SELECT count(*) FROM (SELECT DISTINCT trace_id FROM spans) s
    FULL JOIN trajectories t ON t.trajectory_id = s.trace_id
    WHERE s.trace_id IS NULL OR t.task_group IS NULL
"""


def test_commits_of_several_processes_queue_while_readers_see_whole_batches(
    tmp_path: Path, lake: Lake, build: Callable[..., Any]
) -> None:
    writers = []
    for prefix in ("one", "two"):
        batches = []
        for number in range(3):
            made = build(uri=f"file:///{prefix}/{number}")
            for episode in range(EPISODES):
                made.episode(f"{prefix}-{number}-{episode}")
            made.refuse(1, "torn")
            batches.append(made.batch())
        writers.append(start(lake.root, save(batches, tmp_path / prefix)))
    seen = set()
    with lake.reader() as con:
        while any(writer.poll() is None for writer in writers):
            assert con.execute(WHOLE).fetchall() == []
            assert con.execute(UNBUILT).fetchall() == [(0,)]
            seen.add(con.execute("SELECT count(*) FROM ingest_log").fetchone())
            time.sleep(0.01)
        for writer in writers:
            writer.communicate()
        assert [writer.returncode for writer in writers] == [0, 0]
        assert con.execute("SELECT count(*), sum(n_records) FROM ingest_log").fetchall() == [(6, 6 * 4 * EPISODES)]
        assert con.execute("SELECT count(*) FROM spans").fetchall() == [(6 * 4 * EPISODES,)]
    assert len(seen) > 1, "the reader must have looked while the writers were at work"


def killed(tmp_path: Path, empty: Path, build: Callable[..., Any], *, kills: int, seed: int) -> None:
    """Kill a writer of three batches `kills` times at random moments, each time on the lake that the last one left."""
    rng = random.Random(seed)
    folder = save(made_batches(build, "k", 3), tmp_path / "batches")
    undisturbed, root = tmp_path / "undisturbed", tmp_path / "lake"
    shutil.copytree(empty, undisturbed)
    shutil.copytree(empty, root)
    began = time.monotonic()
    writer = start(undisturbed, folder)
    assert writer.wait() == 0
    writer.communicate()
    took = time.monotonic() - began
    forker = start(root, folder, "--fork")
    assert forker.stdin is not None
    assert forker.stdout is not None
    done = 0
    interrupted = 0
    while done < kills:
        if interrupted and rng.random() < 0.2:  # from an empty lake again, else there would soon be nothing to do
            shutil.rmtree(root)
            shutil.copytree(empty, root)
        forker.stdin.write("go\n")
        forker.stdin.flush()
        word, pid = forker.stdout.readline().split()
        assert word == "pid"
        assert forker.stdout.readline() == "begin\n"
        time.sleep(rng.random() * took / 4)
        os.kill(int(pid), signal.SIGKILL)
        while (line := forker.stdout.readline().split())[0] != "end":
            pass
        done += 1
        interrupted += int(line[1]) == signal.SIGKILL
        if int(line[1]) != signal.SIGKILL or rng.random() < 0.3:
            with Lake.open(root) as lake:
                assert sql.query(lake, UNBUILT).column(0).to_pylist() == [0]
    forker.communicate()
    assert interrupted > kills // 4, "most kills came too late to prove anything"
    finisher = start(root, folder)
    assert finisher.wait() == 0
    finisher.communicate()
    assert contents(root) == contents(undisturbed)
    with Lake.open(root) as lake:
        lake.checkpoint(now_ns=time.time_ns() + 3 * 86_400 * 10**9)
    assert contents(root) == contents(undisturbed)


def test_a_killed_writer_leaves_nothing_half_done(tmp_path: Path, empty_lake: Path, build: Callable[..., Any]) -> None:
    killed(tmp_path, empty_lake, build, kills=5, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_writer_killed_over_and_over_leaves_nothing_half_done(
    tmp_path: Path, empty_lake: Path, build: Callable[..., Any]
) -> None:
    killed(tmp_path, empty_lake, build, kills=150, seed=2)


@pytest.mark.parametrize("what", ["data file", "catalog"])
def test_a_full_disk_is_told_leaves_nothing_and_can_be_retried(
    tmp_path: Path, lake: Lake, build: Callable[..., Any], what: str
) -> None:
    made = build()
    made.episode("a")
    noise = random.Random(0)
    for row in range(16):
        made.span("a", f"big{row}", attributes=noise.randbytes(60_000 if what == "data file" else 10).hex())
    folder = save([made.batch()], tmp_path / "batches")
    before = contents(lake.root)
    lake.close()
    catalog = lake.root / "catalog.sqlite"
    limit = 1_000_000 if what == "data file" else 50_000
    assert catalog.stat().st_size < 1_000_000
    writer = start(lake.root, folder, "--file-limit", str(limit))
    told, _ = writer.communicate()
    assert writer.returncode == 2, told
    assert "refused the disk of the lake" in told
    assert contents(lake.root) == before
    retry = start(lake.root, folder)
    retry.communicate()
    assert retry.returncode == 0
    assert len(contents(lake.root)["spans"]) == 20
