"""Spans come in any order, in parts and in versions; what the lake holds in the end does not depend on it."""

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from tracemill.schema import TABLES
from tracemill.warehouse import spans as merging
from tracemill.warehouse.layout import table_ddl

PROVENANCE = ("source_uri", "source_line", "ingested_at")
Row = dict[str, Any]


def whole(span_id: str, **columns: Any) -> Row:
    return {"trace_id": "t", "span_id": span_id, "kind": "llm", "status": "ok", "seq": 0, "flags": [], **columns}


def change(span_id: str, **columns: Any) -> Row:
    return {"part": "change", "trace_id": "t", "span_id": span_id, "flags": [], **columns}


def content(span_id: str, at: int, **columns: Any) -> Row:
    return {
        "part": "content",
        "trace_id": "t",
        "span_id": span_id,
        "kind": "llm",
        "start_ns": at,
        "flags": [],
        **columns,
    }


def table(name: str, rows: Sequence[Row]) -> pa.Table:
    schema = TABLES[name].schema
    return pa.Table.from_pylist([{field: row.get(field) for field in schema.names} for row in rows], schema=schema)


class Store:
    """The tables of spans in a DuckDB without a lake: the statements are the same, and it is fast."""

    def __init__(self) -> None:
        self.con = duckdb.connect()
        for name in ("spans", "span_parts", "trace_days"):
            self.con.execute(table_ddl(TABLES[name])[0])
        self.at = 0

    def take(self, *rows: Row, at: int | None = None) -> merging.Fate:
        """One batch; returns what became of what came in, and checks that nothing of it got lost."""
        self.at = self.at + 1 if at is None else at
        rows = tuple({"ingested_at": self.at, "source_uri": "a", **row} for row in rows)
        written = merging.write(
            self.con,
            table("spans", [row for row in rows if "part" not in row]),
            table("span_parts", [row for row in rows if "part" in row]),
            [],
        )
        self.touched = written.trace_ids
        (fate,) = written.fates.values()
        assert fate.spans + fate.merged + fate.duplicates == len(rows)
        return fate

    @property
    def spans(self) -> dict[str, Row]:
        rows = self.con.execute("SELECT * FROM spans ORDER BY trace_id, span_id").to_arrow_table().to_pylist()
        keys = [(row["trace_id"], row["span_id"]) for row in rows]
        assert len(keys) == len(set(keys))
        return {row["span_id"]: {name: v for name, v in row.items() if name not in PROVENANCE} for row in rows}

    @property
    def span(self) -> Row:
        (only,) = self.spans.values()
        return only


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store()
    yield made
    made.con.close()


def every_way(rows: Sequence[Row]) -> Iterable[list[list[Row]]]:
    """Orders (all, or six of many), one after the other as one batch and as one batch for each row."""
    orders = list(itertools.permutations(rows))
    if len(orders) > 6:
        orders = [orders[0], orders[-1], *random.Random(0).sample(orders[1:-1], 4)]
    for number, order in enumerate(orders):
        yield [list(order)] if number % 2 else [[row] for row in order]


@pytest.mark.parametrize("at_once", [True, False])
def test_the_later_revision_wins_wherever_it_stands(at_once: bool) -> None:
    versions = [whole("s", name=f"v{n}", revised_ns=n) for n in (1, 2, 3)]
    orders = list(itertools.permutations([*versions, whole("s", name="unrevised")]))
    for order in orders[:: 3 if at_once else 5]:
        store = Store()
        for batch in [list(order)] if at_once else [[row] for row in order]:
            store.take(*batch)
        assert (store.span["name"], store.span["revised_ns"]) == ("v3", 3)


def test_an_older_revision_that_comes_later_is_a_duplicate(store: Store) -> None:
    store.take(whole("s", name="new", revised_ns=2))
    assert store.take(whole("s", name="old", revised_ns=1)) == merging.Fate(duplicates=1)
    assert store.touched == []


def test_without_revisions_the_later_ingest_wins_and_equal_spans_are_not_written(store: Store) -> None:
    store.take(whole("s", name="first", source_line=1))
    assert store.take(whole("s", name="first", source_line=9, source_uri="b")) == merging.Fate(duplicates=1)
    assert store.touched == []
    assert store.take(whole("s", name="last")) == merging.Fate(spans=1)
    assert store.take(whole("s", name="first"), at=1) == merging.Fate(duplicates=1)
    assert store.span["name"] == "last"


def test_a_patch_completes_its_post_whichever_comes_first() -> None:
    post = whole("s", name="call", start_ns=5, status="unset", attributes='{"a":1,"b":{"c":2}}', input_ids=["i"])
    patch = change("s", end_ns=9, status="error", output_ids=["o"], attributes='{"b":{"d":3}}', flags=["redacted"])
    seen = []
    for batches in every_way([post, patch]):
        store = Store()
        fates = [store.take(*batch) for batch in batches]
        assert sum(fate.spans + fate.merged for fate in fates) == 2
        seen.append(store.span)
    assert all(one == seen[0] for one in seen)
    expected = {
        "name": "call", "start_ns": 5, "end_ns": 9, "status": "error", "input_ids": ["i"], "output_ids": ["o"],
        "attributes": '{"a":1,"b":{"c":2,"d":3}}', "flags": ["redacted"], "kind": "llm", "seq": 0,
    }  # fmt: skip
    assert {name: seen[0][name] for name in expected} == expected


