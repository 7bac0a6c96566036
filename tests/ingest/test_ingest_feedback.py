"""Feedback rows and declared tasks."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tracemill import ingest
from tracemill.errors import ConfigError, SourceError
from tracemill.ids import PSEUDONYM

KEY = b"the lake's key, thirty-two bytes"
REVIEW = {"session_id": "s1", "name": "review", "value": 0, "correction": "billing", "propensity": 0.6, "user": "ana"}


def scores(path: Path, on: str = "session_id") -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    batch = ingest.read_scores(path, on=on, key=KEY, now_ns=5)
    return batch.tables["scores"].to_pylist(), batch.tables["quarantine"].to_pylist()


def test_a_review_with_a_correction_is_two_scores_of_one_target(tmp_path: Path, take: Any) -> None:
    path = tmp_path / "feedback.jsonl"
    path.write_text(json.dumps(REVIEW) + "\n")
    (value, correction), refused = scores(path)
    assert refused == []
    assert (value["target_kind"], value["target_id"], value["name"], value["value"]) == ("session", "s1", "review", 0.0)
    assert (value["label"], value["source"], value["propensity"], value["at"]) == (None, "human", 0.6, None)
    assert (correction["name"], correction["value"], correction["label"]) == ("correction", None, "billing")
    assert (correction["target_id"], correction["propensity"]) == ("s1", 0.6)
    assert value["user_key"] == correction["user_key"] is not None
    # `tracemill ingest feedback.jsonl` finds the same by itself
    taken = take(lines=[REVIEW], name="f.jsonl")
    assert [row["score_id"] for row in taken.scores] == [value["score_id"], correction["score_id"]]
    assert taken.ledger[0]["format_reason"] == "rows with session_id and value"


def test_jsonl_csv_and_parquet_say_the_same(tmp_path: Path) -> None:
    rows = [
        {
            "session_id": "s1",
            "value": True,
            "label": "good",
            "propensity": 0.5,
            "at": "2023-11-14T22:13:20Z",
            "note": "a, b",
        },
        {"session_id": "s2", "value": False, "label": None, "propensity": None, "at": None, "note": None},
        {"session_id": "s3", "value": None, "label": "bad", "propensity": None, "at": None, "note": 'he said "no"'},
    ]
    (tmp_path / "f.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with (tmp_path / "f.csv").open("w", newline="") as target:
        sheet = csv.DictWriter(target, list(rows[0]))
        sheet.writeheader()
        sheet.writerows(rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "f.parquet")
    expected, _ = scores(tmp_path / "f.jsonl")
    assert [(row["value"], row["label"], row["at"]) for row in expected] == [
        (1.0, "good", 1_700_000_000_000_000_000),
        (0.0, None, None),
        (None, "bad", None),
    ]
    assert json.loads(expected[0]["evidence"]) == {"note": "a, b"}
    for name in ("f.csv", "f.parquet"):
        found, refused = scores(tmp_path / name)
        assert (found, refused) == (expected, [])
        (batch,) = ingest.batches(ingest.find([tmp_path / name]), key=KEY, now_ns=5)
        assert batch.tables["scores"].to_pylist() == expected


@pytest.mark.parametrize(
    ("key", "kind"),
    [("session_id", "session"), ("trace_id", "trajectory"), ("trajectory_id", "trajectory"), ("span_id", "span")],
)
def test_the_key_decides_what_is_judged(tmp_path: Path, key: str, kind: str) -> None:
    path = tmp_path / "f.jsonl"
    path.write_text(json.dumps({key: "AB" * 16, "value": 1}))
    ((score,), _) = scores(path, on=key)
    assert score["target_kind"] == kind
    expected = "AB" * 16 if key in ("session_id", "span_id") else "ab" * 16
    assert score["target_id"] == expected


def test_bad_rows_are_quarantined_and_the_others_kept(tmp_path: Path) -> None:
    bad = [
        {"value": 1},
        {"session_id": "s", "note": "nothing said"},
        {"session_id": "s", "value": "so-so"},
        {"session_id": "s", "value": 1, "propensity": 0},
        {"session_id": "s", "value": 1, "propensity": 1.5},
        {"session_id": "s", "value": 1, "source": "oracle"},
        {"session_id": "s", "value": 1, "at": "yesterday"},
        {"session_id": "s", "value": float("nan")},
    ]
    path = tmp_path / "f.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [REVIEW, *bad, REVIEW | {"session_id": "s2"}]) + "{torn")
    found, refused = scores(path)
    assert [row["target_id"] for row in found] == ["s1", "s1", "s2", "s2"]
    assert [row["line"] for row in refused] == [*range(2, 10), 11]
    csv = tmp_path / "f.csv"
    csv.write_text('session_id,value\ns1,1\ns2\ns3,0,9\ns4,"1\ns5,1\n')
    found, refused = scores(csv)
    assert [row["target_id"] for row in found] == ["s1"]
    assert [row["line"] for row in refused] == [3, 4, 5]


def test_a_file_beyond_the_limits_is_a_refused_row(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    path.write_text(json.dumps([{"session_id": "s", "value": 1, "note": "x" * 2**20}] * 2))
    limits = ingest.Limits(document_mib=1)
    batch = ingest.read_scores(path, on="session_id", key=KEY, now_ns=5, limits=limits)
    assert batch.tables["scores"].num_rows == 0
    assert "[limits] document_mib" in batch.tables["quarantine"]["reason"][0].as_py()


def test_the_same_judgement_twice_is_one_row_and_zero_is_not_null(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.write_text((json.dumps({"session_id": "s", "value": False}) + "\n") * 2)
    ((score,), _) = scores(path)
    assert (score["value"], score["confidence"], score["propensity"]) == (0.0, None, None)


def test_a_correction_is_redacted_like_the_output_it_corrects(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.write_text(json.dumps({"session_id": "s", "correction": "ask bob@example.org"}))
    ((score,), _) = scores(path)
    assert score["name"] == "correction"
    assert PSEUDONYM.search(score["label"])


def test_an_unknown_key_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="joined on 'ticket'"):
        ingest.read_scores(tmp_path / "f.jsonl", on="ticket", key=KEY, now_ns=5)


def test_tasks_keep_their_row_and_their_group(tmp_path: Path) -> None:
    rows = [{"task_id": 7, "db": "pets", "gold": "SELECT 1"}, {"task_id": 8, "db": None, "gold": "SELECT 2"}]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = ingest.read_tasks(tmp_path / "t.jsonl", key="task_id", group="db")
    assert [(row["task_key"], row["task_group"]) for row in table.to_pylist()] == [("7", "pets"), ("8", None)]
    assert json.loads(table["attributes"][0].as_py()) == rows[0]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    parquet = ingest.read_tasks(tmp_path / "t.parquet", key="task_id", group="db")
    assert parquet["task_key"].to_pylist() == ["7", "8"]
    assert ingest.read_tasks(tmp_path / "t.jsonl", key="gold")["task_group"].to_pylist() == [None, None]


def test_mistakes_in_a_task_file_are_errors_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"task_id": 1, "x": 1}\n{"task_id": 1, "x": 2}\n')
    with pytest.raises(SourceError, match="task '1' is declared a second time, differently, in line 2"):
        ingest.read_tasks(path, key="task_id")
    with pytest.raises(ConfigError, match="line 1 has no 'id'; columns: task_id, x"):
        ingest.read_tasks(path, key="id")
    with pytest.raises(ConfigError, match="line 1 has no 'db'"):
        ingest.read_tasks(path, key="task_id", group="db")
    path.write_text('{"task_id": 1}\n{torn')
    with pytest.raises(SourceError, match="no task in line 2"):
        ingest.read_tasks(path, key="task_id")
    path.write_text('{"task_id": 1, "gold": NaN}')
    with pytest.raises(SourceError, match="task '1' in line 1 is no JSON"):
        ingest.read_tasks(path, key="task_id")
    (tmp_path / "another.jsonl").write_text("")
    with pytest.raises(ConfigError, match="declared in one file; here are 2"):
        ingest.read_tasks(tmp_path, key="task_id")
