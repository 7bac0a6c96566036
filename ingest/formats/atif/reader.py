"""Documents of the Agent Trajectory Interchange Format (Harbor), versions 1.0 to 1.8: one a file, or one a line.

What a document becomes stands in `document.py`.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tracemill.ingest.documents import Record, each, loads, records
from tracemill.ingest.formats.atif.document import items
from tracemill.ingest.reader import About, Done, Head, Item, Stream

_VERSION = re.compile(r"ATIF-v\d+\.\d+\Z")


class Atif:
    """Reader of ATIF trajectories."""

    name = "atif"
    about = About(
        title="ATIF trajectories (Harbor)",
        files='JSON documents, or lines, with `schema_version` "ATIF-v1.x" and `steps`; 1.8 and earlier',
        maps="Agent steps as calls with tokens and logprobs, results as tool spans, sub-agents as sub-trees; rewards; "
        "the run's totals at its root",
        lacks="Durations; prompts are rebuilt from the steps; sub-agents in files of their own are traces of their own",
    )

    def sniff(self, head: Head) -> str | None:
        found = next((record for record in head.records if _is_document(record)), None)
        return None if found is None else f"{found['schema_version']} documents"

    def read(self, stream: Stream, head: Head) -> Iterator[Item | Done]:
        yield from each(records(stream, head), _items)


def _is_document(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("schema_version"), str)
        and _VERSION.match(value["schema_version"]) is not None
        and isinstance(value.get("steps"), list)
    )


def _items(record: Record) -> Iterator[Item]:
    document = loads(record.raw)
    if not _is_document(document):
        yield record.bad("no ATIF trajectory: schema_version or steps is missing")
        return
    yield from items(document, record.line)
