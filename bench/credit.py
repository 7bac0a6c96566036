"""Does credit find the step that decided? On planted faults, and on the human labels of Who&When.

    [TRACEMILL_DATA=…] python bench/credit.py [--quick] [--ask URL MODEL | --ask local smollm2]

Planted: invented episodes of a few tasks, of which each failing one has one decisive step that is known: a wrong tool,
a tool that fails, a step left out, a wrong argument that only the answer shows. Harmless errors and detours are noise,
and some fail for no reason that the log shows. `hit@k`: the decisive step is among the k calls of least credit (the
call after the gap, where a step was left out); ties count by their chance.

Who&When (Zhang et al. 2025): 184 failed runs of teams of agents with the failing agent and step that people named. No
run succeeded, so there is nothing to contrast with: each is held against an invented success. Prints `agent` and `step`
accuracy per method that asks no language model, beside the first, the last and a random call, and the best figures of
the paper, whose methods ask one about the whole log. The last line is one JSON object.

`--ask`: `hindsight`, too, which asks a model: on two small planted lakes only (one with --quick), beside the method
that does best there. An episode for which it names no step counts as chance does.
"""

import argparse
import json
import os
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pyarrow as pa

from tracemill.optimize.endpoint import HttpChatModel
from tracemill.protocols import ChatModel
from tracemill.rewards.credit import ASSIGNERS, build
from tracemill.schema import TABLES
from tracemill.train import serving

METHODS = tuple(name for name in ASSIGNERS if name != "hindsight")
FAULTS = ("wrong_tool", "error", "left_out", "wrong_argument")
PAPER = {"agent": 0.535, "step": 0.142}
TASKS, EPISODES = 8, 40


def empty_lake() -> duckdb.DuckDBPyConnection:
    """All tables of a lake, in memory."""
    con = duckdb.connect()
    for name, table in TABLES.items():
        put(con, name, table.schema.empty_table())
    return con


def put(con: duckdb.DuckDBPyConnection, name: str, rows: pa.Table) -> None:
    con.register("incoming", rows)
    con.execute(f'CREATE TABLE IF NOT EXISTS "{name}" AS FROM incoming LIMIT 0')
    con.execute(f'INSERT INTO "{name}" FROM incoming')
    con.unregister("incoming")


def write(con: duckdb.DuckDBPyConnection, tables: dict[str, list[dict[str, Any]]]) -> None:
    for name, rows in tables.items():
        put(con, name, pa.Table.from_pylist(rows, schema=TABLES[name].schema))


def planted(seed: int, *, tasks: int = TASKS, episodes: int = EPISODES) -> tuple[Any, dict[str, tuple[str, int]]]:
    """A lake of judged episodes, and by failing episode with a fault the kind of fault and its decisive step."""
    rng = random.Random(seed)
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in ("trajectories", "transitions", "spans", "scores")}
    truth: dict[str, tuple[str, int]] = {}
    for task in range(tasks):
        plan = [f"tool{rng.randrange(8)}" for _ in range(rng.randint(6, 12))]
        for number in range(episodes):
            name = f"t{task:02}e{number:03}"
            steps, fault, decisive = episode(rng, plan)
            reward = float(rng.random() < (0.1 if fault else 0.95))
            if fault is not None and reward == 0:
                truth[name] = (fault, decisive)
            about = {
                "task_group": f"g{task}",
                "agent_name": "desk",
                "pool": "learn",
                "user_key": f"u{rng.randrange(60)}",
            }
            tables["trajectories"].append({"trajectory_id": name, **about})
            score = {"target_kind": "trajectory", "target_id": name, "name": "combined", "value": reward, "at": 1}
            tables["scores"].append({"score_id": name, **score})
            for at, (tool, args, result, status) in enumerate(steps):
                span = {"span_id": f"{name}-{at:02}", "seq": 2 * at}
                tables["transitions"].append({"trajectory_id": name, "step": at, "agent_name": "desk", **span})
                told = {"kind": "tool", "tool_name": tool, "tool_args": args, "tool_result": result, "status": status}
                tables["spans"].append({"trace_id": name, "span_id": f"{name}-{at:02}t", "seq": 2 * at + 1, **told})
    con = empty_lake()
    write(con, tables)
    return con, truth