def test_a_patch_that_waits_is_a_span_that_says_so(store: Store) -> None:
    assert store.take(change("s", end_ns=9, output_ids=["o"])) == merging.Fate(spans=1)
    assert (store.span["flags"], store.span["kind"], store.span["status"]) == (["partial"], "chain", "unset")
    assert store.take(change("s", end_ns=9, output_ids=["o"])) == merging.Fate(duplicates=1)
    assert store.take(whole("s", start_ns=1)) == merging.Fate(spans=1)
    assert (store.span["flags"], store.span["kind"], store.span["output_ids"]) == ([], "llm", ["o"])


def test_patches_lie_on_each_other_in_the_order_of_their_revisions_and_below_a_later_whole() -> None:
    parts = [
        whole("s", name="posted", model="m", revised_ns=1),
        change("s", name="two", end_ns=2, revised_ns=2),
        change("s", name="three", revised_ns=3),
    ]
    for batches in every_way(parts):
        store = Store()
        for batch in batches:
            store.take(*batch)
        assert [store.span[name] for name in ("name", "end_ns", "model", "revised_ns")] == ["three", 2, "m", 3]
    for batches in every_way([*parts, whole("s", name="again", revised_ns=4)]):
        store = Store()
        for batch in batches:
            store.take(*batch)
        assert [store.span[name] for name in ("name", "end_ns", "model", "revised_ns")] == ["again", None, None, 4]


def test_an_end_before_its_start_is_flagged_once_both_are_known(store: Store) -> None:
    store.take(whole("s", start_ns=5))
    store.take(change("s", end_ns=4))
    assert store.span["flags"] == ["clock"]


def test_a_prompt_without_system_messages_takes_an_earlier_one_away(store: Store) -> None:
    store.take(whole("s", system_ids=["sys"], input_ids=["i"]))
    store.take(change("s", system_ids=[], input_ids=["j"]))
    assert (store.span["system_ids"], store.span["input_ids"]) == (None, ["j"])


def test_messages_logged_apart_fill_their_span_in_the_order_of_their_times() -> None:
    said = [
        content("s", 1, system_ids=["sys"]),
        content("s", 2, input_ids=["i"]),
        content("s", 3, system_ids=["reminder"]),
        content("s", 4, output_ids=["o"]),
    ]
    for batches in every_way([*said, whole("s", start_ns=0)]):
        store = Store()
        for batch in batches:
            store.take(*batch)
        ids = [store.span[name] for name in ("system_ids", "input_ids", "output_ids", "start_ns", "flags")]
        assert ids == [["sys"], ["i", "reminder"], ["o"], 0, []]


def test_what_a_span_says_itself_stays_and_only_model_calls_take_messages(store: Store) -> None:
    store.take(whole("s", input_ids=["own"]), whole("tool", kind="tool"))
    store.take(content("s", 1, input_ids=["other"], output_ids=["o"]), content("tool", 1, input_ids=["x"]))
    assert (store.spans["s"]["input_ids"], store.spans["s"]["output_ids"]) == (["own"], ["o"])
    assert store.spans["tool"]["input_ids"] is None


def test_messages_without_their_span_wait_where_everybody_sees_them(store: Store) -> None:
    store.take(content("s", 7, input_ids=["i"]))
    assert [store.span[name] for name in ("kind", "start_ns", "flags", "input_ids")] == ["llm", 7, ["partial"], ["i"]]


def test_what_was_redacted_in_messages_that_come_apart_is_not_kept_as_tokens(store: Store) -> None:
    store.take(whole("s", output_token_ids=[1], output_logprobs=[-1.0]))
    store.take(content("s", 1, output_ids=["o"], flags=["redacted"]))
    assert (store.span["output_token_ids"], store.span["output_logprobs"]) == (None, None)
    assert store.span["flags"] == ["redacted"]


def test_an_orphan_joins_its_trace_when_the_parent_comes_days_later(store: Store) -> None:
    store.take(whole("child", parent_span_id="root"), whole("grandchild", parent_span_id="child"))
    assert store.spans["child"]["flags"] == store.spans["child"]["marks"] == ["orphan"]
    assert store.take(whole("root", start_ns=5 * 86_400_000_000_000)) == merging.Fate(spans=1)
    assert {name: (span["flags"], span["marks"]) for name, span in store.spans.items()} == dict.fromkeys(
        ("child", "grandchild", "root"), ([], None)
    )
    assert store.touched == ["t"]


