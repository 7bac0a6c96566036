"""Steps that go on from one another, and what prompts hand over to weights: real replays, tiny weights."""

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tracemill.app import settings
from tracemill.errors import ConfigError
from tracemill.optimize.artifact import demo_from_case, with_demonstrations
from tracemill.pipelines import branches, flows, forgetting, learning, replaying, teaching, turns
from tracemill.pipelines.endpoint import open_endpoint
from tracemill.pipelines.night import rows
from tracemill.records import Artifact, Candidate, Support
from tracemill.train import datums

WORDS = {"billing": "invoice", "shipping": "parcel", "returns": "refund", "account": "password"}
CHECKS = f"""
WORDS = {WORDS!r}


def judge(output, case):
    return float(WORDS.get(output, "no such queue") in case.logged_messages[-1]["content"])
"""


def test_an_order_is_steps_in_turn_and_nonsense_is_refused(tmp_path: Path) -> None:
    assert turns.steps("side by side") == ()
    assert turns.steps("p -> w -> p") == ("p", "w", "p")
    assert [turns.share(turns.steps("p -> w -> p")[place:]) for place in (0, 2)] == [0.4, 1.0]
    with pytest.raises(ConfigError, match=r"'order': input should be 'side by side', 'p -> w', 'w -> p' or"):
        settings.parse({"order": "w -> w"}, root=tmp_path, where="test")


def _prompt(*demos: str, adapter: str | None = None) -> Artifact:
    pool = [{"messages": [{"content": one}, {"content": "a"}], "text": one, "source": f"t-{one}"} for one in demos]
    messages = [{"role": "system", "content": ["Sort."]}]
    return Artifact(
        prompt={"messages": messages, "demonstrations": {"pool": pool}, "adapter": adapter}, adapter_path=adapter
    )


def test_what_is_found_on_top_keeps_who_stands_behind_what_it_still_shows() -> None:
    shown = [Support(text=f"{one} → a", trajectories=(f"t-{one}",), n_users=1, demonstration=True) for one in "xyz"]
    base = Candidate(
        branch="prompt",
        site_id="s",
        site_version="v",
        optimizer="nearest",
        artifact=_prompt("x", "y"),
        lineage=("t-x", "t-y"),
        support=tuple(shown[:2]),
    )
    both = replace(base, artifact=_prompt("y", "z", adapter="w"), lineage=("t-z",), support=(shown[2],))
    grown = turns.grown(base, both, turns.branch_of(_prompt(), both.artifact))
    assert (grown.branch, grown.parent_id) == ("together", base.candidate_id)
    assert [one.text for one in grown.support] == ["y → a", "z → a"]
    assert grown.lineage == ("t-x", "t-y", "t-z")
    assert turns.branch_of(_prompt(), _prompt(adapter="w")) == "weights"
    again = turns.grown(base, replace(base, branch="production", lineage=(), tune_score=0.5, tune_n=2), "prompt")
    assert again == replace(base, tune_score=0.5, tune_n=2)


