"""What fills the slots of a template: statistics over logged calls, so that nobody has to read them to know a slot."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tracemill.ids import canonical_json
from tracemill.mining.binding import bind_item, fixed_items
from tracemill.mining.calls import Calls, Ints, Sent
from tracemill.records import ChatMessage, Template

SAMPLE = 200
"""The statistics are of so many calls of a version, the latest that were looked at."""
_NAMED = 12
"""Values are named only where a slot has so few that they are kinds of something, and each comes up again."""
_NUMBER = re.compile(r"[+-]?\d[\d,. ]*")
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[T ][\d:.]+(?:Z|[+-]\d\d:?\d\d)?)?|\d{1,2}[./]\d{1,2}[./]\d{2,4}")


def statistics(template: Template, calls: Calls, sent: Sent, rows: Ints) -> str:
    """JSON by slot: `n` values, `distinct` ones, `kind` (number|date|json|line|text|turns), `chars` (median, longest);
    for a conversation `turns` (median, most); `common` (value -> share) where few values come again and again.
    """
    sample = rows[-SAMPLE:]
    before, open_ended, after = fixed_items(template)
    places = [*enumerate(before), *((at - len(after), item) for at, item in enumerate(after))]
    codes = {place: calls.at(sample, place) for place, _ in places}
    sent.fetch({code for found in codes.values() for code in found.tolist()})
    filled: dict[str, list[Any]] = {}
    for place, item in places:
        if all(isinstance(piece, str) for piece in item["content"]):
            continue
        bound = {code: _bound(item, sent.get(code)) for code in set(codes[place].tolist())}
        for code in codes[place].tolist():
            for name, value in bound[code].items():
                filled.setdefault(name, []).append(value)
    summed = {name: _summary(values) for name, values in filled.items()}
    if open_ended:
        turns = sorted((calls.lengths[sample] - len(places)).tolist())
        summed["conversation"] = {"n": len(turns), "kind": "turns", "turns": [turns[len(turns) // 2], turns[-1]]}
    return canonical_json(summed)


def _bound(item: Mapping[str, Any], message: ChatMessage | None) -> dict[str, str]:
    return {} if message is None else bind_item(item, message) or {}


def _summary(values: Sequence[str]) -> dict[str, Any]:
    counts = Counter(values)
    lengths = sorted(map(len, values))
    summary: dict[str, Any] = {
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
