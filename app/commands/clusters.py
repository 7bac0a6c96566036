"""Clusters for reading: what callers want and how episodes fail, as part of the report of `mine`."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from tracemill.pipelines.night import Night

_TOP = 6
_DAYS = 90
_SELECT = f"""
WITH newest AS (SELECT max(day) AS day FROM cluster_days),
recent AS (
    SELECT d.kind, d.cluster_id, sum(d.n) AS n, sum(d.n_judged) AS n_judged, sum(d.n_failed) AS n_failed
    FROM cluster_days d, newest
    WHERE d.day IS NULL OR d.day > newest.day - {_DAYS}
    GROUP BY ALL
)
SELECT r.kind, r.cluster_id, c.name, c.terms, c.trend, c.exemplars,
    CAST(r.n AS BIGINT) AS n, CAST(r.n_judged AS BIGINT) AS n_judged, CAST(r.n_failed AS BIGINT) AS n_failed,
    r.n / sum(r.n) OVER (PARTITION BY r.kind) AS share
FROM recent r JOIN clusters c USING (cluster_id)
ORDER BY r.n DESC, r.cluster_id
"""
_HEADS = {"intent": "What callers want", "failure": "How episodes fail"}
_STYLES = {"new": "yellow", "growing": "yellow", "shrinking": "green", "gone": "green"}


def data(night: Night) -> dict[str, list[dict[str, Any]]]:
    """The clusters of the last 90 days, the largest first: `intents` and `failures`."""
    rows = night.select(_SELECT).to_pylist()
    return {f"{kind}s": [row for row in rows if row["kind"] == kind] for kind in _HEADS}


def report(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> RenderableType:
    """The largest clusters of each kind, with their share, how many fail, and what becomes of them."""
    parts: list[RenderableType] = []
    for kind, head in _HEADS.items():
        rows = found[f"{kind}s"]
        # One cluster of everything tells nothing.
        if len(rows) < 2:
            continue
        parts.append(Text(f"\n{head}", "bold"))
        grid = RichTable.grid(padding=(0, 2))
        grid.add_column(justify="right", no_wrap=True)
        grid.add_column(overflow="fold")
        for row in rows[:_TOP]:
            grid.add_row(Text(f"{row['share']:.0%}"), _line(row))
        parts.append(grid)
        if len(rows) > _TOP:
            rest = sum(row["share"] for row in rows[_TOP:])
            parts.append(Text(f'{len(rows) - _TOP} more, {rest:.0%}: tracemill sql "FROM clusters"', "dim"))
    return Group(*parts)


def _line(row: Mapping[str, Any]) -> Text:
    line = Text(row["name"] or "without telling words")
    if row["kind"] == "failure":
        line.append(f": {row['n']:,} episodes", "default")
    elif row["n_judged"]:
        line.append(f": {row['n_failed'] / row['n_judged']:.0%} of {row['n_judged']:,} failed", "default")
    else:
        line.append(f": {row['n']:,} episodes, none judged", "default")
    if row["trend"] and row["trend"] != "steady":
        line.append(" · ")
        line.append(row["trend"], _STYLES[row["trend"]])
    return line