def episode(rng: random.Random, plan: list[str]) -> tuple[list[tuple[str, str, str, str]], str | None, int]:
    """Steps as (tool, arguments, result, status), the fault and its step; no fault in half of the episodes."""
    fault = rng.choice(FAULTS) if rng.random() < 0.5 else None
    at_fault = rng.randrange(len(plan) - 1)
    steps: list[tuple[str, str, str, str]] = []
    decisive = -1
    for at, tool in enumerate(plan):
        if rng.random() < 0.08:  # a harmless detour
            steps.append(("note", '{"text": "x"}', "noted", "ok"))
        if rng.random() < 0.06:  # a harmless error, tried again
            steps.append((tool, '{"id": 1}', "Error: busy, try again", "error"))
        told = (tool, '{"id": 1}', f"{tool} found record {rng.randrange(100)}", "ok")
        if fault is not None and at == at_fault:
            decisive = len(steps)
            if fault == "left_out":
                continue
            told = {
                "wrong_tool": ("guess", '{"id": 1}', "guessed", "ok"),
                "error": (tool, '{"id": 1}', "Error: no such record", "error"),
                "wrong_argument": (tool, '{"id": 1}', f"{tool} found nothing", "ok"),
            }[fault]
        steps.append(told)
    return steps, fault, decisive


def chance(credits: dict[int, float], step: int, k: int) -> float:
    """The chance that a step is among the k least, where ties are broken at random."""
    own = credits[step]
    less = sum(value < own - 1e-12 for value in credits.values())
    tied = sum(abs(value - own) <= 1e-12 for value in credits.values())
    return min(1.0, max(0.0, (k - less) / tied))


def by_episode(rows: pa.Table) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for row in rows.to_pylist():
        found.setdefault(row["trajectory_id"], {})[row["step"]] = row["credit"]
    return found


def hits(seed: int) -> Iterator[dict[str, Any]]:
    """A row per method, fault and episode of one planted lake."""
    con, truth = planted(seed)
    for method in METHODS:
        credited = by_episode(build(method).assign(con))
        for name, (fault, step) in truth.items():
            own = credited[name]
            yield {"method": method, "fault": fault, "hit@1": chance(own, step, 1), "hit@3": chance(own, step, 3)}
    for name, (fault, step) in truth.items():
        last = {at: float(-at) for at in credited[name]}
        yield {"method": "(last)", "fault": fault, "hit@1": chance(last, step, 1), "hit@3": chance(last, step, 3)}
    con.close()


def asking(chat: ChatModel, model: str, seeds: int) -> dict[str, Any]:
    """hindsight on small planted lakes, and what asks nobody beside it."""
    found: dict[str, list[dict[str, Any]]] = {"hindsight": [], "anchor_group": [], "uniform": []}
    episodes = voted = 0
    for seed in range(seeds):
        con, truth = planted(seed, tasks=4, episodes=15)
        other = by_episode(build("uniform").assign(con))
        for method in found:
            given: dict[str, Any] = {"chat": chat, "model": model} if method == "hindsight" else {}
            credited = by_episode(build(method, **given).assign(con))
            for name, (_, step) in truth.items():
                own = credited.get(name, other[name])
                found[method].append({"hit@1": chance(own, step, 1), "hit@3": chance(own, step, 3)})
            if method == "hindsight":
                episodes, voted = episodes + len(truth), voted + len(truth.keys() & credited.keys())
        con.close()
    table = {method: {key: mean(rows, key) for key in ("hit@1", "hit@3")} for method, rows in found.items()}
    return {"model": model, "episodes": episodes, "named_a_step": voted, "methods": table}


def answering(where: str, model: str, folder: Path, stack: ExitStack) -> tuple[ChatModel, str]:
    """Whom `--ask` names: a server, or a small model that is served for as long as `stack` is open."""
    if where != "local":
        return HttpChatModel(where, api_key=os.environ.get("OPENAI_API_KEY")), model
    server = stack.enter_context(serving.start(model, cache=folder / "models", log=folder / "server.log", threads=2))
    return HttpChatModel(server.base_url, concurrency=8, timeout_s=600.0), server.model


def mean(rows: list[dict[str, Any]], key: str) -> float:
    return round(sum(row[key] for row in rows) / len(rows), 3)


def planted_table(seeds: int) -> dict[str, Any]:
    rows = [row for seed in range(seeds) for row in hits(seed)]
    table: dict[str, Any] = {}
    for method in ("(last)", *METHODS):
        own = [row for row in rows if row["method"] == method]
        table[method] = {
            **{key: mean(own, key) for key in ("hit@1", "hit@3")},
            **{fault: mean([row for row in own if row["fault"] == fault], "hit@1") for fault in FAULTS},
            "n": len(own),
        }
    return table


