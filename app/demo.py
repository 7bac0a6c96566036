"""`tracemill demo`: an agent works, learns from its own night, and works again.

Nothing here is special to the demo but the order of things: the agent is a program that knows nothing of tracemill
(examples/triage_agent), and everything in between is what a user would type: collect, serve-model, nightly, promote.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import tracemill
from tracemill.app import project
from tracemill.app.output import Output
from tracemill.app.processes import until_answers
from tracemill.app.report import facts, page, terminal
from tracemill.errors import ConfigError, TracemillError
from tracemill.warehouse import Lake

MARK = ".tracemill-demo"
DAY1, LAST_DAY, DAY_BETWEEN = (160, 2), (50, 1), (50, 4)
"""Wordings of a day, and tickets of each. Reinforcement learning compares several answers to one wording."""
REVIEWED = 0.7
MINUTES, MINUTES_CONTROL = (6, 15), (4, 10)
"""How long a night with its days takes on two cores, idle and busy; bench/RESULTS.md has what was measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where the demo plays: its folder, the agent's program, and the two servers' ports."""

    folder: Path
    example: Path
    collector: int
    model: int
    output: Output

    def say(self, text: str) -> None:
        self.output.stderr.rule(f"[bold]{text}", align="left")

    def run(self, command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> None:
        """Runs one command in sight of the user. TracemillError where it fails."""
        done = subprocess.run(
            [str(part) for part in command],
            cwd=self.folder,
            env={**os.environ, **(env or {})},
            stdout=sys.stderr if self.output.as_json else None,
            check=False,
        )
        if done.returncode < 0 or done.returncode == 130:
            raise KeyboardInterrupt
        if done.returncode:
            raise TracemillError(f"{' '.join(str(part) for part in command[:4])} … ended with {done.returncode}")

    def tracemill(self, *arguments: str) -> None:
        self.run([sys.executable, "-m", "tracemill", *arguments, "--project", self.folder])


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One artifact that works a day: its name in the logs, its name in the report, and where agents read it."""

    version: str
    label: str
    prompt: Path


def run(folder: Path, *, nights: int, seed: int, permute: bool, as_json: bool) -> None:
    """Plays the whole loop in `folder` and writes `folder/report.html`.

    `permute`: the control, in which reviewers deal their labels at random; it ends after the first night.
    """
    output = Output(as_json=as_json)
    began = time.perf_counter()
    stage = set_up(folder.resolve(), seed, _days(nights), output)
    with model_server(stage):
        stage.say("Day 1: the agent works with the prompt it was shipped with")
        with collector(stage):
            work(stage, "day1", prompt=stage.example / "prompt.json", version="shipped")
        review(stage, "day1", truth="truth.jsonl", rate=REVIEWED, seed=seed, permute=permute)
        stage.say("Night 1: tracemill learns from the logs")
        stage.tracemill("nightly")
        arms = [Arm(version="shipped", label="production", prompt=stage.example / "prompt.json")]
        if permute:
            _report(stage, arms, began)
            return
        arms += _candidates(stage, 1)
        _day(stage, 2, arms, seed)
        for night in range(2, nights + 1):
            stage.say(f"Night {night}: offline reinforcement learning from what the promoted agent logged")
            stage.tracemill("nightly")
            arms += _candidates(stage, night)
            _day(stage, night + 1, arms, seed)
    _report(stage, arms, began)


def plan(folder: Path, *, nights: int, seed: int, permute: bool, as_json: bool) -> None:
    """Tells what `run` would do with the same arguments, and does none of it."""
    folder = folder.resolve()
    _example(folder)
    days = [DAY1] if permute else _days(nights)
    steps = [f"write settings and an empty warehouse in {folder}", "serve SmolLM2-135M on this machine's CPU"]
    for number, (wordings, copies) in enumerate(days, start=1):
        arms = "the shipped prompt" if number == 1 else "production's artifact and those of the night before"
        reviews = f"{REVIEWED:.0%} reviewed" if number == 1 else "all reviewed"
        labels = ", labels dealt at random" if permute else ""
        steps.append(f"day {number}: {wordings} wordings × {copies}, worked with {arms}, {reviews}{labels}")
        if number <= nights:
            steps.append(f"night {number}: tracemill nightly: ingest, score, mine, optimize, train, gate, publish")
    steps.append(f"write {folder / 'report.html'}")
    minutes = MINUTES_CONTROL if permute else (MINUTES[0] * nights, MINUTES[1] * nights)
    facts_of_it = {
        "folder": str(folder),
        "seed": seed,
        "days": [{"day": number, "wordings": day[0], "tickets": day[0] * day[1]} for number, day in enumerate(days, 1)],
        "steps": steps,
        "minutes": list(minutes),
    }
    time_it_takes = f"estimated time: {minutes[0]} to {minutes[1]} minutes on two cores"
    lines = ["would", *(f"  {step}" for step in steps), time_it_takes]
    Output(as_json=as_json).result(facts_of_it, "\n".join(lines))


