"""Reading span attributes: one of several spellings, the right type, flat indexed keys back into lists."""

import base64
import binascii
import json
import re
from datetime import UTC, datetime
from typing import Any

from tracemill.ids import canonical_json, content_id
from tracemill.ingest.documents import unwrap

Attributes = dict[str, Any]
_HEX = re.compile(r"[0-9a-f]+\Z")


def take(attributes: Attributes, *names: str) -> Any:
    """Removes and gives the first of `names` that has a value; the others stay. None where none has."""
    for name in names:
        if attributes.get(name) is not None:
            return attributes.pop(name)
    return None


def take_text(attributes: Attributes, *names: str) -> str | None:
    """As `take`, for text; empty text and values that are no text or number stay where they are."""
    for name in names:
        value = attributes.get(name)
        if isinstance(value, str | int | float) and not isinstance(value, bool) and value != "":
            del attributes[name]
            return str(value)
    return None


def take_int(attributes: Attributes, *names: str) -> int | None:
    """As `take`, for counts; what is no whole number stays where it is."""
    for name in names:
        value = as_int(attributes.get(name))
        if value is not None:
            del attributes[name]
            return value
    return None


def take_float(attributes: Attributes, *names: str) -> float | None:
    for name in names:
        value = as_float(attributes.get(name))
        if value is not None:
            del attributes[name]
            return value
    return None


def take_prefixed(attributes: Attributes, prefix: str) -> Attributes:
    """Removes and gives everything below a prefix, the prefix cut off."""
    names = [name for name in attributes if name.startswith(prefix)]
    return {name[len(prefix) :]: attributes.pop(name) for name in names}


def as_int(value: Any) -> int | None:
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            return None
    return None


def written(value: Any) -> str:
    """Canonical JSON of what a log holds, for ids: NaN and infinities, which JSON has not, as Python writes them."""
    try:
        return canonical_json(value)
    except ValueError:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def identity(*parts: Any) -> str:
    """The content id of what a log holds, whatever its numbers are."""
    try:
        return content_id(*parts)
    except ValueError:
        return content_id(written(parts))


def as_name(value: Any) -> str | None:
    """A text that is not empty; None for everything else."""
    return value if isinstance(value, str) and value else None


def as_float(value: Any) -> float | None:
    """A finite number; None for anything else, NaN included."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if number - number == 0 else None


def as_ns(value: Any) -> int | None:
    """A point in time as UTC nanoseconds: ISO text, or seconds, milli-, micro- or nanoseconds by their size.

    Times without a zone are taken as UTC. None for what is no time between 1970 and 2262.
    """
    found = _iso_ns(value) if isinstance(value, str) and not value.strip().replace(".", "", 1).isdigit() else _ns(value)
    return found if found is not None and 0 < found < 2**63 else None


def _iso_ns(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text.strip())
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1000
    except (ValueError, OverflowError):
        return None


def _ns(value: Any) -> int | None:
    number = as_float(value)
    if number is None:
        return None
    for limit, factor in ((1e11, 1_000_000_000), (1e14, 1_000_000), (1e17, 1000)):
        if number < limit:
            return int(number) * factor + int((number % 1) * factor)
    return as_int(value)


def hex_id(value: Any, n_bytes: int) -> str | None:
    """A trace or span id as lower-case hex, from hex, 0x-hex, a dashed UUID or base64; None where it is none."""
    if isinstance(value, bytes):
        return value.hex() if len(value) == n_bytes and any(value) else None
    if not isinstance(value, str) or not value:
        return None
    plain = value.lower().removeprefix("0x").replace("-", "")
    if len(plain) == 2 * n_bytes and _HEX.match(plain):
        return plain if plain.strip("0") else None
    try:
        raw = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw.hex() if len(raw) == n_bytes and any(raw) else None


def unflatten(flat: Attributes) -> tuple[Any, bool]:
    """`{"0.role": "user", "1.role": …}` as nested lists and objects, and whether an index is missing.

    Indices are numbers (10 comes after 9) even though they are written as text.
    """
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        node = tree
        *path, last = name.split(".")
        for step in path:
            below = node.setdefault(step, {})
            if not isinstance(below, dict):
                below = node[step] = {"": below}
            node = below
        if isinstance(node.get(last), dict) and not isinstance(value, dict):
            node[last][""] = value
        else:
            node[last] = value
    gaps: list[bool] = []
    return _listed(tree, gaps), any(gaps)


def _listed(node: Any, gaps: list[bool]) -> Any:
    if not isinstance(node, dict):
        return node
    if node and all(name.isascii() and name.isdigit() for name in node):
        order = sorted(node, key=int)
        gaps.append([int(name) for name in order] != list(range(len(order))))
        return [_listed(node[name], gaps) for name in order]
    return {name: _listed(below, gaps) for name, below in node.items()}


def take_numbers(attributes: Attributes, *names: str) -> list[Any] | None:
    """A list of numbers, as an array or as JSON text."""
    for name in names:
        value = unwrap(attributes.get(name))
        if isinstance(value, list) and all(isinstance(item, int | float) for item in value):
            del attributes[name]
            return value
    return None
