"""`tracemill schedule`: the nightly flow as a Prefect deployment that this process serves."""

from pathlib import Path
from typing import Any

from tracemill.app import project
from tracemill.app.commands.learn import quiet_orchestrator
from tracemill.app.output import Output
from tracemill.errors import ConfigError, MissingExtraError


def serve(given: Path | None, *, cron: str, dry_run: bool) -> None:
    """Serves until stopped; every run reads the settings afresh."""
    config = project.load(given)
    project.open_lake(config).close()
    if len(cron.split()) != 5:
        raise ConfigError(f"--cron {cron!r}: five fields, such as '0 2 * * *' for two o'clock every night")
    output = Output(as_json=False)
    if dry_run:
        output.result({}, f"would run the nightly flow of {config.root} at '{cron}'")
        return
    quiet_orchestrator(config)
    try:
        from tracemill.app.scheduled import scheduled_nightly
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] == "prefect":
            raise MissingExtraError("flows", "tracemill schedule") from error
        raise
    deployment: Any = scheduled_nightly
    deployment.serve(
        name=config.name, cron=cron, parameters={"project_folder": str(config.root)}, pause_on_shutdown=False
    )
