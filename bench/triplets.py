"""Time to make steps out of spans: the warehouse's rebuild, against Agent Lightning 0.3.0's TracerTraceToTriplet.

    python bench/triplets.py [--quick]

An episode is an agent with sub-agents whose rounds are a model call with token ids, a tool and a reward.

Counted of ours: one transaction from its beginning to its commit, for all episodes at once as a night makes them: spans
are read from the lake's files, steps and trajectories made and written to files and catalog, and the texts of tasks
without a group returned. Not counted: taking the spans in, opening the lake. The steps are new each time.

Counted of the oracle: `adapt`, which gets one rollout at a time, as its API wants it. Not counted: decoding the spans,
writing triplets down.

Figures are spans a CPU second, ours with one thread; beside them ours by the clock with all cores. Both take turns. The
last line is JSON: how many times faster than the oracle ours is, and how a span's time grows from traces of 40 spans to
traces of 2,400.
"""

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests/warehouse"))

from agl_oracle import Oracle, missing
from agl_traces import Node, agent, call, logged, reward

from tracemill import ingest
from tracemill.warehouse import Lake

SHORT, LONG = 40, 2400
Log = list[dict[str, Any]]


def episode(spans: int, rollout: str) -> Log:
    """One trace of so many spans."""
    left, number = spans - 1, 0
    below: list[Node] = []
    while left > 0:
        rounds: list[Node] = []
        for _ in range(min(4, (left - 1) // 3)):
            number += 1
            made = call(number % 60, response_id=f"{rollout}-{number}")
            made.attributes["gen_ai.usage.prompt_tokens"] = number
            made.attributes["gen_ai.prompt.0.content"] = f"{rollout}: question {number}"
            made.attributes["gen_ai.completion.0.content"] = f"{rollout}: answer {number}"
            rounds += [made, Node(name="tool", attributes={"tool.name": "search"}), reward(number / spans)]
        below.append(agent(f"agent {len(below) % 3}", *rounds))
        left -= 1 + len(rounds)
    return logged(agent("boss", *below), rollout=rollout)


def taken(logs: Sequence[Log], folder: Path) -> list[str]:
    """Takes all logs into the lake `folder/taken`, without making steps; the ids of their traces."""
    path = folder / "log.jsonl"
    path.write_text("\n".join(json.dumps(span) for log in logs for span in log))
    traces: list[str] = []
    with Lake.create(folder / "taken") as lake:
        for batch in ingest.batches(ingest.find([path]), key=lake.key, now_ns=1):
            with lake.transaction("ingest") as tx:
                traces += tx.take(batch).trace_ids
    return traces


def ours(folder: Path, traces: Sequence[str], *, threads: int) -> tuple[float, float, int]:
    """CPU seconds and seconds of making all steps in a copy of the lake, and how many there are."""
    copy = folder / "copy"
    shutil.copytree(folder / "taken", copy)
    with Lake.open(copy) as lake:
        with lake.transaction("warm") as tx:  # reads the catalog, as the first of a night's transactions does
            tx.rebuild(["none"])
        cpu, began = process_time(), perf_counter()
        with lake.transaction("rebuild") as tx:
            tx.con.execute(f"SET threads = {threads}")
            tx.rebuild(traces)
        took = process_time() - cpu, perf_counter() - began
        with lake.reader() as con:
            found = con.execute("SELECT count(*) FROM transitions").fetchone()
    shutil.rmtree(copy)
    assert found is not None
    return *took, int(found[0])


def theirs(oracle: Oracle, logs: Sequence[Log]) -> tuple[float, int]:
    """CPU seconds of the oracle for all logs, and how many triplets it makes."""
    answers = [oracle.ask("tracer", log) for log in logs]
    return sum(seconds for _, seconds in answers), sum(len(found) for found, _ in answers)


def measured(length: int, spans: int, repeats: int, oracle: Oracle | None) -> dict[str, float]:
    """Spans a second for traces of one length: ours by the CPU and by the clock, and the oracle's."""
    logs = [episode(length, f"r{number}") for number in range(spans // length)]
    n = sum(map(len, logs))
    # The oracle takes a second for what ours does in a tenth: it gets a part of the logs, each time another one.
    share = max(1, len(logs) // repeats)
    cpus, clocks, oracles = [], [], []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        traces = taken(logs, folder)
        for turn in range(repeats):
            cpu, _, steps = ours(folder, traces, threads=1)
            _, clock, _ = ours(folder, traces, threads=os.cpu_count() or 1)
            cpus.append(n / cpu)
            clocks.append(n / clock)
            if oracle is not None:
                part = logs[turn * share : (turn + 1) * share] or logs[:share]
                seconds, found = theirs(oracle, part)
                oracles.append(sum(map(len, part)) / seconds)
                assert round(found * len(logs) / len(part)) == steps
    rates = {"ours": cpus, "ours_clock": clocks, "oracle": oracles}
    for name, values in rates.items():
        if values:
            spread = f"{min(values):,.0f} to {max(values):,.0f}"
            print(f"{length:>5} spans a trace, {name:10}: {median(values):>9,.0f} spans/s ({spread}), {steps:,} steps")
    return {name: median(values) for name, values in rates.items() if values}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer spans and repeats")
    parser.add_argument("--full", action="store_true", help="as without --quick")
    quick = parser.parse_args().quick
    spans, repeats = (9_600, 3) if quick else (96_000, 5)
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; {spans:,} spans")
    with tempfile.TemporaryDirectory() as folder:  # imports, and DuckDB's first statements
        ours(Path(folder), taken([episode(SHORT, "warm")], Path(folder)), threads=1)
    lengths = (SHORT, LONG)
    result: dict[str, float | None] = {}
    if missing() is not None:
        print(f"no oracle: {missing()}")
        rates = {length: measured(length, spans, repeats, None) for length in lengths}
    else:
        with Oracle() as oracle:
            oracle.ask("tracer", episode(SHORT, "warm"))
            rates = {length: measured(length, spans, repeats, oracle) for length in lengths}
    for length in lengths:
        found = rates[length]
        result[f"ratio_to_oracle_{length}"] = round(found["ours"] / found["oracle"], 2) if "oracle" in found else None
        result[f"spans_per_cpu_second_{length}"] = round(found["ours"])
        result[f"spans_per_second_all_cores_{length}"] = round(found["ours_clock"])
    result["flatness_40_to_2400"] = round(rates[SHORT]["ours"] / rates[LONG]["ours"], 2)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
