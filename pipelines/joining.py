"""Feedback files onto what they judge: rows joined by a declared key, and a report of what did not match."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from tracemill import ingest
from tracemill.ids import content_id
from tracemill.pipelines.night import Night
from tracemill.records import Batch
from tracemill.schema import TABLES

_EXAMPLES = 3
_SQL = Path(__file__).parent / "sql" / "feedback_join.sql"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreJoin:
    """How one feedback file met the lake: distinct keys of the file on one side, targets of the lake on the other."""

    file: str
    on: str
    keys: int
    matched: int
    unknown: int
    """Keys that nothing in the lake has. Judgements of sessions, traces and spans are kept until these come."""
    unknown_examples: tuple[str, ...]
    ambiguous: int
    """Keys that several targets in the lake share, so that nobody knows which of them is judged."""
    ambiguous_examples: tuple[str, ...]
    without_row: int
    """Sessions, trajectories or spans of the lake that have such a key and no row in the file."""
    without_row_examples: tuple[str, ...]


def read(night: Night, path: Path, *, on: str, rules: ingest.Ruleset) -> tuple[Batch, ScoreJoin]:
    """The file's judgements, each with the target that its key names.

    `on` is a key, or `key=column` where the file calls it otherwise. Rows whose key names a span or trajectory by
    something else than its id (a task, a response, an attribute) are quarantined where nothing or more than one has it.
    Raises ConfigError on a key that cannot be joined on.
    """
    batch = ingest.read_scores(
        path, on=on, key=night.lake.key, now_ns=night.clock(), rules=rules, limits=night.config.limits
    )
    key = ingest.JoinKey.parse(on)
    scores: list[dict[str, Any]] = batch.tables["scores"].to_pylist()
    keys = sorted({row["target_id"] for row in scores})
    with night.lake.reader(None) as con:
        params = {"on": key.name, "keys": keys, "path": key.path or ""}
        found = con.execute(_SQL.read_text(encoding="utf-8"), params).to_arrow_table().to_pylist()
    named = {row["key"]: row for row in found if row["side"] == "key"}
    (silent,) = (row for row in found if row["side"] == "lake")
    unknown = [name for name in keys if named[name]["n"] == 0]
    ambiguous = [name for name in keys if named[name]["n"] > 1]
    report = ScoreJoin(
        file=str(path),
        on=on,
        keys=len(keys),
        matched=len(keys) - len(unknown) - len(ambiguous),
        unknown=len(unknown),
        unknown_examples=tuple(unknown[:_EXAMPLES]),
        ambiguous=len(ambiguous),
        ambiguous_examples=tuple(ambiguous[:_EXAMPLES]),
        without_row=silent["n"],
        without_row_examples=tuple(silent["examples"] or ()),
    )
    return (batch if key.direct else _resolved(batch, scores, named, key.name)), report


def _resolved(batch: Batch, scores: list[dict[str, Any]], named: Mapping[str, Mapping[str, Any]], on: str) -> Batch:
    """The batch with targets in the place of keys; what has no single target is refused."""
    hashes = {row["source_uri"]: row for row in batch.tables["ingest_log"].to_pylist()}
    kept: dict[str, tuple[dict[str, Any], str]] = {}
    refused: dict[tuple[str, str], dict[str, Any]] = {}
    for row, uri in zip(scores, batch.score_uris, strict=True):
        key = row["target_id"]
        target = named[key]
        if target["n"] == 1:
            found = {**row, "target_kind": target["target_kind"], "target_id": target["target_id"]}
            found["score_id"] = content_id({name: value for name, value in found.items() if name != "score_id"})
            kept.setdefault(found["score_id"], (found, uri))
            continue
        many = f"{target['n']} trajectories or spans of the lake share" if target["n"] else "nothing in the lake has"
        judgement = json.dumps({name: row[name] for name in ("name", "value", "label", "source")}, ensure_ascii=False)
        log = hashes[uri]
        refused[key, judgement] = {
            "source_uri": uri,
            "content_hash": log["content_hash"],
            "source_format": log["source_format"],
            "reason": f"no feedback row: {many} the {on} {key!r}"[:500],
            "excerpt": judgement[:500],
            "ingested_at": log["ingested_at"],
        }
    quarantine = pa.Table.from_pylist(list(refused.values()), schema=TABLES["quarantine"].schema)
    tables = {
        **batch.tables,
        "scores": pa.Table.from_pylist([row for row, _ in kept.values()], schema=TABLES["scores"].schema),
        "quarantine": pa.concat_tables([batch.tables["quarantine"], quarantine]),
    }
    left = len(scores) - len(kept) - len(refused)
    return replace(
        batch,
        tables=tables,
        score_uris=tuple(uri for _, uri in kept.values()),
        duplicates=batch.duplicates + left,
    )


def told(join: ScoreJoin) -> list[str]:
    """The report as lines for people."""

    def such(examples: tuple[str, ...]) -> str:
        return f", such as {', '.join(examples)}" if examples else ""

    name = join.on.partition("=")[0]
    lines = [f"{join.file}: {join.matched} of {join.keys} keys ({name}) name something in the lake"]
    if join.unknown:
        lines.append(f"  {join.unknown} not known to the lake{such(join.unknown_examples)}")
    if join.ambiguous:
        lines.append(f"  {join.ambiguous} shared by several in the lake{such(join.ambiguous_examples)}")
    if join.without_row:
        what = {"session_id": "sessions", "span_id": "calls", "response_id": "calls", "tool_call_id": "tool calls"}
        lines.append(
            f"  {join.without_row} {what.get(name, 'trajectories')} of the lake without a row"
            f"{such(join.without_row_examples)}"
        )
    return lines
