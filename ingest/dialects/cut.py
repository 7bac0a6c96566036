"""Content that somebody cut or blanked before it was logged: nothing to learn from as if it were whole."""

from tracemill.ingest.content.messages import is_cut as message_is_cut
from tracemill.ingest.reader import RawSpan


def is_cut(span: RawSpan) -> bool:
    """Whether a message ends in a mark of truncation, or stands for what was taken out of the log."""
    if "truncated" in span.flags:
        return False
    return any(map(message_is_cut, span.input or ())) or any(map(message_is_cut, span.output or ()))