def _days(nights: int) -> list[tuple[int, int]]:
    """Wordings and tickets of each, by day."""
    return [DAY1, *[DAY_BETWEEN] * (nights - 1), LAST_DAY]


def _example(folder: Path) -> Path:
    """The folder of the demo's agent. ConfigError where the demo cannot be played, or not in `folder`."""
    example = Path(tracemill.__file__).resolve().parents[2] / "examples" / "triage_agent"
    if not (example / "agent.py").is_file():
        raise ConfigError("the demo's agent is not here: run `make demo` in a checkout of tracemill")
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise ConfigError(f"{folder} is not empty and no earlier demo: give another folder")
    return example


def set_up(folder: Path, seed: int, days: Sequence[tuple[int, int]], output: Output) -> Stage:
    """A fresh folder with settings, an empty lake and the tickets of all days (wordings and copies of each)."""
    example = _example(folder)
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()
    stage = Stage(folder=folder, example=example, collector=_free_port(), model=_free_port(), output=output)
    settings = (example / "tracemill.toml").read_text(encoding="utf-8")
    settings = settings.replace("127.0.0.1:8000", f"127.0.0.1:{stage.model}").replace("seed = 0", f"seed = {seed}")
    (folder / "tracemill.toml").write_text(settings, encoding="utf-8")
    for name in ("feedback", "desk"):
        (folder / name).mkdir()
    Lake.create(project.load(folder).lake_place).close()
    sizes, copies = ([str(day[place]) for day in days] for place in (0, 1))
    tickets: list[str | Path] = [sys.executable, example / "tickets.py", "--out", "tickets", "--seed", str(seed)]
    stage.run([*tickets, "--wordings", *sizes, "--copies", *copies])
    return stage


@contextmanager
def model_server(stage: Stage) -> Iterator[None]:
    stage.say("Starting the model server (SmolLM2-135M on this machine's CPU)")
    command = [sys.executable, "-m", "tracemill", "serve-model", "smollm2", "--port", str(stage.model)]
    with _server(stage, command, "model-server.log", f"http://127.0.0.1:{stage.model}/health", patience_s=300):
        yield


@contextmanager
def collector(stage: Stage) -> Iterator[None]:
    command = [sys.executable, "-m", "tracemill", "collect", "--port", str(stage.collector)]
    with _server(stage, command, "collector.log", f"http://127.0.0.1:{stage.collector}/healthz", patience_s=60):
        yield


@contextmanager
def _server(stage: Stage, command: list[str], log: str, health: str, *, patience_s: float) -> Iterator[None]:
    """A tracemill server for the length of the block, stopped in order at its end."""
    with (stage.folder / log).open("ab") as output:
        process = subprocess.Popen(
            [*command, "--project", str(stage.folder)], cwd=stage.folder, stdout=output, stderr=output
        )
    try:
        until_answers(process, health, log=stage.folder / log, patience_s=patience_s)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def work(stage: Stage, tickets: str, *, prompt: Path, version: str) -> None:
    """The agent works through `tickets/NAME.jsonl` and notes what it did in `desk/NAME.jsonl`."""
    stage.run(
        [
            *(sys.executable, stage.example / "agent.py", "--workers", "12"),
            *("--tickets", f"tickets/{tickets}.jsonl", "--out", f"desk/{tickets}.jsonl"),
            *("--prompt", prompt, "--version", version),
        ],
        env={
            "OPENAI_BASE_URL": f"http://127.0.0.1:{stage.model}/v1",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{stage.collector}",
        },
    )


