"""Writing one ingest batch: each row once, however often its source comes by, and an account that closes."""

from collections import Counter, defaultdict
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from tracemill.errors import StoreError
from tracemill.records import Batch
from tracemill.schema import TABLES
from tracemill.warehouse import rows, spans
from tracemill.warehouse.layout import statement
from tracemill.warehouse.rebuild import Arrival

_TABLES = ("spans", "span_parts", "messages", "scores", "tasks", "ingest_log", "ingest_progress", "quarantine")
_FATES = ("n_spans", "n_merged", "n_duplicates", "n_scores", "n_quarantined")
_Account = defaultdict[str | None, Counter[str]]
"""How many items came to which fate, by source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a batch added. `items` = spans + merged + duplicates + scores + quarantined: nothing gets lost."""

    items: int
    """What came in: spans, parts of spans, scores and refused records."""
    spans: int
    """Spans written: new ones, and newer versions of known ones."""
    merged: int
    """Parts that completed a span beside others, or wait for the rest of it."""
    messages: int
    scores: int
    duplicates: int
    """Items not written, because the lake or the batch has them already, or has them newer."""
    quarantined: int
    files: int
    """Source objects that were not in the ledger and now are."""
    trace_ids: list[str]
    """Traces with spans written, sorted: what to rebuild."""


def take(con: duckdb.DuckDBPyConnection, batch: Batch, empty: Container[str] = frozenset()) -> tuple[Taken, Arrival]:
    """See Transaction.take. Also gives what making trajectories of its traces need not ask again.

    `empty`: tables that are known to hold nothing, which are not looked into.
    """
    unknown = sorted(set(batch.tables) - set(_TABLES))
    if unknown:
        raise StoreError(f"batch {batch.batch_id} has tables {unknown}; a batch may have: {', '.join(_TABLES)}")
    given = {
        name: rows.checked(table, TABLES[name].schema, name, TABLES[name].key) for name, table in batch.tables.items()
    }
    tables: Mapping[str, pa.Table] = {name: TABLES[name].schema.empty_table() for name in _TABLES} | given
    left_out: list[str | None] = []
    if "erased" not in empty:
        tables, left_out = _without_erased(con, tables)
    objects = _objects(con, tables["ingest_log"], tables["ingest_progress"], empty)
    known = sorted({one["source_uri"] for one in objects} - {one["source_uri"] for one in objects if not one["known"]})
    written = spans.write(con, tables["spans"], tables["span_parts"], known, empty)
    account: _Account = defaultdict(Counter)
    for uri in left_out:
        account[uri]["n_duplicates"] += 1
    for uri, fate in written.fates.items():
        account[uri].update(n_spans=fate.spans, n_merged=fate.merged, n_duplicates=fate.duplicates)
    messages = rows.insert(con, TABLES["messages"], tables["messages"])
    uris = batch.score_uris or [None] * tables["scores"].num_rows
    _take_scores(con, tables["scores"], uris, account)
    _join_responses(con, tables["scores"], tables["spans"], empty)
    rows.replace(con, TABLES["tasks"], tables["tasks"])
    new = [one for one in objects if one["source_uri"] not in known]
    _take_quarantine(con, tables["quarantine"], new, batch.outgrown, account)
    files = _take_ledger(con, tables, new, account)
    total: Counter[str] = sum(account.values(), Counter())
    total["n_duplicates"] += batch.duplicates
    taken = Taken(
        items=sum(total[name] for name in _FATES),
        spans=total["n_spans"],
        merged=total["n_merged"],
        messages=messages,
        scores=total["n_scores"],
        duplicates=total["n_duplicates"],
        quarantined=total["n_quarantined"],
        files=files,
        trace_ids=written.trace_ids,
    )
    return taken, Arrival(
        trace_ids=frozenset(written.trace_ids), known=written.known, days=written.days, messages=tables["messages"]
    )


def _without_erased(
    con: duckdb.DuckDBPyConnection, tables: Mapping[str, pa.Table]
) -> tuple[Mapping[str, pa.Table], list[str | None]]:
    """The tables without the spans of erased traces and what only these say; the sources of the spans left out."""
    for name, relation in (("spans", "staged"), ("span_parts", "staged_parts")):
        rows.stage(con, relation, tables[name])
    try:
        erased = {row[0] for row in con.execute(statement("came_erased")).fetchall()}
        if not erased:
            return tables, []
        left_out: list[str | None] = []
        kept = dict(tables)
        for name in ("spans", "span_parts"):
            stays = [trace not in erased for trace in tables[name]["trace_id"].to_pylist()]
            left_out += [
                uri for uri, kept_ in zip(tables[name]["source_uri"].to_pylist(), stays, strict=True) if not kept_
            ]
            kept[name] = tables[name].filter(pa.array(stays, pa.bool_()))
            rows.stage(con, "staged" if name == "spans" else "staged_parts", kept[name])
        said = {row[0] for row in con.execute(statement("came_said")).fetchall()}
        stays = [message in said for message in tables["messages"]["message_id"].to_pylist()]
        kept["messages"] = tables["messages"].filter(pa.array(stays, pa.bool_()))
        return kept, left_out
    finally:
        con.unregister("staged")
        con.unregister("staged_parts")