def test_right_answers_of_a_prompt_teach_where_the_log_has_none(mined: Any, tiny: Path) -> None:
    (mined.config.root / "checks.py").write_text(CHECKS)
    night = mined.night("night-1")
    judged = settings.parse(
        {"rewards": [{"kind": "feedback"}, {"kind": "python", "callable": "checks:judge"}]},
        root=mined.config.root,
        where="test",
    )
    budget = replace(mined.config.optimize, max_calls=40)
    night = replace(night, config=replace(mined.config, rewards=judged.rewards, optimize=budget))
    (lesson,), _ = learning.choose(night)
    corrected = lesson.learn
    # Reviewers who mark and do not write: what production got wrong has no right answer in the log.
    lesson = replace(lesson, train=tuple(replace(case, correction=None) for case in lesson.learn), tune=())
    unknown = [case for case in lesson.train if case.expected is None]
    assert 40 < len(unknown) < len(lesson.train)
    right = {case.case_id: case.correction for case in corrected}
    with open_endpoint(night) as endpoint:
        start = replaying.on_endpoint(endpoint, lesson.production.artifact)
        shown = {case.correction: case for case in corrected}
        teacher = Candidate(
            branch="prompt",
            site_id=lesson.site.site_id,
            site_version="v",
            optimizer="nearest",
            artifact=with_demonstrations(start, [demo_from_case(start, case) for case in shown.values()]),
            lineage=tuple(case.trajectory_id for case in shown.values()),
        )
        replaying.write_candidate(night, teacher, snapshot=lesson.snapshot)
        turn = replace(branches.first_turn(night, lesson), teacher=teacher)
        found = teaching.taught(night, lesson, endpoint, turn, lesson.learn)
        # The account admits 40 calls, and answers are asked for 32 at a time.
        assert len(found.answers) == 32
        assert found.answers == {case: right[case] for case in found.answers}
        assert set(found.lineage.values()) == {teacher.lineage}

        table = datums.build(lesson.train, start, kind="sft", model_folder=tiny, answers=found.answers).table
        handed = [row for row in table.to_pylist() if row["case_id"] in found.answers]
        assert len(handed) == 32
        assert all(row["completion"] == right[row["case_id"]] and row["reward"] is None for row in handed)

        # What somebody played, or was not fully right, teaches nothing.
        recorded = night.select("SELECT * FROM evaluations").to_pylist()
        others = [case for case in unknown if case.case_id not in found.answers][:2]
        wrong = [
            {**recorded[0], "evaluation_id": "a", "case_id": others[0].case_id, "fidelity": "simulated"},
            {**recorded[0], "evaluation_id": "b", "case_id": others[1].case_id, "reward": 0.5},
        ]
        with night.lake.transaction("test") as tx:
            tx.insert("evaluations", rows("evaluations", wrong))
        alone = replace(turn, teacher=None)
        assert teaching.taught(night, lesson, endpoint, alone, lesson.learn).answers == found.answers

        gone = next(iter(found.answers))
        forgetting.forget(night, trace=gone.split("/")[0], landing=mined.config.root / "landing")
        left = teaching.taught(night, lesson, endpoint, alone, lesson.learn).answers
        assert gone not in left
        assert len(left) <= 31


@pytest.mark.slow
@pytest.mark.usefixtures("orchestrator")
@pytest.mark.skipif(find_spec("trl") is None or find_spec("prefect") is None, reason="needs the extras train and flow")
def test_a_night_in_turn_judges_the_one_artifact_that_stands(mined: Any, tiny: Path, serve: Callable[..., Any]) -> None:
    def answering(body: dict[str, Any]) -> str:
        """Without weights demonstrations help with two queues; with them, under such a prompt, with all."""
        shown = {turn["content"] for turn in body["messages"] if turn["role"] == "assistant"}
        wanted = next(queue for queue, word in WORDS.items() if word in body["messages"][-1]["content"])
        can = set(WORDS) if body["model"] != "toy" else {"billing", "shipping"}
        return wanted if wanted in shown & can else "billing"

    endpoint = serve(answering)
    config = replace(
        mined.config,
        order="p -> w -> p",
        endpoint=replace(mined.config.endpoint, base_url=endpoint.url),
        optimize=replace(mined.config.optimize, headroom=False),
        train=replace(
            mined.config.train,
            base_model=str(tiny),
            hand_over=True,
            options={"sft": {"steps": 4, "batch_size": 4, "save_every": 2}},
        ),
    )
    night = replace(mined.night("night-1"), config=config)
    report = flows.nightly(night)
    (decision,) = report.decisions
    assert decision.verdict == "PROMOTE", decision.reason
    assert decision.candidate_mean == 1.0
    by_id = {one.candidate_id: one for one in report.candidates}
    won = by_id[decision.candidate_id]
    assert won.branch == "together"
    assert won.optimizer == "sft"
    parent = by_id[str(won.parent_id)]
    assert parent.branch == "prompt"
    assert 0.4 < (parent.tune_score or 0.0) < (won.tune_score or 0.0) == 1.0
    assert won.support == parent.support
    assert set(parent.lineage) < set(won.lineage)
    assert any("that stands" in reason for reason in report.left_out)
    stages = night.select("SELECT stage, status FROM runs WHERE stage IN ('optimize', 'train') ORDER BY started_ns")
    assert stages["stage"].to_pylist() == ["optimize", "train", "optimize"]
    learned = night.select(
        "SELECT DISTINCT pool FROM trajectories WHERE trajectory_id IN (SELECT unnest(?))", list(won.lineage)
    )
    assert learned["pool"].to_pylist() == ["learn"]
    assert [one.candidate_id for one in report.releases] == [won.candidate_id]
    assert Path(str(won.artifact.adapter_path)).is_dir()
