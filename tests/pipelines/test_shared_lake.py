"""One lake of several machines, catalog in PostgreSQL, data on S3: nothing lost, nothing twice, batches seen whole."""

import importlib.util
import inspect
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
from engine_logs import write_logs
from otlp_lines import START, span, spans
from shared_storage import Postgres, postgres, s3_server
from wholeness import HALF

from tracemill.app import settings
from tracemill.errors import BusyError, ConfigError, ConflictError, StoreError
from tracemill.pipelines import forgetting, ingesting
from tracemill.pipelines.config import IngestConfig
from tracemill.pipelines.night import Night
from tracemill.schema import TABLES
from tracemill.warehouse import Lake, engine, sql

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NOW, UNIT = 1_790_000_000_000_000_000, 40_000


@dataclass(frozen=True)
class Store:
    """The services that the machines share."""

    server: Postgres
    endpoint: str

    def __post_init__(self) -> None:
        self.files.makedirs("lakes")

    @property
    def files(self) -> Any:
        import fsspec

        return fsspec.filesystem("s3", endpoint_url=self.endpoint, use_listings_cache=False)


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
            patch.setenv(f"AWS_{name}", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        with postgres() as server, s3_server() as endpoint:
            yield Store(server, endpoint)


@dataclass
class Machines:
    """Projects that share one lake; each is the folder of a machine."""

    store: Store
    name: str
    folder: Path

    def machine(self, name: str) -> Path:
        project = self.folder / name
        project.mkdir()
        (project / "tracemill.toml").write_text(
            f"""
            [lake]
            catalog = "{self.store.server.catalog(self.name)}"
            data = "s3://lakes/{self.name}"
            options = {{ endpoint_url = "{self.store.endpoint}" }}
            """
        )
        return project

    def alone(self, key: Path, *sources: Path, name: str = "alone") -> Path:
        """A lake of one machine with the same key, which took in the same."""
        project = self.folder / name
        project.mkdir()
        (project / "tracemill.toml").write_text("")
        Lake.create(project / ".tracemill/lake").close()
        shutil.copy(key, project / ".tracemill/lake/key")
        take_in(project, *sources)
        return project


def take_in(project: Path, *sources: Path, **changes: Any) -> ingesting.IngestReport:
    config = settings.load(project)
    with Lake.open(config.lake_place) as lake:
        night = Night(**{"night_id": "n", "config": config, "lake": lake, "clock": lambda: NOW, **changes})
        return ingesting.take_in(night, sources, batch_bytes=UNIT)


def contents(project: Path, loose: bool = False) -> dict[str, list[str]]:
    """Every row of every table; `loose`: without what hangs on the order in which files came."""
    told = "source_uri, source_line"
    by_order = {"spans": told, "span_parts": told, "trajectories": "task_group, pool"} if loose else {}
    with Lake.open(settings.load(project).lake_place) as lake, lake.reader() as con:
        found = {}
        for name in TABLES:
            if loose and name in ("ingest_log", "quarantine", "task_groups"):
                continue
            less = f"EXCLUDE ({by_order[name]})" if name in by_order else ""
            found[name] = sorted(map(repr, con.execute(f"SELECT * {less} FROM {name}").fetchall()))
        return found


@pytest.fixture
def machines(store: Store, tmp_path: Path, request: pytest.FixtureRequest) -> Machines:
    name = re.sub(r"\W", "_", request.node.name)[-50:].lower()
    store.server.create(name)
    return Machines(store, name, tmp_path)


@pytest.fixture
def two(machines: Machines) -> tuple[Path, Path]:
    """Two machines; the first has made the lake, and its key was copied to the second."""
    one, other = machines.machine("one"), machines.machine("other")
    Lake.create(settings.load(one).lake_place).close()
    (other / ".tracemill/lake").mkdir(parents=True)
    shutil.copy(one / ".tracemill/lake/key", other / ".tracemill/lake/key")
    return one, other


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_logs(tmp_path_factory.mktemp("shared") / "logs")


MACHINE = f"""
import sys
from pathlib import Path

sys.path.insert(0, {str(Path(__file__).parents[1])!r})
import few_threads
from tracemill.app import settings
from tracemill.pipelines import ingesting
from tracemill.pipelines.night import Night
from tracemill.warehouse import Lake

project, logs = map(Path, sys.argv[1:])
config = settings.load(project)
with Lake.open(config.lake_place) as lake:
    print("begin", flush=True)
    night = Night(night_id="n", config=config, lake=lake, clock=lambda: {NOW})
    ingesting.take_in(night, [logs], batch_bytes={UNIT})
"""


class Ingester:
    """A machine's ingest, in a process of its own."""

    def __init__(self, project: Path, logs: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", MACHINE, str(project), str(logs)], stdout=subprocess.PIPE, text=True
        )

    def begun(self) -> "Ingester":
        """Once it has opened the lake."""
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "begin\n"
        return self

    def kill(self) -> None:
        self._process.kill()

    def finish(self) -> int:
        """Exit status; negative: the signal that killed it."""
        self._process.communicate()
        return self._process.returncode


def watched(project: Path, running: list[Ingester]) -> int:
    """Reads the lake until all have ended well; how many states of it were seen."""
    ended: list[int] = []
    threads = [threading.Thread(target=lambda one=one: ended.append(one.finish())) for one in running]  # type: ignore[misc]
    for thread in threads:
        thread.start()
    seen = set()
    with Lake.open(settings.load(project).lake_place) as lake, lake.reader() as con:
        while any(thread.is_alive() for thread in threads):
            assert con.execute(HALF).fetchall() == []
            seen.add(con.execute("SELECT count(*) FROM spans").fetchone())
            time.sleep(0.1)
    assert ended == [0] * len(running)
    return len(seen)


def test_machines_that_take_in_the_same_files_at_once_have_them_once(
    machines: Machines, two: tuple[Path, Path], logs: Path
) -> None:
    seen = watched(two[0], [Ingester(project, logs) for project in two])
    assert seen > 2, "the reader must have looked while the others were at work"
    alone = machines.alone(two[0] / ".tracemill/lake/key", logs)
    assert contents(two[1]) == contents(alone)


def test_machines_that_take_in_files_of_the_same_traces_at_once_lose_nothing(
    machines: Machines, two: tuple[Path, Path], tmp_path: Path
) -> None:
    halves = [tmp_path / "half0", tmp_path / "half1"]
    for half in halves:
        half.mkdir()
    all_of_it = write_logs(tmp_path / "logs", otherwise=False)
    for number, path in enumerate(sorted(all_of_it.glob("[abch]*"))):
        shutil.copy(path, halves[number % 2])
    watched(two[0], [Ingester(project, half) for project, half in zip(two, halves, strict=True)])
    alone = machines.alone(two[0] / ".tracemill/lake/key", *halves)
    assert contents(two[0], loose=True) == contents(alone, loose=True)


def test_a_machine_that_dies_leaves_its_turn_to_the_others(
    machines: Machines, two: tuple[Path, Path], logs: Path
) -> None:
    for pause in (1.0, 4.0):
        dying = Ingester(two[0], logs).begun()
        living = Ingester(two[1], logs).begun() if pause > 1.0 else None
        time.sleep(pause)
        dying.kill()
        assert dying.finish() in (0, -signal.SIGKILL)
        if living is not None:
            assert living.finish() == 0
    assert Ingester(two[0], logs).finish() == 0
    alone = machines.alone(two[0] / ".tracemill/lake/key", logs)
    assert contents(two[0]) == contents(alone)


def test_workers_stage_on_s3(machines: Machines, two: tuple[Path, Path], logs: Path) -> None:
    staged: list[str] = []

    def look(*_: Any) -> None:
        staged.extend(machines.store.files.glob(f"lakes/{machines.name}/staging/*/*"))

    config = replace(settings.load(two[0]), ingest=IngestConfig(engine="processes", workers=2))
    take_in(two[0], logs, config=config, tell=look)
    assert staged
    assert machines.store.files.glob(f"lakes/{machines.name}/staging/*/*") == []
    alone = machines.alone(two[0] / ".tracemill/lake/key", logs)
    assert contents(two[0]) == contents(alone)


def foreign(project: Path) -> duckdb.DuckDBPyConnection:
    """A writer that knows nothing of the queue: any DuckDB client."""
    return engine.connect(settings.load(project).lake_place, read_only=False)


def test_a_batch_that_another_writer_was_faster_than_is_written_anew(
    machines: Machines, two: tuple[Path, Path], tmp_path: Path
) -> None:
    first, more = tmp_path / "first.jsonl", tmp_path / "more.jsonl"
    first.write_text("".join(spans(span(trace, 0, None, "root")) for trace in range(1, 41)))
    more.write_text(
        "".join(spans(span(trace, 1, 0, "child")) for trace in range(1, 41)) + spans(span(99, 0, None, "new"))
    )
    take_in(two[0], first)
    con = foreign(two[1])
    con.execute("CALL ducklake_flush_inlined_data('lake')")
    meddled: list[int] = []

    def clock() -> int:
        """Asked for in the midst of the transaction, when its trajectories are grouped."""
        if "assign_pools" in {frame.function for frame in inspect.stack()} and len(meddled) < 2:
            meddled.append(con.execute("UPDATE trajectories SET cost_usd = 1").fetchall()[0][0])
        return NOW

    report = take_in(two[0], more, clock=clock)
    assert meddled == [40, 40]
    assert (report.spans, report.trajectories) == (41, 1)
    con.close()
    alone = machines.alone(two[0] / ".tracemill/lake/key", first)
    take_in(alone, more)
    assert contents(two[0]) == contents(alone)


def test_writers_of_two_machines_wait_for_each_other(two: tuple[Path, Path]) -> None:
    with (
        Lake.open(settings.load(two[0]).lake_place) as one,
        Lake.open(settings.load(two[1]).lake_place) as other,
    ):
        with one.transaction("first"):
            with pytest.raises(BusyError, match="another machine has been writing"), other.transaction("", wait_s=0.5):
                pass
            with pytest.raises(StoreError, match="already has a transaction open"), one.transaction(""):
                pass
        with other.transaction("second"):
            pass


def test_a_turn_that_the_database_took_back_is_not_written_in(two: tuple[Path, Path], store: Store) -> None:
    lost = "SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE locktype = 'advisory'"
    with Lake.open(settings.load(two[0]).lake_place) as lake:
        before = lake.snapshot_id()

        def written() -> None:
            with lake.transaction("first"):
                assert store.server.run(lost) == [(1,)]

        with pytest.raises(ConflictError, match="lost its turn"):
            written()
        assert lake.snapshot_id() == before
        with lake.transaction("second"):
            pass


def test_another_key_and_no_key_are_refused(machines: Machines, two: tuple[Path, Path]) -> None:
    place = settings.load(two[1]).lake_place
    key = place.root / "key"
    right = key.read_bytes()
    key.write_bytes(bytes(32))
    with pytest.raises(StoreError, match="is not that of the lake"):
        Lake.open(place)
    key.unlink()
    with pytest.raises(StoreError, match="copy it to"):
        Lake.open(place)
    with pytest.raises(StoreError, match="there is already a lake"):
        Lake.create(place)
    assert not key.exists()
    key.write_bytes(right)
    Lake.open(place).close()


def test_a_catalog_that_does_not_answer_is_told_without_its_password(machines: Machines, tmp_path: Path) -> None:
    project = machines.machine("one")
    away = replace(settings.load(project).lake_place, catalog="postgres:host=127.0.0.1 port=9 user=u dbname=d")
    with pytest.raises(ConflictError, match="does not answer"):
        Lake.create(away)
    (project / "tracemill.toml").write_text('lake.catalog = "postgres:host=h password=hunter2"')
    with pytest.raises(ConfigError, match="PGPASSWORD") as refused:
        settings.load(project)
    assert "hunter2" not in str(refused.value)


def test_a_shared_lake_is_kept_up_read_at_its_snapshots_and_forgets_down_to_the_bytes(
    machines: Machines, two: tuple[Path, Path], tmp_path: Path
) -> None:
    secret_text = "kumquat marmalade"
    log = tmp_path / "log.jsonl"
    log.write_text("".join(spans(span(trace, 0, None, f"{secret_text} {trace}")) for trace in range(1, 61)))
    later = tmp_path / "later.jsonl"
    later.write_text(spans(span(777, 0, None, "another")))
    take_in(two[0], log)
    with Lake.open(settings.load(two[1]).lake_place) as lake:
        snapshot = lake.snapshot_id()
        take_in(two[0], later)
        count = "SELECT count(*) AS n FROM spans"
        assert sql.query(lake, count).to_pylist() == [{"n": 61}]
        assert sql.query(lake, count, snapshot=snapshot).to_pylist() == [{"n": 60}]
        for refused in ("SELECT * FROM postgres_query('lake', 'SELECT 1')", "SELECT * FROM read_text('s3://lakes/x')"):
            with pytest.raises(Exception, match=r"may not|not allowed|permission"):
                sql.query(lake, refused)
        done = lake.checkpoint(now_ns=START + 400 * 86_400 * 10**9, keep_days=1)
        assert done.expired > 1
        night = Night(night_id="n", config=settings.load(two[1]), lake=lake, clock=lambda: NOW)
        forgetting.forget(night, older_than="30d", landing=tmp_path / "landing")
        assert sql.query(lake, count).to_pylist() == [{"n": 0}]
    left = [machines.store.files.cat_file(path) for path in machines.store.files.find(f"lakes/{machines.name}")]
    assert not any(secret_text.encode() in data for data in left)
    tables = machines.store.server.run(
        "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public'", machines.name
    )
    assert len(tables) > 20
    for (table,) in tables:
        rows = machines.store.server.run(f'SELECT t::text FROM "{table}" t', machines.name)
        assert not any(secret_text in row[0] for row in rows), table
    with pytest.raises(StoreError), Lake.open(settings.load(two[0]).lake_place) as lake:
        lake.reader(snapshot)


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: extra ray")
def test_a_ray_cluster_stages_on_s3(machines: Machines, two: tuple[Path, Path], logs: Path) -> None:
    settings.quiet_ray(None)
    config = replace(settings.load(two[0]), ingest=IngestConfig(engine="ray", workers=2))
    take_in(two[0], logs, config=config)
    alone = machines.alone(two[0] / ".tracemill/lake/key", logs)
    assert contents(two[0]) == contents(alone)
