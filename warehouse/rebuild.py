"""Trajectories and transitions of some traces, made anew from their spans."""

from collections.abc import Sequence

import duckdb
import pyarrow as pa

from tracemill.schema import TABLES
from tracemill.warehouse import rows
from tracemill.warehouse.layout import statement

UNGROUPED = pa.schema([("trajectory_id", pa.string()), ("task_key", pa.string()), ("task_text", pa.string())])
"""What `rebuild` returns: trajectories that have no task group yet."""

_STEPS = ("rebuilt_spans", "rebuilt_calls", "rebuilt_trajectories", "rebuilt_transitions")


def rebuild(con: duckdb.DuckDBPyConnection, trace_ids: Sequence[str]) -> pa.Table:
    """See Transaction.rebuild."""
    if not trace_ids:
        return UNGROUPED.empty_table()
    con.register("wanted", pa.table({"trace_id": pa.array(sorted(set(trace_ids)), pa.string())}))
    try:
        near = rows.in_days(con, "trace_days SEMI JOIN wanted USING (trace_id)")
        for step in _STEPS:
            con.execute(statement(step).replace("{near}", near))
        for name in ("transitions", "trajectories"):
            listed = rows.columns(TABLES[name].schema.names)
            con.execute(f"DELETE FROM {name} WHERE trajectory_id IN (SELECT trace_id FROM wanted)")
            con.execute(
                f"INSERT INTO {name} ({listed}) SELECT {listed} FROM temp.rebuilt_{name} ORDER BY trajectory_id"
            )
        ungrouped = con.execute(statement("ungrouped")).to_arrow_table()
        for step in reversed(_STEPS):
            con.execute(f"DROP TABLE temp.{step}")
    finally:
        con.unregister("wanted")
    return rows.checked(ungrouped, UNGROUPED, "rebuild")