def who_and_when(data: Path, scratch: Path) -> dict[str, Any]:
    """Accuracy per method, over all runs and by kind of team."""
    from tracemill.app import settings
    from tracemill.pipelines import ingesting
    from tracemill.pipelines.night import Night
    from tracemill.warehouse import Lake

    config = settings.load(scratch)
    with Lake.create(config.lake_path) as lake:
        night = Night(night_id="bench", config=config, lake=lake, clock=time.time_ns)
        ingesting.take_in(night, [data / "who-and-when"])
        told = {
            name: night.select(f"SELECT * FROM {name}") for name in ("trajectories", "transitions", "spans", "scores")
        }
    con = empty_lake()
    for name, rows in told.items():
        if name != "scores":
            put(con, name, rows.cast(TABLES[name].schema))
    con.execute("UPDATE trajectories SET pool = 'learn', task_group = NULL")
    runs = con.execute("SELECT trajectory_id, agent_name FROM trajectories").fetchall()
    invented: dict[str, list[dict[str, Any]]] = {name: [] for name in ("trajectories", "transitions", "scores")}
    for name, team in runs:
        other = f"invented {name}"
        invented["trajectories"].append({"trajectory_id": other, "agent_name": team, "pool": "learn"})
        invented["transitions"].append({"trajectory_id": other, "step": 0, "span_id": other, "agent_name": "invented"})
        for target, value in ((name, 0.0), (other, 1.0)):
            score = {"target_kind": "trajectory", "target_id": target, "name": "combined", "value": value, "at": 1}
            invented["scores"].append({"score_id": target, **score})
    write(con, invented)
    labels: dict[str, dict[str, str]] = {}
    for row in told["scores"].to_pylist():
        if row["name"] in ("mistake_agent", "mistake_step"):
            labels.setdefault(row["target_id"], {})[row["name"]] = row["label"]
    calls: dict[str, dict[int, tuple[int, str]]] = {}
    for name, step, seq, agent in con.execute(
        "SELECT trajectory_id, step, seq, agent_name FROM transitions WHERE trajectory_id NOT LIKE 'invented%'"
    ).fetchall():
        calls.setdefault(name, {})[step] = (seq, agent)
    found: list[dict[str, Any]] = []
    for method in ("(first)", "(last)", *METHODS):
        credited = by_episode(build(method).assign(con)) if method in METHODS else {}
        for name, team in runs:
            own = calls.get(name, {})
            at = {"(first)": 1.0, "(last)": -1.0}.get(method)
            credits = {step: step * at for step in own} if at is not None else credited.get(name, {})
            blamed = {step: chance(credits, step, 1) for step in credits}
            wanted = labels[name]
            found.append(
                {
                    "method": method,
                    "team": team.split("/")[1],
                    "agent": sum(p for step, p in blamed.items() if own[step][1] == wanted["mistake_agent"]),
                    "step": sum(p for step, p in blamed.items() if str(own[step][0]) == wanted["mistake_step"]),
                    "reachable": float(any(str(seq) == wanted["mistake_step"] for seq, _ in own.values())),
                }
            )
    con.close()
    table: dict[str, Any] = {}
    for method in ("(first)", "(last)", *METHODS):
        rows = [row for row in found if row["method"] == method]
        teams = {team: [row for row in rows if row["team"] == team] for team in sorted({row["team"] for row in rows})}
        table["random = uniform" if method == "uniform" else method] = {
            **{key: mean(rows, key) for key in ("agent", "step")},
            **{f"{key}, {team}": mean(own, key) for team, own in teams.items() for key in ("agent", "step")},
        }
    reachable = mean([row for row in found if row["method"] == "(last)"], "reachable")
    return {"runs": len(runs), "mistaken_step_is_a_call": reachable, "methods": table, "paper_best": PAPER}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2 planted lakes instead of 10")
    parser.add_argument("--ask", nargs=2, metavar=("URL", "MODEL"), help="whom hindsight asks; local: a small model")
    arguments = parser.parse_args()
    began = time.process_time()
    result: dict[str, Any] = {"planted": planted_table(2 if arguments.quick else 10)}
    if arguments.ask is not None:
        with TemporaryDirectory() as scratch, ExitStack() as stack:
            chat, model = answering(arguments.ask[0], arguments.ask[1], Path(scratch), stack)
            result["asking"] = asking(chat, model, 1 if arguments.quick else 2)
    given = os.environ.get("TRACEMILL_DATA")
    if given:
        with TemporaryDirectory() as scratch:
            result["who_and_when"] = who_and_when(Path(given).resolve(), Path(scratch))
    else:
        result["who_and_when"] = {"skipped": "TRACEMILL_DATA is unset: the folder with the real logs"}
    asked = result.get("asking", {}).get("methods", {})
    for part, table in (
        ("planted", result["planted"]),
        ("asking", asked),
        ("who_and_when", result["who_and_when"].get("methods", {})),
    ):
        for method, row in table.items():
            print(part, method, row)
    print(json.dumps({**result, "cpu_s": round(time.process_time() - began, 1)}))


if __name__ == "__main__":
    main()
