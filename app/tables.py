"""A query's rows: as JSON and CSV can hold them, and drawn for people, whatever the width.

On a terminal a result that is too wide for a table is drawn row by row, one line per column; nothing is squeezed until
it cannot be read.
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa
from rich.console import Console, ConsoleOptions, RenderResult
from rich.rule import Rule
from rich.table import Table as RichTable
from rich.text import Text

SHOWN_ROWS = 200
TABLE_CELL = 240
BLOCK_CELL = 1_000
PIPE_WIDTH = 200
"""Where there is no terminal whose width could be asked for."""
_SHRUNK = 24
"""A column may be folded to this many characters, and never below its header, before rows are drawn one by one."""


class Rows:
    """Draws a table. NULL is a dash; long cells are cut and say how long they are."""

    def __init__(self, table: pa.Table, more: bool = False) -> None:
        """`more`: there are rows beside these."""
        self._names = table.column_names
        self._kinds = table.schema.types
        self._rows = list(zip(*columns(table), strict=True))
        self._more = more

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width if console.is_terminal else max(options.max_width, PIPE_WIDTH)
        options = options.update(width=width)
        if not self._rows:
            yield Text("no rows")
        elif self._fits(width):
            yield from console.render(self._table(), options)
        else:
            for number, row in enumerate(self._rows, start=1):
                yield from console.render(Rule(f"row {number}", align="left", style="dim"), options.update(width=79))
                yield from console.render(self._block(row), options)
        if self._more:
            yield Text(f"the first {len(self._rows)} rows; --format csv, json or parquet gives all", "dim")

    def _fits(self, width: int) -> bool:
        needed = 0
        for place, name in enumerate(self._names):
            longest = max(
                len(line) for row in self._rows for line in (_cell(row[place], TABLE_CELL).splitlines() or [""])
            )
            needed += max(len(name), min(longest, _SHRUNK)) + 3
        return needed <= width

    def _table(self) -> RichTable:
        drawn = RichTable(show_edge=False, header_style="bold")
        for name, kind in zip(self._names, self._kinds, strict=True):
            drawn.add_column(Text(name), justify="right" if _is_number(kind) else "left", overflow="fold")
        for row in self._rows:
            drawn.add_row(*(Text(_cell(value, TABLE_CELL)) for value in row))
        return drawn

    def _block(self, row: tuple[Any, ...]) -> RichTable:
        drawn = RichTable.grid(padding=(0, 2))
        drawn.add_column(style="bold", no_wrap=True)
        drawn.add_column(overflow="fold")
        for name, value in zip(self._names, row, strict=True):
            drawn.add_row(Text(name), Text(_cell(value, BLOCK_CELL)))
        return drawn


def columns(table: pa.Table) -> list[list[Any]]:
    """Python values by column; several columns may have one name. Times have microseconds."""
    return [_times(column).to_pylist() for column in table.columns]


def as_json(names: Sequence[str], parts: Iterable[pa.Table]) -> Iterator[str]:
    """`{"columns": […], "rows": [[…]]}` on one line, piece by piece.

    Numbers stay numbers; what JSON has no number for is a string.
    """
    yield f'{{"columns": {_dumped(list(names))}, "rows": ['
    between = ""
    for part in parts:
        for row in zip(*columns(part), strict=True):
            yield between + _dumped([_json(value) for value in row])
            between = ", "
    yield "]}\n"


def _dumped(value: Any) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)


def flat(table: pa.Table) -> pa.Table:
    """The same table for CSV, which knows no lists: they become JSON."""
    return pa.table([_flat(column) for column in table.columns], names=table.column_names)


def _times(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Python's times end at microseconds; what is finer would be an error."""
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        return column.cast(pa.timestamp("us", column.type.tz), safe=False)
    return column


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _cell(value: Any, limit: int) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 10_000 or not math.isfinite(value) else f"{value:.0f}"
    text = str(value)
    return text if len(text) <= limit else f"{text[:limit].rstrip()}… ({len(text)} characters)"


def _json(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, list):
        return [_json(one) for one in value]
    if isinstance(value, dict):
        return {key: _json(one) for key, one in value.items()}
    return value


def _flat(column: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    if not pa.types.is_nested(column.type):
        return column
    texts = [None if value is None else json.dumps(_json(value), default=str) for value in column.to_pylist()]
    return pa.array(texts, pa.string())
