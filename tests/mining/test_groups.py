"""Task groups: one wording whole in one group, a group whole in one pool, for ever."""

import random
from collections import defaultdict
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemill.mining.groups import group_tasks, may_be_alike
from tracemill.mining.minhash import BANDS, N_HASHES, ROWS_PER_BAND, Halves, halves, neighbours, normalise
from tracemill.schema import TASK_GROUPS, TASKS

KEY = b"a key that only this lake has...."
WORDINGS = [
    "I was charged twice for my {item}, order {number}. Please refund one payment.",
    "Why does my card show two payments for the {item}? Order {number}.",
    "Double billing on order {number}: the {item} was billed two times.",
    "You took the money for the {item} twice, please give it back. {name}",
    "My {item} arrived broken. Order {number}.",
    "The {item} I received is damaged, can I send it back?",
    "Box was crushed and the {item} inside does not work. {name}",
    "I cannot log in to my account since {day}.",
    "The password reset mail never comes, my user is {name}.",
    "Login fails with error {number} on the {item} app",
    "Where is my {item}? It should have arrived {day}.",
    "Tracking for order {number} has not moved since {day}.",
    "Has my {item} been shipped yet? Order {number}",
    "I want to cancel order {number}.",
    "Please cancel my subscription for the {item}",
    "How do I change the delivery address of order {number}?",
    "Can you send the {item} to another address? {name}",
    "Is the {item} available in blue?",
    "Do you sell spare parts for the {item}?",
    "What is the warranty on the {item}?",
]
ITEMS = [
    "kettle",
    "running shoes",
    "wireless headphones",
    "espresso machine",
    "desk lamp",
    "Acme Blender 3000",
    "toaster",
]
NAMES = ["Anna Smith", "Bob", "Li Wei", "Maria de Souza", "[USER_0a1b2c3d]"]
DAYS = ["Monday", "last Friday", "3 March", "yesterday"]


def tickets(n: int, seed: int = 0) -> list[tuple[str, str]]:
    """(wording, filled) pairs."""
    draw = random.Random(seed)
    rows = []
    for _ in range(n):
        wording = draw.choice(WORDINGS)
        fill = {"item": ITEMS, "name": NAMES, "day": DAYS}
        values = {slot: draw.choice(choices) for slot, choices in fill.items()}
        rows.append((wording, wording.format(number=draw.randrange(10**5), **values)))
    return rows


def tasks(texts: list[str | None], keys: list[str | None] | None = None) -> pa.Table:
    ids = [f"t{i}" for i in range(len(texts))]
    keys = keys or [None] * len(texts)
    return pa.table(
        [pa.array(ids), pa.array(keys, pa.string()), pa.array(texts, pa.string())],
        names=["trajectory_id", "task_key", "task_text"],
    )


def groups_of(
    table: pa.Table,
    known: pa.Table | None = None,
    declared: pa.Table | None = None,
    share: float = 0.3,
    now: int = 1,
    key: bytes = KEY,
) -> tuple[list[str], list[str], pa.Table]:
    known = TASK_GROUPS.empty_table() if known is None else known
    declared = TASKS.empty_table() if declared is None else declared
    with duckdb.connect() as con:
        con.register("task_groups", known)
        con.register("tasks", declared)
        found = group_tasks(con, table, key=key, gate_share=share, now_ns=now)
    assert found.assigned["trajectory_id"].to_pylist() == table["trajectory_id"].to_pylist()
    assert found.new_groups.schema == TASK_GROUPS
    return found.assigned["task_group"].to_pylist(), found.assigned["pool"].to_pylist(), found.new_groups


def test_every_wording_is_one_group_and_different_wordings_are_different_groups() -> None:
    rows = tickets(500)
    groups, pools, _ = groups_of(tasks([filled for _, filled in rows]))
    of_wording, pool_of = defaultdict(set), defaultdict(set)
    for (wording, _), group, pool in zip(rows, groups, pools, strict=True):
        of_wording[wording].add(group)
        pool_of[group].add(pool)
    assert {wording for wording, found in of_wording.items() if len(found) > 1} == set()
    assert len(set(groups)) >= 0.9 * len(WORDINGS)
    assert all(len(found) == 1 for found in pool_of.values())


