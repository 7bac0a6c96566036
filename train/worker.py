"""`python -m tracemill.train.worker job.json`: one training run, in the process that training may take down with it.

Standard output carries one JSON object per line (`event`: progress, result or error) and nothing else; all that the
libraries print goes to standard error. Ends when standard input closes, that is, with the process that started it.
"""

import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tracemill.errors import ConfigError, TracemillError
from tracemill.train import adapters, datums, models, registry
from tracemill.train.job import RESULT, TrainJob


def main() -> int:
    """Runs the job named on the command line; the exit status."""
    # the pipe is kept for us and taken from everything that prints
    pipe = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def tell(event: str, **facts: Any) -> None:
        pipe.write(json.dumps({"event": event, **facts}) + "\n")

    threading.Thread(target=_end_with_stdin, daemon=True).start()
    job = TrainJob.from_json(Path(sys.argv[1]).read_text())
    try:
        with FileLock(job.out / "lock", timeout=30):
            run(job, lambda facts: tell("progress", **facts))
    except Timeout:
        tell("error", kind="config", message=f"another process is training in {job.out}")
        return 2
    except ConfigError as error:
        tell("error", kind="config", message=str(error))
        return 2
    except (TracemillError, RuntimeError, ValueError, OSError, MemoryError) as error:
        tell("error", kind="train", message=f"{type(error).__name__}: {error}")
        raise
    tell("result")
    return 0


def _end_with_stdin() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


def run(job: TrainJob, report: Callable[[Mapping[str, Any]], None]) -> None:
    """Trains, names the adapter by its content, writes its card and then the result."""
    # read once, when torch loads OpenMP: threads that spin while they wait starve whatever else runs here
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ["HF_HUB_OFFLINE"] = "1"
    if job.nice:
        os.nice(job.nice)
    import torch

    torch.set_num_threads(job.threads)
    began = time.perf_counter()
    trainer = registry.build(job.trainer, job.options, seed=job.seed, init_adapter=job.init_adapter)
    folder = models.resolve(job.base_model, job.cache)
    metrics = dict(trainer.train(job.datums, str(folder), job.out, report=report))
    seconds = time.perf_counter() - began
    content_hash = None
    made = job.out / "adapter"
    if "nothing_to_learn" not in metrics:
        content_hash = adapters.content_hash(made)
        facts = models.facts(job.base_model)
        found = datums.read(job.datums)
        card = adapters.model_card(
            trainer=job.trainer,
            base_title=facts.title,
            base_licence=facts.licence,
            options={**job.options, "seed": job.seed},
            rows=found.table.num_rows,
            dropped=found.dropped,
            lineage=sorted(set(found.table["trajectory_id"].to_pylist())),
            snapshot_id=job.snapshot_id,
            metrics={**metrics, "seconds": round(seconds, 1)},
        )
        (made / "README.md").write_text(card, encoding="utf-8")
        named = job.out / f"adapter-{content_hash[:16]}"
        shutil.rmtree(named, ignore_errors=True)  # of a run that was killed between naming it and the result
        os.replace(made, named)
    fresh = job.out / f"{RESULT}.part"
    fresh.write_text(json.dumps({"content_hash": content_hash, "metrics": metrics, "seconds": seconds}))
    os.replace(fresh, job.out / RESULT)
    shutil.rmtree(job.out / "checkpoints", ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
