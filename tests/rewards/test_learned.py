"""The learned reward model: what labels teach, and that nobody is judged by their own kin."""

import json
import random
from collections.abc import Mapping
from typing import Any

import pytest

from tracemill.errors import ConfigError
from tracemill.mining.embedding import HashingEmbedder
from tracemill.rewards.feedback import Feedback
from tracemill.rewards.folds import NEW, UNDATED, Folds
from tracemill.rewards.learned import Learned
from tracemill.rewards.rows import query
from tracemill.schema import REWARD_MODELS

N = 120
DAY = 86_400_000_000_000


def failures(at: int) -> int:
    return at % 3


def user(at: int) -> str:
    return f"u{at % 17}"


def fill(lake: Any, *, n: int = N, labels: Mapping[int, float] | None = None, dated: bool = True) -> Any:
    """Runs of which those with failing tools mostly fail; every fourth is not labelled."""
    rng = random.Random(5)
    for at in range(n):
        when = {"start_ns": at * DAY, "end_ns": at * DAY + 1} if dated else {}
        lake.trajectory(f"t{at:03}", "so be it", user_key=user(at), **when)
        lake.tool(f"t{at:03}", *["ok"] * (3 - failures(at)), *["error"] * failures(at))
        value = float(rng.random() < (0.9, 0.5, 0.1)[failures(at)])
        if at % 4:
            lake.score(f"t{at:03}", "reward", (labels or {}).get(at, value), source="env")
    return lake


def values(model: Learned, lake: Any) -> dict[str, float | None]:
    rows = model.score(lake.con, now_ns=9).to_pylist()
    return {row["target_id"]: row["value"] for row in rows}


def stored(model: Learned, lake: Any, at: int = 1) -> None:
    import pyarrow as pa

    row = {"name": model.name, "version": model.version, "state": model.state, "n_train": model.n_train, "at": at}
    lake.put("reward_models", pa.Table.from_pylist([{**row, "lineage": list(model.lineage)}], schema=REWARD_MODELS))


def test_it_learns_what_goes_wrong_and_judges_what_nobody_labelled(lake: Any) -> None:
    model = Learned().fit(fill(lake).con, now_ns=1)
    said = values(model, lake)
    assert len(said) == N
    by_failures = [[said[f"t{at:03}"] or 0.0 for at in range(N) if failures(at) == n] for n in range(3)]
    means = [sum(own) / len(own) for own in by_failures]
    assert means[0] > 0.65 > means[1] > 0.35 > means[2]
    (row,) = [row for row in model.score(lake.con, now_ns=9).to_pylist() if row["target_id"] == "t000"]
    assert (row["source"], row["family"], row["at"]) == ("model", "learned", 9)
    assert 0 <= row["confidence"] <= 1
    assert json.loads(row["evidence"])["most"]


def test_nobody_is_judged_by_what_their_own_labels_taught(new_lake: Any) -> None:
    said = values(Learned().fit(fill(new_lake()).con, now_ns=1), lake := fill(new_lake()))
    other = {at: float(failures(at) == 2) for at in range(N) if user(at) == "u4"}
    turned = fill(new_lake(), labels=other)
    again = values(Learned().fit(turned.con, now_ns=1), lake)
    own = {f"t{at:03}" for at in range(N) if user(at) == "u4"}
    assert {name: said[name] for name in own} == {name: again[name] for name in own}
    assert any(said[name] != again[name] for name in set(said) - own)


def test_nobody_is_judged_by_what_labels_of_their_own_time_taught(new_lake: Any) -> None:
    lake = fill(new_lake())
    model = Learned().fit(lake.con, now_ns=1)
    edges = json.loads(model.state or "")["folds"]["edges"]
    assert len(edges) == 2
    middle = [at for at in range(N) if edges[0] <= at * DAY < edges[1]]
    turned = fill(new_lake(), labels={at: float(failures(at) == 2) for at in middle})
    said, again = values(model, lake), values(Learned().fit(turned.con, now_ns=1), lake)
    assert all(said[f"t{at:03}"] == again[f"t{at:03}"] for at in middle)
    assert any(said[f"t{at:03}"] != again[f"t{at:03}"] for at in range(N) if at not in middle)


