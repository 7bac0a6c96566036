"""The folder where received telemetry becomes durable: append, fsync, then answer.

One writer thread takes what concurrent requests hand in, writes it and syncs once for all of them (group commit).
Files being written end in `.part` and are locked; when one is large or old enough, and on shutdown, it loses the
suffix and belongs to ingest. A `.part` that a killed process left is finished by the next one that starts here; a torn
last record in it is recognisable, because JSON stands one request a line and protobuf is led by its length.
"""

import errno
import fcntl
import os
import queue
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from tracemill.errors import StoreError
from tracemill.pipelines import landed

MIB = 1024 * 1024
_GROUP_BYTES = 32 * MIB
"""At most about this much is written between two syncs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    suffix: str
    data: bytes
    done: "Future[None]"


@dataclass(slots=True)
class _File:
    """One open landing file; `size` is what is known to be good."""

    path: Path
    descriptor: int
    opened_ns: int
    size: int = 0


@dataclass(slots=True)
class _Group:
    """What is written to one file before the next sync."""

    entries: list[_Entry] = field(default_factory=list)

    @property
    def data(self) -> bytes:
        return b"".join(entry.data for entry in self.entries)


class Landing:
    """Durable appends to a folder. Make it, `start` it, `append` from any thread, `close` it.

    Raises StoreError where the folder cannot be made or written.
    """

    def __init__(
        self,
        folder: Path,
        *,
        clock: Callable[[], int],
        rotate_bytes: int = 64 * MIB,
        rotate_s: float = 60.0,
        max_waiting_bytes: int = 256 * MIB,
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._rotate_bytes = rotate_bytes
        self._rotate_ns = int(rotate_s * 1e9)
        self._max_waiting = max_waiting_bytes
        self._queue: queue.SimpleQueue[_Entry | None] = queue.SimpleQueue()
        self._files: dict[str, _File] = {}
        self._made = 0
        self._waiting = 0
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._open = False
        self.failure: str | None = None
        """Why the last write failed; None when it went well."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            landed.take_over(folder)
        except OSError as error:
            raise StoreError(f"{folder}: cannot write received telemetry there: {error.strerror or error}") from error

    def start(self) -> None:
        """Starts the writer; once."""
        with self._lock:
            self._open = True
            self._thread = threading.Thread(target=self._run, name="tracemill-landing", daemon=True)
            self._thread.start()

    def append(self, suffix: str, data: bytes) -> "Future[None]":
        """Done when `data` is on disk in a file whose name ends in `suffix`; an OSError when it is not.

        Nothing of a failed append stays in the file.
        """
        done: Future[None] = Future()
        with self._lock:
            if not self._open:
                done.set_exception(OSError(errno.ESHUTDOWN, "the collector is shutting down"))
            elif self._waiting + len(data) > self._max_waiting:
                done.set_exception(OSError(errno.EAGAIN, "too much is waiting to be written"))
            else:
                self._waiting += len(data)
                self._queue.put(_Entry(suffix=suffix, data=data, done=done))
        return done

    def close(self) -> None:
        """Writes what is waiting, finishes all files. A second call does nothing."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._open = False
            if thread is not None:
                self._queue.put(None)
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        going = True
        while going:
            entries, going = self._collect()
            groups: dict[str, _Group] = {}
            for entry in entries:
                groups.setdefault(entry.suffix, _Group()).entries.append(entry)
            for suffix, group in groups.items():
                self._write(suffix, group)
            self._rotate(everything=not going)

    def _collect(self) -> tuple[list[_Entry], bool]:
        """What is waiting, up to a group's size; waits for the first. False when it is time to stop."""
        entries: list[_Entry] = []
        size = 0
        try:
            entry = self._queue.get(timeout=self._until_rotation_s())
            while entry is not None:
                entries.append(entry)
                size += len(entry.data)
                if size >= _GROUP_BYTES:
                    return entries, True
                entry = self._queue.get_nowait()
        except queue.Empty:
            return entries, True
        return entries, False

    def _write(self, suffix: str, group: _Group) -> None:
        data = group.data
        error: OSError | None = None
        try:
            file = self._files.get(suffix) or self._new(suffix)
            if not landed.is_at(file.path, file.descriptor):
                self._lost(suffix)
                file = self._new(suffix)
            _append(file, data)
        except OSError as failed:
            error = failed
            self._drop_tail(suffix)
        self.failure = None if error is None else str(error.strerror or error)
        with self._lock:
            self._waiting -= len(data)
        for entry in group.entries:
            if not entry.done.set_running_or_notify_cancel():
                continue
            if error is None:
                entry.done.set_result(None)
            else:
                entry.done.set_exception(error)

    def _new(self, suffix: str) -> _File:
        now = self._clock()
        self._made += 1
        self._folder.mkdir(parents=True, exist_ok=True)  # somebody may have cleared it away
        path = self._folder / f"{now // 1000:016d}-{os.getpid()}-{self._made:04d}.{suffix}{landed.UNFINISHED}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if not landed.is_at(path, descriptor):
                raise OSError(errno.EAGAIN, "another process took the file before it was locked")
            landed.sync_folder(self._folder)
        except OSError:
            os.close(descriptor)
            raise
        file = _File(path, descriptor, now)
        self._files[suffix] = file
        return file

    def _lost(self, suffix: str) -> None:
        """Somebody deleted or moved the file while it was written: what comes next goes to another one."""
        os.close(self._files.pop(suffix).descriptor)

    def _drop_tail(self, suffix: str) -> None:
        """Takes back what a failed write left; a file that cannot be mended is closed and another one begun."""
        file = self._files.get(suffix)
        if file is None:
            return
        try:
            os.ftruncate(file.descriptor, file.size)
        except OSError:
            self._finish(suffix)

    def _until_rotation_s(self) -> float | None:
        if not self._files:
            return None
        oldest = min(file.opened_ns for file in self._files.values())
        return max(0.01, (oldest + self._rotate_ns - self._clock()) / 1e9)

    def _rotate(self, *, everything: bool) -> None:
        now = self._clock()
        for suffix, file in list(self._files.items()):
            if everything or file.size >= self._rotate_bytes or now - file.opened_ns >= self._rotate_ns:
                self._finish(suffix)

    def _finish(self, suffix: str) -> None:
        file = self._files.pop(suffix)
        try:
            landed.finish(file.path, file.size)
        except OSError as error:
            self.failure = str(error.strerror or error)
        finally:
            os.close(file.descriptor)


def _append(file: _File, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file.descriptor, view) :]
    os.fsync(file.descriptor)
    file.size += len(data)


def framed(parts: Iterable[bytes]) -> bytes:
    """Messages each led by its length as a protobuf varint."""
    out = bytearray()
    for part in parts:
        size = len(part)
        while size > 0x7F:
            out.append(size & 0x7F | 0x80)
            size >>= 7
        out.append(size)
        out += part
    return bytes(out)
