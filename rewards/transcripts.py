"""Episodes as plain text, for models that read them whole."""

from collections.abc import Sequence

import duckdb

from tracemill.rewards.rows import query


def transcripts(con: duckdb.DuckDBPyConnection, trajectories: Sequence[str], *, max_chars: int) -> dict[str, str]:
    """By trajectory: the task, and what each call said and its tools answered, each cut at `max_chars`."""
    told: dict[str, list[str]] = {}
    rows = query(con, "credit_story", {"trajectories": [*trajectories, ""], "cap": max_chars})
    for row in rows.to_pylist():
        lines = told.setdefault(row["trajectory_id"], [f"Task: {row['task'] or ''}"])
        lines.append(f"{row['caller'] or 'agent'}: {row['said'] or ''}")
        if row["answered"]:
            lines.append(f"Tools: {row['answered']}")
    return {name: "\n".join(lines) for name, lines in told.items()}
