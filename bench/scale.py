"""How much faster an ingest is with more workers: one process, two beside it, two on Ray, two machines on one lake.

    python bench/scale.py [--quick] [--spans N] [--rounds N] [--catalog "postgres:host=… user=… dbname=…"]

The same generated corpus (bench/corpus: OTLP/JSON, 2.5 KB a span, redaction on) in turns through `tracemill ingest`
into fresh projects:

    local       decode, redact and commit in one process
    processes   `--workers 2`: two processes decode and redact, the first one commits
    ray         `--engine ray --workers 2`, where Ray is installed: the same on a local cluster, its start left in
    shared_one  one process into a lake with its catalog in PostgreSQL, where `--catalog` names a server: each run
                makes a database of its own beside the one that is named
    shared_two  two of them at once over half of the files each, as two machines: they commit in turns

By the clock with everything, since that is what more workers are for; CPU seconds of all processes beside it (Ray's own
are not among them: they are nobody's children in the end). `commit` is the share of one process's CPU that is not
decoding and redacting: what the one committer does however many workers there are.

The last line is one JSON object: spans per second by contender, `times_processes`, `times_ray`, `times_shared`: against
one process, and `commit_share`.
"""

import argparse
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import corpus
import duckdb
from harness import Measured, machine, measure, spread

from tracemill import ingest
from tracemill.warehouse import engine

INGEST = (sys.executable, "-m", "tracemill", "ingest", "--json")


def project(folder: Path, toml: str = "") -> Path:
    folder.mkdir()
    (folder / "tracemill.toml").write_text(toml)
    return folder


def alone(folder: Path, files: Sequence[Path], *options: str) -> list[Measured]:
    return [measure([*INGEST, "--project", project(folder), *options, *files])]


def shared(folder: Path, catalog: str, name: str, files: Sequence[Path], machines: int) -> list[Measured]:
    """Machines with a database of their own; data in a folder that they share. Their start is in the time."""
    with duckdb.connect(config={"allow_unsigned_extensions": True}) as con:
        con.execute(f"LOAD {engine.quoted(str(engine.extension_path('postgres_scanner')))}")
        server = engine.quoted(catalog.removeprefix("postgres:") + " dbname=postgres")
        con.execute(f"ATTACH {server} AS server (TYPE postgres)")
        con.execute("CALL postgres_execute('server', ?, use_transaction := false)", [f"CREATE DATABASE {name}"])
    folder.mkdir()
    toml = f'[lake]\ncatalog = "{catalog} dbname={name}"\ndata = "{folder / "data"}"\n'
    projects = [project(folder / f"machine-{number}", toml) for number in range(machines)]
    measure([sys.executable, "-m", "tracemill", "init", "--project", projects[0]])
    key = (projects[0] / ".tracemill/lake/key").read_bytes()
    for other in projects[1:]:
        (other / ".tracemill/lake").mkdir(parents=True)
        (other / ".tracemill/lake/key").write_bytes(key)
    with ThreadPoolExecutor(machines) as pool:
        running = [
            pool.submit(measure, [*INGEST, "--project", one, *files[number::machines]])
            for number, one in enumerate(projects)
        ]
        return [one.result() for one in running]


def decoding_s(files: Sequence[Path]) -> float:
    """CPU seconds of decoding and redacting alone, in this process."""
    began = time.process_time()
    for _ in ingest.batches(ingest.find(list(files)), key=bytes(32), now_ns=0):
        pass
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--spans", type=int)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--catalog", help="a PostgreSQL server that may make databases; without dbname")
    chosen = parser.parse_args()
    spans = chosen.spans or (30_000 if chosen.quick else 200_000)
    rounds = chosen.rounds or (1 if chosen.quick else 3)
    print(f"{machine()}; {spans:,} spans, {rounds} rounds")
    walls: dict[str, list[float]] = {}
    cpus: dict[str, list[float]] = {}
    with TemporaryDirectory(prefix="tracemill-scale-") as temporary:
        folder = Path(temporary)
        files = corpus.write(corpus.spans(spans), folder / "logs", max_bytes=16_000_000)
        print(f"{sum(path.stat().st_size for path in files) / 1e6:,.0f} MB in {len(files)} files")
        for number in range(rounds):
            contenders = {
                "local": lambda at: alone(at, files),
                "processes": lambda at: alone(at, files, "--workers", "2"),
            }
            if importlib.util.find_spec("ray") is not None:
                contenders["ray"] = lambda at: alone(at, files, "--engine", "ray", "--workers", "2")
            if chosen.catalog is not None:
                stamp = time.time_ns()
                contenders["shared_one"] = lambda at, n=stamp: shared(at, chosen.catalog, f"one_{n}", files, 1)
                contenders["shared_two"] = lambda at, n=stamp: shared(at, chosen.catalog, f"two_{n}", files, 2)
            for name, run in contenders.items():
                done = run(folder / f"{name}-{number}")
                taken = sum(json.loads(one.out)["spans"] for one in done)
                if taken != spans:
                    raise SystemExit(f"{name} took {taken} spans of {spans}")
                walls.setdefault(name, []).append(max(one.wall_s for one in done))
                cpus.setdefault(name, []).append(sum(one.cpu_s for one in done))
                print(f"  {name}: {walls[name][-1]:.1f} s", flush=True)
        decoding = decoding_s(files)
    rates = {name: spans / statistics.median(times) for name, times in walls.items()}
    for name, times in walls.items():
        print(
            f"{name:12} {rates[name]:8,.0f} spans/s   {spread(times)} s by the clock, "
            f"{spread(cpus[name])} s of CPU, {rates[name] / rates['local']:.2f} times one process"
        )
    share = 1 - decoding / statistics.median(cpus["local"])
    print(f"of one process's CPU {share:.0%} is committing, and all that is not decoding and redacting")
    result = {name: round(rate) for name, rate in rates.items()}
    for contender, key in (("processes", "times_processes"), ("ray", "times_ray")):
        if contender in rates:
            result[key] = round(rates[contender] / rates["local"], 2)
    if "shared_two" in rates:
        result["times_shared"] = round(rates["shared_two"] / rates["shared_one"], 2)
    print(json.dumps(result | {"commit_share": round(share, 2)}))


if __name__ == "__main__":
    main()
