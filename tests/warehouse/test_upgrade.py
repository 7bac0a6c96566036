"""A lake that an earlier tracemill made is brought to the layout of this one when it is opened."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tracemill.schema import TABLES
from tracemill.warehouse import Lake, engine, layout

LAYOUT_1 = (Path(__file__).parent / "layout_1.sql").read_text(encoding="utf-8")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A lake of layout 1 with two spans, an object in the ledger and a refusal."""
    root = tmp_path / "lake"
    (root / "data").mkdir(parents=True)
    (root / "key").write_bytes(b"k" * 32)
    (root / "lock").touch()
    con = engine.connect(root, read_only=False)
    for statement in LAYOUT_1.split(";"):
        if statement.strip():
            con.execute(statement)
    con.execute(
        "INSERT INTO spans (trace_id, span_id, parent_span_id, kind, name, flags, source_uri, ingested_at) VALUES "
        "('t', 'child', 'root', 'llm', 'asked', ['orphan', 'redacted'], 'file:///old', 1), "
        "('t', 'other', NULL, 'llm', 'asked', ['redacted'], 'file:///old', 1)"
    )
    con.execute(
        "INSERT INTO spans (trace_id, span_id, kind, status, service, tokens_in, flags) VALUES "
        "('u', 'call', 'llm', 'error', 'desk', 7, ['redacted'])"
    )
    con.execute("INSERT INTO transitions (trajectory_id, step, span_id, model) VALUES ('u', 0, 'call', 'm')")
    con.execute("INSERT INTO trace_days VALUES ('t', NULL), ('u', NULL)")
    con.execute("INSERT INTO ingest_log (source_uri, content_hash, n_records) VALUES ('file:///old', '1', 2)")
    con.execute(
        "INSERT INTO quarantine (source_uri, content_hash, line, reason) VALUES ('file:///old', '1', 7, 'torn')"
    )
    con.close()
    return root


def test_an_old_lake_has_every_table_and_column_and_keeps_its_rows(old: Path) -> None:
    for _ in range(2):
        with Lake.open(old) as lake, lake.reader() as con:
            for table in TABLES.values():
                found = con.execute(f"DESCRIBE {table.name}").fetchall()
                assert {row[0] for row in found} == set(table.schema.names), table.name
            assert layout.found(con) == (layout.VERSION, layout.views_digest())
            assert con.execute("SELECT span_id, flags, marks, revised_ns FROM spans ORDER BY span_id").fetchall() == [
                ("call", ["redacted"], None, None),
                ("child", ["orphan", "redacted"], ["orphan"], None),
                ("other", ["redacted"], None, None),
            ]
            assert con.execute("SELECT n_records, n_items FROM ingest_log").fetchall() == [(2, None)]
            assert con.execute(
                "SELECT model, status, service, tokens_in, cost_usd, flags FROM llm_calls"
            ).fetchall() == [("m", "error", "desk", 7, None, ["redacted"])]


def test_an_old_lake_takes_in_what_completes_it(old: Path, build: Callable[..., Any]) -> None:
    with Lake.open(old) as lake:
        made = build(uri="file:///new")
        made.span("t", "root", kind="agent")
        with lake.transaction("new") as tx:
            taken = tx.take(made.batch())
            tx.rebuild(taken.trace_ids)
        with lake.reader() as con:
            assert con.execute("SELECT flags, marks FROM spans WHERE span_id = 'child'").fetchall() == [
                (["redacted"], None)
            ]
            assert con.execute("SELECT n_spans, flags FROM trajectories").fetchall() == [(3, ["redacted"])]
