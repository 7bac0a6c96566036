"""One training run: what it is, and running it in a process of its own that can be killed and started again."""

import hashlib
import importlib.util
import json
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tracemill.errors import ConfigError, MissingExtraError, TrainError
from tracemill.ids import content_id
from tracemill.train import models, registry

JOB, RESULT, LOG = "job.json", "result.json", "train.log"
_TAIL_LINES = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainJob:
    """What to train, on what, from what. The same job in the same folder continues; it never starts over."""

    trainer: str
    """A name of registry.TRAINERS."""
    base_model: str
    """"smollm2" or a local model folder."""
    cache: Path
    """Where converted base models are kept."""
    datums: Path
    out: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    init_adapter: Path | None = None
    seed: int = 0
    threads: int = 1
    nice: int = 0
    """Added to the process's niceness, for a night that must not slow the machine down."""
    snapshot_id: int | None = None
    """Of the lake that the datums were read from; for the model card."""

    def to_json(self) -> str:
        return json.dumps(asdict(self), default=str, indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "TrainJob":
        raw = json.loads(text)
        for name in ("cache", "datums", "out", "init_adapter"):
            raw[name] = None if raw[name] is None else Path(raw[name])
        return cls(**raw)

    @property
    def job_id(self) -> str:
        """Content id of what decides the weights: the rows themselves, not where they lie."""
        rows = hashlib.sha256(self.datums.read_bytes()).hexdigest()
        start = None if self.init_adapter is None else self.init_adapter.name
        return content_id(self.trainer, self.base_model, rows, dict(self.options), start, self.seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What came out of a run."""

    adapter: Path | None
    """Folder named by its content: safetensors, configuration, model card. None: there was nothing to learn."""
    content_hash: str | None
    metrics: Mapping[str, Any]
    seconds: float
    """Of the process that finished the run; what earlier, killed ones took is not known."""

    @property
    def nothing_to_learn(self) -> str | None:
        """Why no adapter was made; None where one was."""
        reason = self.metrics.get("nothing_to_learn")
        return None if reason is None else str(reason)


def launch(job: TrainJob, *, on_progress: Callable[[Mapping[str, Any]], None] | None = None) -> TrainResult:
    """Runs a job to its end in its own process and returns its result; a finished job returns at once.

    `on_progress` gets one mapping per optimizer step: step, steps, loss, …. Killing this process or the worker loses
    at most the steps since the last checkpoint: the same call goes on from there. Raises ConfigError where the job or
    its folder is wrong, TrainError with the end of the log where training failed.
    """
    if importlib.util.find_spec("trl") is None:
        raise MissingExtraError("train", "training adapters")
    if not job.datums.is_file():
        raise ConfigError(f"no training rows at {job.datums}; write them with train.datums")
    registry.build(job.trainer, job.options, seed=job.seed, init_adapter=job.init_adapter)
    if job.base_model != models.EMBEDDED:
        models.resolve(job.base_model, job.cache)
    job = replace(job, out=job.out.resolve(), datums=job.datums.resolve(), cache=job.cache.resolve())
    _claim(job)
    done = job.out / RESULT
    if not done.exists():
        _work(job, on_progress)
    raw = json.loads(done.read_text())
    return TrainResult(
        adapter=None if raw["content_hash"] is None else job.out / f"adapter-{raw['content_hash'][:16]}",
        content_hash=raw["content_hash"],
        metrics=raw["metrics"],
        seconds=raw["seconds"],
    )


def _claim(job: TrainJob) -> None:
    """Writes the job into its folder, or finds that the folder is another job's."""
    job.out.mkdir(parents=True, exist_ok=True)
    claim = job.out / "job_id"
    if claim.exists() and claim.read_text() != job.job_id:
        raise ConfigError(f"{job.out} belongs to another training job; give this one a folder of its own")
    claim.write_text(job.job_id)
    (job.out / JOB).write_text(job.to_json())


def _work(job: TrainJob, on_progress: Callable[[Mapping[str, Any]], None] | None) -> None:
    command = [sys.executable, "-m", "tracemill.train.worker", str(job.out / JOB)]
    failure: Mapping[str, Any] | None = None
    with (job.out / LOG).open("ab") as log:
        # stdin stays open as long as this process lives: the worker ends with it
        worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
        try:
            assert worker.stdout is not None
            for line in worker.stdout:
                event = json.loads(line)
                if event["event"] == "error":
                    failure = event
                elif on_progress is not None and event["event"] == "progress":
                    on_progress({name: value for name, value in event.items() if name != "event"})
            worker.wait()
        finally:
            if worker.poll() is None:
                worker.terminate()
            worker.communicate()
    if failure is not None and failure["kind"] == "config":
        raise ConfigError(failure["message"])
    if worker.returncode != 0:
        with (job.out / LOG).open(errors="replace") as lines:
            tail = "".join(deque(lines, maxlen=_TAIL_LINES)).strip()
        said = failure["message"] if failure is not None else f"its process ended with {worker.returncode}"
        raise TrainError(f"training {job.trainer!r} in {job.out} failed: {said}\n{tail}")
