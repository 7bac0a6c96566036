"""Mutated logs of every format: nothing crashes, nothing hangs, nothing gets lost without a word.

`examples/<format>.<suffix>` holds a small log of each registered format. A failure names format and seed; `mutated`
with them gives the bytes again.
"""

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tracemill import ingest
from tracemill.errors import FormatError
from tracemill.ingest.formats import FORMATS
from tracemill.schema import TABLES

KEY = b"k" * 32
EXAMPLES = Path(__file__).parent / "examples"
NAMES = [reader.name for reader in FORMATS]
RECORDS = 100_000
"""Mutated records over all formats in the slow run."""

NASTY: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63 - 1, 2**63, -(2**70), 10**25, 0.0, -0.5, 1e308, math.nan, math.inf,
    "", " ", "0", "-1", "null", "true", "x" * 3000, "\x00", "\ud800", "\u202e\u2028", "2024-13-45T99:99:99Z", "[" * 500, "{}",
    "[]", "9999-12-31T23:59:59.999999999Z", '{"a": ' * 200, '"', "\\", "\\u0000", "\U0001f701" * 50, [], {}, [None],
    [[]], [{}], {"": None}, {"a": {"b": []}}, ["x"] * 50, {"type": "x"}, [1, "a", None, {}], {"role": 3, "content": {}},
    [{"role": None}], [{"type": None, "text": 1}], {"usage": -1},
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
        holder[key] = r.choice(NASTY)


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


MUTATIONS: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    changed_json, changed_json, changed_json, changed_bytes, changed_bytes, changed_lines,
)  # fmt: skip


def mutated(name: str, seed: int) -> bytes:
    r = random.Random(f"{name} {seed}")
    return r.choice(MUTATIONS)(r, example(name).read_bytes())


def take(path: Path, data: bytes, **options: Any) -> dict[str, int]:
    """Takes a log in, checks that everything in it is accounted for, and says what became of it."""
    path.write_bytes(data)
    found: dict[str, int] = {}
    for batch in ingest.batches(ingest.find([path]), key=KEY, now_ns=1, **options):
        rows = {table: batch.tables[table].num_rows for table in batch.tables}
        for table, content in batch.tables.items():
            assert content.schema.equals(TABLES[table].schema), table
            content.validate(full=True)
        ledger = (*batch.tables["ingest_log"].to_pylist(), *batch.tables["ingest_progress"].to_pylist())
        made = rows["spans"] + rows["span_parts"] + rows["scores"] + batch.duplicates + rows["quarantine"]
        assert sum(row["n_items"] for row in ledger) == made
        assert rows["ingest_log"] == 1
        found["records"] = found.get("records", 0) + sum(row["n_records"] for row in ledger)
        found["items"] = found.get("items", 0) + made
        found["quarantined"] = found.get("quarantined", 0) + rows["quarantine"]
    return found


def fuzz(name: str, path: Path, *, files: int, records: int) -> None:
    done = seed = 0
    while seed < files or done < records:
        data = mutated(name, seed)
        explicit = seed % 4 == 3
        try:
            found = take(path, data, **({"format": name} if explicit else {}))
        except FormatError:
            assert explicit, f"{name} {seed}"
        except Exception as error:
            raise AssertionError(f"mutated({name!r}, {seed})") from error
        else:
            assert found["items"] or blank(name, data), f"nothing said about mutated({name!r}, {seed})"
            done += max(1, found["records"])
        seed += 1


def blank(name: str, data: bytes) -> bool:
    """Whether a log holds only what makes no row: records that a format is known to pass over."""
    return all(not line.strip() or line in example(name).read_bytes() for line in data.split(b"\n"))


@pytest.mark.parametrize("name", NAMES)
def test_mutated_logs_end_as_rows_or_in_quarantine(name: str, tmp_path: Path) -> None:
    fuzz(name, tmp_path / f"log{example(name).suffix}", files=8, records=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_hundred_thousand_mutated_records_end_as_rows_or_in_quarantine(name: str, tmp_path: Path) -> None:
    fuzz(name, tmp_path / f"log{example(name).suffix}", files=100, records=RECORDS // len(NAMES))


@pytest.mark.parametrize("name", [name for name in NAMES if example(name).suffix == ".jsonl"])
def test_a_torn_line_is_quarantined_and_costs_no_other(name: str, tmp_path: Path) -> None:
    raw = example(name).read_bytes().rstrip(b"\n")
    whole = take(tmp_path / "whole.jsonl", raw + b"\n")
    torn = take(tmp_path / "torn.jsonl", raw + b'\n{"torn": "here')
    assert torn["quarantined"] == whole["quarantined"] + 1
    assert torn["items"] == whole["items"] + 1
