"""What a reward model that learns nothing from labels has in common with the others."""

from typing import Self

import duckdb


class Unfitted:
    """A reward model without weights: nothing to fit, nothing to keep."""

    __slots__ = ()

    @property
    def state(self) -> None:
        return None

    def fit(self, con: duckdb.DuckDBPyConnection, *, now_ns: int) -> Self:
        return self
