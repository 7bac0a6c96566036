"""Which optimizer finds the better prompt for the same number of calls, and how much of its score is luck?

    python bench/optimize.py [--quick] [--seeds N] [--calls N] [--only NAME …]

A simulated support desk (harness/simulated.py: what it gets right depends on the rules, demonstrations, contradictions
and length of its prompt) and a simulated model that writes prompts from what it is shown (harness/simulated_writer.py).
A seed is a world with its own rules and logs: 120 cases to learn from, 40 to tune on, 300 held out. Every optimizer
runs as in a night, through Study, SingleStep, replay cache, ledger and lint, with one budget of calls that the task
model and the writing model share, and with knobs that let it use them all; `portfolio` races them for one such budget,
with knobs for a third of it, `race_of_three` three of them.
`_silent` ones are shown no notes and no findings. COPRO and SIMBA of DSPy, which are not offered, run beside them.

    lift       held-out reward of the prompt with the best tuning score, minus production's, at the end
    area       the same on average over the calls spent: the area under the best-so-far curve
    optimism   tuning score of that prompt minus its held-out reward
    calls      until the search ended; fewer than the budget where it had no more to try

Held-out cases are answered beside the budget and no search sees them. Intervals are 95 % over seeds (Student's t).
Prints one JSON object as its last line.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from harness import machine, tried
from harness.searching import Rows, interval, knobs, shown
from harness.simulated import Logs, World, headroom, logs
from harness.simulated_writer import SimulatedWriter

from tracemill.optimize import portfolio
from tracemill.optimize.artifact import baseline
from tracemill.optimize.ladder import SingleStep, one_by_one
from tracemill.optimize.optimizers import build
from tracemill.optimize.replay import Budget, CachedModel, Ledger
from tracemill.optimize.search import PromptModel, tune_score
from tracemill.protocols import Optimizer
from tracemill.records import Artifact, Candidate
from tracemill.study import Study

NAMES = ("labeled_few_shot", "random_search", "nearest", "mipro", "gepa", "apo")
RACES = {"portfolio": NAMES, "race_of_three": ("nearest", "gepa", "apo")}
ALONE = ("playbook",)
"""Offered, and in no race yet."""
TRIED = ("copro", "simba")
"""Of DSPy, not offered (harness/tried.py)."""
SILENT = ("gepa_silent", "apo_silent")
"""The same without notes and findings: what the feedback is worth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one search of one seed came to."""

    lift: float
    area: float
    optimism: float
    luck: float
    """Tuning score of production's prompt minus its held-out reward: no search chose it."""
    calls: int
    candidates: int
    seconds: float
    failed: tuple[str, ...]


def replayer(world: World, ledger: Ledger) -> SingleStep:
    cached = CachedModel(world, Rows(), ledger, now_ns=1)
    return SingleStep(model=cached, grade=one_by_one(world.reward), valid=lambda case, output: bool(output))


