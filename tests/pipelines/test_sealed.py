"""What is sealed is kept from everything that learns."""

from dataclasses import replace
from typing import Any

import logged_case
import pyarrow as pa

from tracemill.mining import notes
from tracemill.pipelines import judging, validating
from tracemill.pipelines.config import Config, RewardConfig
from tracemill.schema import SCORES

REWARDS = (RewardConfig(kind="exact_match"), RewardConfig(kind="regex", options={"pattern": "billing"}))


def sealing(config: Config, *names: str) -> Config:
    return replace(config, rewards=REWARDS, combined=replace(config.combined, sealed=names))


def test_a_sealed_verifier_judges_no_tuning(tmp_path: Any) -> None:
    config = Config(root=tmp_path)
    case = logged_case.case(correction="billing")
    assert judging.verifier(sealing(config))(case, "not billing") == 0.0
    one = sealing(config, "exact_match")
    assert judging.verifier(one)(case, "not billing") == 1.0
    assert judging.verifier(sealing(config, "exact_match", "regex"))(case, "billing") is None

    assert judging.sealed_verifiers(sealing(config)) == {}
    (verify,) = judging.sealed_verifiers(one).values()
    assert verify(case, "not billing") == 0.0
    assert verify(replace(case, steps=2, correction=None), "not billing") is None


def test_what_learns_reads_no_sealed_scores(desk: Any) -> None:
    said = {"target_kind": "trajectory", "target_id": "t", "value": 0.0, "source": "human", "at": 1}
    rows = [
        {**said, "score_id": name, "name": name, "label": f"{name} objects"}
        for name in ("exact_match", "feedback", "reward")
    ]
    with desk.lake.transaction("test") as tx:
        tx.insert("scores", pa.Table.from_pylist(rows, schema=SCORES))
    night = replace(desk.night(), config=sealing(desk.config, "exact_match", "reward"))

    def names(con: Any, table: str) -> list[str]:
        return [name for (name,) in con.execute(f"SELECT name FROM {table} ORDER BY name").fetchall()]

    misspelt = replace(desk.night(), config=sealing(desk.config, "exact_macth", "regex", "reward"))
    (warning,) = validating.warnings(misspelt)
    assert "sealed names exact_macth, but no reward and no score is called so" in warning

    poor = logged_case.case(reward=0.0)
    for snapshot in (None, desk.lake.snapshot_id()):
        for table in ("scores", "rewards"):
            with night.learner(snapshot) as con:
                assert names(con, table) == ["feedback"]
                (heard,) = notes.notes(con, [poor])["t/0"]
                assert heard.text == "feedback objects", "nor does an optimizer hear what they found wrong"
            with night.judge("feedback", snapshot) as con:
                assert names(con, table) == ["feedback"]
            with night.judge("exact_match", snapshot) as con:
                assert names(con, table) == ["exact_match", "feedback", "reward"], "it must know its own"
            with desk.night().learner(snapshot) as con:
                assert names(con, table) == ["exact_match", "feedback", "reward"]
