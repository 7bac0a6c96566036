"""Trajectories and transitions of some traces, made anew from their spans.

The statements, in their order: what the traces' spans say in narrow columns (`rebuilt_spans`), which of them are calls
and whose (`rebuilt_calls`), what is made of that, and only then the wide columns of the calls.
"""

from collections.abc import Sequence

import duckdb
import pyarrow as pa

from tracemill.ids import PSEUDONYM
from tracemill.schema import TABLES
from tracemill.warehouse import rows
from tracemill.warehouse.layout import statement

UNGROUPED = pa.schema([("trajectory_id", pa.string()), ("task_key", pa.string()), ("task_text", pa.string())])
"""What `rebuild` returns: trajectories that have no task group yet."""

_FIRST = ("rebuilt_spans", "rebuilt_attempts")
_THEN = ("rebuilt_calls", "rebuilt_before", "rebuilt_trajectories", "rebuilt_steps", "rebuilt_sites")
_OWN = {
    "trajectory_id": "s.trace_id",
    "step": "s.step",
    "site_id": "old.site_id",
    "site_version": "old.site_version",
    "agent_name": "s.called_by",
    "model": "coalesce(s.model, s.model_requested)",
    "finish_reason": "s.finish_reasons[1]",
    "input_token_ids": "coalesce(s.input_token_ids, e.input_token_ids)",
    "output_token_ids": "coalesce(s.output_token_ids, e.output_token_ids)",
    "output_logprobs": "coalesce(s.output_logprobs, e.output_logprobs)",
    "trainable": "s.untrainable_reason IS NULL",
    "untrainable_reason": "s.untrainable_reason",
}
"""Columns of `transitions` that are not simply the span's."""


def rebuild(con: duckdb.DuckDBPyConnection, trace_ids: Sequence[str]) -> pa.Table:
    """See Transaction.rebuild."""
    if not trace_ids:
        return UNGROUPED.empty_table()
    try:
        fillings = _read(con, set(trace_ids))
        others = {str(row[0]) for row in con.execute(statement("other_attempts")).fetchall()}
        if not others <= set(trace_ids):
            fillings = _read(con, others | set(trace_ids))
        for step in _THEN:
            con.execute(statement(step))
        # Most traces are new: nothing is looked for among the steps of all nights.
        if con.execute("SELECT 1 FROM temp.rebuilt_before LIMIT 1").fetchone() is not None:
            for name in ("transitions", "trajectories"):
                con.execute(
                    f"DELETE FROM {name} WHERE trajectory_id IN (SELECT trajectory_id FROM temp.rebuilt_before)"
                )
        con.execute(_filled("rebuilt_transitions", fillings))
        listed = rows.columns(TABLES["trajectories"].schema.names)
        con.execute(f"INSERT INTO trajectories ({listed}) SELECT {listed} FROM temp.rebuilt_trajectories")
        ungrouped = con.execute(_filled("ungrouped", fillings)).to_arrow_table()
        for step in (*_FIRST, *_THEN):
            con.execute(f"DROP TABLE temp.{step}")
    finally:
        con.unregister("wanted")
    return rows.checked(ungrouped, UNGROUPED, "rebuild")


def _read(con: duckdb.DuckDBPyConnection, trace_ids: set[str]) -> dict[str, str]:
    """Reads the spans of the traces that are made anew, numbered in `wanted`; gives what fills the statements."""
    names = sorted(trace_ids)
    con.register("wanted", pa.table({"trace_id": pa.array(names, pa.string()), "trace": range(len(names))}))
    columns = TABLES["transitions"].schema.names
    fillings = {
        # The days of their spans, as constants: what lets the lake skip files.
        "near": rows.in_days(con, "trace_days SEMI JOIN wanted USING (trace_id)"),
        "pseudonym": PSEUDONYM.pattern,
        "columns": rows.columns(columns),
        "values": ", ".join(_OWN.get(name, f's."{name}"') for name in columns),
    }
    for step in _FIRST:
        con.execute(_filled(step, fillings))
    return fillings


def _filled(name: str, fillings: dict[str, str]) -> str:
    text = statement(name)
    for key, value in fillings.items():
        text = text.replace("{" + key + "}", value)
    return text
