"""The way out: trajectories as files of other formats. One file per target, one line in the registry.

Exporters are given canonical rows (`Episode`) and give JSON records; reading the lake and writing files is done by
`tracemill.pipelines.exporting`. They stand beside the readers because both spell the same formats: what `atif` and
`otlp` write, `tracemill ingest` takes in again as the same spans.
"""

from tracemill.ingest.exports.atif import AtifExport
from tracemill.ingest.exports.chat import OpenAIExport
from tracemill.ingest.exports.episode import Episode, Exporter
from tracemill.ingest.exports.otlp import OtlpExport
from tracemill.ingest.exports.trl import TrlExport

EXPORTERS: tuple[Exporter, ...] = (AtifExport(), OtlpExport(), OpenAIExport(), TrlExport())

__all__ = ["EXPORTERS", "Episode", "Exporter"]
