"""`tracemill schedule`: the nightly flow as a Prefect deployment that this process serves."""

import asyncio
from contextlib import ExitStack
from pathlib import Path

from tracemill.app import orchestrator, project, ready
from tracemill.app.commands.learn import quiet_orchestrator
from tracemill.app.output import Output
from tracemill.errors import ConfigError, MissingExtraError


def serve(given: Path | None, *, cron: str, as_json: bool, dry_run: bool) -> None:
    """Serves until Ctrl-C or SIGTERM; every run reads the settings afresh.

    The deployment is registered at the Prefect server of PREFECT_API_URL, else at one that is run for it.
    """
    config = project.load(given)
    project.open_lake(config).close()
    ready.demand(config)
    quiet_orchestrator(config, log_level="WARNING")
    try:
        from prefect.client.schemas.schedules import CronSchedule
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] == "prefect":
            raise MissingExtraError("flows", "tracemill schedule") from error
        raise
    try:
        CronSchedule(cron=cron)
    except ValueError as error:
        raise ConfigError(f"--cron {cron!r}: five fields, such as '0 2 * * *' for two o'clock every night") from error
    output = Output(as_json=as_json)
    plan = {"project": str(config.root), "cron": cron}
    if dry_run:
        output.result(plan, f"would run the nightly flow of {config.root} at '{cron}'")
        return
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from tracemill.app.scheduled import server

    with ExitStack() as stack:
        api = PREFECT_API_URL.value()
        if api is None:
            output.remark("Starting the orchestrator …")
            api = stack.enter_context(orchestrator.running(config.work_path / "orchestrator.log"))
            stack.enter_context(temporary_settings({PREFECT_API_URL: api}))
        runner = server(config.name, cron=cron, project_folder=str(config.root))
        output.result({**plan, "api": api}, f"Serving the nightly flow of {config.root} at '{cron}'; Ctrl-C stops it.")
        output.stdout.file.flush()
        try:
            asyncio.run(runner.start())
        except KeyboardInterrupt:
            output.remark("Stopped. Nothing runs until it is served again.")
