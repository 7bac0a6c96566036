"""The report's pictures as SVG text: success with intervals, the tuning scores, and where the night's time went."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tracemill.app.report.facts import Arm
from tracemill.stats import wilson

COLOURS = {"production": "#8a8f98", "best prompt": "#2f6fdb", "best weights": "#1a9a6c"}
STAGES = {"optimize": "#2f6fdb", "train": "#1a9a6c", "gate": "#c4622d"}


def _figure(width: float, height: float) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update(
        {"svg.fonttype": "none", "font.family": "sans-serif", "font.size": 11, "axes.spines.top": False,
         "axes.spines.right": False, "svg.hashsalt": "tracemill"}
    )  # fmt: skip
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    return figure, axes


def _svg(figure: Any) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def success(arms: Sequence[Arm]) -> str:
    """One bar per artifact with its 95 % interval."""
    figure, axes = _figure(5.2, 0.55 * max(1, len(arms)) + 0.75)
    for row, arm in enumerate(reversed(arms)):
        if arm.mean is None or arm.low is None or arm.high is None:
            continue
        colour = COLOURS.get(arm.name, "#666")
        axes.barh(row, arm.mean, color=colour, height=0.56, alpha=0.85)
        axes.plot([arm.low, arm.high], [row, row], color="#1c1f24", linewidth=1.6, solid_capstyle="butt")
        for end in (arm.low, arm.high):
            axes.plot([end, end], [row - 0.13, row + 0.13], color="#1c1f24", linewidth=1.6)
        axes.text(min(arm.high + 0.02, 1.02), row, f"{arm.mean:.0%}", va="center")
    axes.set_yticks(range(len(arms)), [arm.name for arm in reversed(arms)])
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 1.12)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0], ["0", "25 %", "50 %", "75 %", "100 %"])
    axes.set_xlabel("success")
    return _svg(figure)


def timeline(runs: Sequence[Mapping[str, Any]]) -> str:
    """Stages over the night's clock; branches that ran at once lie side by side."""
    figure, axes = _figure(8.4, 0.36 * max(1, len(runs)) + 0.75)
    start = min((run["started_ns"] for run in runs), default=0)
    longest = max((run["ended_ns"] - start for run in runs), default=1) / 1e9
    for row, run in enumerate(reversed(runs)):
        begin, end = (run["started_ns"] - start) / 1e9, (run["ended_ns"] - start) / 1e9
        axes.barh(
            row, max(end - begin, longest / 400), left=begin, color=STAGES.get(run["stage"], "#8a8f98"), height=0.6
        )
        axes.text(end + longest / 100, row, f"{end - begin:.0f} s", va="center", fontsize=9)
    axes.set_yticks(range(len(runs)), [run["stage"] for run in reversed(runs)])
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, longest * 1.08)
    axes.set_xlabel("seconds since the night began")
    return _svg(figure)


def reliability(bins: Sequence[Mapping[str, Any]]) -> str:
    """What scores said against what was found; dots on the line say what they mean. Areas are numbers of labels."""
    figure, axes = _figure(3.4, 3.2)
    _draw_reliability(axes, bins)
    return _svg(figure)


def reliabilities(models: Sequence[tuple[str, str, Sequence[Mapping[str, Any]]]], path: Path) -> None:
    """Writes one picture (PNG) of `reliability` for each model: its name, a line about it, its bins."""
    from matplotlib.figure import Figure

    columns = min(3, len(models))
    rows = -(-len(models) // columns)
    figure = Figure(figsize=(3.6 * columns, 3.9 * rows), layout="constrained", facecolor="#fff")
    panels = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    for axes, (name, about, bins) in zip(panels, models, strict=False):
        _draw_reliability(axes, bins)
        axes.set_title(f"{name}\n{about}", fontsize=10, parse_math=False)
    for axes in panels[len(models) :]:
        axes.set_axis_off()
    figure.savefig(path, format="png", dpi=150)


def _draw_reliability(axes: Any, bins: Sequence[Mapping[str, Any]]) -> None:
    axes.plot([0, 1], [0, 1], color="#c3c7ce", linewidth=1.2, zorder=1)
    most = max(one["n"] for one in bins)
    for one in bins:
        low, high = wilson(one["found"] * one["n"], one["n"])
        axes.plot([one["said"]] * 2, [low, high], color="#2f6fdb", linewidth=1.2, alpha=0.5, zorder=2)
        axes.scatter(
            [one["said"]], [one["found"]], s=18 + 70 * one["n"] / most, color="#2f6fdb", edgecolors="#fff", zorder=3
        )
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.03, 1.03)
    axes.set_aspect("equal")
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_xlabel("said")
    axes.set_ylabel("found")
