"""Feedback files joined on a declared key."""

from pathlib import Path

from tracemill.errors import ConfigError
from tracemill.ingest.building import Building
from tracemill.ingest.detect import look
from tracemill.ingest.formats.feedback import KEYS, judgements
from tracemill.ingest.reader import BadRecord, Stream
from tracemill.ingest.redact import Ruleset
from tracemill.ingest.source import find
from tracemill.records import Batch


def read_scores(path: str | Path, *, on: str, key: bytes, now_ns: int, rules: Ruleset | None = None) -> Batch:
    """The judgements of a feedback file (JSON lines, CSV, Parquet) as one batch, each row joined `on` that column.

    Columns: the key, and any of name, value, label, correction, propensity, confidence, source, version, user, at;
    others become evidence. Booleans are 1 and 0, what is missing is NULL, the source is "human" unless said. A
    correction is a second score named "correction" whose label is the right output. Bad rows are quarantined.
    Raises ConfigError on an unknown key, SourceError on a file that cannot be read.
    """
    if on not in KEYS:
        raise ConfigError(f"scores cannot be joined on {on!r}; known: {', '.join(KEYS)}")
    building = Building(key=key, now_ns=now_ns, rules=rules)
    for source in find([path]):
        building.begin(source, content_hash=source.content_hash)
        with source.decompressed() as file:
            stream = Stream(name=source.name, file=file)
            stream.start()
            head = look(stream)
            building.recognised("feedback", f"feedback joined on {on}")
            if not head.data.strip():
                building.add(BadRecord(reason=stream.broken or "the file is empty"))
            else:
                for item in judgements(stream, head, on):
                    building.add(item)
                if stream.broken is not None:
                    building.add(BadRecord(reason=stream.broken))
        building.end()
    return building.finish()
