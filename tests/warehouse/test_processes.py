"""Several processes on one lake: writers queue, readers see whole batches, a killed writer leaves nothing half done."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tracemill.records import Batch
from tracemill.schema import TABLES
from tracemill.warehouse import Lake

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


class Writer:
    """A process that forks writers one after the other."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(WRITER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, lake: Path, batches: Path, limit: int | None = None) -> int:
        """Fork a writer; returns its process id once it begins its first batch."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{lake}\t{batches}\t{'-' if limit is None else limit}\n")
        self._process.stdin.flush()
        return int(self.line().split()[1])

    def line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def finish(self) -> tuple[int, str]:
        """Exit status of the writer (negative: the signal that killed it), and why it refused, if it did."""
        told = ""
        while not (line := self.line()).startswith("end"):
            assert line, "the writer is gone"
            told = line if line.startswith("refused") else told
        return int(line.split()[1]), told

    def run(self, lake: Path, batches: Path, limit: int | None = None) -> tuple[int, str]:
        self.start(lake, batches, limit)
        return self.finish()

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="module")
def writer() -> Iterator[Writer]:
    made = Writer()
    yield made
    made.close()


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
    tmp_path: Path, lake: Lake, build: Callable[..., Any], writer: Writer
) -> None:
    other = Writer()
    folders = []
    for prefix in ("one", "two"):
        batches = []
        for number in range(3):
            made = build(uri=f"file:///{prefix}/{number}")
            for episode in range(EPISODES):
                made.episode(f"{prefix}-{number}-{episode}")
            made.refuse(1, "torn")
            batches.append(made.batch())
        folders.append(save(batches, tmp_path / prefix))
    ended: list[tuple[int, str]] = []
    threads = [
        threading.Thread(target=lambda one=one, folder=folder: ended.append(one.run(lake.root, folder)))  # type: ignore[misc]
        for one, folder in zip((writer, other), folders, strict=True)
    ]
    for thread in threads:
        thread.start()
    seen = set()
    with lake.reader() as con:
        while any(thread.is_alive() for thread in threads):
            assert con.execute(WHOLE).fetchall() == []
            assert con.execute(UNBUILT).fetchall() == [(0,)]
            seen.add(con.execute("SELECT count(*) FROM ingest_log").fetchone())
            time.sleep(0.03)
        assert ended == [(0, ""), (0, "")]
        assert con.execute("SELECT count(*), sum(n_records) FROM ingest_log").fetchall() == [(6, 6 * 4 * EPISODES)]
        assert con.execute("SELECT count(*) FROM spans").fetchall() == [(6 * 4 * EPISODES,)]
    other.close()
    assert len(seen) > 1, "the reader must have looked while the writers were at work"


def killed(tmp_path: Path, empty: Path, build: Callable[..., Any], writer: Writer, *, kills: int, seed: int) -> None:
    """Kill a writer of three batches `kills` times at random moments, each time on the lake that the last one left."""
    rng = random.Random(seed)
    folder = save(made_batches(build, "k", 3), tmp_path / "batches")
    undisturbed, root = tmp_path / "undisturbed", tmp_path / "lake"
    shutil.copytree(empty, undisturbed)
    shutil.copytree(empty, root)
    writer.start(undisturbed, folder)
    assert writer.line() == "begin\n"
    began = time.monotonic()
    assert writer.finish() == (0, "")
    took = time.monotonic() - began
    interrupted = 0
    for _ in range(kills):
        if rng.random() < 0.3:  # from an empty lake again, else there would soon be nothing to do
            shutil.rmtree(root)
            shutil.copytree(empty, root)
        pid = writer.start(root, folder)
        assert writer.line() == "begin\n"
        time.sleep(rng.random() * took)
        # A writer that has ended already stays a zombie until `finish` reads its end: the id is still its own, or gone.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        status, told = writer.finish()
        assert status in (0, -signal.SIGKILL), told
        interrupted += status == -signal.SIGKILL
        with Lake.open(root) as lake, lake.reader() as con:
            assert con.execute(UNBUILT).fetchall() == [(0,)]
    assert interrupted > kills // 4, "most kills came too late to prove anything"
    assert writer.run(root, folder) == (0, "")
    assert contents(root) == contents(undisturbed)


def test_a_killed_writer_leaves_nothing_half_done(
    tmp_path: Path, empty_lake: Path, build: Callable[..., Any], writer: Writer
) -> None:
    killed(tmp_path, empty_lake, build, writer, kills=6, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_writer_killed_over_and_over_leaves_nothing_half_done(
    tmp_path: Path, empty_lake: Path, build: Callable[..., Any], writer: Writer
) -> None:
    killed(tmp_path, empty_lake, build, writer, kills=60, seed=2)


@pytest.mark.parametrize(("what", "limit"), [("data file", 1_000_000), ("catalog", 50_000)])
def test_a_full_disk_is_told_leaves_nothing_and_can_be_retried(
    tmp_path: Path, lake: Lake, build: Callable[..., Any], writer: Writer, what: str, limit: int
) -> None:
    made = build()
    made.episode("a")
    noise = random.Random(0)
    for row in range(16):
        made.span("a", f"big{row}", attributes=noise.randbytes(60_000 if what == "data file" else 10).hex())
    folder = save([made.batch()], tmp_path / "batches")
    before = contents(lake.root)
    files = set((lake.root / "data").rglob("*.parquet"))
    lake.close()
    assert (lake.root / "catalog.sqlite").stat().st_size < 1_000_000
    status, told = writer.run(lake.root, folder, limit)
    assert status == 2
    assert told.startswith("refused the disk of the lake")
    assert contents(lake.root) == before
    assert set((lake.root / "data").rglob("*.parquet")) == files
    assert writer.run(lake.root, folder) == (0, "")
    assert len(contents(lake.root)["spans"]) == 20
