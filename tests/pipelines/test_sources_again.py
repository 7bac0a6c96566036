"""What was taken in and has not changed is not opened again; what has changed is, however it hides it."""

import os
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tracemill import ingest
from tracemill.app import settings
from tracemill.ingest.source import SourceObject
from tracemill.pipelines import ingesting
from tracemill.pipelines.night import Night
from tracemill.warehouse import Lake

LATER = 4_000_000_000_000_000_000
"""Long after the files of a test were written."""


def call(said: str) -> str:
    return f'{{"messages": [{{"role": "user", "content": "{said}"}}, {{"role": "assistant", "content": "hello"}}]}}\n'


class Project:
    def __init__(self, root: Path) -> None:
        self.logs = root / "logs"
        self.logs.mkdir(parents=True)
        self.config = settings.parse({}, root=root, where="")
        self.now = LATER
        Lake.create(self.config.lake_path).close()

    def take(self, **options: Any) -> ingesting.IngestReport:
        with Lake.open(self.config.lake_path) as lake:
            night = Night(night_id="n", config=self.config, lake=lake, clock=lambda: self.now)
            return ingesting.take_in(night, [self.logs], **options)

    def select(self, query: str) -> list[tuple[Any, ...]]:
        with Lake.open(self.config.lake_path) as lake:
            return lake.reader().execute(query).fetchall()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the objects whose content was asked for."""
    names: list[str] = []
    real = SourceObject.at_hand

    def at_hand(self: SourceObject) -> Any:
        names.append(self.name)
        return real(self)

    monkeypatch.setattr(SourceObject, "at_hand", at_hand)
    return names


def test_unchanged_files_are_not_opened_again(project: Project, opened: list[str]) -> None:
    for name in "abc":
        (project.logs / f"{name}.jsonl").write_text(call(name))
    assert project.take().files == 3
    opened.clear()
    assert (project.take().files, opened) == (0, [])
    with (project.logs / "b.jsonl").open("a") as file:
        file.write(call("more"))
    grown = project.take()
    assert (opened, grown.spans, grown.duplicates) == (["b.jsonl"], 2, 2)


def test_a_file_whose_time_and_size_were_put_back_is_read_all_the_same(project: Project) -> None:
    path = project.logs / "a.jsonl"
    path.write_text(call("one"))
    before = path.stat()
    project.take()
    path.write_text(call("two"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert project.take().spans == 2


def test_a_file_that_may_have_changed_within_the_clock_is_not_trusted_until_later(
    project: Project, opened: list[str]
) -> None:
    path = project.logs / "a.jsonl"
    path.write_text(call("one"))
    project.now = path.stat().st_mtime_ns + 1_000_000_000
    project.take()
    assert project.select("SELECT fingerprint FROM ingest_log") == [(None,)]
    project.now = LATER
    opened.clear()
    assert (project.take().files, opened) == (0, ["a.jsonl"])  # read once more, found as it was
    opened.clear()
    assert (project.take().files, opened) == (0, [])


def test_what_was_refused_is_read_again_although_nothing_changed(project: Project) -> None:
    (project.logs / "a.jsonl").write_text(call("one") + "{torn\n")
    with zipfile.ZipFile(project.logs / "b.zip", "w") as packed:
        packed.writestr("good.jsonl", call("two"))
        packed.writestr("bad.jsonl", call("three") + "{torn\n")
    first = project.take()
    assert (first.quarantined, first.spans) == (2, 6)
    assert project.take(retry_refused=False).items == 0
    again = project.take(retry_refused=True)
    assert (again.quarantined, again.spans, again.duplicates) == (2, 0, 4)
    assert project.select("SELECT count(*) FROM quarantine") == [(2,)]
    assert project.select("SELECT count(*) FROM ingest_log") == [(4,)]


def test_a_torn_line_that_was_finished_later_is_no_refusal_any_more(project: Project) -> None:
    path, whole = project.logs / "a.jsonl", call("two")
    path.write_text(call("one") + "{broken\n" + whole[:40])
    first = project.take()
    assert (first.quarantined, project.select("SELECT line FROM quarantine ORDER BY 1")) == (2, [(2,), (3,)])
    with path.open("a") as file:
        file.write(whole[40:] + call("three")[:40])
    again = project.take()
    assert (again.spans, again.quarantined) == (2, 2)
    # The broken line is refused of the file as it is now, once; of the torn ones only the new one.
    assert project.select("SELECT line FROM quarantine ORDER BY 1") == [(2,), (4,)]
    with path.open("a") as file:
        file.write(call("three")[40:])
    project.take()
    assert project.select("SELECT line, reason LIKE '%JSON%' FROM quarantine") == [(2, True)]
    assert project.select("SELECT count(*) FROM spans WHERE kind = 'llm'") == [(3,)]


def test_what_was_refused_of_a_file_that_another_has_replaced_stays_refused(project: Project) -> None:
    path = project.logs / "a.jsonl"
    path.write_text(call("one") + call("two")[:40])
    assert project.take().quarantined == 1
    path.write_text(call("another") + call("and another"))
    assert project.take().quarantined == 0
    assert project.select("SELECT line FROM quarantine") == [(2,)]


def test_new_readers_look_again_at_what_nobody_understood_in_an_archive(project: Project) -> None:
    with tarfile.open(project.logs / "a.tar", "w") as packed:
        source = project.logs.parent / "own.csv"
        source.write_text("ask,reply\nhi,hello\n")
        packed.add(source, "own.csv")
    assert project.take().quarantined == 1
    assert project.take().items == 0
    mapping = {"name": "own", "columns": {"input": "ask", "output": "reply"}}
    project.config = settings.parse({"formats": [mapping]}, root=project.config.root, where="")
    assert project.take().spans == 1
    assert project.select("SELECT count(*) FROM quarantine") == [(0,)]
    assert project.take().items == 0


def test_an_ingest_that_stops_within_an_archive_goes_on_there(project: Project, opened: list[str]) -> None:
    with zipfile.ZipFile(project.logs / "a.zip", "w") as packed:
        for name in "abcd":
            packed.writestr(f"{name}.jsonl", "".join(call(f"{name} {n} {'x' * 300}") for n in range(20)))
    with Lake.open(project.config.lake_path) as lake:
        night = Night(night_id="n", config=project.config, lake=lake, clock=lambda: LATER)
        making = ingest.batches(ingest.find([project.logs]), key=lake.key, now_ns=LATER, max_bytes=20_000)
        for _ in range(3):
            ingesting.write(night, next(making))
        making.close()
    done = project.select("SELECT count(*) FROM spans")[0][0]
    assert 0 < done < 160
    rest = project.take()
    assert project.select("SELECT count(DISTINCT span_id), count(*) FROM spans") == [(160, 160)]
    assert rest.spans == 160 - done
    opened.clear()
    assert (project.take().files, opened) == (0, [])
