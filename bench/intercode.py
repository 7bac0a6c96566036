"""Does the prompt branch find in real logs what they show: that gpt-3.5 should look at the tables before it writes SQL?

    TRACEMILL_DATA=… python bench/intercode.py [--quick] [--seeds N] [--calls N] [--only NAME …] [--night]
    … python bench/intercode.py --local
    … python bench/intercode.py --url URL --name MODEL [--writer NAME]

The project of examples/intercode_sql is given the zero-shot logs of InterCode-SQL alone: 484 questions that gpt-3.5
answered without the tables (11 % right). Ingest, rewards, mining and the prompt branch are those of a night; a prompt
is tried by running it: an agent may ask how the tables are made, then it has one query, and the database says whether
that gives the gold rows. What each search would send to the gate is then measured on all judged cases of the gate pool,
whose databases no search saw:

    production   the prompt of the logs, which is the bare question
    winner       the prompt that would enter the gate; production's where none would
    ceiling      production's prompt, and the environment shows the tables to everybody

Intervals are 95 %, whole databases resampled. A seed draws the lake's key, and with it which databases teach, tune and
judge, the searches' seed and the writer's luck. By default agent and writer are scripted (harness/logged_sql.py): the
answers are gpt-3.5's own of the two published single-turn runs. `--local` runs the embedded model, `--url` any
OpenAI-compatible server, `--writer` being a model there that writes prompts. `--night` lets `tracemill nightly` judge,
with databases as groups and once more with questions. Prints one JSON object as its last line.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from harness import machine, serving
from harness.logged_sql import AGENT, WRITER, looks_first

from tracemill.app import project
from tracemill.optimize import choosing
from tracemill.optimize.artifact import instructions
from tracemill.optimize.replay import Budget, Ledger
from tracemill.pipelines import branches, finding, gating, grading, ingesting, judging, laddering, learning, replaying
from tracemill.pipelines.endpoint import Endpoint, open_endpoint
from tracemill.pipelines.learning import Lesson
from tracemill.pipelines.night import Night
from tracemill.records import Artifact, Case
from tracemill.stats import Interval, clustered_mean, paired_difference

BENCH = Path(__file__).resolve().parent
EXAMPLE = BENCH.parent / "examples" / "intercode_sql"
sys.path.insert(0, str(EXAMPLE))
import project as example  # noqa: E402 - the example's own script, which is no package

SEARCHES: dict[str, tuple[str, ...]] = {
    "gepa": ("gepa",),
    "apo": ("apo",),
    "playbook": ("playbook",),
    "race": ("nearest", "gepa", "apo", "playbook"),
    "nearest": ("nearest",),
    "labeled_few_shot": ("labeled_few_shot",),
    "logged": ("logged",),
}
WRITE_NOTHING = ("nearest", "labeled_few_shot")
VERDICT = ("verdict", "reason", "baseline_mean", "candidate_mean", "delta", "low", "high", "e_value", "n_clusters")
"""What is told of the gate's decision."""
Rewards = Mapping[str, float]
"""By case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """Rewards of one prompt on the cases that judge, with the databases these ask."""

    rewards: Rewards
    databases: Mapping[str, str]

    def mean(self) -> Interval | None:
        names = sorted(self.rewards)
        return clustered_mean([self.rewards[one] for one in names], [self.databases[one] for one in names])

    def above(self, other: "Side") -> Interval | None:
        """By how much it is better, case by case."""
        names = sorted(self.rewards.keys() & other.rewards.keys())
        return paired_difference(
            [self.rewards[one] for one in names],
            [other.rewards[one] for one in names],
            [self.databases[one] for one in names],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What one search came to."""

    winner: Side
    optimizer: str
    """Who wrote the winner; "" where no prompt would enter the gate."""
    told: str
    """The winner's instructions."""
    looks: bool
    """Whether they say to look at the tables first."""
    calls: int
    candidates: int
    seconds: float
    cpu_s: float
    failed: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """Who answers and who writes: lines of the project's settings."""

    endpoint: str
    writing: Callable[[int], str]
    """By seed."""
    names: tuple[str, ...]
    """The searches that can be run with them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is run."""

    calls: int
    tune: int
    judged: int
    """Cases that judge, at most."""


