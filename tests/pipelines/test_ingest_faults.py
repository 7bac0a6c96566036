"""Killed, out of disk, torn, two at once: run again, an ingest ends in the lake of an undisturbed one, row for row."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import otlp_lines
import pytest
from otlp_lines import START, spans, told
from wholeness import HALF

from tracemill.app import settings
from tracemill.pipelines import ingesting
from tracemill.pipelines.night import Night
from tracemill.schema import TABLES
from tracemill.warehouse import Lake

INGESTER = Path(__file__).parent / "ingester.py"
span = partial(otlp_lines.span, apart_ns=10**15)


def write_logs(folder: Path) -> Path:
    """Children before their parents, messages before their spans, the same spans twice, torn and broken files."""
    folder.mkdir()
    noise = random.Random(0)
    lines: dict[str, list[str]] = {name: [] for name in ("a-children", "b-said", "c-parents", "d-again")}
    for trace in range(1, 13):
        texts = [f"{noise.randbytes(40).hex()} {number}" for number in range(3)]
        children = spans(*(span(trace, number, 0, texts[number]) for number in (1, 2)))
        lines["a-children"].append(children)
        lines["b-said"].append(told(trace, 1, f"question {trace % 7}"))
        lines["c-parents"].append(spans(span(trace, 0, None, texts[0])))
        lines["d-again"].append(children if trace % 2 else spans(span(trace, 3, 1, texts[2])))
    lines["b-said"].insert(5, "{torn in the midst\n")
    lines["d-again"].append(spans(span(99, 0, None, "last"))[:-40])
    for name, content in lines.items():
        (folder / f"{name}.jsonl").write_text("".join(content))
    (folder / "e-unknown.json").write_text('{"nobody": "knows this"}')
    (folder / "f-feedback.jsonl").write_text(
        "".join(json.dumps({"trace_id": f"{trace:032x}", "value": trace % 2}) + "\n" for trace in range(1, 13))
    )
    return folder


class Ingester:
    """A process that forks ingests one after the other."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(INGESTER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, project: Path, logs: Path, limit: int | None = None) -> int:
        """Forks an ingest; returns its process id when it begins."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{project}\t{logs}\t{'-' if limit is None else limit}\n")
        self._process.stdin.flush()
        pid = int(self.line().split()[1])
        assert self.line() == "begin\n"
        return pid

    def line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def finish(self) -> tuple[int, str]:
        """Exit status (negative: the signal that killed it), and why it refused, if it did."""
        why = ""
        while not (line := self.line()).startswith("end"):
            assert line, "the ingester is gone"
            why = line if line.startswith("refused") else why
        return int(line.split()[1]), why

    def run(self, project: Path, logs: Path, limit: int | None = None) -> tuple[int, str]:
        self.start(project, logs, limit)
        return self.finish()

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="module")
def ingester() -> Iterator[Ingester]:
    made = Ingester()
    yield made
    made.close()


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_logs(tmp_path_factory.mktemp("faults") / "logs")


@pytest.fixture(scope="module")
def undisturbed(empty: Path, logs: Path, ingester: Ingester, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What an ingest that nothing happens to leaves, and how long it takes."""
    project = tmp_path_factory.mktemp("undisturbed") / "project"
    shutil.copytree(empty, project)
    ingester.start(project, logs)
    began = time.monotonic()
    assert ingester.finish() == (0, "")
    took = time.monotonic() - began
    rows = contents(project)
    assert (len(rows["ingest_log"]), len(rows["ingest_progress"]), len(rows["scores"])) == (6, 0, 12)
    assert len(rows["quarantine"]) == 3
    with Lake.open(lake_of(project)) as lake, lake.reader() as con:
        (batches,) = con.execute("SELECT count(DISTINCT batch_id) FROM ingest_log").fetchone() or (0,)
        assert batches > 2
        assert con.execute(
            "SELECT count(*) FROM spans WHERE list_has_any(flags, ['orphan', 'partial'])"
        ).fetchall() == [(0,)]
    return rows, took


