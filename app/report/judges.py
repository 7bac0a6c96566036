"""Reports of reward models for people: a table for the terminal, and a page with reliability plots."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from tracemill.app.report.rendering import rendered, share
from tracemill.errors import ConfigError

Report = Mapping[str, Any]
_BAR = 20
_USED = {True: ("used", "green"), False: ("not used", "bold red"), None: ("few labels", "yellow")}


def overview(reports: Mapping[str, Report], sealed: Sequence[str] = ()) -> RenderableType:
    """All models, one a line; then what is wrong, and what the success rate is."""
    table = Table(show_edge=False, header_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("model", overflow="fold")
    table.add_column("")
    for name in ("scored", "labels", "AUC", "groups", "ECE", "kappa", "worst"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, one in reports.items():
        metrics = one["metrics"]
        word, style = _used(name, one, sealed)
        table.add_row(
            name,
            Text(word, style=style),
            f"{one['n']:,}",
            labels(one),
            number(metrics["auc"]),
            number(metrics["pairwise"]["accuracy"]),
            number(metrics["ece"]),
            kappa(metrics),
            number((metrics["worst_slice"] or {}).get("auc")),
        )
    parts: list[RenderableType] = [table]
    said = [Text(f"{name}: {why}", style="red") for name, one in reports.items() for why in one["failures"]]
    said += [Text(why, style="yellow") for why in remarks(reports)]
    parts += [Text(), *said] if said else []
    best = _surest(reports)
    if best is not None:
        parts.append(Text("\n" + success(reports[best], best), style="bold"))
    parts.append(Text("\ntracemill score --report NAME shows one of them in full.", style="dim"))
    return Group(*parts)


def one(report: Report, sealed: Sequence[str] = ()) -> RenderableType:
    """Everything that is known of one model."""
    word, style = _used(report["name"], report, sealed)
    table = Table(show_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim")
    for name, value, meaning in figures(report):
        table.add_row(name, value, meaning)
    parts: list[RenderableType] = [
        Rule(Text(f"{report['name']}  {report['version'][:8]}"), align="left"),
        Text.assemble((word, style), *(f"\n  {why}" for why in report["failures"])),
        Text(),
        table,
    ]
    if report["reliability"]:
        parts += [Text("\nWhat it said, and what was found", style="bold"), _reliability(report)]
    if (told := success(report, report["name"])) != "":
        parts += [Text("\n" + told)]
    return Group(*parts)


def figures(report: Report) -> list[tuple[str, str, str]]:
    """Name, value and meaning of every figure, the absent ones as dashes."""
    metrics = report["metrics"]
    brier, pairs = metrics["brier"] or {}, metrics["pairwise"]
    rows = [
        ("scored", f"{report['n']:,}", f"and {report['n_abstained']:,} abstentions"),
        ("labels", labels(report), f"{metrics['n_good']} of them good"),
        ("AUC", number(metrics["auc"]), "how often a good episode scores above a bad one"),
        ("average precision", number(metrics["pr_auc"]), "area under precision and recall"),
        ("in task groups", number(pairs["accuracy"]), f"the same within a group; {pairs['n']:,} pairs"),
        ("worst slice", number((metrics["worst_slice"] or {}).get("auc")), worst(metrics)),
        ("kappa", kappa(metrics), f"agreement with people / people's own, {metrics['n_two_raters']} labelled twice"),
        ("Brier", number(brier.get("value")), "mean squared error; 0.25 is a coin"),
        (
            "  of it calibration",
            number(brier.get("reliability")),
            f"reliability; resolution {number(brier.get('resolution'))}",
        ),
        ("ECE", number(metrics["ece"]), "calibration error, less what chance gives"),
        ("calibration slope", number(metrics["calibration_slope"]), "1 is right, below 1 too sure"),
        ("flips", share(metrics["flip_rate"]), "with the order that things are shown in"),
        ("drift", number(metrics["psi"]), "PSI of what is new since the report before; above 0.25 much has moved"),
    ]
    rows += [
        (f"above {name}", f"{gap['gap']:+.2f}", f"what it says more than the sealed one, on {gap['n']:,} episodes")
        for name, gap in metrics["sealed_gap"].items()
    ]
    rows += [
        (
            name.replace("_", " "),
            f"{probe['shift']:+.2f}",
            f"bias probe; raised {share(probe['raised'])} of {probe['n']}",
        )
        for name, probe in (metrics["probes"] or {}).items()
    ]
    return rows


def success(report: Report, name: str) -> str:
    """The success rate in one sentence; empty where too few sampled labels tell it."""
    found = report["metrics"]["success"]
    if found is None:
        return ""
    right, plain = found["corrected"], found["labels_only"]
    return (
        f"Success rate of all episodes: {share(right['estimate'])} ({share(right['low'])} to {share(right['high'])}), "
        f"from {right['n']} sampled labels and the scores of {name}. "
        f"The labels alone say {share(plain['estimate'])} ({share(plain['low'])} to {share(plain['high'])}), "
        f"{name} alone {share(found['judged'])}."
    )


def remarks(reports: Mapping[str, Report]) -> list[str]:
    """What the combined score had to do without, beside what the models' own failures tell."""
    said = [why for one in reports.values() for why in one["metrics"]["remarks"]]
    return [why for why in said if not why.endswith("its latest report failed")]


