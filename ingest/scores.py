"""Feedback files joined on a declared key."""

import re
from dataclasses import dataclass
from pathlib import Path

from tracemill.errors import ConfigError
from tracemill.ingest.building import Building
from tracemill.ingest.detect import look
from tracemill.ingest.formats.feedback import KEYS, judgements
from tracemill.ingest.limits import Limits, TooLargeError
from tracemill.ingest.reader import BadRecord, Stream
from tracemill.ingest.redact import Ruleset
from tracemill.ingest.source import find
from tracemill.records import Batch

INDIRECT = ("task_key", "response_id", "tool_call_id")
"""Keys that name a trajectory or a span by something else than its id; attributes.PATH is one, too."""

_STEP = re.compile(r"[^\s.\"]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinKey:
    """What feedback rows are joined on, and the column of the file that holds it."""

    name: str
    column: str

    @classmethod
    def parse(cls, on: str) -> "JoinKey":
        """Of `key` or `key=column`. Raises ConfigError on an unknown key."""
        name, _, column = on.partition("=")
        path = name.removeprefix("attributes.")
        own = path != name and all(map(_STEP.fullmatch, path.split(".")))
        if not own and name not in KEYS and name not in INDIRECT:
            known = ", ".join((*KEYS, *INDIRECT, "attributes.NAME"))
            raise ConfigError(f"scores cannot be joined on {name!r}; known: {known}")
        return cls(name=name, column=column or path)

    @property
    def direct(self) -> bool:
        """Whether the key is the id of what is judged."""
        return self.name in KEYS

    @property
    def path(self) -> str | None:
        """JSON path into the attributes of a span."""
        steps = self.name.removeprefix("attributes.")
        return None if steps == self.name else "$" + "".join(f'."{step}"' for step in steps.split("."))


def read_scores(
    path: str | Path,
    *,
    on: str,
    key: bytes,
    now_ns: int,
    rules: Ruleset | None = None,
    limits: Limits | None = None,
) -> Batch:
    """The judgements of a feedback file (JSON lines, CSV, Parquet) as one batch, each row joined `on` that key.

    `on` is `key` or `key=column` (JoinKey). Where the key is not the id of what is judged, the batch is not yet fit for
    the lake: the target's kind is the name of the key, its id the key's value as the lake has it, redacted.
    Columns: the key, and any of name, value, label, correction, propensity, confidence, source, version, user, at;
    others become evidence. Booleans are 1 and 0, what is missing is NULL, the source is "human" unless said. A
    correction is a second score named "correction" whose label is the right output. Bad rows are quarantined.
    Raises ConfigError on an unknown key, SourceError on a file that cannot be read.
    """
    join = JoinKey.parse(on)
    building = Building(key=key, now_ns=now_ns, rules=rules, limits=limits)
    for source in find([path]):
        building.begin(source, content_hash=source.content_hash)
        with source.decompressed() as file:
            stream = Stream(name=source.name, file=file, limits=building.limits, stored=source.size_bytes)
            stream.start()
            building.recognised("feedback", f"feedback joined on {join.name}")
            try:
                _judge(building, stream, join)
            except TooLargeError as error:
                building.add(BadRecord(reason=str(error)))
        building.end()
    return building.finish()


def _judge(building: Building, stream: Stream, join: JoinKey) -> None:
    head = look(stream)
    if not head.data.strip():
        building.add(BadRecord(reason=stream.broken or "the file is empty"))
        return
    for item in judgements(stream, head, join.name, join.column):
        building.add(item)
    if stream.broken is not None:
        building.add(BadRecord(reason=stream.broken))
