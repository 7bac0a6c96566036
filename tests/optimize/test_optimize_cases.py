"""Which cases teach and which tune: balanced draws, contradicting claims, weighted scores, whole groups."""

import random
from dataclasses import replace

import pytest

from tracemill.errors import ConfigError
from tracemill.optimize.artifact import baseline
from tracemill.optimize.portfolio import split_tune
from tracemill.optimize.search import apart, balanced, demonstrations, teaching, tune_score
from tracemill.records import Case, Completion, Outcome, Site, Template
from tracemill.study import Study

QUEUES = {"invoice": "billing", "pin": "cards", "parcel": "delivery", "password": "account"}
SITE = Site(
    site_id="s1",
    site_version="v1",
    agent_name=None,
    model="m",
    template=Template(messages=({"role": "user", "content": [{"slot": "ticket"}]},)),
)


def study_of(train):
    return Study(site=SITE, baseline=baseline(SITE), train=tuple(train), tune=(), replay=lambda artifact, cases: [])


def case_of(number, *, topic=None, **changes):
    topic = topic or list(QUEUES)[number % 4]
    known = {
        "case_id": f"t{number:03}/0",
        "trajectory_id": f"t{number:03}",
        "step": 0,
        "site_id": "s1",
        "task_key": None,
        "task_group": f"g{number:03}",
        "pool": "learn",
        "values": {"ticket": f"about my {topic} number {number}"},
        "logged_messages": (),
        "logged_output": QUEUES[topic],
        "reward": 1.0,
    }
    return Case(**{**known, **changes})


def test_cases_whose_group_is_tuned_on_do_not_teach():
    assert apart([case_of(1), case_of(2)], [case_of(9, task_group="g002")]) == [case_of(1)]


def test_what_failed_teaches_where_somebody_can_judge_any_answer_to_it():
    known, judged, neither = case_of(1), case_of(2, reward=0.0), case_of(3, reward=0.0)
    study = study_of([known, judged, neither])
    assert teaching(study) == [known]
    assert teaching(replace(study, judgeable=frozenset({judged.case_id}))) == [known, judged]
    assert teaching(study_of([neither])) == [neither], "where that is so of none, all do"


def test_a_balanced_draw_is_even_over_the_outputs():
    uneven = [case_of(n, topic="pin") for n in range(20)] + [case_of(n) for n in range(20, 28)]
    pool = demonstrations(study_of(uneven))
    drawn = balanced(pool, 8, random.Random(1))
    assert sorted(one.output for one in drawn) == sorted([*QUEUES.values()] * 2)


def test_a_correction_outvotes_repeated_rewarded_outputs_and_one_row_does_not_outvote_many():
    same = {"ticket": "my parcel"}
    rewarded = [case_of(n, values=same, logged_output="billing") for n in range(3)]
    poisoned = [*rewarded, case_of(3, values=same, logged_output="spam")]
    corrected = [*poisoned, case_of(4, values=same, reward=0.0, correction="delivery")]
    assert [one.output for one in demonstrations(study_of(poisoned))] == ["billing"]
    assert [one.output for one in demonstrations(study_of(corrected))] == ["delivery"]


def test_the_tuning_score_weighs_cases_and_leaves_out_what_could_not_be_scored():
    cases = [case_of(0, weight=3.0), case_of(1), case_of(2, weight=9.0)]
    outcomes = [
        Outcome(case_id=case.case_id, task_group="g", completion=Completion(text="a"), reward=reward, valid=None)
        for case, reward in zip(cases, (1.0, 0.0, None), strict=True)
    ]
    assert tune_score(cases, outcomes) == (0.75, 2)
    assert tune_score(cases, outcomes[2:]) == (None, 0)


def test_an_answer_that_nobody_can_score_counts_as_wrong_where_production_could_be_scored():
    cases = [case_of(0), case_of(1), case_of(2), case_of(3)]
    said = [
        (Completion(text="a"), 1.0),
        *[(Completion(text="evasive"), None)] * 2,
        (Completion(text=None, error="x"), None),
    ]
    outcomes = [
        Outcome(case_id=case.case_id, task_group="g", completion=completion, reward=reward, valid=None)
        for case, (completion, reward) in zip(cases, said, strict=True)
    ]
    scorable = {cases[0].case_id, cases[1].case_id, cases[3].case_id}
    assert tune_score(cases, outcomes, scorable) == (0.5, 2), "neither the third, nor the call that failed"


def test_a_split_keeps_groups_whole_and_does_not_move_cases_when_others_arrive():
    cases = [case_of(n, task_group=f"g{n // 3}") for n in range(300)]
    train, tune = split_tune(cases, seed=1, share=0.3)
    assert len(train) + len(tune) == 300
    assert not {c.task_group for c in train} & {c.task_group for c in tune}
    assert 0.15 < len(tune) / 300 < 0.45
    early, _ = split_tune(cases[:150], seed=1, share=0.3)
    assert {c.case_id for c in early} <= {c.case_id for c in train}
    assert split_tune(cases, seed=2, share=0.3) != (train, tune)
    two = split_tune([case_of(0), case_of(1)], seed=1, share=0.01)
    assert [len(side) for side in two] == [1, 1]
    most = split_tune([case_of(0), case_of(1)], seed=1, share=0.999)
    assert [len(side) for side in most] == [1, 1]
    with pytest.raises(ConfigError, match="gate"):
        split_tune([case_of(0, pool="gate")], seed=1, share=0.3)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        split_tune(cases, seed=1, share=1.0)
