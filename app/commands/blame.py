"""blame: a candidate's prompt line by line, with the episodes and the number of users behind what it adds."""

from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from tracemill.app import project
from tracemill.app.commands.data import count
from tracemill.app.output import Output
from tracemill.errors import ConfigError
from tracemill.optimize import provenance
from tracemill.pipelines import releasing
from tracemill.records import Candidate, Support

_SHOWN = 3
_CHARS = 300
"""Of a demonstration."""


def blame(given: Path | None, candidate_id: str, *, as_json: bool) -> None:
    output = Output(as_json=as_json)
    with project.opened(given, output) as night:
        candidate = releasing.find_candidate(night, candidate_id)
        parent = None
        with suppress(ConfigError):  # a parent forgotten since: then every line counts as the candidate's own
            parent = releasing.find_candidate(night, candidate.parent_id) if candidate.parent_id else None
    support = [replace(one, site_id=one.site_id or candidate.site_id) for one in candidate.support]
    told = {(one.site_id, one.text): one for one in support if not one.demonstration}
    before = parent.artifact.apart if parent is not None else {}
    own = {(site_id, *line) for site_id, one in before.items() for line in provenance.lines(one)}
    rows = [
        _Row(
            site_id=site_id,
            role=role,
            line=line,
            new=(site_id, role, line) not in own,
            behind=told.get((site_id, line)),
        )
        for site_id, one in candidate.artifact.apart.items()
        for role, line in provenance.lines(one)
    ]
    shown = [one for one in support if one.demonstration]
    facts = {
        "candidate_id": candidate.candidate_id,
        "optimizer": candidate.optimizer,
        "lines": [
            {"site_id": row.site_id, "role": row.role, "line": row.line, "added": row.new}
            | (asdict(row.behind) if row.new and row.behind is not None else {})
            for row in rows
        ],
        "demonstrations": [asdict(one) for one in shown],
    }
    output.result(facts, Group(*_parts(candidate, rows, shown)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A line of a prompt."""

    site_id: str
    role: str
    line: str
    new: bool
    behind: Support | None


def _parts(candidate: Candidate, rows: list[_Row], shown: list[Support]) -> list[RenderableType]:
    sites = list(dict.fromkeys(row.site_id for row in rows))
    what = "a prompt" if len(sites) < 2 else f"{len(sites)} prompts"
    head = f"{candidate.candidate_id[:8]}, {what} of {candidate.optimizer} for site {', '.join(s[:8] for s in sites)}\n"
    parts: list[RenderableType] = [Text(head)]
    for site_id in sites:
        if len(sites) > 1:
            parts.append(Text(f"\nsite {site_id[:8]}\n", "dim"))
        parts.append(_lines([row for row in rows if row.site_id == site_id]))
    if shown:
        parts.append(Text(f"\n{count(len(shown), 'demonstration')}\n", "dim"))
        demos = RichTable(box=None, padding=(0, 2, 0, 0), show_header=False)
        for one in shown:
            where = (str(one.site_id)[:8],) if len(sites) > 1 else ()
            demos.add_row(*_behind(one), *where, Text(one.text[:_CHARS], overflow="fold"))
        parts.append(demos)
    if not candidate.support:
        parts.append(Text("\nnothing of it was made from logs", "dim"))
    return parts


def _lines(rows: list[_Row]) -> RichTable:
    table = RichTable(box=None, padding=(0, 2, 0, 0), show_header=True, header_style="dim")
    table.add_column("users", justify="right", no_wrap=True)
    table.add_column("episodes", no_wrap=True)
    table.add_column("")
    table.add_column("line", overflow="fold")
    rewritten = {_tool(row.line) for row in rows if row.role == "tool" and row.new}
    for row in rows:
        if row.role == "tool" and _tool(row.line) not in rewritten:
            continue  # as production describes it
        marks = (*_behind(row.behind), "+") if row.new else ("", "", "")
        table.add_row(*marks, Text(row.line, "green" if row.new else ""))
    return table


def _tool(line: str) -> str:
    return line.partition(":")[0]


def _behind(one: Support | None) -> tuple[str, str]:
    if one is None:
        return "", "not from logs"
    more = len(one.trajectories) - _SHOWN
    ids = " ".join(trajectory[:8] for trajectory in one.trajectories[:_SHOWN])
    return str(one.n_users), ids + (f" +{more}" if more > 0 else "")
