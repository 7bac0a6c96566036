"""Ingests in processes of their own: for each line `PROJECT LOGS FILE_LIMIT` (- for none) on stdin, forks one.

Tells `pid …`, `begin` when the lake is open, `refused …`, and `end` with the exit status. No DuckDB runs in this
process itself, so it may fork; a killed ingest costs no new imports. The clock stands still, so rows can be compared.
"""

import os
import resource
import sys
from pathlib import Path

from tracemill.app import settings
from tracemill.errors import StoreError
from tracemill.pipelines import ingesting
from tracemill.pipelines.night import Night
from tracemill.warehouse import Lake

sys.path.insert(0, str(Path(__file__).parents[1]))
import few_threads  # noqa: F401 - its import does it

NOW = 1_790_000_000_000_000_000


def work(project: Path, logs: Path) -> None:
    config = settings.load(project)
    with Lake.open(config.lake_place) as lake:
        print("begin", flush=True)
        night = Night(night_id="n", config=config, lake=lake, clock=lambda: NOW)
        ingesting.take_in(night, [logs], batch_bytes=12_000)


def main() -> None:
    for line in sys.stdin:
        project, logs, limit = line.rstrip("\n").split("\t")
        pid = os.fork()
        if pid == 0:
            if limit != "-":
                resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
            try:
                work(Path(project), Path(logs))
            except StoreError as error:
                print("refused", " ".join(str(error).split()), flush=True)
                os._exit(2)
            os._exit(0)
        print("pid", pid, flush=True)
        print("end", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
