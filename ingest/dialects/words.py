"""What a span's vocabulary is told by: the names of its attributes, and the scope of its instrumentation."""

from collections.abc import Mapping
from typing import Any


class Words:
    """The names of one span's attributes, quick to search; every dialect asks, for every span."""

    __slots__ = ("_names", "scope")

    def __init__(self, attributes: Mapping[str, Any], scope: str | None) -> None:
        # One text with a line for each name: searching it costs a tenth of asking every name.
        self._names = "\n" + "\n".join(attributes)
        self.scope = scope or ""

    def begin(self, *prefixes: str) -> bool:
        """Whether any name begins with any of these."""
        return any("\n" + prefix in self._names for prefix in prefixes)
