"""Putting another value at any place of a JSON value, for tests of what readers do with records of impossible shape."""

from typing import Any


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value inside, that to the whole (empty) first."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, below in inner for found in paths(below, (*path, key)))]


def planted(value: Any, path: tuple[Any, ...], what: Any) -> Any:
    """The value with something else at the end of a path; what is given stays as it was."""
    if not path:
        return what
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = planted(copy[path[0]], path[1:], what)
    return copy
