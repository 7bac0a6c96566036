"""The work that is spread: a group of source objects read into redacted batches, the same wherever it is done."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from tracemill import ingest
from tracemill.pipelines.ledger import Ledger, Object
from tracemill.records import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """How the sources of one call are read. Holds nothing secret: the lake's key goes beside it, never with it."""

    now_ns: int
    format: str = "auto"
    formats: tuple[ingest.RowMapping, ...] = ()
    redaction: ingest.Redaction
    limits: ingest.Limits
    batch_bytes: int = ingest.BATCH_BYTES

    @property
    def readers(self) -> str:
        """Names the readers that look at the sources."""
        return ingest.readers(self.format, [ingest.MappedRows(mapping) for mapping in self.formats])


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Objects that are read one after the other, and what the lake knows of them."""

    number: int
    """Its place among the tasks of the call, which is the order that they are committed in."""
    objects: tuple[ingest.SourceObject, ...]
    ledger: Ledger

    @property
    def size_bytes(self) -> int:
        return sum(one.size_bytes for one in self.objects)


class Parcel(Protocol):
    """A batch on its way to the committer."""

    def load(self) -> Batch:
        """The batch. Raises LostError where it is not there any more."""
        ...

    def discard(self) -> None:
        """Removes what was kept for it; harmless when repeated."""
        ...


class LostError(Exception):
    """A worker, or what it made, is gone; its task is to be read again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A batch that travels as it is."""

    batch: Batch

    def load(self) -> Batch:
        return self.batch

    def discard(self) -> None:
        """Nothing is kept anywhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A batch of a task is ready, the next in its order."""

    parcel: Parcel
    again: tuple[Object, ...] = ()
    """Objects whose earlier ledger rows it replaces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A task was read to its end."""

    renewed: tuple[tuple[str, str, str], ...] = ()
    """Objects found as they were, with the fingerprints of their new states."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A task cannot be read, and with it the call: an explicit format that is not the file's, a detector that fails."""

    error: Exception


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """A file of the task is not on the worker's machine: it is to be read where it was found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """The worker died."""

    why: str


Message = Made | Finished | Refused | Elsewhere | Lost


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A batch, to be committed before the next is asked for."""

    batch: Batch
    again: tuple[Object, ...] = ()
    """Objects whose earlier ledger rows it replaces."""


class Worker:
    """Reads tasks of one job. Costly to make, as its rules are: one reads many."""

    def __init__(self, job: Job, key: bytes, rules: ingest.Ruleset | None = None) -> None:
        self._job = job
        self._key = key
        self._rules = rules or ingest.Ruleset(job.redaction)
        self._extra = [ingest.MappedRows(mapping) for mapping in job.formats]

    @property
    def identity(self) -> tuple[str, str]:
        """The readers and the rules of redaction: another tracemill's worker has others."""
        return self._job.readers, self._rules.version

    def read(self, task: Task) -> Iterator[Delivery | Finished]:
        """The batches of a task in order. Raises what `ingest.batches` raises."""
        job, ledger = self._job, task.ledger
        for batch in ingest.batches(
            task.objects,
            key=self._key,
            now_ns=job.now_ns,
            known=ledger.known,
            seen=ledger.seen,
            same=ledger.same,
            position=ledger.position,
            refused=ledger.refused,
            format=job.format,
            extra=self._extra,
            rules=self._rules,
            limits=job.limits,
            max_bytes=job.batch_bytes,
        ):
            yield Delivery(batch=batch, again=tuple(ledger.reopened()))
        yield Finished(renewed=tuple(ledger.renewed()))

    def told(self, task: Task, pack: Callable[[Batch], Parcel], *, far: bool = False) -> Iterator[Message]:
        """As `read`, for another process: what is raised is told. `far`: maybe on a machine without the files."""
        if far and any(not _here(one) for one in task.objects):
            yield Elsewhere()
            return
        try:
            for one in self.read(task):
                yield one if isinstance(one, Finished) else Made(parcel=pack(one.batch), again=one.again)
        except Exception as error:  # noqa: BLE001 - it is raised where the call was made
            yield Refused(error=error)


def _here(source: ingest.SourceObject) -> bool:
    return "://" in source.uri or source.unreadable is not None or os.path.exists(source.uri)


def shards(objects: Iterable[ingest.SourceObject], batch_bytes: int) -> Iterator[tuple[ingest.SourceObject, ...]]:
    """The objects in their order, in groups of about `batch_bytes`; one that is larger is a group of its own.

    The groups hang on the objects alone, not on who reads them, and so do the batches and rows that come of them.
    """
    group: list[ingest.SourceObject] = []
    size = 0
    for one in objects:
        if group and size + one.size_bytes > batch_bytes:
            yield tuple(group)
            group, size = [], 0
        group.append(one)
        size += one.size_bytes
    if group:
        yield tuple(group)


def tasks(objects: Sequence[ingest.SourceObject], ledger: Ledger, names: ingest.Names, batch_bytes: int) -> list[Task]:
    """The tasks of a call: what the ledger knows by its fingerprint is left out."""
    new = [one for one in objects if (print_ := names.fingerprint(one)) is None or not ledger.known(print_)]
    groups = list(shards(new, batch_bytes))
    parts = ledger.parts([[names.written(one) for one in group] for group in groups])
    return [
        Task(number=number, objects=group, ledger=part)
        for number, (group, part) in enumerate(zip(groups, parts, strict=True))
    ]