def _objects(
    con: duckdb.DuckDBPyConnection, ledger: pa.Table, progress: pa.Table, empty: Container[str]
) -> list[dict[str, Any]]:
    """What the lake knows of the objects of the batch: whether it has them, as whole or up to where the batch has them;
    the account of earlier batches of them; whether something of them was refused before."""
    came = [
        (uri, digest, position)
        for table in (ledger, progress)
        for uri, digest, position in zip(
            table["source_uri"].to_pylist(),
            table["content_hash"].to_pylist(),
            table["position"].to_pylist() if "position" in table.column_names else [None] * table.num_rows,
            strict=True,
        )
        if uri is not None
    ]
    if not came:
        return []
    con.register("objects", pa.table({"source_uri": pa.array(sorted({uri for uri, _, _ in came}), pa.string())}))

    def asked(table: str, name: str) -> list[dict[str, Any]]:
        return [] if table in empty else list(con.execute(statement(name)).to_arrow_table().to_pylist())

    try:
        known = {(one["source_uri"], one["content_hash"]) for one in asked("ingest_log", "ledger_known")}
        begun = {(one["source_uri"], one["content_hash"]): one for one in asked("ingest_progress", "ledger_begun")}
        refused = {one["source_uri"] for one in asked("quarantine", "ledger_refused")}
    finally:
        con.unregister("objects")
    objects = []
    for uri, digest, position in came:
        before = begun.get((uri, digest), {})
        reached = before.get("position")
        further = position is None or reached is None or reached < position
        objects.append(
            {
                **{name: before.get(name) for name in ("n_items", *_FATES)},
                "source_uri": uri,
                "content_hash": digest,
                "known": (uri, digest) in known or not further,
                "begun": bool(before),
                "refused": uri in refused,
            }
        )
    return objects


def _take_scores(
    con: duckdb.DuckDBPyConnection, scores: pa.Table, uris: Sequence[str | None], account: _Account
) -> None:
    new = set(rows.insert_new(con, TABLES["scores"], scores))
    for place in range(scores.num_rows):
        account[uris[place]]["n_scores" if place in new else "n_duplicates"] += 1


def _join_responses(con: duckdb.DuckDBPyConnection, scores: pa.Table, spans: pa.Table, empty: Container[str]) -> None:
    """Judgements that name a response id, given to the calls that gave that response as well."""
    if not pc.any(pc.equal(scores["target_kind"], "response")).as_py():
        # Nor is there anything to do where no call came, or no judgement of the lake names a response.
        if spans["response_id"].null_count == len(spans) or "scores" in empty:
            return
        if not rows.some(con, "scores WHERE target_kind = 'response'"):
            return
    names = TABLES["scores"].schema.names
    own = {"score_id": "n.new_id", "target_kind": "'span'", "target_id": "n.span_id"}
    filled = statement("answered_scores").format(
        columns=rows.columns(names), values=", ".join(own.get(name, f'r."{name}"') for name in names)
    )
    con.register("batch_scores", scores.select(["score_id", "target_kind", "target_id"]))
    con.register("batch_spans", spans.select(["trace_id", "span_id", "kind", "response_id"]))
    try:
        con.execute(filled)
    finally:
        con.unregister("batch_scores")
        con.unregister("batch_spans")


def _take_quarantine(
    con: duckdb.DuckDBPyConnection,
    refused: pa.Table,
    objects: Sequence[Mapping[str, Any]],
    outgrown: Sequence[tuple[str, str]],
    account: _Account,
) -> None:
    settled = [*outgrown] + [
        (one["source_uri"], digest)
        for one in objects
        if one["refused"]
        for digest in ({""} if one["begun"] else {"", one["content_hash"] or ""})
    ]
    if settled:
        names = ("source_uri", "content_hash")
        con.register("settled", pa.table([list(column) for column in zip(*settled, strict=True)], names=names))
        try:
            con.execute(statement("settle_quarantine"))
        finally:
            con.unregister("settled")
    new = set(rows.insert_new(con, TABLES["quarantine"], refused))
    columns = (refused.column(name).to_pylist() for name in ("source_uri", "content_hash"))
    for place, (uri, digest) in enumerate(zip(*columns, strict=True)):
        # What cannot be opened is refused each time that it is tried, and written down once.
        account[uri]["n_quarantined" if place in new or digest is None else "n_duplicates"] += 1


def _take_ledger(
    con: duckdb.DuckDBPyConnection,
    tables: Mapping[str, pa.Table],
    objects: Sequence[Mapping[str, Any]],
    account: _Account,
) -> int:
    """Ledger rows with the counts of all batches of their objects; returns how many objects are complete now."""
    before = {(one["source_uri"], one["content_hash"]): one for one in objects}
    complete, begun = (
        [
            _summed(row, account[row["source_uri"]], before[row["source_uri"], row["content_hash"]])
            for row in tables[name].to_pylist()
            if (row["source_uri"], row["content_hash"]) in before
        ]
        for name in ("ingest_log", "ingest_progress")
    )
    done = sorted({row["source_uri"] for row in complete if before[row["source_uri"], row["content_hash"]]["begun"]})
    latest = {(row["source_uri"], row["content_hash"]): row for row in begun}
    further = [{"source_uri": uri, "content_hash": digest} for uri, digest in latest if before[uri, digest]["begun"]]
    if done or further:
        con.execute(statement("drop_old_progress"), {"complete": done, "further": further})
    progress, ledger = TABLES["ingest_progress"], TABLES["ingest_log"]
    rows.add(con, progress, pa.Table.from_pylist(list(latest.values()), schema=progress.schema))
    return len(rows.insert_new(con, ledger, pa.Table.from_pylist(complete, schema=ledger.schema)))


def _summed(row: dict[str, Any], account: Counter[str], before: Mapping[str, Any]) -> dict[str, Any]:
    left_out = row["n_duplicates"] or 0
    sums = {name: account[name] + (before.get(name) or 0) for name in _FATES}
    sums["n_duplicates"] += left_out
    came = row["n_items"] if row["n_items"] is not None else sum(account[name] for name in _FATES) + left_out
    return row | sums | {"n_items": came + (before.get("n_items") or 0)}
