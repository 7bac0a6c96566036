"""The deployed flow: it gets a folder and runs that project's night as `tracemill nightly` would."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tracemill import client
from tracemill.errors import ConfigError
from tracemill.warehouse import Lake

pytest.importorskip("prefect")

SETTINGS = """
[[sources]]
path = "logs"
[[rewards]]
kind = "feedback"
[[rewards]]
kind = "exact_match"
[endpoint]
base_url = "{url}"
model = "toy"
[optimize]
optimizers = ["labeled_few_shot"]
[gate]
valid_output = "billing|shipping|returns|account"
latency_ratio = 1e6
"""


@pytest.fixture(scope="module", autouse=True)
def orchestrator() -> Iterator[None]:
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


def test_the_scheduled_flow_runs_a_night_of_the_folder_it_is_given(desk: Any, endpoint: Any, tmp_path: Path) -> None:
    from tracemill.app.scheduled import scheduled_nightly

    desk.lake.close()
    (tmp_path / "tracemill.toml").write_text(SETTINGS.format(url=endpoint.url))
    verdicts = scheduled_nightly(str(tmp_path))
    (promoted,) = verdicts
    assert verdicts[promoted] == "PROMOTE"
    with Lake.open(desk.config.lake_path) as lake, lake.reader() as con:
        assert con.execute("SELECT count(*) FROM trajectories").fetchone() == (100,)
        stages = {stage for (stage,) in con.execute("SELECT stage FROM runs WHERE status = 'ok'").fetchall()}
        assert stages >= {"ingest", "score", "mine", "optimize", "gate", "publish"}
        released = con.execute("SELECT bundle_id FROM releases WHERE candidate_id = ?", [promoted]).fetchone()
    live = client.live_prompt(tmp_path / "published" / "production")
    assert released == (live.bundle_id,)
    assert live.messages(ticket="Where is my parcel?")


def test_it_reads_the_settings_when_a_run_begins(desk: Any, tmp_path: Path) -> None:
    from tracemill.app.scheduled import scheduled_nightly

    desk.lake.close()
    (tmp_path / "tracemill.toml").write_text('[optimize]\noptimizers = ["gepa"]\n')
    with pytest.raises(ConfigError, match="reflection_model"):
        scheduled_nightly(str(tmp_path))
