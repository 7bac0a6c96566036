"""Rows on their way into Arrow tables, and what their values must be so that a table can hold them."""

from collections.abc import Iterable, Sequence
from datetime import date
from itertools import repeat
from typing import Any

import pyarrow as pa

MAX_NS = 2**63 - 1
_FLUSH_ROWS = 1024
_TYPES: dict[pa.DataType, type | tuple[type, ...]] = {
    pa.string(): str,
    pa.int64(): int,
    pa.int32(): int,
    pa.float64(): (float, int),
    pa.date32(): date,
}


class Checks:
    """What the values of a row must be so that its table can hold them: known at the row, not when it is written."""

    def __init__(self, schema: pa.Schema) -> None:
        self._plain = [(field.name, _TYPES[field.type]) for field in schema if field.type in _TYPES]
        self._lists = [field.name for field in schema if field.type == pa.list_(pa.string())]

    def check(self, row: dict[str, Any]) -> None:
        """Raises TypeError or OverflowError with the column's name."""
        for name, kind in self._plain:
            value = row.get(name)
            if value is None:
                continue
            if not isinstance(value, kind) or isinstance(value, bool):
                raise TypeError(f"{name} cannot be {type(value).__name__}")
            if isinstance(value, int) and not -MAX_NS <= value <= MAX_NS:
                raise OverflowError(f"{name} is out of range")
            if isinstance(value, str) and not value.isascii():
                value.encode()  # a lone surrogate, which no file can hold
        for name in self._lists:
            for item in row.get(name) or ():
                if not isinstance(item, str):
                    raise TypeError(f"{name} cannot hold {type(item).__name__}")


class Columns:
    """Rows on their way into one table. Memory is the columns' own: Python values become Arrow in blocks."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._checks = Checks(schema)
        self._blocks: list[pa.RecordBatch] = []
        self._open: list[list[Any]] = [[] for _ in schema]
        self.rows = 0

    def add(self, row: dict[str, Any]) -> int:
        """The row's place in the table; columns left out are NULL. Raises what `Checks` raises."""
        self.check(row)
        return self.add_checked([row.get(name) for name in self._schema.names])

    def check(self, row: dict[str, Any]) -> None:
        self._checks.check(row)

    def add_checked(self, row: Sequence[Any]) -> int:
        """As `add`, for values in the order of the columns that are what `Checks` asks for."""
        for column, value in zip(self._open, row, strict=True):
            column.append(value)
        return self._added(1)

    def add_block(self, columns: Iterable[Sequence[Any] | None], rows: int) -> int:
        """As `add_checked`, for several rows by column; None for a column of NULLs. The first one's place."""
        for column, values in zip(self._open, columns, strict=True):
            column += repeat(None, rows) if values is None else values
        return self._added(rows)

    def _added(self, rows: int) -> int:
        place = self.rows
        self.rows += rows
        if len(self._open[0]) >= _FLUSH_ROWS:
            self._flush()
        return place

    def table(self) -> pa.Table:
        self._flush()
        return pa.Table.from_batches(self._blocks, schema=self._schema)

    def _flush(self) -> None:
        if self._open[0]:
            arrays = [pa.array(column, field.type) for column, field in zip(self._open, self._schema, strict=True)]
            self._blocks.append(pa.RecordBatch.from_arrays(arrays, schema=self._schema))
            self._open = [[] for _ in self._schema]
