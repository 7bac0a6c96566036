"""Answers to replayed calls: paid for once, written beside the calls, and erased with whoever's values they show."""

import subprocess
import sys
import threading
import time
from hashlib import md5
from pathlib import Path

import pytest

from tracemill.errors import StoreError
from tracemill.warehouse import Lake, Later, ReplayCache, Transaction, replays


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.create(tmp_path / "lake")


def kept(lake: Lake, table: str = "replays") -> list[tuple[object, ...]]:
    with lake.reader() as con:
        return con.execute(f"SELECT * FROM {table} ORDER BY ALL").fetchall()


def some(n: int, name: str = "k") -> dict[str, str]:
    return {f"{name}{number}": f'{{"text":"{number}"}}' for number in range(n)}


def test_answers_are_remembered_once_and_keep_their_first_text(lake: Lake) -> None:
    cache = ReplayCache(lake)
    assert cache.get(["k1", "k2"]) == {}
    cache.put({"k1": "{}", "k2": '{"text":"ä"}'}, "m", 1, {})
    cache.settle()
    other = ReplayCache(lake)
    other.put({"k1": "other", "k3": "{}"}, "m", 2, {})
    other.settle()
    assert ReplayCache(lake).get(["k1", "k2", "nowhere"]) == {"k1": "{}", "k2": '{"text":"ä"}'}
    assert cache.get(["k1", "k2"]) == {"k1": "{}", "k2": '{"text":"ä"}'}
    assert cache.get([]) == {}
    assert [row[0] for row in kept(lake)] == ["k1", "k2", "k3"]


def test_what_is_put_off_is_known_at_once_and_written_soon(lake: Lake) -> None:
    with Later(lake, "test", every_s=0.01) as later:
        cache = ReplayCache(lake, later)
        cache.put(some(3), "m", 1, {"k0": ["a"]})
        cache.settle()
        assert cache.get(["k0", "k9"]) == {"k0": '{"text":"0"}'}
        deadline = time.monotonic() + 20
        while len(kept(lake)) < 3:
            assert time.monotonic() < deadline, "the writer beside the calls never wrote"
            time.sleep(0.02)
    assert kept(lake, "replay_sources") == [("k0", "a")]


def test_leaving_writes_what_waits_also_after_an_error(lake: Lake) -> None:
    def broken_off() -> None:
        with Later(lake, "test", every_s=60) as later:
            ReplayCache(lake, later).put(some(3), "m", 1, {})
            assert kept(lake) == []
            raise RuntimeError("mid-run")

    with pytest.raises(RuntimeError, match="mid-run"):
        broken_off()
    assert len(kept(lake)) == 3


def test_one_transaction_holds_what_came_in_together(lake: Lake) -> None:
    before = lake.snapshot_id()
    with Later(lake, "test", every_s=60) as later:
        cache = ReplayCache(lake, later)
        for number in range(5):
            cache.put({f"k{number}": "{}"}, "m", 1, {f"k{number}": ["a", "b"]})
    assert lake.snapshot_id() == before + 1
    assert (len(kept(lake)), len(kept(lake, "replay_sources"))) == (5, 10)


