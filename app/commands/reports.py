"""score --report: how far the reward models can be believed, on the screen or as a page."""

from pathlib import Path
from typing import Any

from tracemill.app import project
from tracemill.app.output import Output
from tracemill.errors import ConfigError, MissingExtraError
from tracemill.rewards import report as reports


def report(
    given: Path | None, name: str | None, *, html: Path | None = None, png: Path | None = None, as_json: bool
) -> None:
    """The latest report of every reward model, or all of one model's."""
    from tracemill.app.report import judges

    output = Output(as_json=as_json)
    config = project.load(given)
    sealed = config.combined.sealed
    with project.open_lake(config) as lake, lake.reader() as con:
        latest = reports.latest(con)
    if not latest:
        raise ConfigError("no reward model has a report yet; tracemill score makes them")
    if name is not None and name not in latest:
        raise ConfigError(f"no report of {name!r}; there are reports of {', '.join(latest)}")
    chosen = latest if name is None else {name: latest[name]}
    facts: dict[str, Any] = {"reports": list(chosen.values())}
    try:
        if html is not None:
            facts["html"] = str(judges.write(chosen, html, sealed))
        if png is not None:
            facts["png"] = str(judges.picture(chosen, png))
    except ModuleNotFoundError as error:
        raise MissingExtraError("report", "tracemill score --html and --png") from error
    for written in ("html", "png"):
        if written in facts:
            output.remark(f"written: {facts[written]}")
    output.result(facts, judges.overview(latest, sealed) if name is None else judges.one(latest[name], sealed))
