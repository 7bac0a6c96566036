"""Who decodes and redacts: this process, processes beside it, or a Ray cluster. The rows are the same.

    for one in deliveries(night.config.ingest, job, key, tasks, …):     # in the order of the tasks
        …commit it, note it in the ledger of its task…

work        a task and what a worker makes of it; what goes between the two
staging     where batches lie until they are committed
crew        the workers of an engine (protocol), and their batches put in order
processes   a crew on this machine; `worker` is the process of one
on_ray      a crew of Ray actors

Another engine is one file with a Crew, and one line here.
"""

import os
from collections.abc import Generator, Sequence

from tracemill import ingest
from tracemill.pipelines.config import IngestConfig
from tracemill.pipelines.engines.crew import Crew, in_order
from tracemill.pipelines.engines.processes import Processes
from tracemill.pipelines.engines.staging import Staging
from tracemill.pipelines.engines.work import Delivery, Finished, Job, Task, Worker, tasks

__all__ = ["Crew", "Delivery", "Finished", "Job", "Staging", "Task", "deliveries", "tasks"]


def deliveries(
    settings: IngestConfig, job: Job, todo: Sequence[Task], *, key: bytes, rules: ingest.Ruleset, staging: Staging
) -> Generator[tuple[Task, Delivery | Finished]]:
    """What the engine of the settings makes of the tasks, in their order; each ends with a Finished.

    Each batch is to be committed, and noted in the ledger of its task, before the next is asked for. Raises what
    `ingest.batches` raises, SourceError where workers keep dying, and what the engine has against the settings.
    """
    here = Worker(job, key, rules)
    if not todo or settings.engine == "local" or (settings.engine == "processes" and _little(todo, job)):
        for task in todo:
            for one in here.read(task):
                yield task, one
        return
    staging.open()
    try:
        crew = _crew(settings, job, key, staging, here, most=len(todo))
        try:
            yield from in_order(crew, todo, here, unit_bytes=job.batch_bytes)
        finally:
            crew.close()
    finally:
        staging.close()


def _crew(settings: IngestConfig, job: Job, key: bytes, staging: Staging, here: Worker, *, most: int) -> Crew:
    if settings.engine == "ray":
        from tracemill.pipelines.engines.on_ray import RayActors

        return RayActors(settings.workers, job, key, staging, identity=here.identity, address=settings.ray_address)
    return Processes(min(most, settings.workers or _cores()), job, key, staging)


def _little(todo: Sequence[Task], job: Job) -> bool:
    """Whether it is read before a process has started."""
    return len(todo) == 1 and todo[0].size_bytes < job.batch_bytes


def _cores() -> int:
    return len(os.sched_getaffinity(0))