@pytest.mark.parametrize("inner", [{"tokens_in": 10, "tokens_out": 1}, {"response_id": "r"}])
def test_a_call_logged_twice_is_a_wrapper_also_when_the_two_come_apart(inner: Row) -> None:
    rows = [
        whole("outer", tokens_in=10, tokens_out=1, response_id="r"),
        whole("step", kind="chain", parent_span_id="outer"),
        whole("inner", parent_span_id="step", **inner),
    ]
    for batches in every_way(rows):
        store = Store()
        for batch in batches:
            store.take(*batch)
        assert {name: span["flags"] for name, span in store.spans.items()} == {
            "outer": ["wrapper"], "step": [], "inner": [],
        }  # fmt: skip


def test_a_parent_whose_usage_is_the_sum_of_its_calls_is_a_wrapper_until_they_say_otherwise(store: Store) -> None:
    store.take(whole("sum", tokens_in=30, tokens_out=3), whole("a", parent_span_id="sum", tokens_in=10, tokens_out=1))
    assert store.spans["sum"]["flags"] == []
    store.take(whole("b", parent_span_id="sum", tokens_in=20, tokens_out=2))
    assert store.spans["sum"]["flags"] == ["wrapper"]
    store.take(whole("b", parent_span_id="sum", tokens_in=21, tokens_out=2))
    assert store.spans["sum"]["flags"] == []


def test_equal_usage_outside_of_a_calls_time_is_another_call(store: Store) -> None:
    store.take(
        whole("outer", tokens_in=10, tokens_out=1, start_ns=1, end_ns=5),
        whole("later", parent_span_id="outer", tokens_in=10, tokens_out=1, start_ns=6, end_ns=9),
    )
    assert store.spans["outer"]["flags"] == []


def test_a_wrapper_that_the_source_names_stays_one(store: Store) -> None:
    rows = [whole("outer", flags=["wrapper"]), whole("inner", parent_span_id="outer")]
    store.take(*rows)
    store.take(whole("inner", parent_span_id="outer", name="changed"))
    assert (store.spans["outer"]["flags"], store.spans["outer"]["marks"]) == (["wrapper"], None)
    assert store.take(*rows[:1]) == merging.Fate(duplicates=1)


def test_rings_of_spans_end(store: Store) -> None:
    store.take(
        whole("a", parent_span_id="b", kind="chain"),
        whole("b", parent_span_id="a", kind="chain"),
        whole("c", parent_span_id="c", tokens_in=1, tokens_out=1),
        whole("d", parent_span_id="a"),
    )
    assert {span["marks"] for span in store.spans.values()} == {None}


def deliveries(rng: random.Random) -> list[Row]:
    """Versions and parts of the spans of two traces, in which every tie is decided by a revision."""
    made: list[Row] = []
    for trace, number in itertools.product("tu", range(5)):
        span, parent = f"s{number}", rng.choice([None, *(f"s{n}" for n in range(5))])
        columns = {"trace_id": trace, "parent_span_id": parent, "tokens_in": rng.choice([None, 1, 2]), "tokens_out": 1}
        for revision in rng.sample(range(1, 9), rng.randrange(3)):
            kind = rng.choice(["llm", "chain"])
            row = whole(
                span, name=f"w{revision}", kind=kind, revised_ns=revision, start_ns=rng.choice([None, 5]), **columns
            )
            made.append(row)
        for revision in rng.sample(range(11, 19) if rng.random() < 0.5 else range(1, 9), rng.randrange(3)):
            made.append(change(span, name=f"c{revision}", end_ns=revision, revised_ns=revision, trace_id=trace))
        for at in range(rng.randrange(3)):
            made.append(content(span, at + 1, trace_id=trace, **{rng.choice(["input_ids", "output_ids"]): [f"m{at}"]}))
    return made


def agree(seeds: Iterable[int]) -> None:
    for seed in seeds:
        rng = random.Random(seed)
        rows = deliveries(rng)
        seen = []
        for _ in range(3):
            rng.shuffle(rows)
            cuts = (
                sorted(rng.sample(range(1, len(rows)), min(len(rows) - 1, rng.randrange(6)))) if len(rows) > 1 else []
            )
            store = Store()
            for begin, end in itertools.pairwise([0, *cuts, len(rows)]):
                if begin < end:
                    store.take(*rows[begin:end])
                if rng.random() < 0.3:
                    assert store.take(*rows[begin:end]).spans == 0
            seen.append(store.con.execute(
                f"SELECT * EXCLUDE ({', '.join(PROVENANCE)}) FROM spans ORDER BY trace_id, span_id"
            ).fetchall())  # fmt: skip
            store.con.close()
        assert all(one == seen[0] for one in seen), seed


def test_any_split_and_order_of_deliveries_gives_the_same_spans() -> None:
    agree(range(3))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_any_split_and_order_of_many_deliveries_gives_the_same_spans() -> None:
    agree(range(100, 160))
