"""The way out: chosen trajectories of the lake, written as files of another format.

Everything is read as of one snapshot, a bounded group of trajectories at a time, and the file takes its name only when
it is whole.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import IO, Any, Protocol

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from tracemill.errors import ConfigError, StoreError
from tracemill.ids import content_id
from tracemill.ingest.exports import EXPORTERS, Episode, Exporter
from tracemill.pipelines.progress import Tell, tell_nobody
from tracemill.warehouse import Lake, sql

FORMATS = ("jsonl", "parquet")
_GROUP_SPANS = 5_000
_GROUP_TRAJECTORIES = 1_000
_ROW_GROUP = 1_000
_LISTS = ("system_ids", "input_ids", "output_ids")
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """What was written."""

    target: str
    output: str
    trajectories: int
    """How many were chosen."""
    records: int
    empty: int
    """Trajectories that hold nothing for this target, such as those without a call that may be learned from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """One trajectory that is wanted, and how many spans it has."""

    trajectory_id: str
    n_spans: int


def exporter(target: str, format: str) -> Exporter:
    """The target's exporter. Raises ConfigError where there is none, or where it cannot be written so."""
    found = next((one for one in EXPORTERS if one.name == target), None)
    if found is None:
        raise ConfigError(f"unknown target {target!r}; known: {', '.join(one.name for one in EXPORTERS)}")
    if format not in FORMATS:
        raise ConfigError(f"--format {format!r}: one of {', '.join(FORMATS)}")
    if format == "parquet" and found.table is None:
        tables = ", ".join(one.name for one in EXPORTERS if one.table is not None)
        raise ConfigError(
            f"{target} is no table and cannot be written as Parquet; leave --format away, or use {tables}"
        )
    return found


def choose(lake: Lake, *, where: str | None, traces: Sequence[str], snapshot: int) -> list[Chosen]:
    """The trajectories that a condition on `trajectories` holds for, or those that are named; all without either.

    Raises QueryError where the condition is no condition, ConfigError where a named trajectory is not there.
    """
    if where is not None and traces:
        raise ConfigError("give --where or --trace, not both")
    condition = f"(\n{where}\n)" if where is not None else "true"
    if traces:
        named = ", ".join("'" + one.replace("'", "''") + "'" for one in traces)
        condition = f"trajectory_id IN ({named})"
    rows = sql.query(
        lake,
        f"SELECT trajectory_id, n_spans FROM trajectories WHERE {condition} ORDER BY day, start_ns, trajectory_id",
        snapshot=snapshot,
    ).to_pylist()
    found = [Chosen(trajectory_id=row["trajectory_id"], n_spans=row["n_spans"] or 0) for row in rows]
    missing = set(traces) - {one.trajectory_id for one in found}
    if missing:
        raise ConfigError(f"the lake has no trajectory {', '.join(sorted(missing))}")
    return found


def export(
    lake: Lake,
    target: Exporter,
    output: Path | IO[str],
    *,
    format: str,
    chosen: Sequence[Chosen],
    snapshot: int,
    tell: Tell = tell_nobody,
) -> ExportReport:
    """Writes the trajectories to a file, a folder (one JSON file a record) or an open text stream.

    Raises StoreError where the output cannot be written.
    """
    records = empty = done = 0
    with _sink(target, output, format) as sink:
        for group in _groups(chosen):
            for episode in episodes(lake, [one.trajectory_id for one in group], snapshot=snapshot):
                before = records
                for record in target.records(episode):  # of a long trajectory, OTLP's are many times its size
                    sink.write(episode.trace_id, record)
                    records += 1
                empty += records == before
            done += len(group)
            tell("export", "trajectories", done, len(chosen))
    name = str(output) if isinstance(output, Path) else "-"
    return ExportReport(target=target.name, output=name, trajectories=len(chosen), records=records, empty=empty)