def labels(report: Report) -> str:
    source = "" if report["metrics"]["against"] == "people" else " (env)"
    return f"{report['n_labelled']:,}{source}"


def kappa(metrics: Mapping[str, Any]) -> str:
    ceiling = metrics["kappa_ceiling"]
    return number(metrics["kappa"]) + ("" if ceiling is None else f" / {ceiling:.2f}")


def worst(metrics: Mapping[str, Any]) -> str:
    found = metrics["worst_slice"]
    if found is None:
        return "no slice has enough labels"
    return f"{found['dimension'].replace('_', ' ')} {found['value']}, {found['n']} labels"


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def write(reports: Mapping[str, Report], path: Path, sealed: Sequence[str] = ()) -> Path:
    """Writes the page, which needs nothing beside itself, and returns its path."""
    from markupsafe import Markup

    from tracemill.app.report import plots

    shown = [
        {
            "name": name,
            "version": report["version"][:8],
            "word": _used(name, report, sealed)[0],
            "style": {True: "good", False: "bad", None: "wait"}[report["passed"]],
            "failures": report["failures"],
            "figures": figures(report),
            "success": success(report, name),
            "plot": Markup(plots.reliability(report["reliability"])) if report["reliability"] else "",
        }
        for name, report in reports.items()
    ]
    best = _surest(reports)
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {
        "models": shown,
        "remarks": remarks(reports),
        "success": "" if best is None else success(reports[best], best),
    }
    path.write_text(rendered("judges.html", values), encoding="utf-8")
    return path


def picture(reports: Mapping[str, Report], path: Path) -> Path:
    """Writes the reliability plots as one PNG and returns its path. ConfigError where no model has labels."""
    from tracemill.app.report import plots

    shown = [
        (
            name,
            f"AUC {number(report['metrics']['auc'])}, ECE {number(report['metrics']['ece'])}, {labels(report)} labels",
            report["reliability"],
        )
        for name, report in reports.items()
        if report["reliability"]
    ]
    if not shown:
        raise ConfigError(
            "no reward model was held against labels yet, so there is nothing to plot; see tracemill label"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    plots.reliabilities(shown, path)
    return path


def _used(name: str, report: Report, sealed: Sequence[str]) -> tuple[str, str]:
    """What became of a model, and its colour."""
    if name in sealed and report["passed"] is not False:
        return "sealed", "blue"
    return _USED[report["passed"]]


def _surest(reports: Mapping[str, Report]) -> str | None:
    """Whose scores make the labels go furthest."""

    def width(name: str) -> float:
        right = reports[name]["metrics"]["success"]["corrected"]
        return float(right["high"] - right["low"])

    return min(
        (name for name, one in reports.items() if one["metrics"]["success"] is not None), key=width, default=None
    )


def _reliability(report: Report) -> Table:
    table = Table(show_edge=False, header_style="dim")
    for name in ("said", "found", "labels"):
        table.add_column(name, justify="right")
    table.add_column("█ found, │ said", no_wrap=True)
    for one in report["reliability"]:
        cells = ["█" if (cell + 0.5) / _BAR <= one["found"] else "·" for cell in range(_BAR)]
        cells[min(_BAR - 1, int(one["said"] * _BAR))] = "│"
        table.add_row(number(one["said"]), number(one["found"]), str(one["n"]), "".join(cells))
    return table
