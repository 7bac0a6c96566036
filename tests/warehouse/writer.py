"""A writer in a process of its own: `python writer.py LAKE BATCHES [--file-limit BYTES] [--ready]`.

BATCHES is a folder of folders, one per batch, with one Arrow file per table. Each batch becomes one transaction:
take, rebuild, assign groups. With `--fork` it forks a fresh worker whenever told to, so that killing one costs little.
"""

import argparse
import os
import resource
import sys
from pathlib import Path

import pyarrow as pa

from tracemill.errors import StoreError
from tracemill.records import Batch
from tracemill.schema import TABLES
from tracemill.warehouse import Lake


def read(folder: Path) -> Batch:
    tables = {
        path.stem: pa.ipc.open_file(pa.memory_map(str(path))).read_all() for path in sorted(folder.glob("*.arrow"))
    }
    return Batch(batch_id=folder.name, tables=tables)


def write(lake: Lake, batch: Batch) -> None:
    with lake.transaction(f"take {batch.batch_id}") as tx:
        ungrouped = tx.rebuild(tx.take(batch).trace_ids)
        ids = ungrouped.column("trajectory_id").to_pylist()
        tx.assign_groups(
            pa.table({"trajectory_id": ids, "task_group": [f"g-{one}" for one in ids], "pool": ["learn"] * len(ids)}),
            pa.table(
                {
                    "task_group": [f"g-{one}" for one in ids],
                    "pool": ["learn"] * len(ids),
                    "digest": ids,
                    "signature": [[1, 2]] * len(ids),
                    "first_seen": [0] * len(ids),
                },
                schema=TABLES["task_groups"].schema,
            ),
        )


def work(root: Path, batches: list[Batch]) -> None:
    with Lake.open(root) as lake:
        for batch in batches:
            print("begin", flush=True)
            write(lake, batch)


def main() -> int:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("lake", type=Path)
    arguments.add_argument("batches", type=Path)
    arguments.add_argument("--file-limit", type=int)
    arguments.add_argument("--fork", action="store_true")
    given = arguments.parse_args()
    if given.file_limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (given.file_limit, given.file_limit))
    batches = [read(folder) for folder in sorted(given.batches.iterdir())]
    if given.fork:
        # No DuckDB runs in this process, so its children may be made by forking.
        for _ in sys.stdin:
            pid = os.fork()
            if pid == 0:
                work(given.lake, batches)
                os._exit(0)
            print("pid", pid, flush=True)
            print("end", os.waitpid(pid, 0)[1], flush=True)
        return 0
    try:
        work(given.lake, batches)
    except StoreError as error:
        print("refused", error, flush=True)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
