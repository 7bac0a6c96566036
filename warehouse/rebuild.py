"""Trajectories and transitions of some traces, made anew from their spans."""

from collections.abc import Sequence

import duckdb
import pyarrow as pa

from tracemill.ids import PSEUDONYM
from tracemill.schema import TABLES
from tracemill.warehouse import rows
from tracemill.warehouse.layout import statement

UNGROUPED = pa.schema([("trajectory_id", pa.string()), ("task_key", pa.string()), ("task_text", pa.string())])
"""What `rebuild` returns: trajectories that have no task group yet."""

_STEPS = ("rebuilt_spans", "rebuilt_attempts", "rebuilt_calls", "rebuilt_trajectories", "rebuilt_transitions")


def rebuild(con: duckdb.DuckDBPyConnection, trace_ids: Sequence[str]) -> pa.Table:
    """See Transaction.rebuild."""
    if not trace_ids:
        return UNGROUPED.empty_table()
    try:
        near = _want(con, set(trace_ids))
        others = {str(row[0]) for row in con.execute(_filled("other_attempts", near)).fetchall()}
        if not others <= set(trace_ids):
            near = _want(con, others | set(trace_ids))
        for step in _STEPS:
            con.execute(_filled(step, near))
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


def _want(con: duckdb.DuckDBPyConnection, trace_ids: set[str]) -> str:
    """Names the traces that are made anew; gives the condition on the days of their spans."""
    con.register("wanted", pa.table({"trace_id": pa.array(sorted(trace_ids), pa.string())}))
    return rows.in_days(con, "trace_days SEMI JOIN wanted USING (trace_id)")


def _filled(name: str, near: str) -> str:
    return statement(name).replace("{near}", near).replace("{pseudonym}", PSEUDONYM.pattern)
