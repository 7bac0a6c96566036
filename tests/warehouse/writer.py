"""Writers in processes of their own: for each line `LAKE BATCHES FILE_LIMIT` (- for none) on stdin, forks one.

BATCHES is a folder of folders, one per batch, with one Arrow file per table. Each batch becomes one transaction:
take, rebuild, assign groups. Tells `pid …`, `begin` before each batch, `refused …`, and `end` with the exit status.
No DuckDB runs in this process itself, so it may fork; a killed writer costs no new imports.
"""

import os
import resource
import sys
from pathlib import Path

import pyarrow as pa

from tracemill.errors import StoreError
from tracemill.records import Batch
from tracemill.schema import TABLES
from tracemill.warehouse import Lake

sys.path.insert(0, str(Path(__file__).parents[1]))
import few_threads  # noqa: F401 - its import does it


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


def main() -> None:
    for line in sys.stdin:
        lake, folder, limit = line.rstrip("\n").split("\t")
        pid = os.fork()
        if pid == 0:
            if limit != "-":
                resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
            try:
                work(Path(lake), [read(one) for one in sorted(Path(folder).iterdir())])
            except StoreError as error:
                print("refused", " ".join(str(error).split()), flush=True)
                os._exit(2)
            os._exit(0)
        print("pid", pid, flush=True)
        print("end", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
