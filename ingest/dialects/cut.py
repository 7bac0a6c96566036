"""Content that somebody cut or blanked before it was logged: nothing to learn from as if it were whole."""

from tracemill.ingest.reader import Message, RawSpan

_ENDS = ("[truncated]", "<truncated>", "(truncated)", "...[TRUNCATED]", "[TRUNCATED]")
_INSTEAD = frozenset(("<redacted>", "[redacted]", "[REDACTED]", "[sanitized]", "[filtered]", "[Filtered]"))


def is_cut(span: RawSpan) -> bool:
    """Whether a message ends in a mark of truncation, or stands for what was taken out of the log."""
    if "truncated" in span.flags:
        return False
    return any(map(_cut, span.input or ())) or any(map(_cut, span.output or ()))


def _cut(message: Message) -> bool:
    for part in message[2]:
        text = part.get("content", part.get("response"))
        if isinstance(text, str) and (text.endswith(_ENDS) or text in _INSTEAD or text.startswith("[sanitized")):
            return True
    return False
