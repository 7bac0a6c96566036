"""When calls of an endpoint may begin: so many at once, so many a minute, and none while it has asked to wait."""

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Pace:
    """Shared by all threads that call one endpoint.

    Of the calls that wait, those of the earliest batch go first: several batches at once keep the endpoint busy, and
    each is done as early as it can be.
    """

    def __init__(self, at_once: int, per_minute: float | None, *, sleep: Callable[[float], None]) -> None:
        self._gap_s = 0.0 if per_minute is None else 60.0 / per_minute
        self._sleep = sleep
        self._lock = threading.Lock()
        self._left = at_once
        self._queue: list[tuple[int, int, threading.Event]] = []
        self._count = itertools.count()
        self._begin = threading.Condition()
        self._waited_out = 0
        self._next = 0.0

    def batch(self) -> int:
        """A number for the calls of one batch."""
        return next(self._count)

    @contextmanager
    def turn(self, batch: int) -> Iterator[None]:
        """Around one call."""
        self._take(batch)
        try:
            self._wait()
            yield
        finally:
            self._give()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Around the wait that an endpoint asked for: calls under way go on, none begins."""
        with self._begin:
            self._waited_out += 1
        try:
            yield
        finally:
            with self._begin:
                self._waited_out -= 1
                self._begin.notify_all()

    def _take(self, batch: int) -> None:
        with self._lock:
            if self._left:
                self._left -= 1
                return
            mine = threading.Event()
            heapq.heappush(self._queue, (batch, next(self._count), mine))
        mine.wait()

    def _give(self) -> None:
        with self._lock:
            if self._queue:
                heapq.heappop(self._queue)[2].set()
            else:
                self._left += 1

    def _wait(self) -> None:
        with self._begin:
            while self._waited_out:
                self._begin.wait()
            now = time.perf_counter()
            begin = max(now, self._next)
            self._next = begin + self._gap_s
        if begin > now:
            self._sleep(begin - now)
