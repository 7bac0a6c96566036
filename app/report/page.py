"""The report as one HTML page that needs nothing beside itself."""

from collections.abc import Sequence
from pathlib import Path

from tracemill.app.report import plots
from tracemill.app.report.facts import Answer, Arm, Facts
from tracemill.app.report.rendering import rendered, share


def write(facts: Facts, path: Path) -> Path:
    """Writes the page and returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(facts), encoding="utf-8")
    return path


def render(facts: Facts) -> str:
    from markupsafe import Markup

    values = {
        "facts": facts,
        "summary": summary(facts),
        "gate_plot": Markup(plots.success(facts.gate)) if facts.gate else "",
        "live_plot": Markup(plots.success(facts.live)) if facts.live else "",
        "gate_note": note(facts.gate),
        "live_note": note(facts.live),
        "diff": [(_kind(line), line) for line in facts.diff.splitlines()],
        "arms": [*facts.gate, *facts.live],
        "timeline": Markup(plots.timeline(facts.runs)),
        "answers": [_answer(answer) for answer in facts.answers],
        "releases": _releases(facts),
    }
    return rendered("page.html", values, {"figure": figure, "share": share})


def summary(facts: Facts) -> str:
    """The whole outcome in two sentences."""
    arms = facts.live or facts.gate
    known = [f"{arm.name} {share(arm.mean)} ({share(arm.low)} to {share(arm.high)})" for arm in arms]
    moved = [row for row in facts.releases if row["action"] == "promote"]
    # Shadow channels move too; what counts is the channel that the verdict was about.
    served = {(row["candidate_id"], row["channel"]) for row in moved}
    promoted = [row["optimizer"] for row in facts.decisions if (row["candidate_id"], row["channel"]) in served]
    tail = f"Promoted to production: {promoted[-1]}." if promoted else "Nothing was promoted."
    return f"Success: {', '.join(known) or 'not measured'}. {tail}"


def note(arms: Sequence[Arm]) -> str:
    if not arms:
        return ""
    return f"{arms[0].n} judged cases in {arms[0].groups} groups of near-duplicate wording per bar."


def figure(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _kind(line: str) -> str:
    if line.startswith("@@"):
        return "hunk"
    return {"+": "add", "-": "del"}.get(line[:1], "")


def _answer(answer: Answer) -> dict[str, object]:
    rows = [
        ["–" if value is None else str(value) for value in row.values()]
        for row in answer.table.slice(0, 12).to_pylist()
    ]
    return {
        "question": answer.question,
        "statement": answer.statement,
        "columns": answer.table.column_names,
        "rows": rows,
    }


def _releases(facts: Facts) -> str:
    moved = [f"{row['action']} {row['bundle_id'][:12]} on {row['channel']}" for row in facts.releases]
    return f"Releases: {'; '.join(moved)}." if moved else ""
