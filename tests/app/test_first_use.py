"""The lake is made on first use, by whoever comes first."""

import subprocess
import sys
from pathlib import Path

import pytest

from tracemill.app import project, settings
from tracemill.errors import StoreError

SCRIPT = """
import sys
from pathlib import Path

from tracemill.app import project, settings

with project.ensure_lake(settings.load(Path(sys.argv[1]))) as lake, lake.reader() as con:
    print(lake.key.hex(), con.execute("SELECT count(*) FROM spans").fetchone()[0])
"""


def test_commands_that_begin_at_once_share_one_new_lake(tmp_path: Path) -> None:
    (tmp_path / "tracemill.toml").write_text("")
    begun = [
        subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    told = [process.communicate(timeout=60)[0].strip() for process in begun]
    assert [process.returncode for process in begun] == [0] * 4
    assert len(set(told)) == 1
    assert told[0].endswith(" 0")


def test_a_folder_that_is_still_empty_is_no_lake_and_one_with_data_is_none_to_make_anew(tmp_path: Path) -> None:
    (tmp_path / "tracemill.toml").write_text("")
    config = settings.load(tmp_path)
    data = config.lake_place.local_data
    assert data is not None
    data.mkdir(parents=True)
    with project.ensure_lake(config) as lake, lake.reader() as con:
        assert con.execute("SELECT count(*) FROM spans").fetchone() == (0,)
    (data / "rows.parquet").write_bytes(b"PAR1")
    config.lake_place.sqlite.unlink()
    with pytest.raises(StoreError, match="there is no lake"):
        project.ensure_lake(config)
