"""The lake: every row of tracemill, in Parquet files with a SQL catalog (DuckLake), opened by DuckDB.

    with Lake.open(root) as lake:
        with lake.transaction("ingest") as tx:
            taken = tx.take(batch)
            fresh = tx.rebuild(taken.trace_ids)
        con = lake.reader()                      # read-only; tables and views by bare name
        rows = sql.query(lake, "SELECT …")       # one statement of a user: reads the lake and nothing else

One transaction is one snapshot over all tables; several processes queue for it; readers see all of it or nothing.
The room knows rows, not log formats. Tables come from schema.py, views from `views/*.sql`.
"""

from tracemill.warehouse import sql
from tracemill.warehouse.engine import sparingly
from tracemill.warehouse.erasing import Erased, Scope
from tracemill.warehouse.lake import Lake
from tracemill.warehouse.later import Later
from tracemill.warehouse.place import Place
from tracemill.warehouse.replays import ReplayCache
from tracemill.warehouse.take import Taken
from tracemill.warehouse.transaction import Transaction

__all__ = ["Erased", "Lake", "Later", "Place", "ReplayCache", "Scope", "Taken", "Transaction", "sparingly", "sql"]
