"""Time to make steps out of spans: the warehouse's rebuild, against Agent Lightning 0.3.0's TracerTraceToTriplet.

    python bench/triplets.py [--quick]

An episode is an agent with sub-agents whose rounds are a model call with token ids, a tool and a reward. Both sides get
what they work on beforehand (spans in a lake; decoded spans in memory) and make every step of every episode; ours also
writes steps and trajectories into the lake. The last line is JSON: how many times faster than the oracle ours is at 40
spans a trace, and how a span's time grows from traces of 40 spans to traces of 2,400.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
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


def ours(logs: Sequence[Log], folder: Path, repeats: int) -> tuple[list[float], int]:
    """Seconds of each rebuild of all logs, and how many steps it makes."""
    path = folder / "log.jsonl"
    path.write_text("\n".join(json.dumps(span) for log in logs for span in log))
    took = []
    with Lake.create(folder / "lake") as lake:
        traces: list[str] = []
        for batch in ingest.batches(ingest.find([path]), key=lake.key, now_ns=1):
            with lake.transaction("ingest") as tx:
                traces += tx.take(batch).trace_ids
        for _ in range(repeats):
            with lake.transaction("rebuild") as tx:
                started = perf_counter()
                tx.rebuild(traces)
                took.append(perf_counter() - started)
        with lake.reader() as con:
            found = con.execute("SELECT count(*) FROM transitions").fetchone()
    assert found is not None
    return took, int(found[0])


def theirs(logs: Sequence[Log], repeats: int) -> tuple[list[float], int]:
    """Seconds of the oracle for all logs, and how many triplets it makes."""
    took, triplets = [], 0
    with Oracle() as oracle:
        oracle.ask("tracer", logs[0])  # imports and warms up
        for _ in range(repeats):
            answers = [oracle.ask("tracer", log) for log in logs]
            took.append(sum(seconds for _, seconds in answers))
            triplets = sum(len(found) for found, _ in answers)
    return took, triplets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer spans and repeats")
    parser.add_argument("--full", action="store_true", help="as without --quick")
    quick = parser.parse_args().quick
    spans, repeats = (9_600, 3) if quick else (96_000, 5)
    print(f"{spans:,} spans; median of {repeats} runs")
    result: dict[str, float | None] = {}
    per_span: dict[str, float] = {}
    for length in (SHORT, LONG):
        logs = [episode(length, f"r{number}") for number in range(spans // length)]
        n = sum(map(len, logs))
        with tempfile.TemporaryDirectory() as folder:
            seconds, steps = ours(logs, Path(folder), repeats)
        per_span[f"ours {length}"] = median(seconds) / n
        print(f"ours, {length:>5} spans a trace: {n / median(seconds):>9,.0f} spans/s, {steps:,} steps")
        if missing() is None:
            sample = logs[: max(1, len(logs) // (1 if length == SHORT and quick else 5))]
            n = sum(map(len, sample))
            seconds, found = theirs(sample, 1 if length == LONG else repeats)
            per_span[f"oracle {length}"] = median(seconds) / n
            print(f"oracle, {length:>3} spans a trace: {n / median(seconds):>9,.0f} spans/s, {found:,} triplets")
            if len(sample) == len(logs):
                assert found == steps
    if missing() is not None:
        print(f"no oracle: {missing()}")
        result["ratio_to_oracle_40"] = None
    else:
        result["ratio_to_oracle_40"] = round(per_span[f"oracle {SHORT}"] / per_span[f"ours {SHORT}"], 2)
        result["ratio_to_oracle_2400"] = round(per_span[f"oracle {LONG}"] / per_span[f"ours {LONG}"], 2)
    result["flatness_40_to_2400"] = round(per_span[f"ours {LONG}"] / per_span[f"ours {SHORT}"], 2)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
