"""What tracemill writes beside a foreign format's own words, so that exported spans come back as they were.

An exporter spells a span in the format's words, reads those words back as the format's reader will, and writes down
only the columns that came back otherwise. So each format carries what it can in its own words, and nothing is lost.
"""

from collections.abc import Mapping
from operator import is_
from typing import Any

import msgspec

from tracemill.chat import as_text
from tracemill.ingest.reader import RawSpan

FIELDS = tuple(name for name in RawSpan.__struct_fields__ if name not in ("line", "partial", "resource"))
"""What is carried of a span. Its line is the new file's; its resource stands in the attributes."""
_TEXTS = ("tool_args", "tool_result", "prompt_variables")
"""Columns of text that readers may give as values."""
_LISTS = ("finish_reasons", "flags")
_OBJECTS = ("params", "attributes")


def beyond(span: RawSpan, native: RawSpan) -> dict[str, Any]:
    """The fields of `span` that are not the same in `native`, JSON-ready; its id is always among them."""
    found: dict[str, Any] = {"span_id": span.span_id}
    for name in FIELDS:
        value = _normal(name, getattr(span, name))
        if value != (other := _normal(name, getattr(native, name))) or not _same_types(value, other):
            found[name] = value
    return found


def restored(native: RawSpan, columns: Any) -> RawSpan:
    """The span with what was written down put over it. Raises ValueError where that is no span."""
    if not isinstance(columns, Mapping) or not columns.get("span_id"):
        raise ValueError("what tracemill wrote beside a span names no span")
    known = {name: value for name, value in columns.items() if name in FIELDS}
    given = msgspec.convert({"trace_id": native.trace_id, "span_id": "", "kind": native.kind} | known, RawSpan)
    for name in known:
        setattr(native, name, getattr(given, name))
    return native


def _normal(name: str, value: Any) -> Any:
    if name in _TEXTS:
        return None if value is None else as_text(value)
    if name in _LISTS:
        return list(value or ())
    if name in _OBJECTS:
        return dict(value or {})
    return list(value) if isinstance(value, tuple) else value


def _same_types(one: Any, other: Any) -> bool:
    """Whether values that compare equal are the same JSON: 1, 1.0 and true are not."""
    if one is other:
        return True
    if isinstance(one, dict):
        return all(_same_types(value, other[name]) for name, value in one.items())
    if isinstance(one, list | tuple):  # a prompt mostly holds the very messages of the one before it
        return all(map(is_, one, other)) or all(map(_same_types, one, other))
    return type(one) is type(other)
