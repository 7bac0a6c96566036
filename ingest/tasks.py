"""Declared tasks: what a benchmark or a team says about the inputs of its agents."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from tracemill.chat import as_text
from tracemill.errors import ConfigError, SourceError
from tracemill.ids import canonical_json
from tracemill.ingest.detect import look
from tracemill.ingest.limits import TooLargeError
from tracemill.ingest.reader import BadRecord, Stream
from tracemill.ingest.source import SourceObject, find
from tracemill.ingest.tables import Row, rows
from tracemill.schema import TASKS


def _declared(source: SourceObject) -> Iterator[Row]:
    try:
        with source.decompressed() as file:
            stream = Stream(name=source.name, file=file)
            stream.start()
            for found in rows(stream, look(stream)):
                if isinstance(found, BadRecord):
                    place = "" if found.line is None else f" in line {found.line}"
                    raise SourceError(source.uri, f"no task{place}: {found.reason}")
                yield found
            if stream.broken is not None:
                raise SourceError(source.uri, stream.broken)
    except TooLargeError as error:
        raise SourceError(source.uri, str(error)) from error


def read_tasks(path: str | Path, *, key: str, group: str | None = None, prefix: str = "") -> pa.Table:
    """Tasks of a JSON lines, CSV or Parquet file with the schema TASKS.

    `key` is the column that names a task as the logs do (text: 7 and "7" are one task), `group` the column whose value
    is the task group. The whole row becomes `attributes`. `prefix` is what the logs' reader puts before a task's name,
    so that the tasks of two benchmarks never meet ("intercode:" for InterCode runs). This file is written by hand, so a
    bad row is an error: ConfigError where a column is missing, SourceError where a row cannot be read or a task is
    declared twice.
    """
    tasks: dict[str, tuple[str | None, str]] = {}
    sources = find([path])
    if len(sources) != 1:
        raise ConfigError(f"{path}: tasks are declared in one file; here are {len(sources)}")
    (source,) = sources
    for line, row in _declared(source):
        if row.get(key) is None:
            raise ConfigError(f"{source.uri}: line {line} has no {key!r}; columns: {', '.join(row)}")
        if group is not None and group not in row and not tasks:
            raise ConfigError(f"{source.uri}: line {line} has no {group!r}; columns: {', '.join(row)}")
        name = prefix + as_text(row[key])
        value = None if group is None else row.get(group)
        try:
            task = (None if value is None else as_text(value), canonical_json(row))
        except ValueError as error:  # NaN: a gold answer that is no number is better told than guessed
            raise SourceError(source.uri, f"task {name!r} in line {line} is no JSON: {error}") from error
        if tasks.setdefault(name, task) != task:
            raise SourceError(source.uri, f"task {name!r} is declared a second time, differently, in line {line}")
    columns = [list(tasks), [task[0] for task in tasks.values()], [task[1] for task in tasks.values()]]
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, TASKS, strict=True)], schema=TASKS)
