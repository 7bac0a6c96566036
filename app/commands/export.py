"""`tracemill export`: trajectories as files of other formats."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tracemill.app import project
from tracemill.app.output import Output
from tracemill.errors import ConfigError
from tracemill.pipelines import exporting


def export(
    given: Path | None,
    target: str,
    *,
    output: Path,
    format: str | None,
    where: str | None,
    traces: Sequence[str],
    as_json: bool,
    dry_run: bool,
) -> None:
    """Writes the chosen trajectories to a file, to a folder that is there, or with "-" to stdout."""
    told = Output(as_json=as_json)
    to_stdout = str(output) == "-"
    format = format or ("parquet" if output.suffix == ".parquet" else "jsonl")
    if to_stdout and (format == "parquet" or as_json):
        raise ConfigError("--output - writes the records to stdout: it goes neither with --json nor with Parquet")
    exporter = exporting.exporter(target, format)
    config = project.load(given)
    with project.open_lake(config) as lake, told.progress() as tell:
        snapshot = lake.snapshot_id()
        chosen = exporting.choose(lake, where=where, traces=traces, snapshot=snapshot)
        if dry_run:
            plan = {"target": target, "format": format, "output": str(output), "trajectories": len(chosen)}
            text = f"would write {len(chosen)} trajectories to {output}: {exporter.about}"
            if to_stdout:
                told.remark(text)
            else:
                told.result({"would_write": plan}, text)
            return
        if to_stdout:
            report = exporting.export(
                lake, exporter, sys.stdout, format=format, chosen=chosen, snapshot=snapshot, tell=tell
            )
        else:
            report = exporting.export(
                lake, exporter, output, format=format, chosen=chosen, snapshot=snapshot, tell=tell
            )
    text = f"wrote {report.records} records of {report.trajectories} trajectories to {output}"
    if report.empty:
        text += f"; {report.empty} trajectories hold nothing for {target}"
    if to_stdout:
        told.remark(text)
    else:
        told.result(asdict(report), text)
