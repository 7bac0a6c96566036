"""What fills the slots of a template: statistics over logged calls, so that nobody has to read them to know a slot."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tracemill.ids import canonical_json
from tracemill.mining.binding import bind
from tracemill.mining.calls import Calls, Ints
from tracemill.mining.lake import Messages
from tracemill.records import Template

SAMPLE = 200
"""The statistics are of so many calls of a version, the latest that were looked at."""
_NAMED = 12
"""Values are named only where a slot has so few that they are kinds of something, and each comes up again."""
_NUMBER = re.compile(r"[+-]?\d[\d,. ]*")
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[T ][\d:.]+(?:Z|[+-]\d\d:?\d\d)?)?|\d{1,2}[./]\d{1,2}[./]\d{2,4}")


def statistics(template: Template, calls: Calls, messages: Messages, rows: Ints) -> str:
    """JSON by slot: `n` values, `distinct` ones, `kind` (number|date|json|line|text|turns), `chars` (median, longest);
    for a conversation `turns` (median, most); `common` (value -> share) where few values come again and again.
    """
    filled: dict[str, list[Any]] = {name: [] for name in template.slots}
    for row in rows[-SAMPLE:].tolist():
        codes = calls.codes[calls.offsets[row] : calls.offsets[row + 1]].tolist()
        ids = [calls.message_ids[code] for code in codes]
        messages.fetch(ids)
        said = [message for message in map(messages.get, ids) if message is not None]
        for name, value in (bind(template, said) or {}).items():
            filled[name].append(value)
    return canonical_json({name: _summary(values) for name, values in filled.items() if values})


def _summary(values: Sequence[Any]) -> dict[str, Any]:
    if not isinstance(values[0], str):
        turns = sorted(len(value) for value in values)
        return {"n": len(values), "kind": "turns", "turns": [turns[len(turns) // 2], turns[-1]]}
    counts = Counter(values)
    lengths = sorted(map(len, values))
    summary = {
        "n": len(values),
        "distinct": len(counts),
        "kind": _kind(list(counts)),
        "chars": [lengths[len(lengths) // 2], lengths[-1]],
    }
    if len(counts) <= _NAMED and len(values) >= 3 * len(counts) and lengths[-1] <= 80:
        summary["common"] = {value: round(n / len(values), 3) for value, n in counts.most_common()}
    return summary


def _kind(values: Sequence[str]) -> str:
    for kind, test in (("date", _DATE.fullmatch), ("number", _NUMBER.fullmatch), ("json", _is_json)):
        if all(test(value.strip()) for value in values):
            return kind
    return "text" if any("\n" in value for value in values) else "line"


def _is_json(text: str) -> bool:
    if text[:1] not in ("{", "["):
        return False
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
