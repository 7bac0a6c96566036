"""How many bytes a lake takes for long sessions, and how fast everything that was said in them is scanned.

    python bench/storage.py [--quick] [--sessions N] [--keep FOLDER]

The corpus is `corpus.sessions`: agents at work for about fifty calls a session, each call with the whole history. It
goes in through `tracemill ingest`; then the lake's own upkeep merges its files, and lets its history expire, as after
90 nights. Against the bytes of that:

    raw        the OTLP/JSON files; `raw_zstd` those compressed with zstd, level 3, file by file
    inlined    the same lake without content-addressed messages: a table like `spans`, partitioned, sorted and
               compressed the same way by the same DuckDB, with the messages of each call as JSON in its row

and the same questions over all messages of all calls, warm, in turns, each in SQL that fits its table: how many calls
contain a word (`contains`), in whatever case (`ilike`), or match a pattern (`regexp`); how long are all prompts and
answers together (`length`), and how many tool calls stand in them (`tool_calls`).

The last line is one JSON object. `times_smaller`: raw bytes to all bytes of the lake folder, catalog and indices
included; `inlined_times`: the inlined table to `spans` and `messages`; `scan_times`: seconds inlined to seconds, by
question; `bytes`: by table.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import corpus
import duckdb
from harness import folder_bytes, machine, measure, spread

from tracemill.schema import TABLES
from tracemill.warehouse import Lake, engine, layout

DAY_NS = 86_400 * 10**9
WORD = "bamimi"
"""One of the made-up words, in about one message of a hundred."""
_CALLS = """
    WITH hits AS (SELECT DISTINCT message_id FROM messages WHERE {condition}),
    said AS (
        SELECT rowid AS call, unnest(list_concat(system_ids, input_ids, output_ids)) AS message_id
        FROM spans WHERE kind = 'llm'
    )
    SELECT count(DISTINCT call) FROM said SEMI JOIN hits USING (message_id)
"""
_SUM = """
    WITH numbers AS (SELECT message_id, any_value({number}) AS n FROM messages GROUP BY ALL),
    said AS (
        SELECT unnest(list_concat(system_ids, input_ids, output_ids)) AS message_id FROM spans WHERE kind = 'llm'
    )
    SELECT sum(n)::BIGINT FROM said JOIN numbers USING (message_id)