def prepared(to: Path, data: Path, seed: int, models: Models, size: Size, **more: Any) -> None:
    """A project with the logs taken in, judged and mined; a seed gives the same one again."""
    options = example.Options(
        endpoint=models.endpoint, writing=models.writing(seed), tune=size.tune, calls=size.calls, **more
    )
    example.write(data, to, options)
    (to / "sql_shell.py").unlink()  # one process imports it once, from the example, for all projects
    settings = to / "tracemill.toml"
    settings.write_text(f"seed = {seed}\n{settings.read_text()}", encoding="utf-8")
    key = to / ".tracemill" / "lake" / "key"
    key.parent.mkdir(parents=True)
    key.touch(mode=0o600)
    key.write_bytes(hashlib.sha256(f"intercode/{seed}".encode()).digest())
    with _night(to) as night:
        ingesting.take_in_configured(night)
        judging.score(night)
        judging.mine(night)
        finding.find(night)


@contextmanager
def _night(folder: Path, **optimize: Any) -> Iterator[Night]:
    config = project.load(folder)
    config = replace(config, optimize=replace(config.optimize, **optimize))
    with project.ensure_lake(config) as lake:
        yield project.night(config, lake)


def searched(folder: Path, names: Sequence[str], endpoint: Endpoint, measure: Callable[[Artifact], Side]) -> Found:
    """One search in a project of its own, as a night runs it, and what would enter the gate."""
    with _night(folder, optimizers=tuple(names)) as night:
        (lesson, *_), _ = learning.choose(night)
        began, cpu = time.perf_counter(), time.process_time()
        found, facts = branches.search_prompts(night, lesson, endpoint)
        seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu
        (winner, *_) = [*choosing.winner(found, branches.tuning_rewards(night, found)), None]
        artifact = replaying.on_endpoint(endpoint, (winner or lesson.production).artifact)
    told = instructions(artifact) or ""
    return Found(
        winner=measure(artifact),
        optimizer="" if winner is None else winner.optimizer,
        told=told,
        looks=looks_first(told),
        calls=facts["calls"],
        candidates=max(0, len(found) - 1),
        seconds=seconds,
        cpu_s=cpu_s,
        failed={name: said for name, said in facts.get("failed", {}).items() if "BudgetError" not in said},
    )


