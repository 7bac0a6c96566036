"""A small project whose runs were judged by weak judges, and some of them by people."""

import json
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from tracemill.app import settings
from tracemill.ids import content_id
from tracemill.pipelines import ingesting
from tracemill.pipelines.night import Night
from tracemill.schema import SCORES
from tracemill.warehouse import Lake

NOW = 1_790_000_000_000_000_000
SETTINGS = """
[[formats]]
name = "desk"
columns = { trace_id = "run", session_id = "talk", input = "q", output = "a", agent_name = "agent" }

[[rewards]]
kind = "feedback"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """A reward model whose rows are in the lake already."""

    name: str
    family: str
    version: str = "1"
    level: str = "trajectory"
    state: str | None = None

    def fit(self, con: duckdb.DuckDBPyConnection, *, now_ns: int) -> "Logged":
        return self

    def score(self, con: duckdb.DuckDBPyConnection, *, now_ns: int) -> pa.Table:
        return SCORES.empty_table()


SIGNALS = Logged(name="signals", family="signals")
JUDGE = Logged(name="rubric", family="judge:m")
SEALED = Logged(name="sealed", family="judge:other")


def row(target: str, name: str, value: float | None, **more: Any) -> dict[str, Any]:
    facts = {"target_kind": "trajectory", "target_id": target, "name": name, "value": value, "at": NOW, **more}
    return {"score_id": content_id(facts), **facts}


def put(night: Night, rows: Sequence[dict[str, Any]]) -> None:
    with night.lake.transaction("test") as tx:
        tx.insert("scores", pa.Table.from_pylist(list(rows), schema=SCORES))


def truth(number: int) -> bool:
    return random.Random(f"truth {number}").random() < 0.6


def question(number: int) -> str:
    """Worded so differently that no two are near-duplicates."""
    draw = random.Random(f"question {number}")
    return " ".join("".join(draw.choices("abdeiklmnorstu", k=7)) for _ in range(9))


def weak(number: int, *, accuracy: float = 0.85) -> list[dict[str, Any]]:
    """Three judges of run `number`, each right as often as `accuracy` says; the third is to be sealed."""

    def said(name: str) -> float:
        draw = random.Random(f"{name} {number}")
        right = truth(number) if draw.random() < accuracy else not truth(number)
        return round((0.55 if right else 0.0) + 0.45 * draw.random(), 3)

    run = f"r{number}"
    return [
        row(run, "signals", said("signals"), source="code", family="signals", version="1"),
        row(run, "rubric", said("rubric"), source="llm", family="judge:m", version="1", evidence='{"flipped":false}'),
        row(run, "sealed", said("sealed"), source="llm", family="judge:other", version="1"),
    ]


def label(number: int, *, who: str = "ana", value: float | None = None, propensity: float = 0.5) -> dict[str, Any]:
    given = float(truth(number)) if value is None else value
    return row(f"r{number}", "label", given, source="human", user_key=who, propensity=propensity)


def build(root: Path, runs: int = 60, *, more: str = "") -> None:
    """The project's settings and a lake with so many runs of two agents, judged by the weak judges."""
    root.mkdir(exist_ok=True)
    (root / "tracemill.toml").write_text(SETTINGS + more)
    logs = root / "desk.jsonl"
    logs.write_text(
        "".join(
            json.dumps({"run": f"r{n}", "talk": f"s{n}", "q": question(n), "a": "Here.", "agent": f"desk{n % 2}"})
            + "\n"
            for n in range(runs)
        )
    )
    Lake.create(settings.load(root).lake_path).close()
    with opened(root) as night:
        ingesting.take_in(night, [logs])
        put(night, [one for n in range(runs) for one in weak(n)])


@contextmanager
def opened(root: Path, *, now_ns: int = NOW) -> Iterator[Night]:
    config = settings.load(root)
    with Lake.open(config.lake_path) as lake:
        yield Night(night_id=f"n{now_ns}", config=config, lake=lake, clock=lambda: now_ns)
