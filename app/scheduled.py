"""The deployed form of the nightly flow: it gets a folder, and reads settings and clock when a run begins."""

from pathlib import Path
from typing import Any

from prefect import flow

from tracemill.app import project, ready
from tracemill.pipelines import flows


@flow(name="tracemill scheduled nightly")
def scheduled_nightly(project_folder: str) -> dict[str, Any]:
    """One night of the project in `project_folder`. Returns the verdicts by candidate id."""
    config = project.load(Path(project_folder))
    ready.demand(config)
    with project.open_lake(config) as lake:
        report = flows.nightly(project.night(config, lake))
    return {decision.candidate_id: decision.verdict for decision in report.decisions}
