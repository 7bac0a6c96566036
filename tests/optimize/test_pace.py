"""When calls may begin: in threads, with real waits that are counted and not timed."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

from tracemill.optimize.pace import Pace


def test_no_more_than_allowed_are_under_way_and_every_call_has_its_turn() -> None:
    pace, lock = Pace(3, None, sleep=lambda s: None), threading.Lock()
    now, most, done = 0, 0, 0

    def call(n: int) -> None:
        nonlocal now, most, done
        with pace.turn(n % 4):
            with lock:
                now, most = now + 1, max(most, now + 1)
            threading.Event().wait(0.001)
            with lock:
                now, done = now - 1, done + 1

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(call, range(200)))
    assert (now, most, done) == (0, 3, 200)


def test_calls_of_the_earliest_batch_go_first() -> None:
    pace, order = Pace(1, None, sleep=lambda s: None), []
    first, second = pace.batch(), pace.batch()

    def call(batch: int) -> None:
        with pace.turn(batch):
            order.append(batch)

    with ThreadPoolExecutor(8) as pool, pace.turn(first):
        for batch in (second, second, first, second, first):
            pool.submit(call, batch)
        while len(pace._queue) < 5:
            threading.Event().wait(0.001)
    assert order == [first, first, second, second, second]


def test_a_failing_call_gives_its_turn_back() -> None:
    pace = Pace(1, None, sleep=lambda s: None)
    for _ in range(3):
        try:
            with pace.turn(0):
                raise ValueError
        except ValueError:
            continue
    with pace.turn(0):
        pass


def test_so_many_a_minute_begin_evenly() -> None:
    waits: list[float] = []
    pace = Pace(4, 600.0, sleep=waits.append)
    for _ in range(5):
        with pace.turn(0):
            pass
    assert len(waits) == 4  # the first need not wait
    assert all(0 < later - earlier <= 0.1 for earlier, later in itertools.pairwise(waits))


def test_while_one_waits_out_what_the_endpoint_asked_for_none_begins() -> None:
    pace, begun = Pace(4, None, sleep=lambda s: None), threading.Event()

    def call() -> None:
        with pace.turn(0):
            begun.set()

    with ThreadPoolExecutor(1) as pool:
        with pace.held():
            pool.submit(call)
            assert not begun.wait(0.05)
        assert begun.wait(5)
