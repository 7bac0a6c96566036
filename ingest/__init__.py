"""Bytes to canonical rows: finds log files, recognises their format, decodes, redacts, and gives Arrow batches.

Offers
* `find(sources)` → SourceObjects of files, folders, globs and URLs; `reachable(source)`;
* `batches(objects, key=…, now_ns=…, seen=…)` → Batches with the tables spans, messages, scores, ingest_log, quarantine;
* `read_scores(path, on=…, key=…, now_ns=…)` → a Batch of feedback joined on a key;
* `read_tasks(path, key=…, group=…)` → declared tasks;
* `RowMapping`, `MappedRows`: a declared mapping of rows, and its reader, which `batches(…, extra=…)` asks first;
* `Redaction`, `Ruleset`: what is taken out before anything is written; `Limits`: what is too large to be read;
* `FORMATS`, the registry of readers.

The rooms, in the order in which a log goes through them
    source      where logs come from: files, folders, globs, stores behind URLs; decompressed streams of bytes
    formats     one reader a log format, file or package, and their registry; what only one format needs stays there
    providers   what the APIs of model providers say: requests, answers, streams and batches, as spans
    sessions    sessions of coding agents: turns as nodes of a tree, each call with its rebuilt prompt
    otel        spans of OpenTelemetry, whatever envelope they come in
    dialects    attribute vocabularies of those spans, chosen span by span: one file a vocabulary, and their registry
    content     what was said, in every spelling that logs have, as canonical messages and token counts
    redact      secrets and personal data out of everything that is written: nothing leaves ingest without it
    exports     the way out: trajectories as files of other formats, one file a target, and their registry

Beside them, in the same order: `archives` (`zipped`) and `detect` find what a file is, `documents`, `tables` and `runs`
give readers their records, `reader` is what a reader promises, `limits` what is too large for it; `columns`, `tokens`,
`building` and `batching` make redacted, checked batches of what it gave. `catalogue` writes docs/formats.md from the
registries.

Never opens the warehouse.
"""

from tracemill.ingest.batching import BATCH_BYTES, batches, readers
from tracemill.ingest.formats import FORMATS
from tracemill.ingest.limits import Limits
from tracemill.ingest.mapping import MappedRows, RowMapping
from tracemill.ingest.names import Names
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
    "Names",
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
