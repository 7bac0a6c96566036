"""findings: what goes with failure, as a list or one with an episode that shows it; and the report of `mine`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from tracemill.app import project
from tracemill.app.output import Output
from tracemill.errors import ConfigError
from tracemill.mining import process
from tracemill.mining.findings import Found
from tracemill.pipelines.night import Night

_TOP = 10
_CELL, _ACT = 400, 40
_RARELY = 0.02
"""How many times as often is no number to tell where hardly any other fails."""
_SELECT = """
SELECT * FROM findings
ORDER BY status = 'refuted', coverage = 0, status = 'candidate',
    n_with * (failures_with - failures_without) DESC NULLS LAST, finding_id
"""
_STEPS = """
SELECT 'model' AS kind, c.site_id AS name, c.status, coalesce(c.error_message, c.error_type) AS error, NULL AS given,
    c.output_text AS came, s.start_ns, s.seq, s.span_id
FROM llm_calls c JOIN trace_spans s ON s.trace_id = c.trajectory_id AND s.span_id = c.span_id
WHERE c.trajectory_id = $id AND s.trace_id = $id
UNION ALL
SELECT kind, coalesce(tool_name, name), status, coalesce(error_message, error_type), tool_args, tool_result,
    start_ns, seq, span_id
FROM trace_spans WHERE trace_id = $id AND kind IN ('tool', 'retriever')
ORDER BY start_ns NULLS LAST, seq NULLS LAST, span_id
"""


def findings(given: Path | None, words: Sequence[str], *, everything: bool, as_json: bool) -> None:
    """`findings` lists; `findings show ID` opens one."""
    output = Output(as_json=as_json)
    if words and (words[0] != "show" or len(words) != 2):
        raise ConfigError("findings takes nothing, or show and a finding's id: tracemill findings show 3f2a91bc")
    with project.opened(given, output) as night:
        rows = night.select(_SELECT).to_pylist()
        if words:
            row = _one(rows, words[1])
            steps = _steps(night, row)
            output.result(row | {"steps": steps}, opened(row, steps))
            return
    shown = rows if everything else [row for row in rows if row["status"] != "refuted"]
    hidden = len(rows) - len(shown)
    parts: list[RenderableType] = [listed(shown) if shown else Text(_nothing(rows))]
    if hidden:
        parts.append(Text(f"\n{hidden} that later data refuted are left out; --all shows them", "dim"))
    output.result({"findings": shown}, Group(*parts))


def _nothing(rows: Sequence[Mapping[str, Any]]) -> str:
    if rows:
        return "nothing that was found still stands"
    return "nothing was found: either nothing goes with failure, or too few episodes were judged (tracemill mine tells)"


def _one(rows: Sequence[dict[str, Any]], beginning: str) -> dict[str, Any]:
    hits = [row for row in rows if row["finding_id"].startswith(beginning)]
    if len(hits) != 1:
        what = "no finding" if not hits else f"{len(hits)} findings"
        raise ConfigError(f"{what} with an id that begins with {beginning!r}: tracemill findings --all lists them")
    return hits[0]


def _steps(night: Night, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The steps of the first episode that shows it and is still there."""
    for trajectory_id in row["exemplars"] or []:
        with night.lake.reader() as con:
            steps: list[dict[str, Any]] = con.execute(_STEPS, {"id": trajectory_id}).to_arrow_table().to_pylist()
        if steps:
            return [{"trajectory_id": trajectory_id, **step} for step in steps]
    return []


