"""DuckDB on as many threads as OMP_NUM_THREADS says, one by default, here and in the processes that tests start.

On a few rows its threads wait for one another: with two of them a batch takes twice as long.
"""

import os
from typing import Any

import duckdb

_connect = duckdb.connect


def connect(*args: Any, config: dict[str, Any] | None = None, **options: Any) -> duckdb.DuckDBPyConnection:
    threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    return _connect(*args, config={"threads": threads} | (config or {}), **options)


duckdb.connect = connect
