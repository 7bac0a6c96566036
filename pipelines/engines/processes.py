"""A crew of processes on this machine. Each is a fresh interpreter at the end of a pipe; a dead one is replaced."""

import pickle
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait

from tracemill.pipelines.engines.crew import Tag
from tracemill.pipelines.engines.staging import Staging
from tracemill.pipelines.engines.work import Elsewhere, Finished, Job, Lost, Message, Refused, Task

_MODULE = "tracemill.pipelines.engines.worker"
_MOMENT_S = 0.1


@dataclass(slots=True, kw_only=True)
class _Process:
    popen: "subprocess.Popen[bytes]"
    pipe: "Connection[object, Message]"
    at: Tag | None = None
    """What it reads."""


class Processes:
    """See Crew. The lake's key goes to the workers through their pipes; it is on no command line and in no file."""

    def __init__(self, size: int, job: Job, key: bytes, staging: Staging) -> None:
        self._begin = (job, key, staging)
        self._workers: list[_Process] = []
        try:
            while len(self._workers) < size:
                self._workers.append(self._new())
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> int:
        return len(self._workers)

    @property
    def pids(self) -> list[int]:
        """The workers' process ids."""
        return [worker.popen.pid for worker in self._workers]

    @property
    def free(self) -> int:
        return sum(worker.at is None for worker in self._workers)

    def start(self, tag: Tag, task: Task) -> None:
        worker = next(worker for worker in self._workers if worker.at is None)
        worker.at = tag
        with suppress(OSError):  # it died just now: its pipe says so when it is listened to
            worker.pipe.send(task)

    def hear(self) -> Sequence[tuple[Tag, Message]]:
        busy = {worker.pipe: worker for worker in self._workers if worker.at is not None}
        heard: list[tuple[Tag, Message]] = []
        for pipe in wait(list(busy), timeout=_MOMENT_S) if busy else _nothing():
            worker = busy[pipe]  # type: ignore[index]
            assert worker.at is not None
            try:
                message = worker.pipe.recv()
            except (EOFError, OSError, pickle.UnpicklingError):
                message = Lost(why=f"process {worker.popen.pid} ended with {self._ended(worker)}")
                self._workers[self._workers.index(worker)] = self._new()
            heard.append((worker.at, message))
            if isinstance(message, Finished | Refused | Elsewhere | Lost):
                worker.at = None
        return heard

    def close(self) -> None:
        for worker in self._workers:
            worker.pipe.close()  # an idle one ends by itself
            worker.popen.kill()
        for worker in self._workers:
            worker.popen.wait()
        self._workers = []

    def _new(self) -> _Process:
        ours, theirs = Pipe()
        with theirs:
            popen = subprocess.Popen(
                [sys.executable, "-P", "-m", _MODULE, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        with suppress(OSError):  # as above
            ours.send(sys.path)
            ours.send(self._begin)
        return _Process(popen=popen, pipe=ours)

    def _ended(self, worker: _Process) -> str:
        worker.pipe.close()
        worker.popen.kill()
        code = worker.popen.wait()
        return f"signal {-code}" if code < 0 else f"status {code}"


def _nothing() -> list[Connection]:
    time.sleep(_MOMENT_S)
    return []
