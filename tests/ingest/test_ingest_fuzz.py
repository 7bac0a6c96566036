"""Mutated logs of every format: nothing crashes, nothing hangs, nothing gets lost without a word.

`examples/<format>.<suffix>` holds a small log of each registered format. A failure names format and seed; `mutated`
with them gives the bytes again.
"""

import copy
import json
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from tracemill import ingest
from tracemill.errors import FormatError
from tracemill.ingest.batching import items
from tracemill.ingest.building import Building
from tracemill.ingest.formats import FORMATS
from tracemill.ingest.reader import Done
from tracemill.schema import TABLES

KEY = b"k" * 32
EXAMPLES = Path(__file__).parent / "examples"
NAMES = [reader.name for reader in FORMATS]
RECORDS = 100_000
"""Mutated records over all formats in the slow run."""
GROUP = 50
"""Mutated logs that are taken in together: beside one small log, all that a batch costs would be most of it."""
FOLDED = frozenset((
    "claude-code", "claude-stream", "codex", "copilot-cli", "cursor", "droid", "gemini-cli", "hermes", "letta-code",
    "opencode", "pi",
))  # fmt: skip
"""Sessions, in which a record may only add to the rows of others. Elsewhere each makes a row or is refused."""

NASTY: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63 - 1, 2**63, -(2**70), 10**25, 0.0, -0.5, 1e308, math.nan, math.inf,
    "", " ", "0", "-1", "null", "true", "x" * 3000, "\x00", "\ud800", "\u202e\u2028", "2024-13-45T99:99:99Z", "[" * 500,
    "{}", "[]", "9999-12-31T23:59:59.999999999Z", '{"a": ' * 200, '"', "\\", "\\u0000", "\U0001f701" * 50, [], {},
    [None], [[]], [{}], {"": None}, {"a": {"b": []}}, ["x"] * 50, {"type": "x"}, [1, "a", None, {}],
    {"role": 3, "content": {}}, [{"role": None}], [{"type": None, "text": 1}], {"usage": -1},
)  # fmt: skip
BYTES = (
    b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\n", b"\r\n", b"[", b"{", b'"', b"\\", b",", b"}", b"]", b"\x1f\x8b",
    b"PAR1", b"e999",
)  # fmt: skip


def example(name: str) -> Path:
    (path,) = EXAMPLES.glob(f"{name}.*")
    return path


def test_every_format_has_an_example_that_it_reads() -> None:
    for name in NAMES:
        (batch,) = ingest.batches(ingest.find([example(name)]), key=KEY, now_ns=1)
        assert batch.tables["ingest_log"]["source_format"].to_pylist() == [name]
        assert batch.tables["quarantine"].num_rows == 0
        assert batch.tables["spans"].num_rows + batch.tables["scores"].num_rows
    assert {path.name.rsplit(".", 1)[0] for path in EXAMPLES.iterdir()} == set(NAMES)


def nodes(value: Any) -> list[tuple[Any, Any]]:
    """Every place in a JSON value: the container and the key or index in it."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        inner = waiting.pop()
        if isinstance(inner, dict | list):
            keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
            found.extend((inner, key) for key in keys)
            waiting.extend(inner[key] for key in keys)
    return found


def change(r: random.Random, value: Any) -> None:
    """One change somewhere in a JSON value."""
    places = nodes(value)
    if not places:
        return
    holder, key = r.choice(places)
    how = r.randrange(7)
    if how == 0 and isinstance(holder, dict):
        del holder[key]
    elif how == 1:
        other, at = r.choice(places)
        holder[key] = json.loads(json.dumps(other[at])) if at in other or isinstance(other, list) else None
    elif how == 2 and isinstance(holder[key], list | dict):
        holder[key] = json.dumps(holder[key])
    elif how == 3 and isinstance(holder, dict):
        holder[str(r.choice(NASTY))[:20]] = holder.pop(key)
    elif how == 4 and isinstance(holder[key], str):
        holder[key] = holder[key][: r.randrange(len(holder[key]) + 1)]
    elif how == 5:
        holder[key] = [holder[key]]
    else:
        holder[key] = copy.deepcopy(r.choice(NASTY))  # a later change may be one inside of it


def changed_json(r: random.Random, raw: bytes) -> bytes:
    """A log with changes in its values; what is no JSON stays as it is."""
    try:
        document = json.loads(raw)
    except ValueError:
        lines = raw.split(b"\n")
        for _ in range(r.choice((1, 1, 2, 5))):
            at = r.randrange(len(lines))
            lines[at] = changed_line(r, lines[at])
        return b"\n".join(lines)
    return changed_line(r, json.dumps(document).encode())


def changed_line(r: random.Random, line: bytes) -> bytes:
    try:
        value = json.loads(line)
    except ValueError:
        return line
    for _ in range(r.choice((1, 1, 2, 4))):
        change(r, value)
    return json.dumps(value).encode()


def changed_bytes(r: random.Random, raw: bytes) -> bytes:
    """A log with damaged bytes: cut off, cut out, doubled, flipped, or with others put in."""
    data = bytearray(raw)
    for _ in range(r.choice((1, 1, 2, 6))):
        at = r.randrange(len(data) + 1)
        how = r.randrange(6)
        if how == 0:
            data = data[:at]
        elif how == 1:
            del data[at : at + r.randrange(40)]
        elif how == 2:
            data[at:at] = data[at : at + r.randrange(60)]
        elif how == 3 and at < len(data):
            data[at] ^= 1 << r.randrange(8)
        elif how == 4:
            data[at:at] = r.choice(BYTES)
        else:
            data[at:at] = r.randbytes(r.randrange(8))
    return bytes(data)


def changed_lines(r: random.Random, raw: bytes) -> bytes:
    """A log whose lines come in another order, twice, or not at all."""
    lines = raw.split(b"\n")
    how = r.randrange(3)
    if how == 0:
        r.shuffle(lines)
    elif how == 1:
        lines.insert(r.randrange(len(lines) + 1), r.choice(lines))
    else:
        del lines[r.randrange(len(lines))]
    return b"\n".join(lines)


def changed_frames(r: random.Random, raw: bytes) -> bytes:
    """A file of protobuf requests that are led by their lengths: some of them damaged, doubled or left out."""
    frames = []
    while raw:
        size, raw = frame_size(raw)
        frames.append(raw[:size])
        raw = raw[size:]
    for _ in range(r.choice((1, 1, 2, 3))):
        at = r.randrange(len(frames))
        if r.random() < 0.8:
            frames[at] = changed_bytes(r, frames[at])
        else:
            frames[at : at + 1] = r.choice(([], [frames[at]] * 2, [r.randbytes(r.randrange(20)), frames[at]]))
            frames = frames or [b""]
    return b"".join(written_size(len(frame)) + frame for frame in frames)


def frame_size(raw: bytes) -> tuple[int, bytes]:
    """The number that leads a frame, seven bits a byte, and what follows it."""
    size = at = 0
    while True:
        size |= (raw[at] & 0x7F) << (7 * at)
        at += 1
        if raw[at - 1] < 0x80:
            return size, raw[at:]


def written_size(size: int) -> bytes:
    digits = []
    while size >= 0x80:
        digits.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*digits, size])


Mutation = Callable[[random.Random, bytes], bytes]
OF_TEXTS: tuple[Mutation, ...] = (
    changed_json, changed_json, changed_json, changed_bytes, changed_bytes, changed_lines,
)  # fmt: skip
OF_PROTOBUF: tuple[Mutation, ...] = (changed_frames, changed_frames, changed_bytes)


def mutated(name: str, seed: int) -> bytes:
    r = random.Random(f"{name} {seed}")
    of = example(name)
    return r.choice(OF_PROTOBUF if of.suffix == ".binpb" else OF_TEXTS)(r, of.read_bytes())


def take(folder: Path, logs: Iterable[bytes], suffix: str, **options: Any) -> list[Counter[str]]:
    """Takes logs in, checks that everything in them is accounted for, and says what became of each."""
    paths = [folder / f"log{number}{suffix}" for number, _ in enumerate(logs)]
    for path, log in zip(paths, logs, strict=True):
        path.write_bytes(log)
    found: dict[str, Counter[str]] = {path.name: Counter() for path in paths}
    for batch in ingest.batches(ingest.find(paths), key=KEY, now_ns=1, **options):
        rows = {table: batch.tables[table].num_rows for table in batch.tables}
        for table, content in batch.tables.items():
            assert content.schema.equals(TABLES[table].schema), table
            content.validate(full=True)
        ledger = (*batch.tables["ingest_log"].to_pylist(), *batch.tables["ingest_progress"].to_pylist())
        made = rows["spans"] + rows["span_parts"] + rows["scores"] + batch.duplicates + rows["quarantine"]
        assert sum(row["n_items"] for row in ledger) == made
        for row in ledger:
            of = found[row["source_uri"].rsplit("/", 1)[1]]
            of.update(records=row["n_records"], items=row["n_items"])
        for row in batch.tables["ingest_log"].to_pylist():
            found[row["source_uri"].rsplit("/", 1)[1]]["read"] += 1
        for uri in batch.tables["quarantine"]["source_uri"].to_pylist():
            found[uri.rsplit("/", 1)[1]]["quarantined"] += 1
    for path, of in found.items():
        assert of["read"] == 1, path
        assert of["items"] > 0, f"nothing is said about {path}"
    return list(found.values())


class Watched(Building):
    """Remembers which format was recognised."""

    format: str | None = None

    def recognised(self, format: str | None, reason: str) -> None:
        self.format = format
        super().recognised(format, reason)


def silent(folder: Path, log: bytes, suffix: str) -> list[int]:
    """The records, by number, of which nothing became anything."""
    path = folder / f"log{suffix}"
    path.write_bytes(log)
    (source,) = ingest.find([path])
    building = Watched(key=KEY, now_ns=1)
    building.begin(source)
    found, said, number = [], False, 0
    for item in items(source, building):
        if not isinstance(item, Done):
            said = True
            continue
        number += 1
        if not said and item.count and building.format not in FOLDED:
            found.append(number)
        said = False
    return found


def fuzz(name: str, folder: Path, *, files: int, records: int) -> None:
    suffix = example(name).suffix
    done = begin = 0
    while begin < files or done < records:
        seeds = range(begin, begin + min(GROUP, max(files, GROUP if records else 0)))
        begin = seeds.stop
        logs = [mutated(name, seed) for seed in seeds]
        try:
            taken = take(folder, logs, suffix)
        except Exception:
            for seed in seeds:
                alone(name, seed, folder)
            raise
        done += sum(max(1, found["records"]) for found in taken)
        for seed, log in zip(seeds, logs, strict=True):
            assert silent(folder, log, suffix) == [], f"records of mutated({name!r}, {seed}) vanished"
            if seed % 4 == 3 and seed < 100:
                alone(name, seed, folder, format=name)


def alone(name: str, seed: int, folder: Path, **options: Any) -> None:
    try:
        take(folder, [mutated(name, seed)], example(name).suffix, **options)
    except FormatError:
        assert "format" in options, f"{name} {seed}"
    except Exception as error:
        raise AssertionError(f"mutated({name!r}, {seed})") from error


@pytest.mark.parametrize("name", NAMES)
def test_mutated_logs_end_as_rows_or_in_quarantine(name: str, tmp_path: Path) -> None:
    fuzz(name, tmp_path, files=8, records=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_hundred_thousand_mutated_records_end_as_rows_or_in_quarantine(name: str, tmp_path: Path) -> None:
    fuzz(name, tmp_path, files=100, records=-(-RECORDS // len(NAMES)))


@pytest.mark.parametrize("name", [name for name in NAMES if example(name).suffix == ".jsonl"])
def test_a_torn_line_is_quarantined_and_costs_no_other(name: str, tmp_path: Path) -> None:
    raw = example(name).read_bytes().rstrip(b"\n")
    (whole,) = take(tmp_path, [raw + b"\n"], ".jsonl")
    (torn,) = take(tmp_path, [raw + b'\n{"torn": "here'], ".jsonl")
    assert torn["quarantined"] == whole["quarantined"] + 1
    assert torn["items"] == whole["items"] + 1