def test_the_same_rows_in_several_batches_give_the_same_groups() -> None:
    texts = [filled for _, filled in tickets(240)]
    at_once, pools, _ = groups_of(tasks(texts))
    known = TASK_GROUPS.empty_table()
    in_parts: list[str] = []
    pools_in_parts: list[str] = []
    for start in range(0, len(texts), 60):
        groups, some, new = groups_of(tasks(texts[start : start + 60]), known, now=start + 1)
        known = pa.concat_tables([known, new])
        in_parts += groups
        pools_in_parts += some
    assert in_parts == at_once
    assert pools_in_parts == pools
    assert len(set(known["digest"].to_pylist())) == len(known)


def test_a_word_of_a_million_letters_is_as_good_as_any() -> None:
    """Blobs without blanks stand in real prompts; with time quadratic in their length this would take a night."""
    assert normalise("x" * 1_000_000) == "x" * 1_000_000
    assert normalise("x" * 1_000_000 + "1 y") == "0 y"


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("aB I'\"0_?!.,-\n\t[]"), max_size=40))
def test_texts_of_ascii_are_normalised_as_others_are(text: str) -> None:
    assert normalise(text + " ²") == (normalise(text) + " ²").strip()


def test_unrelated_short_texts_stay_apart() -> None:
    texts = [
        "hi",
        "refund",
        "Where are you?",
        "cancel order",
        "thanks",
        "no",
        "login broken",
        "What is this?",
        "help me",
    ]
    groups, _, _ = groups_of(tasks(list(texts)))
    assert len(set(groups)) == len(texts)


def test_a_known_group_keeps_its_pool_whatever_the_share_becomes() -> None:
    texts: list[str | None] = [f"{wording}" for wording, _ in tickets(40)]
    groups, pools, new = groups_of(tasks(texts), share=0.5)
    assert set(pools) == {"gate", "learn"}
    again, later, added = groups_of(tasks(texts), new, share=0.0, now=9)
    assert (again, later) == (groups, pools)
    assert len(added) == 0


def test_the_gate_gets_about_its_share_of_groups() -> None:
    _, pools, _ = groups_of(tasks([None] * 2000), share=0.25)
    assert 0.2 < pools.count("gate") / 2000 < 0.3


def test_a_declared_group_comes_first_and_a_task_key_holds_its_attempts_together() -> None:
    declared = pa.Table.from_pylist([{"task_key": "sql/1", "task_group": "flights"}], schema=TASKS)
    table = tasks(
        [
            "How many flights?",
            "How many flights?",
            "I need to change my seat",
            "Hello! a bag of mine is lost",
            None,
            None,
            None,
        ],
        ["sql/1", "sql/2", "air/7", "air/7", "air/7", "other", None],
    )
    groups, _, new = groups_of(table, declared=declared)
    assert groups[0] == "flights"
    assert groups[1] != "flights"
    assert groups[2] == groups[3] == groups[4]
    assert len({groups[1], groups[2], groups[5], groups[6]}) == 4
    again, _, _ = groups_of(tasks(["My seat, please", None], ["air/7", "other"]), new, now=2)
    assert again == [groups[2], groups[5]]


def test_a_text_near_two_groups_joins_the_older() -> None:
    one, _, first = groups_of(tasks(["alpha beta gamma delta one two three"]), now=1)
    two, _, second = groups_of(tasks(["epsilon zeta eta theta five six seven"]), first, now=2)
    assert one != two
    between = "alpha beta gamma delta one two three epsilon zeta eta theta five six seven"
    for known in (pa.concat_tables([first, second]), pa.concat_tables([second, first])):
        groups, _, _ = groups_of(tasks([between]), known, now=3)
        assert groups == one


def test_ids_tell_nothing_without_the_key() -> None:
    table = tasks(["I want to cancel order 1."])
    _, _, mine = groups_of(table)
    _, _, other = groups_of(table, key=b"x" * 32)
    for column in ("task_group", "digest", "signature"):
        assert mine[column].to_pylist() != other[column].to_pylist()


