"""How many examples of a property a run looks at: some in the fast tests, all of them in `make test-all`."""

import os


def some(count: int) -> int:
    """A fourth of `count`, unless all examples are wanted."""
    return count if os.environ.get("TRACEMILL_EXAMPLES") == "all" else max(1, count // 4)
