"""sql: questions answered, on the screen or into a file; at a snapshot, or as a night saw the lake."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa

from tracemill.app import project, tables
from tracemill.app.commands.data import count
from tracemill.app.output import Output
from tracemill.errors import ConfigError, TracemillError
from tracemill.warehouse import Lake
from tracemill.warehouse import sql as queries

_FORMATS = ("table", "json", "csv", "parquet")


def sql(
    given: Path | None,
    query: str | None,
    *,
    format: str | None,
    output: Path | None,
    snapshot: int | None,
    night: str | None,
    timeout_s: float | None,
    attach: bool,
) -> None:
    """Answers one query; without one, reads SQL from stdin or asks for it line by line.

    Without a format it is the one that the output file's name ends in, else a table. `attach` answers none, and tells
    what other DuckDB clients run to have the lake before them.
    """
    format = format or ("table" if output is None else output.suffix.removeprefix(".").lower())
    if format not in _FORMATS:
        raise ConfigError(f"--format {format!r}: one of {', '.join(_FORMATS)}")
    if output is not None and format == "table":
        raise ConfigError("--output wants --format json, csv or parquet")
    if output is None and format == "parquet":
        raise ConfigError("--format parquet needs --output FILE")
    if snapshot is not None and night is not None:
        raise ConfigError("--snapshot and --night both say when: give one of them")
    if timeout_s is not None and timeout_s <= 0:
        raise ConfigError(f"--timeout {timeout_s:g}: give seconds, more than 0")
    if attach and query is not None:
        raise ConfigError("--attach prints what other DuckDB clients run, and answers no query")
    with project.open_lake(project.load(given)) as lake:
        if night is not None:
            snapshot = queries.night_snapshot(lake, night)
        if attach:
            sys.stdout.write(queries.attachment(lake, snapshot=snapshot))
            return
        if query is None and sys.stdin.isatty():
            _prompt(lake, format=format, snapshot=snapshot, timeout_s=timeout_s)
            return
        text = query if query is not None else sys.stdin.read()
        if not text.strip():
            raise ConfigError("no SQL was given; try: tracemill sql 'SHOW TABLES'")
        with queries.stream(lake, text, snapshot=snapshot, timeout_s=timeout_s) as answer:
            _show(answer, format=format, output=output)


def _prompt(lake: Lake, *, format: str, snapshot: int | None, timeout_s: float | None) -> None:
    # Its import gives input() a history and arrow keys.
    with suppress(ImportError):
        import readline  # noqa: F401

    print(
        "SQL over the lake, read-only. End a statement with ';', leave with Ctrl-D. SHOW TABLES; lists what is there."
    )
    lines: list[str] = []
    while True:
        try:
            lines.append(input("tracemill> " if not lines else "       ..> "))
            said = "\n".join(lines).strip()
            if said.rstrip(";").lower() in ("exit", "quit", ".exit", ".quit", "\\q"):
                return
            if said.strip(";") == "":
                lines.clear()
            elif said.endswith(";"):
                lines.clear()
                with queries.stream(lake, said, snapshot=snapshot, timeout_s=timeout_s) as answer:
                    _show(answer, format=format, output=None)
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print()
            lines.clear()
        except TracemillError as error:
            print(f"Error: {error}", file=sys.stderr)


def _show(answer: queries.Answer, *, format: str, output: Path | None) -> None:
    """An answer in the wanted form, on stdout or into a file, which takes its name when all of it is there."""
    if output is None:
        if format == "table":
            Output(as_json=False).result({}, tables.Rows(*_first(answer)))
        elif format == "csv":
            _write_csv(answer, sys.stdout.buffer)
        else:
            for text in tables.as_json(answer.schema.names, _parts(answer)):
                sys.stdout.write(text)
        return
    with _arriving(output) as path:
        if format == "parquet":
            rows = _write_parquet(answer, path)
        elif format == "csv":
            rows = _write_csv(answer, path)
        else:
            rows = _write_json(answer, path)
    Output(as_json=False).remark(f"{count(rows, 'row')} in {output}")


def _first(answer: queries.Answer) -> tuple[pa.Table, bool]:
    """As many rows as are shown, and whether there are more."""
    found: list[pa.RecordBatch] = []
    while sum(batch.num_rows for batch in found) <= tables.SHOWN_ROWS:
        batch = next(answer.batches, None)
        if batch is None:
            return pa.Table.from_batches(found, answer.schema), False
        found.append(batch)
    return pa.Table.from_batches(found, answer.schema).slice(0, tables.SHOWN_ROWS), True


def _parts(answer: queries.Answer) -> Iterator[pa.Table]:
    for batch in answer.batches:
        yield pa.Table.from_batches([batch], answer.schema)


def _write_csv(answer: queries.Answer, sink: object) -> int:
    import pyarrow.csv as pc

    rows = 0
    with pc.CSVWriter(sink, tables.flat(answer.schema.empty_table()).schema) as writer:
        for part in _parts(answer):
            writer.write_table(tables.flat(part))
            rows += part.num_rows
    return rows


def _write_parquet(answer: queries.Answer, path: Path) -> int:
    import pyarrow.parquet as pq

    rows = 0
    with pq.ParquetWriter(path, answer.schema) as writer:
        for part in _parts(answer):
            writer.write_table(part)
            rows += part.num_rows
    return rows


def _write_json(answer: queries.Answer, path: Path) -> int:
    rows = 0

    def counted() -> Iterator[pa.Table]:
        nonlocal rows
        for part in _parts(answer):
            rows += part.num_rows
            yield part

    with path.open("w", encoding="utf-8") as file:
        file.writelines(tables.as_json(answer.schema.names, counted()))
    return rows


@contextmanager
def _arriving(output: Path) -> Iterator[Path]:
    """A file beside `output` that becomes it, or is gone where something fails; a link, a pipe and a device stay."""
    beside = not output.is_symlink() and (output.is_file() or not output.exists())
    path = output.with_name(f".{output.name}.part") if beside else output
    try:
        yield path
        if beside:
            path.replace(output)
    except OSError as error:
        raise ConfigError(f"--output {output}: cannot be written: {error.strerror or error}") from error
    finally:
        if beside:
            with suppress(OSError):
                path.unlink(missing_ok=True)
