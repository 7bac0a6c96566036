"""Episodes: the logged calls of one trajectory, bound to today's templates, to be replayed in a row."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import duckdb

from tracemill.mining import dataflow
from tracemill.mining.cases import bound, logged
from tracemill.mining.lake import table
from tracemill.records import Chain, ChainedCall, Episode, LoggedCall, Site


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


def chains(
    con: duckdb.DuckDBPyConnection, sites: Sequence[Site], asked: Sequence[str], trajectories: Sequence[str]
) -> dict[str, Chain]:
    """By trajectory, those whose every call the log tells, whichever of the `sites` made it, with where answers went.

    A call that none of the templates binds has the conversation for its only value, and no site. Left out is a
    trajectory where that is a call of the sites that are `asked` for, by id, or where a call has no answer, or messages
    that are not in the lake.
    """
    if not trajectories:
        return {}
    names = {"trajectories": list(trajectories)}
    rows = table(con, "load_chains", names).to_pylist()
    given: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for row in table(con, "tools_given", names).to_pylist():
        given[row["trajectory_id"]].append((str(row["tool"]), row["tool_args"]))
    calls: dict[tuple[str, int], ChainedCall] = {}
    for site in sites:
        own = [row for row in rows if row["site_id"] == site.site_id]
        for row, call in zip(own, bound(con, site, own) if own else (), strict=True):
            if call is not None and call.answer:
                calls[_key(row)] = _call(row, site.site_id, call.values, call.answer)
    others = [row for row in rows if _key(row) not in calls]
    for row, said in zip(others, logged(con, others), strict=True):
        if said is not None and said[1] and row["site_id"] not in asked:
            calls[_key(row)] = _call(row, None, {"conversation": list(said[0])}, said[1])
    whole: dict[str, list[ChainedCall | None]] = defaultdict(list)
    for row in rows:
        whole[row["trajectory_id"]].append(calls.get(_key(row)))
    return {
        name: Chain(trajectory_id=name, calls=dataflow.linked(known, given[name]))
        for name, own in whole.items()
        if len(known := [call for call in own if call is not None]) == len(own)
    }


def _key(row: dict[str, Any]) -> tuple[str, int]:
    return row["trajectory_id"], row["step"]


def _call(row: dict[str, Any], site_id: str | None, values: Any, answer: Any) -> ChainedCall:
    return ChainedCall(site_id=site_id, step=row["step"], values=values, answer=tuple(answer))