def test_without_times_users_alone_part_the_rows(lake: Any) -> None:
    model = Learned().fit(fill(lake, dated=False).con, now_ns=1)
    assert json.loads(model.state or "")["folds"] == {"buckets": 5, "edges": [], "until": None, "salt": 0}
    assert None not in values(model, lake).values()


def test_with_few_labels_it_abstains_and_says_why(lake: Any) -> None:
    model = Learned(min_labels=200).fit(fill(lake).con, now_ns=1)
    assert (model.state, model.n_train, model.lineage) == (None, 0, ())
    rows = model.score(lake.con, now_ns=9).to_pylist()
    assert len(rows) == N
    assert {row["value"] for row in rows} == {None}
    assert {row["evidence"] for row in rows} == {'{"abstains":"too few labels"}'}


def test_labels_of_one_kind_teach_nothing(lake: Any) -> None:
    assert Learned().fit(fill(lake, labels=dict.fromkeys(range(N), 1.0)).con, now_ns=1).state is None


def test_a_version_stays_until_there_are_enough_more_labels(lake: Any) -> None:
    first = Learned().fit(fill(lake).con, now_ns=1)
    stored(first, lake)
    lake.score("t000", "reward", 1.0, source="env")
    kept = Learned().fit(lake.con, now_ns=2)
    assert (kept.version, kept.state, kept.lineage) == (first.version, first.state, first.lineage)
    for at in range(0, N, 4):
        lake.score(f"t{at:03}", "feedback", 1.0, source="human", evidence='{"score_ids":["x"]}')
    again = Learned().fit(lake.con, now_ns=3)
    assert again.version != first.version
    assert set(first.lineage) < set(again.lineage)


def test_other_options_are_another_model_and_do_not_take_up_its_state(lake: Any) -> None:
    first = Learned().fit(fill(lake).con, now_ns=1)
    stored(first, lake)
    other = Learned(bags=1).fit(lake.con, now_ns=2)
    assert other.state != first.state


def test_the_state_is_all_of_it(lake: Any) -> None:
    fitted = Learned().fit(fill(lake).con, now_ns=1)
    assert values(Learned(state=fitted.state), lake) == values(fitted, lake)
    assert Learned().fit(lake.con, now_ns=5).state == fitted.state
    assert fitted.lineage == tuple(f"t{at:03}" for at in range(N) if at % 4)


def test_more_failed_calls_are_never_better_whatever_the_labels_say(lake: Any) -> None:
    praised = {at: float(failures(at) == 2) for at in range(N)}  # those with the most failures are called the best
    said = values(Learned().fit(fill(lake, labels=praised).con, now_ns=1), lake)
    by_failures = [[said[f"t{at:03}"] or 0.0 for at in range(N) if failures(at) == n] for n in range(3)]
    assert max(by_failures[2]) <= max(by_failures[0]) + 0.05


def test_a_human_label_counts_before_the_environment_s(new_lake: Any) -> None:
    def labelled(source: str) -> Any:
        lake = fill(new_lake())
        for at in range(N):
            evidence = '{"score_ids":["x"]}'
            lake.score(f"t{at:03}", "feedback", float(failures(at) == 0), source=source, evidence=evidence)
        return lake

    human, user_said = (Learned().fit(labelled(source).con, now_ns=1) for source in ("human", "user"))
    assert human.n_train == user_said.n_train == N
    lake = fill(new_lake())
    assert (values(human, lake)["t001"] or 0) < (values(user_said, lake)["t001"] or 0)  # one failure: half of them pass


def test_the_many_votes_of_one_user_teach_as_much_as_a_few(lake: Any) -> None:
    for user, n in (("honest", 1), ("other", 1), ("busy", 64)):
        for place in range(n):
            lake.trajectory(f"{user}{place}", "out", user_key=user)
            lake.score(f"{user}{place}", "thumbs", float(user != "busy"), source="user")
    lake.score("other0", "ok", 0.0, source="human")
    lake.run(Feedback(min_propensity=0))
    labels = query(lake.con, "learned_labels", {"env_names": ["reward", ""]}).to_pylist()
    weight = {row["trajectory_id"]: row["weight"] for row in labels}
    assert len(weight) == 66
    assert weight["honest0"] == weight["other0"] == 1
    assert sum(w for name, w in weight.items() if name.startswith("busy")) == pytest.approx(3, abs=0.01)