def review(stage: Stage, tickets: str, *, truth: str, rate: float, seed: int, permute: bool = False) -> None:
    stage.run(
        [
            *(sys.executable, stage.example / "reviewer.py", "--rate", str(rate), "--seed", str(seed)),
            *("--desk", f"desk/{tickets}.jsonl", "--out", f"feedback/{tickets}.jsonl", "--truth", f"tickets/{truth}"),
            *(("--permute",) if permute else ()),
        ]
    )


def _day(stage: Stage, day: int, arms: Sequence[Arm], seed: int) -> None:
    """A day of new tickets, worked by every artifact that is to be compared; all of it is reviewed."""
    with collector(stage):
        for arm in arms:
            stage.say(f"Day {day}: new tickets, {arm.label}")
            name = f"day{day}-{arm.version}"
            for source, target in ((f"day{day}", name), ("truth", f"truth-{arm.version}")):
                _rename_sessions(stage.folder / "tickets", source, target, suffix=f".{arm.version}")
            work(stage, name, prompt=arm.prompt, version=arm.version)
            review(stage, name, truth=f"truth-{arm.version}.jsonl", rate=1.0, seed=seed)
    stage.say(f"Taking in day {day}")
    stage.tracemill("ingest")
    stage.tracemill("score")


def _rename_sessions(folder: Path, source: str, target: str, *, suffix: str) -> None:
    """The same tickets as sessions of their own: several artifacts work them, and each is a session."""
    rows = [json.loads(line) for line in (folder / f"{source}.jsonl").read_text(encoding="utf-8").splitlines()]
    lines = [json.dumps({**row, "session_id": row["session_id"] + suffix}) + "\n" for row in rows]
    (folder / f"{target}.jsonl").write_text("".join(lines), encoding="utf-8")


def _candidates(stage: Stage, night: int) -> list[Arm]:
    """The artifacts that reached a night's gate: production reads its channel, the other one a shadow channel."""
    with Lake.open(project.load(stage.folder).lake_place) as lake, lake.reader() as con:
        rows = con.execute(_REACHED_THE_GATE).fetchall()
    arms = []
    for branch, candidate_id, channel in rows:
        version = f"night{night}-{branch}"
        # A shadow channel keeps this arm at its artifact when production moves on.
        stage.tracemill("promote", candidate_id, "--channel", version, "--force")
        place = channel if channel is not None and night == 1 else version
        label = f"best {branch}" if night == 1 else f"best {branch}, night {night}"
        arms.append(Arm(version=version, label=label, prompt=stage.folder / "published" / place))
    return arms


_REACHED_THE_GATE = """
SELECT c.branch, c.candidate_id, r.channel
FROM verdicts v JOIN candidates c USING (candidate_id) LEFT JOIN releases r ON r.verdict_id = v.verdict_id
WHERE v.night_id = (SELECT night_id FROM runs ORDER BY started_ns DESC LIMIT 1)
QUALIFY row_number() OVER (PARTITION BY c.branch ORDER BY r.channel IS NULL, v.delta DESC NULLS LAST) = 1
ORDER BY c.branch
"""
"""Of the newest night, one candidate per branch: the released one, else the better one."""


def _report(stage: Stage, arms: Sequence[Arm], began: float) -> None:
    config = project.load(stage.folder)
    with Lake.open(config.lake_place) as lake:
        found = facts.gather(
            lake,
            title="tracemill demo: an agent that learns from its own night",
            versions={arm.version: arm.label for arm in arms},
        )
    path = page.write(found, stage.folder / "report.html")
    stage.output.result(
        {
            "report": str(path),
            "seconds": round(time.perf_counter() - began, 1),
            "live": {arm.name: {"mean": arm.mean, "low": arm.low, "high": arm.high} for arm in found.live},
            "gate": {arm.name: {"mean": arm.mean, "low": arm.low, "high": arm.high} for arm in found.gate},
            "released": [
                str(row["bundle_id"]) for row in found.releases if row["verdict_id"] and row["channel"] == "production"
            ],
            "verdicts": {str(row["branch"]): str(row["verdict"]) for row in found.decisions},
        },
        terminal.render(found),
    )
    stage.output.stderr.print(f"\nThe whole report: {path}\nAsk more: tracemill sql --project {stage.folder}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
