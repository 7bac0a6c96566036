"""How a batch of calls to one endpoint is made: so many at once, asked again where that may help, told as they come."""

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass

from tracemill.errors import EndpointError
from tracemill.optimize.pace import Pace
from tracemill.records import ChatRequest, Completion

BACKOFF_S = 0.25
_LONGEST_WAIT_S = 20.0
_BATCHES = 8
"""At once, of one endpoint; of more the last ones wait for the first."""
_NOT_TRIED = Completion(text=None, error="not tried: the endpoint cannot be reached")


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """What came of asking once."""

    completion: Completion
    down: bool = False
    """No server stood behind the address, none that answered, or one that turns everybody away."""
    again: bool = False
    """Asking again may help …"""
    limited: bool = False
    """… but there are too many calls: while this one waits, none is to begin …"""
    wait_s: float = 0.0
    """… before this time: the endpoint said so."""
    unreachable: bool = False
    """Nobody listens: where asking again does not help, no other call is tried."""


Once = Callable[[ChatRequest], Try]
"""One request sent once."""


class Calls:
    """The calls of all threads to one endpoint.

    Waits between tries double from `backoff_s` on; what the endpoint asks for is heeded, up to 20 s.
    """

    def __init__(
        self,
        name: str,
        *,
        concurrency: int,
        retries: int,
        per_minute: float | None,
        backoff_s: float,
        sleep: Callable[[float], None],
    ) -> None:
        self._name = name
        self._concurrency = concurrency
        self._retries = retries
        self._backoff_s = backoff_s
        self._sleep = sleep
        self._pace = Pace(concurrency, per_minute, sleep=sleep)
        # Begun as they are needed; of several batches at once each has its own.
        self._threads = ThreadPoolExecutor(_BATCHES * concurrency, thread_name_prefix="chat")

    def all(self, once: Once, requests: Sequence[ChatRequest]) -> list[Completion]:
        """Answers in the order of the requests. EndpointError, naming the endpoint, where nobody was there for any."""
        nobody_there, batch, tries = threading.Event(), self._pace.batch(), dict[int, Try]()

        def ask(place: int, request: ChatRequest) -> bool:
            tries[place] = self._tried(once, request, nobody_there, batch)
            return True

        self._at_once(requests, len(requests), ask)
        in_order = [tries[place] for place in range(len(requests))]
        self._refuse_none(in_order)
        return [one.completion for one in in_order]

    def each(
        self, once: Once, requests: Iterable[ChatRequest], n: int, answered: Callable[[int, Completion], None]
    ) -> None:
        """As `all`, without a batch's end to wait for: `answered` hears of each answer and its request's place.

        A request is drawn when its call may begin, one at a time, at most `n` in all. Both are asked in threads; what
        they raise is raised here when the calls under way are done, and no further one begins. EndpointError as soon
        as nobody was there for the first `concurrency` calls.
        """
        nobody_there, batch, tries = threading.Event(), self._pace.batch(), list[Try]()
        gave_up = threading.Event()

        def ask(place: int, request: ChatRequest) -> bool:
            try:
                one = self._tried(once, request, nobody_there, batch)
            except BaseException as error:
                answered(place, Completion(text=None, error=f"{type(error).__name__}: {error}"))
                raise
            tries.append(one)
            answered(place, one.completion)
            if one.down and len(tries) >= min(n, self._concurrency) and all(one.down for one in tries):
                gave_up.set()
            return not gave_up.is_set()

        self._at_once(requests, n, ask)
        self._refuse_none(tries)
        if gave_up.is_set():  # a slow call was answered after all, and those not drawn have no answer
            raise EndpointError(self._name, next(one.completion.error for one in tries if one.down) or "no answer")

    def _at_once(self, requests: Iterable[ChatRequest], n: int, ask: Callable[[int, ChatRequest], bool]) -> None:
        """Draws requests one at a time and hands each with its place to `ask`, in as many threads as `n` calls need.

        Where one says that it is enough, or raises, the others are told to stop; what it raised is raised here. Threads
        are kept for the next batch: to begin one for each call costs more than a short call does.
        """
        stop, drawing, source = threading.Event(), threading.Lock(), enumerate(requests)

        def working() -> None:
            try:
                while not stop.is_set():
                    with drawing:
                        place, request = next(source, (0, None))
                    if request is None:
                        return
                    if not ask(place, request):
                        stop.set()
            except BaseException:
                stop.set()
                raise

        begun = [self._threads.submit(working) for _ in range(min(self._concurrency, n))]
        try:
            wait(begun)
        finally:
            stop.set()
            wait(begun)  # what is under way when somebody interrupts is paid for, and heard of
        for one in begun:
            one.result()

    def _refuse_none(self, tries: Sequence[Try]) -> None:
        if tries and all(one.down for one in tries):
            raise EndpointError(self._name, tries[0].completion.error or "no answer")

    def _tried(self, once: Once, request: ChatRequest, nobody_there: threading.Event, batch: int) -> Try:
        last = Try(completion=_NOT_TRIED, down=True)
        if nobody_there.is_set():  # a dead endpoint costs one series of retries, not one per call
            return last
        for attempt in range(self._retries + 1):
            with self._pace.turn(batch):
                last = once(request)
            if not last.again:
                return last
            if attempt < self._retries:
                wait_s = max(self._backoff_s * 2**attempt, last.wait_s)
                with self._pace.held() if last.limited else nullcontext():
                    self._sleep(min(wait_s, _LONGEST_WAIT_S))
        if last.unreachable:
            nobody_there.set()
        return last