def test_an_answer_that_tells_the_reward_teaches_nothing(lake: Any) -> None:
    for at in range(N):
        lake.trajectory(f"t{at:03}", "done", user_key=user(at))
        told = "Episode finished, reward = " + ("1" if at % 2 else "0 of 1, sorry")
        span = {"trace_id": f"t{at:03}", "span_id": f"s{at}", "kind": "tool", "status": "ok", "tool_result": told}
        lake.add("spans", span)
        lake.score(f"t{at:03}", "reward", float(at % 2), source="env")
    state = Learned().fit(lake.con, now_ns=1).state
    assert "chars" not in {one["name"].split("_")[-1] for one in json.loads(state or "")["features"]}


SENT = ("The refund was sent to the card", "The money went back to the card", "A refund is on its way to the card")
TALKED = ("Please tell me more about yourself", "What a lovely day it is", "Somebody else may know about that")


def told(lake: Any, *, turned: frozenset[str] = frozenset()) -> Any:
    """Runs that differ in nothing but the words of their answers; labels of users in `turned` are the opposite."""
    for at in range(N):
        good = at % 2 == 0
        lake.trajectory(f"t{at:03}", (SENT if good else TALKED)[at // 2 % 3], user_key=user(at), start_ns=at * DAY)
        lake.score(f"t{at:03}", "reward", float(good != (user(at) in turned)), source="env")
    return lake


def test_with_an_embedder_what_the_answer_is_about_teaches(new_lake: Any) -> None:
    lake = told(new_lake())
    blind = values(Learned().fit(lake.con, now_ns=1), lake)
    reading = Learned(embedder=HashingEmbedder()).fit(lake.con, now_ns=1)
    said = values(reading, lake)
    assert [blind[name] or 0 for name in blind] == pytest.approx([0.5] * N, abs=0.15)
    assert min(said[f"t{at:03}"] or 0 for at in range(0, N, 2)) > 0.7
    assert max(said[f"t{at:03}"] or 0 for at in range(1, N, 2)) < 0.3
    assert reading.version != Learned(embedder=HashingEmbedder(), texts=False).fit(lake.con, now_ns=1).version
    stored(reading, lake)
    assert Learned(embedder=HashingEmbedder()).fit(lake.con, now_ns=2).version == reading.version
    other = told(new_lake(), turned=frozenset({"u4"}))
    again = values(Learned(embedder=HashingEmbedder()).fit(other.con, now_ns=1), lake)
    own = {f"t{at:03}" for at in range(N) if user(at) == "u4"}
    assert {name: said[name] for name in own} == {name: again[name] for name in own}


def test_an_answer_that_tells_the_reward_says_nothing(lake: Any) -> None:
    for at in range(N):
        lake.trajectory(f"t{at:03}", f"Done. Reward: {at % 2}", user_key=user(at))
        lake.score(f"t{at:03}", "reward", float(at % 2), source="env")
    state = json.loads(Learned(embedder=HashingEmbedder()).fit(lake.con, now_ns=1).state or "")
    assert not [one for one in state["features"] if one["name"].startswith("answer ")]


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match="buckets and blocks are 2 or more"):
        Learned(buckets=1)


class TestFolds:
    def test_what_teaches_a_cell_shares_neither_user_nor_time_with_it(self) -> None:
        owners = [f"o{at % 11}" for at in range(60)]
        starts = [None if at % 7 == 0 else at * 10 for at in range(60)]
        folds = Folds.over(starts, buckets=3, blocks=4)
        bucket, block = folds.bucket(owners), folds.block(starts)
        assert set(block) == {UNDATED, 0, 1, 2, 3}
        for cell in folds.cells():
            taught = {(int(bucket[at]), int(block[at])) for at in range(60) if folds.teaches(cell, bucket, block)[at]}
            assert all(mine != cell[0] and when != cell[1] for mine, when in taught)
            assert taught

    def test_what_is_later_than_all_labels_lies_in_no_block(self) -> None:
        folds = Folds.over([1, 2, 3, 4], buckets=2, blocks=2)
        assert folds.block([1, 4, 5, None]).tolist() == [0, 1, NEW, UNDATED]
        assert folds.edges == (3,)