def report(found: Found) -> RenderableType:
    """What a manager reads after mining: what goes with failure, how often, what it costs, where time goes."""
    rows = [row for row in found.findings.to_pylist() if row["status"] != "refuted" and row["coverage"]]
    rows.sort(key=lambda row: (row["status"] != "confirmed", -_excess(row), row["finding_id"]))
    head = f"{found.episodes:,} episodes, {found.steps:,} steps; {found.judged:,} judged"
    if found.judged:
        head += f", {found.failed / found.judged:.0%} of them failed"
    parts: list[RenderableType] = [Text(head)]
    if not found.dated and found.episodes:
        parts.append(
            Text("The logs have no times: patterns are confirmed on other tasks instead of later data.", "dim")
        )
    parts.append(Text())
    if not found.judged:
        parts.append(Text("No episode was judged, so nothing is known of failure: tracemill score judges them."))
    elif rows:
        parts.append(Text("What goes with failure", "bold"))
        parts.append(listed(rows[:_TOP]))
        if len(rows) > _TOP:
            parts.append(Text(f"{len(rows) - _TOP} more: tracemill findings", "dim"))
    else:
        parts.append(Text("Nothing goes with failure more than chance allows."))
    slow = bottlenecks(found)
    if slow:
        parts += [Text("\nWhere time goes", "bold"), _grid([(f"{one['share']:.0%}", _edge(one)) for one in slow])]
    ways = [way for way in found.variants.to_pylist() if way["n_judged"]][:5]
    if ways:
        named = process.act_names(found.acts, longest=_ACT)
        parts += [Text("\nCommonest ways", "bold"), _grid([(f"{way['share']:.0%}", _way(named, way)) for way in ways])]
    return Group(*parts)


def data(found: Found) -> dict[str, Any]:
    """The report for programs."""
    named = process.act_names(found.acts, longest=_ACT)
    ways = [
        {
            "agent_name": way["agent_name"] or None,
            "acts": [named[act] for act in way["acts"]],
            **{name: way[name] for name in ("n", "n_judged", "n_failed", "share")},
        }
        for way in found.variants.to_pylist()
    ]
    edges = [
        {
            "agent_name": row["agent_name"] or None,
            "task": " ".join(one for one in found.task_ids[row["task"]] if one) or None,
            "from": named[row["from_act"]],
            "to": named[row["to_act"]],
            **{name: row[name] for name in ("n", "n_success", "n_failure", "wait_s", "run_s")},
        }
        for row in found.graph.to_pylist()
    ]
    return {
        "findings": found.findings.to_pylist(),
        "bottlenecks": bottlenecks(found),
        "variants": ways,
        "graph": edges,
    }


def _excess(row: Mapping[str, Any]) -> float:
    """Sessions that failed beyond what comparable ones would have."""
    return float((row["n_with"] or 0) * ((row["failures_with"] or 0.0) - (row["failures_without"] or 0.0)))


def bottlenecks(found: Found, most: int = 5) -> list[dict[str, Any]]:
    """The edges of the graph that most time goes by on: acts as words, seconds waited and run, share of all time."""
    rows = found.graph.to_pylist()
    times: dict[tuple[str, int, int], list[float]] = {}
    for row in rows:
        key = (row["agent_name"], row["from_act"], row["to_act"])
        known = times.setdefault(key, [0.0, 0.0, 0.0])
        known[0] += row["n"]
        known[1] += (row["wait_s"] or 0.0) * row["n"]
        known[2] += (row["run_s"] or 0.0) * row["n"]
    total = sum(wait + run for _, wait, run in times.values())
    if not total:
        return []
    named = process.act_names(found.acts, longest=_ACT)
    ordered = sorted(times.items(), key=lambda one: (-one[1][1] - one[1][2], one[0]))
    return [
        {
            "agent_name": agent or None,
            "from": named[source],
            "to": named[target],
            "n": int(n),
            "wait_s": wait / n,
            "run_s": run / n,
            "share": (wait + run) / total,
        }
        for (agent, source, target), (n, wait, run) in ordered[:most]
    ]


def _edge(one: Mapping[str, Any]) -> str:
    agent = f"{one['agent_name']}: " if one["agent_name"] else ""
    took = f"waits {one['wait_s']:.1f} s, runs {one['run_s']:.1f} s, {one['n']:,} times"
    return f"{agent}{one['from']} → {one['to']}: {took}"


