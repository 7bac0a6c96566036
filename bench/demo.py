"""What the loop learns: the whole demo at several seeds, production against best prompt against best weights.

    python bench/demo.py [--seeds 3] [--nights 1] [--permute] [--quick]

Success on the last day's tickets, whose wordings nobody has seen, with 95 % intervals over wordings; `--permute` runs
the control instead. Prints one JSON object as its last line.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


def play(folder: Path, *, seed: int, nights: int, permute: bool) -> dict[str, Any]:
    command = [sys.executable, "-m", "tracemill", "demo", str(folder), "--json"]
    command += ["--seed", str(seed), "--nights", str(nights), *(["--permute"] if permute else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    report: dict[str, Any] = json.loads(done.stdout)
    return {"seed": seed, **{name: value for name, value in report.items() if name != "report"}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--nights", type=int, default=1)
    parser.add_argument("--permute", action="store_true", help="the control: labels dealt at random")
    parser.add_argument("--quick", action="store_true", help="one seed of the control: the shortest whole night")
    arguments = parser.parse_args()
    seeds, permute = (1, True) if arguments.quick else (arguments.seeds, arguments.permute)
    with tempfile.TemporaryDirectory() as scratch:
        runs = [
            play(Path(scratch) / str(seed), seed=seed, nights=arguments.nights, permute=permute)
            for seed in range(seeds)
        ]
    print(json.dumps({"control": permute, "runs": runs}))


if __name__ == "__main__":
    main()
