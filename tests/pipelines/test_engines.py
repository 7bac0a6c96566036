"""Whoever decodes and redacts, the lake holds the same rows; workers may die on the way."""

import importlib.util
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from engine_logs import write_logs

from tracemill.app import settings
from tracemill.errors import FormatError, SourceError
from tracemill.pipelines import engines, ingesting
from tracemill.pipelines.config import Config, IngestConfig
from tracemill.pipelines.engines.staging import Staging
from tracemill.pipelines.engines.work import Held, Job, Message, Task, Worker
from tracemill.pipelines.night import Night
from tracemill.schema import TABLES
from tracemill.warehouse import Lake

NOW = 1_790_000_000_000_000_000
UNIT = 60_000
LOCAL = IngestConfig()
TWO = IngestConfig(engine="processes", workers=2)
RAY = IngestConfig(engine="ray", workers=2)

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: extra ray")


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_logs(tmp_path_factory.mktemp("engines") / "logs")


Tell = Callable[[str, str, int, int], None]
Run = Callable[..., "tuple[ingesting.IngestReport, dict[str, list[str]]]"]


@pytest.fixture
def run(empty: Path, logs: Path, tmp_path: Path) -> Run:
    """Takes the logs in with an engine, into a lake of its own; the report, and every row of every table."""

    def take_in(engine: IngestConfig, *, name: str = "", tell: Tell | None = None, **how: Any) -> Any:
        project = tmp_path / (name or engine.engine)
        if not project.exists():
            shutil.copytree(empty, project)
        return taken_in(settings.load(project), engine, [logs], tell=tell, **how)

    return take_in


def taken_in(
    config: Config, engine: IngestConfig, sources: list[Path], *, tell: Tell | None = None, **how: Any
) -> tuple[ingesting.IngestReport, dict[str, list[str]]]:
    config = replace(config, ingest=engine)
    with Lake.open(config.lake_path) as lake:
        night = Night(night_id="n", config=config, lake=lake, clock=lambda: NOW, **({"tell": tell} if tell else {}))
        report = ingesting.take_in(night, sources, **{"batch_bytes": UNIT, **how})
        with lake.reader() as con:
            rows = {
                name: [repr(row) for row in con.execute(f"SELECT * FROM {name} ORDER BY ALL").fetchall()]
                for name in TABLES
            }
        staged = list((lake.root / "data" / "staging").glob("*"))
    assert staged == [], "what was staged is removed"
    return replace(report, seconds=0.0), rows


