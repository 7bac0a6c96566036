"""The deployed form of the nightly flow: it gets a folder, and reads settings and clock when a run begins."""

import signal
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.runner import Runner
from prefect.types.entrypoint import EntrypointType

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


class _Server(Runner):
    """A runner for which SIGTERM is what Ctrl-C is: an orderly end of its loop and of the runs under way."""

    def handle_sigterm(self, *args: Any, **kwargs: Any) -> None:
        signal.raise_signal(signal.SIGINT)


def server(name: str, *, cron: str, project_folder: str) -> Runner:
    """Registers the deployment `name`; the runner, once started, runs it when it comes due, one night at a time."""
    runner = _Server(name=name, pause_on_shutdown=False, limit=1)
    runner.add_flow(
        scheduled_nightly,
        name=name,
        cron=cron,
        parameters={"project_folder": project_folder},
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    return runner
