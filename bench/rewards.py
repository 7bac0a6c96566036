"""How well judges that ask no language model tell good runs from bad ones, on logs that real agents wrote.

    TRACEMILL_DATA=… python bench/rewards.py [--quick]

tau-bench (200 runs of gpt-4o as an airline desk) and FireAct (465 HotpotQA runs): AUC of every reward model of the
registry that can be built by its name against the logged reward, which none of them sees: it is taken out of the lake,
and what an answer tells of it is no feature. `learned` is the exception that it has to be: it learns the rewards of
other tasks, never of a run's own (cross-fitted), with the texts of the answers and without. Beside it, boosted trees
(scikit-learn, where it is installed) on the same features and folds, texts aside, and the plain number of tool calls.
Intervals: bootstrap over task groups. A model whose interval holds 0.5 adds nothing there.

InterCode-SQL: how often the execution verifier agrees with the logged reward, where it can judge. The last line is one
JSON object; `--quick` leaves InterCode out and resamples less.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import numpy as np
from credit import empty_lake, put
from real_logs import FIGURES, SETTINGS, tracemill

from tracemill import agreement
from tracemill.app import settings
from tracemill.errors import ConfigError
from tracemill.mining import embedding
from tracemill.pipelines import ingesting
from tracemill.pipelines.night import Night
from tracemill.rewards import RewardSpec, build
from tracemill.rewards.folds import Folds
from tracemill.rewards.learned import Learned, Seen
from tracemill.rewards.registry import MODELS
from tracemill.schema import TABLES
from tracemill.warehouse import Lake

LOGS = {"tau-bench": "tau-bench/historical_trajectories", "fireact": "fireact/trajs"}
SPLITS = 7
"""Ways to part the tasks into folds: with so few of them, chance has a say in what a learner comes to."""
Said = Mapping[str, float]


def lake_of(logs: Path, scratch: Path) -> tuple[duckdb.DuckDBPyConnection, Any]:
    """The logs in memory without any score, and the scores."""
    config = settings.load(scratch)
    with Lake.create(config.lake_path) as lake:
        ingesting.take_in(Night(night_id="bench", config=config, lake=lake, clock=time.time_ns), [logs])
        con = empty_lake()
        with lake.reader() as reading:
            for name in ("trajectories", "transitions", "spans", "messages"):
                columns = ", ".join(f'"{one}"' for one in TABLES[name].schema.names)
                put(con, name, reading.execute(f"SELECT {columns} FROM {name}").to_arrow_table())
            scores = reading.execute("SELECT * FROM scores WHERE name = 'reward'").to_arrow_table()
    return con, scores.cast(TABLES["scores"].schema)


def by_trajectory(rows: Any) -> dict[str, float]:
    """What was said of each trajectory; of its steps the mean."""
    found: dict[str, list[float]] = {}
    for row in rows.to_pylist():
        if row["value"] is not None and row["target_kind"] in ("trajectory", "step"):
            name = row["target_id"].rsplit("/", 1)[0] if row["target_kind"] == "step" else row["target_id"]
            found.setdefault(name, []).append(row["value"])
    return {name: sum(values) / len(values) for name, values in found.items()}


def judged(said: Said, truth: Said, groups: Mapping[str, str], *, draws: int) -> dict[str, Any]:
    """AUC where the model says anything, its interval over task groups, and of how many it says nothing."""
    names = sorted(set(said) & set(truth))
    values, good = np.asarray([said[one] for one in names]), np.asarray([truth[one] for one in names])
    row: dict[str, Any] = {"scored": len(names), "of": len(truth)}
    if (auc := agreement.auc(values, good)) is None:
        return row
    members: dict[str, list[int]] = {}
    for at, name in enumerate(names):
        members.setdefault(groups[name], []).append(at)
    parts = [np.asarray(members[group]) for group in sorted(members)]
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(draws):
        at = np.concatenate([parts[one] for one in rng.integers(0, len(parts), len(parts))])
        if (one := agreement.auc(values[at], good[at])) is not None:
            drawn.append(one)
    low, high = (round(float(x), 3) for x in np.quantile(drawn, (0.025, 0.975)))
    return {"auc": round(auc, 3), "low": low, "high": high, "adds": not low <= 0.5 <= high, **row}


def boosted(con: duckdb.DuckDBPyConnection, truth: Said, salt: int = 0) -> Said | None:
    """Gradient-boosted trees on what `learned` sees, each task judged by what other tasks taught."""
    try:
        from sklearn.ensemble import HistGradientBoostingClassifier
    except ImportError:
        return None
    seen = Seen.read(con, Learned(), "bench", None)
    bucket = Folds(buckets=5, salt=salt).bucket(seen.owners)
    good = np.asarray([truth[one] >= 0.5 for one in seen.ids])
    said = np.zeros(len(good))
    values = seen.values[:, [len(np.unique(column[~np.isnan(column)])) > 1 for column in seen.values.T]]
    for own in range(5):
        trees = HistGradientBoostingClassifier(
            max_iter=60, learning_rate=0.05, max_leaf_nodes=7, min_samples_leaf=10, l2_regularization=1, random_state=0
        )
        trees.fit(values[bucket != own], good[bucket != own])
        if (bucket == own).any():
            said[bucket == own] = trees.predict_proba(values[bucket == own])[:, 1]
    return dict(zip(seen.ids, said.tolist(), strict=True))


def table(logs: Path, *, draws: int) -> dict[str, Any]:
    with TemporaryDirectory() as scratch:
        con, rewards = lake_of(logs, Path(scratch))
    truth = {row["target_id"]: row["value"] for row in rewards.to_pylist()}
    groups = dict(con.execute("SELECT trajectory_id, task_group FROM trajectories").fetchall())
    found: dict[str, Any] = {}
    for kind in sorted(MODELS, key=lambda kind: (kind == "learned", kind)):
        if kind == "feedback":
            found[kind] = {"left_out": "it hands on what was logged, and that is hidden"}
            continue
        began = time.process_time()
        if kind == "learned":
            put(con, "scores", rewards)
        try:
            (model,) = build([RewardSpec(kind=kind, name=kind)], root=Path.cwd())
            if isinstance(model, Learned):
                model = replace(model, embedder=embedding.choose())
            rows = model.fit(con, now_ns=1).score(con, now_ns=1)
        except ConfigError as error:
            found[kind] = {"left_out": str(error)}
            continue
        found[kind] = judged(by_trajectory(rows), truth, groups, draws=draws)
        found[kind]["cpu_s"] = round(time.process_time() - began, 2)
        put(con, "scores", rows)
    others: dict[str, Callable[[], Said | None]] = {
        "(learned without texts)": lambda: by_trajectory(_learned(con, 0, texts=False)),
        "(boosted trees)": lambda: boosted(con, truth),
        "(fewer tool calls)": lambda: {
            name: -float(n)
            for name, n in con.execute("SELECT trajectory_id, n_tool_calls FROM trajectories").fetchall()
        },
    }
    for name, say in others.items():
        said = say()
        found[name] = {"left_out": "not installed"} if said is None else judged(said, truth, groups, draws=draws)
    for kind, say_so in (
        ("learned", lambda seed: by_trajectory(_learned(con, seed, texts=True))),
        ("(learned without texts)", lambda seed: by_trajectory(_learned(con, seed, texts=False))),
        ("(boosted trees)", lambda seed: boosted(con, truth, seed)),
    ):
        tried = [judged(said, truth, groups, draws=1) for seed in range(SPLITS) if (said := say_so(seed)) is not None]
        found[kind]["auc_by_split"] = [row["auc"] for row in tried]
    con.close()
    return {"runs": len(truth), "good": sum(value >= 0.5 for value in truth.values()), "models": found}


def _learned(con: duckdb.DuckDBPyConnection, seed: int, *, texts: bool) -> Any:
    model = Learned(name=f"learned {seed}", seed=seed, texts=texts, embedder=embedding.choose())
    return model.fit(con, now_ns=1).score(con, now_ns=1)


def executed(data: Path) -> dict[str, Any]:
    """InterCode-SQL: agreement of the execution verifier with the logged reward, by variant and over all."""
    with TemporaryDirectory() as scratch:
        project = Path(scratch)
        text = SETTINGS.format(data=data, sites=1, cases=8, steps=2)
        tau = f'[[sources]]\npath = "{data}/tau-bench/historical_trajectories"\n'
        (project / "tracemill.toml").write_text(text.replace(tau, ""))
        tracemill(project, "init")
        tracemill(project, "ingest")
        tracemill(project, "score")
        answer = tracemill(project, "sql", FIGURES["agreement"])
    rows = [dict(zip(answer["columns"], row, strict=True)) for row in answer["rows"]]
    n = sum(row["n"] for row in rows)
    return {"variants": rows, "scorable": n, "agrees": round(sum(row["n"] * row["agrees"] for row in rows) / n, 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="without InterCode-SQL, and 200 draws instead of 2,000")
    arguments = parser.parse_args()
    given = os.environ.get("TRACEMILL_DATA")
    if not given:
        print(json.dumps({"skipped": "TRACEMILL_DATA is unset: the folder with the real logs"}))
        return
    data = Path(given).resolve()
    result: dict[str, Any] = {
        name: table(data / logs, draws=200 if arguments.quick else 2_000) for name, logs in LOGS.items()
    }
    for name in LOGS:
        for model, row in result[name]["models"].items():
            print(name, model, row)
    if not arguments.quick:
        result["intercode-sql"] = executed(data)
        print("intercode-sql", result["intercode-sql"])
    print(json.dumps(result))


if __name__ == "__main__":
    main()
