"""A command's project: its settings, its lake, and a Night to run stages with."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from tracemill.app import settings
from tracemill.app.output import Output
from tracemill.errors import ConfigError
from tracemill.pipelines.config import Config
from tracemill.pipelines.night import Night
from tracemill.pipelines.progress import Tell, tell_nobody
from tracemill.warehouse import Lake


def load(project: Path | None) -> Config:
    return settings.load(settings.find_project(project))


def open_lake(config: Config) -> Lake:
    """The project's lake; ConfigError with the way out where there is none yet."""
    if not Lake.there(config.lake_place):
        raise ConfigError(f"no lake at {config.lake_place}; make one with: tracemill init --project {config.root}")
    return Lake.open(config.lake_place)


def ensure_lake(config: Config) -> Lake:
    """The project's lake, made on first use."""
    if not Lake.there(config.lake_place):
        return Lake.create(config.lake_place, exist_ok=True)
    return Lake.open(config.lake_place)


def night_id(now_ns: int) -> str:
    """The run's name: when it began, to the microsecond, so that names sort by time and no two are one."""
    seconds, nanoseconds = divmod(now_ns, 10**9)
    stamp = datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%dT%H-%M-%S")
    return f"{stamp}-{nanoseconds // 1000:06d}Z"


def night(config: Config, lake: Lake, tell: Tell = tell_nobody) -> Night:
    """A run that begins now."""
    now = settings.clock()
    if config.ingest.engine == "ray":
        settings.quiet_ray(config.ingest.ray_address)
    return Night(
        night_id=night_id(now),
        config=config,
        lake=lake,
        clock=settings.clock,
        tell=tell,
        environment=settings.environment(),
    )


@contextmanager
def opened(given: Path | None, output: Output) -> Iterator[Night]:
    """A Night of the project with its lake open and progress drawn, for the length of a command."""
    config = load(given)
    with open_lake(config) as lake, output.progress() as tell:
        yield night(config, lake, tell)