def lake_of(project: Path) -> Path:
    return project / ".tracemill" / "lake"


def contents(project: Path) -> dict[str, list[str]]:
    """Every row of every table."""
    with Lake.open(lake_of(project)) as lake, lake.reader() as con:
        return {
            name: [repr(row) for row in con.execute(f"SELECT * FROM {name} ORDER BY ALL").fetchall()] for name in TABLES
        }


def whole(project: Path) -> None:
    with Lake.open(lake_of(project)) as lake, lake.reader() as con:
        assert con.execute(HALF).fetchall() == []


def killed(
    tmp_path: Path, empty: Path, logs: Path, ingester: Ingester, undisturbed: Any, *, kills: int, seed: int
) -> None:
    """Kills an ingest `kills` times at random moments, each time on the lake that the last one left."""
    rng = random.Random(seed)
    rows, took = undisturbed
    project = tmp_path / "project"
    shutil.copytree(empty, project)
    interrupted = 0
    for _ in range(kills):
        pid = ingester.start(project, logs)
        time.sleep(rng.random() * took)
        # An ingest that has ended already stays a zombie until `finish` reads its end: the id is its own, or gone.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        status, why = ingester.finish()
        assert status in (0, -signal.SIGKILL), why
        interrupted += status == -signal.SIGKILL
        whole(project)
        if status == 0 or rng.random() < 0.2:  # from the beginning again, else there would soon be nothing to do
            assert ingester.run(project, logs) == (0, "")
            assert contents(project) == rows
            shutil.rmtree(project)
            shutil.copytree(empty, project)
    assert interrupted >= kills // 3
    assert ingester.run(project, logs) == (0, "")
    assert contents(project) == rows