def search(name: str, world: World, given: Logs, calls: int, held_out: Callable[[Artifact], float]) -> Run:
    began = time.process_time()
    silent = name in SILENT
    name = name.removesuffix("_silent")
    ledger = Ledger(Budget(calls=calls))
    chat = CachedModel(SimulatedWriter(world), Rows(), ledger, now_ns=1)
    reflection = PromptModel(chat=chat, name="large", params={"temperature": 1.0})
    study = Study(
        site=given.site,
        baseline=baseline(given.site),
        train=given.train,
        tune=given.tune,
        replay=replayer(world, ledger),
        notes={} if silent else given.notes,
        hints=() if silent else given.hints,
    )
    names, share = (RACES[name], calls // 3) if name in RACES else ((name,), calls)
    searches: list[Optimizer] = [
        tried.build(one, seed=world.seed, reflection=reflection, calls=calls)
        if one in TRIED
        else build(one, seed=world.seed, reflection=reflection, **knobs(one, share))
        for one in names
    ]
    found: list[tuple[int, Candidate]] = []
    failed: list[str] = []
    portfolio.run(
        study,
        searches,
        on_candidate=lambda one: found.append((ledger.spent.calls, one)),
        on_error=lambda who, error: failed.append(f"{who}: {type(error).__name__}: {error}"),
        ledger=ledger if name in RACES else None,
    )
    production = held_out(study.baseline)
    best, area, at, lift = found[0][1], 0.0, 0, 0.0
    for spent, one in found:
        if (one.tune_score or 0.0) > (best.tune_score or 0.0):
            area += lift * (spent - at)
            best, at, lift = one, spent, held_out(one.artifact) - production
    area += lift * (calls - at)
    return Run(
        lift=lift,
        area=area / calls,
        optimism=(best.tune_score or 0.0) - production - lift,
        luck=(found[0][1].tune_score or 0.0) - production,
        calls=ledger.spent.calls,
        candidates=len(found) - 1,
        seconds=time.process_time() - began,
        failed=tuple(one for one in failed if "BudgetError" not in one),
    )


def held_out_of(world: World, given: Logs) -> Callable[[Artifact], float]:
    replay = replayer(world, Ledger(Budget()))
    known: dict[str, float] = {}

    def measure(artifact: Artifact) -> float:
        key = artifact.to_json()
        if key not in known:
            known[key] = tune_score(given.held_out, replay(artifact, given.held_out))[0] or 0.0
        return known[key]

    return measure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="3 seeds of 400 calls")
    parser.add_argument("--full", action="store_true", help="what RESULTS.md shows; the default")
    parser.add_argument("--seeds", type=int, default=None)
    parser.add_argument("--calls", type=int, default=None, help="budget of a search (default 1000)")
    parser.add_argument("--only", nargs="*", default=None, help="names of optimizers")
    args = parser.parse_args()
    seeds = args.seeds or (3 if args.quick else 20)
    calls = args.calls or (400 if args.quick else 1000)
    names = args.only or [*NAMES, *ALONE, *RACES, *SILENT, *TRIED]
    print(machine())
    runs: dict[str, list[Run]] = {name: [] for name in names}
    production, ceiling = [], []
    for seed in range(seeds):
        world = World(seed)
        given = logs(world)
        held_out = held_out_of(world, given)
        production.append(held_out(baseline(given.site)))
        ceiling.append(headroom(world, given.held_out))
        for name in names:
            runs[name].append(search(name, world, given, calls, held_out))
            for line in runs[name][-1].failed:
                print(f"seed {seed}: {line}")
        lifts = ", ".join(f"{name} {100 * done[-1].lift:.0f}" for name, done in runs.items())
        print(f"seed {seed}: production {100 * production[-1]:.0f}, lift of {lifts}", flush=True)
    luck = [one.luck for one in runs[names[0]]]
    print(f"{seeds} seeds, {calls} calls each; held out: production {shown(production)}, all rules {shown(ceiling)}")
    print(f"production's tuning score minus its held-out reward: {shown(luck)}")
    print(f"{'':18}{'area':>24}{'lift':>24}{'optimism':>24}{'calls':>8}{'found':>7}{'CPU s':>7}")
    for name, done in runs.items():
        columns = "".join(f"{shown([getattr(one, key) for one in done]):>24}" for key in ("area", "lift", "optimism"))
        means = [statistics.fmean(getattr(one, key) for one in done) for key in ("calls", "candidates", "seconds")]
        print(f"{name:18}{columns}{means[0]:8.0f}{means[1]:7.1f}{means[2]:7.2f}")
    result = {
        "seeds": seeds,
        "calls": calls,
        "production": interval(production),
        "all_rules": interval(ceiling),
        "production_optimism": interval(luck),
        "optimizers": {
            name: {
                **{key: interval([getattr(one, key) for one in done]) for key in ("area", "lift", "optimism")},
                **{
                    key: statistics.fmean(getattr(one, key) for one in done)
                    for key in ("calls", "candidates", "seconds")
                },
                "failed": sum(bool(one.failed) for one in done),
            }
            for name, done in runs.items()
        },
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
