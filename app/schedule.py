"""`tracemill schedule`: the nightly flow as a Prefect deployment that this process serves."""

from pathlib import Path
from typing import Any

from tracemill.app import project
from tracemill.app.commands.learn import quiet_orchestrator
from tracemill.app.output import Output
from tracemill.errors import ConfigError, MissingExtraError


def serve(given: Path | None, *, cron: str, as_json: bool, dry_run: bool) -> None:
    """Serves until stopped; every run reads the settings afresh."""
    config = project.load(given)
    project.open_lake(config).close()
    quiet_orchestrator(config, log_level="WARNING")
    try:
        from prefect.client.schemas.schedules import CronSchedule

        from tracemill.app.scheduled import scheduled_nightly
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] == "prefect":
            raise MissingExtraError("flows", "tracemill schedule") from error
        raise
    try:
        CronSchedule(cron=cron)
    except ValueError as error:
        raise ConfigError(f"--cron {cron!r}: five fields, such as '0 2 * * *' for two o'clock every night") from error
    output = Output(as_json=as_json)
    if dry_run:
        plan = {"project": str(config.root), "cron": cron}
        output.result(plan, f"would run the nightly flow of {config.root} at '{cron}'")
        return
    deployment: Any = scheduled_nightly
    deployment.serve(
        name=config.name, cron=cron, parameters={"project_folder": str(config.root)}, pause_on_shutdown=False
    )
