"""Trajectories and transitions of some traces, made anew from their spans.

The statements, in their order: what the traces' spans say in narrow columns (`rebuilt_spans`), which of them are calls
and whose (`rebuilt_calls`), what is made of that, and only then the wide columns of the calls (`rebuilt_told`). Each
statement that names a table of the lake costs milliseconds, however little it reads: what is not needed is not asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import duckdb
import pyarrow as pa

from tracemill.ids import PSEUDONYM
from tracemill.schema import TABLES
from tracemill.warehouse import rows
from tracemill.warehouse.layout import statement

UNGROUPED = pa.schema([("trajectory_id", pa.string()), ("task_key", pa.string()), ("task_text", pa.string())])
"""What `rebuild` returns: trajectories that have no task group yet."""

_FIRST = ("rebuilt_read", "rebuilt_spans", "rebuilt_attempts")
_THEN = ("rebuilt_calls", "rebuilt_before", "rebuilt_trajectories", "rebuilt_steps", "rebuilt_engine", "rebuilt_asked")
_LAST = ("rebuilt_redacted", "rebuilt_sites", "rebuilt_transitions", "rebuilt_tasks")
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


_READ = (
    # What places and sums need, see rebuilt_spans.
    *("trace_id", "span_id", "parent_span_id", "seq", "kind", "start_ns", "end_ns", "day", "status", "flags"),
    *("session_id", "user_key", "service", "agent_name", "agent_version", "source_format", "task_key"),
    *("response_id", "tokens_in", "tokens_out", "cost_usd"),
    *("model", "model_requested", "finish_reasons", "input_token_ids", "output_token_ids", "output_logprobs"),
    *(name for name in TABLES["transitions"].schema.names if name not in _OWN),
)
"""Columns of spans that are read."""
_TEMPORARY = (
    *(name for name in (*_FIRST, *_THEN, *_LAST) if name != "rebuilt_transitions"),
    *("rebuilt_messages", "rebuilt_openings"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """What taking a batch tells of the traces that it wrote, so that nobody asks the lake for it again."""

    trace_ids: frozenset[str]
    known: frozenset[str]
    """Traces of which the lake had spans before. All others have no trajectory yet."""
    days: tuple[date | None, ...]
    """All days on which spans of these traces are now."""
    messages: pa.Table
    """What came with them."""


def rebuild(con: duckdb.DuckDBPyConnection, trace_ids: Sequence[str], arrival: Arrival | None = None) -> pa.Table:
    """See Transaction.rebuild. `arrival`: of the batch that was just taken, where it has exactly these traces."""
    if not trace_ids:
        return UNGROUPED.empty_table()
    try:
        fillings = _read(con, set(trace_ids), arrival)
        # Most logs know nothing of attempts: then no trajectories are searched for other ones.
        if rows.some(con, "temp.rebuilt_attempts"):
            others = {str(row[0]) for row in con.execute(statement("other_attempts")).fetchall()}
            if not others <= set(trace_ids):
                fillings = _read(con, others | set(trace_ids), None)
        for step in _THEN:
            con.execute(_filled(step, fillings))
        _look_up(con, fillings, None if arrival is None else arrival.messages)
        # Most traces are new: nothing is looked for among the steps of all nights.
        again = rows.some(con, "temp.rebuilt_before")
        before = "trajectory_id IN (SELECT trajectory_id FROM temp.rebuilt_before)"
        fillings["sites"] = _where(before, again)
        for step in _LAST:
            if step == "rebuilt_transitions" and again:
                for name in ("transitions", "trajectories"):
                    con.execute(f"DELETE FROM {name} WHERE {before}")
            con.execute(_filled(step, fillings))
        listed = rows.columns(TABLES["trajectories"].schema.names)
        con.execute(f"INSERT INTO trajectories ({listed}) SELECT {listed} FROM temp.rebuilt_trajectories")
        fillings["openings_near"] = _where(fillings["near"], rows.some(con, "temp.rebuilt_tasks WHERE text IS NULL"))
        con.execute(_filled("rebuilt_openings", fillings))
        ungrouped = con.execute(statement("ungrouped")).to_arrow_table()
        for temporary in _TEMPORARY:
            con.execute(f"DROP TABLE temp.{temporary}")
    finally:
        con.unregister("wanted")
    return rows.checked(ungrouped, UNGROUPED, "rebuild")


def _where(near: str, needed: bool) -> str:
    """A condition that reads no file where there is nothing to be read for."""
    return near if needed else "false"


def _read(con: duckdb.DuckDBPyConnection, trace_ids: set[str], arrival: Arrival | None) -> dict[str, str]:
    """Reads the spans of the traces that are made anew, numbered in `wanted`; gives what fills the statements."""
    names = sorted(trace_ids)
    known = [arrival is None or name in arrival.known for name in names]
    con.register(
        "wanted",
        pa.table(
            {"trace_id": pa.array(names, pa.string()), "trace": range(len(names)), "known": pa.array(known, pa.bool_())}
        ),
    )
    columns = TABLES["transitions"].schema.names
    fillings = {
        # The days of their spans, as constants: what lets the lake skip files.
        "near": (
            rows.in_days(con, "trace_days SEMI JOIN wanted USING (trace_id)")
            if arrival is None
            else rows.on_days(arrival.days)
        ),
        "before": _where("trajectory_id IN (SELECT trace_id FROM wanted WHERE known)", any(known)),
        "read": rows.columns(list(dict.fromkeys(_READ)), "s"),
        "pseudonym": PSEUDONYM.pattern,
        "columns": rows.columns(columns),
        "values": ", ".join(_OWN.get(name, f's."{name}"') for name in columns),
    }
    for step in _FIRST:
        con.execute(_filled(step, fillings))
    return fillings


def _look_up(con: duckdb.DuckDBPyConnection, fillings: dict[str, str], came: pa.Table | None) -> None:
    """Fetches the messages that have to be looked at into `rebuilt_messages`."""
    con.execute("CREATE OR REPLACE TEMP TABLE rebuilt_messages (message_id VARCHAR, said VARCHAR, pseudonym BOOLEAN)")
    # Nearly all came with the batch, nearly all others on the days of the spans.
    places = [("messages", fillings["near"]), ("messages", "true")]
    if came is not None:
        con.register("came_messages", came.select(["message_id", "role", "text", "parts"]))
        places.insert(0, ("came_messages", "true"))
    try:
        for source, where in places:
            if not rows.some(con, "temp.rebuilt_asked ANTI JOIN temp.rebuilt_messages USING (message_id)"):
                break
            con.execute(_filled("rebuilt_messages", fillings | {"source": source, "where": where}))
    finally:
        con.unregister("came_messages")


def _filled(name: str, fillings: dict[str, str]) -> str:
    text = statement(name)
    for key, value in fillings.items():
        text = text.replace("{" + key + "}", value)
    return text
