"""When calls of an endpoint may begin: so many at once, so many a minute, and none while it has asked to wait."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Pace:
    """Shared by all threads that call one endpoint."""

    def __init__(self, at_once: int, per_minute: float | None, *, sleep: Callable[[float], None]) -> None:
        self._slots = threading.Semaphore(at_once)
        self._gap_s = 0.0 if per_minute is None else 60.0 / per_minute
        self._sleep = sleep
        self._free = threading.Condition()
        self._waiting_out = 0
        self._next = 0.0

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Around one call."""
        with self._slots:
            with self._free:
                while self._waiting_out:
                    self._free.wait()
                now = time.perf_counter()
                begin = max(now, self._next)
                self._next = begin + self._gap_s
            if begin > now:
                self._sleep(begin - now)
            yield

    @contextmanager
    def held(self) -> Iterator[None]:
        """Around the wait that an endpoint asked for: calls under way go on, none begins."""
        with self._free:
            self._waiting_out += 1
        try:
            yield
        finally:
            with self._free:
                self._waiting_out -= 1
                self._free.notify_all()
