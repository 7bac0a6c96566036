"""Spans that speak no agent vocabulary: kept as steps of the chain with their attributes verbatim."""

from collections.abc import Mapping
from typing import Any

from tracemill.ingest.attributes import Attributes
from tracemill.ingest.dialects.event import Event
from tracemill.ingest.dialects.words import Words
from tracemill.ingest.reader import About, Item, RawSpan

ABOUT = About(
    title="Any other span",
    maps="Ids, times, status and tree; all attributes verbatim",
    lacks="Everything that only an agent vocabulary says",
)


def speaks(span: RawSpan, attributes: Mapping[str, Any], words: Words) -> bool:
    return True


def fill(span: RawSpan, attributes: Attributes, events: list[Event]) -> list[Item]:
    return []
