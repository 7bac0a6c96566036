"""The lake's files are compressed well: new lakes from their first file on, older ones from their upgrade on."""

from pathlib import Path

import duckdb

from tracemill.warehouse import Lake, engine, layout


def compressions(root: Path) -> set[str]:
    """What the columns of all files are compressed with."""
    found = duckdb.execute(
        "SELECT DISTINCT compression FROM parquet_metadata(?)", [[str(path) for path in root.rglob("*.parquet")]]
    )
    return {row[0] for row in found.fetchall()}


def write(root: Path, rows: int) -> None:
    """More rows than a lake keeps in its catalog."""
    con = engine.connect(root, read_only=False)
    con.execute(f"INSERT INTO trace_days SELECT 't' || range, NULL FROM range({rows})")
    con.close()


def test_files_are_written_with_zstd(tmp_path: Path) -> None:
    Lake.create(tmp_path / "lake").close()
    write(tmp_path / "lake", 1000)
    assert compressions(tmp_path / "lake") == {"ZSTD"}


def test_an_older_lake_writes_zstd_from_its_upgrade_on(tmp_path: Path) -> None:
    root = tmp_path / "lake"
    Lake.create(root).close()
    con = engine.connect(root, read_only=False)
    con.execute("CALL lake.set_option('parquet_compression', 'snappy')")
    con.execute("UPDATE lake_layout SET version = ?", [layout.VERSION - 1])
    con.close()
    write(root, 1000)
    assert compressions(root) == {"SNAPPY"}
    Lake.open(root).close()
    write(root, 1000)
    assert compressions(root) == {"SNAPPY", "ZSTD"}
