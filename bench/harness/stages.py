"""python stages.py PROJECT FILE…: where the CPU time of taking in goes, stage by stage; prints one JSON object.

In one process, after everything is imported, each stage in CPU seconds of all its threads:

    prepare_plain    bytes to batches with redaction off: decode, map, address messages, make columns
    prepare          the same with redaction on
    take_in          the same again with the lake: spans and messages deduplicated and written, trajectories rebuilt,
                     pools drawn, committed; of it `take`, `rebuild` and `assign_groups`
    mine             call sites recovered
    upkeep           files merged

With --profile the fifty costliest functions of `prepare` are printed first.
"""

import cProfile
import json
import pstats
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tracemill import ingest
from tracemill.app import project
from tracemill.pipelines import ingesting, judging
from tracemill.warehouse import Transaction

NOW_NS = 1_795_000_000_000_000_000
KEY = b"bench" * 6


def prepare(paths: list[str], redaction: ingest.Redaction) -> int:
    rules = ingest.Ruleset(redaction)
    batches = ingest.batches(ingest.find(paths), key=KEY, now_ns=NOW_NS, rules=rules)
    return sum(batch.tables["spans"].num_rows for batch in batches)


def timed(owner: type, name: str, spent: dict[str, float]) -> None:
    """Adds up the CPU time that a method takes."""
    inner: Callable[..., Any] = getattr(owner, name)

    def outer(*args: Any, **kwargs: Any) -> Any:
        cpu = time.process_time()
        try:
            return inner(*args, **kwargs)
        finally:
            spent[name] += time.process_time() - cpu

    setattr(owner, name, outer)


def main(folder: str, paths: list[str], profile: bool) -> dict[str, float]:
    spent: dict[str, float] = defaultdict(float)
    cpu = time.process_time()

    def lap(name: str) -> None:
        nonlocal cpu
        spent[name] = time.process_time() - cpu
        cpu = time.process_time()

    prepare(paths[:1], ingest.Redaction())  # what is imported and compiled on first use
    lap("first")
    prepare(paths, ingest.Redaction(kinds=()))
    lap("prepare_plain")
    profiler = cProfile.Profile()
    if profile:
        profiler.enable()
    spent["spans"] = prepare(paths, ingest.Redaction())
    profiler.disable()
    lap("prepare")
    if profile:
        pstats.Stats(profiler, stream=sys.stderr).sort_stats("tottime").print_stats(50)
    for name in ("take", "rebuild", "assign_groups"):
        timed(Transaction, name, spent)
    config = project.load(Path(folder))
    with project.ensure_lake(config) as lake:
        night = project.night(config, lake)
        lap("open")
        ingesting.take_in(night, paths)
        lap("take_in")
        judging.mine(night)
        lap("mine")
        lake.checkpoint(now_ns=night.clock())
        lap("upkeep")
    return dict(spent)


if __name__ == "__main__":
    arguments = [one for one in sys.argv[1:] if one != "--profile"]
    print(json.dumps(main(arguments[0], arguments[1:], "--profile" in sys.argv)))