def test_an_ingest_killed_at_random_moments_ends_in_the_same_lake(
    tmp_path: Path, empty: Path, logs: Path, ingester: Ingester, undisturbed: Any
) -> None:
    killed(tmp_path, empty, logs, ingester, undisturbed, kills=2, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_an_ingest_killed_at_two_hundred_random_moments_ends_in_the_same_lake(
    tmp_path: Path, empty: Path, logs: Path, ingester: Ingester, undisturbed: Any
) -> None:
    killed(tmp_path, empty, logs, ingester, undisturbed, kills=200, seed=2)


@pytest.mark.slow
def test_a_full_disk_stops_an_ingest_that_is_gone_on_with(
    tmp_path: Path, empty: Path, logs: Path, ingester: Ingester, undisturbed: Any
) -> None:
    project = tmp_path / "project"
    shutil.copytree(empty, project)
    status, why = ingester.run(project, logs, 70_000)
    assert status == 2
    assert why.startswith("refused the disk of the lake")
    whole(project)
    assert ingester.run(project, logs) == (0, "")
    assert contents(project) == undisturbed[0]


def test_two_ingests_at_once_queue_and_readers_see_whole_batches(
    tmp_path: Path, empty: Path, logs: Path, ingester: Ingester, undisturbed: Any
) -> None:
    project = tmp_path / "project"
    shutil.copytree(empty, project)
    other = Ingester()
    ended: list[tuple[int, str]] = []
    threads = [
        threading.Thread(target=lambda one=one: ended.append(one.run(project, logs)))  # type: ignore[misc]
        for one in (ingester, other)
    ]
    for thread in threads:
        thread.start()
    seen = set()
    with Lake.open(lake_of(project)) as lake, lake.reader() as con:
        while any(thread.is_alive() for thread in threads):
            assert con.execute(HALF).fetchall() == []
            seen.add(con.execute("SELECT count(*) FROM spans").fetchone())
            time.sleep(0.15)
    other.close()
    assert ended == [(0, ""), (0, "")]
    assert len(seen) > 1, "the reader must have looked while the others were at work"
    assert contents(project) == undisturbed[0]


@pytest.mark.slow
def test_torn_last_lines_come_in_when_they_are_whole(
    tmp_path: Path, empty: Path, ingester: Ingester, logs: Path, undisturbed: Any
) -> None:
    project, growing = tmp_path / "project", tmp_path / "logs"
    shutil.copytree(empty, project)
    growing.mkdir()
    rng = random.Random(3)
    for final in (False, True):
        for path in sorted(logs.iterdir()):
            content = path.read_bytes()
            (growing / path.name).write_bytes(content if final else content[: rng.randrange(1, len(content))])
        assert ingester.run(project, growing) == (0, "")
    grown = contents(project)
    for name in ("trajectories", "transitions", "messages", "scores", "trace_days", "span_parts"):
        assert len(grown[name]) == len(undisturbed[0][name]), name
    told_of = "SELECT * EXCLUDE (source_uri, source_line) FROM spans ORDER BY trace_id, span_id"
    with Lake.open(lake_of(project)) as lake, lake.reader() as con:
        assert [repr(row) for row in con.execute(told_of).fetchall()] == undisturbed_spans(
            tmp_path, empty, ingester, logs
        )


LOOSE = {
    "spans": ("source_uri", "source_line"),  # the first file that said it
    "trajectories": ("task_group", "pool"),  # of near duplicates the first names the group
    "messages": (),
    "transitions": (),
    "scores": (),
    "span_parts": (),
    "trace_days": (),
}


@pytest.mark.slow
def test_any_split_and_order_of_the_files_gives_the_same_rows(tmp_path: Path, empty: Path, logs: Path) -> None:
    files = sorted(logs.iterdir())
    seen = []
    for number, (order, batch_bytes) in enumerate(((files, 1 << 20), (files[::-1], 9_000))):
        project = tmp_path / str(number)
        shutil.copytree(empty, project)
        config = settings.load(project)
        with Lake.open(config.lake_path) as lake:
            night = Night(night_id="n", config=config, lake=lake, clock=lambda: START)
            report = ingesting.take_in(night, order, batch_bytes=batch_bytes)
            assert report.items == sum(
                (report.spans, report.merged, report.duplicates, report.scores, report.quarantined)
            )
            with lake.reader() as con:
                rows = {}
                for name, loose in LOOSE.items():
                    left_out = f"EXCLUDE ({', '.join(loose)})" if loose else ""
                    found = con.execute(f"SELECT * {left_out} FROM {name}").fetchall()
                    rows[name] = sorted(map(repr, found))
        seen.append(rows)
    for name in LOOSE:
        assert seen[0][name] == seen[1][name], name


def test_a_batch_of_other_traces_touches_no_trajectory(tmp_path: Path, empty: Path, logs: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(empty, project)
    config = settings.load(project)
    with Lake.open(config.lake_path) as lake:
        night = Night(night_id="n", config=config, lake=lake, clock=lambda: START)
        ingesting.take_in(night, [logs])
        told_of = "SELECT rowid, * FROM {} ORDER BY ALL"
        before = {name: night.select(told_of.format(name)) for name in ("trajectories", "transitions", "spans")}
        (tmp_path / "other.jsonl").write_text(spans(span(77, 0, None, "another")))
        report = ingesting.take_in(night, [tmp_path / "other.jsonl"])
        assert (report.spans, report.trajectories) == (1, 1)
        for name, rows in before.items():
            after = night.select(told_of.format(name)).to_pylist()
            assert [row for row in after if f"{77:032x}" not in repr(row)] == rows.to_pylist(), name


def undisturbed_spans(tmp_path: Path, empty: Path, ingester: Ingester, logs: Path) -> list[str]:
    project = tmp_path / "at-once"
    shutil.copytree(empty, project)
    assert ingester.run(project, logs) == (0, "")
    with Lake.open(lake_of(project)) as lake, lake.reader() as con:
        told_of = "SELECT * EXCLUDE (source_uri, source_line) FROM spans ORDER BY trace_id, span_id"
        return [repr(row) for row in con.execute(told_of).fetchall()]