"""
_FOUND = {
    "contains": "contains({0}, $word)",
    "ilike": "{0} ILIKE '%' || $word || '%'",
    "regexp": "regexp_matches({0}, '\\b(' || $word || '|refund [a-z]{{3}}o)\\b')",
}
_COUNTED = {
    "length": ("length(parts)", "length({0})"),
    "tool_calls": (
        "len(list_filter(json_extract_string(parts, '$[*].type'), t -> t = 'tool_call'))",
        "len(list_filter(json_extract_string({0}, '$[*].parts[*].type'), t -> t = 'tool_call'))",
    ),
}
_TEXTS = ("system_messages", "input_messages", "output_messages")
ADDRESSED = {
    **{name: _CALLS.format(condition=condition.format("parts")) for name, condition in _FOUND.items()},
    **{name: _SUM.format(number=number) for name, (number, _) in _COUNTED.items()},
}
INLINED = {
    **{
        name: "SELECT count(*) FROM inlined WHERE kind = 'llm' AND ("
        + " OR ".join(condition.format(text) for text in _TEXTS)
        + ")"
        for name, condition in _FOUND.items()
    },
    **{
        name: "SELECT sum("
        + " + ".join(f"coalesce({number.format(text)}, 0)" for text in _TEXTS)
        + ")::BIGINT FROM inlined WHERE kind = 'llm'"
        for name, (_, number) in _COUNTED.items()
    },
}
LISTS = {"system_ids": "system_messages", "input_ids": "input_messages", "output_ids": "output_messages"}


def inline(addressed: Path, root: Path) -> None:
    """A lake with the one table `inlined`: `spans` with its messages as JSON in place of their ids."""
    Lake.create(root).close()
    con = engine.connect(root, read_only=False)
    engine.attach(con, addressed, "addressed", read_only=True, snapshot=None)
    spans = TABLES["spans"]
    columns = [
        f'"{LISTS.get(field.name, field.name)}" {"VARCHAR" if field.name in LISTS else layout.sql_type(field.type)}'
        for field in spans.schema
    ]
    con.execute(f"CREATE TABLE inlined ({', '.join(columns)}, tool_definitions VARCHAR)")
    con.execute("ALTER TABLE inlined DROP COLUMN tool_definitions_id")
    con.execute(f"ALTER TABLE inlined SET PARTITIONED BY ({', '.join(spans.partition_by)})")
    con.execute(f"ALTER TABLE inlined SET SORTED BY ({', '.join(spans.sort_by)})")
    con.execute(
        """
        CREATE TEMP TABLE said AS
        SELECT message_id, any_value(parts) AS parts,
            any_value('{"role":' || to_json(role) || ',"parts":' || parts || '}') AS message
        FROM addressed.messages GROUP BY message_id
        """
    )
    kept = ", ".join(
        f'"{field.name}"' for field in spans.schema if field.name not in LISTS and field.name != "tool_definitions_id"
    )
    for (day,) in con.execute("SELECT DISTINCT day FROM addressed.spans ORDER BY day").fetchall():
        texts = ", ".join(
            "(SELECT '[' || string_agg(message, ',' ORDER BY place) || ']' "
            f"FROM (SELECT unnest(s.{ids}) AS message_id, generate_subscripts(s.{ids}, 1) AS place) "
            f"JOIN said USING (message_id)) AS {messages}"
            for ids, messages in LISTS.items()
        )
        con.execute(
            f"INSERT INTO inlined BY NAME SELECT {kept}, {texts}, said.parts AS tool_definitions "
            "FROM addressed.spans s LEFT JOIN said ON said.message_id = s.tool_definitions_id "
            "WHERE s.day IS NOT DISTINCT FROM ?",
            [day],
        )
    con.close()


def settle(root: Path) -> None:
    """Upkeep now, when the history of the ingest has expired, and when its files may go."""
    with Lake.open(root) as lake:
        for days in (0, 91, 93):
            lake.checkpoint(now_ns=time.time_ns() + days * DAY_NS)


def files_of(con: duckdb.DuckDBPyConnection, table: str) -> list[str]:
    return [row[0] for row in con.execute(f"SELECT data_file FROM ducklake_list_files('lake', '{table}')").fetchall()]


def size_of(files: Sequence[str]) -> int:
    return sum(Path(file).stat().st_size for file in files)


def columns_of(con: duckdb.DuckDBPyConnection, files: Sequence[str]) -> list[tuple[str, int, int]]:
    """Columns with their compressed and uncompressed bytes, the largest first."""
    found = con.execute(
        "SELECT split_part(path_in_schema, ',', 1), sum(total_compressed_size)::BIGINT AS n, "
        "sum(total_uncompressed_size)::BIGINT FROM parquet_metadata(?) GROUP BY 1 ORDER BY n DESC",
        [list(files)],
    )
    return list(found.fetchall())


def scan(con: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, float, float]:
    """The answer, seconds, CPU seconds."""
    values = {"word": WORD} if "$word" in query else {}
    wall, cpu = time.perf_counter(), time.process_time()
    row = con.execute(query, values).fetchone()
    return (row[0] if row else None), time.perf_counter() - wall, time.process_time() - cpu


def compare(addressed: Path, inlined: Path, rounds: int) -> dict[str, tuple[list[float], list[float]]]:
    """CPU seconds of each question, addressed and inlined. SystemExit where the answers differ."""
    spent: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in ADDRESSED}
    with Lake.open(addressed) as ours:
        con, other = ours.reader(), engine.connect(inlined, read_only=True)
        for one in (con, other):
            one.execute("SET threads = 1")
        for turn in range(rounds + 1):
            for name in ADDRESSED:
                mine, _, mine_s = scan(con, ADDRESSED[name])
                theirs, _, theirs_s = scan(other, INLINED[name])
                if name != "length" and mine != theirs:  # JSON around the parts makes the inlined ones longer
                    raise SystemExit(f"{name}: {mine} calls by messages, {theirs} inlined")
                if turn:  # the first one warms up
                    spent[name][0].append(mine_s)
                    spent[name][1].append(theirs_s)
                else:
                    print(f"{name}: {mine:,} (inlined {theirs:,})", flush=True)
        other.close()
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under a minute: 40 sessions")
    parser.add_argument("--full", action="store_true", help="as without --quick: 300 sessions")
    parser.add_argument("--sessions", type=int)
    parser.add_argument("--keep", type=Path, help="work in this folder and leave everything there")
    args = parser.parse_args()
    print(machine(), flush=True)
    n = args.sessions or (40 if args.quick else 300)
    if args.keep:
        args.keep.mkdir(parents=True, exist_ok=True)
        run(n, args.keep.absolute(), rounds=3 if args.quick else 5)
    else:
        with TemporaryDirectory(prefix="tracemill-bench-") as folder:
            run(n, Path(folder), rounds=3 if args.quick else 5)


def run(n: int, folder: Path, *, rounds: int) -> None:
    logs = corpus.write(corpus.sessions(n), folder / "logs", name="sessions")
    raw = sum(path.stat().st_size for path in logs)
    zipped = sum(len(subprocess.run(["zstd", "-3", "-c", log], capture_output=True, check=True).stdout) for log in logs)
    project = folder / "project"
    project.mkdir()
    command = [sys.executable, "-m", "tracemill", "ingest", "--json", "--project", project, *logs]
    report = json.loads(measure(command).out)
    lake = project / ".tracemill" / "lake"
    after_ingest = folder_bytes(lake)
    settle(lake)
    inlined = folder / "inlined"
    inline(lake, inlined)

    with Lake.open(lake) as opened:
        con = opened.reader()
        files = {name: files_of(con, name) for name in TABLES}
        sizes = {name: size_of(found) for name, found in files.items() if found}
        said = {name: columns_of(con, files[name]) for name in sizes}
    other = engine.connect(inlined, read_only=True)
    calls = size_of(files_of(other, "inlined"))
    called = columns_of(other, files_of(other, "inlined"))
    other.close()
    catalog = (lake / "catalog.sqlite").stat().st_size
    whole = folder_bytes(lake)

    print(f"{n:,} sessions, {report['spans']:,} spans, {report['messages']:,} distinct messages")
    print(f"raw {raw:,}; zstd -3 {zipped:,}; lake after ingest {after_ingest:,}, settled {whole:,}; inlined {calls:,}")
    for name, size in sorted(sizes.items(), key=lambda item: -item[1]):
        largest = ", ".join(f"{column} {used:,}" for column, used, _ in said[name][:5])
        print(f"  {name:14}{size:14,} in {len(files[name])} files: {largest}")
    print(f"  {'catalog':14}{catalog:14,}")
    print(f"  {'(inlined)':14}{calls:14,}: " + ", ".join(f"{column} {used:,}" for column, used, _ in called[:5]))

    spent = compare(lake, inlined, rounds)
    times = {}
    for name, (mine, theirs) in spent.items():
        times[name] = round(statistics.median(theirs) / statistics.median(mine), 1)
        print(f"{name:10} addressed {spread(mine)} s, inlined {spread(theirs)} s: {times[name]} times")
    result = {
        "sessions": n,
        "spans": report["spans"],
        "raw_bytes": raw,
        "raw_zstd_bytes": zipped,
        "lake_bytes": whole,
        "lake_bytes_after_ingest": after_ingest,
        "inlined_bytes": calls,
        "times_smaller": round(raw / whole, 1),
        "inlined_times": round(calls / (sizes["spans"] + sizes["messages"]), 2),
        "scan_times": times,
        "bytes": {**sizes, "catalog": catalog},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
