"""Assigning what other stages found out: task groups to trajectories, call sites to transitions."""

import duckdb
import pyarrow as pa

from tracemill.errors import StoreError
from tracemill.schema import TABLES
from tracemill.warehouse import rows
from tracemill.warehouse.layout import statement

ASSIGNED_GROUPS = pa.schema(
    [("trajectory_id", pa.string()), ("task_group", pa.string()), ("pool", pa.string())],
)
ASSIGNED_SITES = pa.schema(
    [("trajectory_id", pa.string()), ("step", pa.int32()), ("site_id", pa.string()), ("site_version", pa.string())],
)


def _update(con: duckdb.DuckDBPyConnection, name: str, assigned: pa.Table) -> int:
    rows.stage(con, "assigned", assigned)
    try:
        row = con.execute(statement(name)).fetchone()
    finally:
        con.unregister("assigned")
    return int(row[0]) if row else 0


def assign_groups(con: duckdb.DuckDBPyConnection, assigned: pa.Table, new_groups: pa.Table) -> int:
    """See Transaction.assign_groups."""
    rows.insert(con, TABLES["task_groups"], new_groups)
    if assigned.num_rows == 0:
        return 0
    count = _update(con, "assign_groups", assigned)
    touched = {*assigned["task_group"].to_pylist(), *new_groups["task_group"].to_pylist()} - {None}
    torn = con.execute(statement("torn_groups"), {"groups": sorted(touched)}).fetchone()
    if torn is not None:
        raise StoreError(f"task group {torn[0]} would lie in the pools {torn[1]}: a group lies whole in one pool")
    return count


def assign_sites(con: duckdb.DuckDBPyConnection, assigned: pa.Table) -> int:
    """See Transaction.assign_sites."""
    return _update(con, "assign_sites", assigned) if assigned.num_rows else 0
