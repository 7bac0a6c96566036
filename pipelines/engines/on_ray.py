"""A crew of actors on a Ray cluster, or on one that is started here for the length of a call."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass
from typing import Any

from tracemill.errors import ConfigError, EndpointError, MissingExtraError
from tracemill.pipelines.engines.crew import TRIES, Tag
from tracemill.pipelines.engines.staging import Staging
from tracemill.pipelines.engines.work import (
    Held,
    Job,
    Lost,
    LostError,
    Message,
    Parcel,
    Task,
    Worker,
)
from tracemill.records import Batch

_MOMENT_S = 0.1
_PATIENCE_S = 300.0
"""How long a cluster may take to give the first worker a CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Carried:
    """A batch in Ray's object store."""

    ref: Any

    def load(self) -> Batch:
        import ray

        try:
            batch: Batch = ray.get(self.ref)
        except ray.exceptions.RayError as error:
            raise LostError(f"a batch in Ray's object store is gone: {type(error).__name__}") from error
        return batch

    def discard(self) -> None:
        """Ray lets go of it with the last reference."""


class _Actor:
    """What runs on the cluster. The key comes in a call of its own: Ray may keep arguments of constructors."""

    def __init__(self) -> None:
        self._worker: Worker | None = None
        self._staging: Staging | None = None

    def arm(self, job: Job, key: bytes, staging: Staging) -> tuple[str, str]:
        """Makes it ready; the identity of its readers and rules."""
        self._worker = Worker(job, key)
        self._staging = staging if staging.reached() else None
        return self._worker.identity

    def read(self, task: Task) -> Iterator[Message]:
        assert self._worker is not None
        yield from self._worker.told(task, self._pack, far=True)

    def _pack(self, batch: Batch) -> Parcel:
        if self._staging is not None:
            return self._staging.pack(batch)
        import ray

        if sum(table.nbytes for table in batch.tables.values()) < 64 * 1024:
            return Held(batch=batch)
        return _Carried(ref=ray.put(batch))


class RayActors:
    """See Crew. Joins the cluster at `address`, or starts one here with as many CPUs as workers.

    Raises MissingExtraError where Ray is not installed, EndpointError where the cluster does not answer, and
    ConfigError where its workers run another tracemill.
    """

    def __init__(
        self,
        size: int | None,
        job: Job,
        key: bytes,
        staging: Staging,
        *,
        identity: tuple[str, str],
        address: str | None,
    ) -> None:
        try:
            import ray
        except ModuleNotFoundError as error:
            if error.name != "ray":
                raise
            raise MissingExtraError("ray", "--engine ray") from error
        self._ray = ray
        self._begin = (job, key, staging)
        self._identity = identity
        self._mine = not ray.is_initialized()
        if self._mine:
            _join(ray, address, size)
        self._output = ExitStack()
        self._output.enter_context(redirect_stdout(sys.stderr))  # Ray tells of dead workers there
        self._busy: dict[Any, tuple[Any, Tag]] = {}
        self._free: list[Any] = []
        self._size = size or max(1, int(ray.cluster_resources().get("CPU", 1)))
        try:
            self._make = ray.remote(num_cpus=1, max_restarts=0)(_Actor)
            begun = [self._new() for _ in range(self._size)]
            self._free += [self._armed(actor, armed) for actor, armed in begun]
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> int:
        return self._size

    @property
    def free(self) -> int:
        return len(self._free)

    def start(self, tag: Tag, task: Task) -> None:
        actor = self._free.pop()
        told = actor.read.options(num_returns="streaming").remote(task)
        self._busy[told] = (actor, tag)

    def hear(self) -> Sequence[tuple[Tag, Message]]:
        if not self._busy:
            time.sleep(_MOMENT_S)
            return []
        ready, _ = self._ray.wait(list(self._busy), num_returns=1, timeout=_MOMENT_S, fetch_local=False)
        return [heard for told in ready for heard in self._heard(told)]

    def _heard(self, told: Any) -> list[tuple[Tag, Message]]:
        actor, tag = self._busy[told]
        try:
            message: Message = self._ray.get(next(told))
        except StopIteration:
            del self._busy[told]
            self._free.append(actor)
            return []
        except self._ray.exceptions.RayError as error:
            del self._busy[told]
            why = str(error).strip().splitlines()[0]
            self._ray.kill(actor)
            self._free.append(self._armed(*self._new()))
            return [(tag, Lost(why=f"{type(error).__name__}: {why}"))]
        return [(tag, message)]

    def close(self) -> None:
        with self._output:
            if self._mine:
                self._ray.shutdown()
                return
            for actor in (*self._free, *(actor for actor, _ in self._busy.values())):
                self._ray.kill(actor)

    def _new(self) -> tuple[Any, Any]:
        actor = self._make.remote()
        return actor, actor.arm.remote(*self._begin)

    def _armed(self, actor: Any, armed: Any) -> Any:
        """The actor once it is ready, or another in its place where it died meanwhile."""
        for _ in range(TRIES):
            try:
                self._check(armed)
                return actor
            except self._ray.exceptions.ActorDiedError as error:
                died = error
                actor, armed = self._new()
        raise EndpointError("ray", f"{TRIES} workers died while they started: {str(died).splitlines()[0]}") from died

    def _check(self, armed: Any) -> None:
        try:
            identity = self._ray.get(armed, timeout=_PATIENCE_S)
        except self._ray.exceptions.GetTimeoutError as error:
            raise EndpointError("ray", f"no CPU came free for a worker within {_PATIENCE_S:g} s") from error
        if identity != self._identity:
            raise ConfigError(
                "the workers of the Ray cluster run another version of tracemill, or of what redacts, than this "
                "machine: install the same packages on all of them"
            )


def _join(ray: Any, address: str | None, size: int | None) -> None:
    quiet: Mapping[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        ray.init(address="local", num_cpus=size, _node_ip_address="127.0.0.1", **quiet)
        return
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ray.exceptions.RayError, OSError) as error:
        raise EndpointError(address, f"no Ray cluster answers there: {error}") from error
