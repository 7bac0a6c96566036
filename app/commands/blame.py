"""blame: a candidate's prompt line by line, with the episodes and the number of users behind what it adds."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
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
    told = {one.text: one for one in candidate.support if not one.demonstration}
    own = set(provenance.lines(parent.artifact)) if parent is not None else set()
    rows = [(line, (role, line) not in own, role) for role, line in provenance.lines(candidate.artifact)]
    shown = [one for one in candidate.support if one.demonstration]
    facts = {
        "candidate_id": candidate.candidate_id,
        "optimizer": candidate.optimizer,
        "lines": [
            {"role": role, "line": line, "added": new} | (asdict(told[line]) if new and line in told else {})
            for line, new, role in rows
        ],
        "demonstrations": [asdict(one) for one in shown],
    }
    output.result(facts, Group(*_parts(candidate, rows, told, shown)))


def _parts(
    candidate: Candidate, rows: list[tuple[str, bool, str]], told: Mapping[str, Support], shown: list[Support]
) -> list[RenderableType]:
    head = f"{candidate.candidate_id[:8]}, a prompt of {candidate.optimizer} for site {candidate.site_id[:8]}\n"
    table = RichTable(box=None, padding=(0, 2, 0, 0), show_header=True, header_style="dim")
    table.add_column("users", justify="right", no_wrap=True)
    table.add_column("episodes", no_wrap=True)
    table.add_column("")
    table.add_column("line", overflow="fold")
    rewritten = {_tool(line) for line, new, role in rows if role == "tool" and new}
    for line, new, role in rows:
        if role == "tool" and _tool(line) not in rewritten:
            continue  # as production describes it
        table.add_row(
            *_behind(told.get(line)) if new else ("", ""), "+" if new else "", Text(line, "green" if new else "")
        )
    parts: list[RenderableType] = [Text(head), table]
    if shown:
        parts.append(Text(f"\n{count(len(shown), 'demonstration')}\n", "dim"))
        demos = RichTable(box=None, padding=(0, 2, 0, 0), show_header=False)
        for one in shown:
            demos.add_row(*_behind(one), Text(one.text[:_CHARS], overflow="fold"))
        parts.append(demos)
    if not candidate.support:
        parts.append(Text("\nnothing of it was made from logs", "dim"))
    return parts


def _tool(line: str) -> str:
    return line.partition(":")[0]


def _behind(one: Support | None) -> tuple[str, str]:
    if one is None:
        return "", "not from logs"
    more = len(one.trajectories) - _SHOWN
    ids = " ".join(trajectory[:8] for trajectory in one.trajectories[:_SHOWN])
    return str(one.n_users), ids + (f" +{more}" if more > 0 else "")
