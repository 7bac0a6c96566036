"""What runs in a peer's own environment beside its server: answers questions of compare.py, one JSON object a line.

Standard library only. A question is `{"question": name, "about": {…}}`; the answer holds rows, wall seconds and the CPU
seconds of this process, or why there are no rows.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

Answer = Callable[[dict[str, Any]], Iterable[Iterable[Any]]]


def serve(answers: dict[str, Answer]) -> None:
    """Answers lines of stdin on stdout until there are no more."""
    said, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
    for line in sys.stdin:
        asked = json.loads(line)
        began, cpu = time.perf_counter(), time.process_time()
        try:
            rows = [list(row) for row in answers[asked["question"]](asked["about"])]
        except Exception as error:  # noqa: BLE001 - whatever it is, the next question may be answered
            told: dict[str, Any] = {"cannot": f"{type(error).__name__} after {time.perf_counter() - began:.0f} s"}
            sys.stderr.write(f"{line}{error}\n")
        else:
            told = {"rows": rows, "wall_s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu}
        said.write(json.dumps(told) + "\n")
        said.flush()
