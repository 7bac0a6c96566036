"""Episodes: the logged calls of one trajectory at one site, bound to its current template, to be replayed in a row."""

from collections.abc import Sequence

import duckdb

from tracemill.mining.cases import bound
from tracemill.mining.lake import table
from tracemill.records import Episode, LoggedCall, Site


def load(con: duckdb.DuckDBPyConnection, site: Site, trajectories: Sequence[str]) -> dict[str, Episode]:
    """By trajectory, those that the log tells from the site's first call to the end of the trajectory.

    Left out is a trajectory whose last call is another site's, and one with a call that the template does not bind,
    that nothing answered, or whose messages are not in the lake.
    """
    if not trajectories:
        return {}
    rows = table(con, "load_episodes", {"site_id": site.site_id, "trajectories": list(trajectories)}).to_pylist()
    calls: dict[str, list[LoggedCall]] = {}
    broken: set[str] = set()
    for row, call in zip(rows, bound(con, site, rows), strict=True):
        name = row["trajectory_id"]
        if call is None or not call.answer or not row["to_the_end"]:
            broken.add(name)
            continue
        calls.setdefault(name, []).append(LoggedCall(step=row["step"], values=call.values, answer=call.answer))
    return {name: Episode(trajectory_id=name, calls=tuple(own)) for name, own in calls.items() if name not in broken}
