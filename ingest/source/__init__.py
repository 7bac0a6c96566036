"""Where logs come from: files, folders, globs and URLs become source objects, read as decompressed byte streams."""

from tracemill.ingest.source.finding import find, reachable
from tracemill.ingest.source.objects import BROKEN, SourceObject

__all__ = ["BROKEN", "SourceObject", "find", "reachable"]
