"""init, collect, ingest: logs in."""

import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import cast, get_args

import pyarrow as pa

from tracemill import ingest as reading
from tracemill.app import project, settings
from tracemill.app.output import Output
from tracemill.errors import ConfigError
from tracemill.pipelines import ingesting, joining, judging
from tracemill.pipelines.config import Config, Engine
from tracemill.warehouse import Lake


def init(folder: Path, *, as_json: bool, dry_run: bool) -> None:
    """A settings file where there is none yet, and a lake where there is none yet."""
    output = Output(as_json=as_json)
    if dry_run:
        config = settings.load(folder.resolve())
        place = config.lake_place
        missing = [path for path in (folder.resolve() / settings.SETTINGS_FILE,) if not path.exists()]
        missing += [] if Lake.there(place) else [place.root]
        text = "\n".join(f"would make {path}" for path in missing) or "would keep everything as it is"
        output.result({"would_make": [str(path) for path in missing]}, text)
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / settings.SETTINGS_FILE
        wrote = not path.exists()
        if wrote:
            path.write_text(settings.TEMPLATE.format(name=folder.resolve().name), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{folder}: cannot write there: {error.strerror or error}") from error
    config = settings.load(folder.resolve())
    made = not Lake.there(config.lake_place)
    project.ensure_lake(config).close()
    output.result(
        {"settings": str(path), "lake": str(config.lake_place), "wrote_settings": wrote, "made_lake": made},
        f"{'Wrote' if wrote else 'Kept'} {path}\n{'Made' if made else 'Kept'} the lake at {config.lake_place}\n"
        "Next: tracemill ingest PATH…, then: "
        "tracemill sql 'SELECT agent_name, model, input_text, output_text FROM llm_calls LIMIT 5'",
    )


def collect(
    given: Path | None, *, host: str | None, port: int | None, token_env: str | None, as_json: bool, dry_run: bool
) -> None:
    """Receives OTLP until stopped. What is not given is as `[collect]` says."""
    from tracemill.app import collect as receiver

    config = project.load(given)
    own = config.collect
    chosen = replace(
        own,
        host=own.host if host is None else host,
        port=own.port if port is None else port,
        token_env=own.token_env if token_env is None else token_env,
    )
    if chosen.max_body_mib > config.limits.record_mib:
        raise ConfigError(
            f"[collect] max_body_mib is {chosen.max_body_mib}, [limits] record_mib only {config.limits.record_mib}: "
            "ingest would refuse what is received"
        )
    token = None
    if chosen.token_env is not None:
        token = settings.environment().get(chosen.token_env)
        if not token:
            raise ConfigError(f"the environment variable {chosen.token_env}, which holds the token, is not set")
    landing = config.landing_path
    plan = {"host": chosen.host, "port": chosen.port, "landing": str(landing), "token": token is not None}
    output = Output(as_json=as_json)
    if dry_run:
        output.result(plan, f"would receive OTLP on {chosen.host}:{chosen.port}, into {landing}")
        return
    if as_json:
        output.result(plan)
        sys.stdout.flush()
    receiver.serve(landing, chosen, token=token)


def ingest(
    given: Path | None,
    sources: Sequence[str],
    *,
    format: str,
    scores: Sequence[Path],
    on: str,
    retry_refused: bool,
    engine: str | None = None,
    workers: int | None = None,
    as_json: bool,
    dry_run: bool,
) -> bool:
    """Takes in the sources given, else those of the settings; then recovers call sites.

    False where something came in and all of it was refused.
    """
    output = Output(as_json=as_json)
    config = _spread(project.load(given), engine, workers)
    if not sources and not scores and not config.sources:
        raise ConfigError("nothing to ingest: give files or folders, or declare [[sources]] in tracemill.toml")
    if dry_run:
        configured = [] if sources or scores else ingesting.configured_sources(config)
        found = reading.find(sources)
        for source in configured:
            found += reading.find([source.path], options=source.options, standing=True)
        listing = [{"uri": one.uri, "size_bytes": one.size_bytes} for one in found]
        lines = [f"would read {one['uri']}" for one in listing] or ["would read nothing: no source has a file yet"]
        output.result({"would_read": listing}, "\n".join(lines))
        return True
    with project.ensure_lake(config) as lake, output.progress() as tell:
        night = project.night(config, lake, tell)
        began, started = night.clock(), perf_counter()
        if sources or scores:
            report = ingesting.take_in(night, sources, format=format, scores=scores, on=on, retry_refused=retry_refused)
        else:
            report = ingesting.take_in_configured(night, retry_refused=retry_refused)
        if report.spans or judging.unmined(night):
            judging.mine(night)
        report = replace(report, seconds=round(perf_counter() - started, 3))
        refused = night.select(_REFUSED, began) if report.quarantined else None
    told = asdict(report)
    if not report.joins:
        del told["joins"]
    collecting = config.landing_path.is_dir() and any(config.landing_path.iterdir())
    output.result(told, _told(report, refused, collecting=collecting))
    return not report.all_refused


def _spread(config: Config, engine: str | None, workers: int | None) -> Config:
    """The settings with what `--engine` and `--workers` say; several workers without an engine are processes."""
    chosen = config.ingest
    if engine is None and workers is not None and chosen.engine == "local":
        engine = "processes"
    if engine is not None and engine not in get_args(Engine):
        raise ConfigError(f"--engine {engine!r}: one of {', '.join(get_args(Engine))}")
    return replace(
        config,
        ingest=replace(
            chosen,
            engine=cast(Engine, engine or chosen.engine),
            workers=chosen.workers if workers is None else workers,
        ),
    )


_REFUSED = """
SELECT reason, count(*) AS n, any_value(source_uri) AS example
FROM quarantine
WHERE ingested_at >= ? OR content_hash IS NULL -- what cannot be opened is tried each time and written down once
GROUP BY reason
ORDER BY n DESC, reason
"""


def _told(report: ingesting.IngestReport, refused: pa.Table | None, *, collecting: bool) -> str:
    """What was taken in, and why the rest was not; then what feedback files and the lake have without the other."""
    joins = [line for join in report.joins for line in joining.told(join)]
    return "\n".join([_taken(report, refused, collecting), *joins])


def _taken(report: ingesting.IngestReport, refused: pa.Table | None, collecting: bool) -> str:
    """The counts, and the three most frequent reasons of refusals, each with a place to look at."""
    if not report.files and not report.spans and not report.scores and not report.quarantined:
        hint = " (tracemill collect hands a file over when it is a minute old.)" if collecting else ""
        return f"Nothing new: what is there is empty or was taken in before.{hint}"
    lines = [
        f"{count(report.files, 'new file')}: {count(report.spans, 'span')}, {count(report.messages, 'message')}, "
        f"{count(report.trajectories, 'trajectory', 'trajectories')}, {count(report.scores, 'score')} "
        f"in {report.seconds:.1f} s"
    ]
    if report.merged:
        lines.append(f"{count(report.merged, 'part')} of spans completed others")
    if report.duplicates:
        lines.append(f"{count(report.duplicates, 'duplicate')} left out")
    if refused is not None:
        lines.append(f"{count(report.quarantined, 'record')} refused:")
        rows = refused.to_pylist()
        lines += [f"  {row['n']} × {_short(row['reason'])}, as in {row['example']}" for row in rows[:3]]
        if len(rows) > 3:
            lines.append(f"  and {count(len(rows) - 3, 'other reason')}")
        lines.append("All of them: tracemill sql 'SELECT source_uri, line, reason FROM quarantine'")
    return "\n".join(lines)


def count(number: int, one: str, many: str | None = None) -> str:
    """`1 file`, `2 files`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def _short(reason: str, limit: int = 120) -> str:
    return reason if len(reason) <= limit else reason[:limit].rstrip(" ,") + " …"
