"""Many workers, one committer: tasks go out as workers come free, their batches come back in the order of the tasks."""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Protocol

from tracemill.errors import SourceError
from tracemill.pipelines.engines.work import (
    Delivery,
    Elsewhere,
    Finished,
    Lost,
    LostError,
    Made,
    Message,
    Refused,
    Task,
    Worker,
)

TRIES = 3
"""How often a task is given out while the workers that read it die."""
AHEAD = 8
"""How many tasks for each worker may be read before their turn to be committed: what lies staged is bounded."""

Tag = tuple[int, int]
"""A task's number, and which try at it this is."""


class Crew(Protocol):
    """Workers in other processes. One thread uses it at a time."""

    @property
    def size(self) -> int:
        """How many workers there are."""
        ...

    @property
    def free(self) -> int:
        """How many of them have nothing to do."""
        ...

    def start(self, tag: Tag, task: Task) -> None:
        """Gives a task to a free worker."""
        ...

    def hear(self) -> Sequence[tuple[Tag, Message]]:
        """What came from the workers, each one's in order; waits a moment where nothing did.

        A task ends with one Finished, Refused, Elsewhere or Lost. In the place of a dead worker there is a new one.
        """
        ...

    def close(self) -> None:
        """Ends the workers, busy ones as well."""
        ...


def in_order(
    crew: Crew, tasks: Sequence[Task], here: Worker, *, unit_bytes: int
) -> Iterator[tuple[Task, Delivery | Finished]]:
    """Everything that the tasks give, in their order; the caller commits each batch before it asks for the next.

    The caller notes in a task's ledger what it committed, so that a task whose worker died goes on behind it. `here`
    reads what workers do not reach. Tasks of more than `unit_bytes` are begun earlier than it is their turn.
    """
    desk = _Desk(crew, tasks, unit_bytes=unit_bytes)
    try:
        for task in tasks:
            for one in _one(desk, task, here):
                yield task, one
    finally:
        desk.close()


def _one(desk: "_Desk", task: Task, here: Worker) -> Iterator[Delivery | Finished]:
    """What one task gives, however many workers it takes."""
    tries = 0
    while True:
        message = desk.next(task.number)
        if isinstance(message, Made):
            try:
                batch = message.parcel.load()
            except LostError as error:
                message = Lost(why=str(error))
            else:
                yield Delivery(batch=batch, again=message.again)
                message.parcel.discard()
        if isinstance(message, Finished):
            yield message
            return
        if isinstance(message, Refused):
            raise message.error
        if isinstance(message, Elsewhere):
            yield from here.read(task)
            return
        if isinstance(message, Lost):
            tries += 1
            if tries == TRIES:
                raise SourceError(
                    task.objects[0].uri,
                    f"{TRIES} workers died while they read it or what comes after it ({message.why}): "
                    "are they short of memory? --engine local reads in this process",
                )
            desk.again(task)


class _Desk:
    """Gives out the tasks and sorts what comes in, in a thread of its own: workers go on while a batch is committed."""

    def __init__(self, crew: Crew, tasks: Sequence[Task], *, unit_bytes: int) -> None:
        self._crew = crew
        self._open = {task.number: task for task in tasks}
        self._came: dict[int, deque[Message]] = {task.number: deque() for task in tasks}
        self._tries = dict.fromkeys(self._came, 0)
        self._ahead = AHEAD * crew.size
        self._unit = max(1, unit_bytes)
        self._turn = 0
        self._news = threading.Condition()
        self._failed: BaseException | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="tracemill workers", daemon=True)
        self._thread.start()

    def next(self, number: int) -> Message:
        """The next message of a task, whose turn it is now. Raises what ended the thread."""
        with self._news:
            self._turn = number
            self._news.wait_for(lambda: self._came[number] or self._failed is not None)
            if self._failed is not None:
                raise self._failed
            return self._came[number].popleft()

    def again(self, task: Task) -> None:
        """The task is to be given out once more; what came of it and was not committed is forgotten."""
        with self._news:
            _forget(self._came[task.number])
            self._tries[task.number] += 1
            self._open[task.number] = task

    def close(self) -> None:
        self._closing = True
        self._thread.join()
        for came in self._came.values():
            _forget(came)

    def _run(self) -> None:
        try:
            while not self._closing:
                self._give_out()
                for (number, attempt), message in self._crew.hear():
                    with self._news:
                        if attempt == self._tries[number]:
                            self._came[number].append(message)
                        else:
                            _forget(deque([message]))
                        self._news.notify_all()
        except BaseException as error:  # noqa: BLE001 - raised where the messages are waited for
            with self._news:
                self._failed = error
                self._news.notify_all()

    def _give_out(self) -> None:
        while self._crew.free:
            with self._news:
                near = [task for number, task in self._open.items() if number < self._turn + self._ahead]
                if not near:
                    return
                # First what the committer waits for, then a huge one: begun last, it would be waited for at the end.
                chosen = min(
                    near, key=lambda one: (one.number != self._turn, -(one.size_bytes // (2 * self._unit)), one.number)
                )
                del self._open[chosen.number]
                tag = (chosen.number, self._tries[chosen.number])
            self._crew.start(tag, chosen)


def _forget(came: deque[Message]) -> None:
    for message in came:
        if isinstance(message, Made):
            message.parcel.discard()
    came.clear()