def test_an_error_of_the_writer_is_told_and_its_rows_are_tried_again(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert, broken = Transaction.insert, threading.Event()
    broken.set()

    def failing(self: Transaction, name: str, table: object) -> int:
        if broken.is_set():
            raise StoreError("disk full")
        return insert(self, name, table)  # type: ignore[arg-type]

    monkeypatch.setattr(Transaction, "insert", failing)
    with Later(lake, "test", every_s=0.01) as later:
        cache = ReplayCache(lake, later)
        cache.put({"k1": "{}"}, "m", 1, {})
        while any(one.name == "later" for one in threading.enumerate()):
            time.sleep(0.01)
        with pytest.raises(StoreError, match="disk full"):
            cache.settle()
        cache.put({"k2": "{}"}, "m", 1, {})
        with pytest.raises(StoreError, match="disk full"):
            later.flush()
        assert cache.get(["k1", "k2"]) == {"k1": "{}", "k2": "{}"}
        broken.clear()
    assert [row[0] for row in kept(lake)] == ["k1", "k2"]


def test_an_answer_that_serves_others_is_known_to_show_their_values(lake: Lake) -> None:
    first = ReplayCache(lake)
    first.put({"k1": "{}", "k2": "{}", "old": "{}"}, "m", 1, {"k1": ["a"], "k2": ["a"]})
    first.note({"k1": ["b"]})
    first.settle()
    again = ReplayCache(lake)
    assert len(again.get(["k1", "k2", "old"])) == 3
    again.note({"k1": ["a", "b"], "k2": ["c"], "old": ["c"], "unknown": ["c"]})
    again.settle()
    assert kept(lake, "replay_sources") == [("k1", "a"), ("k1", "b"), ("k2", "a"), ("k2", "c")]


def test_a_memory_that_holds_next_to_nothing_changes_no_answer(lake: Lake) -> None:
    with Later(lake, "test", every_s=60) as later:
        cache = ReplayCache(lake, later, memory=1)
        assert cache.get(["k0"]) == {}
        cache.put(some(5), "m", 1, {"k0": ["a"]})
        assert cache.get(["k0"]) == {"k0": '{"text":"0"}'}, "not in memory, and still to be written"
        cache.note({"k0": ["b"]})
    assert cache.get(list(some(5))) == some(5), "written since it asked which answers the lake has"
    small = ReplayCache(lake, memory=1)
    assert small.get([*some(5), "nowhere"]) == some(5)
    assert small.get(list(some(5))) == some(5)
    small.note({"k0": ["c"]})
    small.settle()
    assert kept(lake, "replay_sources") == [("k0", "a"), ("k0", "b"), ("k0", "c")]


def test_what_was_kept_next_comes_along_and_is_asked_of_the_lake_no_more(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ReplayCache(lake)
    first.put(some(40), "m", 1, {key: [f"of {key}"] for key in some(40)})
    first.settle()
    cache, asked = ReplayCache(lake), 0
    reader = Lake.reader

    def counted(self: Lake, snapshot: int | None = None) -> object:
        nonlocal asked
        asked += 1
        return reader(self, snapshot)

    monkeypatch.setattr(Lake, "reader", counted)
    assert cache.get(["k0"]) == {"k0": '{"text":"0"}'}
    assert asked == 2, "which keys there are, and the answer"
    assert cache.get(list(some(40))) == some(40)
    cache.note({key: [f"of {key}"] for key in some(40)})
    assert cache.get(["new1", "new2"]) == {}
    assert asked == 2


def test_more_answers_than_are_kept_in_mind_are_looked_up(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replays, "_COUNTED", 3)
    monkeypatch.setattr(replays, "_AHEAD", 0)
    first = ReplayCache(lake)
    first.put(some(5), "m", 1, {})
    first.settle()
    cache = ReplayCache(lake)
    assert cache.get(["nowhere", "k4"]) == {"k4": '{"text":"4"}'}
    second = ReplayCache(lake)
    second.put(some(2, "late"), "m", 1, {})
    second.settle()
    assert len(cache.get(list(some(2, "late")))) == 2


def test_two_that_ask_the_same_keep_the_first_answer_and_whose_it_is(lake: Lake) -> None:
    one, other = ReplayCache(lake), ReplayCache(lake)
    assert one.get(["k"]) == other.get(["k"]) == {}
    one.put({"k": "first"}, "m", 1, {"k": ["a"]})
    one.settle()
    assert other.get(["k"]) == {}, "it asks once more than it had to"
    other.put({"k": "second"}, "m", 1, {"k": ["b"]})
    other.settle()
    assert ReplayCache(lake).get(["k"]) == {"k": "first"}
    assert kept(lake, "replay_sources") == [("k", "a"), ("k", "b")]


def test_forgetting_takes_what_was_put_off_and_written_since(lake: Lake) -> None:
    trace = md5(b"alice", usedforsecurity=False).hexdigest()
    with Later(lake, "test", every_s=60) as later:
        ReplayCache(lake, later).put({"k1": "{}", "k2": "{}"}, "m", 1, {"k1": [trace], "k2": ["bob"]})
    with lake.transaction("forget") as tx:
        tx.con.execute("CREATE TEMP TABLE erased_traces AS SELECT 'alice' AS trace_id")
        condition = (Path(replays.__file__).parent / "statements/erasing/replays.sql").read_text()
        tx.con.execute(f"DELETE FROM replays WHERE {condition}")
        tx.con.execute("DROP TABLE erased_traces")
    assert [row[0] for row in kept(lake)] == ["k2"]


KILLED = """
import sys, time
from pathlib import Path
from tracemill.warehouse import Lake, Later, ReplayCache
with Later(Lake.open(Path(sys.argv[1])), "test", every_s=0.05) as later:
    cache = ReplayCache(later._lake, later)
    for number in range(100_000):
        cache.put({f"k{number}": "{}"}, "m", 1, {f"k{number}": ["a"]})
        print(number, flush=True)
        time.sleep(0.001)
"""


def test_a_killed_process_loses_what_came_in_last_and_that_from_all_tables_alike(lake: Lake) -> None:
    lake.close()
    command = [sys.executable, "-c", KILLED, str(lake.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while not kept(lake):
            next(process.stdout)
        process.kill()
        process.stdout.read()
    answers = [row[0] for row in kept(lake)]
    assert sorted(answers) == sorted(f"k{number}" for number in range(len(answers))), "the first ones, without a gap"
    assert [(key, "a") for key in answers] == kept(lake, "replay_sources")