def _way(named: Sequence[str], way: Mapping[str, Any]) -> str:
    agent = f"{way['agent_name']}: " if way["agent_name"] else ""
    names = [named[act] for act in way["acts"]]
    path = " → ".join(names if len(names) <= 8 else [*names[:7], f"… ({len(names)} in all)"])
    return f"{agent}{path}: {way['n_failed'] / way['n_judged']:.0%} of {way['n_judged']:,} failed"


def _grid(rows: Sequence[tuple[str, str]]) -> RichTable:
    grid = RichTable.grid(padding=(0, 2))
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(overflow="fold")
    for left, right in rows:
        grid.add_row(Text(left), Text(right))
    return grid


def listed(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Findings for reading: the pattern, and below it how much it matters."""
    grid = RichTable.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for row in rows:
        body = Text(row["what"], "bold")
        body.append("\n" + _figures(row), "not bold")
        grid.add_row(Text(row["finding_id"][:8], "cyan"), body)
    return grid


def _figures(row: Mapping[str, Any]) -> str:
    said = []
    if row["failures_with"] is not None and row["failures_without"] is not None:
        times = f" ({row['lift']:.1f} times)" if row["lift"] and row["failures_without"] >= _RARELY else ""
        said.append(f"{row['failures_with']:.0%} fail, {row['failures_without']:.0%} of comparable ones{times}")
    said.append(f"{row['coverage'] or 0:.1%} of sessions" if row["coverage"] else "no longer seen")
    if row["n_users"] is not None:
        said.append(f"{row['n_users']:,} users" if row["n_users"] != 1 else "1 user")
    if row["cost_usd_day"] is not None:
        said.append(f"${row['cost_usd_day']:,.2f} a day")
    if row["agent_name"]:
        said.append(row["agent_name"])
    if row["site_id"]:
        said.append(f"site {row['site_id'][:8]}")
    said.append(
        {"candidate": "not yet confirmed", "confirmed": "confirmed on later data"}.get(row["status"], row["status"])
    )
    return " · ".join(said)


def opened(row: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> RenderableType:
    """One finding with all that is known of it, and the steps of an episode that shows it."""
    facts = [
        ("id", row["finding_id"]),
        ("kind", row["kind"]),
        ("status", _figures(row)),
        ("found", _sure("q", row["q_value"])),
        ("later data", _sure("p", row["confirmed_q"]) or "not enough yet"),
        ("tested on", f"{row['n_with'] or 0:,} sessions with it, {row['n_without'] or 0:,} comparable ones without"),
        ("pattern", json.dumps(json.loads(row["pattern"]), ensure_ascii=False)),
        ("feedback", row["feedback"]),
        ("fails in", ", ".join(row["exemplars"] or []) or "–"),
        ("goes well in", ", ".join(row["counter_exemplars"] or []) or "–"),
    ]
    grid = RichTable.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in facts:
        grid.add_row(Text(name), Text(value or "–"))
    parts: list[RenderableType] = [Text(row["what"], "bold"), grid]
    if not steps:
        return Group(*parts, Text("\nits episodes are no longer in the lake", "dim"))
    parts.append(Text(f"\nEpisode {steps[0]['trajectory_id']}", "bold"))
    told = RichTable.grid(padding=(0, 2))
    told.add_column(justify="right", style="dim")
    told.add_column(overflow="fold")
    for number, step in enumerate(steps, start=1):
        failed = step["status"] == "error" or step["error"] is not None
        line = Text("model" if step["kind"] == "model" else step["name"] or "tool", "red" if failed else "cyan")
        if step["given"]:
            line.append(f" {_short(step['given'])}", "not bold default")
        came = step["error"] if failed and step["error"] else step["came"]
        if came:
            line.append(f"\n{'! ' if failed else ''}{_short(came)}", "default")
        told.add_row(str(number), line)
    return Group(*parts, told)


def _sure(letter: str, value: float | None) -> str | None:
    if value is None:
        return None
    return f"{letter} < 0.0001" if value < 0.0001 else f"{letter} = {value:.4f}"


def _short(text: str, limit: int = _CELL) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else f"{flat[: limit - 1]}…"
