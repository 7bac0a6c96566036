"""A lake of any size for bench/query.py: one day taken in by tracemill itself, then days like it.

    python bench/grown.py FOLDER [--spans N] [--per-day N]

The first day is generated traffic (`corpus.spans`) through `tracemill ingest`, `score` and `mine`. The others are its
rows with ids of their own and times a day later each, inserted into the lake's own tables: the same partitions, sort
orders, row groups and encodings, because DuckLake lays them out. What users, agents, prompts and sites repeat from day
to day keeps its ids. Task groups are left out: no query here reads them, and a year of them is not like a day's.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from corpus import spans, write

from tracemill.schema import TABLES
from tracemill.warehouse import Lake, engine

_DAY_NS = 86_400_000_000_000
_GROWN = ("spans", "messages", "trajectories", "transitions", "scores", "trace_days")
_DAYS_AT_ONCE = 5
_HEX = "md5({0} || k)"
_IDS = {
    **dict.fromkeys(("trace_id", "trajectory_id", "score_id", "task_group"), _HEX),
    **dict.fromkeys(("span_id", "parent_span_id"), "left(md5({0} || k), 16)"),
    **dict.fromkeys(("input_ids", "output_ids"), "list_transform({0}, lambda id: md5(id || k))"),
    **dict.fromkeys(("start_ns", "end_ns", "at"), f"{{0}} + k * {_DAY_NS}"),
    "message_id": "CASE WHEN role IN ('system', 'tools') THEN {0} ELSE md5({0} || k) END",
    "session_id": "'conv-' || left(md5({0} || k), 16)",
    "response_id": "'chatcmpl-' || left(md5({0} || k), 30)",
    "tool_call_id": "'call_' || left(md5({0} || k), 24)",
    "target_id": "CASE target_kind WHEN 'span' THEN left(md5({0} || k), 16) ELSE md5({0} || k) END",
    "day": "{0} + k",
}
"""How a column of a later day follows from that of the first: `k` is how many days later."""


def tracemill(project: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "tracemill", *arguments, "--json", "--project", str(project)]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)


def first_day(folder: Path, n: int) -> Path:
    """A project in `folder` with `n` spans of one day, taken in, scored and mined; gives its lake."""
    project, logs = folder / "project", folder / "logs"
    if not (project / "tracemill.toml").exists():
        write(spans(n, days=1), logs)
        project.mkdir(parents=True)
        tracemill(project, "init")
        tracemill(project, "ingest", str(logs))
        tracemill(project, "score")
        tracemill(project, "mine")
    return project / ".tracemill" / "lake"


def later(table: str, *, days: tuple[int, int]) -> str:
    """SQL: the rows of the first day `days[0]` to `days[1] - 1` days later."""
    names = TABLES[table].schema.names
    columns = ", ".join(f'{_IDS.get(name, "{0}").format(f"s.{chr(34)}{name}{chr(34)}")} AS "{name}"' for name in names)
    return (
        f"SELECT {columns} FROM base.{table} s, (SELECT CAST(range AS INTEGER) AS k FROM range({days[0]}, {days[1]}))"
    )


def kept_up(root: Path) -> None:
    """Upkeep of the lake in `root`, until it finds nothing more to do."""
    with Lake.open(root) as lake:
        while lake.checkpoint(now_ns=time.time_ns()).merged:
            pass


def grow(base: Path, root: Path, n: int) -> Path:
    """A lake in `root` with at least `n` spans: the lake `base`, and days like it."""
    if (root / "catalog.sqlite").exists():
        return root
    fresh = root.with_name(root.name + ".unfinished")
    with Lake.create(fresh):
        con = engine.connect(fresh, read_only=False)
        con.execute("SET memory_limit = '6GB'")
        con.execute("SET preserve_insertion_order = true")
        engine.attach(con, base, "base", read_only=True, snapshot=None)
        a_day = con.execute("SELECT count(*) FROM base.spans").fetchone()
        assert a_day is not None
        days = -(-n // a_day[0])
        con.execute("INSERT INTO sites SELECT * FROM base.sites")
        for begin in range(0, days, _DAYS_AT_ONCE):
            con.execute("BEGIN")
            for table in _GROWN:
                listed = ", ".join(f'"{name}"' for name in TABLES[table].schema.names)
                rows = later(table, days=(begin, min(days, begin + _DAYS_AT_ONCE)))
                con.execute(f"INSERT INTO {table} ({listed}) SELECT {listed} FROM ({rows})")
            con.execute("COMMIT")
        con.close()
    kept_up(fresh)
    fresh.rename(root)
    return root


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--spans", type=int, default=10_000_000)
    parser.add_argument("--per-day", type=int, default=100_000)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    base = first_day(args.folder, args.per_day)
    print(grow(base, args.folder / f"lake-{args.spans}", args.spans))


if __name__ == "__main__":
    main()