def test_of_the_lakes_groups_those_are_read_that_share_a_band() -> None:
    assert (list(BANDS), N_HASHES) == (list(range(0, 254, 3)), 256)
    rng = np.random.default_rng(7)
    known = rng.integers(0, 2**32, (3000, N_HASHES), dtype=np.uint32)
    fresh = known[rng.integers(0, 3000, 5)].copy()
    fresh[:, rng.permutation(N_HASHES)[:100]] = 7
    sharing = [
        at
        for at, row in enumerate(known)
        if any((row[b : b + ROWS_PER_BAND] == one[b : b + ROWS_PER_BAND]).all() for one in fresh for b in BANDS)
    ]
    names = [f"{at:04}" for at in range(len(known))]
    # With a row of another time's signature, and one without any.
    columns = {
        "task_group": [*names, "short", "none"],
        "digest": [*names, "short", "none"],
        "signature": [*known.tolist(), [1, 2, 3], None],
    }
    with duckdb.connect() as con:
        con.register("task_groups", pa.Table.from_pylist(pa.table(columns).to_pylist(), schema=TASK_GROUPS))
        found = may_be_alike(con, fresh).rows["digest"].to_pylist()
    assert set(found) >= {names[at] for at in sharing}
    assert len(sharing) >= 4
    assert len(found) < 20


def test_groups_that_share_no_band_are_not_missed_where_they_are_not_read() -> None:
    rng = np.random.default_rng(3)
    base = rng.integers(0, 2**32, (4, N_HASHES), dtype=np.uint32)
    rows = np.where(rng.random((400, N_HASHES)) < 0.3, rng.integers(0, 2**32, (400, N_HASHES)), np.tile(base, (100, 1)))
    rows[100:200] = rng.integers(0, 2**32, (100, N_HASHES))  # like nothing
    known, fresh = rows[:390].astype(np.uint32), rows[390:].astype(np.uint32)
    names = [f"{at:04}" for at in rng.permutation(len(known)).tolist()]
    ages = rng.integers(0, 50, len(known)).tolist()
    signatures = known.tolist()
    columns = {"task_group": names, "digest": names, "signature": signatures, "first_seen": ages}
    with duckdb.connect() as con:
        con.register("task_groups", pa.Table.from_pylist(pa.table(columns).to_pylist(), schema=TASK_GROUPS))
        read = may_be_alike(con, fresh)
    by_age = sorted(zip(ages, names, signatures, strict=True))
    everything = halves(np.array([signature for _, _, signature in by_age], dtype=np.uint32))

    def looked_at(digests: list[str], signed: Halves) -> list[list[tuple[Any, float]]]:
        named = [*digests, *range(len(fresh))]
        return [
            [(named[other], score) for other, score in zip(others.tolist(), scores.tolist(), strict=True)]
            for _, others, scores in neighbours(signed, halves(fresh))
        ]

    digests = read.rows["digest"].to_pylist()
    assert looked_at(digests, read.signed) == looked_at([name for _, name, _ in by_age], everything)
    assert len(digests) < len(everything)


@settings(deadline=None)
@given(st.lists(st.text(max_size=30), max_size=12))
def test_any_texts_get_a_group_and_equal_texts_the_same(texts: list[str]) -> None:
    groups, pools, new = groups_of(tasks([*texts, *texts]))
    for i, text in enumerate(texts):
        if normalise(text):
            assert groups[i] == groups[i + len(texts)]
    assert set(pools) <= {"learn", "gate"}
    assert set(groups) == set(new["task_group"].to_pylist())


def test_a_chain_of_texts_each_like_the_next_does_not_become_one_group() -> None:
    words = [f"{a}{b}" for a in "abcdefghij" for b in "klmnopqrst"]
    chain = [" ".join(words[i : i + 10]) for i in range(0, 90, 3)]
    groups, _, _ = groups_of(tasks(list(chain)))
    assert len(set(groups)) > 5