class Judge:
    """Measures prompts on the cases of the gate pool, as the gate replays them."""

    def __init__(self, night: Night, lesson: Lesson, endpoint: Endpoint, most: int) -> None:
        self._night, self._lesson, self._endpoint = night, lesson, endpoint
        wide = replace(night, config=replace(night.config, gate=replace(night.config.gate, max_cases=most)))
        self.cases: tuple[Case, ...] = gating.gate_cases(wide, lesson, [])

    def measure(self, artifact: Artifact, *, show_schema: bool = False) -> Side:
        environment = self._night.config.environment
        options = {**environment.options, "show_schema": show_schema}
        config = replace(self._night.config, environment=replace(environment, options=options))
        night = replace(self._night, config=config)
        graders = grading.graders(night, self._lesson.site, self._endpoint, Ledger(Budget()), cautious=False)
        climb = laddering.for_the_gate(night, self._lesson, self._endpoint, graders)
        outcomes = climb(artifact, self.cases)
        databases = {case.case_id: str(case.task["db"]) for case in self.cases}
        return Side(
            rewards={one.case_id: one.reward for one in outcomes if one.reward is not None}, databases=databases
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """What one seed came to."""

    production: Side
    ceiling: Side
    found: Mapping[str, Found]


def one_seed(scratch: Path, data: Path, seed: int, models: Models, size: Size, names: Sequence[str]) -> Seed:
    base = scratch / f"seed-{seed}"
    prepared(base, data, seed, models, size)
    shutil.copytree(base, judged := scratch / f"judge-{seed}")
    found: dict[str, Found] = {}
    with _night(judged) as night, open_endpoint(night) as endpoint:
        (lesson, *_), _ = learning.choose(night)
        judge = Judge(night, lesson, endpoint, size.judged)
        plain = replaying.on_endpoint(endpoint, lesson.production.artifact)
        production, ceiling = judge.measure(plain), judge.measure(plain, show_schema=True)
        learned, judging_on = ({case.task["db"] for case in cases} for cases in (lesson.learn, judge.cases))
        if learned & judging_on:
            raise AssertionError(f"databases that taught judge: {sorted(learned & judging_on)}")
        for name in names:
            shutil.copytree(base, own := scratch / f"{name}-{seed}")
            found[name] = searched(own, SEARCHES[name], endpoint, judge.measure)
            shutil.rmtree(own)
            one = found[name]
            print(f"seed {seed} {name}: {_told(one.winner.mean())}, by {one.optimizer or 'nobody'}: {one.told!r}")
            for who, said in one.failed.items():
                print(f"seed {seed} {name}: {who} failed: {said}")
    print(
        f"seed {seed}: production {_told(production.mean())}, ceiling {_told(ceiling.mean())} on {len(judge.cases)} "
        f"cases of {len(judging_on)} databases; {len(lesson.learn)} of {len(learned)} teach",
        flush=True,
    )
    return Seed(production=production, ceiling=ceiling, found=found)


def together(sides: Sequence[Side]) -> Side:
    """The cases of all seeds; those of one database stay together."""
    return Side(
        rewards={f"{place}/{case}": reward for place, one in enumerate(sides) for case, reward in one.rewards.items()},
        databases={f"{place}/{case}": name for place, one in enumerate(sides) for case, name in one.databases.items()},
    )


def whole_night(scratch: Path, data: Path, models: Models, size: Size, *, group: str | None) -> dict[str, Any]:
    """What `tracemill nightly` says of the logs, in a process of its own."""
    folder = scratch / f"night-{group}"
    # All optimizers of the example race in a night: they need more than one search.
    options = example.Options(
        endpoint=models.endpoint, writing=models.writing(0), tune=size.tune, calls=3 * size.calls, group=group
    )
    example.write(data, folder, options)
    with _night(folder):
        pass
    began = time.perf_counter()
    command = [sys.executable, "-m", "tracemill", "nightly", "--project", str(folder), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    seconds = time.perf_counter() - began
    with _night(folder) as night:
        verdicts = night.select("SELECT * FROM verdicts").to_pylist()
        prompts = night.select("SELECT candidate_id, optimizer, artifact FROM candidates").to_pylist()
    of = {row["candidate_id"]: row for row in prompts}
    told = [
        {
            **{name: row[name] for name in VERDICT},
            "optimizer": of[row["candidate_id"]]["optimizer"],
            "told": instructions(Artifact.from_json(of[row["candidate_id"]]["artifact"])),
        }
        for row in verdicts
    ]
    return {"group": group or "question", "seconds": seconds, "verdicts": told}


def _told(one: Interval | None) -> str:
    return "nothing" if one is None else f"{100 * one.estimate:.1f} ({100 * one.low:.1f} to {100 * one.high:.1f})"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def report(seeds: Sequence[Seed], names: Sequence[str]) -> dict[str, Any]:
    production, ceiling = together([one.production for one in seeds]), together([one.ceiling for one in seeds])
    print(f"{len(seeds)} seeds: production {_told(production.mean())}, ceiling {_told(ceiling.mean())}")
    titles = ("winner", "less production", "less the ceiling")
    print(f"{'':18}{''.join(f'{one:>24}' for one in titles)}{'found':>8}{'calls':>7}{'s':>7}{'CPU s':>7}")
    result: dict[str, Any] = {"production": _numbers(production.mean()), "ceiling": _numbers(ceiling.mean())}
    for name in names:
        runs = [one.found[name] for one in seeds]
        winner = together([one.winner for one in runs])
        columns = (winner.mean(), winner.above(production), winner.above(ceiling))
        looking = sum(one.looks for one in runs)
        means = {key: _mean([getattr(one, key) for one in runs]) for key in ("calls", "seconds", "cpu_s", "candidates")}
        figures = f"{looking:>4}/{len(runs):<3}{means['calls']:7.0f}{means['seconds']:7.1f}{means['cpu_s']:7.1f}"
        print(f"{name:18}{''.join(f'{_told(one):>24}' for one in columns)}{figures}")
        result[name] = {
            "winner": _numbers(columns[0]),
            "less_production": _numbers(columns[1]),
            "less_ceiling": _numbers(columns[2]),
            "looks_first": looking,
            "no_winner": sum(not one.optimizer for one in runs),
            **means,
        }
    return result


def _numbers(one: Interval | None) -> dict[str, float] | None:
    return None if one is None else asdict(one)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed of three searches")
    parser.add_argument("--full", action="store_true", help="what RESULTS.md shows, nights included")
    parser.add_argument("--seeds", type=int, default=None)
    parser.add_argument("--calls", type=int, default=None, help="what a search may spend on both models")
    parser.add_argument("--only", nargs="*", choices=sorted(SEARCHES), help="searches")
    parser.add_argument("--night", action="store_true", help="whole nights, too")
    parser.add_argument("--data", type=Path, default=os.environ.get("TRACEMILL_DATA"), help="folder of intercode-sql")
    parser.add_argument("--local", action="store_true", help="the embedded model")
    parser.add_argument("--url", help="an OpenAI-compatible server")
    parser.add_argument("--name", help="the model there that answers")
    parser.add_argument("--writer", help="the model there that writes prompts")
    args = parser.parse_args()
    if args.data is None or not (Path(args.data) / "intercode-sql" / "tasks.jsonl").is_file():
        print("the logs of InterCode-SQL are not there: set TRACEMILL_DATA or --data to the folder above intercode-sql")
        print(json.dumps({"skipped": "no intercode-sql in TRACEMILL_DATA"}))
        return
    print(machine())
    data = Path(args.data).resolve()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        if args.local or args.url:
            models = given_models(args)
            size = Size(calls=args.calls or (200 if args.local else 600), tune=12 if args.local else 24, judged=60)
            found = run(scratch, data, args, models, size, args.only or models.names, args.seeds or 1)
        else:
            with scripted(data) as models:
                size = Size(calls=args.calls or (300 if args.quick else 400), tune=24, judged=1_000)
                names = args.only or (("gepa", "apo", "nearest") if args.quick else models.names)
                found = run(scratch, data, args, models, size, names, args.seeds or (1 if args.quick else 6))
    print(json.dumps(found))


@contextmanager
def scripted(data: Path) -> Iterator[Models]:
    """The scripted agent and writer, in a process of their own."""
    script = "import sys; sys.path.insert(0, sys.argv[1]); from harness.logged_sql import serve; "
    script += "from pathlib import Path; serve(Path(sys.argv[2]), int(sys.argv[3]))"
    with serving(script, str(BENCH), str(data / "intercode-sql")) as url:
        yield Models(
            endpoint=example.remote(f"{url}/v1", AGENT),
            writing=lambda seed: example.writing(f"{url}/v1", f"{WRITER}-{seed}"),
            names=tuple(SEARCHES),
        )


def given_models(args: argparse.Namespace) -> Models:
    if args.local:
        return Models(endpoint=example.local("smollm2"), writing=lambda seed: "", names=WRITE_NOTHING)
    if not args.name:
        raise SystemExit("--url needs --name, the model that answers")
    return Models(
        endpoint=example.remote(args.url, args.name),
        writing=lambda seed: example.writing(args.url, args.writer) if args.writer else "",
        names=("gepa", "apo", "playbook", *WRITE_NOTHING) if args.writer else WRITE_NOTHING,
    )


def run(
    scratch: Path, data: Path, args: argparse.Namespace, models: Models, size: Size, names: Sequence[str], seeds: int
) -> dict[str, Any]:
    done = [one_seed(scratch, data, seed, models, size, names) for seed in range(seeds)]
    result = {"seeds": seeds, "calls": size.calls, **report(done, names)}
    if args.night or args.full:
        nights = [whole_night(scratch, data, models, size, group=group) for group in ("db", None)]
        for night in nights:
            for one in night["verdicts"]:
                print(
                    f"night, groups by {night['group']}, {night['seconds']:.0f} s: {one['reason']}\n  {one['told']!r}"
                )
        result["nights"] = nights
    return result


if __name__ == "__main__":
    main()
