"""Bytes to canonical rows: finds log files, recognises their format, decodes, redacts, and gives Arrow batches.

Offers
* `find(sources)` → SourceObjects of files, folders, globs and URLs; `reachable(source)`;
* `batches(objects, key=…, now_ns=…, seen=…)` → Batches with the tables spans, messages, scores, ingest_log, quarantine;
* `read_scores(path, on=…, key=…, now_ns=…)` → a Batch of feedback joined on a key;
* `read_tasks(path, key=…, group=…)` → declared tasks;
* `RowMapping`, `MappedRows`: a declared mapping of rows, and its reader, which `batches(…, extra=…)` asks first;
* `Redaction`, `Ruleset`: what is taken out before anything is written; `Limits`: what is too large to be read;
* `FORMATS`, the registry of readers. A format is one file in `formats/`; a span vocabulary one file in `dialects/`.

Never opens the warehouse. Nothing leaves this room that was not redacted (`redact/`).
"""

from tracemill.ingest.batching import BATCH_BYTES, batches, readers
from tracemill.ingest.formats import FORMATS
from tracemill.ingest.limits import Limits
from tracemill.ingest.mapping import MappedRows, RowMapping
from tracemill.ingest.reader import Reader
from tracemill.ingest.redact import Redaction, Ruleset
from tracemill.ingest.scores import JoinKey, read_scores
from tracemill.ingest.source import SourceObject, find, reachable
from tracemill.ingest.tasks import read_tasks

__all__ = [
    "BATCH_BYTES",
    "FORMATS",
    "JoinKey",
    "Limits",
    "MappedRows",
    "Reader",
    "Redaction",
    "RowMapping",
    "Ruleset",
    "SourceObject",
    "batches",
    "find",
    "reachable",
    "read_scores",
    "read_tasks",
    "readers",
]