def episodes(lake: Lake, trace_ids: Sequence[str], *, snapshot: int) -> Iterator[Episode]:
    """The trajectories with all that is in them, in the order asked for."""
    with lake.reader(snapshot) as con:
        ids = {"ids": list(trace_ids)}
        days = _rows(con, "export_days", ids)[0]
        span: dict[str, date | None] = {name: days[name] or date(1970, 1, 1) for name in ("first", "last")}
        trajectories = {row["trajectory_id"]: row for row in _rows(con, "export_trajectories", ids)}
        spans = _grouped(_rows(con, "export_spans", ids | span), "trace_id")
        transitions = _grouped(_rows(con, "export_transitions", ids), "trajectory_id")
        of = [(row["trace_id"], row["span_id"]) for rows in spans.values() for row in rows]
        judged = {"traces": [trace for trace, _ in of], "spans": [one for _, one in of]}
        scores = _grouped(_rows(con, "export_scores", ids | judged), "trace_id")
        said = {one for rows in spans.values() for row in rows for one in _message_ids(row)}
        messages = {
            row["message_id"]: (row["role"], row["name"], json.loads(row["parts"] or "[]"))
            for row in _rows(con, "export_messages", {"ids": sorted(said)} | span)
        }
    for trace_id in trace_ids:
        if trace_id in trajectories:
            yield Episode(
                trajectory=trajectories[trace_id],
                spans=spans.get(trace_id, []),
                transitions=transitions.get(trace_id, []),
                scores=scores.get(trace_id, []),
                messages=messages,
            )


def _groups(chosen: Sequence[Chosen]) -> Iterator[list[Chosen]]:
    """Trajectories that are read together: about as many spans as fit well into memory, at least one trajectory."""
    group: list[Chosen] = []
    size = 0
    for one in chosen:
        if group and (size + one.n_spans > _GROUP_SPANS or len(group) >= _GROUP_TRAJECTORIES):
            yield group
            group, size = [], 0
        group.append(one)
        size += one.n_spans
    if group:
        yield group


def _rows(con: duckdb.DuckDBPyConnection, name: str, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of `sql/<name>.sql`."""
    statement = (Path(__file__).parent / "sql" / f"{name}.sql").read_text(encoding="utf-8")
    found: list[dict[str, Any]] = con.execute(statement, dict(parameters)).to_arrow_table().to_pylist()
    return found


def _grouped(rows: list[dict[str, Any]], key: str) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row[key], []).append(row)
    return found


def _message_ids(row: Row) -> Iterator[str]:
    for name in _LISTS:
        yield from row[name] or ()
    if row["tool_definitions_id"] is not None:
        yield row["tool_definitions_id"]


class _Sink(Protocol):
    def write(self, trace_id: str, record: dict[str, Any]) -> None: ...


@dataclass(frozen=True, slots=True)
class _Lines:
    file: IO[str]

    def write(self, trace_id: str, record: dict[str, Any]) -> None:
        self.file.write(_json(record) + "\n")


@dataclass(frozen=True, slots=True)
class _Files:
    """One file a record, named by its trajectory."""

    folder: Path
    taken: dict[str, int]

    def write(self, trace_id: str, record: dict[str, Any]) -> None:
        name = trace_id if _SAFE.fullmatch(trace_id) else content_id(trace_id)
        number = self.taken[name] = self.taken.get(name, 0) + 1
        path = self.folder / (f"{name}.json" if number == 1 else f"{name}.{number}.json")
        with _whole(path) as part, part.open("w", encoding="utf-8") as file:
            file.write(_json(record) + "\n")


class _Table:
    """Parquet, a row group at a time."""

    def __init__(self, writer: pq.ParquetWriter, schema: pa.Schema) -> None:
        self._writer, self._schema = writer, schema
        self._rows: list[dict[str, Any]] = []

    def write(self, trace_id: str, record: dict[str, Any]) -> None:
        self._rows.append(record)
        if len(self._rows) >= _ROW_GROUP:
            self.flush()

    def flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
            self._rows = []


@contextmanager
def _sink(target: Exporter, output: Path | IO[str], format: str) -> Iterator[_Sink]:
    if not isinstance(output, Path):
        yield _Lines(output)
        return
    try:
        if format == "parquet":
            assert target.table is not None
            with _whole(output) as part, pq.ParquetWriter(part, target.table) as writer:
                table = _Table(writer, target.table)
                yield table
                table.flush()
        elif output.is_dir():
            yield _Files(output, {})
        else:
            with _whole(output) as part, part.open("w", encoding="utf-8") as file:
                yield _Lines(file)
    except OSError as error:
        raise StoreError(f"{output} cannot be written: {error.strerror or error}; choose another --output") from error


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A file beside `path` that takes its place when everything was written, and vanishes where it was not."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _json(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
