"""Journeys: every episode of the learn pool as a sequence of integers, read from the lake once.

A *step* is one model or tool call. An *act* is what was called and whether it went wrong: the alphabet of paths. A
*move* is a step that says where an episode went: every step but a model call that went well and was followed by a tool,
because the tool tells what the model decided.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tracemill.chat import FAILED_ANSWER

Ints = npt.NDArray[np.int64]
Small = npt.NDArray[np.int32]
Hashes = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

_OFTEN = 10
"""A shape of arguments or an observation that fewer steps have is none of the alphabet."""
_LOOKED_AT = 250_000
"""About so many steps are looked at to name shapes and observations; what a finding needs occurs far more often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """What a step calls: a tool, a retriever, or the model at a call site."""

    agent: str
    kind: str
    name: str
    """Of a model call its site; "" where it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Journeys:
    """Arrays over episodes (`…_ep`), steps (`…_st`, in order, episode by episode)."""

    con: duckdb.DuckDBPyConnection
    agents: Sequence[str]
    agent_ep: Small
    task_ep: Small
    """Number of the episode's task cluster; a cluster belongs to one agent."""
    failed_ep: npt.NDArray[np.int8]
    """1 it failed, 0 it went well, -1 nobody knows."""
    sure_ep: Floats
    """How much that counts: below 1 where it is the word of users who vote on everything."""
    session_ep: Small
    user_ep: Small
    began_ep: Ints
    """Start of the episode's session; -1 where undated. Where the logs are undated, a number drawn from its task."""
    dated: bool
    start_ep: Ints
    cost_ep: Floats
    length_ep: Small
    """Moves of the episode."""
    tools: Sequence[Tool]
    names: Mapping[tuple[str, int], tuple[str, str, str]]
    """(shape|observation, code) → agent, tool, text."""
    u_st: Small
    tool_st: Small
    is_tool_st: Bools
    failed_st: Bools
    cut_st: Bools
    call_st: Hashes
    observation_hash_st: Hashes
    shape_st: Small
    """Code of the shape of a tool call's arguments; -1 where it has none that occurs often."""
    observation_st: Small
    start_st: Ints
    """-1 where not known."""
    end_st: Ints
    move_st: Bools

    @property
    def n(self) -> int:
        return len(self.failed_ep)

    @property
    def act_st(self) -> Small:
        return (self.tool_st * 2 + self.failed_st).astype(np.int32)

    def describe(self, act: int) -> dict[str, Any]:
        """An act for programs: kind, name, failed."""
        tool = self.tools[act // 2]
        return {"kind": tool.kind, "name": tool.name, "failed": bool(act % 2)}


def query(con: duckdb.DuckDBPyConnection, name: str, params: Mapping[str, Any] | None = None) -> pa.Table:
    """The result of `sql/<name>.sql`."""
    return run(con, name, params).to_arrow_table()


def run(
    con: duckdb.DuckDBPyConnection, name: str, params: Mapping[str, Any] | None = None
) -> duckdb.DuckDBPyConnection:
    return con.execute((Path(__file__).parent / "sql" / f"{name}.sql").read_text(encoding="utf-8"), dict(params or {}))


def asked(
    con: duckdb.DuckDBPyConnection, name: str, what: str, rows: pa.Table, params: Mapping[str, Any] | None = None
) -> pa.Table:
    """The result of a query that reads `rows` under the name `what`."""
    con.register(what, rows)
    try:
        return query(con, name, params)
    finally:
        con.unregister(what)


def episodes_of(con: duckdb.DuckDBPyConnection, *, days: int | None, gate: bool) -> None:
    """Makes the temporary table mined_episodes, of the learn pool or of both, and the macros of mining's queries."""
    macros(con)
    run(con, "episodes", {"days": days, "gate": gate})


def macros(con: duckdb.DuckDBPyConnection) -> None:
    """Makes the macros of mining's queries."""
    text = (Path(__file__).parent / "sql/macros.sql").read_text(encoding="utf-8")
    # The body of a macro takes no parameters.
    quoted = "'" + FAILED_ANSWER.replace("'", "''") + "'"
    for statement in con.extract_statements(text.replace("$failed_answer", quoted)):
        con.execute(statement)


def read(con: duckdb.DuckDBPyConnection, *, days: int | None = None) -> Journeys:
    """All episodes of the learn pool, or those of the last `days` days that the lake has.

    Leaves temporary tables on the connection, which later steps of mining read.
    """
    episodes_of(con, days=days, gate=False)
    agents = con.execute("select distinct agent from mined_episodes order by agent").fetchall()
    episodes = query(con, "episode_columns")
    began, dated = _began(episodes)
    steps = query(con, "steps")
    u = _numpy(steps, "u").astype(np.int32)
    is_tool, failed = _numpy(steps, "is_tool").astype(bool), _numpy(steps, "failed").astype(bool)
    tools, tool = _tools(con, _hashes(steps, "tool"), [name for (name,) in agents])
    shape, observation = _hashes(steps, "shape"), _hashes(steps, "observation")
    names = _names(con, shape, observation, len(u), [name for (name,) in agents])
    follows = np.zeros(len(u), dtype=bool)  # a tool of the same episode comes next
    follows[:-1] = (u[1:] == u[:-1]) & is_tool[1:]
    move = is_tool | failed | ~follows
    coded = {}
    for what, hashed in (("shape", shape), ("observation", observation)):
        known = np.array([h for h, *_ in names[what]], dtype=np.uint64)
        coded[what] = _codes(hashed, known)
    return Journeys(
        con=con,
        agents=[name for (name,) in agents],
        agent_ep=_numpy(episodes, "agent_no").astype(np.int32),
        task_ep=_numpy(episodes, "task_no").astype(np.int32),
        failed_ep=_numpy(episodes, "failed").astype(np.int8),
        sure_ep=_floats(episodes, "sure"),
        session_ep=_numpy(episodes, "session").astype(np.int32),
        user_ep=_numpy(episodes, "user_no").astype(np.int32),
        began_ep=began,
        dated=dated,
        start_ep=_times(episodes, "start_ns"),
        cost_ep=_floats(episodes, "cost_usd"),
        length_ep=np.bincount(u[move], minlength=episodes.num_rows).astype(np.int32),
        tools=tools,
        names={(what, code): row[1:] for what in names for code, row in enumerate(names[what])},
        u_st=u,
        tool_st=tool,
        is_tool_st=is_tool,
        failed_st=failed,
        cut_st=_numpy(steps, "cut").astype(bool),
        call_st=_hashes(steps, "call"),
        observation_hash_st=observation,
        shape_st=coded["shape"],
        observation_st=coded["observation"],
        start_st=_times(steps, "start_ns"),
        end_st=_times(steps, "end_ns"),
        move_st=move,
    )


def _began(episodes: pa.Table) -> tuple[Ints, bool]:
    began = _times(episodes, "session_start")
    if np.count_nonzero(began < 0) * 2 <= len(began):
        return began, True
    # Without times there is no later data: tasks are dealt into an order that has nothing to do with how they ended.
    return (_hashes(episodes, "draw") >> np.uint64(2)).astype(np.int64), False


def _tools(con: duckdb.DuckDBPyConnection, hashed: Hashes, agents: Sequence[str]) -> tuple[list[Tool], Small]:
    rows = sorted(query(con, "tool_names").to_pylist(), key=lambda row: (row["agent_no"], row["kind"], row["name"]))
    tools = [Tool(agent=agents[row["agent_no"]], kind=row["kind"], name=row["name"]) for row in rows]
    return tools, _codes(hashed, np.array([row["tool"] for row in rows], dtype=np.uint64))


def _names(
    con: duckdb.DuckDBPyConnection, shape: Hashes, observation: Hashes, n_steps: int, agents: Sequence[str]
) -> dict[str, list[tuple[int, str, str, str]]]:
    """What occurs often, by kind: hash, agent, tool and text, sorted by the latter three."""
    frequent = []
    for hashed in (shape, observation):
        values, counts = np.unique(hashed, return_counts=True)
        frequent.append(values[(counts >= _OFTEN) & (values != 0)])
    every = max(1, n_steps // _LOOKED_AT)
    wanted = pa.table({"hashed": np.concatenate(frequent)})
    rows = asked(con, "shape_names", "frequent", wanted, {"every": every})
    found: dict[str, list[tuple[int, str, str, str]]] = {"shape": [], "observation": []}
    for row in rows.to_pylist():
        found[row["what"]].append((row["hashed"], agents[row["agent_no"]], row["name"], row["text"]))
    return {what: sorted(named, key=lambda one: one[1:]) for what, named in found.items()}


def _codes(hashed: Hashes, known: Hashes) -> Small:
    """The place of each hash among the known ones; -1 where it is none."""
    if not len(known):
        return np.full(len(hashed), -1, dtype=np.int32)
    order = np.argsort(known).astype(np.int32)
    at = np.minimum(np.searchsorted(known[order], hashed), len(known) - 1)
    return np.where(known[order][at] == hashed, order[at], np.int32(-1)).astype(np.int32)


def _numpy(table: pa.Table, name: str) -> npt.NDArray[Any]:
    values: npt.NDArray[Any] = table[name].combine_chunks().to_numpy(zero_copy_only=False)
    return values


def _filled(table: pa.Table, name: str, blank: Any) -> npt.NDArray[Any]:
    values: npt.NDArray[Any] = table[name].fill_null(blank).combine_chunks().to_numpy(zero_copy_only=False)
    return values


def _hashes(table: pa.Table, name: str) -> Hashes:
    """0 where there is none."""
    return _filled(table, name, 0).astype(np.uint64, copy=False)


def _times(table: pa.Table, name: str) -> Ints:
    return _filled(table, name, -1).astype(np.int64, copy=False)


def _floats(table: pa.Table, name: str) -> Floats:
    return _filled(table, name, float("nan")).astype(np.float64, copy=False)
