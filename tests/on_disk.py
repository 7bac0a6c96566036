"""What a file holds, for tests that something is in none: its bytes, and of Parquet its values too.

Compressed text does not show in the bytes of a file; values of rows that were deleted without a rewrite are values.
"""

from pathlib import Path

import pyarrow.parquet as pq


def content(path: Path) -> bytes:
    """The bytes of a file, and behind them the values of a Parquet file as text."""
    held = path.read_bytes()
    if path.suffix != ".parquet":
        return held
    columns = pq.ParquetFile(path).read().to_pydict().values()
    return held + "\n".join(str(value) for values in columns for value in values).encode("utf-8", "surrogatepass")
