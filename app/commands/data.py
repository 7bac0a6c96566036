"""init, collect, ingest, sql: logs in, questions answered."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
from rich.table import Table as RichTable

from tracemill import ingest as reading
from tracemill.app import project, settings
from tracemill.app.output import Output
from tracemill.errors import ConfigError, QueryError
from tracemill.pipelines import ingesting, judging
from tracemill.warehouse import Lake
from tracemill.warehouse import sql as queries


def init(folder: Path, *, as_json: bool) -> None:
    """A settings file where there is none yet, and a lake where there is none yet."""
    output = Output(as_json=as_json)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / settings.SETTINGS_FILE
        wrote = not path.exists()
        if wrote:
            path.write_text(settings.TEMPLATE.format(name=folder.resolve().name), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{folder}: cannot write there: {error.strerror or error}") from error
    config = settings.load(folder.resolve())
    made = not config.lake_path.exists()
    if made:
        Lake.create(config.lake_path).close()
    else:
        Lake.open(config.lake_path).close()
    output.result(
        {"settings": str(path), "lake": str(config.lake_path), "wrote_settings": wrote, "made_lake": made},
        f"{'Wrote' if wrote else 'Kept'} {path}\n{'Made' if made else 'Kept'} the lake at {config.lake_path}\n"
        "Next: tracemill ingest PATH…, then tracemill sql 'SELECT * FROM llm_calls LIMIT 5'",
    )


def collect(given: Path | None, *, host: str, port: int, token_env: str | None) -> None:
    """Receives OTLP until stopped."""
    from tracemill.app import collect as receiver

    config = project.load(given)
    token = None
    if token_env is not None:
        token = settings.environment().get(token_env)
        if not token:
            raise ConfigError(f"--token-env: the environment variable {token_env} is not set")
    receiver.serve(config.path(".tracemill/landing"), host=host, port=port, token=token)


def ingest(
    given: Path | None,
    sources: Sequence[str],
    *,
    format: str,
    scores: Sequence[Path],
    on: str,
    as_json: bool,
    dry_run: bool,
) -> None:
    """Takes in the sources given, else those of the settings; then recovers call sites."""
    output = Output(as_json=as_json)
    config = project.load(given)
    if not sources and not scores and not config.sources:
        raise ConfigError("nothing to ingest: give files or folders, or declare [[sources]] in tracemill.toml")
    with project.ensure_lake(config) as lake, output.progress() as tell:
        night = project.night(config, lake, tell)
        wanted = list(sources) or ([] if scores else ingesting.configured_sources(night))
        if dry_run:
            listing = [{"uri": one.uri, "size_bytes": one.size_bytes} for one in reading.find(wanted)]
            output.result({"would_read": listing}, "\n".join(f"would read {one['uri']}" for one in listing))
            return
        report = ingesting.take_in(night, wanted, format=format, scores=scores, on=on)
        if report.spans:
            judging.mine(night)
    lines = [
        f"{report.files} new files: {report.spans} spans, {report.messages} messages, "
        f"{report.trajectories} trajectories, {report.scores} scores in {report.seconds:.1f} s",
    ]
    if report.duplicates:
        lines.append(f"{report.duplicates} duplicates left out")
    if report.quarantined:
        lines.append(
            f"{report.quarantined} records refused; see: "
            "tracemill sql 'SELECT source_uri, line, reason FROM quarantine'"
        )
    output.result(asdict(report), "\n".join(lines))


def sql(given: Path | None, query: str | None, *, format: str, output: Path | None, snapshot: int | None) -> None:
    """Answers one query; without one, reads SQL from stdin or asks for it line by line."""
    if format not in ("table", "json", "csv", "parquet"):
        raise ConfigError(f"--format {format!r}: one of table, json, csv, parquet")
    config = project.load(given)
    with project.open_lake(config) as lake:
        if query is None and sys.stdin.isatty():
            _prompt(lake, format=format, snapshot=snapshot)
            return
        text = query if query is not None else sys.stdin.read()
        show(queries.query(lake, text, snapshot=snapshot), format=format, output=output)


def _prompt(lake: Lake, *, format: str, snapshot: int | None) -> None:
    print("SQL over the lake, read-only. End a statement with ';', leave with Ctrl-D.")
    lines: list[str] = []
    while True:
        try:
            lines.append(input("tracemill> " if not lines else "       ..> "))
        except EOFError:
            print()
            return
        if lines[-1].rstrip().endswith(";"):
            try:
                show(queries.query(lake, "\n".join(lines), snapshot=snapshot), format=format, output=None)
            except QueryError as error:
                print(f"Error: {error}", file=sys.stderr)
            lines.clear()


def show(table: pa.Table, *, format: str, output: Path | None) -> None:
    """A result in the wanted form, on stdout or into a file."""
    if format == "parquet":
        if output is None:
            raise ConfigError("--format parquet needs --output FILE")
        import pyarrow.parquet as pq

        pq.write_table(table, output)
        return
    if format == "csv":
        import pyarrow.csv as pc

        flat = pa.table({name: _flat(table.column(name)) for name in table.column_names})
        if output is None:
            pc.write_csv(flat, sys.stdout.buffer)
        else:
            pc.write_csv(flat, output)
        return
    if format == "json":
        values = [list(row.values()) for row in table.to_pylist()]
        text = json.dumps({"columns": table.column_names, "rows": values}, default=str, ensure_ascii=False) + "\n"
    else:
        text = ""
    if output is not None:
        if format == "table":
            raise ConfigError("--output wants --format json, csv or parquet")
        output.write_text(text, encoding="utf-8")
    elif format == "json":
        sys.stdout.write(text)
    else:
        Output(as_json=False).result({}, as_table(table))


def as_table(table: pa.Table, *, limit: int = 200) -> RichTable:
    """At most `limit` rows drawn as a table; NULL is shown as a dash."""
    drawn = RichTable(show_edge=False, header_style="bold")
    for name, kind in zip(table.schema.names, table.schema.types, strict=True):
        drawn.add_column(name, justify="right" if pa.types.is_integer(kind) or pa.types.is_floating(kind) else "left")
    for row in table.slice(0, limit).to_pylist():
        drawn.add_row(*("–" if value is None else _cell(value) for value in row.values()))
    if table.num_rows > limit:
        drawn.caption = f"{limit} of {table.num_rows} rows"
    return drawn


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("[", "\\[")


def _flat(column: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    """CSV knows no lists: they become JSON."""
    if not pa.types.is_nested(column.type):
        return column
    texts = [None if value is None else json.dumps(value, default=str) for value in column.to_pylist()]
    return pa.array(texts, pa.string())