@pytest.fixture(scope="module")
def alone(empty: Path, logs: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What this process alone makes of the logs."""
    project = tmp_path_factory.mktemp("alone") / "project"
    shutil.copytree(empty, project)
    report, rows = taken_in(settings.load(project), LOCAL, [logs])
    with Lake.open(project / ".tracemill" / "lake") as lake, lake.reader() as con:
        snapshots = "SELECT count(*) FROM lake.snapshots() WHERE commit_message LIKE 'n: ingest %'"
        assert con.execute(snapshots).fetchall() == [(9,)]
    assert (report.quarantined, report.scores, len(rows["ingest_progress"])) == (15, 40, 0)
    assert report.merged > 0
    assert report.duplicates > 100
    assert not any("someone" in row for table in rows.values() for row in table)
    return report, rows


def workers() -> list[int]:
    """Processes of workers that this process has started and that are alive."""
    found = []
    for thread in Path("/proc/self/task").iterdir():
        for pid in (thread / "children").read_text().split():
            if b"engines.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(int(pid))
    return found


def test_processes_give_the_rows_of_one_and_the_key_is_in_no_file(run: Run, alone: Any, tmp_path: Path) -> None:
    busy: list[int] = []
    shown: list[bytes] = []

    def look(*_: Any) -> None:
        pids = workers()
        busy.append(len(pids))
        for pid in pids:
            shown.append(Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes())
        for path in (tmp_path / "processes/.tracemill/lake").rglob("*"):
            if path.is_file() and path.name != "key":
                shown.append(path.read_bytes())

    report, rows = run(TWO, tell=look)
    assert max(busy) == 2
    assert report == alone[0]
    assert rows == alone[1]
    assert workers() == []
    key = (tmp_path / "processes/.tracemill/lake/key").read_bytes()
    assert len(shown) > 10
    assert not any(key in one or key.hex().encode() in one for one in shown)


@pytest.mark.slow
def test_a_second_run_by_processes_finds_nothing_new(run: Run, alone: Any) -> None:
    run(LOCAL, name="p")
    report, rows = run(TWO, name="p")
    assert (report.files, report.spans, report.scores) == (0, 0, 0)
    assert rows == alone[1]


def test_workers_killed_on_the_way_change_no_row(run: Run, alone: Any) -> None:
    killed: list[int] = []

    def kill(_: str, __: str, done: int, ___: int) -> None:
        if len(killed) < 4:
            for pid in workers()[:1]:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    report, rows = run(TWO, tell=kill)
    assert len(set(killed)) > 1
    assert report == alone[0]
    assert rows == alone[1]


@pytest.mark.slow
def test_staged_batches_that_vanish_are_made_again(
    run: Run, alone: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vanished: list[Path] = []

    def sweep(*_: Any) -> None:
        if len(vanished) < 3:
            for path in (tmp_path / "processes").glob(".tracemill/lake/data/staging/*/*.parquet"):
                path.unlink()
                vanished.append(path)

    monkeypatch.setattr(engines, "Staging", partial(Staging, small_bytes=-1))
    report, rows = run(TWO, tell=sweep)
    assert len(vanished) >= 3
    assert report == alone[0]
    assert rows == alone[1]


DETECTORS = """
import os


class Dying:
    version = "1"

    def find(self, text):
        if "question 3" in text:
            os._exit(9)
        yield from ()


class Unpicklable(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


class Failing:
    version = "1"

    def find(self, text):
        if "question 3" in text:
            raise Unpicklable("no", "names")
        yield from ()
"""


@pytest.fixture
def detectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_detectors.py").write_text(DETECTORS)
    monkeypatch.syspath_prepend(str(tmp_path))


def with_names(empty: Path, project: Path, names: str) -> Config:
    shutil.copytree(empty, project)
    (project / "tracemill.toml").write_text(f'redaction.names = "own_detectors:{names}"\n')
    return settings.load(project)


@pytest.mark.usefixtures("detectors")
def test_what_kills_every_worker_stops_the_run_with_the_file_named(tmp_path: Path, empty: Path, logs: Path) -> None:
    config = with_names(empty, tmp_path / "project", "Dying")
    with pytest.raises(SourceError, match=r"a0-children.jsonl: 3 workers died .* status 9"):
        taken_in(config, TWO, [logs])
    assert workers() == []


@pytest.mark.usefixtures("detectors")
@pytest.mark.parametrize("engine", [LOCAL, TWO], ids=lambda one: one.engine)
def test_what_a_worker_raises_is_raised(tmp_path: Path, empty: Path, logs: Path, engine: IngestConfig) -> None:
    config = with_names(empty, tmp_path / "project", "Failing")
    with pytest.raises(Exception, match="no names"):
        taken_in(config, engine, [logs])


@pytest.mark.slow
def test_a_wrong_format_stops_after_what_came_before_it(tmp_path: Path, empty: Path, logs: Path) -> None:
    rows = []
    for engine in (LOCAL, TWO):
        project = tmp_path / engine.engine
        shutil.copytree(empty, project)
        with pytest.raises(FormatError, match="e-unknown"):
            taken_in(settings.load(project), engine, [logs], format="otlp-json")
        with Lake.open(project / ".tracemill" / "lake") as lake, lake.reader() as con:
            rows.append(con.execute("SELECT * FROM spans ORDER BY ALL").fetchall())
    assert rows[0] == rows[1]
    assert len(rows[0]) > 100


@pytest.mark.slow
def test_refused_files_are_read_again_alike(run: Run, tmp_path: Path) -> None:
    rows = []
    for engine in (LOCAL, TWO):
        run(LOCAL, name=engine.engine)
        rows.append(run(engine, name=engine.engine, retry_refused=True))
    assert rows[0] == rows[1]
    assert rows[0][0].quarantined == 15


@dataclass
class AtOnce:
    """A crew without processes, of which every worker is on a machine without the files."""

    worker: Worker
    heard: list[tuple[tuple[int, int], Message]] = field(default_factory=list)
    size: int = 2
    free: int = 1

    def start(self, tag: tuple[int, int], task: Task) -> None:
        gone = [replace(one, uri=f"/not/here{one.uri}") for one in task.objects]
        far = replace(task, objects=tuple(gone))
        self.heard += [(tag, message) for message in self.worker.told(far, lambda batch: Held(batch=batch), far=True)]

    def hear(self) -> list[tuple[tuple[int, int], Message]]:
        time.sleep(0 if self.heard else 0.02)
        heard, self.heard = self.heard, []
        return heard

    def close(self) -> None:
        """Nothing runs."""


def test_what_workers_do_not_reach_is_read_here(run: Run, alone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    crews: list[AtOnce] = []

    def make(_: IngestConfig, job: Job, key: bytes, *rest: Any, **more: Any) -> AtOnce:
        crews.append(AtOnce(Worker(job, key)))
        return crews[-1]

    monkeypatch.setattr(engines, "_crew", make)
    report, rows = run(TWO)
    assert len(crews) == 1
    assert report == alone[0]
    assert rows == alone[1]


@pytest.fixture
def ray_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where Ray keeps its files; short, for its sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="tm", dir="/tmp", ignore_cleanup_errors=True) as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        settings.quiet_ray(None)
        yield Path(folder)


@needs_ray
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("shared", [True, False], ids=["staged", "object-store"])
def test_a_ray_cluster_of_two_workers_gives_the_rows_of_one_process(
    run: Run, alone: Any, tmp_path: Path, ray_folder: Path, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    if not shared:  # the workers see no mark of a folder that is theirs too
        monkeypatch.setattr(Staging, "open", lambda staging: None)
    monkeypatch.setattr(engines, "Staging", partial(Staging, small_bytes=-1))
    staged: list[int] = []
    report, rows = run(RAY, tell=lambda *_: staged.append(len(list(tmp_path.rglob("*.parquet")))))
    assert report == alone[0]
    assert rows == alone[1]
    key = (tmp_path / "ray/.tracemill/lake/key").read_bytes()
    files = [path for path in ray_folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(files) > 5
    assert not any(key in text or key.hex().encode() in text for text in (path.read_bytes() for path in files))


def actors() -> list[int]:
    """Processes of Ray actors that were started by this process and are alive."""
    found, todo = [], [os.getpid()]
    while todo:
        for thread in Path(f"/proc/{todo.pop()}/task").glob("*/children"):
            with suppress(OSError):
                for pid in map(int, thread.read_text().split()):
                    todo.append(pid)
                    if b"ray::_Actor" in Path(f"/proc/{pid}/cmdline").read_bytes():
                        found.append(pid)
    return found


@needs_ray
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("ray_folder")
@pytest.mark.parametrize("shared", [True, False], ids=["staged", "object-store"])
def test_actors_killed_on_the_way_change_no_row(
    run: Run, alone: Any, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    if not shared:
        monkeypatch.setattr(Staging, "open", lambda staging: None)
    monkeypatch.setattr(engines, "Staging", partial(Staging, small_bytes=-1))
    killed: list[int] = []

    def kill(*_: Any) -> None:
        for pid in actors()[: 4 - len(killed)][:1]:
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    report, rows = run(RAY, tell=kill)
    assert len(killed) >= 2
    assert report == alone[0]
    assert rows == alone[1]
