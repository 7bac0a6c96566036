"""The report for a terminal: the outcome, the verdicts, the diff, the times; the page has the rest."""

from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from tracemill.app.report.facts import Arm, Facts
from tracemill.app.report.page import figure, summary
from tracemill.app.report.rendering import share

_BAR = 11


def render(facts: Facts) -> RenderableType:
    """Everything, top to bottom."""
    parts: list[RenderableType] = [Rule(facts.title), Text(summary(facts), style="bold"), Text()]
    parts.append(arms_table([*facts.gate, *facts.live]))
    for decision in facts.decisions:
        style = {"PROMOTE": "green", "BLOCKED": "red", "REJECT": "red"}.get(str(decision["verdict"]), "yellow")
        parts.append(
            Text.assemble(
                "\n",
                (str(decision["verdict"]), f"bold {style}"),
                f"  {decision['branch']} branch, {decision['optimizer']}: {decision['reason']}",
            )
        )
    if facts.diff:
        lines = facts.diff.splitlines()
        shown = lines[:24] + ([f"… {len(lines) - 24} more lines in the page"] if len(lines) > 24 else [])
        parts += [Text("\nWhat the best prompt changes", style="bold"), Syntax("\n".join(shown), "diff")]
    parts += [Text("\nWhere the time went", style="bold"), stages_table(facts)]
    for answer in facts.answers:
        table = Table(show_edge=False, header_style="dim")
        for name in answer.table.column_names:
            table.add_column(name)
        for row in answer.table.slice(0, 6).to_pylist():
            table.add_row(*("–" if value is None else Text(str(value)) for value in row.values()))
        parts += [Text(f"\n{answer.question}", style="bold"), Text(answer.statement, style="dim"), table]
    return Group(*parts)


def arms_table(arms: list[Arm]) -> Table:
    table = Table(show_edge=False, header_style="bold")
    for name in ("where", "artifact"):
        table.add_column(name, no_wrap=True)
    table.add_column("success", justify="right", no_wrap=True)
    table.add_column("95 %", no_wrap=True)
    table.add_column("", min_width=_BAR, no_wrap=True)
    for name in ("cases", "tokens", "ms"):
        table.add_column(name, justify="right", no_wrap=True)
    for arm in arms:
        table.add_row(
            arm.where,
            arm.name.removeprefix("best "),
            share(arm.mean),
            f"{share(arm.low).rstrip('%')}-{share(arm.high)}",
            bar(arm),
            str(arm.n),
            figure(arm.tokens_in),
            figure(arm.latency_ms),
        )
    return table


def bar(arm: Arm) -> Text:
    """The mean as a filled bar, its interval marked on it."""
    if arm.mean is None or arm.low is None or arm.high is None:
        return Text()
    cells = ["█" if (cell + 0.5) / _BAR <= arm.mean else "·" for cell in range(_BAR)]
    for end, mark in ((arm.low, "├"), (arm.high, "┤")):
        cells[min(_BAR - 1, int(end * _BAR))] = mark
    return Text("".join(cells), style={"best prompt": "blue", "best weights": "green"}.get(arm.name, "white"))


def stages_table(facts: Facts) -> Table:
    table = Table(show_edge=False, header_style="dim")
    table.add_column("stage")
    table.add_column("seconds", justify="right")
    table.add_column("status")
    for run in facts.runs:
        table.add_row(str(run["stage"]), f"{(run['ended_ns'] - run['started_ns']) / 1e9:.1f}", str(run["status"]))
    return table
